"""Right or wrong: three rules, used by the tests, by `gemmlab check` and by every timed record.

1. Rounding.  |C - C_ref| <= c u (k + 2) (|alpha| |A| |B| + |beta| |C0|) for every element (Higham, Accuracy
   and Stability of Numerical Algorithms, 2nd ed., section 3.13); u the unit roundoff of the accumulator,
   c = `Kernel.error_constant`. The largest ratio of left to right, without c, is the *error ratio*. An
   epilogue adds its own error, gradual underflow what `_underflow` says. Where C has 16 bits and the sums more, C is
   rounded once more: v |C|, v the unit roundoff of C (and once again after an epilogue). A kernel that says that it
   rounds its operands (`Kernel.multiplies`) has 2 w |alpha| |A| |B| for that, w the unit roundoff of what it
   multiplies.
2. Exact.  Products of small integers are exact: bit for bit, -0 equal to +0.
3. Full significands.  Rule 1 cannot see inputs rounded to TF32 or bfloat16 (ratio 0.1 to 0.9 at k = 4096), nor
   one term dropped from a long sum. A matrix of full-significand values times a signed selection matrix
   (one +1 or -1 per column) must come out exactly, on either side. Full is what the kernel multiplies: a kernel that
   rounds its operands to 11 bits and says so is given values of 11 bits.

The reference is extended precision (long double) while that is cheap; above, float64 BLAS, with sampled
rows and columns, the edges among them, in extended precision. Float64 products of float32 operands are
exact and their sums carry 29 bits to spare: for float32, and for 16 bits, the float64 BLAS is a reference by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gemm.dtypes import accumulator as accumulator_dtype
from gemm.dtypes import low, named, roundoff, smallest
from gemm.epilogue import Epilogue, activation, apply
from gemm.kernel import Signature
from gemm.problems import Problem, significands

EXTENDED = np.longdouble
# Multiply-adds up to which everything is done in long double: NumPy does 0.2 of them a nanosecond.
EXTENDED_WORK = 20_000_000
SAMPLED = 4  # rows and columns at each edge and in the middle, where not all are done


@dataclass(frozen=True)
class Reference:
    """The right answer and how far from it rounding may lead.

    c      (..., m, n) float64
    bound  (..., m, n) float64: the right-hand side of rule 1, without the constant
    """

    c: np.ndarray
    bound: np.ndarray


def reference(
    a: np.ndarray,
    b: np.ndarray,
    c0: np.ndarray | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 0.0,
    epilogue: Epilogue | None = None,
    accumulator: str | None = None,
    multiplies: str | None = None,
) -> Reference:
    """The reference for alpha A B + beta C0 and then the epilogue; a (m, k), b (k, n), c0 (m, n), or stacks.

    alpha, beta  as the contract takes them: rounded to the operands' dtype, for those of 16 bits to the accumulator's
    accumulator  the dtype whose unit roundoff counts; the coarser of it and the operands' is taken, unless these have
                 16 bits
    multiplies   what a kernel rounds its operands to before it multiplies them (`Kernel.multiplies`)
    """
    if a.ndim == 3:
        start = np.zeros((*a.shape[:2], b.shape[2])) if c0 is None else c0
        each = [
            reference(
                *one,
                alpha=alpha,
                beta=beta,
                epilogue=epilogue,
                accumulator=accumulator,
                multiplies=multiplies,
            )
            for one in zip(a, b, start)
        ]
        return Reference(np.stack([one.c for one in each]), np.stack([one.bound for one in each]))
    (m, k), n = a.shape, b.shape[1]
    scalars = scalar_dtype(a.dtype, accumulator)
    alpha, beta = (float(scalars.type(scalar)) for scalar in (alpha, beta))
    single = a.dtype != np.float64  # products in float64 are exact
    u = unit_roundoff(a.dtype, accumulator)
    with np.errstate(all="ignore"):
        a64, b64 = a.astype(np.float64), b.astype(np.float64)
        product = a64 @ b64
        doubt = 0.0 if single else 1.0  # float64 BLAS has errors of its own
        exact_rows = exact_columns = np.empty(0, int)
        if not single and _extended():
            if m * n * k <= EXTENDED_WORK:
                product = _extended_product(a, b)
                doubt = 0.0
            else:
                exact_rows, exact_columns = _sample(m), _sample(n)
                product[exact_rows] = _extended_product(a[exact_rows], b)
                product[:, exact_columns] = _extended_product(b[:, exact_columns].T, a.T).T
        size = abs(alpha) * (np.abs(a64) @ np.abs(b64))
        c = alpha * product
        if beta != 0 and c0 is not None:
            c += beta * c0.astype(np.float64)
            size += abs(beta) * np.abs(c0.astype(np.float64))
        bound = u * (k + 2) * size + _underflow(k, alpha, np.abs(b64), scalars)
        if multiplies is not None:
            bound += _of_rounded_operands(alpha, np.abs(a64), np.abs(b64), multiplies)
        bound += 3 * 2.0**-53 * np.abs(c)  # the reference was itself rounded: the product, alpha, beta
        if doubt:
            exact = np.zeros((m, n), bool)
            exact[exact_rows] = exact[:, exact_columns] = True
            bound[~exact] *= 1 + doubt
        right = _into(a.dtype, Reference(c, bound))
    return right if epilogue is None else finished(right, epilogue, a.dtype, accumulator)


def finished(
    right: Reference, epilogue: Epilogue, dtype: np.dtype, accumulator: str | None = None
) -> Reference:
    """The reference after an epilogue, whose own error is added to the bound (aux_out is left to the caller)."""
    with np.errstate(all="ignore"):
        after = _after(epilogue, right.c, right.bound, unit_roundoff(dtype, accumulator))
        return _into(dtype, Reference(*after))


def unit_roundoff(dtype: np.dtype, accumulator: str | None = None) -> float:
    """u of rule 1: the accumulator's, and no less than that of operands of more than 16 bits."""
    return max(
        roundoff(name) for name in (scalar_dtype(dtype, accumulator), accumulator or scalar_dtype(dtype))
    )


