"""Predictions beside measurements: networks drawn by a seed, predicted by `gemmlab predict`, then profiled.

Run as `python -m bench.evidence.predicted --seed 1 --networks 20 [--kernel numba-micro] [--threads 1]`, after
`gemmlab predict --calibrate`. Every network is predicted before the first is run; what was calibrated on were others.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from bench.calibration import LR, NoCalibration
from bench.plans import draws, network
from bench.plans.plan import Plan
from bench.prediction import Prediction, predict
from bench.records import canonical
from bench.timing import engine
from bench.timing.progress import live
from bench.verdicts.statistics import profiles

# What the lab promises of the worst of twenty.
PROMISED = 0.15


def predictions(count: int, seed: int, kernel: str, threads: int, dtype: str) -> list[Prediction]:
    """Of so many networks that the seed draws."""
    found = []
    for described in draws.drawn(count, seed):
        arch, batch = described.pop("arch"), described.pop("batch")
        found.append(predict(arch, batch, kernel, threads=threads, dtype=dtype, lr=LR, **described))
    return found


def measured(predicted: list[Prediction], launches: int, rounds: int, folder: Path) -> dict[str, Any]:
    """The profile of each network, by what it is."""
    cells = []
    for one in predicted:
        model = dict(one.model)
        arch, batch = model.pop("arch"), model.pop("batch")
        cells += network.cells(arch, batch, [one.kernel], one.threads, **model)
    plan = Plan(cells=cells, launches=launches, rounds=rounds, sample_s=0.03, twin=None)
    run = engine.start(plan, folder, stem="predicted", progress=live())
    return {canonical(profile.result.model): profile for profile in profiles(run)}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.evidence.predicted")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--networks", type=int, default=20)
    parser.add_argument("--kernel", default="numba-micro")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--launches", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(arguments)
    try:
        predicted = predictions(given.networks, given.seed, given.kernel, given.threads, given.dtype)
    except NoCalibration as none:
        sys.exit(str(none))
    folder = Path(tempfile.mkdtemp(prefix="gemmlab-predicted-")) / "run"
    found = measured(predicted, given.launches, given.rounds, folder)
    ratios = []
    sys.stdout.write("predicted   measured   ratio  network\n")
    for one in predicted:
        model = one.model
        name = (
            f"{'-'.join(map(str, model['arch']))} batch {model['batch']} "
            f"{model['activation']} {model['loss']} {model['optimizer']}"
        )
        profile = found.get(canonical(model))
        if profile is None:
            sys.stdout.write(f"{1e6 * one.step:8.0f} us          -       -  {name}: no time, see {folder}\n")
            continue
        ratios.append(one.step / profile.step)
        sys.stdout.write(
            f"{1e6 * one.step:8.0f} us {1e6 * profile.step:7.0f} us  {ratios[-1]:6.3f}  {name}\n"
        )
    off = sorted(math.expm1(abs(math.log(ratio))) for ratio in ratios)
    if off:
        within = sum(error <= PROMISED for error in off)
        sys.stdout.write(
            f"seed {given.seed}: worst {100 * off[-1]:.1f} %, median {100 * median(off):.1f} %; "
            f"{within} of {len(off)} within {100 * PROMISED:.0f} %\n"
        )


if __name__ == "__main__":
    main()
