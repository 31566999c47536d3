"""Dtypes by name: those every kernel takes, the two of 16 bits that some take, and how many digits each holds.

bfloat16 is no dtype of NumPy's: it is ml_dtypes', a package that is looked for when the name is first used.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

# What every kernel takes, and what some take with sums in float32.
FULL = ("float32", "float64")
LOW = ("float16", "bfloat16")
EVERY = FULL + LOW

# Binary digits of a significand, the leading one among them. tfloat32 is what tensor cores make of a float32: its
# exponent and the first 11 of its 24 digits.
DIGITS = {"float64": 53, "float32": 24, "tfloat32": 11, "float16": 11, "bfloat16": 8}
# The exponent of the smallest normal number.
LEAST_EXPONENT = {"float64": -1022, "float32": -126, "tfloat32": -126, "float16": -14, "bfloat16": -126}


class NoBfloat16(ImportError):
    """ml_dtypes is not installed; the message says what to install."""


@cache
def named(name: Any) -> np.dtype:
    """The dtype of that name (or of whatever np.dtype takes). NoBfloat16 where that package is missing."""
    if str(name) == "bfloat16":
        try:
            import ml_dtypes
        except ImportError:
            raise NoBfloat16(
                "bfloat16 is a dtype of the package ml_dtypes, which is not installed; pip install ml_dtypes"
            ) from None
        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def is_here(name: str) -> bool:
    """Whether arrays of this dtype can be made here."""
    try:
        named(name)
    except NoBfloat16:
        return False
    return True


def low(dtype: Any) -> bool:
    """One of 16 bits: its sums are kept in something wider."""
    if isinstance(dtype, np.dtype) and dtype.itemsize != 2:  # (a dtype's name takes a microsecond)
        return False
    return str(dtype) in LOW


def itemsize(name: str) -> int:
    """Bytes of a number; known of bfloat16 too where it is not here."""
    return 2 if low(name) else np.dtype(name).itemsize


def roundoff(dtype: Any) -> float:
    """u: half of the distance from 1 to the next larger number."""
    return 2.0 ** -DIGITS[str(dtype)]


def smallest(dtype: Any) -> float:
    """The smallest subnormal number."""
    return 2.0 ** (LEAST_EXPONENT[str(dtype)] - DIGITS[str(dtype)] + 1)


def smallest_normal(dtype: Any) -> float:
    """The smallest number that is not subnormal."""
    return 2.0 ** LEAST_EXPONENT[str(dtype)]


def accumulator(dtype: Any) -> str:
    """The dtype of the sums where a kernel does not say: the operands' own, float32 for those of 16 bits."""
    return "float32" if low(dtype) else str(dtype)
