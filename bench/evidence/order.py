"""Order: A then B and B then A give the same ratio.

Once by the order in which the kernels are named, in two sweeps; once within a sweep, by the rounds in which the
one came before the other. Run as `python -m bench.evidence.order [KERNEL_A KERNEL_B N]`.
"""

from __future__ import annotations

import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median

import bench
from bench.records import Line, Run
from bench.verdicts.statistics import Interval, geometric, own_seconds, results, speedup


def by_order(run: Run, kernels: tuple[str, str], first: Callable[[Line, Line], bool]) -> Interval:
    """How many times faster the second kernel is, from the rounds in which `first(a, b)` holds alone."""
    cells = {cell["kernel"]: cell for cell in run.cells}
    samples: dict[str, dict[tuple[int, int], Line]] = defaultdict(dict)
    for line in run.of("sample"):
        samples[line["cell"]][line["launch"], line["round"]] = line
    a, b = (samples[cells[kernel]["cell"]] for kernel in kernels)
    ratios: dict[int, list[float]] = defaultdict(list)
    for at in a.keys() & b.keys():
        if first(a[at], b[at]):
            ratios[at[0]].append(own_seconds(a[at], 1) / own_seconds(b[at], 1))
    return geometric(median(values) for values in ratios.values())


def sweep(kernels: tuple[str, str], n: int, out: Path) -> tuple[Run, Interval]:
    """A precise sweep on one thread, and how many times faster the second kernel is."""
    run = bench.sweep(kernels, [n], threads=[1], out=out, launches=12, rounds=8, sample_s=0.01)
    by = {result.kernel: result for result in results(run)}
    return run, speedup(by[kernels[0]], by[kernels[1]])


def main() -> None:
    first, second, size = sys.argv[1:4] if len(sys.argv) > 3 else ("numba-blocked", "blas", "256")
    n, out = int(size), sys.stdout.write
    folder = Path(tempfile.mkdtemp(prefix="gemmlab-order-"))
    run, forth = sweep((first, second), n, folder / "forth")
    _, back = sweep((second, first), n, folder / "back")
    back = Interval(1 / back.value, 1 / back.high, 1 / back.low, back.n)
    before = by_order(run, (first, second), lambda a, b: a["order"] < b["order"])
    after = by_order(run, (first, second), lambda a, b: a["order"] > b["order"])
    for what, ratio in (
        (f"named {first}, {second}", forth),
        (f"named {second}, {first}", back),
        (f"rounds with {first} first", before),
        (f"rounds with {second} first", after),
    ):
        out(f"{what:40} {ratio.value:.4f} ({ratio.low:.4f}-{ratio.high:.4f})\n")


if __name__ == "__main__":
    main()
