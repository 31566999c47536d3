// What is done with a sum once it is complete: alpha, beta, bias, activation or its derivative. Every rung ends so.
#pragma once
#include "product.cuh"

// Activations as gemm/epilogue.py defines them, of a float or a double; NaN stays NaN.
template <typename Number>
__device__ inline Number activated(int function, Number z) {
    switch (function) {
    case RELU: return z > 0 || z != z ? z : Number(0);
    case LEAKY_RELU: return z > 0 || z != z ? z : Number(0.01) * z;
    case TANH: return tanh(z);
    case SIGMOID: {  // exp of what is not above 0 never overflows
        Number e = exp(-fabs(z));
        return (z < 0 ? e : Number(1)) / (Number(1) + e);
    }
    case GELU: return z * (Number(0.5) * erfc(z * Number(-0.70710678118654752)));
    default: return z;
    }
}

// f' from y = f(z); for GELU from z itself.
template <typename Number>
__device__ inline Number slope(int function, Number y) {
    switch (function) {
    case RELU: return y > 0 ? Number(1) : Number(0);
    case LEAKY_RELU: return y > 0 ? Number(1) : Number(0.01);
    case TANH: return Number(1) - y * y;
    case SIGMOID: return y * (Number(1) - y);
    case GELU:
        return Number(0.5) * erfc(y * Number(-0.70710678118654752)) +
               y * exp(Number(-0.5) * y * y) * Number(0.39894228040143268);
    default: return Number(1);
    }
}

// C[row, column] from the sum over k. C is not read where beta is 0.
template <typename In, typename Out>
__device__ inline void finish(const Product<In, Out> &p, int row, int column, float sum) {
    Out *c = p.c + row * p.c_row + column * p.c_column;
    float z = p.alpha * sum;
    if (p.beta != 0) z += p.beta * float(*c);
    if (p.from) {
        z *= slope(p.function, float(p.from[row * p.from_row + column * p.from_column]));
    } else {
        if (p.bias) z += float(p.bias[column * p.bias_step]);
        if (p.kept) p.kept[row * p.kept_row + column * p.kept_column] = Out(z);
        z = activated(p.function, z);
    }
    *c = Out(z);
}
