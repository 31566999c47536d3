"""NumPy: the step as the lecture writes it, every result into an array that was made beforehand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray


def make(
    model: dict[str, Any], weights: Sequence[Array], x: Array, y: Array, threads: int
) -> Callable[[], float]:
    """See bench.peers. The threads are the BLAS's, which the process was started with."""
    ws, bs, lr = weights[::2], weights[1::2], model["lr"]
    batch, dtype = len(x), x.dtype
    activate, derive = {"relu": RELU, "tanh": TANH, "sigmoid": SIGMOID}[model["activation"]]
    ys = [x, *(np.empty((batch, w.shape[1]), dtype) for w in ws)]
    dzs = [np.empty((batch, w.shape[1]), dtype) for w in ws]
    dws, dbs = [np.empty_like(w) for w in ws], [np.empty_like(b) for b in bs]
    masks = [np.empty_like(dz) for dz in dzs]
    row, rows, at_label = np.empty((batch, 1), dtype), np.arange(batch), np.empty(batch, dtype)
    last = len(ws) - 1
    rate = dtype.type(lr)

    def step() -> float:
        for l, (w, b) in enumerate(zip(ws, bs)):
            z = np.dot(ys[l], w, out=ys[l + 1])
            z += b
            if l < last:
                activate(z, masks[l])
        z, dz = ys[-1], dzs[-1]
        np.max(z, axis=1, keepdims=True, out=row)
        np.subtract(z, row, out=dz)
        at_label[...] = dz[rows, y]
        np.exp(dz, out=dz)
        np.sum(dz, axis=1, keepdims=True, out=row)
        loss = float((np.log(row[:, 0]) - at_label).mean())
        np.multiply(row, batch, out=row)
        np.divide(dz, row, out=dz)
        dz[rows, y] -= dtype.type(1 / batch)
        for l in range(last, -1, -1):
            dz = dzs[l]
            if l < last:
                derive(dz, ys[l + 1], masks[l])
            np.sum(dz, axis=0, out=dbs[l])
            if l:
                np.dot(dz, ws[l].T, out=dzs[l - 1])
            np.dot(ys[l].T, dz, out=dws[l])
            for parameter, gradient in ((ws[l], dws[l]), (bs[l], dbs[l])):
                np.multiply(gradient, rate, out=gradient)
                np.subtract(parameter, gradient, out=parameter)
        return loss

    return step


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
