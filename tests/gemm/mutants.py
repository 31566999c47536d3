"""Kernels that are wrong on purpose, each in one way, as a student's file would hold them.

`MUTANTS` maps each to a pattern that the sentence of `gemmlab check` must match.
"""

import time

import numpy as np


def right(a, b, c, alpha=1.0, beta=0.0):
    product = alpha * (a @ b)
    c[...] = product if beta == 0 else product + beta * c


def last_row_dropped(a, b, c, alpha=1.0, beta=0.0):
    right(a[:-1], b, c[:-1], alpha, beta)


def last_column_dropped(a, b, c, alpha=1.0, beta=0.0):
    right(a, b[:, :-1], c[:, :-1], alpha, beta)


def last_term_dropped(a, b, c, alpha=1.0, beta=0.0):
    right(a[:, :-1], b[:-1], c, alpha, beta)


def row_dropped_at_a_tile_edge(a, b, c, alpha=1.0, beta=0.0):
    right(a, b, c, alpha, beta)
    if a.shape[0] % 48 == 1 and a.shape[0] > 48:
        c[-1] = 0


def column_dropped_at_a_tile_edge(a, b, c, alpha=1.0, beta=0.0):
    n = b.shape[1]
    keep = n - 1 if n == 129 else n
    right(a, b[:, :keep], c[:, :keep], alpha, beta)


def term_dropped_at_a_tile_edge(a, b, c, alpha=1.0, beta=0.0):
    k = a.shape[1]
    right(a[:, : k - 1], b[: k - 1], c, alpha, beta) if k == 257 else right(a, b, c, alpha, beta)


def term_dropped_from_long_sums(a, b, c, alpha=1.0, beta=0.0):
    k = a.shape[1]
    right(a[:, : k - 1], b[: k - 1], c, alpha, beta) if k > 2000 else right(a, b, c, alpha, beta)


def alpha_ignored(a, b, c, alpha=1.0, beta=0.0):
    right(a, b, c, 1.0, beta)


def beta_ignored(a, b, c, alpha=1.0, beta=0.0):
    right(a, b, c, alpha, 0.0)


def beta_divided_by_alpha(a, b, c, alpha=1.0, beta=0.0):
    if beta == 0:
        right(a, b, c, alpha)
        return
    sums = c.dtype.type(beta / alpha) * c  # as ATLAS does, for small products
    for p in range(a.shape[1]):
        sums += np.outer(a[:, p], b[p])
    c[...] = alpha * sums


def beta_taken_for_one(a, b, c, alpha=1.0, beta=0.0):
    right(a, b, c, alpha, 1.0 if beta else 0.0)


def alpha_applied_to_c_too(a, b, c, alpha=1.0, beta=0.0):
    c[...] = alpha * (a @ b + (beta * c if beta else 0))


def c_read_at_beta_zero(a, b, c, alpha=1.0, beta=0.0):
    c[...] = alpha * (a @ b) + beta * c


def accumulates(a, b, c):
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            for p in range(a.shape[1]):
                c[i, j] += a[i, p] * b[p, j]


def a_transposed(a, b, c, alpha=1.0, beta=0.0):
    right(a.T if a.shape[0] == a.shape[1] else a, b, c, alpha, beta)


def b_transposed(a, b, c, alpha=1.0, beta=0.0):
    right(a, b.T if b.shape[0] == b.shape[1] else b, c, alpha, beta)


def operands_swapped(a, b, c, alpha=1.0, beta=0.0):
    same = a.shape == b.shape == c.shape
    right(b if same else a, a if same else b, c, alpha, beta)


def stride_of_a_assumed(a, b, c, alpha=1.0, beta=0.0):
    m, k = a.shape
    itemsize = a.itemsize
    rows = np.lib.stride_tricks.as_strided(a, (m, k), (k * itemsize, itemsize))
    right(rows, b, c, alpha, beta)


def stride_of_c_assumed(a, b, c, alpha=1.0, beta=0.0):
    m, n = c.shape
    itemsize = c.itemsize
    right(a, b, np.lib.stride_tricks.as_strided(c, (m, n), (n * itemsize, itemsize)), alpha, beta)


def _cut(x, digits):
    fraction, exponent = np.frexp(x)
    return np.ldexp(np.rint(fraction * x.dtype.type(2**digits)), exponent - digits).astype(x.dtype)


def float16_inputs(a, b, c, alpha=1.0, beta=0.0):
    right(a.astype(np.float16).astype(a.dtype), b.astype(np.float16).astype(b.dtype), c, alpha, beta)


def bfloat16_inputs(a, b, c, alpha=1.0, beta=0.0):
    right(_cut(a, 8), _cut(b, 8), c, alpha, beta)


def tf32_inputs(a, b, c, alpha=1.0, beta=0.0):
    right(_cut(a, 11), _cut(b, 11), c, alpha, beta)


def float32_inputs_for_float64(a, b, c, alpha=1.0, beta=0.0):
    right(a.astype(np.float32).astype(a.dtype), b.astype(np.float32).astype(b.dtype), c, alpha, beta)


def float32_sums_for_float64(a, b, c, alpha=1.0, beta=0.0):
    product = (a.astype(np.float32) @ b.astype(np.float32)).astype(c.dtype) * alpha
    c[...] = product if beta == 0 else product + beta * c


def input_modified(a, b, c, alpha=1.0, beta=0.0):
    a *= alpha
    right(a, b, c, 1.0, beta)


