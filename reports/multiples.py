"""Multiples: what each factor does to the cost of a network, a small panel for each.

A factor of numbers is a curve of the time per example, one of names a row for each; all curves share an axis of time,
and so do all rows. Under a curve, and at the end of a row, stands what share of the step is matrix products. The base
is ringed, and its time is the dashed line.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bench.plans.factors import NUMBERS
from bench.verdicts.exploration import Exploration, Factor, Turn, Variant, turn
from reports import factors, wording
from reports.canvas import BOLD, SMALL, Canvas, extent, flow, log_ticks, widest
from reports.selection import label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GAP = 36.0  # between columns, px
TITLE, PLOT, TICKS, STRIP, NUMBERED = 30.0, 150.0, 24.0, 22.0, 20.0  # heights of the parts of a curve's panel
BELOW = 30.0
ROW = 25.0
BAR = 30.0  # of a row's share of products
KEYS = ("an example, with its 95 % interval", "the base", "in matrix products", "everything else")


def seen(found: Exploration) -> str:
    """One sentence: what to see."""
    first = found.ranked()[0]
    predicted = any(variant.predicted for factor in found.factors for variant in factor.variants)
    hollow = "; hollow marks are predictions, not measurements" if predicted else ""
    return (
        "Time per example, logarithmic, on one axis for all curves and one for all rows: the steeper or longer, the "
        f"more it matters ({first.name} most); the bars are the share of the step in matrix products, "
        f"with whatever is fused into them{hollow}."
    )


def multiples(found: Exploration, canvas: Canvas) -> Figure:
    """Curves first, in columns of equal width; then rows, in columns of about equal height."""
    shown = [factor for factor in found.factors if len(factor.measured) > 1]
    curves = [factor for factor in shown if factor.name in NUMBERS]
    rows = [factor for factor in shown if factor.name not in NUMBERS]
    columns = 1 if canvas.narrow else 2
    margin = 6.0 if canvas.narrow else 12.0
    width = (canvas.inner - 2 * margin - GAP * (columns - 1)) / columns
    keys = flow(KEYS, canvas.inner - 8)
    top = 20.0 * len(keys) + 18
    curve = TITLE + PLOT + TICKS + STRIP + NUMBERED + BELOW
    places = [(factor, at % columns, curve * (at // columns)) for at, factor in enumerate(curves)]
    start = curve * math.ceil(len(curves) / columns)
    ends = [start] * columns
    for factor in sorted(rows, key=lambda factor: -len(factor.variants)):
        column = min(range(columns), key=ends.__getitem__)
        places.append((factor, column, ends[column]))
        ends[column] += TITLE + ROW * len(factor.variants) + TICKS + BELOW
    height = max(ends)
    figure, sheet = canvas.frame(margin, top, margin, 4, height)
    sheet.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, 1))
    sheet.spines["bottom"].set_visible(False)
    _keys(sheet, canvas, found, keys, top)
    times, spans = _times(found, curves), _times(found, rows)
    for factor, column, y in places:
        x = column * (width + GAP)
        canvas.text(sheet, x, y + 8, factors.title(factor), weight="bold")
        if factor in curves:
            _curve(figure, sheet, canvas, found, factor, (x, y + TITLE, width), times)
        else:
            _rows(figure, sheet, canvas, found, factor, (x, y + TITLE, width), spans, rows)
    return figure


def _times(found: Exploration, shown: Sequence[Factor]) -> tuple[float, float]:
    """The ends of an axis that holds every time per example of some factors."""
    own = [variant.example for factor in shown for variant in factor.measured]
    if not own:
        return 0.1, 10.0
    ends = [end for one in own for end in (one.low, one.value, one.high) if math.isfinite(end)]
    middles = [one.value for one in own]
    # an interval of hardly any launches may be as wide as the figure: it is cut
    least, most = max(min(ends), min(middles) / 3), min(max(ends), max(middles) * 3)
    return least / 1.25, most * 1.25


def _duration(seconds: float) -> str:
    """A tick: 10 µs."""
    return wording.duration(seconds).replace(".00", "").replace(".0 ", " ")


def _curve(
    figure: Figure, sheet: Axes, canvas: Canvas, found: Exploration, factor: Factor,
    at: tuple[float, float, float], times: tuple[float, float],
) -> None:  # fmt: skip
    """Time per example against a number; below it the share of products."""
    x, y, width = at
    left = 54.0
    axes = canvas.panel(figure, sheet, x + left, y, width - left, PLOT)
    logarithmic = all(variant.value > 0 for variant in factor.variants)
    where = {id(v): math.log2(v.value) if logarithmic else float(v.value) for v in factor.variants}
    low, high = min(where.values()), max(where.values())
    room = (high - low) * 0.07 or 0.5
    axes.set(yscale="log", ylim=times, xlim=(low - room, high + room))
    axes.grid(True, axis="y", color=canvas.colour("grid"), linewidth=1)
    ticks = log_ticks(*times)
    axes.set_yticks(ticks, [_duration(tick) for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.set_xticks([])
    unit = (width - left) / (high - low + 2 * room)
    places = {key: (value - low + room) * unit for key, value in where.items()}
    axes.axhline(found.base.example.value, color=canvas.colour("muted"), linewidth=1.2, dashes=(4, 3))
    colour = canvas.kernel(label(found.base.result))
    timed = factor.measured
    line = [(where[id(variant)], variant.example.value) for variant in timed]
    axes.plot(*zip(*line), color=colour, linewidth=1.6)
    for variant in timed:
        _point(
            axes, canvas, factor, variant, (where[id(variant)], variant.example.value), colour, upright=True
        )
    if factor.name == "batch" and (turned := turn(found)):
        _turning(axes, canvas, turned, places)
    written = _apart([(places[id(v)], factors.shown(v.value), v.is_base) for v in factor.variants])
    for place, words, is_base in written:
        weight = "bold" if is_base else "normal"
        canvas.text(
            axes,
            place,
            PLOT + 12,
            words,
            "ink" if is_base else "muted",
            size=SMALL,
            ha="center",
            weight=weight,
        )
    strip = PLOT + TICKS
    thick = min(
        [16.0, *(0.8 * (b - a) for a, b in zip(sorted(places.values()), sorted(places.values())[1:]))]
    )
    for variant in timed:
        share = variant.products.value
        if math.isfinite(share):
            corner = (places[id(variant)] - thick / 2, strip)
            _bar(axes, canvas, corner, (thick, STRIP), min(share, 1.0), upright=True)
    shares = [(places[id(v)], _share(v), v.is_base) for v in timed if math.isfinite(v.products.value)]
    for place, words, _ in _apart(shares):
        canvas.text(axes, place, strip + STRIP + 9, words, "muted", size=SMALL, ha="center")
    if shares:
        canvas.text(axes, -6, strip + STRIP / 2, "GEMM", "muted", size=SMALL, ha="right")
        canvas.text(axes, -6, strip + STRIP + 9, "%", "muted", size=SMALL, ha="right")


def _turning(axes: Axes, canvas: Canvas, turned: Turn, places: dict[int, float]) -> None:
    """GEMV and GEMM above the curve, either side of where one has become the other; nothing where that is its end."""
    if turned.at is None or places[id(turned.at)] in (min(places.values()), max(places.values())):
        return
    edge = places[id(turned.at)]
    where = canvas.pixels(axes)
    axes.plot(
        [edge] * 2, [-4, PLOT], color=canvas.colour("muted"), linewidth=1, dashes=(1, 2), transform=where
    )
    if turned.least.batch == 1:
        canvas.text(axes, edge - 6, 4, "GEMV", "muted", size=SMALL, ha="right")
    words = f"GEMM from {factors.shown(turned.at.value)}"
    fits = edge + 6 + extent(words, SMALL) < axes.bbox.width
    canvas.text(axes, edge + 6, 4, words if fits else "GEMM", "muted", size=SMALL)


def _rows(
    figure: Figure, sheet: Axes, canvas: Canvas, found: Exploration, factor: Factor,
    at: tuple[float, float, float], times: tuple[float, float], alike: Sequence[Factor],
) -> None:  # fmt: skip
    """A row for each name: its time on the axis, how many times the base's that is, its share of products."""
    x, y, width = at
    size = SMALL if canvas.narrow else SMALL + 0.5
    names = widest((factors.shown(v.value) for one in alike for v in one.variants), size)
    left = min(names + 12, 0.46 * width)
    right = widest(["0.000×"], size) + 8 + (0 if canvas.narrow else BAR + 6) + widest(["100 %"], SMALL)
    height = ROW * len(factor.variants)
    plot = width - left - right
    axes = canvas.panel(figure, sheet, x + left, y, plot, height)
    axes.set(xscale="log", xlim=times, ylim=(height, 0), yticks=[])
    ticks = _fewer(log_ticks(*times), times, plot)
    axes.set_xticks(ticks, [_duration(tick) for tick in ticks], size=SMALL)
    axes.set_xticks([], minor=True)
    axes.axvline(found.base.example.value, color=canvas.colour("muted"), linewidth=1.2, dashes=(4, 3))
    for number, variant in enumerate(factor.variants):
        middle = ROW * (number + 0.5)
        name = factors.shown(variant.value)
        weight = "bold" if variant.is_base else "normal"
        canvas.text(axes, -left, middle, name, size=size, weight=weight)
        axes.axhline(middle, color=canvas.colour("grid"), linewidth=1, zorder=0.5)
        end = plot + widest(["0.000×"], size) + 6
        if not variant.measured:
            _missing(axes, canvas, found, variant, (middle, end, times, plot), size)
            continue
        kernel = label(variant.result)
        colour = canvas.kernel(kernel)
        marker = canvas.styles[kernel].marker if factor.name == "kernel" else "o"
        place = (variant.example.value, middle)
        _point(axes, canvas, factor, variant, place, colour, upright=False, marker=marker)
        told = "base" if variant.is_base else f"{wording.digits(variant.ratio.value)}×"
        canvas.text(axes, end, middle, told, size=size, ha="right")
        if math.isfinite(variant.products.value):
            if not canvas.narrow:
                share = min(variant.products.value, 1.0)
                _bar(axes, canvas, (end + 8, middle - 6), (BAR, 12), share, upright=False)
            canvas.text(axes, width - left, middle, f"{_share(variant)} %", "muted", size=SMALL, ha="right")


