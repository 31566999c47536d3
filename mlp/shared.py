"""Shared memory: the plans of one model work in the same buffers, one plan at a time.

A training has a plan for its batch, one for the smaller last batch, and an evaluation may need more. None of them
expects to find in its activations what it left there, so the n-th array of every plan lies in the same n-th block: a
model has one set of activations, that of the largest batch.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from math import prod
from typing import Any

import numpy as np

from mlp import aligned

Array = np.ndarray
# (shape, dtype) -> an array of any content, as np.empty makes it
Empty = Callable[[tuple[int, ...], Any], Array]


class Shared:
    """The blocks. A plan that needs larger ones gets new ones; plans made before keep theirs."""

    def __init__(self, make: Empty = aligned.empty) -> None:
        """make: makes the blocks."""
        self._make = make
        self._blocks: list[Array] = []

    def allocator(self) -> Empty:
        """What a plan takes in the place of np.empty; it must ask in the same order as every other."""
        turn = count()

        def empty(shape: tuple[int, ...], dtype: Any) -> Array:
            at, needed = next(turn), prod(shape) * np.dtype(dtype).itemsize
            if at == len(self._blocks):
                self._blocks.append(self._make((needed,), np.uint8))
            elif self._blocks[at].nbytes < needed:
                self._blocks[at] = self._make((needed,), np.uint8)
            return self._blocks[at][:needed].view(dtype).reshape(shape)

        return empty
