"""Device rules: the three rules of `gemm.correctness` for products so large that the host would take tens of seconds.

Whoever passes here is right. Whoever does not is judged by `gemm.correctness` on the host: that is the authority, and
knows what to say. Only elementwise operations, sums and copies of CuPy are used, on integers and on float64: the bits
of 16-bit floats are taken apart by hand.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil, isnan, sqrt
from typing import Any

import numpy as np

import gemm
from gemm.correctness import Reference, selected
from gemm.dtypes import DIGITS, itemsize, named
from gemm.epilogue import Epilogue
from gemm.kernel import Kernel
from gemm.problems import Problem

# Explicit bits of a significand, by what is multiplied.
SIGNIFICAND = {name: digits - 1 for name, digits in DIGITS.items()}
# 1.0 as bits.
ONE = {"float64": 0x3FF0_0000_0000_0000, "float32": 0x3F80_0000, "float16": 0x3C00, "bfloat16": 0x3F80}
# Elements that are looked at in one go: temporaries are float64.
BLOCK = 1 << 24
# Random vectors of rule 2.
VECTORS = 3


def bits_of(dtype: Any) -> np.dtype:
    """The unsigned integer of a dtype's size, or of that of its name."""
    return np.dtype(f"u{itemsize(str(dtype))}")


def sign_bit(dtype: Any) -> Any:
    """Its sign, as that integer."""
    bits = bits_of(dtype)
    return bits.type(1 << (8 * bits.itemsize - 1))


def nan_bits(dtype: Any) -> Any:
    """A quiet NaN of a dtype, as that integer."""
    return np.full((), np.nan, dtype).view(bits_of(dtype))[()]


def wide(bits: Any, dtype: Any) -> Any:
    """The numbers that these bits are, in float64."""
    if str(dtype) == "bfloat16":
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)
    return bits.view(dtype).astype(np.float64)


