"""Prediction: what a training step will cost, operation by operation, before it is run.

The operations are those that the network would do (`mlp.MLP.operations`), what each costs says the cost model of its
kernel (`bench.calibration`), and nothing is timed. Where a run has profiled the same network on the same kernel, what
it measured stands beside.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gemm
import mlp
from bench import peers
from bench.calibration import Calibration, from_runs, kept, passing, task_of
from bench.plans import network
from bench.plans.plan import unfrozen
from bench.records import Line, Run, RunError, canonical, load, read_json
from bench.verdicts.cost_model import STEP
from bench.verdicts.statistics import CROWDED, Profile, profiles, slowed

# The share of predictions that the told error is to cover.
TOLD = 0.9


@dataclass(frozen=True)
class Expected:
    """An operation, what it is expected to take and what it took (None: nobody measured it), in seconds.

    basis  "measured": its kind was, at sizes around its own; "extrapolated": at other sizes; "bandwidth": it was not,
           and its bytes are taken to move as fast as others'
    """

    operation: mlp.Operation
    seconds: float
    measured: float | None
    basis: str


@dataclass(frozen=True)
class Prediction:
    """A training step's expected cost.

    model     what was predicted, as records describe it
    python    seconds of a step outside its operations
    step      seconds in all; `measured`: of the uninstrumented step where a run (`run`) has it, else None
    known     the calibrations it stands on, by kernel
    slowed    how many times as long as on a core of its own the measured step took (`statistics.slowed`)
    """

    model: Line
    kernel: str
    threads: int
    rows: tuple[Expected, ...]
    python: float
    step: float
    measured: float | None
    run: str | None
    known: dict[str, Calibration]
    slowed: float = 1.0

    @property
    def error(self) -> float:
        """The relative error that TOLD of the predictions of what a calibration had not seen stayed below."""
        return max(one.errors.within(TOLD) for one in self.known.values())

    @property
    def remarks(self) -> list[str]:
        """What a reader should know beside the figures, a sentence each."""
        said = []
        for name, one in self.known.items():
            if one.source != gemm.find(name).source:
                said.append(
                    f"{name} has changed since it was calibrated ({one.date[:10]}): calibrate it again"
                )
            if one.errors.of != "networks":
                said.append(
                    f"{name} is known from products alone: how far a whole step is off, nobody has measured"
                )
        for basis, what in (
            ("extrapolated", "beyond the sizes that were measured: extrapolated"),
            ("bandwidth", "never measured: taken to move their bytes as fast as others"),
        ):
            ids = [row.operation.id for row in self.rows if row.basis == basis]
            if ids:
                said.append(f"{', '.join(ids)}: {what}")
        if self.measured is not None and self.slowed > 1 + CROWDED:
            said.append(
                f"measured on a core that others used too: on one of its own the step would have taken about "
                f"1/{self.slowed:.2f} of that"
            )
        return said

    def record(self) -> Line:
        """For --json."""
        rows = [
            vars(row.operation)
            | {"seconds": row.seconds, "measured": row.measured, "basis": row.basis, "share": row.seconds / self.step}
            for row in self.rows
        ]  # fmt: skip
        return {
            "kernel": self.kernel, "threads": self.threads, "model": self.model, "seconds": self.step,
            "python_s": self.python, "measured": self.measured, "measured_in": self.run, "slowed": self.slowed,
            "error": {"share": TOLD, "within": self.error}, "remarks": self.remarks, "rows": rows,
            "calibrations": [
                {"kernel": one.kernel, "dtype": one.dtype, "threads": one.threads, "date": one.date,
                 "runs": list(one.runs), "of": one.errors.of, "count": len(one.errors.ratios),
                 "within": {"half": one.errors.within(0.5), "nine in ten": one.errors.within(0.9)}}
                for one in self.known.values()
            ],
        }  # fmt: skip


def predict(
    arch: Sequence[int] | str,
    batch: int,
    kernel: str = "numba-micro",
    *,
    threads: int | None = None,
    run: str | Path | Run | None = None,
    known: Mapping[str, Calibration] | None = None,
    **model: Any,
) -> Prediction:
    """The expected cost of a network's training step; nothing is run.

    arch    widths, inputs first: [784, 512, 512, 10] or "784-512-512-10"
    kernel  a name, or a mapping (`blas,1=numba-micro`)
    run     a run whose records are to be used in place of the calibrations that were kept
    known   calibrations by kernel, to be used in place of both
    model   activation, loss, optimizer, dtype (bench.plans.network.DEFAULTS)

    Raises ValueError for a network that cannot be, NoCalibration (naming the command to run) for a kernel of which
    nothing is known, gemm.UnknownKernel, gemm.KernelUnavailable.
    """
    if peers.is_peer(kernel):
        raise ValueError(f"{kernel}: a peer's step is known as a whole only; `gemmlab profile` measures it")
    (cell,) = network.cells(arch, batch, [kernel], threads, **model)
    described = unfrozen(cell.model)
    built = mlp.MLP(
        described["arch"], kernel=cell.kernel,
        **{key: described[key] for key in ("activation", "loss", "optimizer", "lr", "dtype")},
    )  # fmt: skip
    operations = built.operations(described["batch"])
    names = dict.fromkeys(operation.kernel for operation in operations if operation.kernel)
    given = dict(known or {})
    stands_on = {
        name: given.get(name) or _known(name, described["dtype"], cell.threads, run) for name in names
    }
    first = next(iter(stands_on.values()))
    before = _measured(described, cell.kernel, cell.threads, run)
    found, around = before[0] if before else None, passing(operations)
    took = {row.id: row.seconds for row in found.rows} if found else {}
    rows = []
    for operation in operations:
        one = stands_on[operation.kernel] if operation.kernel else first
        task = task_of(operation, described, around)
        basis = "measured" if one.inside(task) else "extrapolated"
        if not one.model.knows(task):
            basis = "extrapolated" if task.is_product else "bandwidth"
        rows.append(Expected(operation, one.model.seconds(task), took.get(operation.id), basis))
    python = first.model.prices.get(STEP, 0.0)
    step = math.fsum(row.seconds for row in rows) + python
    return Prediction(
        described, cell.kernel, cell.threads, tuple(rows), python, step,
        found.step if found else None, before[1] if before else None, stands_on,
        slowed(found.result, first.crowded) if found else 1.0,
    )  # fmt: skip


def _known(kernel: str, dtype: str, threads: int, run: str | Path | Run | None) -> Calibration:
    return kept(kernel, dtype, threads) if run is None else from_runs([run], kernel, dtype, threads)


def _measured(
    model: Line, kernel: str, threads: int, run: str | Path | Run | None
) -> tuple[Profile, str] | None:
    """The newest profile of the very step in `run`, or else in the runs of this folder, and the run's name."""
    wanted = _identity(model)
    folders = sorted(Path("runs").glob("*/plan.json"), key=lambda path: -path.stat().st_mtime)
    for source in [run] if run is not None else [path.parent for path in folders]:
        if not isinstance(source, Run) and not _plans(Path(source), wanted, kernel, threads):
            continue
        opened = source if isinstance(source, Run) else load(source)
        for profile in profiles(opened):
            result = profile.result
            if (result.kernel, result.threads) == (kernel, threads) and _identity(result.model) == wanted:
                return profile, opened.path.name
    return None


def _plans(folder: Path, wanted: str, kernel: str, threads: int) -> bool:
    """Whether a run was to profile this step: a look at its plan, which is short."""
    try:
        cells = read_json(folder / "plan.json").get("cells")
    except RunError:
        return False
    return any(
        isinstance(cell, dict)
        and isinstance(cell.get("model"), dict)
        and (cell.get("kernel"), cell.get("threads")) == (kernel, threads)
        and _identity(cell["model"]) == wanted
        for cell in (cells if isinstance(cells, list) else [])
    )


def _identity(model: Line) -> str:
    """What its cost depends on: the same for a step on other data, or with another learning rate."""
    return canonical({key: value for key, value in model.items() if key not in ("lr", "data")})
