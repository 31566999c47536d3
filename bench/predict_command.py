"""The `predict` command: flags in, the cost of a network's step before it is run out; and the calibration it needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.records import finite
from gemm.commands import Cblas

if TYPE_CHECKING:
    from bench.calibration import Calibration
    from bench.prediction import Prediction


def register(app: typer.Typer) -> None:
    """Add `predict` to the front door."""

    @app.command("predict")
    def command(
        arch: Annotated[str | None, typer.Option(help="Widths, inputs first (784-512-512-10).")] = None,
        batch: Annotated[int | None, typer.Option(help="Examples in a step (128).")] = None,
        kernel: Annotated[
            str, typer.Option(help="A kernel, or a mapping (blas,1=numba-micro).")
        ] = "numba-micro",
        activation: Annotated[str | None, typer.Option(help="Default: relu.")] = None,
        loss: Annotated[str | None, typer.Option(help="Default: softmax-cross-entropy.")] = None,
        optimizer: Annotated[str | None, typer.Option(help="Default: sgd.")] = None,
        dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
        threads: Annotated[int | None, typer.Option(help="Threads (default: all cores).")] = None,
        run: Annotated[
            Path | None, typer.Option("--from", help="Use this run's records, not what was calibrated.")
        ] = None,
        calibrate: Annotated[
            bool,
            typer.Option(
                "--calibrate",
                help="Measure networks on the kernel (some minutes), or take --from's records, and keep the result.",
            ),
        ] = False,
        out: Annotated[
            Path | None,
            typer.Option(
                help="The calibration file (default: GEMMLAB_CALIBRATION, else in the config folder)."
            ),
        ] = None,
        cblas: Cblas = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ) -> None:
        """What a training step of a network will cost, layer by layer, before it is run.

        From FLOPs, bytes and what was measured of the kernel; says how far off it may be. Measures nothing but with
        --calibrate.
        """
        given = {"activation": activation, "loss": loss, "optimizer": optimizer}
        model: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        if calibrate:
            if model or arch is not None or batch is not None:
                raise ValueError("--calibrate measures networks of its own; leave the network's flags out")
            _calibrate(kernel, dtype, threads, run, out, as_json)
            return
        if out is not None:
            raise ValueError("--out goes with --calibrate, which writes a file")
        from bench.prediction import predict

        found = predict(
            arch or "784-512-512-10", 128 if batch is None else batch, kernel, threads=threads, run=run, dtype=dtype,
            **model,
        )  # fmt: skip
        if as_json:
            typer.echo(json.dumps(finite(found.record()), indent=2, allow_nan=False))
            return
        for line in table(found):
            typer.echo(line)


def table(found: Prediction) -> list[str]:
    """A row for each operation, the step, what was measured beside it, and how far off that may be."""
    beside = found.measured is not None
    threads = f"{found.threads} thread{'s' * (found.threads > 1)}"
    model = f"{'-'.join(map(str, found.model['arch']))} batch {found.model['batch']}"
    names = ("activation", "loss", "optimizer", "dtype")
    title = f"{found.kernel}: a training step of {model}, {', '.join(str(found.model[n]) for n in names)}, {threads}"
    head = [
        "op",
        "m",
        "n",
        "k",
        "expected",
        "% step",
        "GFLOP/s",
        *(["measured", "exp/meas"] if beside else []),
    ]
    rows = [head]
    for row in found.rows:
        one = row.operation
        parts = "+".join(part for part in one.parts if part != one.op)
        mark = {"measured": "", "extrapolated": " *", "bandwidth": " **"}[row.basis]
        rows.append([
            f"{one.id} ({parts}){mark}" if parts else f"{one.id}{mark}",
            *("" if side is None else str(side) for side in (one.m, one.n, one.k)),
            span(row.seconds), f"{100 * row.seconds / found.step:.1f}",
            f"{one.flops / row.seconds / 1e9:.1f}" if one.m and row.seconds else "",
            *_beside(row.seconds, row.measured, beside),
        ])  # fmt: skip
    rows.append(["python", "", "", "", span(found.python), f"{100 * found.python / found.step:.1f}", "",
                 *_beside(found.python, None, beside)])  # fmt: skip
    flops = sum(row.operation.flops for row in found.rows)
    rows.append(["step", "", "", "", span(found.step), "100.0", f"{flops / found.step / 1e9:.1f}",
                 *_beside(found.step, found.measured, beside)])  # fmt: skip
    wide = [max(len(row[at]) for row in rows) for at in range(len(head))]
    lines = [
        "  ".join(cell.ljust(w) if at == 0 else cell.rjust(w) for at, (cell, w) in enumerate(zip(row, wide))).rstrip()
        for row in rows
    ]  # fmt: skip
    lines.insert(1, "-" * sum(wide, 2 * (len(wide) - 1)))
    return [title, "", *lines, "", *(errors(one) for one in found.known.values()), *notes(found)]


def notes(found: Prediction) -> list[str]:
    """What stands below the table."""
    said = [f"measured in {found.run}, its rows with the recorder in them"] if found.run else []
    return said + found.remarks


def errors(one: Calibration) -> str:
    """How far off its predictions are, in a sentence."""
    count = len(one.errors.ratios)
    half, most = (f"{100 * one.errors.within(share):.0f} %" for share in (0.5, 0.9))
    return (
        f"Expected error of {one.kernel}: half of predictions within {half}, nine in ten within {most} "
        f"(each of {count} {one.errors.of} predicted from the others)"
    )


def span(seconds: float) -> str:
    """A length of time in the unit that suits it."""
    unit, size = next((u for u in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)) if seconds >= u[1]), ("ns", 1e-9))
    return f"{seconds / size:.3g} {unit}"


def _beside(expected: float, measured: float | None, beside: bool) -> list[str]:
    if not beside:
        return []
    return ["", ""] if measured is None else [span(measured), f"{expected / measured:.2f}"]


def _calibrate(
    kernel: str, dtype: str, threads: int | None, run: Path | None, out: Path | None, as_json: bool
) -> None:
    from bench import calibration, config_files
    from bench.timing.progress import live
    from gemm.problems import DTYPES
    from gemm.threads import available_cores

    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}; there are {', '.join(DTYPES)}")
    if "," in kernel or "=" in kernel:
        raise ValueError(f"--calibrate takes one kernel, and {kernel!r} is a mapping; calibrate each of them")
    config_files.writable(calibration.FILE, out)  # now: afterwards the minutes would be lost
    count = available_cores() if threads is None else threads
    if run is not None:
        found = calibration.from_runs([run], kernel, dtype, count)
    else:
        found = calibration.calibrate(kernel, dtype, count, progress=live())
    file = calibration.keep(found, out)
    if as_json:
        typer.echo(json.dumps(finite(found.record() | {"written": str(file)}), indent=2, allow_nan=False))
        return
    typer.echo(errors(found))
    typer.echo(f"written to {file} (from {', '.join(found.runs)})")
