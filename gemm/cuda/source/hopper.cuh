// Hopper's own instructions, one small function each: barriers that count bytes, bulk copies of tiles, wgmma.
//
// On a GPU (sm_90a) each is the PTX of that name. Elsewhere they are only declared: gemm/cuda/host/tensor.hpp defines them.
#pragma once
#define HOPPER_INSTRUCTIONS
#include "warp.cuh"

// What the driver's cuTensorMapEncodeTiled fills in (gemm/cuda/tensor_map.py): a matrix and the box that is copied at a time.
struct alignas(64) TensorMap {
    unsigned long long opaque[16];
};

#ifdef __CUDA_ARCH__

// --- barriers in shared memory: a phase ends when `arrivals` have arrived and every byte expected has come ----------------

__device__ inline void barrier_init(unsigned long long *barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" :: "r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
// What was initialised is seen by the copy engine and by the other blocks of the cluster.
__device__ inline void barriers_ready() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

__device__ inline void arrive_and_expect(unsigned long long *barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;"
                 :: "r"(shared_address(barrier)), "r"(bytes) : "memory");
}
__device__ inline void arrive(unsigned long long *barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" :: "r"(shared_address(barrier)) : "memory");
}
// At the same barrier of block `rank` of the cluster. (Not .release.cluster: a fence of all memory in every step. What is
// handed over was read by wgmma, which the wait before it has seen end.)
__device__ inline void arrive_there(unsigned long long *barrier, int rank) {
    asm volatile("{\n"
                 ".reg .b32 there;\n"
                 "mapa.shared::cluster.u32 there, %0, %1;\n"
                 "mbarrier.arrive.shared::cluster.b64 _, [there];\n"
                 "}" :: "r"(shared_address(barrier)), "r"(rank) : "memory");
}
// Until the phase of this parity has ended. The first phase has parity 0; before it, parity 1 counts as ended.
__device__ inline void wait(unsigned long long *barrier, int parity) {
    unsigned ended;
    do {
        asm volatile("{\n"
                     ".reg .pred ended;\n"
                     "mbarrier.try_wait.parity.shared::cta.b64 ended, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, ended;\n"
                     "}" : "=r"(ended) : "r"(shared_address(barrier)), "r"(parity) : "memory");
    } while (!ended);
}

// --- clusters ------------------------------------------------------------------------------------------------------------

// From where on this block's shared memory is its own to use: swizzles count from boundaries of 1024 bytes.
__device__ inline unsigned char *on_boundary(unsigned char *shared) {
    return shared + (1024 - shared_address(shared) % 1024) % 1024;
}
__device__ inline int cluster_rank() {
    unsigned rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return int(rank);
}
__device__ inline void cluster_sync() {
    asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
}

// --- the copy engine (TMA): one thread asks for a box of the matrix whose first element is (x, y), x along memory ---------

__device__ inline void copy_box(void *shared, const TensorMap *map, int x, int y, unsigned long long *barrier) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];"
                 :: "r"(shared_address(shared)), "l"(map), "r"(x), "r"(y), "r"(shared_address(barrier)) : "memory");
}
// The same into every block of the cluster whose bit is in `ranks`, at the same place, and at its own barrier.
__device__ inline void copy_box(void *shared, const TensorMap *map, int x, int y, unsigned long long *barrier, int ranks) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster"
                 " [%0], [%1, {%2, %3}], [%4], %5;"
                 :: "r"(shared_address(shared)), "l"(map), "r"(x), "r"(y), "r"(shared_address(barrier)),
                    "h"((unsigned short)ranks) : "memory");
}
__device__ inline void map_ahead(const TensorMap *map) { asm volatile("prefetch.tensormap [%0];" :: "l"(map) : "memory"); }

// --- registers: what a warpgroup gives away another may take ---------------------------------------------------------------

template <int COUNT> __device__ inline void fewer_registers() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" :: "n"(COUNT)); }
template <int COUNT> __device__ inline void more_registers() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" :: "n"(COUNT)); }

// --- wgmma: 128 threads multiply 64 x 16 by 16 x N, both in shared memory; it runs on while they go on ----------------------

__device__ inline void wgmma_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// All but the youngest PENDING groups are done.
template <int PENDING> __device__ inline void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" :: "n"(PENDING) : "memory"); }
// The compiler must not move what it does with the sums to before the wait.
template <int COUNT> __device__ inline void wgmma_done(float (&sum)[COUNT][4]) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i)
        asm volatile("" : "+f"(sum[i][0]), "+f"(sum[i][1]), "+f"(sum[i][2]), "+f"(sum[i][3])::"memory");
}

