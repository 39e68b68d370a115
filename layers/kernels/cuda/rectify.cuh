// ReLU with a slope for what is not positive; a leak of 1 leaves every value as it is.

__device__ REAL rectified(REAL value, REAL leak) {
    if (value > 0 || leak == 1) return value;
    // As maximum(value, 0) has it: 0 for -inf, NaN for NaN.
    if (leak == 0) return value != value ? value : 0;
    return value * leak;
}

// The derivative of `rectified` by its argument; `leak` at 0.
__device__ REAL slope(REAL value, REAL leak) { return value > 0 ? 1 : leak; }