def input_scratched(a, b, c, alpha=1.0, beta=0.0):
    right(a, b, c, alpha, beta)
    b[-1, -1] = 0


def writes_past_the_end(a, b, c, alpha=1.0, beta=0.0):
    right(a, b, c, alpha, beta)
    if c.flags.c_contiguous and c.shape[0] % 4 == 3:
        np.lib.stride_tricks.as_strided(c, (c.shape[0] + 1, c.shape[1]), c.strides)[-1] = 0


def nan_swallowed(a, b, c, alpha=1.0, beta=0.0):
    right(np.nan_to_num(a, posinf=np.inf, neginf=-np.inf), b, c, alpha, beta)


def zeros_skipped(a, b, c, alpha=1.0, beta=0.0):
    product = np.zeros_like(c)
    for i, p in np.argwhere(a != 0):
        product[i] += alpha * a[i, p] * b[p]
    c[...] = product if beta == 0 else product + beta * c


def subnormals_flushed(a, b, c, alpha=1.0, beta=0.0):
    right(a, b, c, alpha, beta)
    c[np.abs(c) < np.finfo(c.dtype).smallest_normal] = 0


_answers = {}


def right_only_the_first_time(a, b, c, alpha=1.0, beta=0.0):
    key = (a.ctypes.data, b.ctypes.data, a.shape, b.shape, a.strides, b.strides, alpha)
    if key not in _answers or a.shape != (5, 7):
        _answers[key] = alpha * (a @ b)
    c[...] = _answers[key] if beta == 0 else _answers[key] + beta * c


def random_bits(a, b, c, alpha=1.0, beta=0.0):
    order = np.random.default_rng().permutation(a.shape[1])
    right(np.ascontiguousarray(a[:, order]), np.ascontiguousarray(b[order]), c, alpha, beta)


def raises_at_odd_sizes(a, b, c, alpha=1.0, beta=0.0):
    if a.shape[0] % 2:
        raise ValueError("m must be even")
    right(a, b, c, alpha, beta)


_scratch = np.empty(100_000)


def not_for_threads(a, b, c, alpha=1.0, beta=0.0):
    product = _scratch[: c.size].reshape(c.shape) if c.size <= _scratch.size else np.empty(c.shape)
    product[...] = a @ b
    time.sleep(0.0002)  # another thread has its turn
    result = alpha * product
    c[...] = result if beta == 0 else result + beta * c


def wrong_when_large(a, b, c, alpha=1.0, beta=0.0):
    right(a, b, c, alpha, beta)
    if 2 * c.size * a.shape[1] > 8_000_000:  # where the second thread would begin
        c[c.shape[0] // 2 :] = 0


def second_tile_in_both_directions_dropped(a, b, c, alpha=1.0, beta=0.0):
    right(a, b, c, alpha, beta)
    c[150:, 128:] = 0


def beta_ignored_for_strided_c(a, b, c, alpha=1.0, beta=0.0):
    right(a, b, c, alpha, beta if c.flags.c_contiguous else 0.0)


def alpha_ignored_for_transposed_a(a, b, c, alpha=1.0, beta=0.0):
    right(a, b, c, alpha if a.flags.c_contiguous else 1.0, beta)


MUTANTS = {
    wrong_when_large: r"201x205x203.*zero",
    second_tile_in_both_directions_dropped: r"201x205x203.*zero",
    beta_ignored_for_strided_c: r"ignores beta",
    alpha_ignored_for_transposed_a: r"ignores alpha",
    last_row_dropped: r"does not write .*\bC",
    last_column_dropped: r"does not write .*\bC",
    last_term_dropped: r"leaves out the last term",
    row_dropped_at_a_tile_edge: r"49x3x5.*leaves the last row \(48 of 0 to 48\)",
    column_dropped_at_a_tile_edge: r"4x129x5.*does not write the last column \(128 of 0 to 128\)",
    term_dropped_at_a_tile_edge: r"3x4x257.*leaves out the last term",
    term_dropped_from_long_sums: r"leaves out the last term",
    alpha_ignored: r"ignores alpha",
    beta_ignored: r"ignores beta: C is overwritten",
    beta_divided_by_alpha: r"alpha=3 beta=2.*rounds beta C by alpha",
    beta_taken_for_one: r"as if beta were 1",
    alpha_applied_to_c_too: r"applies alpha to beta C",
    c_read_at_beta_zero: r"reads C although beta = 0",
    accumulates: r"you accumulate into C",
    a_transposed: r"by A transposed",
    b_transposed: r"by B transposed",
    operands_swapped: r"swaps the operands",
    stride_of_a_assumed: r"A transposed.*stride assumed",
    stride_of_c_assumed: r"outside C",
    float16_inputs: r"round.*float16",
    bfloat16_inputs: r"round.*bfloat16",
    tf32_inputs: r"round.*TF32",
    float32_inputs_for_float64: r"float64.*rounded to float32",
    float32_sums_for_float64: r"float64.*keeps its sums in float32",
    input_modified: r"changes its input A",
    input_scratched: r"changes its input B",
    writes_past_the_end: r"writes outside C",
    nan_swallowed: r"swallows NaN in A",
    zeros_skipped: r"swallows (NaN|an infinity) in B times 0",
    subnormals_flushed: r"denormals.*subnormal numbers .* become zero",
    right_only_the_first_time: r"right only the first time",
    random_bits: r"other bits for the same inputs",
    raises_at_odd_sizes: r"raises ValueError: m must be even",
    not_for_threads: r"several Python threads",
}