// The instruction names each of a thread's N / 2 sums.
#define NAMES(i) "%" #i "0, %" #i "1, %" #i "2, %" #i "3, %" #i "4, %" #i "5, %" #i "6, %" #i "7, %" #i "8, %" #i "9"
#define SUMS(i) "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])
#define SUMS4(i) SUMS(i), SUMS(i + 1), SUMS(i + 2), SUMS(i + 3)
#define SUMS16(i) SUMS4(i), SUMS4(i + 4), SUMS4(i + 8), SUMS4(i + 12)
#define NAMES_0_59 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, " NAMES(1) ", " NAMES(2) ", " NAMES(3) ", " NAMES(4) ", " NAMES(5)

// d = a b, or d += a b where `add`; TURNED: the operand's tile lies along m (or n), not along k.
#define WGMMA_64_128(TYPE)                                                                                             \
    asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %66, 0;\n"                                                      \
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32." TYPE "." TYPE " {" NAMES_0_59 ", %60, %61, %62, %63}"  \
                 ", %64, %65, add, 1, 1, %67, %68;\n}"                                                                 \
                 : SUMS16(0) : "l"(a), "l"(b), "r"(int(add)), "n"(int(A_TURNED)), "n"(int(B_TURNED)))
#define WGMMA_64_256(TYPE)                                                                                             \
    asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %130, 0;\n"                                                     \
                 "wgmma.mma_async.sync.aligned.m64n256k16.f32." TYPE "." TYPE " {" NAMES_0_59 ", " NAMES(6) ", "      \
                 NAMES(7) ", " NAMES(8) ", " NAMES(9) ", " NAMES(10) ", " NAMES(11) ", %120, %121, %122, %123, "  \
                 "%124, %125, %126, %127}, %128, %129, add, 1, 1, %131, %132;\n}"                                      \
                 : SUMS16(0), SUMS16(16) : "l"(a), "l"(b), "r"(int(add)), "n"(int(A_TURNED)), "n"(int(B_TURNED)))

template <bool A_TURNED, bool B_TURNED>
__device__ inline void wgmma(float (&d)[16][4], unsigned long long a, unsigned long long b, bool add, bfloat16) { WGMMA_64_128("bf16"); }
template <bool A_TURNED, bool B_TURNED>
__device__ inline void wgmma(float (&d)[16][4], unsigned long long a, unsigned long long b, bool add, float16) { WGMMA_64_128("f16"); }
template <bool A_TURNED, bool B_TURNED>
__device__ inline void wgmma(float (&d)[32][4], unsigned long long a, unsigned long long b, bool add, bfloat16) { WGMMA_64_256("bf16"); }
template <bool A_TURNED, bool B_TURNED>
__device__ inline void wgmma(float (&d)[32][4], unsigned long long a, unsigned long long b, bool add, float16) { WGMMA_64_256("f16"); }

#else

void barrier_init(unsigned long long *barrier, int arrivals);
inline void barriers_ready() {}
void arrive_and_expect(unsigned long long *barrier, int bytes);
void arrive(unsigned long long *barrier);
void arrive_there(unsigned long long *barrier, int rank);
void wait(unsigned long long *barrier, int parity);
unsigned char *on_boundary(unsigned char *shared);
int cluster_rank();
void cluster_sync();
void copy_box(void *shared, const TensorMap *map, int x, int y, unsigned long long *barrier);
void copy_box(void *shared, const TensorMap *map, int x, int y, unsigned long long *barrier, int ranks);
inline void map_ahead(const TensorMap *) {}
template <int COUNT> inline void fewer_registers() {}
template <int COUNT> inline void more_registers() {}
void wgmma_begin();
void wgmma_commit();
void host_wgmma_wait(int pending);
template <int PENDING> inline void wgmma_wait() { host_wgmma_wait(PENDING); }
template <int COUNT> inline void wgmma_done(float (&)[COUNT][4]) {}
void host_wgmma(float *d, int n, unsigned long long a, unsigned long long b, bool add, bool a_turned, bool b_turned, bool bf16);
template <bool A_TURNED, bool B_TURNED, int COUNT>
inline void wgmma(float (&d)[COUNT][4], unsigned long long a, unsigned long long b, bool add, bfloat16) {
    host_wgmma(&d[0][0], COUNT * 8, a, b, add, A_TURNED, B_TURNED, true);
}
template <bool A_TURNED, bool B_TURNED, int COUNT>
inline void wgmma(float (&d)[COUNT][4], unsigned long long a, unsigned long long b, bool add, float16) {
    host_wgmma(&d[0][0], COUNT * 8, a, b, add, A_TURNED, B_TURNED, false);
}

#endif
