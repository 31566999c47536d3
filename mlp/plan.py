"""The plan: one training step for one batch size, compiled once and then only run.

    emit   layers, loss and optimizer say which operations they need      a static list
    fuse   operations join the product beside them, where its kernel can  a shorter list
    bind   every operation becomes a call on buffers allocated here       products by gemm.prepare
    chain  neighbouring calls of native code become one (gemm.program)

The order of a step: forward from layer 1, the loss, then for each layer from the last: activation', db,
dX, dW, update. dX stands before dW because it needs the weights that made Z, and a fused dW changes them.

Memory: Z and Y of a layer share one buffer (see mlp.layers), as do dY and dZ; two layers' dZ exist at a time, so two
buffers take turns. The gradients belong to the model and are shared by its plans; those of weights that are updated by
the product itself do not exist unless somebody asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gemm.program import Call, chain
from mlp.assignment import Assignment
from mlp.layers import Buffers, Dense, Product
from mlp.losses import Loss
from mlp.operations import Operation, fused
from mlp.optimizers import Optimizer
from mlp.recorder import Recorder
from mlp.shared import Empty

Array = np.ndarray
Gradients = Sequence[tuple[Array | None, Array]]  # (dW, db) of each layer


@dataclass(frozen=True, eq=False)
class Bound:
    """An operation and the call that does it; `product` is what a product multiplies, else None."""

    operation: Operation
    call: Callable[[], Any]
    product: Product | None


def emit(
    layers: Sequence[Dense],
    loss: Loss,
    optimizer: Optimizer,
    kernels: Assignment,
    batch: int,
    *,
    fused: bool = True,
    update: bool = True,
) -> tuple[Operation, ...]:
    """The operations of one training step, in the order in which they run.

    fused   let products take in what their kernels can
    update  change the weights in the end
    """
    outputs, dtype = layers[-1].weight.shape[1], layers[-1].weight.dtype
    emitted: list[Operation] = []
    for l, layer in enumerate(layers, start=1):
        emitted += layer.forward(l, batch, kernels)
    emitted.append(loss.operation(batch, outputs, dtype))
    for l, layer in reversed(list(enumerate(layers, start=1))):
        emitted += layer.backward(l, batch, kernels)
        if update:
            emitted.append(optimizer.operation(l, (layer.weight, layer.bias)))
    return fuse(emitted, layers, optimizer, kernels) if fused else tuple(emitted)


def fuse(
    operations: Sequence[Operation], layers: Sequence[Dense], optimizer: Optimizer, kernels: Assignment
) -> tuple[Operation, ...]:
    """The same step with operations joined to products whose kernels do them besides (`Kernel.fuses`)."""
    step = {operation.id: operation for operation in operations}
    for l, layer in enumerate(layers, start=1):
        f, size, weights = layer.activation, layer.weight.itemsize, layer.weight.size
        z, takes = step[f"{l}.Z"], kernels[l, "Z"].fuses
        elements = z.shape[0] * z.shape[1]
        kept = {"aux_out"} if f.from_z else set()
        if f"{l}.activation" in step and {"bias", f.name} | kept <= takes:
            traffic = size * (layer.bias.size + (elements if f.from_z else 0))
            step[z.id] = fused(z, step.pop(f"{l}.bias"), step.pop(f"{l}.activation"), traffic=traffic)
        elif "bias" in takes:
            step[z.id] = fused(z, step.pop(f"{l}.bias"), traffic=size * layer.bias.size)
        below = f"{l - 1}.activation'"
        if below in step and f"grad:{layers[l - 2].activation.name}" in kernels[l, "dX"].fuses:
            dx = step[f"{l}.dX"]
            step[dx.id] = fused(dx, step.pop(below), traffic=size * dx.shape[0] * dx.shape[1])
        if f"{l}.update" in step and optimizer.in_product and "beta" in kernels[l, "dW"].fuses:
            update = step.pop(f"{l}.update")
            each = update.flops // (weights + layer.bias.size)
            for id_, count in ((f"{l}.dW", weights), (f"{l}.db", layer.bias.size)):
                share = replace(update, flops=each * count)
                step[id_] = fused(step[id_], share, traffic=size * count * (1 if id_.endswith("dW") else 2))
    return tuple(step.values())


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
        optimizer: Optimizer,
        kernels: Assignment,
        batch: int,
        gradients: Callable[[bool], Gradients],
        fused: bool = True,
        empty: Empty = np.empty,
    ) -> None:
        """gradients: gives dW and db of each layer; asked with False, dW only where it exists already.

        empty  makes the arrays that hold nothing from one run to the next (see mlp.shared)
        """
        self.batch = batch
        self._layers, self._loss, self._optimizer, self._kernels = layers, loss, optimizer, kernels
        self._fused, self._gradients = fused, gradients
        self.operations = emit(layers, loss, optimizer, kernels, batch, fused=fused)
        dtype, outputs = layers[0].weight.dtype, layers[-1].weight.shape[1]
        self._empty = empty
        self._staging = empty((batch, layers[0].weight.shape[0]), dtype)
        self._targets = loss.targets(batch, outputs, dtype)
        self._value = np.zeros((), dtype)
        whole = any(operation.op == "update" for operation in self.operations)
        self._buffers = self._allocate(gradients(whole))
        self._changes = optimizer.changes
        self.bound = tuple(self._bind(operation) for operation in self.operations)
        self._sort()

    def _allocate(self, gradients: Gradients) -> list[Buffers]:
        dtype = self._staging.dtype
        widths = [layer.weight.shape[1] for layer in self._layers]
        turns = [self._empty((self.batch * max(widths),), dtype) for _ in range(2)]
        x, below, dx, buffers = self._staging, self._staging, None, []
        for l, (layer, width, (dw, db)) in enumerate(zip(self._layers, widths, gradients)):
            y = self._empty((self.batch, width), dtype)
            z = self._empty((self.batch, width), dtype) if layer.activation.from_z else y
            dz = turns[l % 2][: self.batch * width].reshape(self.batch, width)
            buffers.append(Buffers(x, y, z, dz, dx, below, dw, db))
            x, below, dx = y, z, dz
        return buffers

    def _bind(self, operation: Operation) -> Bound:
        if operation.op == "loss":
            last = self._buffers[-1]
            return Bound(operation, self._loss.bind(last.y, self._targets, last.dz, self._value), None)
        l = operation.layer
        layer, at = self._layers[l - 1], self._buffers[l - 1]
        below = self._layers[l - 2].activation if l > 1 else None
        product = layer.product(operation, at, below, self._optimizer)
        if product is not None:
            return Bound(operation, product.prepare(self._kernels[l, operation.op]), product)
        return Bound(operation, layer.bind(operation, at, self._optimizer), None)

    def _sort(self) -> None:
        """Keep the bare calls, so that a step without a recorder is nothing but them."""
        self._step = chain(bound.call for bound in self.bound)
        forward = [bound for bound in self.bound if bound.operation.phase == "forward"]
        self._forward = chain(bound.call for bound in forward if bound.operation.op != "loss")
        self._to_loss = chain(bound.call for bound in forward)
        self._backward: list[Call] = []  # made when it is asked for

    @property
    def x(self) -> Array:
        """The examples (batch x d_in) that the next run reads."""
        return self._buffers[0].x

    @property
    def outputs(self) -> Array:
        """The outputs (batch x d_out) of the last run: a buffer that the next one overwrites."""
        return self._buffers[-1].y

    def product(self, operation: Operation) -> Product | None:
        """What a product multiplies, as it is bound now; None for other operations."""
        return self.bound[self.operations.index(operation)].product

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
                self._rebind((1, "Z"), (1, "dW"))
        if y is not None:
            self._loss.accept(y, self._targets, self._buffers[-1].y.shape[1])

    def _rebind(self, *which: tuple[int, str]) -> None:
        """Prepare these (layer, op) anew."""
        self.bound = tuple(
            self._bind(bound.operation) if (bound.operation.layer, bound.operation.op) in which else bound
            for bound in self.bound
        )
        self._sort()

    def _follow(self) -> None:
        """The optimizer's numbers have changed: those that products hold change too."""
        self._changes = self._optimizer.changes
        updates = [bound for bound in self.bound if bound.product and "update" in bound.operation.parts]
        dtype = self._staging.dtype.type
        for bound in updates:
            if hasattr(bound.call, "scale"):
                bound.call.scale(*(float(dtype(scale)) for scale in self._optimizer.scales))
            else:
                self._rebind((bound.operation.layer, bound.operation.op))

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
        if not self._backward:
            for at, (dw, _) in zip(self._buffers, self._gradients(True)):
                at.dw = dw
            without = emit(
                self._layers,
                self._loss,
                self._optimizer,
                self._kernels,
                self.batch,
                fused=self._fused,
                update=False,
            )
            self._backward = chain(self._bind(one).call for one in without if one.phase == "backward")
        if dz is not None:
            np.copyto(self._buffers[-1].dz, dz, casting="same_kind")
        _run(self._backward)

    def step(self, recorder: Recorder | None = None) -> float:
        """The whole step, weights updated; returns the loss before the update."""
        optimizer = self._optimizer
        optimizer.begin_step()
        if optimizer.changes != self._changes:
            self._follow()
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


def _run(calls: Iterable[Call]) -> None:
    for call in calls:
        call()
