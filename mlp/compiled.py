"""The half of a step that does not multiply, compiled: losses, sums, updates, moves, each one pass over its arrays.

NumPy makes a pass, and often a temporary, of every arithmetic sign; for a small network its calls alone cost more than
the products. A function here takes the address of its arguments as 64-bit words: first the bytes of an element (which
says whether they are float32 or float64), then addresses and sizes. What changes between steps, as a learning rate
does, is read from an array of float64 (an optimizer's settings) each time.

All of it is one file: Numba's cache notices an edit of a function's own file only, not of one that it calls elsewhere
(for what `gemm` has, its cache is named after all of that room).
"""

from __future__ import annotations

import math

from numba import carray, float32, float64, int64
from numba.extending import register_jitable

from gemm.micro.finish import exp_minus, gelu_slope
from gemm.micro.finish import gelu as gelu_of
from gemm.micro.memory import as_number, call_at, get, pointer, put, rounded


def outside(labels, outputs):
    """The first row whose label is not in 0 .. outputs - 1, or -1."""
    for row in range(len(labels)):
        if labels[row] < 0 or labels[row] >= outputs:
            return row
    return -1


@register_jitable
def _numbers(words, at, count, one):
    """The array whose address is word `at`."""
    return carray(pointer(get(words, at), one), count)


@register_jitable
def _run(words, which, start, count, one):
    """So many of its numbers from `start` on: counted from 0, which the compiler can make vectors of."""
    return carray(pointer(get(words, which) + start * get(words, 0), one), count)


@register_jitable
def _setting(words, which, one):
    """A number of the settings, whose address is word 5, in the dtype of `one`."""
    return as_number(get(get(words, 5), which), one)


@register_jitable
def _exactly(words, which):
    """The same as it stands, in float64."""
    return as_number(get(get(words, 5), which), float64(1))


@register_jitable
def _decay(words):
    """The weight decay in float64: none of a bias (word 7), where the settings spare biases."""
    spared = get(words, 7) != 0 and _exactly(words, 7) != 0
    return 0.0 if spared else _exactly(words, 1)


# Losses


def softmax_cross_entropy(words):
    """Z, labels (int64), dZ, value, batch, outputs: the mean of log sum exp z - z[y], and its derivative by Z."""
    if get(words, 0) == 4:
        _softmax_cross_entropy(words, float32(1))
    else:
        _softmax_cross_entropy(words, float64(1))


@register_jitable
def _softmax_cross_entropy(words, one):
    batch, outputs = get(words, 5), get(words, 6)
    z, dz = _numbers(words, 1, batch * outputs, one), _numbers(words, 3, batch * outputs, one)
    labels, value = carray(pointer(get(words, 2), int64(1)), batch), _numbers(words, 4, 1, one)
    total, each = 0.0, rounded(1.0 / batch, one)
    for i in range(batch):
        at = i * outputs
        most = z[at]
        for j in range(at + 1, at + outputs):
            most = max(most, z[j])
        for j in range(at, at + outputs):
            dz[j] = z[j] - most  # no exp overflows for it
        total -= dz[at + labels[i]]
    for j in range(batch * outputs):
        dz[j] = exp_minus(dz[j])
    for i in range(batch):
        at, row = i * outputs, one - one
        for j in range(at, at + outputs):
            row += dz[j]
        total += math.log(row)
        share = rounded(1.0 / (row * batch), one)
        for j in range(at, at + outputs):
            dz[j] *= share
        dz[at + labels[i]] -= each
    value[0] = total / batch


def squared_error(words):
    """Z, targets, dZ, value, batch, outputs: the mean over the batch of 1/2 |z - t|^2."""
    if get(words, 0) == 4:
        _squared_error(words, float32(1))
    else:
        _squared_error(words, float64(1))


@register_jitable
def _squared_error(words, one):
    batch, count = get(words, 5), get(words, 5) * get(words, 6)
    z, t, dz = (
        _numbers(words, 1, count, one),
        _numbers(words, 2, count, one),
        _numbers(words, 3, count, one),
    )
    value, total, share = _numbers(words, 4, 1, one), 0.0, rounded(1.0 / batch, one)
    for j in range(count):
        difference = z[j] - t[j]
        total += difference * difference
        dz[j] = difference * share
    value[0] = total / (2 * batch)


