// Elefusion, as layers/elefusion.py defines it, of two to four maps (maps, cells), `maps` for all
// samples and channels. Weights are (cells,); the last map's are 1 less the sum of the others'.
// Maps and weights beyond the number that there is are null.
#include "common.cuh"

// The weight of each map in a cell.
struct Weights {
    REAL of[4];
};

__device__ Weights weights_of(const REAL* w0, const REAL* w1, const REAL* w2, long long cell) {
    const REAL* stored[3] = {w0, w1, w2};
    Weights found;
    REAL left = 1;
    int k = 0;
    for (; k < 3 && stored[k]; ++k) {
        found.of[k] = stored[k][cell];
        left -= found.of[k];
    }
    found.of[k] = left;
    return found;
}

extern "C" __global__ void elefusion(const REAL* s0, const REAL* s1, const REAL* s2,
                                     const REAL* s3, const REAL* w0, const REAL* w1,
                                     const REAL* w2, REAL* y, long long cells, long long count) {
    const REAL* maps[4] = {s0, s1, s2, s3};
    FOR_EACH(i, count) {
        Weights weights = weights_of(w0, w1, w2, i % cells);
        REAL total = 0;
        for (int k = 0; k < 4 && maps[k]; ++k) total += weights.of[k] * maps[k][i];
        y[i] = total;
    }
}

// A thread a cell, for all samples and channels: the sums over them have one order.
extern "C" __global__ void elefusion_backward(
    const REAL* s0, const REAL* s1, const REAL* s2, const REAL* s3, const REAL* w0,
    const REAL* w1, const REAL* w2, const REAL* der, REAL* d0, REAL* d1, REAL* d2, REAL* d3,
    REAL* v0, REAL* v1, REAL* v2, long long planes, long long cells) {
    const REAL* maps[4] = {s0, s1, s2, s3};
    REAL* der_maps[4] = {d0, d1, d2, d3};
    REAL* der_weights[3] = {v0, v1, v2};
    int last = 1;
    while (last < 3 && maps[last + 1]) ++last;
    FOR_EACH(cell, cells) {
        Weights weights = weights_of(w0, w1, w2, cell);
        REAL totals[3] = {0, 0, 0};
        for (long long i = cell; i < planes * cells; i += cells) {
            for (int k = 0; k <= last; ++k) der_maps[k][i] = weights.of[k] * der[i];
            for (int k = 0; k < last; ++k) totals[k] += (maps[k][i] - maps[last][i]) * der[i];
        }
        for (int k = 0; k < last; ++k) der_weights[k][cell] = totals[k];
    }
}
