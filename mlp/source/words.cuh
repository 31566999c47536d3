// What every function is handed, the numbers it computes with, and sums of them in a fixed order.
//
// A function takes the same words as the one of its name in mlp/compiled.py: the bytes of an element, then addresses and
// sizes. It is launched once. Sums are trees over the threads of a block, and over blocks in their order, by whichever
// block comes last: the same inputs give the same bits.
//
// Macros: NUMBER, what arrays are made of: float, double or bfloat16 (stored in 16 bits, computed in float).
#pragma once

#ifndef NUMBER
#define NUMBER float
#endif

// Threads of a block, a power of two; mlp/device.py launches so many.
constexpr int THREADS = 256;

struct Words {
    union {
        long long at[16];
        double number[16];
    };
};

static_assert(sizeof(Words) == 128, "mlp/device.py says 16 words");

// The upper half of a float, rounded to nearest even.
struct bfloat16 {
    unsigned short bits;

    bfloat16() = default;
    __device__ explicit bfloat16(float value) {
        union { float number; unsigned bits; } u;
        u.number = value;
        if (value != value) bits = 0x7fc0;
        else bits = (unsigned short)((u.bits + 0x7fff + ((u.bits >> 16) & 1)) >> 16);
    }
    __device__ operator float() const {
        union { float number; unsigned bits; } u;
        u.bits = (unsigned)bits << 16;
        return u.number;
    }
};

// What is computed with.
template <typename Stored> struct Computed { using type = Stored; };
template <> struct Computed<bfloat16> { using type = float; };

using Stored = NUMBER;
using Number = Computed<Stored>::type;

template <typename Element> __device__ inline Element *array(const Words &words, int which) {
    return reinterpret_cast<Element *>(words.at[which]);
}

// This thread of all, and how many there are: an elementwise function's loop.
__device__ inline long long first_of_mine() { return (long long)blockIdx.x * THREADS + threadIdx.x; }
__device__ inline long long threads_in_all() { return (long long)gridDim.x * THREADS; }

struct Add {
    template <typename T> __device__ static T of(T a, T b) { return a + b; }
};
struct Larger {
    template <typename T> __device__ static T of(T a, T b) { return a > b ? a : b; }
};

// Combines what groups of `lanes` neighbouring threads (a power of two) bring, as a tree; each gets its group's.
// Every thread of the block must come here. slots: THREADS numbers of shared memory.
template <typename Combine, typename T> __device__ inline T together(T own, int lanes, T *slots) {
    int t = threadIdx.x, lane = t % lanes;
    __syncthreads();  // slots may still be read from the last time
    slots[t] = own;
    __syncthreads();
    for (int half = lanes / 2; half > 0; half /= 2) {
        if (lane < half) slots[t] = Combine::of(slots[t], slots[t + half]);
        __syncthreads();
    }
    return slots[t - lane];
}

// Whether this block is the last of `blocks` to come here, so that it sees what all others have written. `arrived` is
// 0 before and after.
__device__ inline bool last(unsigned *arrived, unsigned blocks) {
    __shared__ bool is_last;
    __threadfence();  // what this thread has written is there for all before it counts as arrived
    __syncthreads();
    if (threadIdx.x == 0) {
        is_last = atomicAdd(arrived, 1u) == blocks - 1;
        if (is_last) *arrived = 0;
    }
    __syncthreads();
    if (is_last) __threadfence();
    return is_last;
}

// The sum of what all threads of all blocks bring, for thread 0 of the last block (true), in one launch.
// partial: a double for each block; arrived: see `last`.
__device__ inline bool sum_of_all(double own, double *partial, unsigned *arrived, double &total) {
    __shared__ double slots[THREADS];
    double block = together<Add>(own, THREADS, slots);
    if (threadIdx.x == 0) partial[blockIdx.x] = block;
    if (!last(arrived, gridDim.x)) return false;
    double mine = 0;
    for (unsigned at = threadIdx.x; at < gridDim.x; at += THREADS) mine += partial[at];
    total = together<Add>(mine, THREADS, slots);
    return threadIdx.x == 0;
}
