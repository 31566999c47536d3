"""Schedules: the learning rate of each epoch, as a factor of the optimizer's own.

    constant                       1
    step:every=10,gamma=0.1        gamma^(epoch // every)                  torch's StepLR
    exponential:gamma=0.95         gamma^epoch                             ExponentialLR
    linear:end=0                   from 1 to end over the training         LinearLR
    cosine:end=0                   end + (1 - end) (1 + cos pi t) / 2      CosineAnnealingLR

Epochs count from 0 here, as in PyTorch; t runs from 0 to 1 over all of them. Each takes `warmup=N` besides: in the
first N epochs the factor rises to it, by equal steps from 1 / (N + 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from mlp.mistakes import unknown

# (epoch from 0, epochs, settings) -> factor
Rule = Callable[[int, int, dict[str, float]], float]
# (epoch from 0, epochs) -> factor
Schedule = Callable[[int, int], float]


def _linear(epoch: int, epochs: int, s: dict[str, float]) -> float:
    return 1 + (s["end"] - 1) * epoch / epochs


def _cosine(epoch: int, epochs: int, s: dict[str, float]) -> float:
    return s["end"] + (1 - s["end"]) * (1 + math.cos(math.pi * epoch / epochs)) / 2


_RULES: dict[str, tuple[Rule, dict[str, float]]] = {
    "constant": (lambda epoch, epochs, s: 1.0, {}),
    "step": (lambda epoch, epochs, s: s["gamma"] ** (epoch // s["every"]), {"every": 10, "gamma": 0.1}),
    "exponential": (lambda epoch, epochs, s: s["gamma"] ** epoch, {"gamma": 0.95}),
    "linear": (_linear, {"end": 0.0}),
    "cosine": (_cosine, {"end": 0.0}),
}
SCHEDULES = tuple(_RULES)


def schedule(spec: str | Schedule) -> Schedule:
    """The schedule that is written so, or a function (epoch, epochs) -> factor of your own.

    Raises ValueError for an unknown name or setting (naming what there is) and for a number that cannot be one.
    """
    if not isinstance(spec, str):
        return spec
    name, _, given = spec.partition(":")
    if name not in _RULES:
        raise unknown("schedule", name, _RULES)
    rule, defaults = _RULES[name]
    settings = (
        {"warmup": 0.0}
        | defaults
        | dict(_entry(entry, name, defaults) for entry in given.split(",") if entry)
    )
    warmup = int(settings["warmup"])

    def factor(epoch: int, epochs: int) -> float:
        rising = min(1.0, (epoch + 1) / (warmup + 1))
        return rising * rule(epoch, epochs, settings)

    return factor


def _entry(entry: str, name: str, defaults: dict[str, float]) -> tuple[str, float]:
    setting, equals, text = (part.strip() for part in entry.partition("="))
    known = (*defaults, "warmup")
    if setting not in known:
        raise ValueError(f"schedule {name} has no setting {setting!r}; it has {', '.join(known)}")
    try:
        value: Any = float(text)
    except ValueError:
        value = math.nan
    whole = setting in ("warmup", "every")
    least = {"every": 1}.get(setting, 0)
    if not equals or not least <= value < math.inf or (whole and value != int(value)):
        kind = f"a whole number from {least}" if whole else "a number from 0"
        raise ValueError(f"schedule {name}: {setting} is {text!r}; it must be {kind}")
    return setting, value
