// One pass of MATLAB's imresize, as layers/resize.py defines it: planes become planes along one
// axis. A plane is (outer, length, inner): of a pass down the columns `inner` is the width, of one
// along the rows it is 1.
#include "common.cuh"

// Output cell k of the axis is the sum of `taps` input cells times their weights, added one after
// the other in double precision, each product and sum rounded by itself: where pixels are rounded to
// integers, the last digit decides at half way between two of them.
extern "C" __global__ void resize(const REAL* x, const long long* cells, const double* weights,
                                  REAL* y, long long taps,
                                  long long length, long long out_length, long long inner,
                                  long long count) {
    FOR_EACH(i, count) {
        long long rest = i / inner;
        long long k = rest % out_length;
        const REAL* line = x + rest / out_length * length * inner + i % inner;
        double total = 0;
        for (long long tap = k * taps; tap < (k + 1) * taps; ++tap)
            total = __dadd_rn(total, __dmul_rn(weights[tap], (double)line[cells[tap] * inner]));
        y[i] = (REAL)total;
    }
}
