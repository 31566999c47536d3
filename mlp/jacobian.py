"""The Jacobians that backpropagation never makes: dZ/dX and dZ/dW of Z = X W + b, made of a tiny layer, and counted.

    X (batch x d_in)    W (d_in x d_out)    Z (batch x d_out)    L = a function of Z alone

    dz_ij / dx_kl = w_lj  where i = k, else 0         batch x d_out x batch x d_in   numbers
    dz_ij / dw_kl = x_ik  where j = l, else 0         batch x d_out x d_in  x d_out

    chain rule    dL/dx_kl = sum over i, j of dL/dz_ij dz_ij/dx_kl, and the same for w_kl

The lecture calls dz/dx "something scary, because z and x are both matrices", and goes round it: layers hand each
other dL/dZ instead. Here is what it went round. One in `batch` of the numbers in dZ/dX is not zero by its place, and
one in d_out of those in dZ/dW; the sum without the zeros is

    dL/dx_kl = sum over j of dL/dz_kj w_lj            dX = dZ W^T
    dL/dw_kl = sum over i of x_ik dL/dz_il            dW = X^T dZ

the same numbers for a `batch`-th, or a d_out-th, of the arithmetic, and no tensor. Between the two lies the way example
by example: each has a gradient of W of its own, x_i^T dz_i, and these are summed; each has one row of dX, dz_i W^T, and
these are stacked. `python -m mlp.jacobian` shows all of it side by side.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import gemm
from gemm import matmul
from mlp.architectures import widths
from mlp.mistakes import positive
from mlp.operations import arithmetic

Array = np.ndarray
Kernel = str | gemm.Kernel
# The largest Jacobian that is made; it is meant to be looked at.
MOST_BYTES = 1 << 28


def by_x(w: Array, batch: int) -> Array:
    """dZ/dX (batch x d_out x batch x d_in) of W (d_in x d_out). ValueError where it would not be tiny."""
    d_in, d_out = w.shape
    jacobian = _zeros((positive("batch", batch), d_out, batch, d_in), w.dtype)
    for i in range(batch):  # a row of Z hangs on its own row of X only
        jacobian[i, :, i, :] = w.T
    return jacobian


def by_w(x: Array, d_out: int) -> Array:
    """dZ/dW (batch x d_out x d_in x d_out) of X (batch x d_in). ValueError where it would not be tiny."""
    batch, d_in = x.shape
    jacobian = _zeros((batch, positive("d_out", d_out), d_in, d_out), x.dtype)
    for j in range(d_out):  # a column of Z hangs on its own column of W only
        jacobian[:, j, :, j] = x
    return jacobian


def through(dz: Array, jacobian: Array, kernel: Kernel = "blas") -> Array:
    """The chain rule: dL/dX or dL/dW from dL/dZ and dZ/dX or dZ/dW, by summing over every entry of Z.

    As a product it is one row, dZ written out, times the Jacobian as a matrix with a row for each entry of Z.
    """
    rows, shape = dz.size, jacobian.shape[dz.ndim :]
    return matmul(dz.reshape(1, rows), jacobian.reshape(rows, -1), kernel=kernel).reshape(shape)


def dw_of_each(x: Array, dz: Array, kernel: Kernel = "blas") -> Array:
    """The gradient of W from each example alone, x_i dz_i^T (batch x d_in x d_out). Their sum is X^T dZ."""
    return matmul(x[:, :, None], dz[:, None, :], kernel=kernel)


def dx_of_each(dz: Array, w: Array, kernel: Kernel = "blas") -> Array:
    """The row of dX that each example gives, dz_i W^T (batch x 1 x d_in). Stacked, they are dZ W^T.

    The i-th example's loss hangs on no row of X but its own: in the gradient of X that it gives, all others are zero.
    """
    return matmul(dz[:, None, :], w.T, kernel=kernel)


@dataclass(frozen=True)
class Cost:
    """What a way to a gradient costs.

    of       "dW" or "dX"
    way      "product", "of each example" or "Jacobian"
    shape    of the largest array that it makes, and how many of its entries are not 0 by their place (`filled`)
    flops    floating-point operations: 2 m n k for a product, one for a sum
    bytes    compulsory traffic: operands read once, results written once, what is made in between both
    """

    of: str
    way: str
    shape: tuple[int, ...]
    filled: int
    flops: int
    bytes: int

    @property
    def entries(self) -> int:
        return math.prod(self.shape)


def cost(batch: int, d_in: int, d_out: int, dtype: str | np.dtype = "float32") -> list[Cost]:
    """Every way to dW and dX of a layer of any size, counted; nothing is made.

    The Jacobian's way is the product's arithmetic d_out times for dW and `batch` times for dX.
    """
    batch, d_in, d_out = positive("batch", batch), positive("d_in", d_in), positive("d_out", d_out)
    size, weights, inputs, outputs = np.dtype(dtype).itemsize, d_in * d_out, batch * d_in, batch * d_out
    dense = batch * weights  # what x_ik takes part in, over j; and w_lj, over i

    def product_of(m: int, n: int, k: int, times: int = 1) -> tuple[int, int]:
        flops, traffic = arithmetic(m, n, k, np.dtype(dtype))
        return times * flops, times * traffic

    def jacobian(of: str, shape: tuple[int, ...], by: int, operand: int) -> Cost:
        flops, traffic = product_of(1, by, outputs)  # one row times a matrix
        return Cost(of, "Jacobian", shape, dense, flops, traffic + size * (operand + outputs * by))

    flops, traffic = product_of(d_in, d_out, 1, times=batch)
    summed = Cost(
        "dW",
        "of each example",
        (batch, d_in, d_out),
        dense,
        flops + (batch - 1) * weights,
        traffic + size * (dense + weights),
    )
    return [
        Cost("dW", "product", (d_in, d_out), weights, *product_of(d_in, d_out, batch)),
        summed,
        jacobian("dW", (batch, d_out, d_in, d_out), weights, inputs),
        Cost("dX", "product", (batch, d_in), inputs, *product_of(batch, d_in, d_out)),
        Cost("dX", "of each example", (batch, 1, d_in), inputs, *product_of(1, d_in, d_out, times=batch)),
        jacobian("dX", (batch, d_out, batch, d_in), inputs, weights),
    ]


def disagreement(x: Array, w: Array, dz: Array, kernel: Kernel = "blas") -> list[float]:
    """How far each way of `cost` is from its product, relative to the product's largest entry. All of it is made."""
    dw, dx = matmul(x.T, dz, kernel=kernel), matmul(dz, w.T, kernel=kernel)
    ways = [
        (dw, [dw, dw_of_each(x, dz, kernel).sum(axis=0), through(dz, by_w(x, w.shape[1]), kernel)]),
        (dx, [dx, dx_of_each(dz, w, kernel)[:, 0], through(dz, by_x(w, len(x)), kernel)]),
    ]
    return [float(np.abs(way - right).max() / np.abs(right).max()) for right, those in ways for way in those]


