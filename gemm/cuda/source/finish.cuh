// What is done with a sum once it is complete: alpha, beta, bias, activation or its derivative. Every rung ends so.
#pragma once
#include "product.cuh"

// Activations as gemm/epilogue.py defines them; NaN stays NaN.
__device__ inline float activated(int function, float z) {
    switch (function) {
    case RELU: return z > 0 || z != z ? z : 0.0f;
    case LEAKY_RELU: return z > 0 || z != z ? z : 0.01f * z;
    case TANH: return tanhf(z);
    case SIGMOID: {  // exp of what is not above 0 never overflows
        float e = expf(-fabsf(z));
        return (z < 0 ? e : 1.0f) / (1.0f + e);
    }
    case GELU: return z * (0.5f * erfcf(z * -0.70710678f));
    default: return z;
    }
}

// f' from y = f(z); for GELU from z itself.
__device__ inline float slope(int function, float y) {
    switch (function) {
    case RELU: return y > 0 ? 1.0f : 0.0f;
    case LEAKY_RELU: return y > 0 ? 1.0f : 0.01f;
    case TANH: return 1.0f - y * y;
    case SIGMOID: return y * (1.0f - y);
    case GELU: return 0.5f * erfcf(y * -0.70710678f) + y * expf(-0.5f * y * y) * 0.39894228f;
    default: return 1.0f;
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
