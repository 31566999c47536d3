// From registers to C. What each thread holds is not what should be written together.
#pragma once
#include "finish.cuh"

// Whether sums can go from registers to C, four neighbours in 16 bytes at a time, with nothing but alpha and beta done to
// them. Otherwise they take the way through shared memory (finish_rows).
template <typename P>
__device__ inline bool direct(const P &p) {
    bool plain = !p.bias && !p.kept && !p.from && p.function == IDENTITY;
    bool wide = p.c_column == 1 && p.c_row % 4 == 0 && p.n % 4 == 0 && reinterpret_cast<unsigned long long>(p.c) % 16 == 0;
    return plain && wide;
}

// C[row, column .. column + 3] of a C that is `direct`; the column is a multiple of 4.
template <typename P>
__device__ inline void store4(const P &p, int row, int column, float x, float y, float z, float w) {
    if (row >= p.m || column >= p.n) return;
    float4 *c = reinterpret_cast<float4 *>(p.c + row * p.c_row + column);
    float4 value = {p.alpha * x, p.alpha * y, p.alpha * z, p.alpha * w};
    if (p.beta != 0) {
        float4 old = *c;
        value.x += p.beta * old.x, value.y += p.beta * old.y, value.z += p.beta * old.z, value.w += p.beta * old.w;
    }
    *c = value;
}

// Some rows of a tile of C, gathered in shared memory: threads finish neighbours in a row together, whoever computed
// them. One loop, so that the code of all activations is there once and not for each of a thread's sums.
// row_of(i) is the row of C that the i-th row of `sums` belongs to.
template <int rows, int columns, int threads, typename P, typename RowOf>
__device__ inline void finish_rows(const P &p, const float (*sums)[columns], int first_column, RowOf row_of) {
#pragma unroll 1
    for (int i = threadIdx.x; i < rows * columns; i += threads) {
        int row = row_of(i / columns), column = first_column + i % columns;
        if (row < p.m && column < p.n) finish(p, row, column, sums[i / columns][i % columns]);
    }
}
