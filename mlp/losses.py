"""Losses: a mean over the batch, and with it dZ of the last layer in one go.

    softmax-cross-entropy   -log softmax(z)[y];           y: integer labels (batch,) in 0 .. outputs - 1
                            (as torch's CrossEntropyLoss: Z are logits, the softmax is in the loss)
    logistic                sum log(1 + e^z) - t z;       t: 0 or 1, or between; one output tells two classes apart,
                            several are a class each, or each a question of its own
                            (torch's BCEWithLogitsLoss divides by the number of outputs too)
    hinge                   sum max(0, 1 - t z);          t: -1 or 1, from labels as for logistic: the linear SVM's,
                            one class against the rest
    squared-error           1/2 |z - t|^2;                t: floats (batch, outputs), or (batch,) for one output
                            (for one output it is scikit-learn's squared loss; torch's MSELoss has no 1/2
                            and divides by the number of outputs too)
    poisson                 sum t log(t / e^z) - t + e^z; t: floats from 0, shaped as for squared-error; z is the
                            logarithm of the mean (half of Poisson's deviance, scikit-learn's loss of that name;
                            torch's PoissonNLLLoss leaves out what does not depend on z)

Each is the mean of that over the batch, or what `weighted` makes of it, the mean by weights that come with y. Integer
labels (batch,) for several outputs stand for their one-hot rows; for one output of logistic and hinge they are 0 and 1.

dZ is the derivative of the *mean*: the 1 / batch is in it, and everything below is a gradient as it stands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gemm.dtypes import low
from gemm.program import Call
from mlp import devices, native
from mlp.devices import Device, on_gpu
from mlp.mistakes import array, unknown
from mlp.operations import Operation, elementwise

Array = np.ndarray


@dataclass(frozen=True)
class Loss:
    """A loss.

    targets(batch, outputs, dtype)   an empty buffer for what the loss compares with
    accept(y, targets, outputs)      checks a user's y and copies it in; ValueError says what is wrong
    function                         of mlp.compiled: value (0-d) <- the loss, dz <- its derivative by z
    classifies                       the prediction is a label, not the outputs
    flops                            per element of Z
    """

    name: str
    targets: Callable[[int, int, np.dtype], Any]
    accept: Callable[[Any, Any, int], None]
    function: str
    classifies: bool
    flops: int

    def __reduce__(self) -> Any:
        """A copy of one of LOSSES is that very loss."""
        return (loss, (self.name,)) if LOSSES.get(self.name) is self else super().__reduce__()

    def bind(self, z: Array, targets: Any, dz: Array, value: Array) -> Call:
        """The call for these arrays: all C-contiguous, z and dz (batch, outputs) and distinct; z is only read."""
        return native.call(self.function, z.dtype, z, targets, dz, value, *z.shape)

    def labels(self, z: Array) -> Array:
        """The labels (batch,) that outputs (batch, outputs) stand for: the largest; of one, whether it is > 0."""
        one = z.shape[1] == 1 and self.name != "softmax-cross-entropy"
        return (z[:, 0] > 0).astype(np.intp) if one else z.argmax(axis=1)

    def operation(self, batch: int, outputs: int, dtype: np.dtype) -> Operation:
        """The loss as a row of the step: reads Z and the targets, writes dZ."""
        z = batch * outputs
        traffic = 2 * z * dtype.itemsize + batch * self.targets(1, outputs, dtype).nbytes
        return elementwise(0, "loss", "forward", (batch, outputs), self.flops * z, traffic)


def _labels(batch: int, outputs: int, dtype: np.dtype) -> Array:
    return np.zeros(batch, np.intp)  # labels, from the start: the loss looks up what they point at


def _accept_labels(y: Any, labels: Array, outputs: int) -> None:
    y = array("y", y)
    if y.dtype.kind not in "iu" or y.shape != labels.shape:
        wanted = f"integer labels of shape {labels.shape}"
        raise ValueError(f"y is {y.dtype} of shape {y.shape}; softmax-cross-entropy takes {wanted}")
    np.copyto(labels, y, casting="same_kind")
    _check_range(y, labels, outputs)


def _check_range(y: Array, labels: Array, outputs: int) -> None:
    """labels: y as it is used; beyond 2^63 it is another number, and a negative one."""
    row = native.first_outside(labels, outputs)
    if row >= 0:
        wanted = f"labels run from 0 to {outputs - 1} for {outputs} outputs"
        raise ValueError(f"label {y[row]} in row {row} of y is out of range; {wanted}")


# Targets that a loss is made for, where it is not made for every number: whether each is one, and in words. With any
# other it has no minimum, or none that means anything: labels 0 and 1 would be all the same to hinge.
_MADE_FOR: dict[str, tuple[Callable[[Array], Array], str]] = {
    "logistic": (lambda t: (t >= 0) & (t <= 1), "numbers from 0 to 1"),
    "hinge": (lambda t: np.abs(t) == 1, "-1 and 1"),
}


def _check_targets(name: str, targets: Array) -> None:
    if name not in _MADE_FOR:
        return
    made_for, wanted = _MADE_FOR[name]
    right = made_for(targets)
    if not right.all():
        row, output = np.argwhere(~right)[0]
        wanted += f", or integer labels of shape {targets.shape[:1]}"
        raise ValueError(
            f"target {targets[row, output]:g} in row {row} of y is out of range; {name} takes {wanted}"
        )


def _outputs(batch: int, outputs: int, dtype: np.dtype) -> Array:
    return np.empty((batch, outputs), dtype)


def _accept_outputs(name: str, low: float) -> Callable[[Any, Array, int], None]:
    """Checks for a loss whose targets are numbers; of one-hot rows the zeros become `low`."""

    def accept(y: Any, targets: Array, outputs: int) -> None:
        y = array("y", y)
        batch, two_classes = len(targets), name != "squared-error"
        if two_classes and outputs == 1 and y.shape == (batch,) and y.dtype.kind in "iub":
            if y.size and not (y.min() >= 0 and y.max() <= 1):
                row = int(np.argmax((y < 0) | (y > 1)))
                raise ValueError(
                    f"label {y[row]} in row {row} of y is out of range; one output tells 0 from 1"
                )
            np.copyto(targets[:, 0], y, casting="same_kind")
            targets[targets == 0] = low
        elif y.dtype.kind in "iuf" and y.shape == targets.shape:
            np.copyto(targets, y, casting="same_kind")
            _check_targets(name, targets)
        elif y.dtype.kind in "iuf" and y.shape == (batch,) and outputs == 1:
            np.copyto(targets[:, 0], y, casting="same_kind")
            _check_targets(name, targets)
        elif y.dtype.kind in "iu" and y.shape == (batch,):
            labels = y.astype(np.intp)
            _check_range(y, labels, outputs)
            targets.fill(low)
            targets[np.arange(batch), labels] = 1
        else:
            wanted = f"numbers of shape {targets.shape}, or integer labels of shape {(batch,)}"
            raise ValueError(f"y is {y.dtype} of shape {y.shape}; {name} takes {wanted}")

    return accept


def _accept_counts(y: Any, targets: Array, outputs: int) -> None:
    _accept_outputs("poisson", 0)(y, targets, outputs)
    if targets.size and targets.min() < 0:
        row = int(np.argmax((targets < 0).any(axis=1)))
        raise ValueError(f"row {row} of y has {targets[row].min():g}; poisson takes numbers from 0")


def _numeric(name: str, function: str, classifies: bool, flops: int, low: float) -> Loss:
    return Loss(name, _outputs, _accept_outputs(name, low), function, classifies, flops)


LOSSES = {
    each.name: each
    for each in (
        Loss("softmax-cross-entropy", _labels, _accept_labels, "softmax_cross_entropy", True, flops=5),
        _numeric("logistic", "logistic", True, 8, 0),
        _numeric("hinge", "hinge", True, 4, -1),
        _numeric("squared-error", "squared_error", False, 4, 0),
        Loss("poisson", _outputs, _accept_counts, "poisson", False, flops=8),
    )
}


@dataclass(frozen=True)
class WeightedTargets:
    """What a weighted loss compares with: another's targets, and the share of each row (batch,), float64, in sum 1."""

    targets: Array
    shares: Array

    @property
    def nbytes(self) -> int:
        return self.targets.nbytes + self.shares.nbytes

    def moved(self, move: Callable[[Array], Array]) -> WeightedTargets:
        """The same, of moved arrays."""
        return WeightedTargets(move(self.targets), move(self.shares))


