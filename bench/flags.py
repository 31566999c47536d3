"""Flags that several commands of this room have: how long to measure, and where the records go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Out = Annotated[Path | None, typer.Option("--out", help="The run's folder (default: a new one in runs/).")]
Resume = Annotated[Path | None, typer.Option(help="Finish this run; takes no other flags.")]
Precision = Annotated[
    str | None, typer.Option(help="quick, default or precise: 3, 6 or 12 launches, or 24 if still wide.")
]
Launches = Annotated[int | None, typer.Option(help="Launches, in place of --precision.")]
Rounds = Annotated[int | None, typer.Option(help="Samples of each cell in each launch (5; of explore 3).")]
CellSeconds = Annotated[
    float | None, typer.Option(help="Skip cells predicted to take longer than this (30; of explore 10).")
]
Budget = Annotated[float | None, typer.Option(help="Seconds: as many launches, of 3, 6, 12 or 24, as fit.")]
