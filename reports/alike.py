"""Alike: sentences that differ in their figures alone, told once, each figure from its least to its largest."""

from __future__ import annotations

import re
from collections.abc import Sequence

# A figure, with its unit: 3.1 %, 12 µs, 1,240
FIGURE = re.compile(r"\d[\d,]*(?:\.\d+)?(?: (?:%|(?:ns|us|µs|ms|s|min|h)\b))?")
UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "min": 60.0, "h": 3600.0}


def template(sentence: str) -> str:
    """The same for sentences that are alike."""
    return FIGURE.sub("#", sentence)


def together(sentences: Sequence[str]) -> str:
    """One sentence for several that are alike: it waited 3.1–8.2 % of the time."""
    columns = iter(zip(*(FIGURE.findall(sentence) for sentence in sentences)))
    return FIGURE.sub(lambda _: _span(next(columns)), sentences[0])


def _span(figures: Sequence[str]) -> str:
    low, high = min(figures, key=_value), max(figures, key=_value)
    if _value(low) == _value(high):
        return low
    number, _, unit = low.partition(" ")
    return f"{number if high.partition(' ')[2] == unit else low}–{high}"


def _value(figure: str) -> float:
    number, _, unit = figure.partition(" ")
    return float(number.replace(",", "")) * UNITS.get(unit, 1.0)
