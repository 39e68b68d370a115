// Batch normalisation followed by ReLU (none where `leak` is 1), as layers/batch_norm.py and
// layers/relu.py define them, of maps (samples, channels, cells). Moments are [mean, sigma].
#include "common.cuh"
#include "rectify.cuh"
#include "sums.cuh"

// A loop over the values of a channel that the threads of a block share; `i` is a value's place.
#define FOR_EACH_OF_CHANNEL(i, samples, channels, cells, channel)                            \
    for (long long sample = 0; sample < (samples); ++sample)                                 \
        for (long long i = (sample * (channels) + (channel)) * (cells) + threadIdx.x,        \
                       end = (sample * (channels) + (channel) + 1) * (cells);                \
             i < end; i += blockDim.x)

// Number, mean and sum of squared deviations of some values.
struct Moments {
    REAL count, mean, square;
};

// Those of two sets of values together (Chan, Golub and LeVeque).
__device__ Moments joined(Moments a, Moments b) {
    REAL count = a.count + b.count;
    if (count == 0) return a;
    REAL apart = b.mean - a.mean;
    REAL share = b.count / count;
    return {count, a.mean + apart * share, a.square + b.square + apart * apart * a.count * share};
}

__device__ Moments block_moments(Moments own, Moments* kept) {
    __syncthreads();
    kept[threadIdx.x] = own;
    for (unsigned half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half)
            kept[threadIdx.x] = joined(kept[threadIdx.x], kept[threadIdx.x + half]);
    }
    __syncthreads();
    return kept[0];
}

// A block a channel. Its moments are found as by Welford: with a mean far from 0 nothing cancels.
extern "C" __global__ void batch_norm(const REAL* x, const REAL* multipliers, const REAL* biases,
                                      REAL* y, REAL* moments, double epsilon, double leak,
                                      long long samples, long long cells, long long channels) {
    __shared__ Moments kept[THREADS];
    for (long long channel = blockIdx.x; channel < channels; channel += gridDim.x) {
        Moments own = {0, 0, 0};
        FOR_EACH_OF_CHANNEL(i, samples, channels, cells, channel) {
            own.count += 1;
            REAL apart = x[i] - own.mean;
            own.mean += apart / own.count;
            own.square += apart * (x[i] - own.mean);
        }
        Moments all = block_moments(own, kept);
        REAL sigma = sqrt(all.square / (REAL)(samples * cells) + (REAL)epsilon);
        REAL scale = multipliers[channel] / sigma;
        FOR_EACH_OF_CHANNEL(i, samples, channels, cells, channel) {
            y[i] = rectified((x[i] - all.mean) * scale + biases[channel], (REAL)leak);
        }
        if (threadIdx.x == 0) {
            moments[2 * channel] = all.mean;
            moments[2 * channel + 1] = sigma;
        }
    }
}

extern "C" __global__ void batch_norm_stored(const REAL* x, const REAL* multipliers,
                                             const REAL* biases, const REAL* moments, REAL* y,
                                             double leak, long long cells, long long channels,
                                             long long count) {
    FOR_EACH(i, count) {
        long long channel = i / cells % channels;
        REAL scale = multipliers[channel] / moments[2 * channel + 1];
        REAL value = (x[i] - moments[2 * channel]) * scale + biases[channel];
        y[i] = rectified(value, (REAL)leak);
    }
}

// Derivatives by x (unless that is null), multipliers and biases; a block a channel. With
// `der_moments` the moments are constants of their own, and those by them too; else (null) they are
// the batch's, and what passes through them is part of der_x. `biases` is read for ReLU alone,
// whose argument is computed again as it was forward.
extern "C" __global__ void batch_norm_backward(
    const REAL* x, const REAL* multipliers, const REAL* biases, const REAL* moments,
    const REAL* der_y, REAL* der_x, REAL* der_multipliers, REAL* der_biases, REAL* der_moments,
    double leak, long long samples, long long cells, long long channels) {
    __shared__ REAL kept[THREADS];
    for (long long channel = blockIdx.x; channel < channels; channel += gridDim.x) {
        REAL mean = moments[2 * channel], sigma = moments[2 * channel + 1];
        REAL scale = multipliers[channel] / sigma;
        REAL bias = leak == 1 ? 0 : biases[channel];
        REAL sum = 0, products = 0;
        FOR_EACH_OF_CHANNEL(i, samples, channels, cells, channel) {
            REAL apart = x[i] - mean;
            REAL der = leak == 1 ? der_y[i] : der_y[i] * slope(apart * scale + bias, (REAL)leak);
            sum += der;
            products += der * apart;
        }
        sum = block_sum(sum, kept);
        products = block_sum(products, kept) / sigma;
        REAL count = (REAL)(samples * cells);
        REAL shift = der_moments ? 0 : sum / count;
        REAL tilt = der_moments ? 0 : products / (sigma * count);
        if (der_x) {
            FOR_EACH_OF_CHANNEL(i, samples, channels, cells, channel) {
                REAL apart = x[i] - mean;
                REAL der =
                    leak == 1 ? der_y[i] : der_y[i] * slope(apart * scale + bias, (REAL)leak);
                der_x[i] = scale * (der - shift - apart * tilt);
            }
        }
        if (threadIdx.x == 0) {
            der_multipliers[channel] = products;
            der_biases[channel] = sum;
            if (der_moments) {
                der_moments[2 * channel] = -scale * sum;
                der_moments[2 * channel + 1] = -scale * products;
            }
        }
    }
}
