"""The `select` command: sweeps in, which kernel `auto` uses for what shape out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.records import finite
from gemm.commands import Cblas

if TYPE_CHECKING:
    from bench.selection import Group, Selected


def register(app: typer.Typer) -> None:
    """Add `select` to the front door."""

    @app.command("select")
    def command(
        runs: Annotated[
            list[Path] | None,
            typer.Argument(help="Runs with sweeps of several kernels (default: the newest)."),
        ] = None,
        kernels: Annotated[
            str | None, typer.Option(help="Kernels to choose from, comma between (default: all in the runs).")
        ] = None,
        out: Annotated[
            Path | None,
            typer.Option(help="The selection file (default: GEMMLAB_SELECTION, else in the config folder)."),
        ] = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Choose, and write nothing.")] = False,
        cblas: Cblas = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ) -> None:
        """Which kernel `auto` is to use for what shape, from what was measured; nothing is measured now."""
        from bench import config_files
        from bench.commands import split
        from bench.records import latest
        from bench.selection import keep, select
        from gemm.selection import FILE

        if not dry_run:
            config_files.writable(FILE, out)
        found = select(runs or [latest()], split(kernels))
        written = None if dry_run else keep(found, out)
        if as_json:
            value = {
                "written": str(written) if written else None,
                "selected": [one.record() for one in found],
            }
            typer.echo(json.dumps(finite(value), indent=2, allow_nan=False))
            return
        for one in found:
            for line in table(one):
                typer.echo(line)
            typer.echo("")
        typer.echo(f"written to {written}" if written else "nothing was written (--dry-run)")


def table(one: Selected) -> list[str]:
    """A row for each class of shapes: which kernels, and by how much over the next."""
    count = f"{one.threads} thread{'s' * (one.threads > 1)}"
    kernels, shapes = ", ".join(one.choices.kernels), len(one.choices.shapes)
    title = f"auto in {one.dtype} on {count}: from {kernels}, on {shapes} shapes"
    rows = [("order", "size", "chosen (shapes)", "ahead", "of", "by (95 %)")]
    for group in one.groups:
        chosen = ", ".join(f"{name} ({number})" for name, number in group.chosen.items())
        rows.append((group.order, group.size, chosen, group.best, group.next or "", _by(group)))
    wide = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, wide)).rstrip() for row in rows]
    if one.pool is not None:
        lines.append(
            f"On {count} from one thread pool only, {one.pool}'s, as pools get in each other's way; the best of any "
            f"would be {100 * (one.given_up - 1):.1f} % faster if they did not."
        )
    lines += [f"left out: {name} ({why})" for name, why in one.left_out.items()]
    return [title, *lines]


def _by(group: Group) -> str:
    if group.margin is None:
        return ""
    value, low, high = group.margin.value, group.margin.low, group.margin.high
    if group.margin.n < 2:
        return f"{value:.3f} (one launch: no interval)"
    return f"{value:.3f} ({low:.3f}-{high:.3f}){', within noise' * group.within_noise}"
