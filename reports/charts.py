"""Figures: which charts a report has, what each should make its reader see, and their files for slides."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from reports import curves, factors, libraries, palette, svg, wording
from reports.against import against
from reports.against import seen as seen_against
from reports.canvas import PHONE, SETTINGS, SLIDE, WIDE, Canvas, standalone
from reports.climb import climb
from reports.cold import cold, pairs, seen
from reports.layers import layers
from reports.multiples import multiples
from reports.multiples import seen as seen_in_multiples
from reports.rates import rates
from reports.roofline import roofline, under_roofs
from reports.selection import Comparison, Ladder, Selection, Training, label, ladders
from reports.sentences import level
from reports.shapes import shapes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Chart:
    """A figure that can be drawn for any width.

    section  where on the page it belongs: rates, explored, libraries, ladder, step or learning
    name     of its file and of the ids in it; unique in a report
    title    what it shows
    caption  one sentence: what to see in it
    """

    section: str
    name: str
    title: str
    caption: str
    draw: Callable[[Canvas], Figure]


def charts(selections: Sequence[Selection], baseline: str | None = None) -> list[Chart]:
    """Every chart that the runs have the records for, in the order of the page."""
    found: list[Chart] = []
    for selection in selections:
        beside = f" – {selection.name}" if len(selections) > 1 else ""
        roofed: set[tuple[str, int]] = (
            set()
        )  # the comparison with most cells stands for others under the same roofs
        for comparison in selection.comparisons:
            where = comparison.name + beside
            if any(map(comparison.line, comparison.cells)):
                found.append(
                    Chart(
                        "rates",
                        "rates",
                        f"GFLOP/s against size: {where}",
                        _seen_in_rates(comparison),
                        partial(rates, comparison),
                    )
                )
            if any(comparison.at(at) for at in comparison.oblong):
                found.append(
                    Chart(
                        "rates",
                        "shapes",
                        f"GFLOP/s by shape: {where}",
                        "Each row is one shape, m × n × k; the further right, the faster.",
                        partial(shapes, comparison),
                    )
                )
            roofs = comparison.dtype, comparison.threads
            if roofs not in roofed and under_roofs(comparison):
                roofed.add(roofs)
                found.append(
                    Chart(
                        "rates",
                        "roofline",
                        f"The roofline: {where}",
                        "The flat roof is the multiply-add peak, the slanted ones are what each level of the memory "
                        "can feed; a point far below every roof is bound by its own instructions.",
                        partial(roofline, comparison),
                    )
                )
            for ladder in ladders(comparison, baseline):
                title = f"The speed-up ladder at {wording.shape(*ladder.shape)}: {where}"
                found.append(
                    Chart("ladder", "ladder", title, _seen_in_ladder(ladder), partial(climb, ladder))
                )
        for pair in pairs(selection.comparisons):
            title = f"Cold against hot: {pair.hot.name}{beside}"
            found.append(Chart("rates", "cold", title, seen(pair), partial(cold, pair)))
        if (explored := selection.explored) and explored.ranked():
            title = f"What affects the cost of {factors.base(explored)}{beside}"
            found.append(
                Chart(
                    "explored",
                    "explored",
                    title,
                    seen_in_multiples(explored),
                    partial(multiples, explored),
                )
            )
        if (best := selection.libraries) and best.totals:
            title = f"{libraries.title(best)}{beside}"
            found.append(Chart("libraries", "libraries", title, seen_against(best), partial(against, best)))
        for training in selection.trainings:
            title = f"{training.name}{beside}"
            found.append(
                Chart(
                    "step",
                    "step",
                    f"A training step by layer: {title}",
                    _seen_in_step(training),
                    partial(layers, training),
                )
            )
            found.append(
                Chart(
                    "step",
                    "shares",
                    f"Shares of a training step: {title}",
                    "Cool colours are matrix products, warm ones everything else: the faster the products, "
                    "the more the rest weighs.",
                    partial(layers, training, shares=True),
                )
            )
        for course in selection.courses:
            for name, kinds, draw, seen_in in (
                ("loss", curves.LOSSES, curves.losses, curves.seen_in_losses),
                ("accuracy", curves.ACCURACIES, curves.accuracies, curves.seen_in_accuracies),
            ):
                if course.has(kinds):
                    title = f"{name.capitalize()} against epochs and seconds: {course.name}{beside}"
                    found.append(Chart("learning", name, title, seen_in(course), partial(draw, course)))
    return _numbered(found)


def inline(chart: Chart, styles: Mapping[str, palette.Style], colour: svg.Variables) -> dict[str, str]:
    """The chart as <svg> elements, "wide" and "phone", coloured by CSS variables."""
    drawn = {}
    for form, width in (("wide", WIDE), ("phone", PHONE)):
        canvas = Canvas(width, colour, styles)
        figure = _drawn(chart, canvas)
        drawn[form] = svg.inline(figure, f"{chart.name}-{form}", chart.title, chart.caption, canvas.tips)
    return {form: colour.restore(text) for form, text in drawn.items()}


def write(charts: Iterable[Chart], styles: Mapping[str, palette.Style], folder: Path) -> list[Path]:
    """PNG (two pixels per unit) and SVG files of every chart, on white, each with its title."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for chart in charts:
        figure = _drawn(chart, Canvas(SLIDE, standalone(styles), styles, chart.title, pad=28))
        for ending in ("svg", "png"):
            paths.append(folder / f"{chart.name}.{ending}")
        paths[-2].write_text(svg.standalone(figure), encoding="utf-8")
        figure.savefig(paths[-1], dpi=144)
    return paths


