"""Convolution: the same small linear map at every place of an image; a restricted dense layer, lowered to a product.

An image of height x width numbers, with channels, is a row, the channels of a place beside each other. At every place
the layer multiplies what a window of size x size sees there by the same W (size size channels x filters):

    im2col   rows (batch places x size size channels)  <- X      what the window sees at every place
    Z        rows W                                               one product, as of a dense layer
    dX       dZ W^T, then col2im: every number of X gets the sum of what the rows hold of it

The matrix that it stands for. A filter of 3 on 4 numbers in a line, (w0 w1 w2), would be as a dense layer

        [w0  0 ]
    X   [w1  w0]      most of it zeros, and the rest the same three numbers over and over; `matrix` makes it.
        [w2  w1]      A dense layer of these sizes has 8 free weights, this one has 3.
        [0   w2]

(cross-correlation, as everybody's convolution layer; Chellapilla et al. 2006 for the lowering)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

import gemm
from gemm.epilogue import Activation
from mlp import native
from mlp.activations import initial_variance
from mlp.blocks import normal
from mlp.devices import host
from mlp.layers.buffers import Array, Buffers, Call, Sizes
from mlp.layers.dense import Dense
from mlp.operations import Operation
from mlp.optimizers import Optimizer


@dataclass(frozen=True)
class Window:
    """The shape of a convolution: images of height x width x channels, seen through size x size by so many filters.

    stride    places are so far apart, along both sides
    padding   so many zeros around the image
    """

    height: int
    width: int
    channels: int
    size: int
    filters: int
    stride: int = 1
    padding: int = 0

    @property
    def places(self) -> tuple[int, int]:
        """Along height and width."""
        down, across = (
            (side + 2 * self.padding - self.size) // self.stride + 1 for side in (self.height, self.width)
        )
        return down, across

    @property
    def inputs(self) -> int:
        return self.height * self.width * self.channels

    @property
    def outputs(self) -> int:
        down, across = self.places
        return down * across * self.filters

    @property
    def sizes(self) -> Sizes:
        down, across = self.places
        seen = self.size * self.size * self.channels
        lowered = down * across * seen
        return Sizes(seen * self.filters, self.filters, self.outputs, lowered, lowered)

    def __str__(self) -> str:
        stride = f"/{self.stride}" if self.stride > 1 else ""
        return f"conv{self.size}x{self.filters}{stride}" + (f"+{self.padding}" if self.padding else "")

    def layer(self, activation: Activation, rng: np.random.Generator, dtype: np.dtype) -> Convolution:
        """Random weights, zero biases (mlp.activations.initial_variance, of what a number takes part in)."""
        seen = self.size * self.size
        variance = initial_variance(activation, seen * self.channels, seen * self.filters)
        weight = normal(rng, (seen * self.channels, self.filters), np.sqrt(variance), dtype)
        return Convolution(weight, np.zeros(self.filters, dtype), activation, self)


@dataclass(frozen=True, eq=False)
class Convolution(Dense):
    """weight (size size channels x filters), bias (filters): dense on the rows that im2col makes."""

    window: Window

    lowering: ClassVar[tuple[str, str]] = ("im2col", "col2im")

    @property
    def inputs(self) -> int:
        return self.window.inputs

    @property
    def positions(self) -> int:
        down, across = self.window.places
        return down * across

    def matrix(self) -> Array:
        """The dense weight (inputs x outputs) that this layer stands for."""
        weight = host(self.weight)
        whole = np.eye(self.inputs, dtype=weight.dtype)  # each input alone
        rows = np.empty((self.inputs * self.positions, weight.shape[0]), weight.dtype)
        self._move("im2col", whole, rows)()
        return gemm.matmul(rows, weight).reshape(self.inputs, self.outputs)

    def call(self, operation: Operation, at: Buffers, optimizer: Optimizer) -> Call:
        if operation.op == "im2col":
            return self._move("im2col", at.x, at.rows)
        if operation.op == "col2im" and at.dx is not None and at.drows is not None:
            return self._move("col2im", at.dx, at.drows)
        return super().call(operation, at, optimizer)

    def _move(self, which: str, x: Array, rows: Array) -> Call:
        w = self.window
        shape = (w.height, w.width, w.channels, w.size, w.stride, w.padding)
        return native.call(which, x.dtype, x, rows, len(x), *shape)
