// cuda-shared: a block fetches tiles of A and B once, for all its threads.
//
//                  B: BLOCK x BLOCK tiles, downwards          The rung below reads each number of A and B from
//                     [ ]                                     the caches once for every element of C that needs
//                     [t]                                     it. Here the 32 x 32 threads of a block copy a tile
//                     [ ]                                     of each into shared memory, one number apiece, and
//      A: [ ][t][ ]   [C]  <- this block's 32 x 32 of C       use every number 32 times: k / 32 trips to memory
//                                                             each instead of k.
//
// Threads copy in the direction in which the operand lies in memory (A_ORDER, B_ORDER), so that a transposed one costs
// no more. The tiles are a column wider than they need be: 32 numbers below each other then lie in 32 different banks.
//
// Not yet run on a GPU.
#include "finish.cuh"
#include "tiles.cuh"

#ifndef BLOCK
#define BLOCK 32
#endif
#ifndef A_ORDER
#define A_ORDER ALONG
#endif
#ifndef B_ORDER
#define B_ORDER ACROSS
#endif
static_assert(BLOCK > 0 && BLOCK <= 32, "a block has at most 1024 threads");

extern "C" __global__ void __launch_bounds__(BLOCK * BLOCK) gemm(const Product<float, float> p) {
    __shared__ float a[BLOCK][BLOCK + 1], b[BLOCK][BLOCK + 1];
    Corner tile = corner<BLOCK, BLOCK>(p.m, p.n);
    int x = threadIdx.x, y = threadIdx.y;

    float sum = 0;
    for (int first = 0; first < p.k; first += BLOCK) {
        int ax = A_ORDER == ACROSS ? x : y, at = A_ORDER == ACROSS ? y : x;
        int bx = B_ORDER == ACROSS ? x : y, bt = B_ORDER == ACROSS ? y : x;
        int row = tile.row + ax, column = tile.column + bx;
        bool a_inside = row < p.m && first + at < p.k, b_inside = column < p.n && first + bt < p.k;
        a[ax][at] = a_inside ? p.a[row * p.a_row + (first + at) * p.a_column] : 0.0f;
        b[bt][bx] = b_inside ? p.b[(first + bt) * p.b_row + column * p.b_column] : 0.0f;
        __syncthreads();  // the tiles are complete

#pragma unroll
        for (int t = 0; t < BLOCK; ++t) sum += a[y][t] * b[t][x];
        __syncthreads();  // nobody reads them any more
    }
    if (tile.row + y < p.m && tile.column + x < p.n) finish(p, tile.row + y, tile.column + x, sum);
}
