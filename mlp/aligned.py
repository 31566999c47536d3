"""Arrays that begin on a cache line, so that no vector of theirs lies across two: NumPy's begin 16 bytes into one."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

Array = np.ndarray
LINE = 64


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """As np.empty, C-contiguous."""
    needed = prod(shape) * np.dtype(dtype).itemsize
    held = np.empty(needed + LINE, np.uint8)
    start = -held.ctypes.data % LINE
    return held[start : start + needed].view(dtype).reshape(shape)


def zeros(shape: tuple[int, ...], dtype: Any) -> Array:
    """As np.zeros."""
    made = empty(shape, dtype)
    made.fill(0)
    return made
