// Rows of a layer's own: a convolution's windows and a recurrent layer's steps; and a mini-batch's, out of all examples.
// One thread, one number that is written.
//
//     im2col, col2im   X, rows, batch, and a window's height, width, channels, size, stride, padding
//     transpose        X (batch x steps x features), rows (steps x batch x features), batch, steps, features
//     take_rows        X, which rows (long long), out, how many, width
#include "words.cuh"

struct Window {
    long long batch, height, width, channels, size, stride, padding, down, across, seen;
};

__device__ inline Window window_of(const Words &words) {
    Window w;
    w.batch = words.at[3], w.height = words.at[4], w.width = words.at[5], w.channels = words.at[6];
    w.size = words.at[7], w.stride = words.at[8], w.padding = words.at[9];
    w.down = (w.height + 2 * w.padding - w.size) / w.stride + 1;
    w.across = (w.width + 2 * w.padding - w.size) / w.stride + 1;
    w.seen = w.size * w.size * w.channels;
    return w;
}

// The row of a place holds what the window sees there, row by row, a channel beside the other; beside the image, 0.
extern "C" __global__ void __launch_bounds__(THREADS) im2col(const Words words) {
    const Stored *x = array<Stored>(words, 1);
    Stored *rows = array<Stored>(words, 2);
    Window w = window_of(words);
    long long count = w.batch * w.down * w.across * w.seen;
    for (long long at = first_of_mine(); at < count; at += threads_in_all()) {
        long long within = at % w.seen, place = at / w.seen;
        long long channel = within % w.channels, v = within / w.channels % w.size, u = within / (w.channels * w.size);
        long long j = place % w.across, i = place / w.across % w.down, b = place / (w.across * w.down);
        long long top = i * w.stride - w.padding + u, left = j * w.stride - w.padding + v;
        bool inside = top >= 0 && top < w.height && left >= 0 && left < w.width;
        rows[at] = inside ? x[((b * w.height + top) * w.width + left) * w.channels + channel] : Stored(Number(0));
    }
}

// The same, back: every number of X gets the sum of what the rows hold of it, place by place.
extern "C" __global__ void __launch_bounds__(THREADS) col2im(const Words words) {
    Stored *x = array<Stored>(words, 1);
    const Stored *rows = array<Stored>(words, 2);
    Window w = window_of(words);
    long long count = w.batch * w.height * w.width * w.channels;
    for (long long at = first_of_mine(); at < count; at += threads_in_all()) {
        long long channel = at % w.channels, left = at / w.channels % w.width;
        long long top = at / (w.channels * w.width) % w.height, b = at / (w.channels * w.width * w.height);
        // the first place whose window reaches so far, and the last that begins so early
        long long low_i = (top + w.padding - w.size + w.stride) / w.stride, high_i = (top + w.padding) / w.stride;
        long long low_j = (left + w.padding - w.size + w.stride) / w.stride, high_j = (left + w.padding) / w.stride;
        if (top + w.padding < w.size) low_i = 0;
        if (left + w.padding < w.size) low_j = 0;
        if (high_i >= w.down) high_i = w.down - 1;
        if (high_j >= w.across) high_j = w.across - 1;
        Number sum = 0;
        for (long long i = low_i; i <= high_i; ++i)
            for (long long j = low_j; j <= high_j; ++j) {
                long long u = top + w.padding - i * w.stride, v = left + w.padding - j * w.stride;
                sum += Number(rows[((b * w.down + i) * w.across + j) * w.seen + (u * w.size + v) * w.channels + channel]);
            }
        x[at] = Stored(sum);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) transpose(const Words words) {
    const Stored *x = array<Stored>(words, 1);
    Stored *rows = array<Stored>(words, 2);
    long long batch = words.at[3], steps = words.at[4], features = words.at[5];
    for (long long at = first_of_mine(); at < batch * steps * features; at += threads_in_all()) {
        long long feature = at % features, b = at / features % batch, t = at / (features * batch);
        rows[at] = x[(b * steps + t) * features + feature];
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) take_rows(const Words words) {
    const Stored *x = array<Stored>(words, 1);
    const long long *which = array<long long>(words, 2);
    Stored *out = array<Stored>(words, 3);
    long long width = words.at[5], count = words.at[4] * width;
    for (long long at = first_of_mine(); at < count; at += threads_in_all())
        out[at] = x[which[at / width] * width + at % width];
}
