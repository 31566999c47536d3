// The instructions of tensor cores up to sm_80's, one small function each.
//
// On a GPU each is the PTX of that name. Elsewhere they are only declared: gemm/cuda/host/tensor.hpp defines them by what
// the PTX ISA says they do, so that the kernels run, slowly, on a CPU.
#pragma once
#define WARP_INSTRUCTIONS
#include "half.cuh"

__host__ __device__ constexpr int smaller(int a, int b) { return a < b ? a : b; }
__host__ __device__ constexpr int larger(int a, int b) { return a > b ? a : b; }

#ifdef __CUDA_ARCH__

__device__ inline unsigned shared_address(const void *shared) { return unsigned(__cvta_generic_to_shared(shared)); }

// cp.async: 16 bytes from global to shared memory, past the registers; of the source only `bytes` are read, the rest is 0.
__device__ inline void copy_async(void *shared, const void *global, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"(shared_address(shared)), "l"(__cvta_generic_to_global(global)), "r"(bytes) : "memory");
}
// What this thread copied since the last one is a group; all but the youngest PENDING groups have arrived.
__device__ inline void copies_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING> __device__ inline void copies_wait() {
    asm volatile("cp.async.wait_group %0;" :: "n"(PENDING) : "memory");
}

// ldmatrix.x4: see a_ldmatrix.
template <bool TURNED> __device__ inline void load_matrices(unsigned (&to)[4], const void *row) {
    if (TURNED)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(shared_address(row)) : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(shared_address(row)) : "memory");
}

__device__ inline unsigned rounded(float x) {
    unsigned tf32;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(tf32) : "f"(x));
    return tf32;
}

// mma.sync: C += A B, of one warp.
__device__ inline void multiply_tf32(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ inline void multiply_half(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], bfloat16) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ inline void multiply_half(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], float16) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// The x of the lane whose number differs in these bits; all 32 lanes ask.
__device__ inline float from_lane(float x, int bits) { return __shfl_xor_sync(0xffffffffu, x, bits); }
// A number that is the same in the whole warp, in a register that the compiler knows to be.
__device__ inline int uniform(int x) { return __shfl_sync(0xffffffffu, x, 0); }

#else

unsigned shared_address(const void *shared);
void copy_async(void *shared, const void *global, int bytes);
void copies_commit();
void host_copies_wait(int pending);
template <int PENDING> inline void copies_wait() { host_copies_wait(PENDING); }
void host_load_matrices(unsigned (&to)[4], const void *row, bool turned);
template <bool TURNED> inline void load_matrices(unsigned (&to)[4], const void *row) { host_load_matrices(to, row, TURNED); }
inline unsigned rounded(float x) { return to_tf32(x); }
void multiply_tf32(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]);
void multiply_half(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], bfloat16);
void multiply_half(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], float16);
float from_lane(float x, int bits);
inline int uniform(int x) { return x; }

#endif

__device__ inline unsigned from_lane(unsigned x, int bits) { return bits_of(from_lane(float_of(x), bits)); }
