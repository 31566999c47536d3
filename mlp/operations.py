"""Operations: what a training step consists of, as a static list, before anything is run.

    kind        phase                shape          what it does
    Z           forward              rows x d_out   Z = X W                  (a product)
    bias        forward              rows x d_out   Z <- Z + b
    activation  forward or backward  rows x d_out   Y = f(Z); dZ = dY * f'   (the latter's id ends in ')
    loss        forward              batch x d_out  the loss, and dZ of the last layer
    dX          backward             rows x d_in    dX = dZ W^T              (a product)
    dW          backward             d_in x d_out   dW = X^T dZ              (a product)
    db          backward             d_out          db = column sums of dZ
    update      update               d_in x d_out   W and b, by the optimizer

The rows are the batch's examples, but for a convolution, which has one for every place, and a recurrent layer, for
every step of a sequence. What these have besides:

    im2col      forward              rows x d_in    what the window sees at every place (mlp.layers.convolution)
    col2im      backward             batch x inputs the same back, into dX
    transpose   forward              rows x d_in    sequences step by step (mlp.layers.recurrent)
    H           forward              batch x d_out  H_t = f(Z_t + H_{t-1} U), all steps but the first   (products)
    dH          backward             batch x d_out  dH_{t-1} += dZ_t U^T, all steps but the first       (products)
    dU          backward             d_out x d_out  dU = sum of H_{t-1}^T dZ_t                          (a product)

A kernel that can do more than multiply takes its neighbours in, and the fused operation is one row that names its
parts: Z with bias and activation, dX with the activation's derivative of the layer below, dW with the update of W
(and then db with that of b). On a GPU, where a kernel cannot take them in, bias and activation are one row: one pass
over Z.

FLOPs are 2 m n k for a product and a count per element for the rest (a comparison, an exp, a log are one
each). Bytes are the compulsory traffic: every operand read once, every result written once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mlp.assignment import Assignment

# The products, and in which order their operands lie: as they are (n), or transposed views (t).
ORDERS = {"Z": "nn", "dW": "tn", "dX": "nt", "H": "nn", "dU": "tn", "dH": "nt"}
PRODUCTS = tuple(ORDERS)
KINDS = (*PRODUCTS, "bias", "activation", "loss", "db", "update", "im2col", "col2im", "transpose")
PHASES = ("forward", "backward", "update")


@dataclass(frozen=True)
class Operation:
    """One row of a step.

    id       unique in the step: "1.Z", "1.bias", "1.activation", "loss", "2.dX", "1.activation'", "1.dW",
             "1.db", "1.update"
    layer    from 1, as in the lecture; 0 for the loss
    op       one of KINDS
    phase    one of PHASES
    parts    the kinds that it does: (op,), or more where operations have been fused; activation' is the derivative
    shape    of the result
    flops    floating-point operations
    bytes    compulsory memory traffic
    kernel   name of the kernel, and m, n, k as in BLAS; None unless it is a product
    times    how many such products the row stands for, one after the other; flops and bytes are of all
    """

    id: str
    layer: int
    op: str
    phase: str
    parts: tuple[str, ...]
    shape: tuple[int, ...]
    flops: int
    bytes: int
    kernel: str | None = None
    m: int | None = None
    n: int | None = None
    k: int | None = None
    times: int = 1

    @property
    def order(self) -> str:
        """Of a product's operands: nn, nt or tn."""
        return ORDERS[self.op]


def arithmetic(m: int, n: int, k: int, dtype: np.dtype) -> tuple[int, int]:
    """FLOPs and bytes of a product."""
    return 2 * m * n * k, dtype.itemsize * (m * k + k * n + m * n)


def product(
    layer: int, op: str, phase: str, kernels: Assignment, m: int, n: int, k: int, dtype: np.dtype
) -> Operation:
    """The operation C (m x n) = A (m x k) B (k x n), by the kernel that is assigned to it."""
    flops, traffic = arithmetic(m, n, k, dtype)
    kernel = kernels.choose(layer, op, m, n, k, dtype).name
    return Operation(f"{layer}.{op}", layer, op, phase, (op,), (m, n), flops, traffic, kernel, m, n, k)


def fused(whole: Operation, *others: Operation, traffic: int) -> Operation:
    """One operation that does what `others` do besides; traffic: bytes in addition to its own."""
    parts = (*whole.parts, *(other.id.split(".")[-1] for other in others))
    flops = whole.flops + sum(other.flops for other in others)
    return replace(whole, parts=parts, flops=flops, bytes=whole.bytes + traffic)


def elementwise(
    layer: int, op: str, phase: str, shape: tuple[int, ...], flops: int, traffic: int
) -> Operation:
    """Any operation that is not a product."""
    name = f"{layer}.{op}" if layer else op
    if (op, phase) == ("activation", "backward"):
        name += "'"  # f', beside the forward pass's f
    return Operation(name, layer, op, phase, (op,), shape, flops, traffic)
