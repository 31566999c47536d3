"""The `explore` command: flags in, what affects the cost of a network out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.flags import Budget, CellSeconds, Json, Launches, Out, Precision, Resume, Rounds
from bench.records import Line, Run, finite
from gemm.commands import Cblas

Show = Callable[[Run], None]
Draw = Callable[[Run], Path]

DEFAULTS: Line = {"arch": "784-512-512-10", "batch": 128, "kernel": "numba-micro"}
Values = Annotated[str | None, typer.Option(help="Its values, comma between, in place of the usual ones.")]
Numbers = Annotated[
    str | None, typer.Option(help="Its values, as 1,4,16 or 1:1024:*4, in place of the usual ones.")
]


def register(app: typer.Typer, show: Show, draw: Draw) -> None:
    """Add `explore` to the front door; `show(run)` prints the table and the findings, `draw(run)` writes the page."""

    @app.command("explore")
    def command(
        only: Annotated[
            str | None,
            typer.Option(help="The factors to vary, comma between (default: those with values, or all)."),
        ] = None,
        arch: Annotated[str | None, typer.Option(help="Of the base: widths (784-512-512-10).")] = None,
        batch: Annotated[int | None, typer.Option(help="Of the base: examples in a step (128).")] = None,
        kernel: Annotated[
            str | None, typer.Option(help="Of the base: a kernel or a mapping (numba-micro).")
        ] = None,
        activation: Annotated[str | None, typer.Option(help="Of the base (relu).")] = None,
        loss: Annotated[str | None, typer.Option(help="Of the base (softmax-cross-entropy).")] = None,
        optimizer: Annotated[str | None, typer.Option(help="Of the base (sgd).")] = None,
        dtype: Annotated[str | None, typer.Option(help="Of the base (float32).")] = None,
        data: Annotated[
            str | None, typer.Option(help="random, digits, or a folder of IDX files (random).")
        ] = None,
        threads: Annotated[int | None, typer.Option(help="Of the base (all cores).")] = None,
        widths: Numbers = None,
        depths: Numbers = None,
        batches: Numbers = None,
        dtypes: Values = None,
        activations: Values = None,
        losses: Values = None,
        optimizers: Values = None,
        kernels: Values = None,
        thread_counts: Values = None,
        precision: Precision = None,
        launches: Launches = None,
        rounds: Rounds = None,
        cell_seconds: CellSeconds = None,
        budget: Budget = None,
        out: Out = None,
        resume: Resume = None,
        cblas: Cblas = None,
        as_json: Json = False,
    ) -> None:
        """What affects the cost of a network: one thing at a time is changed around a base, all sampled in turn.

        Factors are width, depth, batch, dtype, activation, loss, optimizer, kernel and threads. All of them take some
        three minutes on two cores.
        """
        base = {
            "arch": arch, "batch": batch, "kernel": kernel, "activation": activation, "loss": loss,
            "optimizer": optimizer, "dtype": dtype, "data": data, "threads": threads,
        }  # fmt: skip
        values = {
            "width": widths, "depth": depths, "batch": batches, "dtype": dtypes, "activation": activations,
            "loss": losses, "optimizer": optimizers, "kernel": kernels, "threads": thread_counts,
        }  # fmt: skip
        limits = {"launches": launches, "rounds": rounds, "cell_s": cell_seconds, "budget_s": budget}
        if resume:
            given = [only, precision, out, *base.values(), *values.values(), *limits.values()]
            if any(value is not None for value in given):
                raise ValueError("--resume finishes a run as it was planned; leave the other flags out")
            run = _resume(resume)
        else:
            run = _explore(only, base, values, precision, limits, out)
        if as_json:
            typer.echo(json.dumps(finite(_record(run)), indent=2, allow_nan=False))
            return
        show(run)
        typer.echo(f"records: {run.path}")
        typer.echo(f"report:  {draw(run)}")


def _explore(
    only: str | None, base: Line, values: Line, precision: str | None, limits: Line, out: Path | None
) -> Run:
    import bench
    from bench.commands import chosen_settings, split
    from bench.timing.progress import live

    chosen: dict[str, Any] = DEFAULTS | {key: value for key, value in base.items() if value is not None}
    return bench.explore(
        only=_some("--only", split(only)) or (),
        values={key: split(value) or [] for key, value in values.items() if value is not None},
        out=out, progress=live(), settings=chosen_settings(precision, limits), **chosen,
    )  # fmt: skip


def _some(flag: str, given: list[str] | None) -> list[str] | None:
    if given is not None and not given:
        raise ValueError(f"{flag} is empty; leave it out for all")
    return given


def _resume(folder: Path) -> Run:
    import bench
    from bench.records import RunError, read_json
    from bench.timing.progress import live

    if not read_json(folder / "plan.json").get("factors"):
        raise RunError(
            f"{folder}: its plan varies no factors; finish it with gemmlab sweep --resume {folder}"
        )
    return bench.resume(folder, live())


def _record(run: Run) -> Line:
    from bench.verdicts.exploration import exploration

    found = exploration(run)
    return {"run": str(run.path), "exploration": found.record() if found else None}
