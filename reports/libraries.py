"""Libraries: a kernel against the best of several, in words: tables, what was left out, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.verdicts.best import Best, Group, Setting, Shape
from bench.verdicts.compare import SAME, UNKNOWN
from reports import alike, verdicts, wording
from reports.tables import add_row, new_table, titled

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ("shapes", "ratio", "interval", "least", "% peak", "best's", "allows", "new is")
FAVOURED = (
    "At each shape the best is chosen by the times that it is then judged by: that favours the libraries. What the "
    "ceilings allow is the best's time over what arithmetic or memory alone would need, never less than was reached."
)


def show(best: Best) -> None:
    """Print it; plain text where there is no terminal."""
    from rich.console import Console

    console = Console()
    for setting in best.settings:
        console.print(titled(f"{title(best)}: {named(setting)}", _means(best, setting), _each(best, setting)))
    for line in (*left_out(best), *doubts(best), *sentences(best), *warning(best)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def title(best: Best) -> str:
    """numba-micro against the best of cblas:openblas and cblas:mkl."""
    return f"{best.new} against {peers(best)}"


def peers(best: Best) -> str:
    several = "the best of " if len(best.peers) > 1 else ""
    return several + wording.listed(best.peers)


def named(setting: Setting) -> str:
    """float32, 1 thread."""
    dtype, threads, cache = setting
    cold = [f"{cache} cache"] if cache != "hot" else []
    return ", ".join([dtype, wording.threads(threads), *cold])


def rows(best: Best, setting: Setting) -> list[Group]:
    """The groups of one setting, and all its shapes where there are several."""
    own, total = (
        [group for group in groups if group.setting == setting] for groups in (best.groups, best.totals)
    )
    return own + total if len(own) > 1 else own


def figures(group: Group) -> tuple[str, ...]:
    """The columns COLUMNS."""
    mean = group.mean
    bounds = verdicts.bounds(mean.ratio)
    return (
        str(mean.cells),
        verdicts.factor(mean.ratio.value),
        bounds or wording.NOTHING,
        verdicts.factor(group.worst.pair.ratio.value),
        wording.share(group.share),
        wording.share(group.best_share),
        verdicts.factor(group.allows) if math.isfinite(group.allows) else wording.NOTHING,
        mean.verdict,
    )


def kernels(best: Best) -> list[str]:
    """The columns of `each`: the peers, and the other libraries."""
    return [*best.peers, *best.beside]


def each(best: Best, group: Group) -> tuple[str, ...]:
    """The speed-up over every library alone; nothing where one has no time for some shape of the group."""
    ratios = [group.ratios.get(kernel) for kernel in kernels(best)]
    return tuple(verdicts.factor(ratio.value) if ratio else wording.NOTHING for ratio in ratios)


def sentences(best: Best) -> list[str]:
    """What came of it, for each setting: float32, 1 thread: numba-micro is faster than the best of ..."""
    return [_sentence(best, total) for total in best.totals] or [
        f"Of no shape do {best.new} and all of {wording.listed(best.peers)} have a time."
    ]


def warning(best: Best) -> list[str]:
    """Why the figures do not count; [] if they do."""
    absent = [f"{peer} is missing ({why})" for peer, why in best.missing.items()]
    broken = sum(shape.pair.broken for shape in best.shapes)
    if broken:
        absent.append(f"{best.new} is broken at {wording.plural(broken, 'shape')} where the best is right")
    return [f"These figures do not count: {'; '.join(absent)}."] if absent else []


def left_out(best: Best) -> list[str]:
    """Shapes that are in no mean, alike reasons together."""
    return [
        f"left out: {where}: {why}"
        for where, why in _told([(shape, shape.pair.reason) for shape in best.shapes if not shape.compared])
    ]


def doubts(best: Best) -> list[str]:
    """What spoils a time: the first doubt of each shape, alike ones together."""
    first = [(shape, shape.pair.doubts[0]) for shape in best.shapes if shape.compared and shape.pair.doubts]
    return [f"{where}: {why}" for where, why in _told(first)]


def least(shape: Shape) -> str:
    """0.912× (0.890–0.934) at 2048 × 1 × 2048 against cblas:mkl."""
    ratio = shape.pair.ratio
    return f"{verdicts.factor(ratio.value)}×{verdicts.bracketed(ratio)} at {at(shape)} against {shape.best}"


def at(shape: Shape) -> str:
    """n = 64, or 784 × 512 × 32 tn: what the setting does not say."""
    return verdicts.place(shape.pair, [part for part in verdicts.SETTING if part is not verdicts.odd])


def _sentence(best: Best, total: Group) -> str:
    mean, ratio = total.mean, total.mean.ratio
    over = f" in the geometric mean of {mean.cells} shapes" if mean.cells > 1 else ""
    floor = f", floor {verdicts.floor(mean.floor)}" if math.isfinite(mean.floor) else ""
    figure = f"{verdicts.factor(ratio.value)}×{verdicts.bracketed(ratio)}{over}{floor}"
    if mean.verdict == UNKNOWN:
        said = f"whether {best.new} is faster or slower than {peers(best)} cannot be said: {figure} ({mean.reason})"
    elif mean.verdict == SAME:
        said = f"{best.new} and {peers(best)} are the same: {figure}"
    else:
        said = f"{best.new} is {mean.verdict} than {peers(best)}: {figure}"
    allowed = (
        f"; the ceilings would allow {verdicts.factor(total.allows)}×" if math.isfinite(total.allows) else ""
    )
    worst = f"; the least is {least(total.worst)}" if mean.cells > 1 else ""
    return f"{named(total.setting)}: {said}{allowed}{worst}."


def _told(members: Sequence[tuple[Shape, str | None]]) -> list[tuple[str, str]]:
    """(where, why): shapes of which the same is to be said, but for figures, together."""
    told: dict[str, list[tuple[str, str]]] = {}
    for shape, why in members:
        if why:
            place = f"{at(shape)}, {named(shape.setting)}"
            told.setdefault(alike.template(why), []).append((place, why))
    return [
        (verdicts.some([place for place, _ in own]), alike.together([why for _, why in own]))
        for own in told.values()
    ]


def _means(best: Best, setting: Setting) -> Table:
    made = new_table("group", *COLUMNS, gap=1)
    for group in rows(best, setting):
        add_row(made, group.name, *figures(group))
    return made


def _each(best: Best, setting: Setting) -> Table:
    made = new_table("ratio to", *kernels(best), gap=2)
    for group in rows(best, setting):
        add_row(made, group.name, *each(best, group))
    return made
