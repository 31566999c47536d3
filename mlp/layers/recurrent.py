"""Recurrent: feedback over time. Each step of a sequence is a dense layer that also sees the last step's output.

    H_t = f(X_t W + H_{t-1} U + b),   H_0 = 0                             (Elman 1990)

    X_t (batch x features)    W (features x hidden)    U (hidden x hidden)    H_t (batch x hidden)

An example is a row of steps x features numbers. Sequences lie here step by step (steps batch x features), so that every
step's batch is one block of rows, and what needs no feedback is one product for all steps:

    forward   Z  = X W, + b          all steps at once       backward   dZ_t = dH_t * f'(H_t)
              H_t = f(Z_t + H_{t-1} U)        step by step              dH_{t-1} += dZ_t U^T     step by step
                                                                        dX = dZ W^T, dW = X^T dZ   all steps at once
                                                                        dU = sum over t of H_{t-1}^T dZ_t, one product

the last step first (backpropagation through time, Werbos 1990). What is handed on is the last step's output, or, to
another recurrent layer, the whole sequence.
"""

from __future__ import annotations

from collections.abc import Sequence as Several
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from gemm.epilogue import Activation, Epilogue
from mlp import native
from mlp.activations import SOFTMAX, bind, initial_variance
from mlp.assignment import Assignment
from mlp.blocks import normal
from mlp.layers.buffers import Array, Buffers, Call, Product, Sizes, together
from mlp.layers.dense import Dense
from mlp.operations import Operation, product
from mlp.optimizers import Optimizer


@dataclass(frozen=True)
class Sequence:
    """The shape of a recurrent layer: steps of so many features each, and so many hidden units.

    given   the steps as examples hold them, in rows; else as a recurrent layer below hands them on
    whole   hand on every step, not only the last
    """

    steps: int
    features: int
    hidden: int
    given: bool = True
    whole: bool = False

    @property
    def inputs(self) -> int:
        return self.steps * self.features

    @property
    def outputs(self) -> int:
        return self.hidden * (self.steps if self.whole else 1)

    @property
    def sizes(self) -> Sizes:
        weights = (self.features + self.hidden) * self.hidden
        return Sizes(weights, self.hidden, self.steps * self.hidden, self.inputs * self.given)

    def __str__(self) -> str:
        return f"rnn{self.hidden}"

    def layer(self, activation: Activation, rng: np.random.Generator, dtype: np.dtype) -> Recurrent:
        """Random W (mlp.activations.initial_variance); U orthogonal, so that what is fed back keeps its length
        (Saxe et al. 2014); zero biases. Raises ValueError for softmax, which no step's product can have after it."""
        if activation is SOFTMAX:
            raise ValueError("softmax is no activation for a recurrent layer; take tanh, relu or another")
        variance = initial_variance(activation, self.features, self.hidden)
        weight = normal(rng, (self.features, self.hidden), np.sqrt(variance), dtype)
        q, r = np.linalg.qr(rng.standard_normal((self.hidden, self.hidden)))
        feedback = q * np.sign(np.diag(r))
        zeros = np.zeros(self.hidden, dtype)
        return Recurrent(weight, zeros, activation, feedback.astype(dtype), self)


