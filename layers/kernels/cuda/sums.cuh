// Sums over the threads of a block, always in the same order.

// The sum of every thread's value, in each of them. `cells` is shared memory, THREADS of it.
template <typename T>
__device__ T block_sum(T value, T* cells) {
    __syncthreads();
    cells[threadIdx.x] = value;
    for (unsigned half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) cells[threadIdx.x] += cells[threadIdx.x + half];
    }
    __syncthreads();
    return cells[0];
}
