"""Training: mini-batches in an order drawn by a seed, a step on each, callbacks in between."""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mlp.checkpoint import restore, save
from mlp.data import Dataset, held_out
from mlp.devices import host, write
from mlp.feed import Losses, feed
from mlp.mistakes import positive, whole
from mlp.model import MLP
from mlp.schedules import Schedule
from mlp.schedules import schedule as schedule_of
from mlp.stopping import EarlyStopping, Watch, described

Array = np.ndarray
# Elements of features, or of targets, that are looked at at once before a training.
LOOK = 1 << 18


@dataclass
class History:
    """What a training saw.

    losses               of each step, on its mini-batch, before its update (eight bytes each)
    train_loss           of each epoch: the mean of its steps' losses over the examples
    validation_loss      after each epoch, on the validation part; None where there is none
    validation_accuracy  the same in 0 .. 1; None where the data has no classes either
    test_accuracy        after each epoch, in 0 .. 1; None where the data has no classes or
                         no test examples
    lr                   the learning rate of each epoch
    best_epoch           with early stopping, the epoch whose weights the model has in the end; else None
    stopped              whether early stopping ended it
    """

    losses: array[float] = field(default_factory=lambda: array("d"))
    train_loss: list[float] = field(default_factory=list)
    validation_loss: list[float | None] = field(default_factory=list)
    validation_accuracy: list[float | None] = field(default_factory=list)
    test_accuracy: list[float | None] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    best_epoch: int | None = None
    stopped: bool = False

    @property
    def epochs(self) -> int:
        """How many are done."""
        return len(self.train_loss)


class DivergenceError(ValueError):
    """The loss became infinite or NaN. `history` holds the steps before."""

    def __init__(self, message: str, history: History) -> None:
        super().__init__(message)
        self.history = history


class Callback:
    """Does nothing; override what you need. Epochs and steps count from 1, steps through all epochs.

    Validation and test examples are looked at between the last `after_step` of an epoch and its `after_epoch`.
    """

    def before_training(self, epochs: int, steps: int, history: History) -> None:
        """So many epochs of so many steps are planned; the history is what a checkpoint has brought."""

    def before_epoch(self, epoch: int) -> None:
        """The data lies ready; steps follow."""

    def after_step(self, step: int, loss: float) -> None:
        """A step is done; on a GPU it is asked for, but for the last of an epoch, and float(loss) waits for it."""

    def after_epoch(self, epoch: int, history: History) -> None:
        """An epoch is done and evaluated: the last entries of the history."""

    def state(self) -> Any:
        """What a checkpoint should keep of this callback, as JSON values; None: nothing."""
        return None

    def restore(self, state: Any) -> None:
        """A training goes on: what `state` of a callback of this class gave, if it gave something."""


