"""The command that needs nothing but this room: `gemmlab kernels`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from gemm import registry
from gemm.kernel import Kernel
from gemm.vendors import libraries


def _add(entries: list[str] | None) -> list[str] | None:
    if entries:
        libraries.add(entries)
        registry.refresh()
    return entries


# Heard wherever it is taken; it goes into the environment, and so to every process that is started.
Cblas = Annotated[
    list[str] | None,
    typer.Option(
        "--cblas", callback=_add, is_eager=True, metavar="NAME=PATH",
        help="A CBLAS library to be the kernel cblas:NAME; may be repeated.",
    ),
]  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add this room's commands to the front door."""
    app.command()(kernels)


def kernels(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    probe: Annotated[
        bool, typer.Option("--probe", help="Load each one and multiply with it, in a process of its own.")
    ] = False,
    cblas: Cblas = None,
) -> None:
    """The ladder: which kernels there are, which can run here, and why the others cannot."""
    import gemm

    rows = [describe(kernel) for kernel in gemm.kernels()]
    if probe:
        for row in rows:
            row["reason"] = row["reason"] or _try(row["kernel"])
            row["available"] = row["reason"] is None
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("kernel", "here", "idea"):
        table.add_column(column, no_wrap=column != "idea")
    for row in rows:
        idea = row["idea"] if row["available"] else f"{row['idea']}\n[dim]{escape(row['reason'])}[/dim]"
        table.add_row(
            row["kernel"], "[green]yes[/green]" if row["available"] else "[yellow]no[/yellow]", idea
        )
    Console().print(table)


def describe(kernel: Kernel) -> dict[str, Any]:
    """A kernel as `--json` prints it."""
    return {
        "kernel": kernel.name,
        "idea": kernel.idea,
        "device": kernel.device,
        "signatures": [list(signature) for signature in kernel.signatures],
        "fuses": sorted(kernel.fuses),
        "available": kernel.available,
        "reason": kernel.reason,
    }


_TRIAL = """
import sys, numpy, gemm
a = numpy.eye(3, dtype="float32")
try:
    assert (gemm.matmul(a, 2 * a, kernel=sys.argv[1]) == 2 * a).all(), "its product of 3 x 3 is wrong"
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def _try(name: str) -> str | None:
    """Multiply with a kernel in a process of its own; None if that works, else what happened."""
    import subprocess
    import sys

    try:
        done = subprocess.run(
            [sys.executable, "-c", _TRIAL, name], capture_output=True, text=True, timeout=120
        )
    except subprocess.TimeoutExpired:
        return "it did not come back within 120 s"
    if done.returncode == 0:
        return None
    last = done.stderr.strip().splitlines()[-1:] or [""]
    return f"the process was killed by signal {-done.returncode}" if done.returncode < 0 else last[0]