def logistic(words):
    """Z, targets (0 .. 1), dZ, value, batch, outputs: the mean over the batch of sums of log(1 + e^z) - t z."""
    if get(words, 0) == 4:
        _logistic(words, float32(1))
    else:
        _logistic(words, float64(1))


@register_jitable
def _logistic(words, one):
    batch, count = get(words, 5), get(words, 5) * get(words, 6)
    z, t, dz = (
        _numbers(words, 1, count, one),
        _numbers(words, 2, count, one),
        _numbers(words, 3, count, one),
    )
    value, total, zero, share = _numbers(words, 4, 1, one), 0.0, one - one, rounded(1.0 / batch, one)
    for j in range(count):
        e = exp_minus(z[j])  # e^-|z|: neither half overflows or cancels
        total += math.log1p(e) + max(z[j], zero) - t[j] * z[j]
        dz[j] = ((one if z[j] >= zero else e) / (one + e) - t[j]) * share
    value[0] = total / batch


def hinge(words):
    """Z, targets (-1 or 1), dZ, value, batch, outputs: the mean over the batch of sums of max(0, 1 - t z)."""
    if get(words, 0) == 4:
        _hinge(words, float32(1))
    else:
        _hinge(words, float64(1))


@register_jitable
def _hinge(words, one):
    batch, count = get(words, 5), get(words, 5) * get(words, 6)
    z, t, dz = (
        _numbers(words, 1, count, one),
        _numbers(words, 2, count, one),
        _numbers(words, 3, count, one),
    )
    value, total, zero, share = _numbers(words, 4, 1, one), 0.0, one - one, rounded(1.0 / batch, one)
    for j in range(count):
        short = one - t[j] * z[j]
        total += zero if short < zero else short  # NaN stays NaN
        dz[j] = -t[j] * share if short > zero else zero
    value[0] = total / batch


def poisson(words):
    """Z, targets (from 0), dZ, value, batch, outputs: the mean over the batch of sums of t log(t / e^z) - t + e^z."""
    if get(words, 0) == 4:
        _poisson(words, float32(1))
    else:
        _poisson(words, float64(1))


@register_jitable
def _poisson(words, one):
    batch, count = get(words, 5), get(words, 5) * get(words, 6)
    z, t, dz = (
        _numbers(words, 1, count, one),
        _numbers(words, 2, count, one),
        _numbers(words, 3, count, one),
    )
    value, total = _numbers(words, 4, 1, one), 0.0
    for j in range(count):  # in float64: the value is small differences of large terms
        mean, seen = math.exp(float64(z[j])), float64(t[j])
        total += mean - seen * (1 + z[j])
        if seen > 0:  # 0 log 0 is 0
            total += seen * math.log(seen)
        dz[j] = rounded((mean - seen) / batch, one)
    value[0] = total / batch


def weighted(words):
    """The mean by weights of a loss, and its derivative: every row is a batch of its own, and then weighed.

    Words: the address of the loss, that of the words it reads (the first row's), weights (float64, in sum 1), bytes
    from one row's targets to the next, value, batch, outputs.
    """
    if get(words, 0) == 4:
        _weighted(words, float32(1))
    else:
        _weighted(words, float64(1))


@register_jitable
def _weighted(words, one):
    loss, row, apart, batch, outputs = (
        get(words, 1),
        get(words, 2),
        get(words, 4),
        get(words, 6),
        get(words, 7),
    )
    weights, value, total = _numbers(words, 3, batch, float64(1)), _numbers(words, 5, 1, one), 0.0
    z, targets, dz = get(row, 1), get(row, 2), get(row, 3)
    for i in range(batch):
        put(row, 1, z + i * outputs * get(words, 0))
        put(row, 2, targets + i * apart)
        put(row, 3, dz + i * outputs * get(words, 0))
        call_at(loss, row)
        total += weights[i] * _numbers(row, 4, 1, one)[0]
        derivative, weight = _numbers(row, 3, outputs, one), rounded(weights[i], one)
        for j in range(outputs):
            derivative[j] *= weight
    put(row, 1, z)
    put(row, 2, targets)
    put(row, 3, dz)
    value[0] = total


