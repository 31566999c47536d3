"""Simulated samples: do 95 % intervals cover the truth in 95 % of runs, whatever disturbs the samples?

Each scenario draws the samples of two kernels whose true ratio is known, with one of the things that real
machines do, and sends them through the lab's own statistics: medians of rounds, a log-ratio per launch, Student's t,
and the stopping rule of the precision. Run as `python -m bench.evidence.simulated [REPEATS]`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.plans.plan import PRECISIONS
from bench.timing.engine import MOST
from bench.verdicts.statistics import CROWDED, ENOUGH, Interval, Result, counted, narrow, speedup

ROUNDS = 5
TRUTH = 1.03
# (launches, rounds, kernels): factors on the time of each sample
Draw = Callable[[np.random.Generator, tuple[int, int, int]], np.ndarray]


def launch_effects(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """Every process has a speed of its own: 2 % from one to the next, 0.5 % between its samples."""
    launches, _, kernels = shape
    own = rng.normal(0, 0.02, (launches, 1, kernels))
    return np.exp(own + rng.normal(0, 0.005, shape))


def steady(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """A quiet machine, where `precise` now stops at 12 launches and now at 24."""
    launches, _, kernels = shape
    return np.exp(rng.normal(0, 0.011, (launches, 1, kernels)) + rng.normal(0, 0.005, shape))


def drift(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """The machine slows down by up to 30 % in the course of a run, and back; both kernels alike."""
    launches, rounds, _ = shape
    time = np.linspace(0, 1, launches * rounds).reshape(launches, rounds, 1)
    wave = 0.3 * np.sin(2 * np.pi * (rng.uniform() + rng.uniform(0.2, 1.5) * time)) ** 2
    return launch_effects(rng, shape) * np.exp(wave)


def bursts(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """One sample in ten takes up to several times as long."""
    hit = rng.random(shape) < 0.1
    return launch_effects(rng, shape) * np.where(hit, 1 + rng.exponential(1.0, shape), 1)


def two_humps(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """Three samples in ten take half as long again."""
    return launch_effects(rng, shape) * np.where(rng.random(shape) < 0.3, 1.5, 1)


def two_speeds(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """The machine has two speeds 1.7 times apart, each some launches long; a change may fall into a launch."""
    launches, rounds, _ = shape
    slow, factors = rng.random() < 0.5, []
    for _ in range(launches * rounds):
        slow = slow ^ (rng.random() < 0.05)
        factors.append(1.7 if slow else 1.0)
    return launch_effects(rng, shape) * np.array(factors).reshape(launches, rounds, 1)


def unlucky_processes(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """One process in eight is 20 % slower from start to end: where its memory lies."""
    launches, _, kernels = shape
    unlucky = rng.random((launches, 1, kernels)) < 1 / 8
    return launch_effects(rng, shape) * np.where(unlucky, 1.2, 1)


def crowded(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """Somebody else has half of the core for four samples in ten, and that slows one kernel down three times as much.

    What was on record beside each sample decides which count, and whether a launch has more rounds, as in a run.
    """
    launches, rounds, kernels = shape
    crowd = np.where(
        rng.random((launches, MOST * rounds)) < 0.4, rng.uniform(0.1, 0.5, (launches, MOST * rounds)), 0
    )
    own, chosen = launch_effects(rng, (launches, MOST * rounds, kernels)), np.empty(shape)
    for launch, kernel in np.ndindex(launches, kernels):
        costs = own[launch, :, kernel] * (1 + crowd[launch] * (1.0, 0.3)[kernel])
        paces = (1 + crowd[launch]) * (1 + np.abs(rng.normal(0, 0.01, MOST * rounds)))
        lines = [{"seconds": cost, "pace_s": pace} for cost, pace in zip(costs, paces)]
        alone = np.cumsum(paces <= 1 + CROWDED)
        taken = max(rounds, min(MOST * rounds, int(np.searchsorted(alone, ENOUGH)) + 1))
        kept = [line["seconds"] for line in counted(lines[:taken], 1, rounds, 1.0)]
        chosen[launch, :, kernel] = np.median(kept)  # nothing else of a launch is looked at
    return chosen


def everything(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """All of it at once."""
    whole = np.ones(shape)
    for one in (drift, bursts, two_humps, two_speeds):
        whole = whole * one(rng, shape)
    return whole


SCENARIOS: dict[str, Draw] = {
    "steady": steady,
    "launch effects": launch_effects,
    "drift": drift,
    "bursts": bursts,
    "two humps": two_humps,
    "two speeds": two_speeds,
    "unlucky processes": unlucky_processes,
    "crowded": crowded,
    "everything": everything,
}


def run(rng: np.random.Generator, draw: Draw, precision: dict[str, Any], truth: float = TRUTH) -> Interval:
    """One simulated run: sampled until the precision's rule stops it; how many times faster the second is."""
    looks = (*precision.get("looks", ()), precision["launches"])
    factors = draw(rng, (looks[-1], ROUNDS, 2))
    for launches in looks:
        pair = [
            Result({}, {at: list(1e-3 * scale * factors[at, :, of]) for at in range(launches)})
            for of, scale in ((0, truth), (1, 1.0))
        ]
        if launches == looks[-1] or narrow(pair):
            return speedup(*pair)
    raise AssertionError("the last look always stops")


def covered(name: str, precision: str, repeats: int, seed: int = 0) -> int:
    """In how many of `repeats` runs the interval holds the truth."""
    rng = np.random.default_rng([seed, len(name), len(precision)])
    found = (run(rng, SCENARIOS[name], PRECISIONS[precision]) for _ in range(repeats))
    return sum(not interval.excludes(TRUTH) for interval in found)


def widths(name: str, precision: str, repeats: int, seed: int = 0) -> float:
    """The median half-width of the intervals, as a fraction."""
    rng = np.random.default_rng([seed, len(name), len(precision)])
    found = [run(rng, SCENARIOS[name], PRECISIONS[precision]) for _ in range(repeats)]
    return math.expm1(float(np.median([math.log(i.high / i.low) / 2 for i in found])))


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    out = sys.stdout.write
    out(f"intervals that hold the truth, of {repeats} runs, and their half-width\n")
    out(f"{'':18}" + "".join(f"{precision:>18}" for precision in PRECISIONS) + "\n")
    for name in SCENARIOS:
        row = [
            f"{covered(name, p, repeats)} ({100 * widths(name, p, repeats // 10):.1f} %)" for p in PRECISIONS
        ]
        out(f"{name:18}" + "".join(f"{cell:>18}" for cell in row) + "\n")


if __name__ == "__main__":
    main()
