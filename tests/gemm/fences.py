"""Arrays that end, or begin, where the memory does: the page beyond may not be touched, so an over-read crashes.

Run as `python -m tests.gemm.fences`, in a process that may be lost: multiplies such arrays with numba-micro.
"""

import ctypes
import itertools
import mmap
import sys

import numpy as np

import gemm
from gemm.epilogue import Epilogue
from gemm.micro import host

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
PAGE = mmap.PAGESIZE
NONE, READ_WRITE, PRIVATE_ANONYMOUS = 0, 3, 0x22


class Region:
    """So many bytes between two pages that may not be touched."""

    def __init__(self, size):
        self.room = -(-size // PAGE) * PAGE
        self.start = LIBC.mmap(None, self.room + 2 * PAGE, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0)
        for fence in (self.start, self.start + PAGE + self.room):
            assert LIBC.mprotect(fence, PAGE, NONE) == 0
        self.memory = (ctypes.c_char * self.room).from_address(self.start + PAGE)

    def close(self):
        LIBC.munmap(self.start, self.room + 2 * PAGE)


REGIONS = []


def fenced(values, side, order="n", gap=0):
    """A copy of `values` that ends ("end") or begins ("start") at a fence; rows `gap` elements apart."""
    if order == "t":
        return fenced(values.T, side, gap=gap).T
    rows, columns = values.shape
    pitch = columns + gap
    span = (rows - 1) * pitch + columns
    region = Region(span * values.itemsize)
    REGIONS.append(region)
    offset = region.room - span * values.itemsize if side == "end" else 0
    strides = (pitch * values.itemsize, values.itemsize)
    view = np.ndarray((rows, columns), values.dtype, region.memory, offset, strides)
    view[...] = values
    return view


def multiply(m, n, k, dtype, side, order, gap):
    rng = np.random.default_rng([m, n, k])
    a0, b0 = (rng.integers(-4, 5, shape).astype(dtype) for shape in ((m, k), (k, n)))
    a, b = fenced(a0, side, order[0], gap), fenced(b0, side, order[1], gap)
    c = fenced(np.full((m, n), np.nan, dtype), side, order[2], gap)
    bias = fenced(rng.integers(-4, 5, (1, n)).astype(dtype), side)[0]
    kept = fenced(np.zeros((m, n), dtype), side, order[2], gap)
    gemm.matmul(a, b, c, kernel="numba-micro")
    assert np.array_equal(c, a0 @ b0), (m, n, k, dtype, side, order, gap)
    gemm.matmul(a, b, c, kernel="numba-micro", alpha=2.0, beta=1.0)
    assert np.array_equal(c, 3 * (a0 @ b0)), (m, n, k, dtype, side, order, gap)
    forward = Epilogue(bias=bias, activation="relu", aux_out=kept)
    gemm.matmul(a, b, c, kernel="numba-micro", epilogue=forward)
    assert np.array_equal(c, np.maximum(a0 @ b0 + bias, 0)), (m, n, k, dtype, side, order, gap)
    while REGIONS:
        REGIONS.pop().close()


def main():
    for dtype in ("float32", "float64"):
        shape = host.tile(dtype)
        few = (1, shape.lanes - 1, shape.lanes + 1, 2 * shape.columns + 3)
        sizes = [(m, n, k) for m in (1, shape.rows, 2 * shape.rows + 1) for n in few for k in (1, *few)]
        sizes += [(70, 90, 200), (3, 300, 700), (2, 2, 1200), (130, 5, 40)]
        for (m, n, k), side in itertools.product(sizes, ("end", "start")):
            for order, gap in (("nnn", 0), ("ttn", 0), ("ntt", 3), ("tnn", 5)):
                multiply(m, n, k, dtype, side, order, gap)
    sys.stdout.write("within\n")


if __name__ == "__main__":
    main()
