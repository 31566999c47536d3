"""Diagnosis: what a wrong C tells about the kernel that wrote it.

A wrong result is compared with what each of the well-known mistakes would have given. Where one matches
exactly, the sentence names it; where none does, it says which part of C is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from gemm.dtypes import DIGITS, accumulator, low, roundoff, smallest_normal
from gemm.problems import Problem

Made = tuple[str, Callable[[], np.ndarray]]


def explain(
    problem: Problem,
    a: np.ndarray,
    b: np.ndarray,
    c0: np.ndarray,
    c: np.ndarray,
    expected: np.ndarray,
    with_zeros: np.ndarray | None = None,
) -> str:
    """A sentence about a wrong result on integers, where every mistake shows exactly.

    with_zeros  the result for the same operands over a C of zeros, where beta = 0 and c began as NaN
    """
    a, b, c0, c = (np.asarray(x, np.float64) for x in (a, b, c0, c))
    return _explain(problem, a, b, c0, c, expected, with_zeros) + _views(problem)


def _explain(
    problem: Problem,
    a: np.ndarray,
    b: np.ndarray,
    c0: np.ndarray,
    c: np.ndarray,
    expected: np.ndarray,
    with_zeros: np.ndarray | None,
) -> str:
    if with_zeros is not None and np.isnan(c).any():
        if np.array_equal(with_zeros, expected):
            return "reads C although beta = 0: NaN in C survives (you accumulate into C; write it, or zero it first)"
        untouched = np.isnan(c)
        if np.array_equal(np.where(untouched, expected, c), expected):
            return f"does not write {_where(untouched)} of C"
        c = np.asarray(with_zeros, np.float64)  # NaN hides more than it shows
    for sentence, make in _mistakes(problem, a, b, c0):
        with np.errstate(all="ignore"):
            made = make()
        if (
            made.shape == c.shape
            and np.array_equal(made, c, equal_nan=True)
            and not np.array_equal(made, expected)
        ):
            return sentence
    wrong = c != expected
    if not c[wrong].any():
        return f"leaves {_where(wrong)} of C zero"
    dropped = _dropped_terms(problem, a, b, c, expected)
    if dropped:
        return dropped
    size = np.abs(problem.alpha) * (np.abs(a) @ np.abs(b)) + np.abs(problem.beta * c0)
    once = 16 * roundoff(accumulator(problem.dtype)) * size
    if problem.alpha != 1 and problem.beta != 0 and (np.abs(c - expected) <= once).all():
        return (
            "rounds beta C by alpha: exact integers come out inexact (as alpha (A B + (beta / alpha) C) does)"
        )
    if (np.abs(c - expected) <= 2.0**-20 * (np.abs(a) @ np.abs(b))).all():
        digits = "float32" if problem.dtype == "float64" else "fewer bits than float32 has"
        return f"keeps its sums in {digits}: integers that {problem.dtype} holds exactly come out rounded"
    return f"is wrong in {_where(wrong)} of C"


def explain_precision(
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    expected: np.ndarray,
    problem: Problem,
    digits: int | None = None,
) -> str:
    """What a result that is nearly right says about the arithmetic; starts with ": " or is empty.

    digits  those of the operands that the kernel says it multiplies (`Kernel.digits`): fewer are a finding
    """
    a, b, c, expected = (np.asarray(x, np.float64) for x in (a, b, c, expected))
    if np.isnan(c).any() and not np.isnan(expected).any():
        return f": NaN in {_where(np.isnan(c))} of C"
    smallest = smallest_normal(problem.dtype)
    lost = (c == 0) & (expected != 0) & (np.abs(expected) < smallest)
    if lost.any() and np.abs(c - expected)[~lost].max(initial=0.0) < smallest:
        return f": subnormal numbers (below {smallest:.2g}) become zero"
    scale = np.abs(a) @ np.abs(b)
    sums = (problem.k + 2) * scale
    into = 2 * roundoff(problem.dtype) * np.abs(c) if low(problem.dtype) else 0.0  # C itself has few bits
    slack = 4 * roundoff(accumulator(problem.dtype)) * sums + into
    for name, cut in _roundings(problem, digits):
        with np.errstate(all="ignore"):
            if (np.abs(cut(a) @ cut(b) - c) <= slack).all():
                return f": its inputs are rounded to {name} before they are multiplied"
    if low(problem.dtype) and (np.abs(c - expected) <= roundoff(problem.dtype) * sums + into).all():
        return f": its sums are kept in fewer bits than float32 has (in {problem.dtype}?)"
    with np.errstate(all="ignore"):
        off = float(np.nanmax(np.abs(c - expected) / np.where(scale > 0, scale, 1), initial=0.0))
    if 0 < off < 2.0**-6:
        return f": about {int(-np.log2(off))} bits of the significand are right"
    wrong = c != expected
    return f": wrong in {_where(wrong)} of C" if wrong.any() and not wrong.all() else ""


def rounded(x: np.ndarray, digits: int) -> np.ndarray:
    """x with its significands rounded to `digits` bits (8: bfloat16, 11: TF32 and float16, 24: float32)."""
    fraction, exponent = np.frexp(np.asarray(x, np.float64))
    return np.ldexp(np.rint(np.ldexp(fraction, digits)), exponent - digits)


def cut_off(x: np.ndarray, digits: int) -> np.ndarray:
    """x without the bits of its significands behind the first `digits`."""
    fraction, exponent = np.frexp(np.asarray(x, np.float64))
    return np.ldexp(np.trunc(np.ldexp(fraction, digits)), exponent - digits)


def special_values(problem: Problem) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Operands with one NaN or infinity: (what and where, A, B)."""
    m, n, k = problem.m, problem.n, problem.k
    for value, name in ((np.nan, "NaN"), (np.inf, "an infinity"), (-np.inf, "an infinity")):
        for i, p, j in ((0, 0, 0), (m - 1, k - 1, n - 1), (m // 2, k // 2, n // 2)):
            a, b, _ = problem.operands()
            a[i, p] = value
            yield f"{name} in A", a, b
            b[p, j] = 0  # NaN and infinity times 0 are NaN: a product that skips zeros loses them
            yield f"{name} in A times 0", a, b
            a, b, _ = problem.operands()
            b[p, j] = value
            yield f"{name} in B", a, b
            a[i, p] = 0
            yield f"{name} in B times 0", a, b


def _roundings(
    problem: Problem, digits: int | None = None
) -> Iterator[tuple[str, Callable[[np.ndarray], np.ndarray]]]:
    """What operands of this dtype are rounded to by mistake: all that has fewer bits than the kernel multiplies."""
    bits = min(digits or 53, DIGITS[problem.dtype])
    if bits > 24:
        yield "float32 (24 bits of significand)", lambda x: rounded(x, 24)
    if bits > 11:
        yield "11 bits of significand, as TF32 and float16 have", lambda x: rounded(x, 11)
        yield (
            "float16 (11 bits of significand, nothing above 65504)",
            lambda x: np.asarray(x).astype("f2").astype("f8"),
        )
        yield "11 bits of significand (cut off, as tensor cores do to make TF32)", lambda x: cut_off(x, 11)
    if bits > 8:
        yield "bfloat16 (8 bits of significand)", lambda x: rounded(x, 8)
        yield "bfloat16 (8 bits of significand, the others cut off)", lambda x: cut_off(x, 8)


def _mistakes(problem: Problem, a: np.ndarray, b: np.ndarray, c0: np.ndarray) -> Iterator[Made]:
    m, n, k, alpha, beta = problem.m, problem.n, problem.k, problem.alpha, problem.beta
    kept = beta * c0 if beta else np.zeros((m, n))
    yield "leaves C as it was", lambda: c0
    yield "writes nothing but zeros", lambda: np.zeros((m, n))
    if alpha != 1:
        yield "ignores alpha", lambda: a @ b + kept
        yield "applies alpha twice", lambda: alpha * alpha * (a @ b) + kept
        yield "applies alpha to beta C as well", lambda: alpha * (a @ b + kept)
    if beta:
        yield "ignores beta: C is overwritten", lambda: alpha * (a @ b)
    if beta not in (0, 1):
        yield "ignores beta: C is added as it is (as if beta were 1)", lambda: alpha * (a @ b) + c0
        yield "applies beta to the product as well", lambda: beta * (alpha * (a @ b) + c0)
    if beta and alpha != 1:
        yield "ignores alpha and beta", lambda: a @ b
    if m == k and m > 1:
        yield "multiplies by A transposed (A^T B in place of A B)", lambda: alpha * (a.T @ b) + kept
    if k == n and n > 1:
        yield "multiplies by B transposed (A B^T in place of A B)", lambda: alpha * (a @ b.T) + kept
    if m == k == n and m > 1:
        yield "swaps the operands (B A in place of A B)", lambda: alpha * (b @ a) + kept
        yield "transposes both operands (A^T B^T)", lambda: alpha * (a.T @ b.T) + kept
    if m == n and m > 1:
        yield "returns the result transposed", lambda: (alpha * (a @ b)).T + kept
    if m == n == k:
        yield "multiplies element by element", lambda: alpha * a * b + kept
    for name, cut in _roundings(problem):
        yield f"rounds its inputs to {name}", partial(_with_rounded_inputs, cut, a, b, alpha, kept)


def _with_rounded_inputs(
    cut: Callable[[np.ndarray], np.ndarray], a: np.ndarray, b: np.ndarray, alpha: float, kept: np.ndarray
) -> np.ndarray:
    return alpha * (cut(a) @ cut(b)) + kept


def _dropped_terms(
    problem: Problem, a: np.ndarray, b: np.ndarray, c: np.ndarray, expected: np.ndarray
) -> str:
    """Some of the k terms of the sums left out, or counted twice."""
    k, missing = problem.k, expected - c
    where = np.argwhere(missing != 0)
    rows, columns = np.unique(where[:, 0]), np.unique(where[:, 1])
    part = np.ix_(rows, columns)
    for count in range(1, min(k, 300) + 1):
        tail = problem.alpha * (a[rows, k - count :] @ b[k - count :, columns])
        if np.array_equal(tail, missing[part]):
            what = "the last term" if count == 1 else f"the last {count} terms"
            return f"leaves out {what} of the sums (k = {k}){_part(rows, columns, problem)}"
    for p in range(min(k, 5000)):
        term = problem.alpha * np.outer(a[rows, p], b[p, columns])
        if np.array_equal(term, missing[part]):
            return f"leaves out term {p} of the sums (k = {k}){_part(rows, columns, problem)}"
        if np.array_equal(-term, missing[part]):
            return f"counts term {p} of the sums twice (k = {k}){_part(rows, columns, problem)}"
    return ""


def _part(rows: np.ndarray, columns: np.ndarray, problem: Problem) -> str:
    return (
        ""
        if (len(rows), len(columns)) == (problem.m, problem.n)
        else f", in {len(rows)} x {len(columns)} of C"
    )


def _where(wrong: np.ndarray) -> str:
    """Which part of C a mask covers, in words."""
    m, n = wrong.shape
    rows, columns = np.flatnonzero(wrong.any(axis=1)), np.flatnonzero(wrong.any(axis=0))
    if wrong.all():
        return "all"
    if len(columns) == n and wrong[rows].all():
        return _named("row", rows, m)
    if len(rows) == m and wrong[:, columns].all():
        return _named("column", columns, n)
    i, j = np.argwhere(wrong)[0]
    return f"{int(wrong.sum())} of {wrong.size} elements (the first at [{i}, {j}])"


def _named(what: str, which: np.ndarray, size: int) -> str:
    if len(which) == 1:
        last = f"the last {what} " if which[0] == size - 1 and size > 1 else f"{what} "
        return f"{last}({which[0]} of 0 to {size - 1})" if last.startswith("the") else f"{what} {which[0]}"
    if np.array_equal(which, np.arange(size - len(which), size)):
        return f"the last {len(which)} {what}s"
    return f"{len(which)} of {size} {what}s (the first is {which[0]})"


def _views(problem: Problem) -> str:
    """What is special about the operands' memory, where anything is."""
    stored = [f"{x} transposed" for x, op in (("A", problem.op_a), ("B", problem.op_b)) if op == "t"]
    if problem.strides != "contiguous":
        kinds = {
            "padded": "padded rows",
            "every-second": "every second element",
            "reversed": "negative strides",
        }
        stored.append(kinds[problem.strides])
    return f"; the operands are views ({', '.join(stored)}): is a stride assumed, not read?" if stored else ""
