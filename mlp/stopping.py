"""Early stopping: a training ends when it has stopped getting better, with the weights of its best epoch.

Prechelt, Early Stopping - But When? (1998). What is watched is the loss (or the accuracy) of examples that are held
out for validation; without any it is the training loss, which tells when learning is over but not when it overfits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from numbers import Real
from typing import Any

import numpy as np

from mlp.devices import write
from mlp.mistakes import positive, unknown

Array = np.ndarray
WATCHED = ("loss", "accuracy")


@dataclass(frozen=True)
class EarlyStopping:
    """When to stop.

    patience   epochs in a row that may bring nothing
    min_delta  what an epoch must gain over the last one that brought something, to bring something itself
    on         "loss" (of the validation part; of training where there is none) or "accuracy" (of the former)

    Raises ValueError for what cannot be.
    """

    patience: int = 10
    min_delta: float = 0.0
    on: str = "loss"

    def __post_init__(self) -> None:
        positive("patience", self.patience)
        if isinstance(self.min_delta, bool) or not isinstance(self.min_delta, Real):
            raise ValueError(f"min_delta is {self.min_delta!r}; it must be a number from 0")
        if not 0 <= self.min_delta < math.inf:
            raise ValueError(f"min_delta is {self.min_delta!r}; it must be a number from 0")
        if self.on not in WATCHED:
            raise unknown("measure for early stopping", self.on, WATCHED)


@dataclass
class Watch:
    """How far a training has come: what a checkpoint must hold for the same end after a break.

    best_epoch, best  the epoch with the best score so far, and that score; 0 and None before the first
    gained            the score of the last epoch that gained more than min_delta
    waited            epochs since then
    weights           copies of the parameters after the best epoch
    """

    stopping: EarlyStopping
    best_epoch: int = 0
    best: float | None = None
    gained: float | None = None
    waited: int = 0
    weights: list[Array] = field(default_factory=list)

    @property
    def over(self) -> bool:
        return self.waited >= self.stopping.patience

    def see(self, epoch: int, score: float, parameters: Sequence[Array]) -> None:
        """An epoch has ended with this score (a loss, or an accuracy) and these weights."""
        if self._gain(score, self.best) > 0:
            self.best_epoch, self.best = epoch, score
            for kept, parameter in zip(self.weights, parameters):
                write(kept, parameter)
        if self._gain(score, self.gained) > self.stopping.min_delta:
            self.gained, self.waited = score, 0
        else:
            self.waited += 1

    def _gain(self, score: float, before: float | None) -> float:
        """By how much `score` is better; what is not finite is never better."""
        if not math.isfinite(score):
            return -math.inf
        if before is None:
            return math.inf
        return score - before if self.stopping.on == "accuracy" else before - score

    def state(self) -> dict[str, Any]:
        """All but the weights, as JSON values."""
        kept = ("best_epoch", "best", "gained", "waited")
        return {name: value for name, value in vars(self).items() if name in kept}

    def restore(self, state: dict[str, Any]) -> None:
        """Be as another was when it gave `state`."""
        for name, value in state.items():
            setattr(self, name, value)


def described(stopping: EarlyStopping | None) -> dict[str, Any] | None:
    """As JSON values."""
    return asdict(stopping) if stopping else None
