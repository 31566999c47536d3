// cuda-naive: one thread for each element of C, three numbers in, one out.
//
// Neighbouring threads (threadIdx.x) are neighbouring rows of C, as one would write it first. In a warp every thread
// then reads another row of A: 32 lines of memory for 32 numbers, of each of which the rest is thrown away.
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
    int row = tile.row + threadIdx.x;
    int column = tile.column + threadIdx.y;
    if (row >= p.m || column >= p.n) return;

    float sum = 0;
    for (int t = 0; t < p.k; ++t)
        sum += p.a[row * p.a_row + t * p.a_column] * p.b[t * p.b_row + column * p.b_column];
    finish(p, row, column, sum);
}