def scalar_dtype(dtype: np.dtype, accumulator: str | None = None) -> np.dtype:
    """What alpha and beta are rounded to: the operands' dtype, for those of 16 bits the accumulator's."""
    return named(accumulator or accumulator_dtype(dtype)) if low(dtype) else dtype


def _into(dtype: np.dtype, right: Reference) -> Reference:
    """The reference once it is rounded into a C of 16 bits; for others the rounding of C is among those of the sums."""
    if not low(dtype):
        return right
    once = roundoff(dtype) * (np.abs(right.c) + right.bound) + smallest(dtype) / 2
    return Reference(right.c, right.bound + once)


def _of_rounded_operands(alpha: float, a: np.ndarray, b: np.ndarray, multiplies: str) -> np.ndarray:
    """What rounding both operands may cost, given |A| and |B|: relatively, and where they are subnormal absolutely."""
    w, eta = roundoff(multiplies), smallest(multiplies) / 2
    lost = (2 * w + w * w) * (a @ b) + eta * (a.sum(axis=1, keepdims=True) + b.sum(axis=0))
    return abs(alpha) * lost


def _underflow(k: int, alpha: float, b: np.ndarray, dtype: np.dtype) -> float | np.ndarray:
    """The absolute part of rule 1's bound: what gradual underflow may cost, in (m, n) or the same for all.

    Higham's model with eta (section 2.8): fl(x y) = x y (1 + delta) + eta, |eta| at most half of the smallest
    subnormal number, and no eta in sums. There are k products, each then scaled by alpha; at most k partial sums
    that alpha is applied to (one for each block of k); beta C0 and the result as such: 2 more, and 2 because float64
    holds neither the reference nor this bound to less than half of its own smallest number. Unless alpha is 1 or
    -1, a kernel may as well scale A when it packs it, and the eta of an element is multiplied by the elements of B
    (of B likewise, by those of A, which are tiny where this matters).
    """
    least = smallest(dtype)  # (its half would be zero in float64)
    exact = abs(alpha) in (0.0, 1.0)
    packed = 0.0 if exact else b.sum(axis=0)
    return least * ((k * (abs(alpha) + (0 if exact else 1)) + 4 + packed) / 2)


def error_ratio(c: np.ndarray, right: Reference) -> float:
    """Rule 1's error ratio: the largest |C - C_ref| / bound; inf where NaN or Inf differ from the reference's."""
    with np.errstate(all="ignore"):
        expected = right.c.astype(c.dtype).astype(np.float64)  # overflows where C must
        found = c.astype(np.float64)
        special = ~np.isfinite(expected) | ~np.isfinite(found)
        if special.any():
            same = (np.isnan(expected) & np.isnan(found)) | (expected == found)
            if not same[special].all():
                return float("inf")
        difference = np.abs(found - right.c)
        ratios = np.divide(difference, right.bound, out=np.zeros_like(difference), where=difference > 0)
        ratios[special] = 0
    return float(ratios.max(initial=0.0))


def exactly(c: np.ndarray, expected: np.ndarray) -> bool:
    """Rules 2 and 3: every element the same number (-0 equals +0; NaN is never right).

    A C of 16 bits holds what is expected rounded once, where it cannot hold it.
    """
    if low(c.dtype):
        with np.errstate(all="ignore"):
            c, expected = c.astype(np.float64), expected.astype(c.dtype).astype(np.float64)
    return bool(np.array_equal(c, expected))


