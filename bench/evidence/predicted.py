"""Predictions beside measurements: networks drawn by a seed, predicted from others, and measured.

Run as `python -m bench.evidence.predicted --seed 1 --networks 20 [--kernel numba-micro] [--threads 1]`, after
`gemmlab predict --calibrate`. Every network is predicted before the first is run.

A prediction is of a core of one's own. What the loop beside the samples says of who else was there (`bench.host.pace`),
at the price that the calibration has found for it, is `slowed`, by which the prediction is multiplied before it is
compared: divide the ratio by it for the bare one.

A machine that is shared is not the same in another hour in other ways too, and no model of a kernel can know that.
`--together` measures the calibration's networks anew, in turn with those that are drawn, in one run, and predicts
these from that run without their own records: what is left between them is the model's error, and what is left of the
machine's within a run.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from bench import calibration
from bench.calibration import LR, NETWORKS, NoCalibration
from bench.plans import draws
from bench.plans.plan import Plan
from bench.prediction import Prediction, predict
from bench.records import Line, Run, canonical, load
from bench.timing import engine
from bench.timing.progress import live
from bench.verdicts.statistics import Profile, profiles, slowed

# What the lab promises of the worst of twenty.
PROMISED = 0.15
SETTINGS: dict[str, Any] = {"rounds": 5, "sample_s": 0.03, "more_s": 0.2, "twin": None}


def before(
    drawn: list[dict[str, Any]], given: argparse.Namespace, folder: Path
) -> tuple[list[Prediction], Run]:
    """Predictions by the calibration that was kept, and then the run that measures the same networks."""
    predicted = _predictions(drawn, given, None)
    cells = calibration.cells_of(drawn, given.kernel, given.dtype, given.threads)
    plan = Plan(cells=cells, launches=given.launches, **SETTINGS)
    return predicted, engine.start(plan, folder, stem="predicted", progress=live())


def together(
    drawn: list[dict[str, Any]], given: argparse.Namespace, folder: Path
) -> tuple[list[Prediction], Run]:
    """One run of the calibration's networks and the drawn ones, evenly mixed, and predictions by the former."""
    theirs, own = (
        calibration.cells_of(networks, given.kernel, given.dtype, given.threads)
        for networks in (draws.spread(given.calibrated), drawn)
    )
    without = {cell.id for cell in own}
    if without & {cell.id for cell in theirs}:
        raise NoCalibration("a network that was drawn is one of the calibration's; give another seed")
    if given.run is not None:
        run = load(given.run)
    else:
        places = [(i / len(cells), cell) for cells in (theirs, own) for i, cell in enumerate(cells)]
        mixed = list({cell.id: cell for _, cell in sorted(places, key=lambda place: place[0])}.values())
        plan = Plan(cells=mixed, launches=given.launches, **SETTINGS)
        run = engine.start(plan, folder, stem="predicted", progress=live())
    known = calibration.from_runs([run], own[0].kernel, given.dtype, own[0].threads, without)
    return _predictions(drawn, given, {own[0].kernel: known}), run


def _predictions(drawn: list[dict[str, Any]], given: argparse.Namespace, known: Any) -> list[Prediction]:
    found = []
    for one in drawn:
        model = {key: value for key, value in one.items() if key not in ("arch", "batch")}
        found.append(
            predict(
                one["arch"], one["batch"], given.kernel,
                threads=given.threads, dtype=given.dtype, lr=LR, known=known, **model,
            )
        )  # fmt: skip
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.evidence.predicted")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--networks", type=int, default=20)
    parser.add_argument("--kernel", default="numba-micro")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--launches", type=int, default=3)
    parser.add_argument("--together", action="store_true", help="calibrate in the same run")
    parser.add_argument("--calibrated", type=int, default=NETWORKS, help="networks to calibrate with there")
    parser.add_argument("--out", type=Path, help="folder of the run")
    parser.add_argument(
        "--from", type=Path, dest="run", help="predict again from such a run's records (--together)"
    )
    given = parser.parse_args(arguments)
    if given.run is not None and not given.together:
        parser.error("--from goes with --together: a run that holds the calibration's networks too")
    folder = given.out or Path(tempfile.mkdtemp(prefix="gemmlab-predicted-")) / "run"
    drawn = draws.drawn(given.networks, given.seed)
    try:
        predicted, run = (together if given.together else before)(drawn, given, folder)
    except NoCalibration as none:
        sys.exit(str(none))
    found = {canonical(profile.result.model): profile for profile in profiles(run)}
    sys.stdout.write("  predicted  slowed     measured   ratio  launches  network\n")
    ratios = []
    for one in predicted:
        profile = found.get(canonical(one.model))
        if profile is None:
            sys.stdout.write(f"{_us(one.step)}  {_name(one.model)}: no time, see {folder}\n")
            continue
        (known,) = one.known.values()
        slow = slowed(profile.result, known.crowded)
        ratios.append(one.step * slow / profile.step)
        sys.stdout.write(
            f"{_us(one.step)} {slow:6.2f}x {_us(profile.step)}  {ratios[-1]:6.3f}  {_apart(profile)}  "
            f"{_name(one.model)}\n"
        )
    off = sorted(math.expm1(abs(math.log(ratio))) for ratio in ratios)
    if off:
        within = sum(error <= PROMISED for error in off)
        sys.stdout.write(
            f"seed {given.seed}: worst {100 * off[-1]:.1f} %, median {100 * median(off):.1f} %; "
            f"{within} of {len(off)} within {100 * PROMISED:.0f} %\n"
        )


def _us(seconds: float) -> str:
    return f"{1e6 * seconds:8.0f} us"


def _apart(profile: Profile) -> str:
    """How many times as long as the fastest the slowest launch took."""
    medians = profile.result.medians.values()
    return f"{max(medians) / min(medians):7.2f}x"


def _name(model: Line) -> str:
    return (
        f"{'-'.join(map(str, model['arch']))} batch {model['batch']} "
        f"{model['activation']} {model['loss']} {model['optimizer']}"
    )


if __name__ == "__main__":
    main()
