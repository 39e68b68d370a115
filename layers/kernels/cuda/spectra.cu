// What RLR and CirConv do frequency by frequency, as layers/rlr.py and layers/cir_conv.py derive it.
// Spectra are halves of Hermitian ones, (planes, height, columns), columns = width / 2 + 1.
#include "common.cuh"
#include "sums.cuh"

__device__ Complex product(Complex a, Complex b) {
    return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

__device__ Complex conjugate(Complex a) { return {a.re, -a.im}; }

__device__ Complex scaled(REAL factor, Complex a) { return {factor * a.re, factor * a.im}; }

__device__ Complex sum(Complex a, Complex b) { return {a.re + b.re, a.im + b.im}; }

// real(conj(a) b), times how often a column of a half spectrum stands in the whole one.
__device__ double weighted(Complex a, Complex b, long long column, long long width) {
    double once = (double)a.re * b.re + (double)a.im * b.im;
    return column == 0 || 2 * column == width ? once : 2 * once;
}

// U = 1 / (|Xh|^2 + penalty), U Yh in the place of Yh, and Rh = conj(Xh) U Yh.
extern "C" __global__ void rlr(const Complex* xh, Complex* yh, const REAL* penalty, REAL* u,
                               Complex* rh, long long count) {
    FOR_EACH(i, count) {
        Complex x = xh[i];
        REAL own = 1 / (x.re * x.re + x.im * x.im + penalty[0]);
        Complex uy = scaled(own, yh[i]);
        u[i] = own;
        yh[i] = uy;
        rh[i] = product(conjugate(x), uy);
    }
}

// With Q = conj(U G) U Yh: p Q - Xh^2 conj(Q), Xh U G (none where their array is null), and a
// block's share of the sum of real(conj(Xh) Q) over whole spectra.
extern "C" __global__ void rlr_backward(const Complex* g, const Complex* xh, const Complex* uy,
                                        const REAL* u, const REAL* penalty, Complex* der_xh,
                                        Complex* der_yh, double* shares, long long columns,
                                        long long width, long long count) {
    __shared__ double kept[THREADS];
    double total = 0;
    FOR_EACH(i, count) {
        Complex x = xh[i];
        Complex ug = scaled(u[i], g[i]);
        Complex q = product(conjugate(ug), uy[i]);
        total += weighted(x, q, i % columns, width);
        if (der_xh) {
            Complex other = product(product(conjugate(q), x), x);
            der_xh[i] = sum(scaled(penalty[0], q), scaled(-1, other));
        }
        if (der_yh) der_yh[i] = product(ug, x);
    }
    total = block_sum(total, kept);
    if (threadIdx.x == 0) shares[blockIdx.x] = total;
}

// Rh Xh; where Rh has fewer values, of one sample, it serves all samples.
extern "C" __global__ void cir_conv(const Complex* xh, const Complex* rh, Complex* yh,
                                    long long filter, long long count) {
    FOR_EACH(i, count) yh[i] = product(rh[i % filter], xh[i]);
}

// conj(Rh) G in the place of G, conj(Xh) G summed over the samples that Rh serves, and a block's
// share of the sum of real(G* Rh Xh) over whole spectra. `count` values of Rh.
extern "C" __global__ void cir_conv_backward(Complex* g, const Complex* xh, const Complex* rh,
                                             Complex* cross, double* shares, long long samples,
                                             long long columns, long long width,
                                             long long count) {
    __shared__ double kept[THREADS];
    double total = 0;
    FOR_EACH(i, count) {
        Complex r = rh[i];
        Complex together = {0, 0};
        for (long long k = i; k < samples * count; k += count) {
            together = sum(together, product(conjugate(xh[k]), g[k]));
            g[k] = product(conjugate(r), g[k]);
        }
        cross[i] = together;
        total += weighted(together, r, i % columns, width);
    }
    total = block_sum(total, kept);
    if (threadIdx.x == 0) shares[blockIdx.x] = total;
}

// (1 - lr) x + lr t in the place of t.
extern "C" __global__ void blend(REAL* t, const REAL* x, const REAL* lr, long long count) {
    FOR_EACH(i, count) t[i] = lr[0] * t[i] + (1 - lr[0]) * x[i];
}

// The same with `der` for x (nothing where t is null), and a block's share of the sum of der x.
extern "C" __global__ void blend_backward(REAL* t, const REAL* der, const REAL* x, const REAL* lr,
                                          double* shares, long long count) {
    __shared__ double kept[THREADS];
    double total = 0;
    FOR_EACH(i, count) {
        total += (double)der[i] * x[i];
        if (t) t[i] = lr[0] * t[i] + (1 - lr[0]) * der[i];
    }
    total = block_sum(total, kept);
    if (threadIdx.x == 0) shares[blockIdx.x] = total;
}
