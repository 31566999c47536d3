"""The plan: one training step for one batch size, compiled once and then only run.

    emit   layers, loss and optimizer say which operations they need      a static list
    bind   every operation becomes a call on buffers allocated here       products by gemm.prepare

Between the two, where the list is not yet bound, is the place for fusion: there a pass may replace
[Z, bias, activation] by one operation with these parts, which `bind` then turns into one prepared product
with an epilogue. Nothing is fused today.

The order of a step: forward from layer 1, the loss, then for each layer from the last: activation', db,
dX, dW, update. dX stands before update because it needs the weights that made Z.

Memory: Z and Y of a layer share one buffer, as do dY and dZ; two layers' dZ exist at a time, so two buffers
take turns. The gradients belong to the model and are shared by its plans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlp.assignment import Assignment
from mlp.layers import Buffers, Dense
from mlp.losses import Loss
from mlp.operations import Operation
from mlp.optimizers import SGD
from mlp.recorder import Recorder

Array = np.ndarray
Gradients = Sequence[tuple[Array, Array]]  # (dW, db) of each layer


@dataclass(frozen=True, eq=False)
class Bound:
    """An operation and the call that does it; `operands` are a product's (a, b, out), else None."""

    operation: Operation
    call: Callable[[], Any]
    operands: tuple[Array, Array, Array] | None


def emit(
    layers: Sequence[Dense], loss: Loss, optimizer: SGD, kernels: Assignment, batch: int
) -> tuple[Operation, ...]:
    """The operations of one training step, in the order in which they run."""
    outputs, dtype = layers[-1].weight.shape[1], layers[-1].weight.dtype
    emitted: list[Operation] = []
    for l, layer in enumerate(layers, start=1):
        emitted += layer.forward(l, batch, kernels)
    emitted.append(loss.operation(batch, outputs, dtype))
    for l, layer in reversed(list(enumerate(layers, start=1))):
        emitted += layer.backward(l, batch, kernels)
        emitted.append(optimizer.operation(l, (layer.weight, layer.bias)))
    return tuple(emitted)


class Plan:
    """A step of one batch size, bound. Obtained from `MLP.plan(batch)`.

    batch       its number of examples
    operations  the static list
    bound       the same with calls and operands, in the same order
    """

    def __init__(
        self,
        layers: Sequence[Dense],
        loss: Loss,
        optimizer: SGD,
        kernels: Assignment,
        batch: int,
        gradients: Gradients,
    ) -> None:
        self.batch = batch
        self.operations = emit(layers, loss, optimizer, kernels, batch)
        self._layers, self._loss, self._optimizer, self._kernels = layers, loss, optimizer, kernels
        dtype, outputs = layers[0].weight.dtype, layers[-1].weight.shape[1]
        self._staging = np.empty((batch, layers[0].weight.shape[0]), dtype)
        self._targets = loss.targets(batch, outputs, dtype)
        self._value = np.zeros((), dtype)
        self._buffers = self._allocate(gradients)
        self.bound = tuple(self._bind(operation) for operation in self.operations)
        self._sort()

    def _allocate(self, gradients: Gradients) -> list[Buffers]:
        dtype = self._staging.dtype
        widths = [layer.weight.shape[1] for layer in self._layers]
        turns = [np.empty(self.batch * max(widths), dtype) for _ in range(2)]
        x, dx, buffers = self._staging, None, []
        for l, (width, (dw, db)) in enumerate(zip(widths, gradients)):
            y = np.empty((self.batch, width), dtype)
            dz = turns[l % 2][: self.batch * width].reshape(self.batch, width)
            buffers.append(Buffers(x, y, dz, dx, dw, db))
            x, dx = y, dz
        return buffers

    def _bind(self, operation: Operation) -> Bound:
        if operation.op == "loss":
            last = self._buffers[-1]
            return Bound(operation, self._loss.bind(last.y, self._targets, last.dz, self._value), None)
        layer, at = self._layers[operation.layer - 1], self._buffers[operation.layer - 1]
        if operation.op == "update":
            return Bound(operation, self._optimizer.bind((layer.weight, layer.bias), (at.dw, at.db)), None)
        return Bound(operation, layer.bind(operation, at, self._kernels), layer.operands(operation, at))

    def _sort(self) -> None:
        """Keep the bare calls, so that a step without a recorder is nothing but them."""
        self._step = [bound.call for bound in self.bound]
        forward = [bound for bound in self.bound if bound.operation.phase == "forward"]
        self._forward = [bound.call for bound in forward if bound.operation.op != "loss"]
        self._to_loss = [bound.call for bound in forward]
        self._backward = [bound.call for bound in self.bound if bound.operation.phase == "backward"]

    def operands(self, operation: Operation) -> tuple[Array, Array, Array] | None:
        """A product's arrays (a, b, out), as they are bound now; None for other operations."""
        return self.bound[self.operations.index(operation)].operands

    def take(self, x: Any, y: Any = None) -> None:
        """Make x (batch x d_in), and y if given, the examples of the next run; y is copied, x is not.

        Only another array than the last one costs something: the two products that read x are prepared
        anew. An x of another dtype is copied into a buffer of the plan.
        """
        if x is not self._buffers[0].x:
            if type(x) is not np.ndarray or x.dtype != self._staging.dtype:
                np.copyto(self._staging, x, casting="same_kind")
                x = self._staging
            if x is not self._buffers[0].x:
                self._buffers[0].x = x
                reads_x = [(1, "Z"), (1, "dW")]
                self.bound = tuple(
                    self._bind(bound.operation)
                    if (bound.operation.layer, bound.operation.op) in reads_x
                    else bound
                    for bound in self.bound
                )
                self._sort()
        if y is not None:
            self._loss.accept(y, self._targets, self._buffers[-1].y.shape[1])

    def forward(self) -> Array:
        """Run the layers; returns the outputs, a buffer that the next run overwrites."""
        _run(self._forward)
        return self._buffers[-1].y

    def evaluate(self) -> float:
        """The loss, without a backward pass."""
        _run(self._to_loss)
        return float(self._value)

    def backward(self, dz: Array | None = None) -> None:
        """Fill the gradients, from dz (batch x outputs) or else from the loss of the last `evaluate`."""
        if dz is not None:
            np.copyto(self._buffers[-1].dz, dz, casting="same_kind")
        _run(self._backward)

    def step(self, recorder: Recorder | None = None) -> float:
        """The whole step, weights updated; returns the loss before the update."""
        if recorder is None:
            for call in self._step:
                call()
        else:
            begin, end = recorder.begin, recorder.end
            for bound in self.bound:
                begin(bound.operation)
                bound.call()
                end(bound.operation)
        return float(self._value)


def _run(calls: Iterable[Callable[[], Any]]) -> None:
    for call in calls:
        call()
