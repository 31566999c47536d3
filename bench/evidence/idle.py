"""Idle means idle: what a neighbour costs that waits without being stopped.

A worker is sampled on all cores after another has done a call: the other stopped, as the lab does it; the other
let run on, with its pool waiting for work as pools do; the other with a thread that spins. Run as
`python -m bench.evidence.idle [N]`.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from statistics import median
from time import sleep

from bench.evidence import spinning
from bench.isolation.processes import Worker
from gemm.problems import Problem
from gemm.threads import available_cores

TIMEOUT_S = 120.0
SAMPLES = 30


class Restless(Worker):
    """A worker that goes on when it has answered."""

    def _stop(self) -> None:
        super()._stop()
        self._signal(signal.SIGCONT)


def opened(kind: type[Worker], kernel: str, n: int, threads: int) -> Worker:
    """A worker with a product open."""
    worker = kind(threads)
    worker.ask(TIMEOUT_S, do="hello", ceiling=False)
    worker.ask(
        TIMEOUT_S, do="open", what="problem", problem=Problem(n, n, n).record(), kernel=kernel, seed=0,
        sample_s=0.002,
    )  # fmt: skip
    return worker


def seconds_beside(kind: type[Worker], neighbour: str, n: int, threads: int) -> list[float]:
    """Seconds per call of BLAS, each sample just after the neighbour has answered."""
    mine, other = opened(Worker, "blas", n, threads), opened(kind, neighbour, n, threads)
    try:
        times = []
        for _ in range(SAMPLES):
            other.ask(TIMEOUT_S, do="sample")
            times.append(mine.ask(TIMEOUT_S, do="sample")["seconds"])
            sleep(0.01)
        return times
    finally:
        mine.kill()
        other.kill()


def main() -> None:
    n, threads = int(sys.argv[1]) if len(sys.argv) > 1 else 256, available_cores()
    sys.stdout.write(f"blas at n = {n} on {threads} threads, beside another process that has just answered\n")
    file = Path(spinning.__file__)
    for what, kind, neighbour in (
        ("blas, stopped", Worker, "blas"),
        ("blas, waiting", Restless, "blas"),
        ("a thread that spins, stopped", Worker, f"{file}:spinning"),
        ("a thread that spins, going on", Restless, f"{file}:spinning"),
    ):
        times = seconds_beside(kind, neighbour, n, threads)
        mean = sum(times) / len(times)
        sys.stdout.write(f"  {what:32} median {median(times) * 1e6:6.0f} us, mean {mean * 1e6:6.0f} us\n")


if __name__ == "__main__":
    main()
