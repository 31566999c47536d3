"""Manners: a kernel leaves the thread settings of its process as they are; one that does not is found out.

What is looked at: the threads of every BLAS and OpenMP that was loaded before, our own, the cores that the main
thread may run on, and the environment variables that set any of these. A library that the kernel brings along is
no change; from then on it is looked at too.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import gemm
from bench.isolation.processes import THREAD_VARIABLES

VARIABLES = (
    *THREAD_VARIABLES, "NUMEXPR_NUM_THREADS", "OMP_THREAD_LIMIT", "OMP_DYNAMIC", "OMP_NESTED", "OMP_PROC_BIND",
    "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY", "MKL_DYNAMIC", "NUMBA_THREADING_LAYER",
)  # fmt: skip
LIBRARIES = {
    "openblas": "OpenBLAS", "mkl": "MKL", "blis": "BLIS", "flexiblas": "FlexiBLAS", "openmp": "OpenMP",
}  # fmt: skip
Name = tuple[str, str]  # what a sentence calls it, and the path of its library where it is one


class Meddled(Exception):
    """The kernel changed the thread settings of its process; the message is the sentence for the record."""


class Manners:
    """The thread settings as they were; `check` compares and costs some tens of microseconds."""

    def __init__(self) -> None:
        self.look_for_libraries()
        self.before = self._now()

    def look_for_libraries(self) -> None:
        """Find what has been loaded by now: 0.2 ms and more, and so not done at every sample."""
        from threadpoolctl import ThreadpoolController

        self.controller = ThreadpoolController()

    def alone(self) -> AbstractContextManager[Any]:
        """While it is open, every BLAS that was loaded multiplies on the calling thread alone.

        For what is done between samples: OpenBLAS's threads look for further work for 0.1 s after a product, on the
        cores of whatever is timed next (seen: a step on two threads of numba-micro that took 1.3 times as long).
        """
        return self.controller.limit(limits=1, user_api="blas")

    def check(self, libraries: bool = False) -> None:
        """Raises Meddled where a setting is not what it was.

        libraries  also look for newly loaded ones, whose settings count from here on
        """
        if libraries:
            self.look_for_libraries()
        now = self._now()
        for name, value in now.items():
            if value != self.before.setdefault(name, value):
                raise Meddled(f"changes {name[0]} from {_said(self.before[name])} to {_said(value)}")

    def _now(self) -> dict[Name, Any]:
        found: dict[Name, Any] = {}
        for pool in self.controller.info():
            name = LIBRARIES.get(pool["internal_api"], pool["internal_api"])
            found[f"{name}'s threads", pool["filepath"]] = pool["num_threads"]
        found["gemmlab's threads", ""] = gemm.get_threads()
        if hasattr(os, "sched_getaffinity"):
            found["the cores that its process may use", ""] = tuple(sorted(os.sched_getaffinity(0)))
        return found | {(name, ""): os.environ.get(name) for name in VARIABLES}


@cache
def manners() -> Manners:
    """Those of this process, as they were when this was first called: before any kernel ran."""
    return Manners()


def _said(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "nothing" if value is None else str(value)
