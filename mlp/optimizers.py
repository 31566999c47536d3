"""Optimizers: how a gradient changes the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

import numpy as np

from mlp.mistakes import unknown
from mlp.operations import Operation, elementwise

Array = np.ndarray


@dataclass
class SGD:
    """W <- W - lr dW. `lr` is read at each step, so it may be changed between steps."""

    lr: float
    name: ClassVar[str] = "sgd"

    def operation(self, layer: int, parameters: Sequence[Array]) -> Operation:
        """The update of a layer as a row of the step; its shape is the weight's, its cost counts the bias."""
        count = sum(p.size for p in parameters)
        shape, traffic = parameters[0].shape, 3 * count * parameters[0].itemsize
        return elementwise(layer, "update", "update", shape, 2 * count, traffic)

    def bind(self, parameters: Sequence[Array], gradients: Sequence[Array]) -> Callable[[], None]:
        """A call that updates the parameters in place. It uses the gradients up: they end as lr dW, which
        saves a temporary as large as the weights (and, measured, a quarter of the time)."""
        pairs = list(zip(parameters, gradients))

        def call() -> None:
            for p, dp in pairs:
                np.multiply(dp, self.lr, dp)
                np.subtract(p, dp, p)

        return call


OPTIMIZERS = {each.name: each for each in (SGD,)}


def optimizer(name: str, lr: float) -> SGD:
    """The optimizer of that name; ValueError names the nearest spelling, or an lr that is not positive."""
    if name not in OPTIMIZERS:
        raise unknown("optimizer", name, OPTIMIZERS)
    if not isinstance(lr, Real) or not 0 < lr < math.inf:
        raise ValueError(f"lr is {lr!r}; the learning rate must be a positive number, such as 0.1")
    return OPTIMIZERS[name](float(lr))
