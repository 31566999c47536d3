"""The plan: one training step for one batch size, compiled once and then only run.

    emit   layers, loss and optimizer say which operations they need      a static list
    fuse   operations join the product beside them, where its kernel can  a shorter list
           (on a GPU bias and activation join each other where it cannot)
    bind   every operation becomes a call on buffers allocated here       products by gemm.prepare
    chain  neighbouring calls of native code become one (gemm.program)

The order of a step: forward from layer 1, the loss, then for each layer from the last: activation', db,
dX, dW, update. dX stands before dW because it needs the weights that made Z, and a fused dW changes them.

Memory: Z and Y of a layer share one buffer (mlp.layers.dense), as do dY and dZ; two layers' dZ exist at a time, so two
buffers take turns. A layer that makes rows of its own keeps them for dW; their derivatives share one more buffer. The
gradients belong to the model and are shared by its plans; those of weights that are updated by the product itself do
not exist unless somebody asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gemm.program import Call, chain
from mlp.activations import SOFTMAX
from mlp.assignment import Assignment
from mlp.devices import CPU, Device, computed, write
from mlp.graph import Replayed
from mlp.layers import Buffers, Dense, Product
from mlp.layers.buffers import together
from mlp.losses import Loss, TargetsThere
from mlp.operations import Operation, fused
from mlp.optimizers import Optimizer
from mlp.recorder import Recorder
from mlp.shared import Empty

Array = np.ndarray
Gradients = Sequence[Sequence[Array | None]]  # of each layer's parameters


@dataclass(frozen=True, eq=False)
class Bound:
    """An operation and the call that does it; `products` are what it multiplies, in order."""

    operation: Operation
    call: Callable[[], Any]
    products: tuple[Product, ...]


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
    outputs, dtype = layers[-1].outputs, layers[-1].weight.dtype
    emitted: list[Operation] = []
    for l, layer in enumerate(layers, start=1):
        emitted += layer.forward(l, batch, kernels)
    emitted.append(loss.operation(batch, outputs, dtype))
    for l, layer in reversed(list(enumerate(layers, start=1))):
        emitted += layer.backward(l, batch, kernels)
        if update:
            emitted.append(optimizer.operation(l, list(layer.parameters.values())))
    return fuse(emitted, layers, optimizer, kernels) if fused else tuple(emitted)


def fuse(
    operations: Sequence[Operation], layers: Sequence[Dense], optimizer: Optimizer, kernels: Assignment
) -> tuple[Operation, ...]:
    """The same step with operations joined to products whose kernels do them besides (`Kernel.fuses`)."""
    step = {operation.id: operation for operation in operations}
    for l, layer in enumerate(layers, start=1):
        f, size = layer.activation, layer.weight.itemsize
        z, activated = step[f"{l}.Z"], step.get(f"{l}.activation")
        takes = kernels.of(z).fuses
        kept = {"aux_out"} if f.from_z else set()
        if activated and activated.shape == z.shape and {"bias", f.name} | kept <= takes:
            traffic = size * (layer.bias.size + (z.shape[0] * z.shape[1] if f.from_z else 0))
            step[z.id] = fused(z, step.pop(f"{l}.bias"), step.pop(activated.id), traffic=traffic)
        elif "bias" in takes:
            step[z.id] = fused(z, step.pop(f"{l}.bias"), traffic=size * layer.bias.size)
        elif kernels.of(z).device == "cuda" and activated and activated.shape == z.shape and f is not SOFTMAX:
            bias = step[f"{l}.bias"]  # one pass over Z for both
            traffic = size * z.shape[0] * z.shape[1] * f.from_z
            step[bias.id] = fused(bias, step.pop(activated.id), traffic=traffic)
        below, dx = step.get(f"{l - 1}.activation'"), step.get(f"{l}.dX")
        if below and dx and not layer.lowering[1]:  # else dX is not yet what the layer below gets
            numbers = dx.shape[0] * dx.shape[1]
            every = numbers == below.shape[0] * below.shape[1]  # and not the last step's only
            if every and f"grad:{layers[l - 2].activation.name}" in kernels.of(dx).fuses:
                step[dx.id] = fused(dx, step.pop(below.id), traffic=size * numbers)
        _take_in_update(step, l, layer, optimizer, kernels)
    return tuple(step.values())


def _take_in_update(
    step: dict[str, Operation], l: int, layer: Dense, optimizer: Optimizer, kernels: Assignment
) -> None:
    """Let the products that make a layer's gradients, and db, do the update, if all of them can."""
    makers = {f"{l}.d{name}": parameter for name, parameter in layer.parameters.items()}
    products = [step[maker] for maker in makers if step[maker].kernel]
    if f"{l}.update" not in step or not optimizer.in_product:
        return
    if any("beta" not in kernels.of(product).fuses for product in products):
        return
    update = step.pop(f"{l}.update")
    each = update.flops // sum(parameter.size for parameter in makers.values())
    for maker, parameter in makers.items():
        share = replace(update, flops=each * parameter.size)
        traffic = parameter.nbytes * (1 if step[maker].kernel else 2)
        step[maker] = fused(step[maker], share, traffic=traffic)


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
        device: Device = CPU,
        graph: bool = False,
    ) -> None:
        """gradients: gives those of each layer's parameters; asked with False, of weights only where they exist.

        empty   makes the arrays that hold nothing from one run to the next (see mlp.shared)
        device  where all arrays live
        graph   run steps that are the same as one CUDA graph (mlp.graph)
        """
        self.batch, self._device = batch, device
        self._graph = Replayed() if graph else None
        self._layers, self._loss, self._optimizer, self._kernels = layers, loss, optimizer, kernels
        self._fused, self._gradients = fused, gradients
        self.operations = emit(layers, loss, optimizer, kernels, batch, fused=fused)
        first, last = layers[0], layers[-1]
        dtype = first.weight.dtype
        self._empty = empty
        self._staging = empty((batch, first.inputs), dtype)
        self._targets = TargetsThere(loss, batch, last.outputs, dtype, device)
        self._value = device.zeros((), computed(dtype))
        whole = any(operation.op == "update" for operation in self.operations)
        self._buffers = self._allocate(gradients(whole))
        self._y = last.handed_on(self._buffers[-1].y, batch)
        self._dz = last.handed_on(self._buffers[-1].dz, batch)
        self._changes = optimizer.changes
        self.bound = tuple(self._bind(operation) for operation in self.operations)
        self._sort()

    def _allocate(self, gradients: Gradients) -> list[Buffers]:
        dtype, batch = self._staging.dtype, self.batch
        shapes = [(batch * layer.positions, layer.weight.shape[1]) for layer in self._layers]
        lowered = [(batch * layer.positions, layer.weight.shape[0]) for layer in self._layers]
        turns = [self._empty((max(rows * width for rows, width in shapes),), dtype) for _ in range(2)]
        back = [
            rows * width for layer, (rows, width) in zip(self._layers[1:], lowered[1:]) if layer.lowering[1]
        ]
        taken_back = self._empty((max(back, default=0),), dtype)
        x, below, dx, buffers = self._staging, self._staging, None, []
        for l, (layer, shape, wide) in enumerate(zip(self._layers, shapes, lowered)):
            y = self._empty(shape, dtype)
            z = self._empty(shape, dtype) if layer.activation.from_z else y
            dz = turns[l % 2][: y.size].reshape(shape)
            rows = self._empty(wide, dtype) if layer.lowering[0] else x
            drows: Array | None = dx
            if dx is not None and layer.lowering[1]:
                drows = taken_back[: wide[0] * wide[1]].reshape(wide)
            buffers.append(Buffers(x, dx, rows, drows, y, z, dz, below, list(gradients[l])))
            x, below, dx = (layer.handed_on(each, batch) for each in (y, z, dz))
        return buffers

    def _bind(self, operation: Operation) -> Bound:
        if operation.op == "loss":
            return Bound(operation, self._loss.bind(self._y, self._targets.there, self._dz, self._value), ())
        l = operation.layer
        layer, at = self._layers[l - 1], self._buffers[l - 1]
        below = self._layers[l - 2].activation if l > 1 else None
        products = tuple(layer.multiplied(operation, at, below, self._optimizer))
        if products:
            kernel = self._kernels.of(operation)
            return Bound(operation, together(*(one.prepare(kernel) for one in products)), products)
        return Bound(operation, layer.call(operation, at, self._optimizer), ())

    def _sort(self) -> None:
        """Keep the bare calls, so that a step without a recorder is nothing but them."""
        self._step = chain(bound.call for bound in self.bound)
        forward = [bound for bound in self.bound if bound.operation.phase == "forward"]
        self._forward = chain(bound.call for bound in forward if bound.operation.op != "loss")
        self._to_loss = chain(bound.call for bound in forward)
        if self._graph is not None:
            self._graph.forget()
        self._backward: list[Call] = []  # made when it is asked for

    @property
    def x(self) -> Array:
        """The examples (batch x d_in) that the next run reads."""
        return self._buffers[0].x

    @property
    def outputs(self) -> Array:
        """The outputs (batch x d_out) of the last run: a buffer that the next one overwrites."""
        return self._y

    def products(self, operation: Operation) -> tuple[Product, ...]:
        """What an operation multiplies, in order, as it is bound now; nothing unless it is a product."""
        return self.bound[self.operations.index(operation)].products

    def take(self, x: Any, *y: Any) -> None:
        """Make x (batch x d_in), and y if given, the examples of the next run; y is copied, x is not.

        Only another array than the last one costs something: what reads x is prepared anew. An x of another dtype
        is copied into a buffer of the plan, and so is one that is not C-contiguous where a layer makes rows of it, and
        on a GPU one that lies on the host.
        """
        first, lowering = self._buffers[0], self._layers[0].lowering[0]
        if x is not first.x:
            usable = type(x) is type(self._staging) and x.dtype == self._staging.dtype
            if not usable or (lowering and not x.flags.c_contiguous):
                self._device.take_in(self._staging, x)
                x = self._staging
            if x is not first.x:
                first.x = x
                if lowering:
                    self._rebind((1, lowering))
                else:
                    first.rows = x
                    self._rebind((1, "Z"), (1, "dW"))
        if y:
            self._targets.accept(y[0])

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
        updates = [bound for bound in self.bound if bound.products and "update" in bound.operation.parts]
        dtype = np.dtype(computed(self._staging.dtype)).type
        for bound in updates:
            if hasattr(bound.call, "scale"):
                bound.call.scale(*(float(dtype(scale)) for scale in self._optimizer.scales))
            else:
                self._rebind((bound.operation.layer, bound.operation.op))

    def forward(self) -> Array:
        """Run the layers; returns the outputs, a buffer that the next run overwrites."""
        _run(self._forward)
        return self._y

    def evaluate(self) -> float:
        """The loss, without a backward pass."""
        _run(self._to_loss)
        return float(self._value)

    def backward(self, dz: Array | None = None) -> None:
        """Fill the gradients, from dz (batch x outputs) or else from the loss of the last `evaluate`."""
        if not self._backward:
            for at, whole in zip(self._buffers, self._gradients(True)):
                at.gradients = list(whole)
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
            write(self._dz, dz)
        _run(self._backward)

    def step(self, recorder: Recorder | None = None) -> float:
        """The whole step, weights updated; returns the loss before the update (mlp.devices.Device.read)."""
        optimizer = self._optimizer
        optimizer.begin_step()
        if optimizer.changes != self._changes:
            self._follow()
        if recorder is None:
            run = self._step if self._graph is None else self._graph.calls(self._step)
            for call in run:
                call()
        else:
            begin, end = recorder.begin, recorder.end
            for bound in self.bound:
                begin(bound.operation)
                bound.call()
                end(bound.operation)
        return self._device.read(self._value)


def _run(calls: Iterable[Call]) -> None:
    for call in calls:
        call()
