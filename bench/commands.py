"""The commands of this room: check, sweep, compare, profile, explore, predict, train, export, machine, tune, select.

Each is a function of the library first (`bench.sweep`, ...); here flags become arguments and results become
text. Tables of records are drawn by `show`, which the front door brings along: this room does not draw.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from bench import (
    compare_command,
    explore_command,
    predict_command,
    select_command,
    train_command,
    tune_command,
)
from bench.flags import Budget, CellSeconds, Json, Launches, Out, Precision, Resume, Rounds
from bench.records import Line, Run, finite
from gemm.commands import Cblas

Show = Callable[[Run], None]

Threads = Annotated[str | None, typer.Option(help="Threads, as 1,2 or 1,all (default: all cores).")]


def register(
    app: typer.Typer,
    show: Show,
    show_comparison: compare_command.ShowComparison,
    draw: explore_command.Draw,
) -> None:
    """Add this room's commands to the front door; `show` and `show_comparison` print tables, `draw` writes a page."""
    compare_command.register(app, show_comparison)
    predict_command.register(app)
    select_command.register(app)
    explore_command.register(app, show, draw)
    tune_command.register(app)

    @app.command()
    def check(
        kernel: Annotated[str, typer.Argument(help="A kernel's name, or path/to/file.py:function.")],
        timeout: Annotated[float, typer.Option(help="Seconds that it may take.")] = 600.0,
        random: Annotated[
            int, typer.Option(help="So many problems drawn at random as well (sizes 0 to 300, any strides).")
        ] = 0,
        seed: Annotated[int, typer.Option(help="Of the random problems.")] = 0,
        cblas: Cblas = None,
        as_json: Json = False,
    ) -> None:
        """Is a kernel right? Every rule of the contract, in a process of its own."""
        _check(kernel, timeout, random, seed, as_json)

    @app.command()
    def sweep(
        file: Annotated[Path | None, typer.Argument(help="A sweep in TOML; flags override it.")] = None,
        kernels: Annotated[
            str | None, typer.Option(help="Kernels, comma between (default: the ladder).")
        ] = None,
        suite: Annotated[
            str | None,
            typer.Option(
                help="A named set of shapes (squares, mlp, ...), which other flags narrow; `help` lists them."
            ),
        ] = None,
        sizes: Annotated[
            str | None,
            typer.Option(help="Sizes of square products, as 64,256 or 64:4096:*2 or 100:1000:+100."),
        ] = None,
        shapes: Annotated[
            str | None,
            typer.Option(help="Shapes m x n x k, ranges too, as 128x512x784 or '64:256:*2x10x512 tn *16'."),
        ] = None,
        dtypes: Annotated[
            str | None, typer.Option(help="float32, float64; some kernels take float16 and bfloat16.")
        ] = None,
        orders: Annotated[
            str | None, typer.Option(help="nn, tn, nt, tt: which operands are transposed views.")
        ] = None,
        threads: Threads = None,
        cache: Annotated[
            str | None,
            typer.Option(
                help="hot, cold or both; cold: operands evicted before every call (on a GPU the default)."
            ),
        ] = None,
        operands: Annotated[
            str | None,
            typer.Option(
                help="Of kernels on a GPU: device (default), host (NumPy arrays, taken there and back)."
            ),
        ] = None,
        data: Annotated[
            str | None,
            typer.Option(help="Kinds of data: normal, uniform, integers, zeros, denormals, wide, ..."),
        ] = None,
        batch: Annotated[
            str | None, typer.Option(help="Products in a stack multiplied by one call, as 1,16.")
        ] = None,
        alpha: Annotated[float | None, typer.Option(help="C <- alpha A B + beta C (1).")] = None,
        beta: Annotated[float | None, typer.Option(help="See alpha (0).")] = None,
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
        """Time kernels on products, verified and in turn; records go to a folder in runs/.

        Axes are lists, comma between; every combination is a cell. A flag replaces what the file or the suite says
        (sizes and shapes replace each other too).
        """
        axes = {
            "kernels": kernels, "suite": suite, "sizes": sizes, "shapes": shapes, "dtypes": dtypes,
            "orders": orders, "threads": threads, "cache": cache, "operands": operands, "data": data,
            "batch": batch, "alpha": alpha, "beta": beta,
        }  # fmt: skip
        limits = {"launches": launches, "rounds": rounds, "cell_s": cell_seconds, "budget_s": budget}
        if resume:
            others = [file, precision, out, *axes.values(), *limits.values()]
            if any(value is not None for value in others):
                raise ValueError("--resume finishes a run as it was planned; leave the other flags out")
            run = _resume(resume)
        elif suite == "help":
            _suites(as_json)
            return
        else:
            run = _sweep(file, axes, precision, limits, out)
        _print_run(run, show, as_json)

    @app.command()
    def profile(
        arch: Annotated[
            str, typer.Option(help="Layers, inputs first; also 8x8x1-conv3x16-10, 8x8-rnn32-10.")
        ] = "784-512-512-10",
        batch: Annotated[int, typer.Option(help="Examples in a step.")] = 128,
        kernel: Annotated[
            list[str] | None, typer.Option(help="A kernel or a mapping (blas,1=numba-ikj); may be repeated.")
        ] = None,
        activation: Annotated[str, typer.Option()] = "relu",
        loss: Annotated[str, typer.Option()] = "softmax-cross-entropy",
        optimizer: Annotated[str, typer.Option()] = "sgd",
        dtype: Annotated[str, typer.Option()] = "float32",
        data: Annotated[str, typer.Option(help="random, digits, or a folder of IDX files.")] = "random",
        device: Annotated[str, typer.Option(help="cpu, or cuda: where the network lives.")] = "cpu",
        threads: Annotated[int | None, typer.Option(help="Threads (default: all cores).")] = None,
        precision: Precision = None,
        launches: Launches = None,
        rounds: Rounds = None,
        cell_seconds: CellSeconds = None,
        out: Out = None,
        cblas: Cblas = None,
        as_json: Json = False,
    ) -> None:
        """What a training step of a network costs, layer by layer and product by product."""
        import bench
        from bench.timing.progress import live

        run = bench.profile(
            arch, batch, kernel or [USUAL_KERNELS.get(device, "blas")], threads=threads, out=out, progress=live(),
            settings=chosen_settings(
                precision or "quick", {"launches": launches, "rounds": rounds, "cell_s": cell_seconds}
            ),
            activation=activation, loss=loss, optimizer=optimizer, dtype=dtype, data=data, device=device,
        )  # fmt: skip
        _print_run(run, show, as_json)

    @app.command()
    def train(
        data: Annotated[str, typer.Option(help="digits, synthetic, or a folder of IDX files.")] = "digits",
        arch: Annotated[str | None, typer.Option(help="Widths (default: one hidden layer of 64).")] = None,
        epochs: Annotated[int, typer.Option()] = 20,
        batch: Annotated[int, typer.Option(help="Examples in a step.")] = 32,
        kernel: Annotated[
            list[str] | None,
            typer.Option(
                help="A kernel or a mapping (blas,1=numba-ikj); repeated, they are trained in turn."
            ),
        ] = None,
        activation: Annotated[str, typer.Option()] = "relu",
        loss: Annotated[str, typer.Option()] = "softmax-cross-entropy",
        optimizer: Annotated[str, typer.Option()] = "sgd",
        lr: Annotated[
            float | None, typer.Option(help="Learning rate (default: the optimizer's own).")
        ] = None,
        weight_decay: Annotated[float, typer.Option(help="Of the optimizer.")] = 0.0,
        schedule: Annotated[
            str,
            typer.Option(help="Of the learning rate: cosine, step:every=10,gamma=0.1, ... (mlp.schedules)."),
        ] = "constant",
        dtype: Annotated[str, typer.Option()] = "float32",
        device: Annotated[str, typer.Option(help="cpu, or cuda: where the network lives.")] = "cpu",
        seed: Annotated[int, typer.Option()] = 0,
        validation: Annotated[
            float, typer.Option(help="Share of the training examples that is held out, as 0.1.")
        ] = 0.0,
        patience: Annotated[
            int | None, typer.Option(help="Stop early: after so many epochs that brought nothing.")
        ] = None,
        min_delta: Annotated[
            float | None, typer.Option(help="Stop early: what an epoch must bring to count (0).")
        ] = None,
        watch: Annotated[
            str | None, typer.Option(help="Stop early: on the validation loss (the default) or accuracy.")
        ] = None,
        checkpoint: Annotated[
            Path | None, typer.Option(help="Write model and training here (.npz) after every epoch.")
        ] = None,
        resume: Annotated[
            bool, typer.Option("--resume", help="Go on from the checkpoint, if it is there.")
        ] = False,
        threads: Annotated[int | None, typer.Option(help="Threads (default: all cores).")] = None,
        out: Annotated[
            Path | None, typer.Option(help="Write the whole record (.json) here; gemmlab report draws it.")
        ] = None,
        cblas: Cblas = None,
        as_json: Json = False,
    ) -> None:
        """Train a network on real data with any kernel: the same learning, another clock."""
        settings = {
            "epochs": epochs, "batch": batch, "kernels": kernel or [USUAL_KERNELS.get(device, "blas")],
            "activation": activation, "device": device,
            "loss": loss, "optimizer": optimizer, "lr": lr, "weight_decay": weight_decay, "schedule": schedule,
            "dtype": dtype, "seed": seed, "validation": validation, "checkpoint": checkpoint, "resume": resume,
            "threads": threads, "stopping": train_command.stopping(patience, min_delta, watch),
        }  # fmt: skip
        train_command.run(data, arch, settings, out, as_json)

    @app.command()
    def export(
        run: Annotated[
            Path | None, typer.Argument(help="A run's folder; default: the newest in runs/.")
        ] = None,
        pytest_benchmark: Annotated[
            bool,
            typer.Option("--pytest-benchmark", help="JSON for `pytest-benchmark compare` (the default)."),
        ] = False,
        as_csv: Annotated[bool, typer.Option("--csv", help="CSV: one line per cell.")] = False,
        parquet: Annotated[
            bool, typer.Option("--parquet", help="Parquet: the same table (needs the extra `parquet`).")
        ] = False,
        samples: Annotated[
            bool, typer.Option("--samples", help="CSV and Parquet: one line per sample instead.")
        ] = False,
        out: Annotated[
            Path | None,
            typer.Option(
                help="The file; .json, .csv or .parquet says the form too. Default: stdout; Parquet: beside the run."
            ),
        ] = None,
        public: Annotated[bool, typer.Option("--public", help="Leave out host, user and paths.")] = False,
    ) -> None:
        """Write a run for other tools: pytest-benchmark's JSON, CSV, Parquet."""
        asked = {"pytest-benchmark": pytest_benchmark, "csv": as_csv, "parquet": parquet}
        _export(run, [form for form, wanted in asked.items() if wanted], out, samples, public)

    @app.command()
    def machine(as_json: Json = False) -> None:
        """This machine, and what it can do at most: measured now."""
        _machine(as_json)


# Who multiplies where nobody is named.
USUAL_KERNELS = {"cpu": "blas", "cuda": "cublas"}


def split(text: str | None) -> list[str] | None:
    """ "a, b" -> ["a", "b"]; None for None."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def _print_json(value: Line) -> None:
    typer.echo(json.dumps(finite(value), indent=2, allow_nan=False))


def rows(run: Run) -> list[Line]:
    """Each cell of a run in figures, for --json."""
    from bench.verdicts.statistics import as_figures, profile, results

    found = []
    for result in results(run):
        row = dict(result.cell)
        if result.samples and result.status == "ok":
            row["seconds"] = as_figures(result.seconds)
            row["flop_per_s"] = as_figures(result.rate)
            row["share_of_peak"] = as_figures(result.share_of_peak)
            if result.model:
                whole = profile(run, result)
                row["accounted"] = as_figures(whole.accounted)
                row["rows"] = [vars(operation) for operation in whole.rows]
        found.append(row)
    return found


def _print_run(run: Run, show: Show, as_json: bool) -> None:
    if as_json:
        _print_json({"run": str(run.path), "cells": rows(run)})
    else:
        show(run)
        typer.echo(f"records: {run.path}")


def _sweep(file: Path | None, axes: Line, precision: str | None, limits: Line, out: Path | None) -> Run:
    from bench.plans import axes as axis
    from bench.plans import plan
    from bench.timing import engine
    from bench.timing.progress import live

    from_file, settings = axis.load_toml(file) if file else (axis.Sweep(), {})
    given = {
        key: split(value) if key in axis.LISTS else value for key, value in axes.items() if value is not None
    }
    chosen = axis.make_sweep(given, "flags" if given else str(file or "sweep"), given, under=from_file)
    below = axis.suite_settings(axes["suite"], "flags") | settings
    settings = chosen_settings(precision, limits, below)
    whole = plan.Plan(cells=chosen.cells(), groups=chosen.grouped(), **settings)
    stem = file.stem if file else axes["suite"] or "sweep"
    return engine.start(whole, out, stem=stem, progress=live())


def _suites(as_json: bool) -> None:
    """Every suite with the line that says what it is for."""
    from bench.plans.axes import suites

    found = suites()
    if as_json:
        _print_json(found)
        return
    for name, about in found.items():
        typer.echo(f"{name:{max(map(len, found))}}  {about}")


def chosen_settings(precision: str | None, limits: Line, from_file: Line | None = None) -> Line:
    """Settings of a plan: flags before the file; --launches before --precision."""
    from bench.plans.axes import settings_over

    given = {key: value for key, value in limits.items() if value is not None}
    if precision is not None:
        given = {"precision": precision} | given
    return settings_over(from_file or {}, given, "flags")


def _resume(folder: Path) -> Run:
    import bench
    from bench.timing.progress import live

    return bench.resume(folder, live())


def _check(kernel: str, timeout: float, random: int, seed: int, as_json: bool) -> None:
    from dataclasses import asdict

    from bench.check import check

    verdict = check(kernel, timeout, at_random=random, seed=seed)
    if as_json:
        _print_json(asdict(verdict) | {"passed": verdict.passed})
    elif verdict.passed:
        ratio = f"largest error ratio {verdict.error_ratio:.3f} (1 is what rounding allows)"
        typer.echo(f"{verdict.kernel}: right on {verdict.problems} problems; {ratio}")
    else:
        typer.echo(f"{verdict.kernel}: wrong")
        for fault in verdict.faults:
            typer.echo(f"  {fault.problem}: it {fault.sentence}  [{fault.rule}]")
    if not verdict.passed:
        raise typer.Exit(1)


def _export(run: Path | None, forms: list[str], out: Path | None, samples: bool, public: bool) -> None:
    from bench.exchange import benchmark_json, interchange
    from bench.records import latest, load

    if len(forms) > 1:
        raise ValueError(f"--{' and --'.join(forms)}: an export has one form; leave one")
    form = interchange.chosen_form(out, forms[0] if forms else None, samples)
    opened = load(run or latest())
    if out is None and form != "parquet":
        written = interchange.text(opened, form, samples, public)
    else:
        written = f"{interchange.export(opened, out, form, samples=samples, public=public)}\n"
    missing = benchmark_json.left_out(opened) if form == "pytest-benchmark" else None
    for sentence in (*opened.warnings, *([missing] if missing else [])):
        typer.echo(sentence, err=True)
    typer.echo(written, nl=False)


def _machine(as_json: bool) -> None:
    from bench.machine import machine, table

    found = machine()
    if as_json:
        _print_json(found)
        return
    cpu, clock = found["cpu"], found["frequency_mhz"]
    shared = {name: len(groups) for name, groups in cpu["caches_shared_by"].items()}
    caches = "  ".join(
        f"{name} {size // 1024} KiB x {shared.get(name, 1)}" for name, size in cpu["caches"].items()
    )
    limits = [
        f"quota of {found['quota_cores']:g} cores" if found["quota_cores"] else "",
        f"{cpu['threads_per_core']} threads per core" if (cpu["threads_per_core"] or 1) > 1 else "",
        f"under {cpu['hypervisor']}" if cpu["hypervisor"] else "",
        f"{clock / 1000:.2f} GHz" if clock else "",
        f"governor {found['governor']}" if found["governor"] else "",
    ]
    lines = [
        ("cpu", f"{cpu['model']} (family {cpu['family']}, model {cpu['model_number']})"),
        ("cores", ", ".join(filter(None, [f"{cpu['cores']} of {cpu['logical']}", *limits]))),
        ("vectors", " ".join(cpu["isa"])),
        ("caches", caches or "unknown"),
        ("memory", f"{found['memory_bytes'] / 2**30:.1f} GiB" + _nodes(found["numa"])),
        ("system", f"{found['os']}, {found['kernel']}, {found['python']}"),
        *(
            (
                "library",
                f"{pool['name']} {pool['version'] or ''} ({pool['core_type'] or 'core type unknown'})",
            )
            for pool in found["libraries"]
        ),
        *([("gpu", _gpu(gpu)) for gpu in found["gpu"]] or [("gpu", "none")]),
    ]
    for label, text in lines:
        typer.echo(f"{label:10}{text}")
    for line in ["", *table(found["ceilings"])]:
        typer.echo(line)


def _nodes(numa: list[Line]) -> str:
    return f" on {len(numa)} NUMA nodes" if len(numa) > 1 else ""


def _gpu(gpu: Line) -> str:
    memory = f", {gpu['memory_bytes'] / 2**30:.1f} GiB" if gpu["memory_bytes"] else ""
    return f"{gpu['name']}{memory}, driver {gpu['driver']}"
