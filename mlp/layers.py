"""Dense: Z = X W + b and its derivatives, as in the lecture on matrix derivatives.

    X (batch x d_in)    W (d_in x d_out)    b (d_out)    Z, Y (batch x d_out)

    forward   Z  = X W,  + b in every row      backward   dZ = dY * f'(Z)
              Y  = f(Z)                                   db = column sums of dZ
                                                          dX = dZ W^T
                                                          dW = X^T dZ

A batch's examples are rows. (Lecture 12 writes a = W o + b for column vectors: its W is our W^T.)

A layer is pure: it emits its operations for a batch size, and binds one of them to given buffers. Z, Y
share one buffer where the activation's derivative is taken from Y (`gemm.epilogue`), and so do dY, dZ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import gemm
from gemm.epilogue import Activation, Epilogue
from gemm.program import chain
from mlp import native
from mlp.assignment import Assignment
from mlp.blocks import blocked, normal
from mlp.operations import Operation, elementwise, product
from mlp.optimizers import Optimizer

Array = np.ndarray
# Activations that let about half of their input's variance through.
HALVING = ("relu", "leaky-relu", "gelu")
Call = Callable[[], Any]


@dataclass
class Buffers:
    """One layer's arrays in one plan; of the dtype of the weights, C-contiguous (x may have any strides).

    x (batch x d_in), y (batch x d_out), dz (batch x d_out), dx (batch x d_in; None for layer 1), db (d_out)
    dw (d_in x d_out)    None where the product that makes it updates W
    z (batch x d_out)    y itself, but for an activation whose derivative needs Z
    below (batch x d_in) what the derivative of the layer below is taken from: its y, or its z
    """

    x: Array
    y: Array
    z: Array
    dz: Array
    dx: Array | None
    below: Array
    dw: Array | None
    db: Array


@dataclass(frozen=True, eq=False)
class Product:
    """A product of a step: out <- alpha a b + beta out, then the epilogue."""

    a: Array
    b: Array
    out: Array
    alpha: float = 1.0
    beta: float = 0.0
    epilogue: Epilogue | None = None

    def prepare(self, kernel: gemm.Kernel) -> Call:
        return gemm.prepare(
            self.a, self.b, self.out, kernel=kernel, alpha=self.alpha, beta=self.beta, epilogue=self.epilogue
        )


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

        Normal with variance 2 / d_in before a relu and its like (He et al. 2015, eq. 10), which let half of it
        through, else 2 / (d_in + d_out) (Glorot and Bengio 2010, eq. 12).
        """
        variance = 2 / d_in if activation.name in HALVING else 2 / (d_in + d_out)
        weight = normal(rng, (d_in, d_out), np.sqrt(variance), dtype)
        return cls(weight, np.zeros(d_out, dtype), activation)

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
            emitted.append(
                elementwise(layer, "activation", "backward", shape, f.backward_flops * z, size * 3 * z)
            )
        emitted.append(elementwise(layer, "db", "backward", (d_out,), z, size * (z + d_out)))
        if layer > 1:
            name = kernels[layer, "dX"].name
            emitted.append(product(layer, "dX", "backward", name, batch, d_in, d_out, size))
        emitted.append(product(layer, "dW", "backward", kernels[layer, "dW"].name, d_in, d_out, batch, size))
        return emitted

    def product(
        self, operation: Operation, at: Buffers, below: Activation | None, optimizer: Optimizer
    ) -> Product | None:
        """What a product of this layer multiplies, fused parts included; None for any other operation.

        below  the activation of the layer below
        """
        parts = operation.parts
        if operation.op == "Z":
            if "activation" in parts:
                kept = at.z if self.activation.from_z else None
                whole = Epilogue(bias=self.bias, activation=self.activation.name, aux_out=kept)
                return Product(at.x, self.weight, at.y, epilogue=whole)
            return Product(
                at.x, self.weight, at.z, epilogue=Epilogue(bias=self.bias) if "bias" in parts else None
            )
        if operation.op == "dX" and at.dx is not None:
            derived = below is not None and "activation'" in parts
            after = Epilogue(grad_of=below.name, aux_in=at.below) if below and derived else None
            return Product(at.dz, self.weight.T, at.dx, epilogue=after)
        if operation.op == "dW" and "update" in parts:  # W <- (1 - lr decay) W - lr X^T dZ: there is no dW
            alpha, beta = optimizer.scales
            return Product(at.x.T, at.dz, self.weight, alpha=alpha, beta=beta)
        if operation.op == "dW" and at.dw is not None:
            return Product(at.x.T, at.dz, at.dw)
        return None

    def bind(self, operation: Operation, at: Buffers, optimizer: Optimizer) -> Call:
        """The call that does an operation of this layer which is not a product."""
        if operation.op == "update" and at.dw is not None:
            return together(optimizer.bind(self.weight, at.dw), optimizer.bind(self.bias, at.db))
        if operation.op == "bias":
            return partial(np.add, at.z, self.bias, at.z)
        if operation.op == "db":
            batch, outputs = at.dz.shape
            sums = native.call("column_sums", at.dz.dtype, at.dz, at.db, batch, outputs)
            return together(sums, optimizer.bind(self.bias, at.db)) if "update" in operation.parts else sums
        if operation.phase == "forward":
            return blocked(self.activation.forward, at.z, at.y)
        return blocked(self.activation.backward, at.dz, at.z)


def together(*calls: Call) -> Call:
    """Calls of native code as one."""
    (call,) = chain(calls)
    return call
