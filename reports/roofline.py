"""Roofline: FLOP/s against the FLOPs for each byte that must move, under the roofs measured in the same run.

Williams, Waterman, Patterson, Roofline (2009). The flat roof is the multiply-add peak; a slanted one is the
bandwidth of a level of the memory, at its fastest kind of pass. A point under a slanted roof cannot rise above it
while its operands come from that level; one far below every roof is bound by its own instructions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.verdicts.statistics import Result
from reports import labels, wording
from reports.canvas import SMALL, Canvas, log_ticks, widest
from reports.rates import along, names
from reports.selection import Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def under_roofs(comparison: Comparison) -> bool:
    """True if there are cells to draw, and roofs to draw them under."""
    drawn = any(_points(comparison, kernel) for kernel in comparison.cells)
    return drawn and bool(comparison.bandwidths) and math.isfinite(comparison.peak)


def roofline(comparison: Comparison, canvas: Canvas) -> Figure:
    """Every measured cell of a comparison; a kernel's square products are joined by a line."""
    roofs = comparison.bandwidths
    points = {kernel: found for kernel in comparison.cells if (found := _points(comparison, kernel))}
    reach = {kernel: max(x for x, _, _ in found) for kernel, found in points.items()}
    ends = [kernel for kernel in points if reach[kernel] > 0.9 * max(reach.values())]
    height = 340.0 if canvas.narrow else 400.0
    left, right = 42.0, widest(ends) + 18
    figure, axes = canvas.frame(left, 70, right, 44, height)
    width = canvas.inner - left - right
    peak = comparison.peak / 1e9
    xs = [x for found in points.values() for x, _, _ in found]
    ys = [result.rate.value / 1e9 for found in points.values() for _, _, result in found]
    ridges = {level: peak * 1e9 / rate for level, rate in roofs.items()}
    low, high = min(*xs, *ridges.values()) / 1.6, max(*xs, *ridges.values()) * 1.15
    top = max(peak, *ys) * 1.05
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(min(min(ys) * 0.6, top / 100), top))
    _ticks(axes, canvas, width)
    to_pixels = axes.transData - canvas.pixels(axes)
    axes.plot([min(ridges.values()), high], [peak, peak], color=canvas.colour("peak"), linewidth=1.4)
    lines = [along(to_pixels.transform([(min(ridges.values()), peak), (high, peak)]))]
    for ridge in ridges.values():
        ends_of = [(low, peak * low / ridge), (ridge, peak)]
        axes.plot(*zip(*ends_of), color=canvas.colour("peak"), linewidth=1.1, alpha=0.75)
        lines.append(along(to_pixels.transform(ends_of)))
    at = {level: float(to_pixels.transform((ridge, peak))[0]) for level, ridge in ridges.items()}
    flat = wording.arithmetic(comparison.ceiling)
    _roofs(axes, canvas, at, float(to_pixels.transform((low, peak))[1]), roofs, (peak, flat), width)
    corners = {}
    for kernel, found in points.items():
        _draw(axes, canvas, kernel, found)
        square = [(x, result.rate.value / 1e9) for x, square, result in found if square]
        corners[kernel] = to_pixels.transform(square or [(found[-1][0], found[-1][2].rate.value / 1e9)])
    names(axes, canvas, corners, ends, (width, height), np.concatenate(lines))
    canvas.text(axes, -left + 2, -56, "GFLOP/s", "muted", size=SMALL)
    under = f"FLOPs for each byte{'' if canvas.narrow else ' of A, B and C'}, moved once"
    canvas.text(axes, width / 2, height + 34, under, "muted", size=SMALL, ha="center")
    return figure


def _points(comparison: Comparison, kernel: str) -> list[tuple[float, bool, Result]]:
    """FLOP/B, whether it is square, and the result of each measured cell; squares rising, others after them."""
    found = []
    for shape in (*((n, n, n) for n in comparison.sizes), *comparison.oblong):
        result = comparison.at(shape).get(kernel)
        if result and result.cell.get("flops") and result.cell.get("bytes"):
            intensity = result.cell["flops"] / result.cell["bytes"]
            found.append((intensity, len(set(shape)) == 1, result))
    return found


def _roofs(
    axes: Axes,
    canvas: Canvas,
    at: Mapping[str, float],
    y: float,
    roofs: Mapping[str, float],
    highest: tuple[float, str],
    width: float,
) -> None:
    """Name every slanted roof above its end under the flat one, `at` pixels; the flat one above them."""
    words = {
        level: level if canvas.narrow else f"{level} {wording.digits(roofs[level] / 1e9)} GB/s"
        for level in at
    }
    room = widest(words.values(), SMALL) + 10
    places = labels.spread(list(at.values()), room, room / 2, width - room / 2)
    for (level, x), place in zip(at.items(), places):
        line: Any = {"color": canvas.colour("peak"), "linewidth": 0.8, "alpha": 0.7, "clip_on": False}
        axes.plot([place, x], [y - 13, y], transform=canvas.pixels(axes), **line)
        tip = f"{level}: {wording.digits(roofs[level] / 1e9)} GB/s"
        canvas.text(axes, place, y - 21, words[level], "peak", size=SMALL, ha="center", gid=canvas.tip(tip))
    peak, of = highest
    unit = "" if canvas.narrow else f" GFLOP/s ({of})"
    flat = f"measured peak {wording.digits(peak)}{unit}"
    canvas.text(axes, width, y - 42, flat, "peak", size=SMALL, ha="right")


def _draw(axes: Axes, canvas: Canvas, kernel: str, found: list[tuple[float, bool, Result]]) -> None:
    colour = canvas.kernel(kernel)
    square = [(x, result.rate.value / 1e9) for x, square, result in found if square]
    if len(square) > 1:
        axes.plot(*zip(*square), color=colour, linewidth=1.2, alpha=0.7)
    for x, _, result in found:
        rate = result.rate.value
        problem = result.problem
        what = wording.shape(problem["m"], problem["n"], problem["k"])
        words = f"{kernel}, {what}: {wording.gflops(rate)} GFLOP/s at {wording.digits(x)} FLOP/B"
        axes.plot(
            [x],
            [rate / 1e9],
            marker=canvas.styles[kernel].marker,
            color=colour,
            markeredgecolor=canvas.colour("paper"),
            markeredgewidth=0.8,
            gid=canvas.tip(words),
        )


def _ticks(axes: Axes, canvas: Canvas, width: float) -> None:
    for axis, limits in (("x", axes.get_xlim()), ("y", axes.get_ylim())):
        ticks = log_ticks(*limits)
        words = [f"{tick:,g}" if tick < 1e4 else f"{tick:,.0f}" for tick in ticks]
        every = 1
        if axis == "x":
            every = max(1, math.ceil(len(ticks) * (widest(words) + 10) / width))
        axes.set(**{f"{axis}ticks": ticks[::every], f"{axis}ticklabels": words[::every]})
    axes.set_xticks([], minor=True)
    axes.set_yticks([], minor=True)
    axes.grid(True, axis="y", color=canvas.colour("grid"), linewidth=1)
