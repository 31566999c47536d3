// The two 16-bit formats as they lie in memory: read as float, written from float, computed with by tensor cores only.
//
// bfloat16 is the upper half of a float; float16 has 5 bits of exponent and 10 of fraction. Both round to nearest,
// ties to even. CUDA's own types would do; their headers come with a toolkit, which a machine that only runs lacks.
#pragma once
#include "tensor.cuh"

struct bfloat16 {
    unsigned short bits;

    bfloat16() = default;
    __host__ __device__ explicit bfloat16(float x) {
#ifdef __CUDA_ARCH__
        asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
#else
        unsigned u = bits_of(x);
        bits = x != x ? 0x7fff : (u + 0x7fff + (u >> 16 & 1)) >> 16;
#endif
    }
    __host__ __device__ operator float() const { return float_of(unsigned(bits) << 16); }
};

struct float16 {
    unsigned short bits;

    float16() = default;
    __host__ __device__ explicit float16(float x) {
#ifdef __CUDA_ARCH__
        asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
#else
        bits = to_float16(x);
#endif
    }
    __host__ __device__ operator float() const {
#ifdef __CUDA_ARCH__
        float x;
        asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
        return x;
#else
        return from_float16(bits);
#endif
    }
};

static_assert(sizeof(bfloat16) == 2 && sizeof(float16) == 2, "an element is 16 bits");

// Two of them, the first in the lower half.
template <typename Half> __host__ __device__ inline unsigned pair(float first, float second) {
    return Half(first).bits | unsigned(Half(second).bits) << 16;
}
