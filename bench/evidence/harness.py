"""The harness itself: its time per call beside a hand-written loop's, and what it spends outside sampling.

Run as `python -m bench.evidence.harness`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter, perf_counter_ns
from typing import Any

import numpy as np

import gemm
from bench.plans.plan import Cell, Plan, source
from bench.records import Line
from bench.timing import engine
from bench.timing.crew import Crew
from bench.timing.subjects import Product
from bench.verdicts.statistics import geometric
from gemm.problems import Problem

N, SAMPLES = 64, 200


def beside_a_loop() -> tuple[float, float, Any]:
    """Nanoseconds per call by the harness and by a loop over np.dot in the same process, in turn, and their ratio."""
    gemm.set_threads(1)
    product = Product("blas", Problem(N, N, N).record(), seed=0)
    loops = product.open(0.01)["loops"]
    (a, b, c), dot = Problem(N, N, N).operands(), np.dot
    ours, loop = [], []
    for _ in range(SAMPLES):
        ours.append(product.sample()["seconds"] * 1e9)
        for _ in range(100):
            dot(a, b, c)
        begin = perf_counter_ns()
        for _ in range(loops):
            dot(a, b, c)
        loop.append((perf_counter_ns() - begin) / loops)
    # five blocks of forty: an interval over blocks, as over launches
    blocks = [median(o / w for o, w in zip(ours[at::5], loop[at::5])) for at in range(5)]
    return median(ours), median(loop), geometric(blocks)


class Timed(Crew):
    """A crew that knows how long starting took, and how long samples did."""

    starting = sampling = 0.0

    def start(self, members: Any) -> None:
        begin = perf_counter()
        super().start(members)
        Timed.starting += perf_counter() - begin

    def ask(self, member: Any, **request: Any) -> Line:
        begin = perf_counter()
        answer = super().ask(member, **request)
        if request["do"] == "ceiling":
            Timed.sampling += perf_counter() - begin
        elif request["do"] == "sample":
            Timed.sampling += answer["seconds"] * answer["loops"]
        return answer


def overhead(folder: Path) -> float:
    """Milliseconds per cell and launch that are neither a sample nor the start of a process."""
    sizes, kernels = range(32, 96, 4), ("blas",)
    cells = [Cell(name, 1, Problem(n, n, n), source=source(name)) for n in sizes for name in kernels]
    plan = Plan(cells=cells, launches=3, sample_s=0.01, twin=None, more_s=0.0)
    engine.Crew = Timed  # type: ignore[misc]
    begin = perf_counter()
    engine.start(plan, folder)
    spent = perf_counter() - begin - Timed.starting - Timed.sampling
    return 1e3 * spent / (len(cells) * plan.launches)


def import_s() -> float:
    """Seconds of `import bench` over those of an empty interpreter, the least of five."""

    def least(code: str) -> float:
        times = []
        for _ in range(5):
            begin = perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            times.append(perf_counter() - begin)
        return min(times)

    return least("import bench") - least("pass")


def main() -> None:
    ours, loop, ratio = beside_a_loop()
    sys.stdout.write(
        f"n = {N}, float32: harness {ours:.0f} ns a call, hand-written loop {loop:.0f} ns, "
        f"ratio {ratio.value:.4f} ({ratio.low:.4f}-{ratio.high:.4f})\n"
    )
    spent = overhead(Path(tempfile.mkdtemp(prefix="gemmlab-harness-")) / "run")
    sys.stdout.write(f"outside sampling, after the workers' start: {spent:.1f} ms per cell and launch\n")
    sys.stdout.write(f"import bench: {import_s():.2f} s over an empty interpreter\n")


if __name__ == "__main__":
    main()