def _drawn(chart: Chart, canvas: Canvas) -> Figure:
    import matplotlib

    with matplotlib.rc_context(SETTINGS):
        return chart.draw(canvas)


def _numbered(found: list[Chart]) -> list[Chart]:
    """rates, ladder, ladder-2: names that are unique."""
    seen: dict[str, int] = {}
    numbered = []
    for chart in found:
        seen[chart.name] = seen.get(chart.name, 0) + 1
        name = chart.name if seen[chart.name] == 1 else f"{chart.name}-{seen[chart.name]}"
        numbered.append(Chart(chart.section, name, chart.title, chart.caption, chart.draw))
    return numbered


def _seen_in_rates(comparison: Comparison) -> str:
    largest = next(n for n in reversed(comparison.sizes) if comparison.at((n, n, n)))
    there = comparison.at((largest, largest, largest))
    first = level(comparison, there)
    share = there[first[0]].share_of_peak.value
    reach = f", {wording.percent(share)} of the measured peak (dashed)" if math.isfinite(share) else ""
    lead = (
        f"{first[0]} is the fastest with"
        if len(first) == 1
        else f"{wording.listed(first)} cannot be told apart:"
    )
    return (
        f"At n = {largest} {lead} {wording.gflops(there[first[0]].rate.value)} GFLOP/s{reach}; "
        "both axes are logarithmic, shaded ticks are 95 % intervals."
    )


def _seen_in_ladder(ladder: Ladder) -> str:
    best = ladder.rungs[-1]
    hollow = (
        "; hollow bars are predictions, not measurements" if any(r.predicted for r in ladder.rungs) else ""
    )
    if not best.predicted and not ladder.differs(best):
        return f"Nothing here is faster than {ladder.baseline} by more than the noise{hollow}."
    return (
        f"From {ladder.baseline} to {best.kernel} is a factor of "
        f"{wording.factor(best.speedup.value).rstrip('×')}{wording.within(best.speedup)}{hollow}."
    )


def _seen_in_step(training: Training) -> str:
    slow, fast = training.profiles[0], training.profiles[-1]
    if slow is fast:
        return f"With {label(fast.result)} a step takes {wording.duration(fast.step)}."
    return (
        f"The same network, the same numbers: a step takes {wording.duration(slow.step)} with "
        f"{label(slow.result)} and {wording.duration(fast.step)} with {label(fast.result)}."
    )
