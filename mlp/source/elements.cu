// What is done to every element by itself, where no product does it: the bias, activations and their derivatives.
//
//     add_bias             Z, b, rows, width       Z <- Z + b in every row
//     activation           Z, Y, count, function   Y <- f(Z); Y may be Z
//     activation_backward  dY, Z or Y, count, function   dY <- dY * f', from what the function takes it from
//
// The functions are those of gemm/cuda/source/finish.cuh, which ends every product.
#include "words.cuh"
#include "../../gemm/cuda/source/finish.cuh"

extern "C" __global__ void __launch_bounds__(THREADS) add_bias(const Words words) {
    Stored *z = array<Stored>(words, 1);
    const Stored *bias = array<Stored>(words, 2);
    long long width = words.at[4], count = words.at[3] * width;
    for (long long at = first_of_mine(); at < count; at += threads_in_all())
        z[at] = Stored(Number(z[at]) + Number(bias[at % width]));
}

extern "C" __global__ void __launch_bounds__(THREADS) activation(const Words words) {
    const Stored *z = array<Stored>(words, 1);
    Stored *y = array<Stored>(words, 2);
    long long count = words.at[3];
    int function = (int)words.at[4];
    for (long long at = first_of_mine(); at < count; at += threads_in_all())
        y[at] = Stored(activated(function, Number(z[at])));
}

extern "C" __global__ void __launch_bounds__(THREADS) activation_backward(const Words words) {
    Stored *g = array<Stored>(words, 1);
    const Stored *from = array<Stored>(words, 2);
    long long count = words.at[3];
    int function = (int)words.at[4];
    for (long long at = first_of_mine(); at < count; at += threads_in_all())
        g[at] = Stored(Number(g[at]) * slope(function, Number(from[at])));
}
