"""Progress: one live line on stderr with the time left, drawn only between samples."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from time import monotonic
from typing import Any, Protocol

# Seconds between two lines where there is no terminal.
LINE_S = 10.0


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

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Results go to stdout, which may be the same terminal: the line makes room for them."""
        if self._bar:
            self._bar.stop()
        yield
        if self._bar:
            self._bar.start()

    def end(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None


class Lines:
    """Where there is no terminal: a plain line from time to time, none for what is soon done."""

    def __init__(self) -> None:
        self._total = self._done = 0

    def begin(self, total: int) -> None:
        self._total, self._began = total, monotonic()
        self._last = self._began

    def advance(self, by: int = 1) -> None:
        self._done += by

    def note(self, text: str) -> None:
        now = monotonic()
        if now - self._last >= LINE_S and self._done > 0:
            left = (now - self._began) * (self._total - self._done) / self._done
            share = f"{self._done / self._total:4.0%}"
            print(f"{share}  {clock(left)} left  {text}", file=sys.stderr, flush=True)  # noqa: T201
            self._last = now

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        yield

    def end(self) -> None: ...


def clock(seconds: float) -> str:
    """3:07 or 1:02:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def lines() -> Live | Lines:
    """A live line where stderr is a terminal, plain ones elsewhere."""
    return Live() if sys.stderr and sys.stderr.isatty() else Lines()


def live() -> Progress:
    """A live line where stderr is a terminal, silence elsewhere."""
    return Live() if sys.stderr and sys.stderr.isatty() else Silent()
