"""What a layer computes on in one plan, and what a product multiplies there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import gemm
from gemm.epilogue import Epilogue
from gemm.program import Call, chain

Array = np.ndarray


@dataclass(frozen=True)
class Sizes:
    """How many numbers a layer has.

    weights, biases   parameters with two dimensions, and with one
    activations       of an example, between the layer's steps or places too
    lowered           of an example, in rows that the layer makes of its own; 0 where it reads x as it lies
    taken_back        as many again for their derivative, unless the layer is the first
    """

    weights: int
    biases: int
    activations: int
    lowered: int = 0
    taken_back: int = 0


@dataclass
class Buffers:
    """One layer's arrays in one plan; of the dtype of the weights, C-contiguous (but x, as a user gives it).

    x, dx      (batch x inputs)       what the layer reads, and the derivative by it (None for layer 1)
    rows, drows  (rows x d_in)        the same as the product's rows: x and dx themselves, but where the layer makes
                                      rows of its own (im2col, transpose)
    y, dz      (rows x d_out)         after the activation; the derivative, by y and then in its place by z
    z          (rows x d_out)         y itself, but for an activation whose derivative needs Z
    below      (batch x inputs)       what the derivative of the layer below is taken from: its y, or its z
    gradients  one for each of the layer's parameters; None where the product that makes it updates the parameter
    """

    x: Array
    dx: Array | None
    rows: Array
    drows: Array | None
    y: Array
    z: Array
    dz: Array
    below: Array
    gradients: list[Array | None]


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


def together(*calls: Call) -> Call:
    """Several calls as one: of native code a single one (gemm.program)."""
    chained = chain(calls)
    if len(chained) == 1:
        return chained[0]

    def call() -> None:
        for each in chained:
            each()

    return call
