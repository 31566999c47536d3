"""Losses: a mean over the batch, and with it dZ of the last layer in one go.

    softmax-cross-entropy   mean of -log softmax(z)[y];  y: integer labels (batch,) in 0 .. outputs - 1
                            (as torch's CrossEntropyLoss: Z are logits, the softmax is in the loss)
    squared-error           mean of 1/2 |z - t|^2;       t: floats (batch, outputs), or (batch,) for one
                            output; integer labels (batch,) for several outputs stand for their one-hot rows
                            (for one output it is scikit-learn's squared loss; torch's MSELoss has no 1/2
                            and divides by the number of outputs too)

dZ is the derivative of the *mean*: the 1 / batch is in it, and everything below is a gradient as it stands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlp.mistakes import unknown
from mlp.operations import Operation, elementwise

Array = np.ndarray


@dataclass(frozen=True)
class Loss:
    """A loss.

    targets(batch, outputs, dtype)   an empty buffer for what the loss compares with
    accept(y, targets, outputs)      checks a user's y and copies it in; ValueError says what is wrong
    bind(z, targets, dz, value)      a call: value (0-d) <- the loss, dz <- its derivative by z; all
                                     C-contiguous, z and dz (batch, outputs) and distinct; z is only read
    classifies                       the prediction is the largest output, not the outputs
    flops                            per element of Z
    """

    name: str
    targets: Callable[[int, int, np.dtype], Array]
    accept: Callable[[Any, Array, int], None]
    bind: Callable[[Array, Array, Array, Array], Callable[[], None]]
    classifies: bool
    flops: int

    def operation(self, batch: int, outputs: int, dtype: np.dtype) -> Operation:
        """The loss as a row of the step: reads Z and the targets, writes dZ."""
        z = batch * outputs
        traffic = 2 * z * dtype.itemsize + self.targets(batch, outputs, dtype).nbytes
        return elementwise(0, "loss", "forward", (batch, outputs), self.flops * z, traffic)


def _labels(batch: int, outputs: int, dtype: np.dtype) -> Array:
    return np.empty(batch, np.intp)


def _accept_labels(y: Any, labels: Array, outputs: int) -> None:
    y = np.asarray(y)
    if y.dtype.kind not in "iu" or y.shape != labels.shape:
        wanted = f"integer labels of shape {labels.shape}"
        raise ValueError(f"y is {y.dtype} of shape {y.shape}; softmax-cross-entropy takes {wanted}")
    np.copyto(labels, y, casting="same_kind")
    _check_range(labels, outputs)


def _check_range(labels: Array, outputs: int) -> None:
    if labels.size and labels.view(np.uintp).max() >= outputs:  # one pass: a negative label is huge there
        row = int(np.argmax(labels.view(np.uintp) >= outputs))
        wanted = f"labels run from 0 to {outputs - 1} for {outputs} outputs"
        raise ValueError(f"label {labels[row]} in row {row} of y is out of range; {wanted}")


def _softmax_cross_entropy(z: Array, labels: Array, dz: Array, value: Array) -> Callable[[], None]:
    """With s = z - max(z), which no exp overflows for: loss = log(sum exp s) - s[y], dz = softmax - 1[y]."""
    batch, outputs = z.shape
    row_start = np.arange(0, batch * outputs, outputs)
    at_label = np.empty(batch, np.intp)
    row = np.empty((batch, 1), z.dtype)
    losses, picked = np.empty((batch, 1), z.dtype), np.empty((batch, 1), z.dtype)
    entries = dz.reshape(-1)

    def call() -> None:
        np.add(labels, row_start, at_label)
        np.maximum.reduce(z, axis=1, keepdims=True, out=row)
        np.subtract(z, row, dz)
        entries.take(at_label, None, picked[:, 0], "clip")  # in range already; "raise" would buffer
        np.exp(dz, dz)
        np.add.reduce(dz, axis=1, keepdims=True, out=row)
        np.log(row, losses)
        np.subtract(losses, picked, losses)
        np.add.reduce(losses, axis=None, out=value)
        np.divide(value, batch, value)
        np.multiply(row, batch, row)
        np.divide(dz, row, dz)
        entries[at_label] -= 1 / batch

    return call


def _outputs(batch: int, outputs: int, dtype: np.dtype) -> Array:
    return np.empty((batch, outputs), dtype)


def _accept_outputs(y: Any, targets: Array, outputs: int) -> None:
    y = np.asarray(y)
    batch = len(targets)
    if y.dtype.kind in "iuf" and y.shape == targets.shape:
        np.copyto(targets, y, casting="same_kind")
    elif y.dtype.kind in "iuf" and y.shape == (batch,) and outputs == 1:
        np.copyto(targets[:, 0], y, casting="same_kind")
    elif y.dtype.kind in "iu" and y.shape == (batch,):
        labels = y.astype(np.intp)
        _check_range(labels, outputs)
        targets.fill(0)
        targets[np.arange(batch), labels] = 1
    else:
        wanted = f"numbers of shape {targets.shape}, or integer labels of shape {(batch,)}"
        raise ValueError(f"y is {y.dtype} of shape {y.shape}; squared-error takes {wanted}")


def _squared_error(z: Array, targets: Array, dz: Array, value: Array) -> Callable[[], None]:
    batch = len(z)
    squares = np.empty_like(z)

    def call() -> None:
        np.subtract(z, targets, dz)
        np.multiply(dz, dz, squares)
        np.add.reduce(squares, axis=None, out=value)
        np.divide(value, 2 * batch, value)
        np.divide(dz, batch, dz)

    return call


LOSSES = {
    each.name: each
    for each in (
        Loss("softmax-cross-entropy", _labels, _accept_labels, _softmax_cross_entropy, True, flops=5),
        Loss("squared-error", _outputs, _accept_outputs, _squared_error, False, flops=4),
    )
}


def loss(name: str) -> Loss:
    """The loss of that name; ValueError names the nearest spelling."""
    if name not in LOSSES:
        raise unknown("loss", name, LOSSES)
    return LOSSES[name]
