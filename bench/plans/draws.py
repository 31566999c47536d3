"""Draws: networks at random over the range that predictions are for, evenly spread or by a seed.

A calibration measures a set that fills the range evenly (a Sobol sequence, the same on every machine); evidence draws
networks that have nothing to do with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlp
from gemm.epilogue import ACTIVATIONS

if TYPE_CHECKING:
    import numpy as np

# Logarithmically even between these: the widths, but for that of the outputs, which are often few; and the batch.
WIDTHS, OUTPUTS, BATCHES = (16, 1024), (2, 1024), (8, 512)
DEPTHS = (1, 2, 3, 4)  # hidden layers
LOSSES = tuple(mlp.LOSSES)
OPTIMIZERS = tuple(mlp.OPTIMIZERS)
# of a draw: depth, batch, activation, loss, optimizer, the inputs, the outputs, hidden widths
DIMENSIONS = 7 + max(DEPTHS)


def spread(count: int) -> list[dict[str, Any]]:
    """So many networks that fill the range evenly: always the same ones."""
    from scipy.stats import qmc

    points = qmc.Sobol(DIMENSIONS, seed=0).random(1 << (count - 1).bit_length())
    return [network(point) for point in points[:count]]


def drawn(count: int, seed: int) -> list[dict[str, Any]]:
    """So many networks at random, all their widths from WIDTHS."""
    import numpy as np

    points = np.random.default_rng(seed).random((count, DIMENSIONS))
    return [network(point, outputs=WIDTHS) for point in points]


def network(point: np.ndarray, outputs: tuple[int, int] = OUTPUTS) -> dict[str, Any]:
    """A network, as `bench.plans.network` takes it, of a point of the unit cube (DIMENSIONS,)."""
    depth, batch, activation, loss, optimizer, first, last, *hidden = (float(x) for x in point)

    def one_of(choices: tuple[Any, ...], x: float) -> Any:
        return choices[int(x * len(choices))]

    layers = one_of(DEPTHS, depth)
    widths = [_between(WIDTHS, x) for x in (first, *hidden[:layers])]
    return {
        "arch": [*widths, _between(outputs, last)],
        "batch": _between(BATCHES, batch),
        "activation": one_of(tuple(ACTIVATIONS), activation),
        "loss": one_of(LOSSES, loss),
        "optimizer": one_of(OPTIMIZERS, optimizer),
    }


def _between(ends: tuple[int, int], x: float) -> int:
    low, high = ends
    return round(low * (high / low) ** x)
