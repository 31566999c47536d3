"""Calling: operands as CBLAS wants them, and the call that does the product.

CBLAS takes matrices whose rows, or whose columns, lie contiguous in memory: of each it is told which (a transpose
is a flag), and how far apart those lie (the leading dimension). So views of whole matrices, transposed or not, go
to the library as they are; any other stride (negative, zero, two that are not 1) is copied, inside the call.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from gemm.vendors.opening import Library

Call = Callable[[], Any]

ROW_MAJOR, NO_TRANS, TRANS = 101, 111, 112
LARGEST_INT = 2**31 - 1


def bind(library: Library, a: np.ndarray, b: np.ndarray, c: np.ndarray, *, alpha: float, beta: float) -> Call:
    """C <- alpha A B + beta C by this library, as a call without arguments.

    a, b, c  m x k, k x n, m x n, all float32 or all float64; any strides

    Raises ValueError where a size does not fit into the library's integers.
    """
    from gemm.vendors.trampoline import ALPHA, BETA, WORDS, entry

    before: list[Call] = []
    after: list[Call] = []
    into = c
    if layout(c) is None:
        into = np.empty(c.shape, c.dtype)
        after.append(partial(np.copyto, c, into))
        if beta != 0:
            before.append(partial(np.copyto, into, c))
    left, right = (_readable(x, before) for x in (a, b))
    if _settled(into)[0] == TRANS:  # its columns are contiguous: C^T = B^T A^T, whose rows are
        left, right, into = right.T, left.T, into.T
    (op_a, lda), (op_b, ldb), (_, ldc) = (_settled(x) for x in (left, right, into))
    sizes = (*into.shape, left.shape[1])
    if library.integer_bits == 32 and max(*sizes, lda, ldb, ldc) > LARGEST_INT:
        raise ValueError(
            f"cblas:{library.name} counts in 32 bits and a size or stride of {max(*sizes, lda, ldb, ldc)} needs more; "
            "use a library with 64-bit integers, such as cblas:numpy"
        )
    name = "sgemm" if c.dtype == np.float32 else "dgemm"
    words = np.array(
        [library.address(name), ROW_MAJOR, op_a, op_b, *sizes, 0, left.ctypes.data, lda, right.ctypes.data, ldb,
         0, into.ctypes.data, ldc],
        np.int64,
    )  # fmt: skip
    assert words.size == WORDS
    words.view(np.float64)[[ALPHA, BETA]] = alpha, beta
    product: Any = partial(entry(name, library.integer_bits), words.ctypes.data)
    product.operands = (words, left, right, into)  # alive as long as the call
    if not before and not after:
        return product

    def call() -> None:
        for step in before:
            step()
        product()
        for step in after:
            step()

    return call


def layout(x: np.ndarray) -> tuple[int, int] | None:
    """Which of NO_TRANS (rows contiguous) and TRANS (columns) a matrix is, and its leading dimension; None if neither.

    The stride of a dimension of 1 says nothing, so that a column taken out of a matrix is one with long rows.
    """
    (rows, columns), item = x.shape, x.itemsize
    if any(stride % item for stride in x.strides):
        return None
    down, across = (stride // item for stride in x.strides)
    if (across == 1 or columns == 1) and (down >= columns or rows == 1):
        return NO_TRANS, max(down if rows > 1 else columns, 1)
    if (down == 1 or rows == 1) and (across >= rows or columns == 1):
        return TRANS, max(across if columns > 1 else rows, 1)
    return None


def _settled(x: np.ndarray) -> tuple[int, int]:
    found = layout(x)
    assert found is not None
    return found


def _readable(x: np.ndarray, before: list[Call]) -> np.ndarray:
    """x, or a copy that is made anew at each call."""
    if layout(x) is not None:
        return x
    copy = np.empty(x.shape, x.dtype)
    before.append(partial(np.copyto, copy, x))
    return copy
