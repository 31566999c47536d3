"""A made run of the comparison with the libraries: times by a law, groups in the plan, a roofline on record."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from bench.records import Run, write_json
from tests.reports.conftest import LAUNCHES, ROUNDS, Synthetic

GROUPS = {
    "squares": [(n, n, n) for n in (16, 32, 64, 128, 256, 333, 512, 777, 1000, 1024, 2048)],
    "mlp forward": [(batch, n, k) for batch in (1, 32, 128, 1024) for n, k in ((10, 512), (512, 784))],
    "mlp dW": [(784, 512, batch) for batch in (1, 32, 128, 1024)],
    "mlp dX": [(batch, 512, 513) for batch in (1, 32, 128, 1024)],
    "skinny": [(m, 2048, 2048) for m in (1, 8, 32)] + [(2048, n, 2048) for n in (1, 8, 32)]
    + [(2048, 2048, k) for k in (1, 8, 32)] + [(m, m, 65536) for m in (8, 32)],
    "deepbench": [(1760, 32, 1760), (1760, 128, 1760), (2560, 64, 2560), (7680, 64, 2560), (35, 8457, 1760),
                  (1024, 700, 512), (1024, 701, 512)],
}  # fmt: skip
LIBRARIES = ("cblas:openblas", "cblas:mkl", "cblas:blis", "blas", "torch")
PEAK = {("float32", 1): 116e9, ("float32", 2): 225e9, ("float64", 1): 58e9, ("float64", 2): 112e9}


def rivals(
    run: Synthetic, groups: dict[str, Sequence[tuple[int, int, int]]] = GROUPS,
    settings: Sequence[tuple[str, int]] = tuple(PEAK), libraries: Sequence[str] = LIBRARIES,
    new: str = "numba-micro", ahead: Callable[[str], float] = lambda name: 1.06,
) -> Run:  # fmt: skip
    """`ahead`: how many times faster NEW is than the best library, by group, but for luck."""
    luck = random.Random(3)
    written = {name: ["x".join(map(str, at)) + " nn" for at in shapes] for name, shapes in groups.items()}
    write_json(run.folder / "plan.json", {"rounds": ROUNDS, "launches": LAUNCHES, "groups": written})
    for dtype, threads in settings:
        peak = PEAK[dtype, threads]
        for launch in range(LAUNCHES):
            at = {"launch": launch, "round": 0, "order": 0, "threads": threads, "dtype": dtype}
            run.writer.append("ceiling", "", ceiling="fma", unit="FLOP", work=peak, seconds=1.0, **at)
        for name, shapes in groups.items():
            for m, n, k in shapes:
                size = (m * n * k) ** (1 / 3)
                part = min(0.2 + size / 400, 0.92) * (0.25 if min(m, n, k) < 10 else 1)
                least = 2 * m * n * k / peak
                of_all = {kernel: least / part * luck.uniform(1, 1.25) for kernel in libraries}
                of_all[new] = min(of_all.values()) / ahead(name) * luck.uniform(0.94, 1.06)
                for kernel, seconds in of_all.items():
                    shares: dict[str, Any] = {
                        "arithmetic": least / seconds,
                        "bandwidth": 0.1,
                        "overhead": 0.0,
                    }
                    run.product(
                        kernel, (m, n, k), seconds=seconds, threads=threads, problem={"dtype": dtype},
                        steady=threads == 1, twin=1.01 * (kernel == "blas"),
                        bound={"by": "arithmetic", "level": "L2", "shares": shares},
                    )  # fmt: skip
    return run.done()
