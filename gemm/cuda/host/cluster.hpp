// Two blocks of a cluster as one block of twice the threads: what the kernel asks for is its own block's.
#pragma once

namespace gemmlab {
constexpr int CLUSTER_THREADS = 384, CLUSTER_SHARED = 113 << 10;  // of a block
__attribute__((no_sanitize("thread"))) inline int rank_of(unsigned thread) { return int(thread) / CLUSTER_THREADS; }
inline uint3 own_thread() { return {threadIdx.x % CLUSTER_THREADS, 0, 0}; }
inline uint3 own_block() { return {blockIdx.x * 2 + rank_of(threadIdx.x), 0, 0}; }
inline dim3 own_grid() { return {gridDim.x * 2, 1, 1}; }
}  // namespace gemmlab

#define GEMMLAB_CLUSTER
#define threadIdx gemmlab::own_thread()
#define blockIdx gemmlab::own_block()
#define gridDim gemmlab::own_grid()
