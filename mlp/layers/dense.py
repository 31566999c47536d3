"""Dense: Z = X W + b and its derivatives, as in the lecture on matrix derivatives.

    X (batch x d_in)    W (d_in x d_out)    b (d_out)    Z, Y (batch x d_out)

    forward   Z  = X W,  + b in every row      backward   dZ = dY * f'(Z)
              Y  = f(Z)                                   db = column sums of dZ
                                                          dX = dZ W^T
                                                          dW = X^T dZ

A batch's examples are rows. (Lecture 12 writes a = W o + b for column vectors: its W is our W^T.)

Z, Y share one buffer where the activation's derivative is taken from Y (`gemm.epilogue`), and so do dY, dZ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np

from gemm.epilogue import Activation, Epilogue
from mlp import native
from mlp.activations import bind, bind_with_bias, initial_variance
from mlp.assignment import Assignment
from mlp.blocks import normal
from mlp.devices import Device, on_gpu
from mlp.layers.buffers import Array, Buffers, Call, Product, Sizes, together
from mlp.operations import Operation, elementwise, product
from mlp.optimizers import Optimizer


@dataclass(frozen=True)
class Full:
    """The shape of a dense layer: so many inputs to so many outputs."""

    inputs: int
    outputs: int

    @property
    def sizes(self) -> Sizes:
        return Sizes(self.inputs * self.outputs, self.outputs, self.outputs)

    def __str__(self) -> str:
        return str(self.outputs)

    def layer(self, activation: Activation, rng: np.random.Generator, dtype: np.dtype) -> Dense:
        """Random weights, zero biases (mlp.activations.initial_variance)."""
        variance = initial_variance(activation, self.inputs, self.outputs)
        weight = normal(rng, (self.inputs, self.outputs), np.sqrt(variance), dtype)
        return Dense(weight, np.zeros(self.outputs, dtype), activation)


@dataclass(frozen=True, eq=False)
class Dense:
    """A fully connected layer: weight (d_in x d_out), bias (d_out), and the activation after them.

    A layer that makes rows of its own, on which it is dense (a convolution), overrides what is said of rows here.

    products   the kinds of its products
    lowering   what makes the rows of x, and what takes dX back from them, as kinds of operations; "" for neither
    """

    weight: Array
    bias: Array
    activation: Activation

    products: ClassVar[tuple[str, ...]] = ("Z", "dX", "dW")
    lowering: ClassVar[tuple[str, str]] = ("", "")

    @property
    def inputs(self) -> int:
        """Numbers that it reads of an example."""
        return self.weight.shape[0]

    @property
    def outputs(self) -> int:
        """Numbers that it hands on of an example."""
        return self.positions * self.weight.shape[1]

    @property
    def positions(self) -> int:
        """Rows that its products have for an example."""
        return 1

    @property
    def parameters(self) -> dict[str, Array]:
        """Its arrays by the name of their gradient's operation, without the d."""
        return {"W": self.weight, "b": self.bias}

    def moved(self, device: Device) -> Self:
        """The same layer, its parameters on a device."""
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: dict[str, Any] = {
            name: device.put(value) for name, value in held.items() if isinstance(value, np.ndarray)
        }
        return replace(self, **moved)

    def handed_on(self, rows: Array, batch: int) -> Array:
        """y, z or dz (rows x d_out) as the layer above sees it (batch x outputs): a view."""
        return rows.reshape(batch, -1)

    # Operations

    def forward(self, layer: int, batch: int, kernels: Assignment) -> list[Operation]:
        """What makes the rows (if anything), Z, bias, activation (none for the identity)."""
        (d_in, d_out), size, rows = self.weight.shape, self.weight.itemsize, batch * self.positions
        z, f = rows * d_out, self.activation
        emitted = self._moved(layer, "forward", batch)
        emitted += [
            product(layer, "Z", "forward", kernels, rows, d_out, d_in, self.weight.dtype),
            elementwise(layer, "bias", "forward", (rows, d_out), z, size * (2 * z + d_out)),
        ]
        if f.name != "identity":
            emitted.append(
                elementwise(layer, "activation", "forward", (rows, d_out), f.flops * z, size * 2 * z)
            )
        return emitted

    def backward(self, layer: int, batch: int, kernels: Assignment) -> list[Operation]:
        """activation' (none for the identity), db, dX and what takes it back (none for layer 1: nothing asks), dW."""
        (d_in, d_out), size, rows = self.weight.shape, self.weight.itemsize, batch * self.positions
        z, f, dtype = rows * d_out, self.activation, self.weight.dtype
        emitted = []
        if f.name != "identity":
            cost = (f.backward_flops * z, size * 3 * z)
            emitted.append(elementwise(layer, "activation", "backward", (rows, d_out), *cost))
        emitted.append(elementwise(layer, "db", "backward", (d_out,), z, size * (z + d_out)))
        if layer > 1:
            emitted.append(product(layer, "dX", "backward", kernels, rows, d_in, d_out, dtype))
            emitted += self._moved(layer, "backward", batch)
        emitted.append(product(layer, "dW", "backward", kernels, d_in, d_out, rows, dtype))
        return emitted

    def _moved(self, layer: int, phase: str, batch: int) -> list[Operation]:
        """The operation between x and rows, if there is one: every number of both moved once."""
        kind = self.lowering[phase == "backward"]
        if not kind:
            return []
        d_in, read = self.weight.shape[0], batch * self.inputs
        lowered = batch * self.positions * d_in
        shape = (batch * self.positions, d_in) if phase == "forward" else (batch, self.inputs)
        flops = lowered if phase == "backward" else 0  # taken back by adding
        return [elementwise(layer, kind, phase, shape, flops, self.weight.itemsize * (read + lowered))]

    # Calls

    def multiplied(
        self, operation: Operation, at: Buffers, below: Activation | None, optimizer: Optimizer
    ) -> Sequence[Product]:
        """What a product of this layer multiplies, fused parts included; empty for any other operation.

        below  the activation of the layer below
        """
        parts = operation.parts
        if operation.op == "Z":
            if "activation" in parts:
                kept = at.z if self.activation.from_z else None
                whole = Epilogue(bias=self.bias, activation=self.activation.name, aux_out=kept)
                return [Product(at.rows, self.weight, at.y, epilogue=whole)]
            bias = Epilogue(bias=self.bias) if "bias" in parts else None
            return [Product(at.rows, self.weight, self._sums(at), epilogue=bias)]
        if operation.op == "dX" and at.drows is not None:
            derived = below is not None and "activation'" in parts
            after = Epilogue(grad_of=below.name, aux_in=at.below) if below and derived else None
            return [Product(at.dz, self.weight.T, at.drows, epilogue=after)]
        if operation.op == "dW":
            return [self._gradient("W", operation, at.rows, at.dz, at, optimizer)]
        return []

    def _sums(self, at: Buffers) -> Array:
        """Where Z, which is not yet activated, lies."""
        return at.z

    def _gradient(
        self, name: str, operation: Operation, x: Array, dz: Array, at: Buffers, optimizer: Optimizer
    ) -> Product:
        """X^T dZ: into a gradient, or W <- (1 - lr decay) W - lr X^T dZ, without one."""
        if "update" in operation.parts:
            alpha, beta = optimizer.scales
            return Product(x.T, dz, self.parameters[name], alpha=alpha, beta=beta)
        gradient = dict(zip(self.parameters, at.gradients))[name]
        assert gradient is not None, f"d{name} is asked for and has no array"
        return Product(x.T, dz, gradient)

    def call(self, operation: Operation, at: Buffers, optimizer: Optimizer) -> Call:
        """The call that does an operation of this layer which is not a product."""
        pairs = zip(self.parameters.values(), at.gradients)
        if operation.op == "update":
            return together(*(optimizer.bind(p, g) for p, g in pairs if g is not None))
        if operation.op == "bias":
            sums = self._sums(at)
            if "activation" in operation.parts:
                return bind_with_bias(self.activation, sums, self.bias, at.z, at.y)
            if on_gpu(sums):
                return native.call("add_bias", sums.dtype, sums, self.bias, *sums.shape)
            return partial(np.add, sums, self.bias, sums)
        if operation.op == "db":
            db = at.gradients[-1]
            assert db is not None, "db always has an array"
            rows, outputs = at.dz.shape
            total = native.call("column_sums", at.dz.dtype, at.dz, db, rows, outputs)
            return together(total, optimizer.bind(self.bias, db)) if "update" in operation.parts else total
        return bind(self.activation, operation.phase, at.z, at.y, at.dz)
