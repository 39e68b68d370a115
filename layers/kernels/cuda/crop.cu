// Patches of frames, sampled bilinearly, as layers/crop.py defines them. A patch of sample n has
// `size` rows and columns, spread over `side[n]` cells around `center[n]` = (row, column).
#include "common.cuh"
#include "sums.cuh"

// Where a sample falls on an axis: two cells, and how far it lies beyond the first.
struct Taps {
    long long low;
    REAL fraction;
    bool low_inside, high_inside;
};

__device__ Taps taps(long long sample, REAL center, REAL step, long long size, long long length) {
    REAL steps = (REAL)sample - (REAL)((double)(size - 1) / 2);
    REAL position = center + steps * step;
    REAL low = floor(position);
    Taps found;
    found.low_inside = low >= 0 && low < (REAL)length;
    found.high_inside = low + 1 >= 0 && low + 1 < (REAL)length;
    // Far outside a number may be greater than any integer.
    found.low = found.low_inside || found.high_inside ? (long long)low : 0;
    found.fraction = position - low;
    return found;
}

// A frame's value less the colour around it; 0 outside.
template <typename Value>
__device__ REAL beyond(const Value* plane, long long width, long long row, long long column,
                       bool inside, REAL color) {
    return inside ? (REAL)plane[row * width + column] - color : 0;
}

// The four values around a sample, less the colour: first index the row, second the column.
struct Around {
    REAL at[2][2];
};

template <typename Value>
__device__ Around around(const Value* plane, long long width, Taps down, Taps across,
                         REAL color) {
    Around found;
    for (int r = 0; r < 2; ++r)
        for (int c = 0; c < 2; ++c) {
            bool inside = (r ? down.high_inside : down.low_inside) &&
                          (c ? across.high_inside : across.low_inside);
            found.at[r][c] =
                beyond(plane, width, down.low + r, across.low + c, inside, color);
        }
    return found;
}

template <typename Value>
__device__ void cut(const Value* image, const REAL* color, const REAL* center, const REAL* side,
                    REAL* patch, long long size, long long channels, long long height,
                    long long width, long long count) {
    FOR_EACH(i, count) {
        long long plane = i / (size * size);
        long long n = plane / channels;
        REAL step = side[n] / (REAL)size;
        Taps down = taps(i / size % size, center[2 * n], step, size, height);
        Taps across = taps(i % size, center[2 * n + 1], step, size, width);
        Around d = around(image + plane * (height * width), width, down, across, color[plane]);
        REAL halves[2];
        for (int c = 0; c < 2; ++c)
            halves[c] = d.at[0][c] * (1 - down.fraction) + d.at[1][c] * down.fraction;
        patch[i] = halves[0] * (1 - across.fraction) + halves[1] * across.fraction + color[plane];
    }
}

// Derivatives by the center's row and column: of the weights 1 - f and f that by f is -1 and 1.
template <typename Value>
__device__ void slopes(const Value* image, const REAL* color, const REAL* center,
                       const REAL* side, const REAL* der_patch, REAL* der_center, long long size,
                       long long channels, long long height, long long width,
                       long long samples) {
    __shared__ double kept[THREADS];
    for (long long n = blockIdx.x; n < samples; n += gridDim.x) {
        REAL step = side[n] / (REAL)size;
        double along = 0, aside = 0;
        FOR_EACH_IN_BLOCK(k, channels * size * size) {
            long long plane = n * channels + k / (size * size);
            Taps down = taps(k / size % size, center[2 * n], step, size, height);
            Taps across = taps(k % size, center[2 * n + 1], step, size, width);
            Around d = around(image + plane * (height * width), width, down, across, color[plane]);
            REAL der = der_patch[n * channels * size * size + k];
            along += der * ((d.at[1][0] - d.at[0][0]) * (1 - across.fraction) +
                            (d.at[1][1] - d.at[0][1]) * across.fraction);
            aside += der * ((d.at[0][1] - d.at[0][0]) * (1 - down.fraction) +
                            (d.at[1][1] - d.at[1][0]) * down.fraction);
        }
        along = block_sum(along, kept);
        aside = block_sum(aside, kept);
        if (threadIdx.x == 0) {
            der_center[2 * n] = (REAL)along;
            der_center[2 * n + 1] = (REAL)aside;
        }
    }
}

extern "C" __global__ void crop(const REAL* image, const REAL* color, const REAL* center,
                                const REAL* side, REAL* patch, long long size,
                                long long channels, long long height, long long width,
                                long long count) {
    cut(image, color, center, side, patch, size, channels, height, width, count);
}

// Frames of unsigned bytes.
extern "C" __global__ void crop_bytes(const unsigned char* image, const REAL* color,
                                      const REAL* center, const REAL* side, REAL* patch,
                                      long long size, long long channels, long long height,
                                      long long width, long long count) {
    cut(image, color, center, side, patch, size, channels, height, width, count);
}

extern "C" __global__ void crop_slopes(const REAL* image, const REAL* color, const REAL* center,
                                       const REAL* side, const REAL* der_patch, REAL* der_center,
                                       long long size, long long channels, long long height,
                                       long long width, long long samples) {
    slopes(image, color, center, side, der_patch, der_center, size, channels, height, width,
           samples);
}

extern "C" __global__ void crop_slopes_bytes(const unsigned char* image, const REAL* color,
                                             const REAL* center, const REAL* side,
                                             const REAL* der_patch, REAL* der_center,
                                             long long size, long long channels,
                                             long long height, long long width,
                                             long long samples) {
    slopes(image, color, center, side, der_patch, der_center, size, channels, height, width,
           samples);
}

// The samples of an axis that may read cell `cell`, and some beside them.
__device__ void readers(long long cell, REAL center, REAL step, long long size, long long* first,
                        long long* last) {
    REAL middle = (REAL)((double)(size - 1) / 2);
    REAL from = floor(((REAL)cell - 1 - center) / step + middle) - 1;
    REAL to = ceil(((REAL)cell + 1 - center) / step + middle) + 1;
    *first = from > 0 ? (from < (REAL)size ? (long long)from : size) : 0;
    *last = to < (REAL)size ? (to > 0 ? (long long)to : 0) : size;
}

// The weight of cell `cell` in a sample.
__device__ REAL weight(Taps found, long long cell) {
    if (found.low_inside && found.low == cell) return 1 - found.fraction;
    return found.high_inside && found.low + 1 == cell ? found.fraction : 0;
}

// A thread a pixel of the frames, which gathers from the samples that read it.
extern "C" __global__ void crop_image(const REAL* center, const REAL* side, const REAL* der_patch,
                                      REAL* der_image, long long size, long long channels,
                                      long long height, long long width, long long count) {
    FOR_EACH(i, count) {
        long long plane = i / (height * width);
        long long row = i / width % height, column = i % width;
        long long n = plane / channels;
        REAL step = side[n] / (REAL)size, top = center[2 * n], left = center[2 * n + 1];
        long long first_row, last_row, first_column, last_column;
        readers(row, top, step, size, &first_row, &last_row);
        readers(column, left, step, size, &first_column, &last_column);
        REAL total = 0;
        for (long long r = first_row; r < last_row; ++r) {
            REAL down = weight(taps(r, top, step, size, height), row);
            if (down == 0) continue;
            for (long long c = first_column; c < last_column; ++c)
                total += down * weight(taps(c, left, step, size, width), column) *
                         der_patch[(plane * size + r) * size + c];
        }
        der_image[i] = total;
    }
}
