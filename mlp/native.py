"""Calls of the compiled functions of `mlp.compiled`; Numba is imported when the first of them is made."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from gemm.program import Native, native

Array = np.ndarray


def call(name: str, dtype: np.dtype, *arguments: Array | int) -> Native:
    """The call of the function of that name. arguments: arrays (C-contiguous), sizes."""
    words = [dtype.itemsize]
    words += [x.ctypes.data if isinstance(x, np.ndarray) else int(x) for x in arguments]
    return native(_compiled(name), np.array(words, np.int64), arguments)


def first_outside(labels: Array, outputs: int) -> int:
    """The first row whose label is not in 0 .. outputs - 1, or -1; labels (batch,) int64, C-contiguous."""
    row: int = _check()(labels, outputs)
    return row


@cache
def _compiled(name: str) -> Any:
    from numba import types

    from gemm.compiled import cfunction
    from mlp import compiled

    return cfunction(getattr(compiled, name), types.void(types.int64))


@cache
def _check() -> Any:
    from numba import types

    from gemm.compiled import cached
    from mlp import compiled

    made = cached(compiled.outside, types.int64(types.int64[::1], types.int64))
    _made.append(made)  # compiled code lives as long as the object that made it
    (only,) = made.overloads.values()
    return only.entry_point


_made: list[Any] = []
