// Softmax as an activation, and its derivative: an output depends on its whole row.
//
//     softmax           Z, Y, rows, width, lanes     Y <- e^Z over the sum of its row; Y may be Z
//     softmax_backward  dY, Y, rows, width, lanes    dY <- Y * (dY - the row's sum of dY * Y)
//
// lanes: the threads that share a row, a power of two up to THREADS.
#include "words.cuh"

struct Row {
    long long start, width;
    int lane, lanes;
    bool there;
};

__device__ inline Row row_of(const Words &words) {
    Row row;
    row.lanes = (int)words.at[5];
    row.lane = threadIdx.x % row.lanes;
    long long at = (long long)blockIdx.x * (THREADS / row.lanes) + threadIdx.x / row.lanes;
    row.there = at < words.at[3];
    row.start = row.there ? at * words.at[4] : 0;
    row.width = row.there ? words.at[4] : 0;
    return row;
}

extern "C" __global__ void __launch_bounds__(THREADS) softmax(const Words words) {
    __shared__ Number slots[THREADS];
    const Stored *z = array<Stored>(words, 1);
    Stored *y = array<Stored>(words, 2);
    Row row = row_of(words);
    Number most = row.there ? Number(z[row.start]) : Number(0);
    for (long long j = row.lane; j < row.width; j += row.lanes) most = Larger::of(most, Number(z[row.start + j]));
    most = together<Larger>(most, row.lanes, slots);
    Number sum = 0;
    for (long long j = row.lane; j < row.width; j += row.lanes) sum += exp(Number(z[row.start + j]) - most);
    Number share = Number(1) / together<Add>(sum, row.lanes, slots);
    for (long long j = row.lane; j < row.width; j += row.lanes)
        y[row.start + j] = Stored(exp(Number(z[row.start + j]) - most) * share);
}

extern "C" __global__ void __launch_bounds__(THREADS) softmax_backward(const Words words) {
    __shared__ Number slots[THREADS];
    Stored *g = array<Stored>(words, 1);
    const Stored *y = array<Stored>(words, 2);
    Row row = row_of(words);
    Number sum = 0;
    for (long long j = row.lane; j < row.width; j += row.lanes) sum += Number(g[row.start + j]) * Number(y[row.start + j]);
    sum = together<Add>(sum, row.lanes, slots);
    for (long long j = row.lane; j < row.width; j += row.lanes)
        g[row.start + j] = Stored(Number(y[row.start + j]) * (Number(g[row.start + j]) - sum));
}
