// CUDA's builtins for a C++17 compiler: what a rung of gemm/cuda/source sees when it is run on a CPU.
//
// The .cu file is compiled as it is, after this header. A thread of a block is a fiber (executor.cpp) that runs as far
// as its next barrier and then makes room for another one, drawn at random. What differs from a GPU is said where it does.
#pragma once
#define GEMMLAB_HOST 1
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
// CUDA takes alignas anywhere among a declaration's words, g++ only first.
#define alignas(n) __align__(n)

// At block scope thread_local means static, and beside `extern` it may stand too: one word for both kinds of __shared__.
// Arrays begin 64 KiB apart, and static ones have at most 48: what is written past the end of one hits nothing.
#define __shared__ thread_local __attribute__((aligned(65536), used))

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x = 1, y = 1, z = 1; };

// Constant as far as one thread sees; executor.cpp sets them each time it goes on with another.
extern const uint3 threadIdx, blockIdx;
extern const dim3 blockDim, gridDim;
constexpr int warpSize = 32;

// ---------------------------------------------------------------------------------------------------- vectors

#define GEMMLAB_VECTORS(T, name)                                                                                       \
    struct __align__(2 * sizeof(T)) name##2 { T x, y; };                                                               \
    struct name##3 { T x, y, z; };                                                                                     \
    struct __align__(sizeof(T) > 4 ? 16 : 4 * sizeof(T)) name##4 { T x, y, z, w; };                                    \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; }                                                         \
    inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                                                 \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
#define uint3 gemmlab_uint3
GEMMLAB_VECTORS(float, float)
GEMMLAB_VECTORS(double, double)
GEMMLAB_VECTORS(int, int)
GEMMLAB_VECTORS(unsigned, uint)
GEMMLAB_VECTORS(short, short)
GEMMLAB_VECTORS(unsigned short, ushort)
GEMMLAB_VECTORS(unsigned char, uchar)
GEMMLAB_VECTORS(long long, longlong)
#undef uint3
#undef GEMMLAB_VECTORS

// -------------------------------------------------------------------------------------------------- arithmetic

namespace gemmlab {
// The product of two floats is exact in double. (libm's is a hundred times slower where the processor has no FMA.)
inline float fma(float a, float b, float c) { return float(double(a) * b + c); }
inline double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
template <typename To, typename From>
inline To bits(From value) {
    static_assert(sizeof(To) == sizeof(From), "as many bits");
    To to;
    memcpy(&to, &value, sizeof to);
    return to;
}
}  // namespace gemmlab

#define fmaf(a, b, c) gemmlab::fma(float(a), float(b), float(c))
#define __fmaf_rn(a, b, c) gemmlab::fma(float(a), float(b), float(c))
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __expf(float x) { return expf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }

inline int min(int a, int b) { return b < a ? b : a; }
inline int max(int a, int b) { return a < b ? b : a; }
inline unsigned min(unsigned a, unsigned b) { return b < a ? b : a; }
inline unsigned max(unsigned a, unsigned b) { return a < b ? b : a; }
inline long long min(long long a, long long b) { return b < a ? b : a; }
inline long long max(long long a, long long b) { return a < b ? b : a; }
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline float __int_as_float(int x) { return gemmlab::bits<float>(x); }
inline float __uint_as_float(unsigned x) { return gemmlab::bits<float>(x); }
inline int __float_as_int(float x) { return gemmlab::bits<int>(x); }
inline unsigned __float_as_uint(float x) { return gemmlab::bits<unsigned>(x); }

// Hints to the caches of a GPU.
template <typename T> inline T __ldg(const T *at) { return *at; }
template <typename T> inline T __ldcg(const T *at) { return *at; }
template <typename T> inline T __ldcs(const T *at) { return *at; }
template <typename T> inline void __stcg(T *at, T value) { *at = value; }
template <typename T> inline void __stcs(T *at, T value) { *at = value; }
// Nothing else runs meanwhile; and it is nobody's race, so nobody watches it.
template <typename T>
__attribute__((noinline, no_sanitize("thread"))) T atomicAdd(T *at, T value) {
    T before = *at;
    *at = before + value;
    return before;
}