def _missing(
    axes: Axes, canvas: Canvas, found: Exploration, variant: Variant,
    at: tuple[float, float, tuple[float, float], float], size: float,
) -> None:  # fmt: skip
    """A hollow mark for a prediction, at the edge where it lies beyond; else the reason in a word."""
    middle, end, times, plot = at
    predicted = variant.predicted
    if predicted is None:
        canvas.text(axes, end, middle, variant.result.status, "muted", size=SMALL, ha="right")
        return
    example = predicted / variant.batch
    kernel = label(variant.result)
    inside = example < times[1]
    x = math.log(example / times[0]) / math.log(times[1] / times[0]) * plot if inside else plot - 5
    tip = canvas.tip(f"{variant.value}: {wording.duration(example)} an example, predicted, not run")
    axes.plot(
        [x], [middle], marker=canvas.styles[kernel].marker if inside else ">", markersize=7, markerfacecolor="none",
        markeredgecolor=canvas.kernel(kernel), clip_on=False, gid=tip, transform=canvas.pixels(axes),
    )  # fmt: skip
    told = f"{wording.digits(example / found.base.example.value, 2)}×"
    canvas.text(axes, end, middle, told, "muted", size=size, ha="right", style="italic")
    if not canvas.narrow:
        canvas.text(axes, end + 8, middle, "predicted", "muted", size=SMALL, style="italic")


