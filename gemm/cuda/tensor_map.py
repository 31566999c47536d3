"""Tensor maps: what Hopper's copy engine (TMA) is told of a matrix. The driver encodes them, by rules checked here.

    lying(product, "a", ALONG)     a matrix as the engine sees it: which direction is contiguous
    why_not(matrix, box)           the rule that it breaks, in a sentence; None: it can be copied in such boxes
    encode(matrix, box, dtype)     the map, 128 bytes, by the driver's cuTensorMapEncodeTiled

Source of the rules and of the numbers: CUDA Driver API, "Tensor Map Object Management".
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from gemm.cuda.product import PRODUCT

MAP_BYTES = 128
# As struct Arguments of source/hopper.cu: maps lie on boundaries of 64 bytes.
ARGUMENTS = np.dtype(
    {
        "names": ["p", "map_a", "map_b"],
        "formats": [PRODUCT, (np.uint8, MAP_BYTES), (np.uint8, MAP_BYTES)],
        "offsets": [0, 192, 320],
        "itemsize": 448,
    }
)

# Of cuda.h: CUtensorMapDataType, ...Interleave, ...Swizzle, ...L2promotion, ...FloatOOBfill.
FLOAT16, BFLOAT16 = 6, 9
NO_INTERLEAVE, SWIZZLE_128B, PROMOTE_128B, FILL_ZEROS = 0, 3, 2, 0

ITEM = 2  # bytes of an element
LARGEST_BOX = 256
LARGEST_SIZE = 2**32
LARGEST_STRIDE = 2**40
SWIZZLED = 128  # bytes of a line under the 128-byte swizzle


class Matrix(NamedTuple):
    """A matrix of 16-bit elements: `outer` lines of `inner` neighbours, the lines `stride` bytes apart."""

    address: int
    inner: int
    outer: int
    stride: int
    step: int = 1  # elements between neighbours


Box = tuple[int, int]  # elements: of a line, and lines
Encode = Callable[[Matrix, Box, int], np.ndarray]


def lying(product: Any, name: str, along: bool) -> Matrix:
    """Operand "a" or "b" of a product (`product.pack`), with lines along k or along m (n)."""
    size, k = int(product["m" if name == "a" else "n"]), int(product["k"])
    steps = int(product[f"{name}_row"]), int(product[f"{name}_column"])
    by_size, by_k = steps if name == "a" else steps[::-1]
    inner, outer, step, stride = (k, size, by_k, by_size) if along else (size, k, by_size, by_k)
    if outer == 1:  # never gone: any that the rules allow
        stride = -(-inner // 8) * 8
    return Matrix(int(product[name]), inner, outer, stride * ITEM, 1 if inner == 1 else step)


def why_not(matrix: Matrix, box: Box) -> str | None:
    """The first rule of the copy engine that this breaks, as a sentence; None: none."""
    if matrix.step != 1:
        return f"neighbours are {matrix.step} elements apart; the copy engine takes contiguous lines"
    if matrix.address % 16:
        return f"it begins {matrix.address % 16} bytes past a boundary of 16 bytes"
    if not all(1 <= size <= LARGEST_SIZE for size in (matrix.inner, matrix.outer)):
        return f"{matrix.outer} lines of {matrix.inner}: the copy engine counts from 1 to 2^32"
    if matrix.stride % 16:
        return f"its lines are {matrix.stride} bytes apart, not a multiple of 16"
    if not matrix.inner * ITEM <= matrix.stride < LARGEST_STRIDE:
        return f"its lines of {matrix.inner * ITEM} bytes are {matrix.stride} bytes apart: overlapping or too far"
    if not all(1 <= size <= LARGEST_BOX for size in box):
        return f"a box of {box[1]} lines of {box[0]}: at most 256 each"
    if box[0] * ITEM % 16 or box[0] * ITEM > SWIZZLED:
        return f"a box's lines have {box[0] * ITEM} bytes; a multiple of 16 up to {SWIZZLED} can be swizzled"
    return None


class TensorMapError(RuntimeError):
    """The driver refuses a tensor map; the message has its error's name."""


def encode(matrix: Matrix, box: Box, dtype: int) -> np.ndarray:
    """The tensor map of a matrix, copied in boxes with the 128-byte swizzle and zeros over the edge: (128,) uint8.

    Raises TensorMapError where the driver refuses it, ValueError where `why_not` does.
    """
    if reason := why_not(matrix, box):
        raise ValueError(f"no tensor map of this matrix: {reason}")
    memory = np.zeros(MAP_BYTES + 64, np.uint8)
    start = -memory.ctypes.data % 64  # cuTensorMapEncodeTiled wants the map itself on such a boundary
    status = _driver().cuTensorMapEncodeTiled(
        ctypes.c_void_p(memory.ctypes.data + start),
        ctypes.c_int(dtype),
        ctypes.c_uint32(2),
        ctypes.c_void_p(matrix.address),
        (ctypes.c_uint64 * 2)(matrix.inner, matrix.outer),
        (ctypes.c_uint64 * 1)(matrix.stride),
        (ctypes.c_uint32 * 2)(*box),
        (ctypes.c_uint32 * 2)(1, 1),
        ctypes.c_int(NO_INTERLEAVE),
        ctypes.c_int(SWIZZLE_128B),
        ctypes.c_int(PROMOTE_128B),
        ctypes.c_int(FILL_ZEROS),
    )
    if status != 0:
        name = ctypes.c_char_p()
        _driver().cuGetErrorName(ctypes.c_int(status), ctypes.byref(name))
        said = name.value.decode() if name.value else f"error {status}"
        raise TensorMapError(f"cuTensorMapEncodeTiled: {said} for {matrix} in boxes of {box}")
    return memory[start : start + MAP_BYTES].copy()


@cache
def _driver() -> Any:
    return ctypes.CDLL("libcuda.so.1")