@dataclass(frozen=True, eq=False)
class Recurrent(Dense):
    """weight W (features x hidden), feedback U (hidden x hidden), bias (hidden)."""

    feedback: Array
    sequence: Sequence

    products: ClassVar[tuple[str, ...]] = ("Z", "H", "dH", "dX", "dW", "dU")

    @property
    def lowering(self) -> tuple[str, str]:  # type: ignore[override]  # depends on what lies below
        return ("transpose" if self.sequence.given else "", "")

    @property
    def inputs(self) -> int:
        return self.sequence.inputs

    @property
    def outputs(self) -> int:
        return self.sequence.outputs

    @property
    def positions(self) -> int:
        return self.sequence.steps

    @property
    def parameters(self) -> dict[str, Array]:
        return {"W": self.weight, "U": self.feedback, "b": self.bias}

    def handed_on(self, rows: Array, batch: int) -> Array:
        """The last step (batch x hidden); or all of them (steps batch x hidden), to a recurrent layer."""
        return rows if self.sequence.whole else rows[-batch:]

    # Operations

    def forward(self, layer: int, batch: int, kernels: Assignment) -> list[Operation]:
        """transpose (unless a recurrent layer lies below), Z, bias, activation of the first step, H of the others."""
        emitted = super().forward(layer, batch, kernels)
        emitted = [self._of_a_step(one, batch) if one.op == "activation" else one for one in emitted]
        return [*emitted, self._fed_back(layer, "H", "forward", batch, kernels)]

    def backward(self, layer: int, batch: int, kernels: Assignment) -> list[Operation]:
        """activation' of the last step, dH of the others, db, dX (none for layer 1), dW, dU."""
        hidden, rows = self.sequence.hidden, batch * (self.sequence.steps - 1)
        emitted = super().backward(layer, batch, kernels)
        first = [self._of_a_step(one, batch) for one in emitted if one.op == "activation"]
        rest = [one for one in emitted if one.op != "activation"]
        du = product(layer, "dU", "backward", kernels, hidden, hidden, rows, self.weight.dtype)
        return [*first, self._fed_back(layer, "dH", "backward", batch, kernels), *rest, du]

    def _of_a_step(self, operation: Operation, batch: int) -> Operation:
        steps = self.sequence.steps
        shape = (batch, operation.shape[1])
        return replace(operation, shape=shape, flops=operation.flops // steps, bytes=operation.bytes // steps)

    def _fed_back(self, layer: int, op: str, phase: str, batch: int, kernels: Assignment) -> Operation:
        """The products of all steps but one, each with the activation or its derivative after it: one row."""
        hidden, times, f = self.sequence.hidden, self.sequence.steps - 1, self.activation
        size = self.weight.dtype
        one = product(layer, op, phase, kernels, batch, hidden, hidden, size)
        z = batch * hidden
        flops, moved = one.flops, one.bytes
        if op == "H" or self.sequence.whole:  # C is read as well
            moved += z * size.itemsize
        parts: tuple[str, ...] = (op,)
        if f.name != "identity":
            prime = "'" if phase == "backward" else ""
            parts = (op, f"activation{prime}")
            flops += z * (f.backward_flops if prime else f.flops)
            moved += z * size.itemsize * bool(prime or f.from_z)
        return replace(one, parts=parts, flops=times * flops, bytes=times * moved, times=times)

    # Calls

    def multiplied(
        self, operation: Operation, at: Buffers, below: Activation | None, optimizer: Optimizer
    ) -> Several[Product]:
        steps, f = self.sequence.steps, self.activation
        by_step = (steps, -1, self.sequence.hidden)
        y, z, dz = (rows.reshape(by_step) for rows in (at.y, at.z, at.dz))
        nothing, after = f.name == "identity", None
        if operation.op == "H":
            found = []
            for t in range(1, steps):
                if not nothing:
                    after = Epilogue(activation=f.name, aux_out=z[t] if f.from_z else None)
                found.append(Product(y[t - 1], self.feedback, y[t], beta=1.0, epilogue=after))
            return found
        if operation.op == "dH":
            beta, found = float(self.sequence.whole), []
            for t in reversed(range(1, steps)):
                after = None if nothing else Epilogue(grad_of=f.name, aux_in=z[t - 1])
                found.append(Product(dz[t], self.feedback.T, dz[t - 1], beta=beta, epilogue=after))
            return found
        if operation.op == "dU":
            batch = y.shape[1]
            return [self._gradient("U", operation, at.y[:-batch], at.dz[batch:], at, optimizer)]
        return super().multiplied(operation, at, below, optimizer)

    def _sums(self, at: Buffers) -> Array:
        return at.y  # from which the steps go on

    def call(self, operation: Operation, at: Buffers, optimizer: Optimizer) -> Call:
        steps = self.sequence.steps
        batch = len(at.y) // steps
        if operation.op == "transpose":
            return native.call("transpose", at.x.dtype, at.x, at.rows, batch, steps, self.sequence.features)
        if operation.op != "activation":
            return super().call(operation, at, optimizer)
        step = slice(0, batch) if operation.phase == "forward" else slice(len(at.y) - batch, None)
        call = bind(self.activation, operation.phase, at.z[step], at.y[step], at.dz[step])
        if operation.phase == "forward" and self.activation.from_z:
            return together(lambda: np.copyto(at.z[step], at.y[step]), call)
        return call