def exact_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A B of integers, in float64, where it does not round."""
    return a.astype(np.float64) @ b.astype(np.float64)


def integers_agree(a: np.ndarray, b: np.ndarray, c: np.ndarray, seed: int = 0) -> bool:
    """Rule 2 for large products without a second product (Freivalds 1979): C x = A (B x) for random x.

    Of a stack, all at once. Computed modulo 2^64, where nothing rounds: a wrong element passes with a chance of
    at most one in 2^11 per vector (its error is below 2^53), and there are four.
    """
    if not np.isfinite(c).all():
        return False
    rng = np.random.default_rng(seed)
    x = rng.integers(-(2**63), 2**63 - 1, (b.shape[-1], 4), np.int64)
    a_, b_, c_ = (y.astype(np.int64) for y in (a, b, c))
    return bool(np.array_equal(c, c_) and np.array_equal(a_ @ (b_ @ x), c_ @ x))


def selection(
    k: int, n: int, dtype: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A signed selection matrix (k, n): column j holds one +1 or -1, in row `rows[j]`; returns (it, rows, signs)."""
    rows, signs = selected(k, n, dtype, rng)
    matrix = np.zeros((k, n), named(dtype))
    matrix[rows, np.arange(n)] = signs
    return matrix, rows, signs


def selected(k: int, n: int, dtype: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The rows and the signs of a selection matrix.

    If n >= k every row is selected; else the first, the last, and those beside multiples of 4 to 256.
    """
    edges = {0, k - 1} | {t * i + d for t in (256, 64, 48, 32, 16, 12, 8, 4) for i in (1, 2) for d in (-1, 0)}
    wanted = [p for p in (range(k) if n >= k else sorted(edges)) if p < k]
    rows = np.array((wanted + list(rng.integers(0, k, n)))[:n])
    if n < len(wanted):  # too few columns for all: the last and a changing choice of the others
        rows = rng.permutation(wanted)[:n]
        rows[-1] = k - 1
    rng.shuffle(rows)
    return rows, rng.choice([-1, 1], n).astype(named(dtype))


def significand_problems(
    problem: Problem, seed: int = 0, digits: int | None = None
) -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Rule 3 for a problem's shape: (side, A, B, the C that must come out), selecting from A and from B.

    digits  how many bits the significands have, for a kernel that rounds its operands (`Kernel.digits`)
    """
    rng = np.random.default_rng([seed, problem.m, problem.n, problem.k])
    m, n, k, dtype = problem.m, problem.n, problem.k, problem.dtype
    a = significands(rng, (m, k), dtype, digits)
    right, rows, signs = selection(k, n, dtype, rng)
    b = significands(rng, (k, n), dtype, digits)
    left, columns, signs_left = selection(k, m, dtype, rng)
    return [
        ("A", a, right, a[:, rows] * signs),
        ("B", np.ascontiguousarray(left.T), b, b[columns] * signs_left[:, None]),
    ]


def accumulator_of(signature: Signature | None, dtype: str) -> str:
    """The accumulator's dtype of a signature; if there is none the operands' own, float32 for those of 16 bits."""
    return signature.accumulator if signature else accumulator_dtype(dtype)


def _after(epilogue: Epilogue, c: np.ndarray, bound: np.ndarray, u: float) -> tuple[np.ndarray, np.ndarray]:
    """C and its bound after an epilogue."""
    wide = Epilogue(
        bias=None if epilogue.bias is None else epilogue.bias.astype(np.float64),
        activation=epilogue.activation,
        grad_of=epilogue.grad_of,
        aux_in=None if epilogue.aux_in is None else epilogue.aux_in.astype(np.float64),
    )
    if wide.grad_of is not None:
        factor = np.abs(apply(Epilogue(grad_of=wide.grad_of, aux_in=wide.aux_in), np.ones_like(c)))
        # f'(y) is itself computed from y with a few roundings, absolute because 1 - y^2 cancels
        return apply(wide, c.copy()), bound * (factor + 4 * u) + 4 * u * np.abs(c) * (factor + 1)
    if wide.bias is not None:
        bound = bound + 2 * u * (np.abs(c) + np.abs(wide.bias))
    if wide.activation is not None:
        f = activation(wide.activation)
        after = apply(wide, c.copy())
        return after, bound * f.slope + 2 * u * f.error * np.abs(after)
    return apply(wide, c.copy()), bound


def _sample(size: int) -> np.ndarray:
    middle = size // 2
    picks = [*range(SAMPLED), *range(middle, middle + SAMPLED), *range(size - SAMPLED, size)]
    return np.unique(np.clip(picks, 0, size - 1))


def _extended_product(a: np.ndarray, b: np.ndarray, depth: int = 256) -> np.ndarray:
    """A B in long double, `depth` rows of B at a time (long doubles are large)."""
    total = np.zeros((a.shape[0], b.shape[1]), EXTENDED)
    for p in range(0, a.shape[1], depth):
        total += a[:, p : p + depth].astype(EXTENDED) @ b[p : p + depth].astype(EXTENDED)
    return total.astype(np.float64)


def _extended() -> bool:
    """Whether long double is wider than double here (it is not on every system)."""
    return bool(np.finfo(EXTENDED).eps < np.finfo(np.float64).eps)