// ---------------------------------------------------------------------------------------------------- barriers

namespace gemmlab {

// The place in the source of a barrier: all threads that it holds must be at the same one.
struct At {
    const char *file;
    int line;

    void syncthreads() const;
    void syncwarp(unsigned mask = 0xffffffffu) const { exchange("__syncwarp", mask, 0, nullptr); }

    template <typename T>
    T shfl(unsigned mask, T value, int lane, int width = 32) const {
        return from(mask, value, (here() & ~(width - 1)) + (lane & (width - 1)));
    }
    template <typename T>
    T shfl_up(unsigned mask, T value, unsigned by, int width = 32) const {
        int lane = here() - int(by);
        return from(mask, value, lane < (here() & ~(width - 1)) ? here() : lane);
    }
    template <typename T>
    T shfl_down(unsigned mask, T value, unsigned by, int width = 32) const {
        int lane = here() + int(by);
        return from(mask, value, lane > (here() | (width - 1)) ? here() : lane);
    }
    template <typename T>
    T shfl_xor(unsigned mask, T value, int with, int width = 32) const {
        int lane = here() ^ with;
        return from(mask, value, lane > (here() | (width - 1)) ? here() : lane);
    }
    unsigned ballot(unsigned mask, int predicate) const {
        uint64_t all[32];
        unsigned voted = 0, there = exchange("a vote", mask, predicate != 0, all);
        for (int lane = 0; lane < 32; ++lane)
            if (there >> lane & 1 && all[lane]) voted |= 1u << lane;
        return voted;
    }
    int any(unsigned mask, int predicate) const { return ballot(mask, predicate) != 0; }
    int all(unsigned mask, int predicate) const { return ballot(mask, !predicate) == 0; }

    // This thread does what a GPU would not survive: the end of the launch.
    [[noreturn]] void fault(const char *sentence) const;

private:
    static int here();  // this thread's lane

    // Waits for the lanes of `mask`, leaves what they brought in all[32], returns those that are there.
    unsigned exchange(const char *what, unsigned mask, uint64_t value, uint64_t *all) const;
    [[noreturn]] void nobody(int lane) const;

    template <typename T>
    T from(unsigned mask, T value, int lane) const {
        static_assert(sizeof(T) <= 8, "a shuffle moves up to 64 bits");
        uint64_t all[32], sent = 0;
        memcpy(&sent, &value, sizeof value);
        if (!(exchange("a shuffle", mask, sent, all) >> lane & 1)) nobody(lane);
        memcpy(&value, &all[lane], sizeof value);
        return value;
    }
};

// cp.async and cp.async.wait_all: `size` bytes from global to shared memory, or zeros from nowhere.
void copy_async(void *to, const void *from, size_t size);
void wait_for_copies();

}  // namespace gemmlab

#define GEMMLAB_AT gemmlab::At{__FILE__, __LINE__}
#define __syncthreads() GEMMLAB_AT.syncthreads()
#define __syncwarp(...) GEMMLAB_AT.syncwarp(__VA_ARGS__)
#define __shfl_sync(...) GEMMLAB_AT.shfl(__VA_ARGS__)
#define __shfl_up_sync(...) GEMMLAB_AT.shfl_up(__VA_ARGS__)
#define __shfl_down_sync(...) GEMMLAB_AT.shfl_down(__VA_ARGS__)
#define __shfl_xor_sync(...) GEMMLAB_AT.shfl_xor(__VA_ARGS__)
#define __ballot_sync(...) GEMMLAB_AT.ballot(__VA_ARGS__)
#define __any_sync(...) GEMMLAB_AT.any(__VA_ARGS__)
#define __all_sync(...) GEMMLAB_AT.all(__VA_ARGS__)

// Orders one thread's own accesses for the others, which here see them in order anyway; it is no barrier.
#define __threadfence() ((void)0)
#define __threadfence_block() ((void)0)