class Weighted(Loss):
    """A loss that takes y as a pair (y, weights): the mean by weights (batch,) instead of the mean."""

    def __init__(self, each: Loss) -> None:
        def targets(batch: int, outputs: int, dtype: np.dtype) -> WeightedTargets:
            return WeightedTargets(each.targets(batch, outputs, dtype), np.empty(batch))

        def accept(y: Any, targets: WeightedTargets, outputs: int) -> None:
            y, weights = y
            each.accept(y, targets.targets, outputs)
            np.copyto(targets.shares, weights, casting="same_kind")
            total = targets.shares.sum()
            if not total > 0:
                raise ValueError(f"the weights of a batch add up to {total:g}; they must weigh something")
            np.divide(targets.shares, total, out=targets.shares)

        super().__init__(each.name, targets, accept, each.function, each.classifies, each.flops + 1)

    def __reduce__(self) -> Any:
        return weighted, (self.name,)

    def bind(self, z: Array, targets: Any, dz: Array, value: Array) -> Call:
        if on_gpu(z):
            return native.call(
                self.function, z.dtype, z, targets.targets, dz, value, *z.shape, targets.shares
            )
        first, (batch, outputs) = targets.targets[:1], z.shape
        return native.each_row(
            self.function, z.dtype, (z, first, dz), targets.shares, first.nbytes, value, batch, outputs
        )


