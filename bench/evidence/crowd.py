"""A crowd: eight Python threads multiply at once for a minute, while the number of threads changes; all is checked.

Run as `python -m bench.evidence.crowd [SECONDS] [KERNEL]`; exit code 1 if a product was wrong.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field

import numpy as np

import gemm
from gemm.problems import integers

CALLERS = 8
LARGEST = 400
CHANGES = (1, 2, 3, 1, 4, 2)  # threads, in turn


@dataclass
class Found:
    """What a crowd did: products that were right, those that were not (in words), changes of threads."""

    products: int = 0
    wrong: list[str] = field(default_factory=list)
    changes: int = 0


def crowd(seconds: float, kernel: str = "numba-micro", callers: int = CALLERS, every: float = 0.0) -> Found:
    """Multiply in `callers` threads at once, integers, each result compared bit for bit.

    every  seconds between changes of the number of threads; 0: it stays
    """
    problems = [_problem(number) for number in range(24)]
    for a, b, _ in problems[:2]:
        gemm.matmul(a, b, kernel=kernel)  # compiled, one dtype each, before the clock runs
    found, adding = Found(), threading.Lock()
    end = time.monotonic() + seconds

    def caller(number: int) -> None:
        rng = np.random.default_rng(number)
        while time.monotonic() < end:
            a, b, expected = problems[rng.integers(len(problems))]
            c = np.full(expected.shape, np.nan, expected.dtype)
            beside = gemm.Epilogue(activation="relu") if rng.random() < 0.2 else None
            gemm.matmul(a, b, c, kernel=kernel, epilogue=beside)
            right = np.array_equal(c, expected if beside is None else np.maximum(expected, 0))
            with adding:
                found.products += right
                if not right:
                    found.wrong.append(f"{a.shape} times {b.shape}, {a.dtype}")

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(callers)]
    before = gemm.get_threads()
    for thread in threads:
        thread.start()
    while every and time.monotonic() < end:
        gemm.set_threads(CHANGES[found.changes % len(CHANGES)])
        found.changes += 1
        time.sleep(every)
    for thread in threads:
        thread.join()
    if every:
        gemm.set_threads(before)
    return found


def _problem(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng([1, number])
    m, n, k = rng.integers(1, LARGEST, 3)
    if number % 4 == 0:
        m, n, k = 3, 4, 5000
    dtype = ("float32", "float64")[number % 2]
    a, b = integers(rng, (m, k), k, dtype), integers(rng, (k, n), k, dtype)
    expected = a @ b
    return (a if number % 3 else np.asfortranarray(a)), (b if number % 5 else np.asfortranarray(b)), expected


def main() -> None:
    seconds, kernel = float((sys.argv[1:] or ["60"])[0]), (sys.argv[2:] or ["numba-micro"])[0]
    for every in (0.0, 0.01):
        found = crowd(seconds / 2, kernel, every=every)
        sys.stdout.write(
            f"{kernel}, {CALLERS} callers for {seconds / 2:g} s, threads changed {found.changes} times: "
            f"{found.products} products right, {len(found.wrong)} wrong {' '.join(found.wrong[:3])}\n"
        )
        if found.wrong:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