def sum_of_squares(words):
    """W, sum (float64), count: sum <- the sum of W's squares."""
    if get(words, 0) == 4:
        _sum_of_squares(words, float32(1))
    else:
        _sum_of_squares(words, float64(1))


@register_jitable
def _sum_of_squares(words, one):
    count = get(words, 3)
    w, total = _numbers(words, 1, count, one), _numbers(words, 2, 1, float64(1))
    a, b, c, d = 0.0, 0.0, 0.0, 0.0  # four sums, so that an addition need not wait for the one before
    for j in range(0, count - 3, 4):
        a += float64(w[j]) ** 2
        b += float64(w[j + 1]) ** 2
        c += float64(w[j + 2]) ** 2
        d += float64(w[j + 3]) ** 2
    for j in range(count - count % 4, count):
        a += float64(w[j]) ** 2
    total[0] = (a + b) + (c + d)


# An activation that NumPy lacks, and one that is not elementwise


def gelu(words):
    """Z, Y, count: Y <- Z Phi(Z); Y may be Z."""
    if get(words, 0) == 4:
        _gelu(words, float32(1))
    else:
        _gelu(words, float64(1))


@register_jitable
def _gelu(words, one):
    count = get(words, 3)
    z, y = _numbers(words, 1, count, one), _numbers(words, 2, count, one)
    for i in range(count):
        y[i] = gelu_of(z[i])


def gelu_backward(words):
    """dY, Z, count: dY <- dY * gelu'(Z)."""
    if get(words, 0) == 4:
        _gelu_backward(words, float32(1))
    else:
        _gelu_backward(words, float64(1))


@register_jitable
def _gelu_backward(words, one):
    count = get(words, 3)
    g, z = _numbers(words, 1, count, one), _numbers(words, 2, count, one)
    for i in range(count):
        g[i] *= gelu_slope(z[i])


def softmax(words):
    """Z, Y, rows, width: Y <- e^Z over the sum of its row; Y may be Z."""
    if get(words, 0) == 4:
        _softmax(words, float32(1))
    else:
        _softmax(words, float64(1))


@register_jitable
def _softmax(words, one):
    rows, width = get(words, 3), get(words, 4)
    z, y = _numbers(words, 1, rows * width, one), _numbers(words, 2, rows * width, one)
    for i in range(rows):
        at = i * width
        most = z[at]
        for j in range(at + 1, at + width):
            most = max(most, z[j])
        for j in range(at, at + width):
            y[j] = z[j] - most  # no exp overflows for it
    for j in range(rows * width):
        y[j] = exp_minus(y[j])
    for i in range(rows):
        at, total = i * width, one - one
        for j in range(at, at + width):
            total += y[j]
        share = one / total
        for j in range(at, at + width):
            y[j] *= share


def softmax_backward(words):
    """dY, Y, rows, width: dY <- Y * (dY - the row's sum of dY * Y)."""
    if get(words, 0) == 4:
        _softmax_backward(words, float32(1))
    else:
        _softmax_backward(words, float64(1))


@register_jitable
def _softmax_backward(words, one):
    rows, width = get(words, 3), get(words, 4)
    g, y = _numbers(words, 1, rows * width, one), _numbers(words, 2, rows * width, one)
    for i in range(rows):
        at, total = i * width, one - one
        for j in range(at, at + width):
            total += g[j] * y[j]
        for j in range(at, at + width):
            g[j] = y[j] * (g[j] - total)


# Rows of a layer's own: a window's (im2col) and a sequence's


def im2col(words):
    """X, rows, batch, and a window's height, width, channels, size, stride, padding: X is only read.

    The row of a place holds what the window sees there, row by row, a channel beside the other; beside the image, 0.
    """
    if get(words, 0) == 4:
        _windows(words, float32(1), True)
    else:
        _windows(words, float64(1), True)


