// The greatest value of a map, and where it lies.

struct Peak {
    REAL value;
    long long place;
};

// Of equal values the first; NaN counts as the greatest, as in argmax.
__device__ Peak better(Peak a, Peak b) {
    if (b.place < 0) return a;
    if (a.place < 0) return b;
    bool a_is_nan = a.value != a.value, b_is_nan = b.value != b.value;
    bool first = a.place < b.place;
    if (a_is_nan || b_is_nan) return a_is_nan && (first || !b_is_nan) ? a : b;
    return a.value > b.value || (a.value == b.value && first) ? a : b;
}

// That of a map (height, width), its place in column-major order. `kept`: THREADS of shared memory.
__device__ Peak block_peak(const REAL* map, long long height, long long width, Peak* kept) {
    Peak own = {0, -1};
    FOR_EACH_IN_BLOCK(k, height * width) {
        own = better(own, {map[k % height * width + k / height], k});
    }
    __syncthreads();
    kept[threadIdx.x] = own;
    for (unsigned half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half)
            kept[threadIdx.x] = better(kept[threadIdx.x], kept[threadIdx.x + half]);
    }
    __syncthreads();
    return kept[0];
}
