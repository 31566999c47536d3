"""Dense: Z = X W + b and its derivatives, as in the lecture on matrix derivatives.

    X (batch x d_in)    W (d_in x d_out)    b (d_out)    Z, Y (batch x d_out)

    forward   Z  = X W,  + b in every row      backward   dZ = dY * f'(Z)
              Y  = f(Z)                                   db = column sums of dZ
                                                          dX = dZ W^T
                                                          dW = X^T dZ

A batch's examples are rows. (Lecture 12 writes a = W o + b for column vectors: its W is our W^T.)

A layer is pure: it emits its operations for a batch size, and binds one of them to given buffers. Z, Y
share one buffer, and so do dY, dZ: every activation's derivative is taken from Y (`gemm.epilogue`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import gemm
from gemm.epilogue import Activation
from mlp.assignment import Assignment
from mlp.blocks import blocked
from mlp.operations import Operation, elementwise, product

Array = np.ndarray
Call = Callable[[], Any]


@dataclass
class Buffers:
    """One layer's arrays in one plan; of the dtype of the weights, C-contiguous (x may have any strides).

    x (batch x d_in), y (batch x d_out), dz (batch x d_out), dx (batch x d_in; None for layer 1),
    dw (d_in x d_out), db (d_out)
    """

    x: Array
    y: Array
    dz: Array
    dx: Array | None
    dw: Array
    db: Array


@dataclass(frozen=True, eq=False)
class Dense:
    """A fully connected layer: weight (d_in x d_out), bias (d_out), and the activation after them."""

    weight: Array
    bias: Array
    activation: Activation

    @classmethod
    def initial(
        cls, d_in: int, d_out: int, activation: Activation, rng: np.random.Generator, dtype: np.dtype
    ) -> Dense:
        """Random weights, zero biases. Drawn in float64 and rounded: one seed, one network, any dtype.

        Normal with variance 2 / d_in before a relu (He et al. 2015, eq. 10), which lets half of it through,
        else 2 / (d_in + d_out) (Glorot and Bengio 2010, eq. 12).
        """
        variance = 2 / d_in if activation.name == "relu" else 2 / (d_in + d_out)
        weight = rng.standard_normal((d_in, d_out)) * np.sqrt(variance)
        return cls(weight.astype(dtype), np.zeros(d_out, dtype), activation)

    def forward(self, layer: int, batch: int, kernels: Assignment) -> list[Operation]:
        """Z, bias, activation (none for the identity)."""
        (d_in, d_out), size = self.weight.shape, self.weight.itemsize
        z, shape, f = batch * d_out, (batch, d_out), self.activation
        emitted = [
            product(layer, "Z", "forward", kernels[layer, "Z"].name, batch, d_out, d_in, size),
            elementwise(layer, "bias", "forward", shape, z, size * (2 * z + d_out)),
        ]
        if f.name != "identity":
            emitted.append(elementwise(layer, "activation", "forward", shape, f.flops * z, size * 2 * z))
        return emitted

    def backward(self, layer: int, batch: int, kernels: Assignment) -> list[Operation]:
        """activation' (none for the identity), db, dX (none for layer 1: nothing asks for it), dW."""
        (d_in, d_out), size = self.weight.shape, self.weight.itemsize
        z, shape, f = batch * d_out, (batch, d_out), self.activation
        emitted = []
        if f.name != "identity":
            flops = (f.flops + 1) * z  # f' is counted as f is; then the multiplication by dY
            emitted.append(elementwise(layer, "activation", "backward", shape, flops, size * 3 * z))
        emitted.append(elementwise(layer, "db", "backward", (d_out,), z, size * (z + d_out)))
        if layer > 1:
            name = kernels[layer, "dX"].name
            emitted.append(product(layer, "dX", "backward", name, batch, d_in, d_out, size))
        emitted.append(product(layer, "dW", "backward", kernels[layer, "dW"].name, d_in, d_out, batch, size))
        return emitted

    def operands(self, operation: Operation, at: Buffers) -> tuple[Array, Array, Array] | None:
        """(a, b, out) of a product; None for anything else."""
        if operation.op == "Z":
            return at.x, self.weight, at.y
        if operation.op == "dW":
            return at.x.T, at.dz, at.dw
        if operation.op == "dX" and at.dx is not None:
            return at.dz, self.weight.T, at.dx
        return None

    def bind(self, operation: Operation, at: Buffers, kernels: Assignment) -> Call:
        """The call that does an operation of this layer."""
        operands = self.operands(operation, at)
        if operands is not None:
            return gemm.prepare(*operands, kernel=kernels[operation.layer, operation.op])
        if operation.op == "bias":
            return partial(np.add, at.y, self.bias, at.y)
        if operation.op == "db":
            return partial(np.add.reduce, at.dz, axis=0, out=at.db)
        if operation.phase == "forward":
            return blocked(self.activation.forward, at.y, at.y)
        return blocked(self.activation.backward, at.dz, at.y)