def _zeros(shape: tuple[int, ...], dtype: np.dtype) -> Array:
    size = math.prod(shape) * dtype.itemsize
    if size > MOST_BYTES:
        tiny = "it is made of tiny layers only, and counted by `cost` for any"
        raise ValueError(f"a Jacobian of {' x '.join(map(str, shape))} numbers takes {size:,} bytes; {tiny}")
    return np.zeros(shape, dtype)


def _table(costs: Sequence[Cost], apart: Sequence[float] | None) -> str:
    heads = ["", "way", "largest array", "entries", "not 0", "FLOPs", "bytes"]
    rows = [
        [
            c.of,
            c.way,
            " x ".join(map(str, c.shape)),
            *(f"{n:,}" for n in (c.entries, c.filled, c.flops, c.bytes)),
        ]
        for c in costs
    ]
    if apart is not None:
        heads, rows = [*heads, "from the product"], [[*row, f"{far:.1e}"] for row, far in zip(rows, apart)]
    wide = [max(map(len, column)) for column in zip(heads, *rows)]
    sides = "<<<" + ">" * (len(heads) - 3)
    lines = [
        "  ".join(f"{cell:{side}{w}}" for cell, side, w in zip(row, sides, wide)) for row in [heads, *rows]
    ]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m mlp.jacobian`: a tiny layer with all of it made, then one of a usual size, counted."""
    asked = argparse.ArgumentParser(prog="python -m mlp.jacobian", description=(__doc__ or "").split("\n")[0])
    asked.add_argument("--arch", default="4-2", help="d_in-d_out of the layer that is made (4-2)")
    asked.add_argument("--batch", type=int, default=3, help="its examples (3)")
    asked.add_argument("--kernel", default="blas", help="who multiplies")
    told = asked.parse_args(arguments)
    try:
        shape = widths(told.arch)
        if len(shape) != 2:
            raise ValueError(f"arch {told.arch!r} has {len(shape)} widths; a layer has two, such as 4-2")
        (d_in, d_out), batch = shape, positive("batch", told.batch)
        rng = np.random.default_rng(0)
        x, w, dz = (rng.standard_normal(size) for size in ((batch, d_in), (d_in, d_out), (batch, d_out)))
        apart = disagreement(x, w, dz, told.kernel)
    except (ValueError, LookupError, RuntimeError) as mistake:
        asked.error(str(mistake))
    sys.stdout.write(f"X {batch} x {d_in}, W {d_in} x {d_out}, float64, all of it made by {told.kernel}:\n\n")
    sys.stdout.write(_table(cost(batch, d_in, d_out, "float64"), apart))
    sys.stdout.write("\nX 128 x 784, W 784 x 512, float32, counted:\n\n")
    sys.stdout.write(_table(cost(128, 784, 512), None))


if __name__ == "__main__":
    main()