class TargetsThere:
    """What a loss compares with on a device: checked on the host, then copied.

    here, there   the same buffers: the host's, and the device's, which is what the loss is bound to
    """

    def __init__(self, each: Loss, batch: int, outputs: int, dtype: np.dtype, device: Device) -> None:
        self._loss, self._outputs = each, outputs
        self.here = self.there = each.targets(batch, outputs, dtype)
        self._on_host = device.name == "cpu"
        if not self._on_host:
            self.there = _moved(self.here, device.put)

    def accept(self, y: Any) -> None:
        """Copy a user's y; ValueError says what is wrong.

        A y that lies on the GPU as the loss has it there, labels or numbers of the targets' shape, is copied as it is:
        nobody waits to look at the values. (A label that is no output then makes the loss NaN.)
        """
        if self._on_host:
            self._loss.accept(y, self.there, self._outputs)
        elif on_gpu(y) and self._fits(y):
            devices.write(self.there, y)
        else:
            self._loss.accept(_on_host(y), self.here, self._outputs)
            _copied(self.here, self.there)

    def _fits(self, y: Any) -> bool:
        there = self.there
        if isinstance(there, WeightedTargets) or tuple(y.shape) != there.shape:
            return False
        if there.dtype.kind == "i":
            return np.dtype(y.dtype).kind in "iu"
        return low(y.dtype) or np.dtype(y.dtype).kind == "f"


def _moved(targets: Any, move: Callable[[Array], Array]) -> Any:
    return targets.moved(move) if isinstance(targets, WeightedTargets) else move(targets)


def _copied(here: Any, there: Any) -> None:
    weighed = isinstance(here, WeightedTargets)
    pairs = [(here.targets, there.targets), (here.shares, there.shares)] if weighed else [(here, there)]
    for own, other in pairs:
        devices.write(other, own)


def _on_host(y: Any) -> Any:
    """y, or a pair (y, weights), in NumPy's arrays."""
    if isinstance(y, tuple):
        return tuple(_on_host(part) for part in y)
    return devices.host(y) if on_gpu(y) else y


def weighted(name: str) -> Loss:
    """The loss of that name, of which MLP.step(x, (y, weights)) makes the mean by weights.

    weights (batch,) say how often a row counts; only their ratios matter. A step whose weights add up to nothing, or
    less, raises ValueError.
    """
    return Weighted(loss(name))


def loss(name: str | Loss) -> Loss:
    """The loss of that name, or the one that is given; ValueError names the nearest spelling."""
    if isinstance(name, Loss):
        return name
    if not isinstance(name, str) or name not in LOSSES:
        raise unknown("loss", name, LOSSES)
    return LOSSES[name]
