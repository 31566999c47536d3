"""Kernels that change the thread settings of the process that hosts them, from some call on."""

import os

import numpy as np
import threadpoolctl

import gemm

calls = 0


def _late():
    """Whether it is time to misbehave."""
    global calls
    calls += 1
    return calls > 0


def blas_threads(a, b, c):
    np.matmul(a, b, out=c)
    if _late():
        threadpoolctl.threadpool_limits(limits=2, user_api="blas")


def affinity(a, b, c):
    np.matmul(a, b, out=c)
    if _late():
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def environment(a, b, c):
    np.matmul(a, b, out=c)
    if _late():
        os.environ["OMP_NUM_THREADS"] = "3"


def our_threads(a, b, c):
    np.matmul(a, b, out=c)
    if _late():
        gemm.threads._count = 77


_cores = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
FAULTS = {
    blas_threads: "changes OpenBLAS's threads from 1 to 2",
    environment: "changes OMP_NUM_THREADS from 1 to 3",
    our_threads: f"changes gemmlab's threads from {gemm.get_threads()} to 77",
}
if len(os.sched_getaffinity(0)) > 1:
    FAULTS[affinity] = (
        f"changes the cores that its process may use from {_cores} to {min(os.sched_getaffinity(0))}"
    )
