"""The `compare` command: flags in, a comparison out, and an exit code for CI."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from bench.records import Line, Run, finite, latest, load
from bench.verdicts import best, compare, steps
from gemm.commands import Cblas

AsSweep = Annotated[str | None, typer.Option(help="With --against, as of sweep.")]
CountAsSweep = Annotated[int | None, typer.Option(help="With --against, as of sweep.")]
SecondsAsSweep = Annotated[float | None, typer.Option(help="With --against, as of sweep.")]
Found = compare.Comparison | best.Best | steps.Steps
ShowComparison = Callable[[Found], None]


def register(app: typer.Typer, show: ShowComparison) -> None:
    """Add `compare` to the front door; `show(comparison)` draws it."""

    @app.command("compare")
    def command(
        sides: Annotated[
            list[str] | None,
            typer.Argument(
                metavar="[BASE NEW]",
                help="Two kernels of one run, or the folders of two runs; one run of --against is shown again. "
                "Of several kernels, comma between, BASE is the best at each shape; of three and more, blank "
                "between, each is held against the one before (KERNEL@2: on two threads).",
            ),
        ] = None,
        run: Annotated[
            Path | None, typer.Option(help="The run of two kernels (default: the newest).")
        ] = None,
        reference: Annotated[
            str | None, typer.Option(help="Of two runs: a kernel that is the same in both (default: blas).")
        ] = None,
        kernel: Annotated[str | None, typer.Option(help="Of two runs: this kernel only.")] = None,
        against: Annotated[
            str | None,
            typer.Option(metavar="REV", help="Time the working tree and this git revision in one run."),
        ] = None,
        kernels: AsSweep = None,
        suite: AsSweep = None,
        sizes: AsSweep = None,
        shapes: AsSweep = None,
        dtypes: AsSweep = None,
        orders: AsSweep = None,
        threads: AsSweep = None,
        cache: AsSweep = None,
        data: AsSweep = None,
        batch: AsSweep = None,
        precision: AsSweep = None,
        launches: CountAsSweep = None,
        rounds: CountAsSweep = None,
        budget: SecondsAsSweep = None,
        out: Annotated[Path | None, typer.Option(help="With --against: the run's folder.")] = None,
        python: Annotated[
            str | None, typer.Option(help="With --against: the revision's interpreter (default: this one).")
        ] = None,
        fail_slower: Annotated[
            float | None,
            typer.Option(
                metavar="PERCENT",
                help="Exit code 1 if anything takes that much longer, above the floor, or is broken.",
            ),
        ] = None,
        same_within: Annotated[float, typer.Option(metavar="PERCENT", help="What counts as the same.")] = (
            100 * compare.SAME_WITHIN
        ),
        cblas: Cblas = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ) -> None:
        """Faster, slower, the same, or cannot say: two kernels, two runs, or the working tree and a revision."""
        for name, percent in (("--fail-slower", fail_slower), ("--same-within", same_within)):
            if percent is not None and not 0 <= percent < 1e6:
                raise ValueError(f"{name} {percent}: must be a percentage from 0 up")
        axes = {
            "kernels": kernels, "suite": suite, "sizes": sizes, "shapes": shapes, "dtypes": dtypes,
            "orders": orders, "threads": threads, "cache": cache, "data": data, "batch": batch,
        }  # fmt: skip
        limits = {"launches": launches, "rounds": rounds, "budget_s": budget}
        ours = {"--precision": precision, "--out": out, "--python": python}
        swept = {f"--{key.removesuffix('_s')}": value for key, value in (axes | limits).items()} | ours
        two_runs = {"--reference": reference, "--kernel": kernel}
        near, measured = same_within / 100, None
        found: Found
        if against is not None:
            if sides:
                raise ValueError(f"--against {against} takes no BASE and NEW; leave {' '.join(sides)} out")
            _only(two_runs | {"--run": run}, "does not go with --against")
            measured = _swept(against, axes, precision, limits, out, python)
            found = compare.against(measured, near)
        else:
            _only(swept, "goes with --against REV only")
            found = _of_records(sides or [], run, two_runs, near)
        failed = found.regressions(fail_slower) if fail_slower is not None else []
        if as_json:
            record = {"run": str(measured.path) if measured else None, "failed": bool(failed)}
            typer.echo(json.dumps(finite(found.record() | record), indent=2, allow_nan=False))
        else:
            show(found)
            if measured:
                typer.echo(f"records: {measured.path}")
        if failed:
            raise typer.Exit(1)


def _only(flags: Line, where: str) -> None:
    """Raises ValueError for the first flag that is given where it means nothing."""
    for flag, value in flags.items():
        if value is not None:
            raise ValueError(f"{flag} {where}")


def _of_records(sides: list[str], run: Path | None, two_runs: dict[str, str | None], near: float) -> Found:
    """Two kernels, one and the best of several, a row of kernels, two runs, or the two revisions of one run."""
    are_runs = [_holds_records(side) for side in sides]
    if are_runs == [True]:
        _only(two_runs | {"--run": run}, "goes with two kernels or runs, and here is one run")
        return compare.against(load(sides[0]), near)
    if not any(are_runs) and (len(sides) > 2 or any(map(steps.on_threads, sides))):
        _only(two_runs, "goes with two runs, and here is a row of kernels")
        return steps.steps(load(run or latest()), sides, near)
    if len(sides) != 2:
        given = " ".join(sides) or "nothing"
        raise ValueError(f"compare takes two kernels, two runs or --against REV, and got {given}")
    if any(are_runs):
        _only({"--run": run}, "goes with two kernels, and here are folders of runs")
        before, after = (load(side) for side in sides)  # a side that is no run says so
        return compare.runs(
            before, after, two_runs["--reference"], kernel=two_runs["--kernel"], same_within=near
        )
    _only(two_runs, "goes with two runs, and here are two kernels")
    if (peers := best.several(sides[0])) is not None:
        return best.against(load(run or latest()), peers, sides[1], near)
    return compare.kernels(load(run or latest()), sides[0], sides[1], near)


def _holds_records(side: str) -> bool:
    """Is it meant as a run: a folder, a file of records, or a path that is no kernel's?"""
    path = Path(side)
    return path.is_dir() or path.suffix == ".jsonl" or ("/" in side and ".py:" not in side)


def _swept(
    revision: str, axes: Line, precision: str | None, limits: Line, out: Path | None, python: str | None
) -> Run:
    """A sweep over the working tree and a revision, as the flags say."""
    from bench.commands import chosen_settings, split
    from bench.plans import axes as axis
    from bench.timing import revisions
    from bench.timing.progress import live

    given = {key: split(value) for key, value in axes.items() if key in axis.LISTS and value is not None}
    suite = {"suite": axes["suite"]} if axes["suite"] is not None else {}
    cells = axis.make_sweep(given | suite, "flags", given).cells()
    settings = chosen_settings(precision, limits, axis.suite_settings(axes["suite"], "flags"))
    return revisions.sweep(
        revision, cells, settings, python=python, shared="kernels" not in given,
        out=out, progress=live(),
    )  # fmt: skip