def _point(
    axes: Axes, canvas: Canvas, factor: Factor, variant: Variant, at: tuple[float, float], colour: str,
    *, upright: bool, marker: str = "o",
) -> None:  # fmt: skip
    """A variant's mark with its interval; the base's is ringed."""
    one = variant.example
    x, y = at
    if one.n > 1:
        ends = [one.low, one.high]
        axes.plot(*(([x, x], ends) if upright else (ends, [y, y])), color=colour, linewidth=1.2, alpha=0.7)
    products = f", {_share(variant)} % in products" if math.isfinite(variant.products.value) else ""
    tip = canvas.tip(
        f"{factor.name} {factors.shown(variant.value)}: {wording.duration(one.value)} an example"
        f"{' (' + wording.durations(one) + ')' if wording.durations(one) else ''}, "
        f"{wording.gflops(variant.result.rate.value)} GFLOP/s{products}"
    )
    axes.plot(
        [x], [y], marker=marker, color=colour, markersize=7, markeredgecolor=canvas.colour("paper"),
        markeredgewidth=0.8, gid=tip, zorder=3,
    )  # fmt: skip
    if variant.is_base:
        axes.plot(
            [x], [y], marker="o", markersize=13, markerfacecolor="none", markeredgecolor=canvas.colour("ink"),
            markeredgewidth=1.3, zorder=3,
        )  # fmt: skip


