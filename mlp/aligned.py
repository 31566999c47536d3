"""Arrays that begin on a cache line, so that no vector of theirs lies across two: NumPy's begin 16 bytes into one.

And, where they are passed over together, not at the same place of a page. A processor tells whether a load may pass an
earlier store by the low 12 bits of their addresses (4K aliasing, in Intel's manual; a Zen 4 does so too), and large
arrays are apart by whole pages where malloc maps each for itself: adam's four arrays then take 0.33 to 0.56 ns an
element, by how they fall, and 0.28 with a quarter of a page between them (65,536 elements, one core of a Zen 4).
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

Array = np.ndarray
LINE, PAGE = 64, 4096


def empty(shape: tuple[int, ...], dtype: Any, beside: Array | None = None, quarters: int = 0) -> Array:
    """As np.empty, C-contiguous.

    beside, quarters  of a page, so many from where that array begins in its own; arrays smaller than a page lie where
                      they may
    """
    needed = prod(shape) * np.dtype(dtype).itemsize
    line, place = LINE, 0
    if beside is not None and needed >= PAGE:
        line, place = PAGE, beside.ctypes.data + quarters * PAGE // 4
    held = np.empty(needed + line, np.uint8)
    start = (place - held.ctypes.data) % line
    return held[start : start + needed].view(dtype).reshape(shape)


def zeros(shape: tuple[int, ...], dtype: Any, beside: Array | None = None, quarters: int = 0) -> Array:
    """As np.zeros, and `empty`."""
    made = empty(shape, dtype, beside, quarters)
    made.fill(0)
    return made
