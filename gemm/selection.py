"""The selection: which kernel was the fastest for what shape on this machine, read and never measured here.

`gemmlab select` writes it from the records of sweeps; the kernel `auto` asks `choose` for each product. An entry of the
file (`gemm.configuration`) has for each dtype and number of threads the seconds of several kernels on the same shapes:

    {"cpu": {...}, "choices": [{"dtype": "float32", "threads": 1, "kernels": ["numba-micro", "blas"], "products":
        [{"m": 128, "n": 512, "k": 784, "order": "nn", "seconds": [0.00091, 0.00097]}, ...]}, ...]}

Between the shapes that were measured the logarithms of times are averaged with weights that fall off with the distance:
for all kernels the same, so that it is their ratio which is interpolated, and no single noisy sample decides.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from gemm import processor, threads
from gemm.configuration import Entry, Kept, Unusable
from gemm.kernel import Kernel, KernelUnavailable

FILE = Kept("selection", 1, "GEMMLAB_SELECTION", "selection", "gemmlab select", longest=64 << 20)
ORDERS = ("nn", "nt", "tn", "tt")
# Octaves that another order counts as, and at which a shape begins to count less.
ORDER_APART, NEAR = 2.0, 0.5
AUTO = "auto"


@dataclass(frozen=True)
class Choices:
    """What was measured on one number of threads with one dtype.

    kernels  names of those to choose from
    shapes   (m, n, k, order) of each product
    logs     of each product the logarithm of each kernel's seconds
    """

    kernels: tuple[str, ...]
    shapes: tuple[tuple[int, int, int, str], ...]
    logs: tuple[tuple[float, ...], ...]

    def ranked(self, m: int, n: int, k: int, order: str) -> list[str]:
        """The kernels' names for a shape, the one that is expected to be the fastest first."""
        totals = [0.0] * len(self.kernels)
        here = [math.log2(max(1, size)) for size in (m, n, k)]
        for (*there, own), logs in zip(self.shapes, self.logs):
            away = sum((x - math.log2(y)) ** 2 for x, y in zip(here, there))
            away += ORDER_APART**2 * (own != order)
            weight = (away + NEAR**2) ** -2
            for at, log in enumerate(logs):
                totals[at] += weight * log
        return [name for _, name in sorted(zip(totals, self.kernels))]


def choose(m: int, n: int, k: int, dtype: Any, order: str = "nn", threads: int | None = None) -> Kernel:
    """The kernel that this machine's records show to be the fastest for a product, of those that can run here.

    m, n, k   as in BLAS
    dtype     "float32" or "float64"
    order     of A and B: n, or t where it is a transposed view
    threads   default: those of this process (`gemm.get_threads`)

    Raises KernelUnavailable, naming the command to run, where there is no selection for the dtype and threads, and
    ValueError for what is no order.
    """
    if order not in ORDERS:
        raise ValueError(f"order {order!r} is none; there are {', '.join(ORDERS)}")
    return _chosen(m, n, k, str(dtype), order, _threads(threads))


def probe() -> str | None:
    """None where there is a selection for this processor, else what to do."""
    if selected():
        return None
    return "nothing has been selected for this processor; `gemmlab select RUN` does, from a sweep of several kernels"


def origin(dtype: str) -> str:
    """What stands for the selection in records: twelve hex digits, other ones for another selection; "none"."""
    mine = sorted(
        (count, choices) for (kind, count), choices in selected().items() if kind == dtype
    )  # fmt: skip
    return hashlib.sha256(repr(mine).encode()).hexdigest()[:12] if mine else "none"


@cache
def selected() -> dict[tuple[str, int], Choices]:
    """This machine's choices by dtype and threads; {} if there are none, and one warning if there is a file."""
    nothing: dict[tuple[str, int], Choices] = {}
    return FILE.mine(cpu, choices_of, nothing)


def refresh() -> None:
    """Read the file anew: after it was written."""
    from gemm import registry

    selected.cache_clear()
    _chosen.cache_clear()
    registry.refresh()  # `auto` may be available now


def cpu() -> Entry:
    """What an entry is for: the processor and its caches."""
    return {**processor.identity(), "caches": processor.caches()}


def choices_of(entry: Entry, file: Path) -> dict[tuple[str, int], Choices]:
    """An entry's choices. Raises Unusable for any that cannot be."""
    try:
        return {(str(one["dtype"]), int(one["threads"])): _choices(one) for one in entry["choices"]}
    except (KeyError, TypeError, ValueError) as error:
        raise Unusable(f"{file}: damaged, a choice without its figures ({error})") from error


def _choices(record: Entry) -> Choices:
    kernels = tuple(map(str, record["kernels"]))
    shapes, logs = [], []
    for one in record["products"]:
        m, n, k = (int(one[axis]) for axis in "mnk")
        seconds = [float(value) for value in one["seconds"]]
        if min(m, n, k) < 1 or one["order"] not in ORDERS or len(seconds) != len(kernels):
            raise ValueError(f"a product of {m} x {n} x {k} {one['order']!r:.10}")
        if not all(0 < value < math.inf for value in seconds):
            raise ValueError(f"seconds {seconds!r:.60}")
        shapes.append((m, n, k, one["order"]))
        logs.append(tuple(map(math.log, seconds)))
    if not kernels or not shapes:
        raise ValueError("nothing to choose from")
    if AUTO in kernels:
        raise ValueError(f"{AUTO} among the kernels to choose from")
    return Choices(kernels, tuple(shapes), tuple(logs))


def _threads(count: int | None) -> int:
    return threads.get_threads() if count is None else count


@lru_cache(maxsize=4096)
def _chosen(m: int, n: int, k: int, dtype: str, order: str, count: int) -> Kernel:
    from gemm.registry import find

    known = selected()
    if (dtype, count) not in known:
        there = ", ".join(f"{kind} on {number}" for kind, number in known) or "nothing"
        raise KernelUnavailable(
            f"kernel {AUTO!r} has nothing to choose from for {dtype} on {count} thread{'s' * (count > 1)} (there is "
            f"{there}); `gemmlab select RUN` makes a choice from a sweep of several kernels"
        )
    reasons = []
    for name in known[dtype, count].ranked(m, n, k, order):
        kernel = _or_none(find, name)
        if kernel is not None and kernel.available and kernel.signature(dtype):
            return kernel
        reasons.append(name)
    raise KernelUnavailable(
        f"kernel {AUTO!r}: none of {', '.join(reasons)}, which it chooses from, can run here any more; "
        "`gemmlab select RUN` chooses anew"
    )


def _or_none(find: Callable[[str], Kernel], name: str) -> Kernel | None:
    try:
        return find(name)
    except ValueError:  # of a library that was named then and is not now
        return None