def col2im(words):
    """The same, back: X <- the sum of what every row holds of each of its numbers."""
    if get(words, 0) == 4:
        _windows(words, float32(1), False)
    else:
        _windows(words, float64(1), False)


@register_jitable
def _windows(words, one, forward):
    batch, height, width, channels = get(words, 3), get(words, 4), get(words, 5), get(words, 6)
    size, stride, padding = get(words, 7), get(words, 8), get(words, 9)
    down = (height + 2 * padding - size) // stride + 1
    across = (width + 2 * padding - size) // stride + 1
    long, image = size * channels, height * width * channels
    if not forward:
        x = _numbers(words, 1, batch * image, one)
        for v in range(batch * image):
            x[v] = one - one
    at = 0
    for b in range(batch):
        for i in range(down):
            for j in range(across):
                left = j * stride - padding
                first, last = max(0, -left), min(size, width - left)
                for u in range(size):
                    top = i * stride - padding + u
                    start, low, high = b * image + (top * width + left) * channels, 0, 0
                    if 0 <= top < height:
                        low, high = first * channels, last * channels
                    seen = _run(words, 1, start + low, high - low, one)
                    if forward:
                        beside, copy = (
                            _run(words, 2, at, long, one),
                            _run(words, 2, at + low, high - low, one),
                        )
                        if high - low < long:
                            for v in range(long):
                                beside[v] = one - one
                        for v in range(high - low):
                            copy[v] = seen[v]
                    else:
                        given = _run(words, 2, at + low, high - low, one)
                        for v in range(high - low):
                            seen[v] += given[v]
                    at += long


def transpose(words):
    """X (batch x steps x features), rows (steps x batch x features), batch, steps, features."""
    if get(words, 0) == 4:
        _transpose(words, float32(1))
    else:
        _transpose(words, float64(1))


@register_jitable
def _transpose(words, one):
    batch, steps, features = get(words, 3), get(words, 4), get(words, 5)
    for t in range(steps):
        for b in range(batch):
            row = _run(words, 2, (t * batch + b) * features, features, one)
            given = _run(words, 1, (b * steps + t) * features, features, one)
            for j in range(features):
                row[j] = given[j]


# The bias's derivative


def column_sums(words):
    """dZ, db, batch, outputs: db <- the sums of dZ's columns."""
    if get(words, 0) == 4:
        _column_sums(words, float32(1))
    else:
        _column_sums(words, float64(1))


@register_jitable
def _column_sums(words, one):
    batch, outputs = get(words, 3), get(words, 4)
    dz, db = _numbers(words, 1, batch * outputs, one), _numbers(words, 2, outputs, one)
    for j in range(outputs):
        db[j] = dz[j]
    row = 1
    # Two rows, so that db is read and written half as often; with four LLVM makes no vectors of them.
    while row + 2 <= batch:
        at = row * outputs
        for j in range(outputs):
            db[j] += dz[at + j] + dz[at + outputs + j]
        row += 2
    if row < batch:
        at = row * outputs
        for j in range(outputs):
            db[j] += dz[at + j]


# Updates: W, dW, two arrays of state (or 0), settings, count, whether W is a bias. `mlp.optimizers` says what the
# settings are.


def sgd(words):
    """W <- (1 - lr decay) W - lr dW."""
    if get(words, 0) == 4:
        _sgd(words, float32(1))
    else:
        _sgd(words, float64(1))


@register_jitable
def _sgd(words, one):
    count = get(words, 6)
    w, g = _numbers(words, 1, count, one), _numbers(words, 2, count, one)
    lr, kept = _setting(words, 0, one), rounded(1 - _exactly(words, 0) * _decay(words), one)
    for j in range(count):
        w[j] = kept * w[j] - lr * g[j]


def momentum(words):
    """V <- mu V + g, g = dW + decay W; W <- W - lr V, or, Nesterov's, W - lr (g + mu V)."""
    if get(words, 0) == 4:
        _momentum(words, float32(1))
    else:
        _momentum(words, float64(1))


