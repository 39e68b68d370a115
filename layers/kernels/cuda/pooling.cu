// Max and average pooling, as layers/pooling.py defines them. Planes of (height, width) become
// planes of (out_height, out_width); a window of (kh, kw) at output (r, c) begins at input row
// r * sv - top and column c * sh - left, and is clipped to the input.
#include "common.cuh"

__device__ long long larger(long long a, long long b) { return a > b ? a : b; }
__device__ long long smaller(long long a, long long b) { return a < b ? a : b; }

// Cells from first to last - 1 along one axis.
struct Span {
    long long first, last;
};

// The input cells of window `place`.
__device__ Span cells_of(long long place, long long size, long long stride, long long before,
                         long long length) {
    long long start = place * stride - before;
    return {larger(start, 0), smaller(start + size, length)};
}

// The windows that hold input cell `cell`.
__device__ Span windows_of(long long cell, long long size, long long stride, long long before,
                           long long count) {
    long long reach = cell + before;
    long long first = reach < size ? 0 : (reach - size) / stride + 1;
    return {first, smaller(reach / stride + 1, count)};
}

// `winners`: the winner's place in its plane, -1 if nothing is greater than -inf. Columns are
// walked through from the left, each from its top, and only a greater value takes over: of equal
// values the first in column-major order wins, and NaN never does.
extern "C" __global__ void max_pool(const REAL* x, REAL* y, int* winners, long long height,
                                    long long width, long long out_height, long long out_width,
                                    long long kh, long long kw, long long sv, long long sh,
                                    long long top, long long left, long long count) {
    FOR_EACH(i, count) {
        long long column = i % out_width;
        long long rest = i / out_width;
        Span rows = cells_of(rest % out_height, kh, sv, top, height);
        Span columns = cells_of(column, kw, sh, left, width);
        const REAL* plane = x + rest / out_height * (height * width);
        REAL best = -INFINITE;
        long long winner = -1;
        for (long long c = columns.first; c < columns.last; ++c)
            for (long long r = rows.first; r < rows.last; ++r)
                if (plane[r * width + c] > best) {
                    winner = r * width + c;
                    best = plane[winner];
                }
        y[i] = best;
        winners[i] = (int)winner;
    }
}

// A thread an input cell, which gathers from the windows that it won: no two threads add to one
// place, and the sum has one order.
extern "C" __global__ void max_pool_backward(
    const REAL* der_y, const int* winners, REAL* der_x, long long height, long long width,
    long long out_height, long long out_width, long long kh, long long kw, long long sv,
    long long sh, long long top, long long left, long long count) {
    FOR_EACH(i, count) {
        long long place = i % (height * width);
        long long first = i / (height * width) * (out_height * out_width);
        Span rows = windows_of(place / width, kh, sv, top, out_height);
        Span columns = windows_of(place % width, kw, sh, left, out_width);
        REAL total = 0;
        for (long long r = rows.first; r < rows.last; ++r)
            for (long long c = columns.first; c < columns.last; ++c) {
                long long window = first + r * out_width + c;
                if (winners[window] == place) total += der_y[window];
            }
        der_x[i] = total;
    }
}

extern "C" __global__ void avg_pool(const REAL* x, REAL* y, long long height, long long width,
                                    long long out_height, long long out_width, long long kh,
                                    long long kw, long long sv, long long sh, long long top,
                                    long long left, long long count) {
    FOR_EACH(i, count) {
        long long rest = i / out_width;
        Span rows = cells_of(rest % out_height, kh, sv, top, height);
        Span columns = cells_of(i % out_width, kw, sh, left, width);
        const REAL* plane = x + rest / out_height * (height * width);
        REAL total = 0;
        for (long long c = columns.first; c < columns.last; ++c)
            for (long long r = rows.first; r < rows.last; ++r) total += plane[r * width + c];
        long long cells = (rows.last - rows.first) * (columns.last - columns.first);
        y[i] = total / (REAL)cells;
    }
}

extern "C" __global__ void avg_pool_backward(const REAL* der_y, REAL* der_x, long long height,
                                             long long width, long long out_height,
                                             long long out_width, long long kh, long long kw,
                                             long long sv, long long sh, long long top,
                                             long long left, long long count) {
    FOR_EACH(i, count) {
        long long place = i % (height * width);
        const REAL* der = der_y + i / (height * width) * (out_height * out_width);
        Span rows = windows_of(place / width, kh, sv, top, out_height);
        Span columns = windows_of(place % width, kw, sh, left, out_width);
        REAL total = 0;
        for (long long r = rows.first; r < rows.last; ++r) {
            Span down = cells_of(r, kh, sv, top, height);
            for (long long c = columns.first; c < columns.last; ++c) {
                Span across = cells_of(c, kw, sh, left, width);
                long long cells = (down.last - down.first) * (across.last - across.first);
                total += der[r * out_width + c] / (REAL)cells;
            }
        }
        der_x[i] = total;
    }
}
