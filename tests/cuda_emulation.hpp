// CUDA's kernels as C++ of the host, so that they run without a card: tests/cuda_emulation.py
// compiles a `.cu` file behind this one.
//
// The threads of a block are fibers that take turns at __syncthreads: what one of them wrote before
// the barrier the others read behind it. Between two barriers they run one after the other, forwards
// in one stretch and backwards in the next, so that a missing barrier gives wrong results. A barrier
// that some threads of a block do not reach ends the launch with an error.

#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict
// A block runs at a time, and the interpreter's lock is held while a kernel runs.
#define __shared__ static

namespace emulation {

struct Place {
    unsigned x, y, z;
};

struct Fiber {
    ucontext_t start;
    jmp_buf at;
    std::vector<char> stack;
    bool started, finished;
};

constexpr size_t STACK_BYTES = 64 << 10;

Place thread, block, threads, blocks;
std::vector<Fiber*> fibers;
jmp_buf scheduler;
ucontext_t outside;
void (*body)(void**);
void** arguments;
bool barriers;

inline void barrier() {
    barriers = true;
    if (_setjmp(fibers[thread.x]->at) == 0) _longjmp(scheduler, 1);
}

inline void run_fiber() {
    body(arguments);
    fibers[thread.x]->finished = true;
    _longjmp(scheduler, 1);
}

// Let a thread of the block run up to its next barrier, or to its end.
inline void resume(unsigned index) {
    thread.x = index;
    Fiber* fiber = fibers[index];
    if (_setjmp(scheduler) != 0) return;
    if (fiber->started) _longjmp(fiber->at, 1);
    fiber->started = true;
    getcontext(&fiber->start);
    fiber->start.uc_stack.ss_sp = fiber->stack.data();
    fiber->start.uc_stack.ss_size = fiber->stack.size();
    fiber->start.uc_link = nullptr;
    makecontext(&fiber->start, run_fiber, 0);
    swapcontext(&outside, &fiber->start);
}

// 0, or 1 if some threads of the block wait for others that have ended.
inline int run_block() {
    for (unsigned i = 0; i < threads.x; ++i) fibers[i]->started = fibers[i]->finished = false;
    barriers = false;
    bool forwards = true;
    for (unsigned ended = 0; ended == 0; forwards = !forwards) {
        for (unsigned i = 0; i < threads.x; ++i) {
            unsigned index = forwards ? i : threads.x - 1 - i;
            // A kernel whose first thread meets no barrier has none: the others need no stacks.
            if (i > 0 && !barriers) {
                thread.x = index;
                if (_setjmp(scheduler) != 0) return 1;
                body(arguments);
                fibers[index]->finished = true;
            } else {
                resume(index);
            }
        }
        for (unsigned i = 0; i < threads.x; ++i) ended += fibers[i]->finished;
        if (ended != 0 && ended != threads.x) return 1;
    }
    return 0;
}

inline int launch(void (*kernel)(void**), unsigned grid, unsigned size, void** values) {
    while (fibers.size() < size) {
        fibers.push_back(new Fiber);
        fibers.back()->stack.resize(STACK_BYTES);
    }
    body = kernel;
    arguments = values;
    threads = {size, 1, 1};
    blocks = {grid, 1, 1};
    for (unsigned i = 0; i < grid; ++i) {
        block = {i, 0, 0};
        if (run_block() != 0) return 1;
    }
    return 0;
}

}  // namespace emulation

#define threadIdx emulation::thread
#define blockIdx emulation::block
#define blockDim emulation::threads
#define gridDim emulation::blocks

inline void __syncthreads() { emulation::barrier(); }

inline float __int_as_float(int bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
// Rounded each by itself: this file is compiled without contraction of products and sums.
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
