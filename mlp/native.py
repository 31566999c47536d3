"""Calls of the functions that do what no product does: `mlp.compiled`'s on the host, `mlp.cuda`'s on a GPU.

Numba is imported when the first call is made for the host, the CUDA sources are compiled at the first for a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from gemm.program import Call, Native, native
from mlp.devices import on_gpu

Array = np.ndarray


def call(name: str, dtype: np.dtype, *arguments: Any) -> Call:
    """The call of the function of that name. arguments: arrays (C-contiguous), sizes; it runs where the arrays are."""
    if on_gpu(arguments[0]):
        from mlp import cuda

        return cuda.call(name, dtype, *arguments)
    return _on_host(name, dtype, *arguments)


def _on_host(name: str, dtype: np.dtype, *arguments: Array | int) -> Native:
    words = [dtype.itemsize]
    words += [x.ctypes.data if isinstance(x, np.ndarray) else int(x) for x in arguments]
    return native(_compiled(name), np.array(words, np.int64), arguments)


def each_row(
    name: str,
    dtype: np.dtype,
    first: Sequence[Array],
    shares: Array,
    apart: int,
    value: Array,
    batch: int,
    outputs: int,
) -> Native:
    """The call of `weighted` for the loss of that name. first: Z, targets, dZ, whose first rows it starts at."""
    addresses = [x.ctypes.data for x in first]
    own = np.zeros((), dtype)
    row = np.array([dtype.itemsize, *addresses, own.ctypes.data, 1, outputs], np.int64)
    loss = _compiled(name).address
    made = _on_host("weighted", dtype, loss, row, shares, apart, value, batch, outputs)
    made.keeps = (made.keeps, first, own)
    return made


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
