"""Layers: what a training step is spent on, operation by operation, one bar per kernel.

Segments run through the layers in order, and within a layer through the kinds; what the rows do not account
for is the hatched rest. As absolute times, or as shares of the step.
"""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING, Any

from bench.verdicts.statistics import Profile, Row
from reports import palette, wording
from reports.canvas import SMALL, Canvas, extent, flow, widest
from reports.selection import Training, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ORDER = list(palette.KINDS)
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def layers(training: Training, canvas: Canvas, shares: bool = False) -> Figure:
    """One stacked bar per kernel; `shares` makes all of them one step long."""
    profiles = training.profiles
    lengths = [max(one.step, _total(one)) / (one.step if shares else 1.0) for one in profiles]
    numbers = [f"{wording.duration(profile.step)} a step" for profile in profiles]
    names = [label(profile.result) for profile in profiles]
    step = 74.0 if canvas.narrow else 60.0
    left = 16.0 if canvas.narrow else widest(names) + 44
    right = 16.0 if canvas.narrow else widest(numbers) + 26
    kinds = [
        kind for kind in ORDER if any(kind == name for profile in profiles for name, _, _ in _parts(profile))
    ]
    keys = flow(kinds, canvas.inner - 8)
    top = 12 + 20.0 * len(keys)
    height = step * len(profiles)
    figure, axes = canvas.frame(left, top, right, 46, height)
    width = canvas.inner - left - right
    unit, scale = ("%", 100.0) if shares else _unit(max(lengths))
    full = max(lengths) * scale * (1.0 if shares else 1.01)
    axes.set(xlim=(0, full), ylim=(height, 0), yticks=[])
    axes.locator_params(axis="x", nbins=4 if canvas.narrow else 8)
    for at, profile in enumerate(profiles):
        y = step * at + (38 if canvas.narrow else 24)
        _stack(axes, canvas, profile, y, scale / (profile.step if shares else 1.0), width / full)
        name = step * at + 12 if canvas.narrow else y
        canvas.mark(axes, 5 if canvas.narrow else 16 - left, name, label(profile.result))
        canvas.text(axes, 18 if canvas.narrow else 28 - left, name, label(profile.result), weight="bold")
        end = lengths[at] * scale * width / full
        place, side = (width, "right") if canvas.narrow else (end + 12, "left")
        canvas.text(axes, place, name, numbers[at], ha=side)
    _keys(axes, canvas, keys, left, top)
    under = "% of the step" if shares else f"{unit} per training step"
    canvas.text(axes, width / 2, height + 35, under, "muted", size=SMALL, ha="center")
    return figure


def _total(profile: Profile) -> float:
    return math.fsum(row.seconds for row in profile.rows)


def _parts(profile: Profile) -> list[tuple[str, Row | None, float]]:
    """Kind, row and seconds of every segment in the order in which they are drawn."""

    def place(row: Row) -> tuple[float, int]:
        layer = row.layer or math.inf  # the loss has none: last
        return layer, ORDER.index(palette.kind(row.op, row.parts))

    rows = sorted(profile.rows, key=place)
    parts: list[tuple[str, Row | None, float]] = [
        (palette.kind(row.op, row.parts), row, row.seconds) for row in rows
    ]
    rest = profile.step - _total(profile)
    return [*parts, ("remainder", None, rest)] if rest > 0 else parts


def _stack(axes: Axes, canvas: Canvas, profile: Profile, y: float, scale: float, pixels: float) -> None:
    """Draw one bar at y; `scale` turns seconds into units of the axis, `pixels` those into pixels."""
    start = 0.0
    for layer, members in groupby(_parts(profile), key=lambda part: part[1].layer if part[1] else None):
        begin = start
        for kind, row, seconds in members:
            long = seconds * scale
            where = f"{row.id if row else 'remainder'}: {wording.duration(seconds)}"
            tip = canvas.tip(f"{where}, {wording.percent(seconds / profile.step)} of the step")
            edge = canvas.colour("paper") if long * pixels > 4 else "none"
            axes.barh(y, long, left=start, height=28, linewidth=0.7, gid=tip, **_fill(canvas, kind, edge))
            short = f"{kind}{str(layer or '').translate(SUBSCRIPTS)}"
            if row is not None and extent(short, SMALL) + 6 < long * pixels:
                canvas.text(axes, (start + long / 2) * pixels, y, short, "paper", size=SMALL, ha="center")
            start += long
        left, right = begin * pixels, start * pixels
        if layer and right - left > extent(f"layer {layer}", SMALL) + 8:
            ends, brace = [left + 1.5, right - 1.5], canvas.colour("muted")
            axes.plot(ends, [y + 18] * 2, color=brace, linewidth=1, transform=canvas.pixels(axes))
            middle = (left + right) / 2
            canvas.text(axes, middle, y + 26, f"layer {layer}", "muted", size=SMALL, ha="center")


def _fill(canvas: Canvas, kind: str, edge: str = "none") -> dict[str, Any]:
    colour = canvas.colour(f"kind:{kind}")
    if kind == "remainder":
        return {"facecolor": "none", "hatch": "////", "edgecolor": colour}
    return {"facecolor": colour, "edgecolor": edge}


def _keys(axes: Axes, canvas: Canvas, lines: list[list[tuple[str, float]]], left: float, top: float) -> None:
    from matplotlib.patches import Rectangle

    for at, line in enumerate(lines):
        y = 14 + 20 * at - top
        for kind, x in line:
            box = Rectangle(
                (x + 8 - left, y - 6), 13, 12, clip_on=False, linewidth=0.7, **_fill(canvas, kind)
            )
            box.set_transform(canvas.pixels(axes))
            axes.add_patch(box)
            canvas.text(axes, x + 27 - left, y, kind)


def _unit(seconds: float) -> tuple[str, float]:
    return next(
        ((unit, scale) for unit, scale in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)) if seconds * scale >= 1),
        ("ns", 1e9),
    )
