"""Pace: how long a short loop in the nearest cache takes at this very moment, on the core that asks.

Two hardware threads of one core (SMT) share its caches and its load and store units. Where the other one belongs to
somebody else, a guest of a hypervisor is told nothing of it: its thread never waits, nothing is stolen, and multiply-
adds out of registers hardly slow down, while products do. What does show it is a loop that has the
core load and store all the time. It shows a lower clock too.
"""

from __future__ import annotations

from functools import cache
from time import perf_counter_ns
from typing import Any

# Two arrays that fit into a first cache of 32 KiB together and leave almost half of it; passes over them: 0.12 ms of a
# Zen 4.
# The second begins half a page further on in its page than the first: where both begin at the same place, a load waits
# for a store that only looks as if it were to the same address, in one process and not in the next.
NUMBERS, PASSES, PAGE = 1024, 1500, 4096


def pace() -> float:
    """Seconds that the loop took just now: twice 8 KiB in the first cache, read and added to each other."""
    run, source, target = _loop()
    start = perf_counter_ns()
    run(source, target, PASSES)
    return (perf_counter_ns() - start) / 1e9


@cache
def _loop() -> tuple[Any, Any, Any]:
    import numpy as np
    from numba import types

    from gemm import compiled

    signature = types.void(types.int64[::1], types.int64[::1], types.intp)
    run = compiled.cached(_passes, signature)
    raw = np.zeros(2 * 8 * NUMBERS + 2 * PAGE, np.uint8)
    whole = raw[-raw.ctypes.data % PAGE :]
    source, target = (whole[at : at + 8 * NUMBERS].view(np.int64) for at in (0, 8 * NUMBERS + PAGE // 2))
    run(source, target, PASSES)
    return run, source, target


def _passes(source, target, passes):
    for _ in range(passes):
        for i in range(len(source)):
            target[i] += source[i]
