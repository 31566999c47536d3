"""NumPy's BLAS plus a busy-wait: kernels that are slower by a known number of nanoseconds.

The numbers come through the environment, so that every worker of a run has the same.
"""

from __future__ import annotations

import json
import os
from time import perf_counter_ns
from typing import Any

import numpy as np

from gemm import Kernel

VARIABLE = "GEMMLAB_PLANTED"


def plant(waits: dict[str, dict[int, int]]) -> None:
    """Set the nanoseconds by kernel and size, for processes that are started from now on."""
    os.environ[VARIABLE] = json.dumps(waits)


def _kernel(name: str) -> Kernel:
    def load() -> Any:
        planted = json.loads(os.environ.get(VARIABLE, "{}")).get(name, {})
        waits = {int(n): wait for n, wait in planted.items()}

        def multiply(a: Any, b: Any, c: Any, *, alpha: float, beta: float, epilogue: Any) -> None:
            np.matmul(a, b, out=c)
            until = perf_counter_ns() + waits.get(len(a), 0)
            while perf_counter_ns() < until:
                pass

        return multiply

    return Kernel(name=name, idea="NumPy's BLAS and a busy-wait", load=load)


base = _kernel("base")
same_1, same_2, same_3 = (_kernel(f"same_{i}") for i in (1, 2, 3))
plus_1, plus_2, plus_5, plus_10 = (_kernel(f"plus_{percent}") for percent in (1, 2, 5, 10))