@register_jitable
def _momentum(words, one):
    count = get(words, 6)
    w, dw = _numbers(words, 1, count, one), _numbers(words, 2, count, one)
    v = _numbers(words, 3, count, one)
    lr, decay, mu = _setting(words, 0, one), rounded(_decay(words), one), _setting(words, 2, one)
    own, far = one - one, one
    if _exactly(words, 3) != 0:
        own, far = one, mu
    for j in range(count):
        g = dw[j] + decay * w[j]
        v[j] = mu * v[j] + g
        w[j] -= lr * (own * g + far * v[j])


def adagrad(words):
    """S <- S + g^2, g = dW + decay W; W <- W - lr g / (sqrt S + eps)."""
    if get(words, 0) == 4:
        _adagrad(words, float32(1))
    else:
        _adagrad(words, float64(1))


@register_jitable
def _adagrad(words, one):
    count = get(words, 6)
    w, dw = _numbers(words, 1, count, one), _numbers(words, 2, count, one)
    s = _numbers(words, 3, count, one)
    lr, decay, eps = _setting(words, 0, one), rounded(_decay(words), one), _setting(words, 2, one)
    for j in range(count):
        g = dw[j] + decay * w[j]
        s[j] += g * g
        w[j] -= lr * g / (math.sqrt(s[j]) + eps)


def rmsprop(words):
    """S <- rho S + (1 - rho) g^2, g = dW + decay W; W <- W - lr g / (sqrt S + eps)."""
    if get(words, 0) == 4:
        _rmsprop(words, float32(1))
    else:
        _rmsprop(words, float64(1))


@register_jitable
def _rmsprop(words, one):
    count = get(words, 6)
    w, dw = _numbers(words, 1, count, one), _numbers(words, 2, count, one)
    s = _numbers(words, 3, count, one)
    lr, decay, eps = _setting(words, 0, one), rounded(_decay(words), one), _setting(words, 2, one)
    rho, rest = _setting(words, 3, one), rounded(1 - _exactly(words, 3), one)
    for j in range(count):
        g = dw[j] + decay * w[j]
        s[j] = rho * s[j] + rest * g * g
        w[j] -= lr * g / (math.sqrt(s[j]) + eps)


def adam(words):
    """M <- b1 M + (1 - b1) g, V <- b2 V + (1 - b2) g^2; W <- W - lr (M / c1) / (sqrt(V / c2) + eps), c = 1 - b^t.

    g = dW + decay W; or, decoupled (AdamW), g = dW and W <- (1 - lr decay) W first. Or, epsilon hat,
    W <- W - lr sqrt(c2) / c1 M / (sqrt V + eps).
    """
    if get(words, 0) == 4:
        _adam(words, float32(1))
    else:
        _adam(words, float64(1))


@register_jitable
def _adam(words, one):
    count = get(words, 6)
    w, dw = _numbers(words, 1, count, one), _numbers(words, 2, count, one)
    m, v = _numbers(words, 3, count, one), _numbers(words, 4, count, one)
    lr, weight_decay, b1, b2 = _exactly(words, 0), _decay(words), _exactly(words, 3), _exactly(words, 4)
    t = _exactly(words, 6)
    decay, kept = rounded(weight_decay, one), one
    if _exactly(words, 5) == 1:
        decay, kept = one - one, rounded(1 - lr * weight_decay, one)
    eps, step = _setting(words, 2, one), rounded(lr / (1 - b1**t), one)
    root = rounded(1 / math.sqrt(1 - b2**t), one)
    if _exactly(words, 5) == 2:
        step, root = rounded(lr * math.sqrt(1 - b2**t) / (1 - b1**t), one), one
    mean, rest = rounded(b1, one), rounded(1 - b1, one)
    spread, others = rounded(b2, one), rounded(1 - b2, one)
    for j in range(count):
        g = dw[j] + decay * w[j]
        m[j] = mean * m[j] + rest * g
        v[j] = spread * v[j] + others * g * g
        w[j] = kept * w[j] - step * m[j] / (math.sqrt(v[j]) * root + eps)