def narrow(whole: Any, dtype: Any) -> Any:
    """The bits of whole numbers (int32) that a dtype holds."""
    single = whole.astype(np.float32)
    if str(dtype) == "bfloat16":
        return (single.view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    return single.astype(dtype).view(bits_of(dtype))


def epilogue_there(epilogue: Epilogue | None) -> Epilogue | None:
    """An epilogue with its arrays on the device."""
    import cupy

    if epilogue is None:
        return None
    arrays = {name: getattr(epilogue, name) for name in ("bias", "aux_out", "aux_in")}
    return replace(
        epilogue, **{name: cupy.asarray(array) for name, array in arrays.items() if array is not None}
    )


def error_ratio(c: Any, right: Reference) -> float:
    """Rule 1's error ratio of a C on the device; not finite where anything in it or in the reference is not."""
    import cupy

    if c.ndim == 3:
        every = [error_ratio(*one) for one in zip(c, map(Reference, right.c, right.bound))]
        return max(every) if not any(map(isnan, every)) else float("nan")
    worst = 0.0
    bits = c.view(bits_of(c.dtype))
    for rows in _blocks(*c.shape):
        expected, bound = (cupy.asarray(np.ascontiguousarray(part[rows])) for part in (right.c, right.bound))
        difference = cupy.abs(wide(bits[rows], c.dtype) - expected)
        ratio = float(cupy.where(difference > 0, difference / bound, 0.0).max())
        if isnan(ratio) or not bool(cupy.isfinite(difference).all()):
            return float("nan")
        worst = max(worst, ratio)
    return worst


def exact(kernel: Kernel, problem: Problem, seed: int = 0) -> bool:
    """Whether small integers (rule 2) and full significands on either side (rule 3) come out exactly at this shape."""
    return _integers(kernel, problem, seed) and all(
        _significands(kernel, problem, side, seed + number) for number, side in enumerate("AB", 1)
    )


def _integers(kernel: Kernel, problem: Problem, seed: int) -> bool:
    """Freivalds (1979): C x = A (B x) for random x, in float64 and small enough for every sum to be exact there.

    The integers are as large as C holds exactly. Where not even sums of k ones are exact, A has few others than zeros,
    in every row at other places.
    """
    m, n, k, dtype = problem.m, problem.n, problem.k, problem.dtype
    holds = 2 ** (min(SIGNIFICAND[dtype], SIGNIFICAND["float32"]) + 1)
    largest = max(1, int(sqrt(holds / (3 * k))))
    largest = min(largest, 2 ** SIGNIFICAND[_multiplied(kernel, dtype)])
    a, b = (narrow(_whole(shape, seed + at, largest), dtype) for at, shape in enumerate(((m, k), (k, n))))
    every = ceil(k * largest * largest / holds)
    if every > 1:
        a = _thinned(a, every)
    c = _product(kernel, problem, a, b)
    rng = np.random.default_rng([seed, m, n, k])
    far = max(1, min(2**15, 2**53 // (holds * n)))
    for _ in range(VECTORS):
        x = rng.integers(-far, far, n, endpoint=True)
        left, right = _times(c, x, dtype), _times(a, _times(b, x, dtype), dtype)
        if not bool((left == right).all()):
            return False
    return True


def _significands(kernel: Kernel, problem: Problem, side: str, seed: int) -> bool:
    """Values whose significands use every bit of what is multiplied, times a signed selection."""
    import cupy

    m, n, k, dtype = problem.m, problem.n, problem.k, problem.dtype
    bits = bits_of(dtype)
    rng = np.random.default_rng([seed, m, n, k])
    picked, signs = selected(k, n if side == "A" else m, "float32", rng)
    across = np.arange(len(picked))
    turned = np.where(signs < 0, sign_bit(dtype), bits.type(0)).astype(bits)
    ones = cupy.asarray(bits.type(ONE[dtype]) | turned)
    picked, across, turned = (cupy.asarray(array) for array in (picked, across, turned))
    full = _full((m, k) if side == "A" else (k, n), seed, dtype, _multiplied(kernel, dtype))
    if side == "A":
        chosen = cupy.zeros((k, n), bits)
        chosen[picked, across] = ones
        c, expected = (
            _product(kernel, problem, full, chosen),
            cupy.take(full, picked, axis=1) ^ turned[None, :],
        )
    else:
        chosen = cupy.zeros((m, k), bits)
        chosen[across, picked] = ones
        c, expected = (
            _product(kernel, problem, chosen, full),
            cupy.take(full, picked, axis=0) ^ turned[:, None],
        )
    return bool((c == expected).all())


def _product(kernel: Kernel, problem: Problem, a: Any, b: Any) -> Any:
    """The bits of A B, in the problem's orders, from those of A and B."""
    import cupy

    dtype = named(problem.dtype)
    a, b = (
        (bits if op == "n" else cupy.ascontiguousarray(bits.T).T).view(dtype)
        for bits, op in ((a, problem.op_a), (b, problem.op_b))
    )
    c = cupy.full((problem.m, problem.n), nan_bits(dtype), bits_of(dtype))
    gemm.prepare(a, b, c.view(dtype), kernel=kernel)()
    return c


def _multiplied(kernel: Kernel, dtype: str) -> str:
    """What a kernel rounds its operands to, if it says so."""
    return kernel.multiplies or dtype


def _full(shape: tuple[int, int], seed: int, dtype: str, multiplied: str) -> Any:
    """Bits of numbers from 1 to 2, of either sign, whose significands use every bit of `multiplied`, the last too."""
    bits = bits_of(dtype)
    drawn = _hashed(shape, seed).astype(bits)
    if dtype == "float64":
        drawn = drawn << bits.type(32) | _hashed(shape, seed + 1).astype(bits)
    unused = SIGNIFICAND[dtype] - SIGNIFICAND[multiplied]
    kept = (1 << SIGNIFICAND[dtype]) - (1 << unused)
    whole = drawn & bits.type(kept)
    return (drawn & sign_bit(dtype)) | whole | bits.type(1 << unused) | bits.type(ONE[dtype])


def _whole(shape: tuple[int, int], seed: int, largest: int) -> Any:
    """Whole numbers from -largest to largest, int32."""
    span = np.uint32(2 * largest + 1)
    return (_hashed(shape, seed) % span).astype(np.int32) - np.int32(largest)


def _thinned(a: Any, every: int) -> Any:
    """A with zeros but where row + column is a multiple of `every`."""
    import cupy

    rows, columns = (cupy.arange(size, dtype=np.int32) for size in a.shape)
    return cupy.where((rows[:, None] + columns[None, :]) % np.int32(every) == 0, a, a.dtype.type(0))


def _hashed(shape: tuple[int, int], seed: int) -> Any:
    """32 bits for each element, scattered by its number (the finalizer of MurmurHash3)."""
    import cupy

    x = cupy.arange(shape[0] * shape[1], dtype=np.uint32) + np.uint32(0x9E3779B9 * (seed + 1) & 0xFFFFFFFF)
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return (x ^ (x >> np.uint32(16))).reshape(shape)


def _times(bits: Any, x: Any, dtype: str) -> Any:
    """A matrix, given by its bits, times a vector, in float64."""
    import cupy

    x = cupy.asarray(x).astype(np.float64)
    parts = [(wide(bits[rows], dtype) * x[None, :]).sum(axis=1) for rows in _blocks(*bits.shape)]
    return cupy.concatenate(parts)


def _blocks(rows: int, columns: int) -> list[slice]:
    """Rows in pieces of BLOCK elements."""
    height = max(1, BLOCK // columns)
    return [slice(start, start + height) for start in range(0, rows, height)]
