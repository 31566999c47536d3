// finish.cuh for a run of N neighbouring columns of one row: read and written as one vector where memory allows it.
#pragma once
#include "finish.cuh"

// The activation that this kernel is compiled for; -1: any, looked up in Product for each element.
#ifndef FUNCTION
#define FUNCTION -1
#endif

template <int N, typename T> struct alignas(N * sizeof(T)) Run {
    T at[N];
};

template <int N, typename T>
__device__ inline bool lies_in_runs(const T *first, long long row_step, long long column_step) {
    return column_step == 1 && row_step % N == 0 && (unsigned long long)first % sizeof(Run<N, T>) == 0;
}

template <int N, typename T> __device__ inline Run<N, T> read_run(const T *at, long long step, bool whole, int count) {
    Run<N, T> run;
    if (whole) return *reinterpret_cast<const Run<N, T> *>(at);
#pragma unroll
    for (int i = 0; i < N; ++i) run.at[i] = i < count ? at[i * step] : T(0.0f);
    return run;
}

template <int N, typename T>
__device__ inline void write_run(T *at, long long step, bool whole, int count, const float (&z)[N]) {
    Run<N, T> run;
#pragma unroll
    for (int i = 0; i < N; ++i) run.at[i] = T(z[i]);
    if (whole) {
        *reinterpret_cast<Run<N, T> *>(at) = run;
    } else {
#pragma unroll
        for (int i = 0; i < N; ++i)
            if (i < count) at[i * step] = run.at[i];
    }
}

// Which arrays lie in whole runs of N, that is, in rows that begin on a run's boundary. Asked once by a kernel.
struct InRuns {
    bool c, bias, kept, from;
};
template <int N, typename In, typename Out> __device__ inline InRuns in_runs(const Product<In, Out> &p) {
    return {lies_in_runs<N>(p.c, p.c_row, p.c_column), lies_in_runs<N>(p.bias, 0, p.bias_step),
            lies_in_runs<N>(p.kept, p.kept_row, p.kept_column), lies_in_runs<N>(p.from, p.from_row, p.from_column)};
}

// C[row, column .. column + N) from the sums over k, as finish() does it; column is a multiple of N. What lies over the
// edge of C is left alone.
template <int N, typename In, typename Out>
__device__ inline void finish_run(const Product<In, Out> &p, const InRuns &in_runs, int row, int column, const float (&sum)[N]) {
    if (row >= p.m || column >= p.n) return;
    const int function = FUNCTION < 0 ? p.function : FUNCTION, count = p.n - column;
    const bool whole = count >= N;

    float z[N];
    Out *c = p.c + row * p.c_row + column * p.c_column;
#pragma unroll
    for (int i = 0; i < N; ++i) z[i] = p.alpha * sum[i];
    if (p.beta != 0) {
        Run<N, Out> old = read_run<N>((const Out *)c, p.c_column, whole && in_runs.c, count);
#pragma unroll
        for (int i = 0; i < N; ++i) z[i] += p.beta * float(old.at[i]);
    }
    if (p.from) {
        const Out *at = p.from + row * p.from_row + column * p.from_column;
        Run<N, Out> from = read_run<N>(at, p.from_column, whole && in_runs.from, count);
#pragma unroll
        for (int i = 0; i < N; ++i) z[i] *= slope(function, float(from.at[i]));
    } else {
        if (p.bias) {
            Run<N, Out> bias = read_run<N>(p.bias + column * p.bias_step, p.bias_step, whole && in_runs.bias, count);
#pragma unroll
            for (int i = 0; i < N; ++i) z[i] += float(bias.at[i]);
        }
        if (p.kept) {
            Out *kept = p.kept + row * p.kept_row + column * p.kept_column;
            write_run<N>(kept, p.kept_column, whole && in_runs.kept, count, z);
        }
#pragma unroll
        for (int i = 0; i < N; ++i) z[i] = activated(function, z[i]);
    }
    write_run<N>(c, p.c_column, whole && in_runs.c, count, z);
}

// Four lanes hold, of a row of 32 columns, pairs: lane t the columns 8 j + 2 t and the next, j = 0..3. They trade until lane t
// holds columns 8 t .. 8 t + 8: a 4 x 4 transposition, first across neighbouring lanes, then across pairs of them.
//
//     lane 0: 00 08 16 24          00 02 04 06            (numbers: the first column of a pair)
//     lane 1: 02 10 18 26    ->    08 10 12 14
//     lane 2: 04 12 20 28          16 18 20 22
//     lane 3: 06 14 22 30          24 26 28 30
//
// A pair is PARTS numbers: two floats, or both columns in one.
template <int PARTS, typename T> __device__ inline void trade(T (&x)[4 * PARTS], int lane) {
#pragma unroll
    for (int bit = 1; bit <= 2; bit *= 2) {
        bool upper = lane & bit;
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            if (j & bit) continue;
#pragma unroll
            for (int i = 0; i < PARTS; ++i) {
                T &low = x[PARTS * j + i], &high = x[PARTS * (j + bit) + i];
                T got = from_lane(upper ? low : high, bit);
                (upper ? low : high) = got;
            }
        }
    }
}

// Whether a block's C of ROWS x COLUMNS is alpha times the sums and nothing else, all of it inside a C in runs of 8. For such a
// tile finish_run would ask a dozen questions, and jump over what it does not need, for every eight columns.
template <int ROWS, int COLUMNS, typename In, typename Out>
__device__ inline bool only_scaled(const Product<In, Out> &p, const InRuns &in_runs, int row, int column) {
    const int function = FUNCTION < 0 ? p.function : FUNCTION;
    const bool plain = function == IDENTITY && p.beta == 0 && !p.from && !p.bias && !p.kept;
    return plain && in_runs.c && p.m - row >= ROWS && p.n - column >= COLUMNS;
}

// A warp's C of 16 x N as mma and wgmma leave it, of 16-bit elements: eight columns to a lane, then finished. `scaled` is what
// only_scaled says of the block.
template <int N, typename In, typename Out>
__device__ inline void finish_warp(const Product<In, Out> &p, const InRuns &in_runs, bool scaled, int row, int column, const float (&sum)[N / 8][4], int lane) {
    static_assert(N % 32 == 0, "four lanes share 32 columns");
    if (scaled) {
        Out *c = p.c + (row + lane / 4) * p.c_row + column + 8 * (lane % 4);
#pragma unroll
        for (int j = 0; j < N / 8; j += 4) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                Run<4, unsigned> pairs;  // rounded first: half as much to trade
#pragma unroll
                for (int i = 0; i < 4; ++i)
                    pairs.at[i] = pair<Out>(p.alpha * sum[j + i][2 * half], p.alpha * sum[j + i][2 * half + 1]);
                trade<1>(pairs.at, lane);
                *reinterpret_cast<Run<4, unsigned> *>(c + 8 * half * p.c_row + 8 * j) = pairs;
            }
        }
        return;
    }
#pragma unroll
    for (int j = 0; j < N / 8; j += 4) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float x[8];
#pragma unroll
            for (int i = 0; i < 8; ++i) x[i] = sum[j + i / 2][2 * half + i % 2];
            trade<2>(x, lane);
            finish_run<8>(p, in_runs, row + lane / 4 + 8 * half, column + 8 * j + 8 * (lane % 4), x);
        }
    }
}
