"""`gemmlab train`: flags become a training, epochs a table on stdout, how far it is a line on stderr."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bench.records import finite

if TYPE_CHECKING:
    import mlp
    from bench.train import Epoch, Training


def stopping(patience: int | None, min_delta: float | None, watch: str | None) -> mlp.EarlyStopping | None:
    """Early stopping as the flags have it; None where there is none of them but defaults."""
    import mlp

    if patience is None:
        for flag, value in (("--min-delta", min_delta), ("--watch", watch)):
            if value is not None:
                raise ValueError(f"{flag} goes with --patience, which says when to stop")
        return None
    return mlp.EarlyStopping(patience, min_delta or 0.0, watch or "loss")


def run(data: str, arch: str | None, settings: dict[str, Any], out: Path | None, as_json: bool) -> None:
    """Train, tell it as it happens, and write it down. Exit code 1 where some of several kernels came to nothing."""
    from bench.train import record, refused, train, writable, write

    if out is not None:
        writable(out)
    display = Display(settings["kernels"], silent=as_json)
    try:
        trainings = train(data, arch, **settings, watcher=display)
    finally:
        display.close()
    lost = [training for training in trainings if training.status != "ok"]
    if out is not None and not (len(trainings) == 1 and lost):
        write(trainings, out)
    if len(trainings) == 1 and lost:
        raise refused(lost[0])
    if as_json:
        typer.echo(json.dumps(finite(record(trainings)), indent=2, allow_nan=False))
    else:
        for line in summary(data, trainings):
            typer.echo(line)
    if lost:
        raise typer.Exit(1)


class Display:
    """A row of the table for each epoch, on stdout; loss, accuracy and the time left on stderr (a `Watcher`)."""

    def __init__(self, kernels: list[str], silent: bool) -> None:
        from bench.timing.progress import lines

        self._progress, self._silent, self._kernels = lines(), silent, kernels
        self._widest = max(map(len, ("kernel", *kernels))) if len(kernels) > 1 else 0
        self._steps = 0
        self._made: dict[str, int] = {}
        self._headed = False

    def begin(self, training: Training, steps: int) -> None:
        if not self._steps:
            self._steps = max(1, steps)
            self._progress.begin(self._steps * len(self._kernels))

    def advance(self, training: Training, steps: int) -> None:
        self._made[training.kernel] = self._made.get(training.kernel, 0) + steps
        self._progress.advance(steps)
        if training.losses:
            self._progress.note(self._where(training))

    def epochs(self, training: Training, ended: Sequence[Epoch]) -> None:
        if self._silent:
            return
        with self._progress.aside():
            if not self._headed:
                typer.echo(self._row("kernel", *HEAD[training.model["validation"] > 0]))
                self._headed = True
            for epoch in ended:
                typer.echo(self._row(training.kernel, *_words(epoch)))

    def end(self, training: Training) -> None:
        """Steps that will not be made are none that are left."""
        self._progress.advance(self._steps - self._made.get(training.kernel, 0))

    def close(self) -> None:
        self._progress.end()

    def _row(self, kernel: str, *words: str) -> str:
        first = f"{kernel:{self._widest}}  " if self._widest else ""
        return first + "  ".join(words)

    def _where(self, training: Training) -> str:
        """blas: epoch 3/20, loss 0.1234, accuracy 97.5%."""
        kernel = f"{training.kernel}: " if self._widest else ""
        planned = training.model["epochs"]
        said = f"epoch {min(len(training.epochs) + 1, planned)}/{planned}, loss {training.losses[-1]:.4g}"
        if not training.epochs:
            return kernel + said
        last = training.epochs[-1]
        right = last.test_accuracy if last.validation_accuracy is None else last.validation_accuracy
        return kernel + said + (f", accuracy {right:.1%}" if right is not None else "")


# Of an epoch, without a validation part and with one.
HEAD = (
    ("epoch", "      loss", "accuracy", "    steps"),
    ("epoch", "      loss", "validation", "accuracy", "    test", "    steps"),
)


def _words(epoch: Epoch) -> list[str]:
    def share(value: float | None) -> str:
        return "       -" if value is None else f"{value:8.2%}"

    words = [f"{epoch.epoch:5d}", f"{epoch.train_loss:10.5f}"]
    if epoch.validation_loss is not None:
        words += [f"{epoch.validation_loss:10.5f}", share(epoch.validation_accuracy)]
    return [*words, share(epoch.test_accuracy), f"{epoch.seconds:7.3f} s"]


def summary(data: str, trainings: list[Training]) -> list[str]:
    """What each training came to, in a line, and what it took in memory."""
    lines = []
    for training in trainings:
        widths = "-".join(map(str, training.model["arch"]))
        said = f"{widths} on {data} with {training.kernel}: "
        if training.status != "ok":
            lines.append(f"{said}{training.status} ({training.reason})")
            continue
        if training.step_s is None:
            said += f"nothing left to do, the checkpoint has {len(training.epochs)} epochs"
        else:
            said += (
                f"{training.steps} steps in {training.spent_s:.3f} s, {training.step_s * 1e6:.0f} us each; "
                f"the first call {(training.first_call_s or 0) * 1e3:.1f} ms"
            )
        lines.append(said + _ended(training))
    largest = max(trainings, key=lambda training: training.memory.get("total", 0))
    return [*lines, *([_memory(largest)] if largest.memory else [])]


def _ended(training: Training) -> str:
    if training.best_epoch is None:
        return ""
    how = f"stopped after epoch {len(training.epochs)}" if training.stopped else "not stopped"
    return f"; {how}, the weights are those of epoch {training.best_epoch}"


def _memory(training: Training) -> str:
    parts = {name: size / 2**20 for name, size in training.memory.items() if name != "total" and size}
    named = ", ".join(f"{name} {size:.2f}" for name, size in parts.items())
    return f"memory: {training.memory['total'] / 2**20:.2f} MiB beside the data ({named})"
