"""Device plans: what a cell on a GPU needs, and how many copies of its operands it rotates over.

Cold on a device: A, B and C have copies, together more than twice its L2 cache, and every call takes the next. There
are two always, and MOST_COPIES at most: then the smallest products come from L2.
"""

from __future__ import annotations

from math import ceil
from typing import Any

from bench.host import gpu
from bench.isolation import trial
from bench.peers import is_peer
from gemm.dtypes import itemsize
from gemm.problems import Problem

CUDA = "cuda"
# What a device cell's `threads` say: none of the lab's.
NO_THREADS = 0
# Where a device kernel's operands live.
OPERANDS = ("device", "host")
# What a sweep does on a device that names no size.
SIZES = (512, 1024, 2048, 4096)
MOST_COPIES = 1 << 12
# Bytes of a context and its libraries, for each process.
CONTEXT = 700 << 20
# A device's ceilings (`bench.timing.device_ceilings`), whose names are nobody else's.
PREFIX = "cuda-"
BANDWIDTHS = ("cuda-dram-copy", "cuda-dram-read", "cuda-l2-copy", "cuda-l2-read")


def device_of(kernel: str) -> str:
    """Where a kernel multiplies; mappings and whole steps of others are the CPU's."""
    if is_peer(kernel) or (trial.file_of(kernel) is None and ("," in kernel or "=" in kernel)):
        return "cpu"
    return trial.outcome(kernel).device


def arithmetic(kernel: str, dtype: str) -> str:
    """What a device kernel multiplies: its operands' dtype, or what it rounds them to (tfloat32).

    float64 is one kind: the tensor cores of data-centre GPUs do it too, with the same digits.
    """
    return trial.outcome(kernel).multiplies or dtype


def takes(kernel: str, dtype: str) -> bool:
    """Whether a kernel has a signature for a dtype; of a file that cannot be imported nobody knows."""
    inputs = trial.outcome(kernel).inputs
    return not inputs or dtype in inputs


def ceiling_of(arithmetic: str) -> str:
    """The ceiling of what is multiplied: "tfloat32" -> "cuda-tfloat32"."""
    return PREFIX + arithmetic


def footprint(problem: Problem) -> int:
    """Bytes of A, B and C."""
    p = problem
    return p.batch * (p.m * p.k + p.k * p.n + p.m * p.n) * itemsize(p.dtype)


def copies(problem: Problem, l2_bytes: int) -> int:
    """How many copies of A, B and C a cold cell has on a device with such a cache."""
    return max(2, min(ceil((2 * l2_bytes + 1) / footprint(problem)), MOST_COPIES))


def beside(problem: Problem, l2_bytes: int, large: bool) -> int:
    """Bytes that a cell needs on the device beside its copies: C twice to compare with, and what verifies.

    A large one is verified there: with operands of its own, and float64 temporaries in pieces.
    """
    c = problem.batch * problem.m * problem.n * itemsize(problem.dtype)
    return 3 * c + 2 * l2_bytes + (2 * footprint(problem) + (1 << 30) if large else 64 << 20)


def memory(problem: Problem, cache: str, l2_bytes: int) -> tuple[int, int]:
    """Bytes of the device that a cell's process holds while others are timed, and those that it needs at times."""
    held = CONTEXT + 2 * l2_bytes + 2 * footprint(problem)
    held += footprint(problem) * (copies(problem, l2_bytes) if cache == "cold" else 1)
    return held, beside(problem, l2_bytes, large=True)


def check_memory(cells: Any) -> None:
    """Refuse what the device has no room for, before anything is allocated. Raises ValueError.

    cells  those of a plan; the ones of a group hold their operands at the same time, and one has a twin
    """
    groups: dict[Any, list[tuple[int, int]]] = {}
    for cell in cells:
        if cell.device == CUDA and cell.operands == "device" and cell.problem:
            groups.setdefault(cell.group, []).append(memory(cell.problem, cell.cache, gpu.l2_bytes()))
    if not groups:
        return
    free = gpu.free_memory()
    totals = [
        sum(held for held, _ in one) + max(held for held, _ in one) + max(needed for _, needed in one)
        for one in groups.values()
    ]
    if free is not None and max(totals) > 0.95 * free:
        raise ValueError(
            f"the largest problem needs about {max(totals) / 2**30:.1f} GiB on the GPU over all its workers and "
            f"{free / 2**30:.1f} GiB are free there; use smaller sizes or fewer kernels at once"
        )
