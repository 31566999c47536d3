// What every rung is handed: C <- alpha A B + beta C, then the epilogue. See gemm/contract.py.
//
// A is m x k, B is k x n, C is m x n, each with a stride between rows and one between columns, in elements: a
// transposed operand is the same memory with the two exchanged. m, n, k >= 1; C shares no memory with A or B.
#pragma once

// The layout is mirrored by gemm/cuda/product.py, which checks its size against product_bytes.
enum Function : int { IDENTITY = 0, RELU = 1, LEAKY_RELU = 2, TANH = 3, SIGMOID = 4, GELU = 5 };

template <typename In, typename Out>
struct Product {
    const In *a, *b;
    Out *c;
    long long a_row, a_column, b_row, b_column, c_row, c_column;
    const Out *bias;   // n numbers, or null
    Out *kept;         // m x n: receives Z, before the activation; or null
    const Out *from;   // m x n: what the derivative is taken from; or null
    long long bias_step, kept_row, kept_column, from_row, from_column;
    int m, n, k;
    int function;      // a Function: of Z, or, where `from` is given, the one whose derivative C is multiplied by
    float alpha, beta;
};

static_assert(sizeof(Product<float, float>) == 160, "gemm/cuda/product.py says 160 bytes");