@dataclass(frozen=True, eq=False)
class _Part:
    """Rows of features and targets that are looked at together."""

    name: str
    x: Array
    y: Array
    rows: Array


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
    validation: float = 0.0,
    stopping: EarlyStopping | None = None,
) -> History:
    """Train the model on the examples of the data `epochs` times, in mini-batches of `batch` rows.

    The last mini-batch of an epoch is smaller where `batch` does not divide the examples. `seed` draws the
    order; model, data and seed determine every step. Mini-batches are gathered into one buffer. `schedule` (see
    mlp.schedules) is a factor of the optimizer's learning rate, epoch by epoch; the optimizer has its own again
    afterwards.

    validation   the share of the training examples, drawn by the seed, that is held out and looked at after every
                 epoch; 0: none, but for those that the data may bring
    stopping     when to stop before `epochs` (see mlp.stopping); the model then ends with the weights of its best epoch
    checkpoint   a file (see mlp.checkpoint), written after every epoch
    resume       go on from it, if it exists: the model ends with the bits that it would have had without a break

    On a GPU the training examples are copied there, and no step is waited for (mlp.feed): the history has the losses of
    an epoch's last steps a little later, and a loss that is not finite is seen a few steps after it came about.

    What it takes in memory is in mlp.footprint.

    Raises ValueError for data that does not fit the network or a batch that does not fit the data, and DivergenceError
    when a loss is not finite.
    """
    epochs, batch, seed = positive("epochs", epochs), positive("batch", batch), whole("seed", seed, 0)
    factor, lr = schedule_of(schedule), model.optimizer.lr
    train, held, test = _parts(model, data, batch, validation, seed)
    watch = _watch(model, stopping, held, data)
    examples, rng = len(train.rows), np.random.default_rng(seed)
    same = {
        "seed": seed, "batch": batch, "examples": examples, "data": data.name,
        "validation examples": len(held.rows) if held else 0, "early stopping": described(stopping),
    }  # fmt: skip
    history = History()
    if resume and checkpoint is None:
        raise ValueError("resume goes on from a checkpoint; say which file it is")
    if checkpoint is not None:
        _writable(Path(checkpoint))
    if resume and checkpoint is not None and Path(checkpoint).exists():
        training = restore(model, checkpoint, best=watch.weights if watch else ())
        history = _resumed(training, same, rng, checkpoint, watch, callbacks)
        lr = model.optimizer.lr
    fed, arriving = feed(model, train.x, train.y, examples, batch), Losses(model)
    batches, x = fed.batches, fed.x_on_host
    for size in dict.fromkeys(len(x_step) for x_step, _ in batches):
        model.plan(size)  # now, so that no step pays for it
    for callback in callbacks:
        callback.before_training(epochs, len(batches), history)
    try:
        for epoch in range(history.epochs + 1, epochs + 1):
            if watch and watch.over:
                history.stopped = True
                break
            model.optimizer.lr = lr * factor(epoch - 1, epochs)
            history.lr.append(model.optimizer.lr)
            fed.begin_epoch(train.rows[rng.permutation(examples)])
            start, step, known, total = 0, len(history.losses), 0, 0.0
            for callback in callbacks:
                callback.before_epoch(epoch)
            for x_step, y_step in batches:
                fed.gather(start, x_step, y_step)
                with np.errstate(over="ignore", invalid="ignore"):  # the loss says so
                    loss = model.step(x_step, y_step)
                start, step = start + len(x_step), step + 1
                for value in arriving.add(loss, last=start == examples):
                    if not math.isfinite(value):
                        raise _divergence(model, value, epoch, history)
                    history.losses.append(value)
                    total += value * len(batches[known][0])
                    known += 1
                for callback in callbacks:
                    callback.after_step(step, loss)
            history.train_loss.append(total / examples)
            _evaluate(model, data, held, test, x, history)
            if watch:
                watch.see(epoch, _score(watch, history), model.parameters())
                history.best_epoch, history.stopped = watch.best_epoch or None, watch.over and epoch < epochs
            for callback in callbacks:
                callback.after_epoch(epoch, history)
            if checkpoint is not None:
                model.optimizer.lr = lr
                best = watch.weights if watch else ()
                state = _state(history, rng, watch, callbacks) | same
                save(model, checkpoint, state, losses=history.losses, best=best)
    finally:
        model.optimizer.lr = lr
    if watch and watch.best_epoch:
        for parameter, kept in zip(model.parameters(), watch.weights):
            write(parameter, kept)
    return history


def check(
    model: MLP,
    data: Dataset,
    batch: int,
    *,
    seed: int = 0,
    validation: float = 0.0,
    stopping: EarlyStopping | None = None,
) -> None:
    """Raise the ValueError that `fit` would raise for data that does not fit; nothing else is done."""
    _, held, _ = _parts(model, data, batch, validation, seed)
    _watch(model, stopping, held, data)


def _state(
    history: History, rng: np.random.Generator, watch: Watch | None, callbacks: Sequence[Callback]
) -> dict[str, Any]:
    """Where a training stands after an epoch, as JSON values; the losses of its steps go by themselves."""
    seen = {name: value for name, value in vars(history).items() if name != "losses"}
    kept = {type(callback).__qualname__: callback.state() for callback in callbacks}
    return {
        "epoch": history.epochs, "rng": rng.bit_generator.state, "history": seen,
        "watch": watch.state() if watch else None,
        "callbacks": {name: state for name, state in kept.items() if state is not None},
    }  # fmt: skip


def _resumed(
    training: dict[str, Any] | None,
    same: dict[str, Any],
    rng: np.random.Generator,
    path: str | Path,
    watch: Watch | None,
    callbacks: Sequence[Callback],
) -> History:
    """What the epochs before a break saw; the generator, the watch and the callbacks go on where they were."""
    if training is None:
        raise ValueError(f"{path} holds a model and no training; train it from there without resume")
    for what, value in same.items():
        if training[what] != value:
            raise ValueError(f"{path} is of a training whose {what} is {training[what]}, not {value}")
    rng.bit_generator.state = training["rng"]
    if watch:
        watch.restore(training["watch"])
    for callback in callbacks:
        if (state := training["callbacks"].get(type(callback).__qualname__)) is not None:
            callback.restore(state)
    return History(losses=array("d", training["losses"]), **training["history"])


