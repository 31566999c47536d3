"""NumPy: the step as the lecture writes it, every result into an array that was made beforehand.

Parameters and gradients are views of one array each, so that the update is two calls whatever the depth; sums are the
ufuncs' own `reduce`, without np.sum's way there, and of columns a product with ones, which BLAS does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray


def make(
    model: dict[str, Any], weights: Sequence[Array], x: Array, y: Array, threads: int
) -> Callable[[], float]:
    """See bench.peers. The threads are the BLAS's, which the process was started with."""
    batch, dtype = len(x), x.dtype
    activate, derive = {"relu": RELU, "tanh": TANH, "sigmoid": SIGMOID}[model["activation"]]
    parameters, own = _together(weights)
    gradients, derivatives = _together(weights)
    ws, bs, dws, dbs = own[::2], own[1::2], derivatives[::2], derivatives[1::2]
    ys = [x, *(np.empty((batch, w.shape[1]), dtype) for w in ws)]
    dzs = [np.empty((batch, w.shape[1]), dtype) for w in ws]
    masks = [np.empty_like(dz) for dz in dzs]
    row, ones = np.empty((batch, 1), dtype), np.ones(batch, dtype)
    z, dz = ys[-1], dzs[-1]
    flat, labels = dz.reshape(-1), np.arange(batch) * dz.shape[1] + y
    share, rate, last = dtype.type(1 / batch), dtype.type(model["lr"]), len(ws) - 1

    def step() -> float:
        for l, (w, b) in enumerate(zip(ws, bs)):
            np.dot(ys[l], w, out=ys[l + 1])
            np.add(ys[l + 1], b, out=ys[l + 1])
            if l < last:
                activate(ys[l + 1], masks[l])
        np.maximum.reduce(z, axis=1, keepdims=True, out=row)
        np.subtract(z, row, out=dz)
        right = flat[labels]
        np.exp(dz, out=dz)
        np.add.reduce(dz, axis=1, keepdims=True, out=row)
        loss = float(np.add.reduce(np.log(row[:, 0]) - right)) / batch
        np.multiply(row, batch, out=row)
        np.divide(dz, row, out=dz)
        flat[labels] -= share
        for l in range(last, -1, -1):
            if l < last:
                derive(dzs[l], ys[l + 1], masks[l])
            np.dot(ones, dzs[l], out=dbs[l])
            if l:
                np.dot(dzs[l], ws[l].T, out=dzs[l - 1])
            np.dot(ys[l].T, dzs[l], out=dws[l])
        np.multiply(gradients, rate, out=gradients)
        np.subtract(parameters, gradients, out=parameters)
        return loss

    return step


def _together(arrays: Sequence[Array]) -> tuple[Array, list[Array]]:
    """Copies of the arrays as views of one, and that one."""
    whole = np.concatenate([array.reshape(-1) for array in arrays])
    ends = np.cumsum([array.size for array in arrays])
    return whole, [whole[end - array.size : end].reshape(array.shape) for array, end in zip(arrays, ends)]


def _relu(z: Array, mask: Array) -> None:
    np.maximum(z, 0, out=z)


def _relu_derived(dz: Array, y: Array, mask: Array) -> None:
    np.multiply(dz, np.greater(y, 0), out=dz)


def _tanh(z: Array, mask: Array) -> None:
    np.tanh(z, out=z)


def _tanh_derived(dz: Array, y: Array, mask: Array) -> None:
    np.multiply(y, y, out=mask)
    np.subtract(1, mask, out=mask)
    np.multiply(dz, mask, out=dz)


def _sigmoid(z: Array, mask: Array) -> None:
    np.negative(z, out=z)
    with np.errstate(over="ignore"):
        np.exp(z, out=z)
    np.add(z, 1, out=z)
    np.reciprocal(z, out=z)


def _sigmoid_derived(dz: Array, y: Array, mask: Array) -> None:
    np.subtract(1, y, out=mask)
    np.multiply(mask, y, out=mask)
    np.multiply(dz, mask, out=dz)


RELU, TANH, SIGMOID = (_relu, _relu_derived), (_tanh, _tanh_derived), (_sigmoid, _sigmoid_derived)