def _bar(
    axes: Axes,
    canvas: Canvas,
    corner: tuple[float, float],
    size: tuple[float, float],
    share: float,
    *,
    upright: bool,
) -> None:
    """A share of products in a box, in pixels of the axes: filled from below, or from the left."""
    from matplotlib.patches import Rectangle

    (x, y), (width, height) = corner, size
    if upright:
        parts = [
            ("activation", x, y, width, height * (1 - share)),
            ("dW", x, y + height * (1 - share), width, height * share),
        ]
    else:
        parts = [
            ("dW", x, y, width * share, height),
            ("activation", x + width * share, y, width * (1 - share), height),
        ]
    for kind, left, top, wide, high in parts:
        box = Rectangle(
            (left, top), wide, high, clip_on=False, linewidth=0, facecolor=canvas.colour(f"kind:{kind}")
        )
        box.set_transform(canvas.pixels(axes))
        axes.add_patch(box)


def _share(variant: Variant) -> str:
    return f"{100 * min(variant.products.value, 1.0):.0f}"


def _apart(wanted: Sequence[tuple[float, str, bool]]) -> list[tuple[float, str, bool]]:
    """Of labels at their places those that do not lie on one another: the base's first, then the ends."""
    ends = {0, len(wanted) - 1}
    order = sorted(range(len(wanted)), key=lambda at: (not wanted[at][2], at not in ends, at))
    kept: list[tuple[float, float, int]] = []
    for at in order:
        place, words, _ = wanted[at]
        half = extent(words, SMALL) * BOLD / 2 + 3
        if all(place + half <= low or place - half >= high for low, high, _ in kept):
            kept.append((place - half, place + half, at))
    return [wanted[at] for _, _, at in sorted(kept)]


def _fewer(ticks: Sequence[float], times: tuple[float, float], width: float) -> list[float]:
    """Ticks of a logarithmic axis of so many pixels, as many as have room."""
    unit = width / math.log(times[1] / times[0])
    labels = [(math.log(tick / times[0]) * unit, _duration(tick), False) for tick in ticks]
    kept = {words for _, words, _ in _apart(labels)}
    return [tick for tick in ticks if _duration(tick) in kept]


def _keys(
    sheet: Axes, canvas: Canvas, found: Exploration, lines: list[list[tuple[str, float]]], top: float
) -> None:
    colour, ink, muted = canvas.kernel(label(found.base.result)), canvas.colour("ink"), canvas.colour("muted")
    dot: dict[str, Any] = {"marker": "o", "markersize": 7, "color": colour}
    ring: dict[str, Any] = {
        "marker": "o",
        "markersize": 12,
        "markerfacecolor": "none",
        "markeredgecolor": ink,
    }
    dashes: dict[str, Any] = {"color": muted, "linewidth": 1.2, "dashes": (4, 3)}
    marks = {KEYS[0]: ({"color": colour, "linewidth": 1.2}, dot), KEYS[1]: (dashes, ring)}
    for number, line in enumerate(lines):
        y = 14 + 20 * number - top
        for words, x in line:
            canvas.text(sheet, x + 20, y, words, size=SMALL)
            if words in marks:
                through, mark = marks[words]
                here: dict[str, Any] = {"transform": canvas.pixels(sheet), "clip_on": False}
                sheet.plot([x - 3, x + 13], [y, y], **through, **here)
                sheet.plot([x + 5], [y], **mark, **here)
            else:
                _bar(sheet, canvas, (x, y - 6), (11, 12), float(words == KEYS[2]), upright=False)
