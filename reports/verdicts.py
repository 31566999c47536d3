"""Verdicts: a comparison in the terminal, cell by cell, and what came of it in a sentence for each kernel."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from bench.verdicts.compare import SAME, SLOWER, UNKNOWN, Comparison, Mean, Pair
from bench.verdicts.statistics import Interval
from reports import wording
from reports.selection import PLAIN
from reports.tables import add_row, new_table, titled

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

COLUMNS = ("base", "new", "speed-up", "95 % interval", "floor", "new is")


def show(comparison: Comparison) -> None:
    """Print a comparison; plain text where there is no terminal."""
    from rich.console import Console

    console = Console()
    for warning in comparison.warnings:
        console.print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True)
    console.print(table(comparison))
    for line in (*remarks(comparison), *sentences(comparison)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def table(comparison: Comparison) -> Group:
    """A row for each cell, and the geometric mean of each kernel that has several; what all share is in the title."""
    shared = _shared(comparison)
    setting = [text for part in shared if (text := part(comparison.pairs[0]))]
    title = ", ".join([f"new: {new(comparison)}", f"base: {base(comparison)}", *setting])
    title += f"; times are over those of {comparison.reference}" if comparison.reference else ""
    parts: list[str | Table] = []
    for kernel in dict.fromkeys(pair.kernel for pair in comparison.pairs):
        parts += [kernel] if comparison.form != "kernels" else []
        own = [pair for pair in comparison.pairs if pair.kernel == kernel]
        parts.append(_rows(own, [mean for mean in comparison.means if mean.kernel == kernel], shared))
    return titled(title, *parts)


def _shared(comparison: Comparison) -> list[Part]:
    """What is the same for all cells."""
    return [part for part in SETTING if len({part(pair) for pair in comparison.pairs}) == 1]


def remarks(comparison: Comparison) -> list[str]:
    """Why nothing can be said, and what spoils a time: the first doubt of each cell, alike ones together."""
    shared = _shared(comparison)
    told: dict[str, list[str]] = {}
    for pair in comparison.pairs:
        prefix = "" if comparison.form == "kernels" else f"{pair.kernel}, "
        for text in (pair.verdict == UNKNOWN and pair.reason, pair.doubts and pair.doubts[0]):
            if text:
                told.setdefault(text, []).append(prefix + place(pair, shared))
    return [f"{some(where)}: {text}" for text, where in told.items()]


def sentences(comparison: Comparison) -> list[str]:
    """What came of it: numba-blocked is slower than blas: 1.83x (1.62-2.07), floor 1.3 %."""
    if not comparison.means:
        return [
            f"Whether anything is faster or slower in {new(comparison)} than in {base(comparison)} cannot be said."
        ]
    return [_sentence(comparison, mean) for mean in comparison.means]


def some(places: list[str]) -> str:
    """The first two of many."""
    rest = f" and {len(places) - 2} more" if len(places) > 3 else ""
    return "; ".join(places[:2] if rest else places) + rest


def _sentence(comparison: Comparison, mean: Mean) -> str:
    if comparison.form == "kernels":
        one, other, versus = comparison.new, f" and {comparison.base}", f"than {comparison.base}"
    else:
        where = {"runs": "in", "revisions": "at"}[comparison.form]
        one, other = mean.kernel, f" in {new(comparison)} and {where} {base(comparison)}"
        versus = f"in {new(comparison)} than {where} {base(comparison)}"
    ratio = mean.ratio if mean.verdict != SLOWER else _inverse(mean.ratio)
    figures = f"{factor(ratio.value)}×{bracketed(ratio)}"
    if mean.cells > 1:
        figures += f" in the geometric mean of {mean.cells} cells"
    figures += f", floor {floor(mean.floor)}" if math.isfinite(mean.floor) else ""
    if mean.verdict == UNKNOWN:
        return f"Whether {one} is faster or slower {versus} cannot be said: {figures}; {mean.reason}."
    if mean.verdict == SAME:
        furthest = max(1 / ratio.low, ratio.high) - 1
        return f"{one}{other}: the same within {wording.percent(furthest)}, {figures}."
    return f"{one} is {mean.verdict} {versus}: {figures}."


def new(comparison: Comparison) -> str:
    return "the working tree" if comparison.form == "revisions" else comparison.new


def base(comparison: Comparison) -> str:
    return comparison.base[:12] if comparison.form == "revisions" else comparison.base


def place(pair: Pair, shared: Sequence[Part] = ()) -> str:
    """n = 256, float32, cold, 2 threads: what is plain is left out, and what is `shared`."""
    texts = [part(pair) for part in (_size, *SETTING) if part not in shared]
    return ", ".join(text for text in texts if text)


def _size(pair: Pair) -> str:
    if pair.model:
        return wording.architecture(pair.model | {"dtype": None})
    return wording.shape(*(pair.problem[axis] for axis in "mnk"))


def _dtype(pair: Pair) -> str:
    return str((pair.problem or pair.model)["dtype"])


def odd(pair: Pair) -> str:
    """Order, alpha, beta, data, batch, ... where they are not the plain ones."""
    order = f"{pair.problem.get('op_a') or 'n'}{pair.problem.get('op_b') or 'n'}"
    odd = [
        (key, value)
        for key, value in pair.problem.items()
        if key in PLAIN and not key.startswith("op_") and value != PLAIN[key]
    ]
    texts = [value if isinstance(value, str) else f"{key} {value:g}" for key, value in odd]
    return " ".join(([order] if order != "nn" else []) + texts)


def _cache(pair: Pair) -> str:
    return "" if pair.cache == "hot" else pair.cache


def _threads(pair: Pair) -> str:
    return wording.threads(pair.threads)


Part = Callable[[Pair], str]
SETTING: tuple[Part, ...] = (_dtype, odd, _cache, _threads)


def factor(value: float) -> str:
    """Near 1 three decimals: 1.004 is not 1.00."""
    return f"{value:.3f}" if 0.1 <= value < 10 else wording.digits(value)


def _rows(pairs: Sequence[Pair], means: Sequence[Mean], shared: Sequence[Part]) -> Table:
    made = new_table("cell", *COLUMNS)
    made.columns[0].min_width = len("geom. mean")
    for pair in pairs:
        times = (wording.duration(pair.base.value), wording.duration(pair.new.value))
        ratio = _ratio(pair.ratio, pair.floor, pair.verdict or "(reference)")
        add_row(made, place(pair, shared), *times, *ratio)
    several = [mean for mean in means if mean.cells > 1]
    if several:
        made.add_section()
    for mean in several:
        add_row(made, "geom. mean", "", "", *_ratio(mean.ratio, mean.floor, mean.verdict))
    return made


def _ratio(ratio: Interval, noise: float, verdict: str) -> tuple[str, ...]:
    value = factor(ratio.value) if math.isfinite(ratio.value) else wording.NOTHING
    return value, bounds(ratio), floor(noise), verdict


def floor(value: float) -> str:
    return wording.percent(value) if not value > 1 else "> 100 %"


def bounds(ratio: Interval) -> str:
    """0.986–1.012, or nothing where there is no interval."""
    if not math.isfinite(ratio.low) or not math.isfinite(ratio.high):
        return ""
    return f"{factor(ratio.low)}–{factor(ratio.high)}"


def bracketed(ratio: Interval) -> str:
    """The same in brackets, after a blank."""
    return f" ({bounds(ratio)})" if bounds(ratio) else ""


def _inverse(ratio: Interval) -> Interval:
    return Interval(1 / ratio.value, 1 / ratio.high, 1 / ratio.low, ratio.n)
