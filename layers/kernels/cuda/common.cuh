// What all kernels share. REAL is float or double, as the compiler is told.

// Threads of a block: THREADS in launch.py.
#define THREADS 256

// There is no header of mathematics where CuPy compiles.
#define INFINITE ((REAL)__int_as_float(0x7f800000))

// A loop over 0 .. count - 1 that all threads of a launch share.
#define FOR_EACH(i, count)                                                  \
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;    \
         i < (count); i += (long long)gridDim.x * blockDim.x)

// The same, shared by the threads of a block.
#define FOR_EACH_IN_BLOCK(i, count)                                         \
    for (long long i = threadIdx.x; i < (count); i += blockDim.x)

// As NumPy and CuPy keep complex numbers.
struct alignas(2 * sizeof(REAL)) Complex {
    REAL re, im;
};
