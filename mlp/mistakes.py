"""The sentences for a user's commonest mistakes: a name that does not exist, what is no such number or no array."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import numpy as np


def unknown(what: str, given: object, known: Iterable[str]) -> ValueError:
    """ValueError that names `given` and its nearest spelling, or else everything that is known."""
    names = list(known)
    near = difflib.get_close_matches(str(given), names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there is {', '.join(names)}"
    return ValueError(f"unknown {what} {given!r}; {hint}")


def positive(what: str, value: int) -> int:
    """`value` if it is a whole number from 1; ValueError says which one is not."""
    return whole(what, value, 1)


def whole(what: str, value: int, least: int) -> int:
    """`value` if it is a whole number from `least`; ValueError says which one is not."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{what} is {value!r}; it must be a whole number from {least}")
    return int(value)


def seeded(seed: Any) -> np.random.Generator:
    """The generator of that seed: whatever NumPy takes for one. ValueError says what it takes."""
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError):
        raise ValueError(f"seed is {seed!r}; it must be a whole number from 0") from None


def array(what: str, value: Any) -> np.ndarray:
    """`value` as an array, where it lies; ValueError says which one is ragged."""
    if hasattr(value, "__cuda_array_interface__"):
        return value  # CuPy's, which answers as NumPy's do
    try:
        return np.asarray(value)
    except ValueError:
        raise ValueError(f"{what} is ragged; every row of it must have the same length") from None
