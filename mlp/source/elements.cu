// What is done to every element by itself, where no product does it: the bias, activations and their derivatives.
//
//     add_bias             Z, b, rows, width            Z <- Z + b in every row
//     bias_activation      Z, b, kept, Y, rows, width, function   Y <- f(Z + b), kept <- Z + b (unless it is 0)
//     activation           Z, Y, count, function        Y <- f(Z); Y may be Z
//     activation_backward  dY, Z or Y, count, function  dY <- dY * f', from what the function takes it from
//
// The functions are those of gemm/cuda/source/finish.cuh, which ends every product. A thread moves 16 bytes at once
// where arrays and rows begin on 16 bytes: with fewer on their way the memory would not be busy.
#include "words.cuh"
#include "../../gemm/cuda/source/finish.cuh"

// N numbers that lie side by side.
template <int N> struct alignas(N * sizeof(Stored)) Run {
    Stored of[N];
};
constexpr int PACKED = 16 / sizeof(Stored);

// Whether arrays (the bitwise or of their addresses) and rows of so many numbers begin on 16 bytes.
__device__ inline bool packed(long long addresses, long long width) {
    return (addresses | width * (long long)sizeof(Stored)) % 16 == 0;
}

// FUNCTION: the activation, or -1 where it is only known from the words.
template <int N, int FUNCTION>
__device__ inline void with_bias(const Words &words, int z_at, int bias_at, int kept_at, int y_at, int rows_at, int given) {
    const Run<N> *z = array<Run<N>>(words, z_at), *bias = array<Run<N>>(words, bias_at);
    Run<N> *kept = kept_at ? array<Run<N>>(words, kept_at) : nullptr, *y = array<Run<N>>(words, y_at);
    long long columns = words.at[rows_at + 1] / N, count = words.at[rows_at] * columns;
    long long column = first_of_mine() % columns, step = threads_in_all() % columns;
    int function = FUNCTION < 0 ? given : FUNCTION;
    for (long long at = first_of_mine(); at < count; at += threads_in_all()) {
        Run<N> sums = z[at], more = bias[column], active;
#pragma unroll
        for (int i = 0; i < N; ++i) {
            Number sum = Number(sums.of[i]) + Number(more.of[i]);
            sums.of[i] = Stored(sum);
            active.of[i] = Stored(activated(function, sum));
        }
        if (kept) kept[at] = sums;
        y[at] = active;
        column += step;
        if (column >= columns) column -= columns;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) add_bias(const Words words) {
    if (packed(words.at[1] | words.at[2], words.at[4])) with_bias<PACKED, IDENTITY>(words, 1, 2, 0, 1, 3, 0);
    else with_bias<1, IDENTITY>(words, 1, 2, 0, 1, 3, 0);
}

extern "C" __global__ void __launch_bounds__(THREADS) bias_activation(const Words words) {
    int function = (int)words.at[7];
    bool whole = packed(words.at[1] | words.at[2] | words.at[3] | words.at[4], words.at[6]);
    if (whole && function == RELU) with_bias<PACKED, RELU>(words, 1, 2, 3, 4, 5, function);
    else if (whole) with_bias<PACKED, -1>(words, 1, 2, 3, 4, 5, function);
    else with_bias<1, -1>(words, 1, 2, 3, 4, 5, function);
}

template <int N, int FUNCTION> __device__ inline void forward(const Words &words, int given) {
    const Run<N> *z = array<Run<N>>(words, 1);
    Run<N> *y = array<Run<N>>(words, 2);
    long long count = words.at[3] / N;
    int function = FUNCTION < 0 ? given : FUNCTION;
    for (long long at = first_of_mine(); at < count; at += threads_in_all()) {
        Run<N> own = z[at];
#pragma unroll
        for (int i = 0; i < N; ++i) own.of[i] = Stored(activated(function, Number(own.of[i])));
        y[at] = own;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) activation(const Words words) {
    int function = (int)words.at[4];
    bool whole = packed(words.at[1] | words.at[2], words.at[3]);
    if (whole && function == RELU) forward<PACKED, RELU>(words, function);
    else if (whole) forward<PACKED, -1>(words, function);
    else forward<1, -1>(words, function);
}

template <int N, int FUNCTION> __device__ inline void backward(const Words &words, int given) {
    Run<N> *g = array<Run<N>>(words, 1);
    const Run<N> *from = array<Run<N>>(words, 2);
    long long count = words.at[3] / N;
    int function = FUNCTION < 0 ? given : FUNCTION;
    for (long long at = first_of_mine(); at < count; at += threads_in_all()) {
        Run<N> own = g[at], seen = from[at];
#pragma unroll
        for (int i = 0; i < N; ++i) own.of[i] = Stored(Number(own.of[i]) * slope(function, Number(seen.of[i])));
        g[at] = own;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) activation_backward(const Words words) {
    int function = (int)words.at[4];
    bool whole = packed(words.at[1] | words.at[2], words.at[3]);
    if (whole && function == RELU) backward<PACKED, RELU>(words, function);
    else if (whole) backward<PACKED, -1>(words, function);
    else backward<1, -1>(words, function);
}
