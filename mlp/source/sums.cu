// Sums: of a matrix's columns (the bias's derivative), and of squares (a penalty on the weights).
//
//     column_sums     dZ, db, batch, outputs, then   5  sums of a block's rows (chunks x outputs numbers)
//                                                    6  blocks that have arrived (unsigned) at each group of columns
//                                                    7  columns of a block, a power of two   8  chunks of the rows
//     sum_of_squares  W, sum (double), count, then   4  a double for each block   5  blocks that have arrived
//
// Column sums: a block takes a chunk of the rows of a group of columns, neighbouring threads neighbouring columns; the
// last block of a group adds up the chunks in their order.
#include "words.cuh"

extern "C" __global__ void __launch_bounds__(THREADS) column_sums(const Words words) {
    __shared__ Number slots[THREADS];
    const Stored *dz = array<Stored>(words, 1);
    Stored *db = array<Stored>(words, 2);
    Number *partial = array<Number>(words, 5);
    long long batch = words.at[3], outputs = words.at[4];
    int columns = (int)words.at[7], chunks = (int)words.at[8], rows = THREADS / columns;
    long long column = (long long)blockIdx.x * columns + threadIdx.x % columns;
    long long chunk = (batch + chunks - 1) / chunks, first = blockIdx.y * chunk;
    long long end = first + chunk < batch ? first + chunk : batch;

    Number sum = 0;
    if (column < outputs)
#pragma unroll 8
        for (long long row = first + threadIdx.x / columns; row < end; row += rows)
            sum += Number(dz[row * outputs + column]);
    slots[threadIdx.x] = sum;
    __syncthreads();
    for (int half = THREADS / 2; half >= columns; half /= 2) {  // down to one row of threads
        if (threadIdx.x < half) slots[threadIdx.x] += slots[threadIdx.x + half];
        __syncthreads();
    }
    bool mine = threadIdx.x < columns && column < outputs;
    if (chunks == 1) {
        if (mine) db[column] = Stored(slots[threadIdx.x]);
        return;
    }
    if (mine) partial[blockIdx.y * outputs + column] = slots[threadIdx.x];
    if (!last(array<unsigned>(words, 6) + blockIdx.x, gridDim.y) || !mine) return;
    sum = 0;
    for (int at = 0; at < chunks; ++at) sum += partial[at * outputs + column];
    db[column] = Stored(sum);
}

extern "C" __global__ void __launch_bounds__(THREADS) sum_of_squares(const Words words) {
    const Stored *w = array<Stored>(words, 1);
    long long count = words.at[3];
    double own = 0, total;
    for (long long at = first_of_mine(); at < count; at += threads_in_all()) {
        double number = double(Number(w[at]));
        own += number * number;
    }
    if (sum_of_all(own, array<double>(words, 4), array<unsigned>(words, 5), total)) *array<double>(words, 2) = total;
}
