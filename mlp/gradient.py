"""Gradient checks: backpropagation held against differences of the loss.

Central differences, (L(w + eta) - L(w - eta)) / (2 eta), err by eta^2 |L'''| / 6 and by u |L| / eta, u being
2^-53: about 1e-10 for eta = 1e-5. So the model must be float64. A relu's kink within eta of some Z spoils an
entry; another seed moves it away.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np

from mlp.devices import host, write
from mlp.mistakes import positive
from mlp.model import MLP

Array = np.ndarray
ETA = 1e-5


def elementwise_error(
    model: MLP, x: Any, y: Any, entries: int | None = 64, eta: float = ETA, seed: int = 0
) -> float:
    """The largest relative error of single entries of the gradient.

    entries  how many entries of each parameter to try, drawn by `seed`; None for all

    Relative to the entry, or to the root mean square of its parameter's gradient where that is larger: an
    entry that is zero, or nearly, has no relative error of its own. NaN if any of it is. Raises ValueError for
    float32, and for an eta or a number of entries that cannot be one.
    """
    rng, errors = np.random.default_rng(seed), [0.0]
    loss = _loss(model, x, y, eta)
    if entries is not None:
        positive("entries", entries)
    for parameter, gradient in zip(model.parameters(), model.gradients(x, y)):
        flat, analytic = parameter.reshape(-1), host(gradient).reshape(-1)
        values = host(flat)
        size = np.sqrt(np.mean(analytic**2))
        count = flat.size if entries is None else min(entries, flat.size)
        for at in rng.choice(flat.size, count, replace=False):
            one, before = flat[at : at + 1], values[at]
            try:
                write(one, np.array([before + eta]))
                above = loss()
                write(one, np.array([before - eta]))
                numeric = (above - loss()) / (2 * eta)
            finally:
                write(one, np.array([before]))
            scale = max(abs(analytic[at]), abs(numeric), size)
            errors.append(abs(analytic[at] - numeric) / scale if scale else 0.0)
    return float(np.max(errors))  # NaN stays NaN


def directional_error(model: MLP, x: Any, y: Any, eta: float = ETA, seed: int = 0) -> float:
    """The relative error of the lecture's directional derivative.

    d/d-eta L(W_1 + eta DW_1, b_1 + eta Db_1, ...) at eta = 0, for one random direction of length 1, against
    the sum of gradient times direction: every parameter at once for two evaluations. Raises ValueError for
    float32, and for an eta that cannot be one.
    """
    rng, loss = np.random.default_rng(seed), _loss(model, x, y, eta)
    parameters, gradients = model.parameters(), [host(g) for g in model.gradients(x, y)]
    directions = [rng.standard_normal(p.shape) for p in parameters]
    length = np.sqrt(sum(np.sum(d**2) for d in directions))
    analytic = sum(float(np.sum(g * d)) for g, d in zip(gradients, directions)) / length
    before = [host(p).copy() for p in parameters]
    sides = []
    try:
        for sign in (1, -1):
            for p, start, d in zip(parameters, before, directions):
                write(p, start + sign * eta / length * d)
            sides.append(loss())
    finally:
        for p, start in zip(parameters, before):
            write(p, start)
    numeric = (sides[0] - sides[1]) / (2 * eta)
    scale = max(abs(analytic), abs(numeric))
    return float(abs(analytic - numeric) / scale) if scale else 0.0


def _loss(model: MLP, x: Any, y: Any, eta: float) -> Callable[[], float]:
    if model.dtype != np.float64:
        raise ValueError(f"a gradient check needs a network of float64, this one is {model.dtype}")
    if not isinstance(eta, Real) or not 0 < eta < math.inf:
        raise ValueError(f"eta is {eta!r}; it must be a positive number, such as {ETA}")
    return lambda: model.evaluate(x, y)
