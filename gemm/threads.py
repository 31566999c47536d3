"""Threads belong to a process: one call sets every pool.

The pool here, for kernels that have none of their own (numba-micro has), is Python's, over functions that run without
the GIL: several Python threads may use it at once, nothing spins while it waits, and a forked child starts its own.
(Numba's own layers do not have all three: omp does not survive a fork, workqueue aborts under concurrent callers.)
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def available_cores() -> int:
    """Cores this process may run on: its affinity, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS and Windows have no affinity to ask for


def _initial() -> int:
    """GEMMLAB_NUM_THREADS where it is a number from 1 up, else all cores."""
    asked = os.environ.get("GEMMLAB_NUM_THREADS", "")
    return int(asked) if asked.isdecimal() and int(asked) else available_cores()


_count = _initial()
_pool: ThreadPoolExecutor | None = None
_followers: list[Callable[[int], None]] = []


def get_threads() -> int:
    """How many threads the lab's own kernels use."""
    return _count


def set_threads(n: int) -> None:
    """Set the threads of every pool in this process: BLAS, OpenMP, Numba and our own.

    Raises ValueError unless n is a positive integer.
    """
    global _count
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise ValueError(f"threads must be a positive integer, not {n!r}")
    from threadpoolctl import threadpool_limits

    threadpool_limits(limits=n)  # not as a context: it stays
    if "numba" in sys.modules:
        numba = sys.modules["numba"]
        numba.set_num_threads(min(n, numba.config.NUMBA_NUM_THREADS))
    for follow in _followers:
        follow(n)
    _count = n
    _forget_pool()


def follow_threads(setter: Callable[[int], None]) -> None:
    """Call `setter(n)` at each `set_threads`, and once now: for a kernel with a pool of its own."""
    _followers.append(setter)
    setter(_count)


def each(function: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]) -> None:
    """Call `function(*args)` for each args at once, this thread doing the first; waits for all."""
    global _pool
    first, *rest = arguments
    pool = _pool  # `set_threads` in another thread may forget it at any moment
    if rest and pool is None:
        pool = _pool = ThreadPoolExecutor(max(_count - 1, 1), thread_name_prefix="gemm")
    futures = [pool.submit(function, *args) for args in rest] if pool else []
    function(*first)
    for future in futures:
        future.result()


def _forget_pool() -> None:
    global _pool
    _pool = None  # its threads end when the last task that holds it is done


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
