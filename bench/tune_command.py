"""The `tune` command: flags in, block sizes for this machine out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.records import finite

if TYPE_CHECKING:
    from bench.tune import Found, Tuning


def register(app: typer.Typer) -> None:
    """Add `tune` to the front door."""

    @app.command("tune")
    def command(
        dtypes: Annotated[str | None, typer.Option(help="float32, float64 or both (default).")] = None,
        budget: Annotated[float | None, typer.Option(help="Seconds, about (120).")] = None,
        out: Annotated[
            Path | None,
            typer.Option(help="The tuning file (default: GEMMLAB_TUNING, else in the user's config folder)."),
        ] = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Search, and write nothing.")] = False,
        forget: Annotated[
            bool, typer.Option("--forget", help="Remove this processor's entry from the file.")
        ] = False,
        device: Annotated[str, typer.Option(help="cpu, or cuda: tile sizes of the cuda-* kernels.")] = "cpu",
        kernels: Annotated[
            str | None, typer.Option(help="Of --device cuda: which kernels, comma between (default: all).")
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ) -> None:
        """Block sizes of numba-micro for this machine, or tile sizes of a GPU's kernels.

        They are searched, and written where the kernels read them.

        The search starts from the sizes that a model makes of the caches, and keeps what is faster by more than noise.
        """
        if device not in ("cpu", "cuda"):
            raise ValueError(
                f"--device {device}: tuned are cpu (block sizes) and cuda (tile sizes); give one of them"
            )
        if device == "cuda":
            if dtypes is not None:
                raise ValueError("--dtypes is of the CPU's block sizes; with --device cuda give --kernels")
            if forget and (kernels, budget, dry_run) != (None, None, False):
                raise ValueError("--forget removes the entry and tunes nothing; leave the other flags out")
            _on_device(kernels, budget, out, dry_run, forget, as_json)
            return
        if kernels is not None:
            raise ValueError("--kernels is of --device cuda; the CPU's block sizes are numba-micro's alone")
        if forget and (dtypes, budget, dry_run) != (None, None, False):
            raise ValueError("--forget removes the entry and tunes nothing; leave the other flags out")
        if forget:
            _forget(out, as_json)
            return
        from bench.commands import split
        from bench.timing.progress import live
        from bench.tune import BUDGET_S, tune
        from gemm.problems import DTYPES

        chosen = DTYPES if dtypes is None else tuple(dict.fromkeys(split(dtypes) or ()))
        if not chosen:
            raise ValueError(f"--dtypes is empty; there are {', '.join(DTYPES)}")
        seconds = BUDGET_S if budget is None else budget
        found = tune(chosen, seconds, out, dry_run=dry_run, progress=live())
        if as_json:
            typer.echo(json.dumps(finite(found.record()), indent=2, allow_nan=False))
            return
        for line in (*table(found), "", outcome(found, out, dry_run)):
            typer.echo(line)


def table(found: Tuning) -> list[str]:
    """The block sizes of each dtype, the model's and those that were found, and what these gain."""
    lines = []
    for dtype, blocks in found.blocks.items():
        lines += ["", f"{dtype:16}{'model':>10}{'tuned':>10}"]
        for name, before, after in zip(blocks._fields, found.model[dtype], blocks):
            lines.append(f"  {name:14}{before:>10}{after:>10}{'' if after == before else '  *'}")
        lines += [f"  {_sentence(stage)}" for stage in found.stages[dtype]]
    return lines[1:]


def outcome(found: Tuning, out: Path | None, dry_run: bool) -> str:
    """What became of it, in a sentence."""
    from gemm.micro import tuning

    better = " and ".join(found.better)
    said = (
        f"block sizes for {better} that beat the model's"
        if better
        else "nothing beats the model's block sizes beyond noise"
    )
    if found.undecided:
        said += f"; {' and '.join(found.undecided)} cannot be told, the machine was busy with something else"
    if dry_run:
        return f"{said}; nothing was written (--dry-run)"
    if found.written is None:
        return f"{said}; {'the file has them already' if better else 'nothing was written'}"
    if not better:
        return f"{said}; an earlier entry for them was removed from {found.written}, the model's are used"
    read = found.written == tuning.FILE.path()
    return f"{said}: {found.written}" + (
        "" if read else f" (numba-micro reads it with {tuning.FILE.variable}={out})"
    )


def _on_device(
    kernels: str | None, budget: float | None, out: Path | None, dry_run: bool, forget: bool, as_json: bool
) -> None:
    from bench import tune_device
    from bench.commands import split
    from bench.timing.progress import live
    from gemm.cuda import tiles

    if forget:
        gone = tune_device.forget(out)
        if as_json:
            typer.echo(json.dumps({"removed": gone}, indent=2))
        else:
            typer.echo("removed this GPU's entry" if gone else "there is no entry for this GPU")
        return
    seconds = tune_device.BUDGET_S if budget is None else budget
    found = tune_device.tune(split(kernels) or (), seconds, out, dry_run=dry_run, progress=live())
    if as_json:
        typer.echo(json.dumps(finite(found.record()), indent=2, allow_nan=False))
        return
    for one in found.found:
        sizes = " ".join(f"{name}={size}" for name, size in one.tuned.items())
        typer.echo(f"{one.kernel:16}{sizes}{'' if one.tuned == one.ladder else '  *'}")
        more = "" if one.finished else "; the budget ended the search"
        typer.echo(f"{'':16}{one.tried} tried, {len(one.refused)} cannot run: {_gained(one)}{more}")
    read = out is None or found.written == tiles.FILE.path()
    where = f"written to {found.written}" + ("" if read else f" (read with {tiles.FILE.variable}={out})")
    typer.echo(where if found.written else "nothing was written")


def _gained(one: Any) -> str:
    if one.gain is None:
        return "nothing beats the ladder's"
    ratio, (shape, least) = one.gain.ratio, one.gain.worst
    told = f"{_percent(ratio.value)} ({_percent(ratio.low)} to {_percent(ratio.high)}), "
    told += f"the least {_percent(least)} on {shape}"
    return told if one.tuned != one.ladder else f"{told}: not kept, within noise or some shape pays for it"


def _forget(out: Path | None, as_json: bool) -> None:
    from bench import config_files
    from bench.tune import forget
    from gemm.micro import tuning

    file, gone = config_files.writable(tuning.FILE, out), forget(out)
    if as_json:
        typer.echo(json.dumps({"file": str(file), "removed": gone}, indent=2))
    elif gone:
        typer.echo(f"removed this processor's entry from {file}; the model's block sizes are used")
    else:
        typer.echo(f"{file} has no entry for this processor")


def _sentence(stage: Found) -> str:
    from bench.tune import MOST_DISTURBED

    on = f"on {stage.threads} thread{'s' * (stage.threads > 1)}"
    more = "" if stage.finished else "; the budget ended the search"
    if stage.gain is None:
        return f"{on}: nothing better was found{more}"
    ratio, (shape, least) = stage.gain.ratio, stage.gain.worst
    figures = f"{_percent(ratio.value)} ({_percent(ratio.low)} to {_percent(ratio.high)})"
    told = f"{figures} over {len(stage.gain.shapes)} shape{'s' * (len(stage.gain.shapes) > 1)}"
    told += f", the least {_percent(least)} on {shape}"
    why = "within noise, or some shape pays for it"
    if stage.disturbed > MOST_DISTURBED:
        why = f"something else had the cores in {stage.disturbed:.0%} of the samples; try again on a quiet machine"
    verdict = "" if stage.tuned else f": not kept ({why})"
    return f"{on}: {told}{verdict}{more}"


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %"
