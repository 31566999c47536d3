"""Cold: every call finds its operands outside all caches, because so much else was touched since it last ran.

A cold cell has several copies of its operands, together more than twice the last-level cache, and its calls take
them in turn. Where that would be more than MOST bytes or MOST_COPIES, it is as many as that: then a cache of over
half of MOST is not emptied, and the smallest problems come from the last level of cache, not from memory. Two
copies there are always.
"""

from __future__ import annotations

from math import ceil

import numpy as np

from bench.host.environment import last_cache
from gemm.dtypes import itemsize
from gemm.problems import Problem

MOST = 2 << 30
MOST_COPIES = 1 << 15
LINE = 64
# Bytes of a prepared call and its three arrays, beside what lies in the arrays.
PREPARED = 2 << 10


def copies(problem: Problem) -> int:
    """How many copies of A, B and C a cold cell has."""
    enough = ceil((min(2 * last_cache(), MOST) + 1) / footprint(problem))
    return max(2, min(enough, MOST_COPIES))


def footprint(problem: Problem) -> int:
    """Bytes of A, B and C."""
    elements = problem.m * problem.k + problem.k * problem.n + problem.m * problem.n
    return problem.batch * elements * itemsize(problem.dtype)


def memory(problem: Problem) -> int:
    """Bytes that a cold cell needs beside what a hot one does."""
    return copies(problem) * (footprint(problem) + 6 * LINE + PREPARED) + min(last_cache(), MOST)


class Copies:
    """Copies of an array that `gemm.problems.lay_out` made: `all` (count, ...), each laid out alike.

    In memory, a cache line of NaN, the first copy up to the end of its last line, a line of NaN, the second, ...
    """

    def __init__(self, array: np.ndarray, count: int) -> None:
        size, line = array.itemsize, LINE // array.itemsize
        buffer = array.base
        assert buffer is not None
        low, high = np.lib.array_utils.byte_bounds(array)
        first = (low - buffer.ctypes.data) // size
        inside = (high - low) // size
        self.width = line + ceil(inside / line) * line
        memory = np.full(count * self.width + 2 * line, np.nan, array.dtype)
        start = -(memory.ctypes.data // size) % line
        self.memory = memory[start : start + count * self.width + line]
        rows = self.memory[:-line].reshape(count, self.width)
        rows[:, line : line + inside] = buffer[first : first + inside]
        offset = (start + line) * size + array.ctypes.data - low
        strides = (self.width * size, *array.strides)
        self.all = np.ndarray((count, *array.shape), array.dtype, memory, offset, strides)
        self.line = line

    def around(self, index: int) -> np.ndarray:
        """The memory of one copy with the lines before and behind it, 1-D."""
        return self.memory[index * self.width : (index + 1) * self.width + self.line]


class Sweeper:
    """Reads a buffer as large as the last-level cache: what was in the caches before is not there afterwards."""

    def __init__(self) -> None:
        self.buffer = np.ones(min(last_cache(), MOST) // 8)

    def sweep(self) -> None:
        self.buffer.sum()