def _writable(path: Path) -> None:
    """Refuse now what could not be written after the first epoch."""
    if not path.absolute().parent.is_dir():
        raise ValueError(
            f"{path}: the folder of this checkpoint does not exist; make it, or give another file"
        )
    if path.is_dir():
        raise ValueError(f"{path} is a folder; a checkpoint is a file")
    if not os.access(path.absolute().parent, os.W_OK):
        raise ValueError(f"{path}: its folder cannot be written; give another file for the checkpoint")


def _watch(model: MLP, stopping: EarlyStopping | None, held: _Part | None, data: Dataset) -> Watch | None:
    if stopping is None:
        return None
    if stopping.on == "accuracy" and (held is None or not data.classes):
        what = (
            "its data has no classes"
            if held
            else "there is no validation part; hold a share out with validation"
        )
        raise ValueError(f"early stopping cannot watch the accuracy: {what}")
    return Watch(stopping, weights=[parameter.copy() for parameter in model.parameters()])


def _score(watch: Watch, history: History) -> float:
    """What is watched, of the last epoch."""
    if watch.stopping.on == "accuracy":
        seen = history.validation_accuracy[-1]
    else:
        seen = history.validation_loss[-1]
        seen = history.train_loss[-1] if seen is None else seen
    assert seen is not None  # _watch has seen to it
    return seen


def _evaluate(model: MLP, data: Dataset, held: _Part | None, test: _Part, x: Array, history: History) -> None:
    """Add what the validation and the test examples say after an epoch; x (batch x features) is a buffer."""
    loss, right = _judged(model, held, x) if held else (None, None)
    history.validation_loss.append(loss)
    history.validation_accuracy.append(right if data.classes else None)
    judged = data.classes and len(test.rows)
    history.test_accuracy.append(_judged(model, test, x)[1] if judged else None)


def _judged(model: MLP, part: _Part, x: Array) -> tuple[float, float]:
    """Mean loss and accuracy (0 to 1) on a part, gathered batch by batch into x, as the steps' examples were."""
    total, right, batch = 0.0, 0, len(x)
    for start in range(0, len(part.rows), batch):
        rows = part.rows[start : start + batch]
        gathered = x if len(rows) == batch else x[: len(rows)]  # x itself, or its plan would be bound anew
        np.copyto(gathered, part.x[rows], casting="same_kind")
        y = part.y[rows]
        with np.errstate(over="ignore", invalid="ignore"):  # a loss that is not finite is never the best
            loss, outputs = model.judge(gathered, y)
        total += loss * len(rows)
        if y.ndim == 1:
            right += int(np.sum(_labels(model, host(outputs)) == y))
    return total / len(part.rows), right / len(part.rows)


def _labels(model: MLP, outputs: Array) -> Array:
    return model.loss.labels(outputs) if model.loss.classifies else outputs.argmax(axis=1)


def accuracy(model: MLP, x: Array, y: Array, batch: int = 1024) -> float:
    """The share of rows whose largest output is at the label; y are integer labels (n,), or else ValueError."""
    if np.shape(y) != (len(x),):
        raise ValueError(
            f"y has shape {np.shape(y)}; accuracy takes a label for each of the {len(x)} rows of x"
        )
    starts = range(0, len(x), batch)
    right = sum(
        int(np.sum(_labels(model, host(model.forward(x[s : s + batch]))) == y[s : s + batch])) for s in starts
    )
    return right / len(x)


