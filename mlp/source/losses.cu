// Losses: the mean over the batch, and its derivative by Z. Words as in mlp/compiled.py, and besides
//
//     7  the share of each row (double), in sum 1; 0: 1 / batch each    `weighted` of mlp/compiled.py is this here
//     8  a double for each block       9  blocks that have arrived (unsigned), 0 at first
//    10  of softmax_cross_entropy, the threads that share a row, a power of two
//
// The value is of the type that is computed with. It is summed in double: on a batch of 4096 float would lose digits.
#include "words.cuh"

// log(1 + e^z) - t z, without overflow or cancellation
struct Logistic {
    __device__ static double loss(Number z, Number t, Number &derivative) {
        Number e = exp(-fabs(z));
        derivative = (z >= 0 ? Number(1) : e) / (Number(1) + e) - t;
        return double(log1p(e) + (z > 0 ? z : Number(0)) - t * z) + 0 * z;
    }
};

// 1/2 (z - t)^2
struct SquaredError {
    __device__ static double loss(Number z, Number t, Number &derivative) {
        derivative = z - t;
        return double(derivative * derivative) / 2;
    }
};

// max(0, 1 - t z); NaN stays NaN
struct Hinge {
    __device__ static double loss(Number z, Number t, Number &derivative) {
        Number apart = Number(1) - t * z;
        derivative = apart > 0 ? -t : Number(0);
        return apart < 0 ? 0.0 : double(apart);
    }
};

// t log(t / e^z) - t + e^z, in double: small differences of large terms
struct Poisson {
    __device__ static double loss(Number z, Number t, double &derivative) {
        double mean = exp(double(z)), seen = t;
        derivative = mean - seen;
        return derivative - seen * double(z) + (seen > 0 ? seen * log(seen) : 0.0);  // 0 log 0 is 0
    }
};

// A loss that is a sum over elements.
template <typename Each, typename Derivative = Number> __device__ inline void over_elements(const Words &words) {
    const Stored *z = array<Stored>(words, 1), *t = array<Stored>(words, 2);
    Stored *dz = array<Stored>(words, 3);
    const double *shares = array<double>(words, 7);
    long long batch = words.at[5], outputs = words.at[6];
    double own = 0, total;
    for (long long at = first_of_mine(); at < batch * outputs; at += threads_in_all()) {
        double share = shares ? shares[at / outputs] : 1.0 / batch;
        Derivative derivative;
        own += share * Each::loss(Number(z[at]), Number(t[at]), derivative);
        dz[at] = Stored(Number(derivative * Derivative(share)));
    }
    if (sum_of_all(own, array<double>(words, 8), array<unsigned>(words, 9), total)) *array<Number>(words, 4) = Number(total);
}

extern "C" __global__ void __launch_bounds__(THREADS) logistic(const Words words) { over_elements<Logistic>(words); }
extern "C" __global__ void __launch_bounds__(THREADS) squared_error(const Words words) { over_elements<SquaredError>(words); }
extern "C" __global__ void __launch_bounds__(THREADS) hinge(const Words words) { over_elements<Hinge>(words); }
extern "C" __global__ void __launch_bounds__(THREADS) poisson(const Words words) { over_elements<Poisson, double>(words); }

// log sum exp z - z[label]. A label that is no output makes the loss NaN: the host has not looked at labels that came
// on the device.
extern "C" __global__ void __launch_bounds__(THREADS) softmax_cross_entropy(const Words words) {
    __shared__ Number slots[THREADS];
    const Stored *z = array<Stored>(words, 1);
    const long long *labels = array<long long>(words, 2);
    Stored *dz = array<Stored>(words, 3);
    const double *shares = array<double>(words, 7);
    long long batch = words.at[5], outputs = words.at[6];
    int lanes = (int)words.at[10], lane = threadIdx.x % lanes;
    long long row = (long long)blockIdx.x * (THREADS / lanes) + threadIdx.x / lanes;
    bool there = row < batch;
    long long start = there ? row * outputs : 0, end = there ? outputs : 0;

    Number most = there ? Number(z[start]) : Number(0);
    for (long long j = lane; j < end; j += lanes) most = Larger::of(most, Number(z[start + j]));
    most = together<Larger>(most, lanes, slots);
    Number sum = 0;
    for (long long j = lane; j < end; j += lanes) sum += exp(Number(z[start + j]) - most);
    sum = together<Add>(sum, lanes, slots);

    double own = 0, total;
    if (there) {
        double share = shares ? shares[row] : 1.0 / batch;
        Number scale = Number(share / sum), each = Number(share);
        long long label = labels[row];
        for (long long j = lane; j < outputs; j += lanes) {
            Number derivative = exp(Number(z[start + j]) - most) * scale;
            dz[start + j] = Stored(j == label ? derivative - each : derivative);
        }
        if (lane == 0) {
            bool known = label >= 0 && label < outputs;
            double right = known ? double(Number(z[start + label]) - most) : 0.0;
            own = known ? share * (log(double(sum)) - right) : 0.0 / 0.0;
        }
    }
    if (sum_of_all(own, array<double>(words, 8), array<unsigned>(words, 9), total)) *array<Number>(words, 4) = Number(total);
}
