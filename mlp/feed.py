"""The feed: mini-batches gathered out of all examples, on the device where the network lives, and their losses fetched.

On a GPU all training examples lie there, in the network's dtype, and so does their order in an epoch; a mini-batch is
gathered by a launch, and the host does not wait for a step: losses are fetched FETCHED at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlp import devices, native
from mlp.model import MLP

Array = np.ndarray
# Steps on a GPU whose losses are fetched together, so many at most: that much later it is seen that one is not finite.
FETCHED = 64


class Feed:
    """Mini-batches of `batch` rows of x (examples x features) and y; the last one of an epoch may be smaller.

    x_on_host  a buffer (batch x features) of the host's, for examples that are not trained on
    """

    def __init__(self, model: MLP, x: Array, y: Array, examples: int, batch: int) -> None:
        self._x = np.ascontiguousarray(x, model.dtype)
        self._y = np.ascontiguousarray(y)
        self._own = self.x_on_host = np.empty_like(self._x[:batch])
        self._labels = np.empty_like(self._y[:batch])
        left_over = examples % batch
        whole = [(self._own, self._labels)] * (examples // batch)
        self.batches: list[tuple[Any, Any]] = whole + [
            (self._own[:left_over], self._labels[:left_over])
        ] * bool(left_over)

    def begin_epoch(self, order: Array) -> None:
        """Which rows of x, one after the other."""
        self._order = order

    def gather(self, start: int, x: Array, y: Array) -> None:
        """Fill a batch's arrays with the examples from `start` on in the order."""
        rows = self._order[start : start + len(x)]
        # the rows are in range; "raise" would gather into a buffer of its own first
        self._x.take(rows, 0, x, "clip")
        self._y.take(rows, 0, y, "clip")


class FeedThere(Feed):
    """The same on a GPU; labels and targets are gathered there too, where the loss compares with them as they are."""

    def __init__(self, model: MLP, x: Array, y: Array, examples: int, batch: int) -> None:
        super().__init__(model, x, y, examples, batch)
        device, targets = model.device, model.loss.targets(1, model.widths[-1], model.dtype)
        self._y_there = isinstance(targets, np.ndarray) and self._y[:1].shape == targets.shape
        self._y_there = self._y_there and self._y.dtype.kind in ("iu" if targets.dtype.kind == "i" else "f")
        self._rows = device.empty((examples,), np.int64)
        own = device.put(self._x)
        x_there = device.empty((batch, own.shape[1]), own.dtype)
        self._moves = [native.call("take_rows", own.dtype, own, self._rows, x_there, batch, own.shape[1])]
        y_there: Any = self._labels
        if self._y_there:
            labels = device.put(self._y.astype(targets.dtype, copy=False))
            y_there = device.empty((batch, *labels.shape[1:]), labels.dtype)
            # take_rows moves numbers of 8 bytes as they are: labels too
            moved = np.dtype(np.float64) if labels.dtype.kind == "i" else labels.dtype
            width = labels.size // max(1, len(labels))
            self._moves.append(native.call("take_rows", moved, labels, self._rows, y_there, batch, width))
        left_over = examples % batch
        self.batches = [(x_there, y_there)] * (examples // batch)
        self.batches += [(x_there[:left_over], y_there[:left_over])] * bool(left_over)
        self._x = self._x[:0].copy()  # it is there now

    def begin_epoch(self, order: Array) -> None:
        super().begin_epoch(order)
        devices.write(self._rows, order)

    def gather(self, start: int, x: Array, y: Array) -> None:
        for move in self._moves:
            move.change({2: devices.address(self._rows) + 8 * start, 4: len(x)})  # type: ignore[attr-defined]
            move()
        if not self._y_there:
            self._y.take(self._order[start : start + len(x)], 0, y, "clip")


def feed(model: MLP, x: Array, y: Array, examples: int, batch: int) -> Feed:
    """The feed of a training; `examples` of x are trained on."""
    return (Feed if model.device.name == "cpu" else FeedThere)(model, x, y, examples, batch)


class Losses:
    """The losses of steps on their way to the host: a few are kept on the GPU and fetched together."""

    def __init__(self, model: MLP) -> None:
        self._there: Any = None
        self._count = 0
        if model.device.name != "cpu":
            self._there = model.device.empty((FETCHED,), devices.computed(model.dtype))

    def add(self, loss: Any, last: bool) -> list[float]:
        """A step's loss; returns those that are known now. last: no other comes, so that all must be."""
        if self._there is None:
            return [loss]
        devices.write(self._there[self._count : self._count + 1], loss.reshape(1))
        self._count += 1
        if self._count < FETCHED and not last:
            return []
        known, self._count = self._count, 0
        return devices.host(self._there[:known]).tolist()
