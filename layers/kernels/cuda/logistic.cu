// The logistic loss with weights, as layers/loss.py and layers/loss_functions.py define it. Scores x
// and labels c are (samples, cells); cells of label 0 are left out.
#include "common.cuh"
#include "sums.cuh"

// How weights are given.
#define ALIKE 0     // none: 1 each
#define EACH 1      // one for each score
#define BALANCED 2  // 0.5 for each sign of a sample's labels, shared by its cells

// The weights of one sample's cells.
struct Weighing {
    const REAL* each;
    REAL positive, negative;
};

__device__ Weighing weighing(const REAL* c, const REAL* weights, long long kind, double divisor,
                             long long cells, double* kept) {
    if (kind != BALANCED) return {weights, (REAL)(1 / divisor), (REAL)(1 / divisor)};
    double positive = 0, negative = 0;
    FOR_EACH_IN_BLOCK(i, cells) {
        positive += c[i] > 0;
        negative += c[i] < 0;
    }
    positive = block_sum(positive, kept);
    negative = block_sum(negative, kept);
    // A sign that does not occur weighs nothing anyway.
    return {nullptr, (REAL)(0.5 / (positive > 0 ? positive : 1) / divisor),
            (REAL)(0.5 / (negative > 0 ? negative : 1) / divisor)};
}

__device__ REAL weight(const Weighing& by, REAL label, long long place) {
    if (label == 0) return 0;
    return (label > 0 ? by.positive : by.negative) * (by.each ? by.each[place] : 1);
}

// A block a sample; its part of the loss.
extern "C" __global__ void logistic(const REAL* x, const REAL* c, const REAL* weights,
                                    double* parts, double divisor, long long kind,
                                    long long cells, long long samples) {
    __shared__ double kept[THREADS];
    for (long long n = blockIdx.x; n < samples; n += gridDim.x) {
        Weighing by = weighing(c + n * cells, weights, kind, divisor, cells, kept);
        double total = 0;
        FOR_EACH_IN_BLOCK(k, cells) {
            long long i = n * cells + k;
            REAL z = -c[i] * x[i];
            // log(1 + exp(z)) without overflow.
            REAL loss = (z > 0 ? z : z != z ? z : 0) + log1p(exp(-fabs(z)));
            total += (double)(weight(by, c[i], i) * loss);
        }
        total = block_sum(total, kept);
        if (threadIdx.x == 0) parts[n] = total;
    }
}

// Derivatives by the scores, from `der_y` by the loss.
extern "C" __global__ void logistic_backward(const REAL* x, const REAL* c, const REAL* weights,
                                             const REAL* der_y, REAL* der_x, double divisor,
                                             long long kind, long long cells,
                                             long long samples) {
    __shared__ double kept[THREADS];
    for (long long n = blockIdx.x; n < samples; n += gridDim.x) {
        Weighing by = weighing(c + n * cells, weights, kind, divisor, cells, kept);
        FOR_EACH_IN_BLOCK(k, cells) {
            long long i = n * cells + k;
            REAL z = c[i] * x[i];
            REAL e = exp(-fabs(z));
            der_x[i] = -der_y[0] * weight(by, c[i], i) * c[i] * (z >= 0 ? e : 1) / (1 + e);
        }
    }
}
