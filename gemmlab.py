"""gemmlab: the front door. One command line, put together from the rooms' commands, and the main job."""

from __future__ import annotations

import io
import signal
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

import bench
import bench.commands
import gemm
import gemm.commands
import reports
import reports.commands

# click's, or the copy of it that newer Typers bring: what is wrong with a command line
UsageError: Any = typer.BadParameter.__mro__[1]

INTERRUPTED = 130  # the exit code after Ctrl-C

app = typer.Typer(
    name="gemmlab",
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
gemm.commands.register(app)
bench.commands.register(app, show=reports.show, show_comparison=reports.show_comparison, draw=reports.page)
reports.commands.register(app)

# The main job's network: small enough for digits. Its products are a sweep's default: the ladder's sizes.
NETWORK: dict[str, Any] = {"arch": "64-256-128-10", "batch": 128, "data": "digits"}
NETWORK_KERNELS = ("numba-blocked", "numba-micro", "blas")


@app.callback(invoke_without_command=True)
def tour(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Option("--out", help="The run's folder (default: a new one in runs/).")
    ] = None,
) -> None:
    """What a matrix multiply costs, why, and which kernel to use.

    Without a command: a quick sweep of this machine over the ladder, the per-layer cost of a small network,
    a report, and what was found. About a minute.
    """
    if context.invoked_subcommand is not None:
        if out is not None:
            raise ValueError("--out before a command is the tour's; put it behind the command")
        return
    from bench.plans import axes, network, plan
    from bench.timing import engine
    from bench.timing.progress import live

    products = axes.Sweep().cells()
    steps = network.cells(kernels=NETWORK_KERNELS, **NETWORK)
    quick = plan.Plan(cells=products + steps, **plan.PRECISIONS["quick"], rounds=5, sample_s=0.01, cell_s=4.0)
    run = engine.start(quick, out, stem="tour", progress=live())
    reports.show(run, brief=True)
    page = reports.page(run)
    reports.figures(run, run.path / "figures")
    for sentence in reports.findings(run):
        typer.echo(sentence)
    typer.echo(f"records: {run.path}")
    typer.echo(f"report:  {page}")


def main() -> None:
    """The console script: exit code 0 fine, 1 the check or comparison failed, 2 wrong usage."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # asked to end: as with Ctrl-C
    warnings.showwarning = _warned
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without our signs still gets the numbers
    try:
        code = app(standalone_mode=False) or 0
        if code != INTERRUPTED:
            sys.exit(code)
        message = "interrupted; nothing was kept"  # Typer has turned a Ctrl-C into its code
    except UsageError as error:
        message, code = error.format_message(), 2
    except (ValueError, gemm.KernelUnavailable) as error:
        message, code = str(error), 2
    except bench.Interrupted as interrupted:
        message, code = str(interrupted), INTERRUPTED
    except (KeyboardInterrupt, typer.Abort):
        message, code = "interrupted; nothing was kept", INTERRUPTED
    except OSError as error:
        message, code = f"{error.filename or 'the output'} cannot be read or written ({error.strerror})", 2
    typer.echo(f"gemmlab: {' '.join(message.split())[:600]}", err=True)
    sys.exit(code)


def _warned(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning as one line, without the place in our source that gave it."""
    typer.echo(f"gemmlab: {' '.join(str(message).split())[:600]}", err=True)


if __name__ == "__main__":
    main()
