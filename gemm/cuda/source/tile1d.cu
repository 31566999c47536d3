// cuda-tile1d: a thread computes TM elements of C, one below the other.
//
// The rung below loads two numbers from shared memory for each multiplication, and shared memory is what it waits for.
// A thread that has TM rows of one column loads a number of B once and multiplies it with TM numbers of A: 1 + 1/TM
// loads for each multiplication. (The loads of A are the same for all threads of a warp: one request serves them.)
//
//     BM x BN   the block's tile of C; BM * BN / TM threads
//     BK        how deep the tiles of A and B are
//
// Not yet run on a GPU.
#include "finish.cuh"
#include "tiles.cuh"

#ifndef BM
#define BM 64
#endif
#ifndef BN
#define BN 64
#endif
#ifndef BK
#define BK 8
#endif
#ifndef TM
#define TM 8
#endif
#ifndef A_ORDER
#define A_ORDER ALONG
#endif
#ifndef B_ORDER
#define B_ORDER ACROSS
#endif
#define THREADS (BM * BN / TM)
static_assert(BM % TM == 0, "threads share the rows of the tile evenly");
static_assert(THREADS <= 1024, "a block has at most 1024 threads");

extern "C" __global__ void __launch_bounds__(THREADS) gemm(const Product<float, float> p) {
    __shared__ float a[BM][BK + 1], b[BK][BN + 1];
    Corner tile = corner<BM, BN>(p.m, p.n);
    int thread = threadIdx.x, y = thread / BN * TM, x = thread % BN;

    float sums[TM] = {};
    for (int first = 0; first < p.k; first += BK) {
        for (int i = thread; i < BM * BK; i += THREADS) {
            int at = A_ORDER == ACROSS ? i / BM : i % BK, ax = A_ORDER == ACROSS ? i % BM : i / BK;
            int row = tile.row + ax, t = first + at;
            a[ax][at] = row < p.m && t < p.k ? p.a[row * p.a_row + t * p.a_column] : 0.0f;
        }
        for (int i = thread; i < BK * BN; i += THREADS) {
            int bt = B_ORDER == ACROSS ? i / BN : i % BK, bx = B_ORDER == ACROSS ? i % BN : i / BK;
            int column = tile.column + bx, t = first + bt;
            b[bt][bx] = column < p.n && t < p.k ? p.b[t * p.b_row + column * p.b_column] : 0.0f;
        }
        __syncthreads();

#pragma unroll
        for (int t = 0; t < BK; ++t) {
            float right = b[t][x];
#pragma unroll
            for (int i = 0; i < TM; ++i) sums[i] += a[y + i][t] * right;
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < TM; ++i)
        if (tile.row + y + i < p.m && tile.column + x < p.n) finish(p, tile.row + y + i, tile.column + x, sums[i]);
}
