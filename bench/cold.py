"""Cold: every call finds its operands outside all caches, because so much else was touched since it last ran.

A cold cell has several copies of its operands, together more than twice the last-level cache, and its calls take
them in turn. Where that would be more than MOST, it is MOST (then a cache of over half of that is not emptied);
two copies there are always.
"""

from __future__ import annotations

from math import ceil

import numpy as np

from bench.environment import last_cache
from gemm.problems import Problem

MOST = 2 << 30


def copies(problem: Problem) -> int:
    """How many copies of A, B and C a cold cell has."""
    return max(2, ceil((min(2 * last_cache(), MOST) + 1) / footprint(problem)))


def footprint(problem: Problem) -> int:
    """Bytes of A, B and C."""
    elements = problem.m * problem.k + problem.k * problem.n + problem.m * problem.n
    return problem.batch * elements * np.dtype(problem.dtype).itemsize


def memory(problem: Problem) -> int:
    """Bytes that a cold cell needs beside what a hot one does."""
    return (copies(problem) - 1) * footprint(problem) + min(last_cache(), MOST)


class Sweeper:
    """Reads a buffer as large as the last-level cache: what was in the caches before is not there afterwards."""

    def __init__(self) -> None:
        self.buffer = np.ones(min(last_cache(), MOST) // 8)

    def sweep(self) -> None:
        self.buffer.sum()
