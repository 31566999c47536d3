"""A busy neighbour: something else runs on the workers' core, on and off at random.

Three sweeps of two kernels on one thread, bound to one core: on the quiet core; with the neighbour; and the
same two kernels as most people time them, one after the other in two blocks, with the neighbour too. Says what each
reports as the ratio of the two, and what the lab says about it. Run as
`python -m bench.evidence.hog [REPEATS [KERNEL_A KERNEL_B N]]`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import bench
import gemm
from bench.records import Run
from bench.verdicts.statistics import Interval, Result, geometric, results, speedup
from gemm.problems import Problem

# Spins and sleeps for random times of half a second in the mean, for as long as its parent lives.
HOG = """
import os, random, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
parent = os.getppid()
while os.getppid() == parent:
    until = time.perf_counter() + random.expovariate(2.0)
    while time.perf_counter() < until:
        pass
    time.sleep(random.expovariate(2.0))
"""
BLOCK_S = 1.0


@contextlib.contextmanager
def on_one_core() -> Iterator[int]:
    """This process and its children on the last core that it may use."""
    allowed = os.sched_getaffinity(0)
    core = max(allowed)
    os.sched_setaffinity(0, {core})
    try:
        yield core
    finally:
        os.sched_setaffinity(0, allowed)


@contextlib.contextmanager
def hog(core: int) -> Iterator[None]:
    """The neighbour, for as long as the context lasts."""
    process = subprocess.Popen([sys.executable, "-c", HOG, str(core)])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def measured(kernels: tuple[str, str], n: int, out: Path) -> tuple[Run, tuple[Result, Result]]:
    """An ordinary sweep at the default precision."""
    run = bench.sweep(kernels, [n], threads=[1], out=out, sample_s=0.01)
    by = {result.kernel: result for result in results(run)}
    return run, (by[kernels[0]], by[kernels[1]])


def blocks(kernels: tuple[str, str], n: int) -> float:
    """The same from two blocks of calls, one kernel after the other, medians of call times."""
    gemm.set_threads(1)
    medians = []
    for kernel in kernels:
        a, b, c = Problem(n, n, n).operands()
        call = gemm.prepare(a, b, c, kernel=kernel)
        call()
        until, times = perf_counter() + BLOCK_S, []
        while perf_counter() < until:
            begin = perf_counter()
            call()
            times.append(perf_counter() - begin)
        medians.append(sum(times) / len(times))
    return medians[0] / medians[1]


def pooled(runs: list[tuple[Result, Result]]) -> Interval:
    """The ratio over the launches of several sweeps."""
    ratios = []
    for base, other in runs:
        before, after = base.medians, other.medians
        ratios += [before[launch] / after[launch] for launch in before if launch in after]
    return geometric(ratios)


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    first, second, size = sys.argv[2:5] if len(sys.argv) > 4 else ("numba-ikj", "blas", "128")
    kernels, n, out = (first, second), int(size), sys.stdout.write
    folder = Path(tempfile.mkdtemp(prefix="gemmlab-hog-"))
    quiet, busy, naive = [], [], []
    with on_one_core() as core:
        for number in range(repeats):
            quiet.append(measured(kernels, n, folder / f"quiet-{number}")[1])
            with hog(core):
                run, pair = measured(kernels, n, folder / f"busy-{number}")
                naive.append(blocks(kernels, n))
            busy.append(pair)
            out(f"quiet {_said(speedup(*quiet[-1]))}, neighbour {_said(speedup(*pair))}, ")
            out(f"two blocks one after the other {naive[-1]:.3f}\n")
            for cell in run.cells:
                for doubt in cell["doubts"]:
                    out(f"    {cell['kernel']}: {doubt['sentence']}\n")
            sys.stdout.flush()
    alone, beside = pooled(quiet), pooled(busy)
    out(
        f"{second} against {first} at n = {n}, over all launches: quiet {_said(alone)}, neighbour {_said(beside)}: "
    )
    out(f"{100 * (beside.value / alone.value - 1):+.1f} %; ")
    off = sorted(100 * (value / alone.value - 1) for value in naive)
    out(f"two blocks {off[0]:+.0f} to {off[-1]:+.0f} %\n")


def _said(ratio: Interval) -> str:
    return f"{ratio.value:.3f} ({ratio.low:.3f}-{ratio.high:.3f})"


if __name__ == "__main__":
    main()
