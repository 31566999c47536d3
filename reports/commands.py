"""Commands: `gemmlab report`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN...",
            help="Folders of runs, or files of `gemmlab train --out`; default: the newest run in runs/.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The page; default: report.html in the run's folder, FILE.html beside FILE.json."),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(metavar="KERNEL", help="What speed-ups are against; default: the slowest.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Leave out host, user and paths.")] = False,
    figures: Annotated[
        bool, typer.Option(help="Also PNG and SVG files for slides, in figures/ beside the page.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Say what was written as JSON.")] = False,
) -> None:
    """Draw figures and one offline HTML page from the records of one run, or of several."""
    from rich.console import Console

    import reports
    from bench.records import latest, load

    opened = [load(run) for run in runs or [latest()]]
    progress = Console(stderr=True)
    with progress.status("drawing the page"):
        page = reports.page(opened, out, baseline, public)
    drawn: list[Path] = []
    if figures:
        with progress.status("drawing the figures"):
            drawn = reports.figures(opened, page.parent / "figures", baseline, public)
    found = reports.findings(opened, public)
    warnings = [warning for run in opened for warning in run.warnings]
    if as_json:
        written = {
            "page": str(page),
            "figures": [str(path) for path in drawn],
            "findings": found,
            "warnings": warnings,
        }
        typer.echo(json.dumps(written, indent=2))
        return
    for warning in warnings:
        typer.echo(warning, err=True)
    for sentence in found:
        typer.echo(sentence)
    typer.echo(str(page))


def register(app: typer.Typer) -> None:
    """Add this room's command to the front door."""
    app.command()(report)