def _parts(
    model: MLP, data: Dataset, batch: int, validation: float, seed: int
) -> tuple[_Part, _Part | None, _Part]:
    """The examples to learn from, to validate on and to be judged by.

    Everything that could go wrong between network and data is found here, before the first step and not at the last.
    """
    name, outputs = data.name, model.widths[-1]
    if data.classes and data.classes > outputs:
        wanted = f"the last width must be at least {data.classes}"
        raise ValueError(
            f"{name} has {data.classes} classes, the network {model.arch} {outputs} outputs; {wanted}"
        )
    train = _part(model, data, "train", data.x_train, data.y_train)
    test = _part(model, data, "test", data.x_test, data.y_test)
    held, left = None, ""
    if not len(train.rows):
        raise ValueError(f"{name} has no training examples")
    if (data.x_validation is None) != (data.y_validation is None):
        given, missing = ("x", "y") if data.y_validation is None else ("y", "x")
        raise ValueError(f"{name} has {given}_validation and no {missing}_validation; give both or neither")
    if data.x_validation is not None and data.y_validation is not None:
        if validation:
            raise ValueError(
                f"{name} has validation examples of its own; leave validation = {validation} out"
            )
        held = _part(model, data, "validation", data.x_validation, data.y_validation)
        if not len(held.rows):
            raise ValueError(
                f"{name} has 0 validation examples; give some, or neither x_validation nor y_validation"
            )
    elif isinstance(validation, bool) or validation != 0:
        rows, kept = held_out(len(train.rows), validation, seed)
        held = _Part("validation", train.x, train.y, kept)
        train, left = _Part("train", train.x, train.y, rows), f" that validation = {validation} leaves"
    if batch > len(train.rows):
        raise ValueError(
            f"batch is {batch}, more than the {len(train.rows)} training examples of {name}{left}"
        )
    return train, held, test


def _part(model: MLP, data: Dataset, part: str, x: Any, y: Any) -> _Part:
    """One part of the data, if the network can take it."""
    name, inputs = data.name, model.widths[0]
    x, y = np.asarray(x), np.asarray(y)
    if x.shape[:1] != y.shape[:1]:
        raise ValueError(f"{name} has {_count(x)} {part} examples and {_count(y)} labels for them")
    if x.ndim != 2 or x.shape[1] != inputs:
        wanted = f"the network {model.arch} takes (examples, {inputs})"
        raise ValueError(f"{name} has {part} examples of shape {x.shape}; {wanted}")
    if x.dtype.kind not in "fiub":
        raise ValueError(f"{name} has {part} examples of {x.dtype}; the network takes real numbers")
    _check_finite(x, model.dtype, f"{part} examples of {name}")
    if part != "test" or data.classes:  # those of a regression are not looked at
        _check_targets(model, y, f"{part} examples of {name}")
    return _Part(part, x, y, np.arange(len(x)))


def _count(array: Array) -> int:
    return len(array) if array.ndim else 0


def _check_finite(array: Array, dtype: np.dtype, what: str) -> None:
    """ValueError names the first element that is not finite, or not in `dtype`."""
    if array.dtype.kind != "f":
        return
    for at, block in _blocks(array):
        with np.errstate(over="ignore"):
            right = np.isfinite(block.astype(dtype, copy=False))
        if not right.all():
            row, *column = (int(i) for i in np.argwhere(~right)[0])
            place = f"row {at + row}" + "".join(f", column {c}" for c in column)
            value = block[(row, *column)]
            why = f" too large for {dtype.name}" if np.isfinite(value) else ""
            raise ValueError(f"{value:g}{why} in {place} of the {what}; every value must be a finite number")


def _check_targets(model: MLP, y: Array, what: str) -> None:
    """Every label now, rather than a bad one in the middle of an epoch."""
    outputs = model.widths[-1]

    def accept(y: Array) -> None:
        model.loss.accept(y, model.loss.targets(len(y), outputs, model.dtype), outputs)

    try:
        for _, block in _blocks(y, outputs):
            accept(block)
    except ValueError:
        try:
            accept(y)  # as a whole: its shape and the row are then those that the user knows
        except ValueError as error:
            raise ValueError(f"{what}: {error}") from None
        raise
    _check_finite(y, model.dtype, f"targets of the {what}")


def _blocks(array: Array, width: int = 1) -> Iterator[tuple[int, Array]]:
    """The array in blocks of rows, each with its first row; `width` numbers are made of every row at least."""
    columns = max(width, array.size // max(1, len(array)))
    rows = max(1, LOOK // max(1, columns))
    for at in range(0, len(array), rows):
        yield at, array[at : at + rows]


def _divergence(model: MLP, loss: float, epoch: int, history: History) -> DivergenceError:
    step = len(history.losses) + 1
    try_this = f"try a smaller lr than {model.optimizer.lr:g}, or look for huge values in the data"
    return DivergenceError(f"the loss became {loss} at step {step} (epoch {epoch}); {try_this}", history)
