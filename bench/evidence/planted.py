"""Planted slowdowns, live: does the lab find what is there, and nothing where there is nothing?

Kernels that are NumPy's BLAS plus a busy-wait of a fixed number of nanoseconds, set from a pilot to 0, 1, 2, 5 and
10 % of the call. Each run is an ordinary sweep on one thread at the default precision; from each of its sizes come

    four intervals          of a planted slowdown against the kernel without one: do they hold the truth?
    two A/A verdicts        kernels that are the same, in pairs: is a difference called?
    calls                   of effects of at least twice the floor: are they called?

Run as `python -m bench.evidence.planted [RUNS [FOLDER]]`; 20 runs take about a quarter of an hour.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns

import numpy as np

import gemm
from bench.evidence import planted_kernels
from bench.plans.plan import Cell, Plan, source
from bench.records import Run, write_json
from bench.timing import engine
from bench.verdicts.compare import verdict
from bench.verdicts.statistics import Result, floor_for, floors, results, speedup
from gemm.problems import Problem

# Calls of some hundred microseconds: a percent is far above what a clock reading costs.
SIZES = (192, 256, 320, 384, 448)
BASE, SAME = "base", ("same_1", "same_2", "same_3")
SHARES = {"plus_1": 0.01, "plus_2": 0.02, "plus_5": 0.05, "plus_10": 0.10}
FILE = Path(planted_kernels.__file__)


@dataclass
class Tally:
    """What was found over all runs."""

    intervals: int = 0
    covering: int = 0
    pairs: int = 0
    called_alike: int = 0
    clear: int = 0
    called_clear: int = 0
    floors: list[float] = field(default_factory=list)


def pilot() -> dict[int, int]:
    """Size -> nanoseconds of a BLAS call on one thread: the median of fifty, measured here and now."""
    gemm.set_threads(1)
    times = {}
    for n in SIZES:
        a, b, c = Problem(n, n, n).operands()
        samples = []
        for _ in range(60):
            begin = perf_counter_ns()
            np.matmul(a, b, out=c)
            samples.append(perf_counter_ns() - begin)
        times[n] = int(np.median(samples[10:]))
    return times


def plan(seed: int) -> Plan:
    """The sweep of one run."""
    names = [f"{FILE}:{name}" for name in (BASE, *SAME, *SHARES)]
    cells = [Cell(name, 1, Problem(n, n, n), source=source(name)) for n in SIZES for name in names]
    return Plan(cells=cells, sample_s=0.01, twin=names[0], seed=seed)


def count(run: Run, waits: dict[str, dict[int, int]], tally: Tally) -> None:
    """Add what one run says to the tally. `waits`: kernel -> size -> the nanoseconds planted."""
    found = results(run)
    at = {(result.kernel.rpartition(":")[2], result.problem["n"]): result for result in found}
    known = floors(run)
    tally.floors += [floor.value for floor in known]
    for n in SIZES:
        base = at[BASE, n]
        floor = floor_for(known, base)
        for name in SHARES:
            slower = speedup(at[name, n], base)  # how many times faster without the wait
            truth = 1 + waits[name][n] / 1e9 / base.seconds.value
            tally.intervals += 1
            tally.covering += not slower.excludes(truth)
            if truth - 1 >= 2 * floor:
                tally.clear += 1
                tally.called_clear += verdict(speedup(base, at[name, n]), floor) == "slower"
        for one, other in ((base, at[SAME[0], n]), (at[SAME[1], n], at[SAME[2], n])):
            tally.pairs += 1
            tally.called_alike += _called(one, other, floor)


def _called(one: Result, other: Result, floor: float) -> bool:
    return verdict(speedup(one, other), floor) in ("faster", "slower")


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(tempfile.mkdtemp(prefix="gemmlab-planted-"))
    tally, out = Tally(), sys.stdout.write
    for number in range(runs):
        calls = pilot()
        waits = {name: {n: round(share * calls[n]) for n in SIZES} for name, share in SHARES.items()}
        planted_kernels.plant(waits)
        run = engine.start(plan(number), folder / f"{number:03d}")
        write_json(run.path / "waits.json", waits)
        count(run, waits, tally)
        out(
            f"run {number + 1}: intervals that hold the truth {tally.covering} of {tally.intervals}; "
            f"A/A called {tally.called_alike} of {tally.pairs}; at least twice the floor and called "
            f"{tally.called_clear} of {tally.clear}; floor {100 * float(np.median(tally.floors)):.1f} % (median)\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
