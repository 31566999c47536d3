// cuda-coalesced: neighbouring threads are neighbouring columns of C.
//
// That is all: threadIdx.x and threadIdx.y have changed places. The 32 threads of a warp now read one number of A, which
// the memory hands to all of them at once, and 32 neighbours of B, which it fetches together: two requests of 128 bytes
// where the rung below made 33. The same holds for what they write.
//
// Not yet run on a GPU.
#include "finish.cuh"
#include "tiles.cuh"

#ifndef BLOCK
#define BLOCK 32
#endif
static_assert(BLOCK > 0 && BLOCK <= 32, "a block has at most 1024 threads");

extern "C" __global__ void __launch_bounds__(BLOCK * BLOCK) gemm(const Product<float, float> p) {
    Corner tile = corner<BLOCK, BLOCK>(p.m, p.n);
    int row = tile.row + threadIdx.y;
    int column = tile.column + threadIdx.x;
    if (row >= p.m || column >= p.n) return;

    float sum = 0;
    for (int t = 0; t < p.k; ++t)
        sum += p.a[row * p.a_row + t * p.a_column] * p.b[t * p.b_row + column * p.b_column];
    finish(p, row, column, sum);
}
