"""Train: a network learns on real data while a clock runs. The kernel changes the clock, not the learning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import mlp
from bench.isolation.trial import spare_this_process
from bench.plans.plan import Cell, check_memory, frozen, names_in
from bench.records import Line


@dataclass(frozen=True)
class Epoch:
    """One epoch: its number from 1, mean loss, test accuracy (0 to 1), seconds in its steps."""

    epoch: int
    train_loss: float
    test_accuracy: float | None
    seconds: float


@dataclass(frozen=True)
class Training:
    """A finished training: the network, its epochs, the loss of every step, seconds in all steps.

    first_step_s  seconds of the first step: with it come imports and compilation
    steps         that this process did: fewer than there are losses where it went on from a checkpoint
    """

    model: Line
    epochs: tuple[Epoch, ...]
    losses: tuple[float, ...]
    first_step_s: float
    steps: int

    @property
    def seconds(self) -> float:
        return sum(epoch.seconds for epoch in self.epochs)

    @property
    def step_s(self) -> float:
        """Mean seconds of a step after the first; of the first where there is no other."""
        rest = self.steps - 1
        return (self.seconds - self.first_step_s) / rest if rest > 0 else self.first_step_s

    def record(self) -> Line:
        """For --json and --out."""
        return asdict(self) | {"seconds": self.seconds, "step_s": self.step_s}


class Clock(mlp.Callback):
    """Seconds of the steps of each epoch (evaluation left out), told as each one ends."""

    def __init__(self, tell: Callable[[Epoch], Any]) -> None:
        self.epochs: list[Epoch] = []
        self.steps, self.first_step_s = 0, 0.0
        self._tell = tell

    def before_epoch(self, epoch: int) -> None:
        self._began = self._last = perf_counter()

    def after_step(self, step: int, loss: float) -> None:
        self._last = perf_counter()
        self.steps += 1
        if self.steps == 1:
            self.first_step_s = self._last - self._began

    def after_epoch(self, epoch: int, history: mlp.History) -> None:
        loss, accuracy = history.train_loss[-1], history.test_accuracy[-1]
        self.epochs.append(Epoch(epoch, loss, accuracy, self._last - self._began))
        self._tell(self.epochs[-1])


def train(
    data: str = "digits",
    arch: str | None = None,
    *,
    epochs: int = 20,
    batch: int = 32,
    kernel: str = "blas",
    activation: str = "relu",
    loss: str = "softmax-cross-entropy",
    optimizer: str = "sgd",
    lr: float | None = None,
    weight_decay: float = 0.0,
    schedule: str = "constant",
    dtype: str = "float32",
    seed: int = 0,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    tell: Callable[[Epoch], Any] = lambda epoch: None,
) -> Training:
    """Train a network and return what happened.

    data  "digits", "synthetic" or a folder of IDX files
    arch  widths, "64-64-10"; default: one hidden layer of 64 between the data's features and classes
    lr    default: the optimizer's own
    tell  called with each Epoch as it ends

    schedule, checkpoint and resume are mlp.fit's; an epoch that an earlier process did is not among the epochs.

    Raises ValueError for names and numbers that do not fit, mlp.DivergenceError, gemm.UnknownKernel,
    gemm.KernelUnavailable.
    """
    for name in names_in(kernel):
        spare_this_process(name)
    found = mlp.load(data)
    features = found.x_train.shape[1]
    outputs = found.classes or 1
    widths = mlp.widths(arch) if arch else (features, 64, outputs)
    described = {
        "arch": list(widths), "activation": activation, "loss": loss, "optimizer": optimizer, "lr": lr,
        "weight_decay": weight_decay, "schedule": schedule, "dtype": dtype, "kernel": kernel, "batch": batch,
        "data": data, "seed": seed,
    }  # fmt: skip
    check_memory([Cell(kernel, 1, model=frozen(described))])
    model = mlp.MLP(
        widths,
        activation=activation,
        loss=loss,
        optimizer=optimizer,
        lr=lr,
        weight_decay=weight_decay,
        kernel=kernel,
        dtype=dtype,
        seed=seed,
    )
    described["lr"] = model.optimizer.lr
    clock = Clock(tell)
    history = mlp.fit(
        model, found, epochs=epochs, batch=batch, seed=seed, callbacks=[clock], schedule=schedule,
        checkpoint=checkpoint, resume=resume,
    )  # fmt: skip
    return Training(described, tuple(clock.epochs), tuple(history.losses), clock.first_step_s, clock.steps)
