// Updates: how a gradient changes the weights. mlp/optimizers.py has the rules and what the settings are.
//
//     sgd, momentum, adagrad, rmsprop, adam   W, dW, two arrays of state (or 0), settings, count, whether W is a bias
//     hold                                    settings, then their numbers themselves
//
// The settings (double) lie on the device, so that a step that was captured once may run with others: `hold` puts them
// there, in the order of the stream, and nobody waits for it. The factors that a rule makes of them are made in double,
// once in each block.
#include "words.cuh"

enum { LR = 0, DECAY = 1, EPS = 2, STEP = 6, SPARED = 7, SETTINGS = 8 };

extern "C" __global__ void __launch_bounds__(THREADS) hold(const Words words) {
    if (threadIdx.x < SETTINGS) array<double>(words, 1)[threadIdx.x] = words.number[2 + threadIdx.x];
}

struct Update {
    Stored *w, *first, *second;
    const Stored *dw;
    const double *settings;
    long long count;
    double decay;  // none of a bias, where the settings spare biases
};

__device__ inline Update update_of(const Words &words) {
    Update u;
    u.w = array<Stored>(words, 1), u.dw = array<Stored>(words, 2);
    u.first = array<Stored>(words, 3), u.second = array<Stored>(words, 4);
    u.settings = array<double>(words, 5), u.count = words.at[6];
    u.decay = words.at[7] != 0 && u.settings[SPARED] != 0 ? 0.0 : u.settings[DECAY];
    return u;
}

// W <- (1 - lr decay) W - lr dW
extern "C" __global__ void __launch_bounds__(THREADS) sgd(const Words words) {
    Update u = update_of(words);
    Number lr = Number(u.settings[LR]), kept = Number(1 - u.settings[LR] * u.decay);
    for (long long at = first_of_mine(); at < u.count; at += threads_in_all())
        u.w[at] = Stored(kept * Number(u.w[at]) - lr * Number(u.dw[at]));
}

// V <- mu V + g, g = dW + decay W; W <- W - lr V, or, Nesterov's, W - lr (g + mu V)
extern "C" __global__ void __launch_bounds__(THREADS) momentum(const Words words) {
    Update u = update_of(words);
    Number lr = Number(u.settings[LR]), decay = Number(u.decay), mu = Number(u.settings[2]);
    bool nesterov = u.settings[3] != 0;
    Number own = nesterov ? Number(1) : Number(0), far = nesterov ? mu : Number(1);
    for (long long at = first_of_mine(); at < u.count; at += threads_in_all()) {
        Number w = u.w[at], g = Number(u.dw[at]) + decay * w, v = mu * Number(u.first[at]) + g;
        u.first[at] = Stored(v);
        u.w[at] = Stored(w - lr * (own * g + far * v));
    }
}

// S <- S + g^2, g = dW + decay W; W <- W - lr g / (sqrt S + eps)
extern "C" __global__ void __launch_bounds__(THREADS) adagrad(const Words words) {
    Update u = update_of(words);
    Number lr = Number(u.settings[LR]), decay = Number(u.decay), eps = Number(u.settings[EPS]);
    for (long long at = first_of_mine(); at < u.count; at += threads_in_all()) {
        Number w = u.w[at], g = Number(u.dw[at]) + decay * w, s = Number(u.first[at]) + g * g;
        u.first[at] = Stored(s);
        u.w[at] = Stored(w - lr * g / (sqrt(s) + eps));
    }
}

// S <- rho S + (1 - rho) g^2, g = dW + decay W; W <- W - lr g / (sqrt S + eps)
extern "C" __global__ void __launch_bounds__(THREADS) rmsprop(const Words words) {
    Update u = update_of(words);
    Number lr = Number(u.settings[LR]), decay = Number(u.decay), eps = Number(u.settings[EPS]);
    Number rho = Number(u.settings[3]), rest = Number(1 - u.settings[3]);
    for (long long at = first_of_mine(); at < u.count; at += threads_in_all()) {
        Number w = u.w[at], g = Number(u.dw[at]) + decay * w, s = rho * Number(u.first[at]) + rest * g * g;
        u.first[at] = Stored(s);
        u.w[at] = Stored(w - lr * g / (sqrt(s) + eps));
    }
}

// M <- b1 M + (1 - b1) g, V <- b2 V + (1 - b2) g^2; W <- W - lr (M / c1) / (sqrt(V / c2) + eps), c = 1 - b^t.
//
// g = dW + decay W; or, decoupled (settings[5] is 1, AdamW), g = dW and W <- (1 - lr decay) W first. Or (2), epsilon
// hat, W <- W - lr sqrt(c2) / c1 M / (sqrt V + eps).
extern "C" __global__ void __launch_bounds__(THREADS) adam(const Words words) {
    __shared__ Number factors[8];
    enum { G_DECAY, KEPT, ADAM_EPS, RATE, ROOT };
    Update u = update_of(words);
    double b1 = u.settings[3], b2 = u.settings[4], form = u.settings[5];
    if (threadIdx.x == 0) {
        double lr = u.settings[LR], t = u.settings[STEP], c1 = 1 - pow(b1, t), c2 = 1 - pow(b2, t);
        factors[G_DECAY] = form == 1 ? Number(0) : Number(u.decay);
        factors[KEPT] = form == 1 ? Number(1 - lr * u.decay) : Number(1);
        factors[ADAM_EPS] = Number(u.settings[EPS]);
        factors[RATE] = form == 2 ? Number(lr * sqrt(c2) / c1) : Number(lr / c1);
        factors[ROOT] = form == 2 ? Number(1) : Number(1 / sqrt(c2));
    }
    __syncthreads();
    Number decay = factors[G_DECAY], kept = factors[KEPT], eps = factors[ADAM_EPS];
    Number rate = factors[RATE], root = factors[ROOT];
    Number mean = Number(b1), rest = Number(1 - b1), spread = Number(b2), others = Number(1 - b2);
    for (long long at = first_of_mine(); at < u.count; at += threads_in_all()) {
        Number w = u.w[at], g = Number(u.dw[at]) + decay * w;
        Number m = mean * Number(u.first[at]) + rest * g, v = spread * Number(u.second[at]) + others * g * g;
        u.first[at] = Stored(m);
        u.second[at] = Stored(v);
        u.w[at] = Stored(kept * w - rate * m / (sqrt(v) * root + eps));
    }
}
