// cuda-tile2d: a thread computes TM x TN elements of C, a small outer product for each step of k.
//
//                 a row: TN numbers of B          TM + TN loads from shared memory serve TM * TN multiplications:
//                   b0 b1 b2 .. b7                16 for 64, where the rung below makes 9 for 8 and the one below
//   a column: a0    .  .  .     .                 that 2 for 1. All 64 sums stay in registers.
//      TM     a1    .  .  .     .
//      of A   ..
//             a7    .  .  .     .
//
//     BM x BN   the block's tile of C; BM * BN / (TM * TN) threads
//     BK        how deep the tiles of A and B are
//
// In the end each thread holds a square of C, and stores are fast where threads write neighbours: the sums go through
// shared memory, one row of every square at a time. Registers have no index that could vary: each row asks whether the
// turn is its own. (The turn is a bit, for a plain `i == pass` would be turned back into an index, into slow memory.)
//
// Not yet run on a GPU.
#include "store.cuh"
#include "tiles.cuh"

#ifndef BM
#define BM 128
#endif
#ifndef BN
#define BN 128
#endif
#ifndef BK
#define BK 8
#endif
#ifndef TM
#define TM 8
#endif
#ifndef TN
#define TN 8
#endif
#ifndef A_ORDER
#define A_ORDER ALONG
#endif
#ifndef B_ORDER
#define B_ORDER ACROSS
#endif
#define THREADS (BM * BN / (TM * TN))
static_assert(BM % TM == 0 && BN % TN == 0, "threads share the tile evenly");
static_assert(THREADS <= 1024, "a block has at most 1024 threads");

// Two blocks on a multiprocessor, if they are small: one multiplies while the other waits at a barrier.
extern "C" __global__ void __launch_bounds__(THREADS, THREADS > 256 ? 1 : 2) gemm(const Product<float, float> p) {
    __shared__ float a[BM][BK + 1], b[BK][BN], rows[BM / TM][BN];
    Corner tile = corner<BM, BN>(p.m, p.n);
    int thread = threadIdx.x, y = thread / (BN / TN) * TM, x = thread % (BN / TN) * TN;

    const float *a_from = p.a + tile.row * p.a_row, *b_from = p.b + tile.column * p.b_column;
    float sums[TM][TN] = {};
    for (int left = p.k; left > 0; left -= BK) {
#pragma unroll
        for (int i = thread; i < BM * BK; i += THREADS) {
            int at = A_ORDER == ACROSS ? i / BM : i % BK, ax = A_ORDER == ACROSS ? i % BM : i / BK;
            a[ax][at] = tile.row + ax < p.m && at < left ? a_from[ax * p.a_row + at * p.a_column] : 0.0f;
        }
#pragma unroll
        for (int i = thread; i < BK * BN; i += THREADS) {
            int bt = B_ORDER == ACROSS ? i / BN : i % BK, bx = B_ORDER == ACROSS ? i % BN : i / BK;
            b[bt][bx] = tile.column + bx < p.n && bt < left ? b_from[bt * p.b_row + bx * p.b_column] : 0.0f;
        }
        a_from += BK * p.a_column;
        b_from += BK * p.b_row;
        __syncthreads();

// (of all at once the assembler loads so much ahead that registers run out)
#pragma unroll 2
        for (int t = 0; t < BK; ++t) {
            float column[TM], row[TN];
#pragma unroll
            for (int i = 0; i < TM; ++i) column[i] = a[y + i][t];
#pragma unroll
            for (int j = 0; j < TN; ++j) row[j] = b[t][x + j];
#pragma unroll
            for (int i = 0; i < TM; ++i)
#pragma unroll
                for (int j = 0; j < TN; ++j) sums[i][j] += column[i] * row[j];
        }
        __syncthreads();
    }

#pragma unroll 1
    for (int pass = 0, turn = 1; pass < TM; ++pass, turn *= 2) {
#pragma unroll
        for (int i = 0; i < TM; ++i)
            if (turn >> i & 1)
#pragma unroll
                for (int j = 0; j < TN; ++j) rows[y / TM][x + j] = sums[i][j];
        __syncthreads();
        finish_rows<BM / TM, BN, THREADS>(p, rows, tile.column, [&](int i) { return tile.row + i * TM + pass; });
        __syncthreads();
    }
}
