"""Training: mini-batches in an order drawn by a seed, a step on each, callbacks in between."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mlp.checkpoint import restore, save
from mlp.data import Dataset
from mlp.mistakes import positive
from mlp.model import MLP
from mlp.schedules import Schedule
from mlp.schedules import schedule as schedule_of

Array = np.ndarray


@dataclass
class History:
    """What a training saw.

    losses         of each step, on its mini-batch, before its update
    train_loss     of each epoch: the mean of its steps' losses over the examples
    test_accuracy  after each epoch, in 0 .. 1; None where the data has no classes or
                   no test examples
    """

    losses: list[float] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    test_accuracy: list[float | None] = field(default_factory=list)


class DivergenceError(ValueError):
    """The loss became infinite or NaN. `history` holds the steps before."""

    def __init__(self, message: str, history: History) -> None:
        super().__init__(message)
        self.history = history


class Callback:
    """Does nothing; override what you need. Epochs and steps count from 1, steps through all epochs.

    The test accuracy is taken between the last `after_step` of an epoch and its `after_epoch`.
    """

    def before_epoch(self, epoch: int) -> None:
        """The data lies ready; steps follow."""

    def after_step(self, step: int, loss: float) -> None:
        """A step is done."""

    def after_epoch(self, epoch: int, train_loss: float, test_accuracy: float | None) -> None:
        """An epoch is done and evaluated."""


def fit(
    model: MLP,
    data: Dataset,
    epochs: int,
    batch: int,
    seed: int = 0,
    callbacks: Sequence[Callback] = (),
    schedule: str | Schedule = "constant",
    checkpoint: str | Path | None = None,
    resume: bool = False,
) -> History:
    """Train the model on every example of the data `epochs` times, in mini-batches of `batch` rows.

    The last mini-batch of an epoch is smaller where `batch` does not divide the examples. `seed` draws the
    order; model, data and seed determine every step. Mini-batches are gathered into one buffer. `schedule` (see
    mlp.schedules) is a factor of the optimizer's learning rate, epoch by epoch; the optimizer has its own again
    afterwards.

    checkpoint   a file (see mlp.checkpoint), written after every epoch
    resume       go on from it, if it exists: the model ends with the bits that it would have had without a break

    Raises ValueError for data that does not fit the network or a batch that does not fit the data, and
    DivergenceError when a loss is not finite.
    """
    epochs, batch = positive("epochs", epochs), positive("batch", batch)
    factor, lr = schedule_of(schedule), model.optimizer.lr
    _check(model, data, batch)
    examples = len(data.x_train)
    x_train = np.ascontiguousarray(data.x_train, model.dtype)
    y_train = np.ascontiguousarray(data.y_train)
    x, y = np.empty_like(x_train[:batch]), np.empty_like(y_train[:batch])
    left_over = examples % batch
    batches = [(x, y)] * (examples // batch) + [(x[:left_over], y[:left_over])] * bool(left_over)
    if resume and checkpoint is None:
        raise ValueError("resume goes on from a checkpoint; say which file it is")
    rng = np.random.default_rng(seed)
    history, done = History(), 0
    same = {"seed": seed, "batch": batch, "examples": examples, "data": data.name}
    if resume and checkpoint is not None and Path(checkpoint).exists():
        training = restore(model, checkpoint)
        done, history = _resumed(training, same, rng, checkpoint)
        lr = model.optimizer.lr
    try:
        for epoch in range(done + 1, epochs + 1):
            model.optimizer.lr = lr * factor(epoch - 1, epochs)
            order, start, total = rng.permutation(examples), 0, 0.0
            for callback in callbacks:
                callback.before_epoch(epoch)
            for x, y in batches:
                rows = order[start : start + len(x)]
                x_train.take(
                    rows, 0, x, "clip"
                )  # in range; "raise" would gather into a buffer of its own first
                y_train.take(rows, 0, y, "clip")
                with np.errstate(over="ignore", invalid="ignore"):  # the loss says so
                    loss = model.step(x, y)
                if not math.isfinite(loss):
                    raise _divergence(model, loss, epoch, history)
                history.losses.append(loss)
                start, total = start + len(x), total + loss * len(x)
                for callback in callbacks:
                    callback.after_step(len(history.losses), loss)
            history.train_loss.append(total / examples)
            judged = data.classes and len(data.x_test)
            history.test_accuracy.append(accuracy(model, data.x_test, data.y_test, batch) if judged else None)
            for callback in callbacks:
                callback.after_epoch(epoch, history.train_loss[-1], history.test_accuracy[-1])
            if checkpoint is not None:
                model.optimizer.lr = lr
                state = {"epoch": epoch, "rng": rng.bit_generator.state, "history": asdict(history), **same}
                save(model, checkpoint, state)
    finally:
        model.optimizer.lr = lr
    return history


def _resumed(
    training: dict[str, Any] | None, same: dict[str, Any], rng: np.random.Generator, path: str | Path
) -> tuple[int, History]:
    """Epochs done and what they saw; the generator goes on where it was."""
    if training is None:
        raise ValueError(f"{path} holds a model and no training; train it from there without resume")
    for what, value in same.items():
        if training[what] != value:
            raise ValueError(f"{path} is of a training whose {what} is {training[what]}, not {value}")
    rng.bit_generator.state = training["rng"]
    return training["epoch"], History(**training["history"])


def accuracy(model: MLP, x: Array, y: Array, batch: int = 1024) -> float:
    """The share of rows whose largest output is at the label; y are integer labels (n,)."""
    predicted = model.predict(x, batch)
    labels = predicted if model.loss.classifies else predicted.argmax(axis=1)
    return float(np.mean(labels == y))


def _check(model: MLP, data: Dataset, batch: int) -> None:
    """Everything that could go wrong between network and data, before the first step and not at the last."""
    name, inputs, outputs = data.name, model.widths[0], model.widths[-1]
    for part, x, y in (("train", data.x_train, data.y_train), ("test", data.x_test, data.y_test)):
        if len(x) != len(y):
            raise ValueError(f"{name} has {len(x)} {part} examples and {len(y)} labels for them")
        if x.ndim != 2 or x.shape[1] != inputs:
            wanted = f"the network {model.arch} takes (examples, {inputs})"
            raise ValueError(f"{name} has {part} examples of shape {x.shape}; {wanted}")
    if batch > len(data.x_train):
        raise ValueError(f"batch is {batch}, more than the {len(data.x_train)} training examples of {name}")
    if data.classes and data.classes > outputs:
        wanted = f"the last width must be at least {data.classes}"
        raise ValueError(
            f"{name} has {data.classes} classes, the network {model.arch} {outputs} outputs; {wanted}"
        )
    # every label now, rather than a bad one in the middle of an epoch
    model.loss.accept(data.y_train, model.loss.targets(len(data.y_train), outputs, model.dtype), outputs)


def _divergence(model: MLP, loss: float, epoch: int, history: History) -> DivergenceError:
    step = len(history.losses) + 1
    try_this = f"try a smaller lr than {model.optimizer.lr:g}, or look for NaN and huge values in the data"
    return DivergenceError(f"the loss became {loss} at step {step} (epoch {epoch}); {try_this}", history)
