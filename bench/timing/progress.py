"""Progress: one live line on stderr with the time left, drawn only between samples."""

from __future__ import annotations

import sys
from typing import Any, Protocol


class Progress(Protocol):
    """What the engine tells: how many samples there will be, each one done, and what it is doing."""

    def begin(self, total: int) -> None: ...
    def advance(self, by: int = 1) -> None: ...
    def note(self, text: str) -> None: ...
    def end(self) -> None: ...


class Silent:
    """Says nothing."""

    def begin(self, total: int) -> None: ...
    def advance(self, by: int = 1) -> None: ...
    def note(self, text: str) -> None: ...
    def end(self) -> None: ...


class Live:
    """A bar with the time left, through rich; refreshed by hand: no thread of ours runs beside a sample."""

    def __init__(self) -> None:
        self._bar: Any = None

    def begin(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (
            BarColumn(24), TextColumn("{task.percentage:3.0f}%"), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.description}"),
        )  # fmt: skip
        self._bar = Progress(*columns, console=Console(stderr=True), auto_refresh=False, transient=True)
        self._bar.start()
        self._task = self._bar.add_task("starting", total=total)

    def advance(self, by: int = 1) -> None:
        if self._bar:
            self._bar.advance(self._task, by)

    def note(self, text: str) -> None:
        if self._bar:
            self._bar.update(self._task, description=text)
            self._bar.refresh()

    def end(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None


def live() -> Progress:
    """A live line where stderr is a terminal, silence elsewhere."""
    return Live() if sys.stderr and sys.stderr.isatty() else Silent()
