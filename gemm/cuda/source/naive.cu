// cuda-naive: one thread for each element of C, three numbers in, one out.
//
// Neighbouring threads (threadIdx.x) are neighbouring rows of C, as one would write it first. In a warp every thread
// then reads another row of A: 32 lines of memory for 32 numbers, of each of which the rest is thrown away.
#include "finish.cuh"

#ifndef BLOCK
#define BLOCK 32
#endif

extern "C" __global__ void __launch_bounds__(BLOCK * BLOCK) gemm(const Product<float, float> p) {
    int row = blockIdx.x * BLOCK + threadIdx.x;
    int column = blockIdx.y * BLOCK + threadIdx.y;
    if (row >= p.m || column >= p.n) return;

    float sum = 0;
    for (int t = 0; t < p.k; ++t)
        sum += p.a[row * p.a_row + t * p.a_column] * p.b[t * p.b_row + column * p.b_column];
    finish(p, row, column, sum);
}
