"""Rates: GFLOP/s against size, one line per kernel, under the measured peak.

Both axes are logarithmic: Python's loops reach a ten-thousandth of what BLAS does, and both must be seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.verdicts.statistics import Result
from reports import labels, wording
from reports.canvas import BOLD, SMALL, TYPE, Canvas, extent, log_ticks, widest
from reports.selection import Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GAP = TYPE + 4  # px between the names of two lines


def rates(comparison: Comparison, canvas: Canvas) -> Figure:
    """The square products of a comparison; sizes rise to the right by powers of two."""
    lines = {kernel: points for kernel in comparison.cells if (points := comparison.line(kernel))}
    sizes = sorted({n for points in lines.values() for n, _ in points})
    ends = [kernel for kernel, points in lines.items() if points[-1][0] == sizes[-1]]
    height = 330.0 if canvas.narrow else 400.0
    left, right = 42.0, widest(ends) + 18
    figure, axes = canvas.frame(left, 34, right, 44, height)
    width = canvas.inner - left - right

    values = [result.rate.value / 1e9 for points in lines.values() for _, result in points]
    peak = comparison.peak / 1e9
    top = np.nanmax([peak, *values]) * 1.9
    bottom = min(min(values) * 0.6, top / 100)
    axes.set(xscale="log", yscale="log", ylim=(bottom, top), xlim=(sizes[0] / 1.12, sizes[-1] * 1.12))
    size_ticks(axes, sizes, width)
    _rate_ticks(axes, canvas)
    to_pixels = axes.transData - canvas.pixels(axes)
    if not math.isnan(peak):
        axes.axhline(peak, color=canvas.colour("peak"), linewidth=1.4, dashes=(5, 3))
        unit = "" if canvas.narrow else f" GFLOP/s ({wording.arithmetic(comparison.ceiling)})"
        above = to_pixels.transform((sizes[0], peak))[1] - 10
        canvas.text(axes, 2, above, f"measured peak {wording.digits(peak)}{unit}", "peak", size=SMALL)
    for kernel, points in lines.items():
        _line(axes, canvas, kernel, points, [m for m, n, k in comparison.cells[kernel] if m == n == k])
    corners = {
        kernel: to_pixels.transform([(n, result.rate.value / 1e9) for n, result in points])
        for kernel, points in lines.items()
    }
    names(axes, canvas, corners, ends, (width, height))
    canvas.text(axes, -left + 2, -20, "GFLOP/s", "muted", size=SMALL)
    under = "n (all three sides of the product)"
    canvas.text(axes, width / 2, height + 34, under, "muted", size=SMALL, ha="center")
    return figure


def names(
    axes: Axes,
    canvas: Canvas,
    corners: dict[str, np.ndarray],
    ends: list[str],
    size: tuple[float, float],
    others: np.ndarray | None = None,
) -> None:
    """Write each kernel at the end of its line: in a column on the right, or amid the figure if it stops early.

    corners  kernel -> (N, 2) pixels of its points; ends  kernels that reach the right edge
    others   (N, 2) pixels of other lines on which no name should lie
    """
    width, height = size
    places = labels.spread([corners[kernel][-1, 1] for kernel in ends], GAP, 4, height - 4)
    for kernel, y in zip(ends, places):
        canvas.text(axes, width + 14, y, kernel, f"kernel:{kernel}", weight="bold")
        x, at = corners[kernel][-1]
        if abs(y - at) > 3:  # a thin line from where the line ends to where its name had to go
            how: dict[str, Any] = {
                "color": canvas.kernel(kernel),
                "transform": canvas.pixels(axes),
                "clip_on": False,
            }
            axes.plot([x + 6, width + 12], [at, y], linewidth=0.8, alpha=0.7, **how)
    dense = np.concatenate([*map(along, corners.values()), *([] if others is None else [others])])
    taken: list[labels.Box] = []
    for kernel, points in corners.items():
        if kernel not in ends:
            room = extent(kernel) * BOLD + 4, TYPE + 4
            box = labels.place(tuple(points[-1]), room, dense, taken, (0, 0, width, height))
            taken.append(box)
            canvas.text(axes, box[0] + 2, (box[1] + box[3]) / 2, kernel, f"kernel:{kernel}", weight="bold")


def _line(
    axes: Axes, canvas: Canvas, kernel: str, points: list[tuple[int, Result]], tried: Iterable[int]
) -> None:
    colour = canvas.kernel(kernel)
    for (n0, before), (n1, after) in pairwise(points):
        passed = any(n0 < n < n1 for n in tried)  # a size between them that went wrong or was not run
        axes.plot(
            [n0, n1],
            [before.rate.value / 1e9, after.rate.value / 1e9],
            color=colour,
            linestyle=(0, (1, 2)) if passed else "-",
            solid_capstyle="round",
        )
    for n, result in points:
        rate = result.rate
        if rate.low > 0 and math.isfinite(rate.high):
            axes.vlines(n, rate.low / 1e9, rate.high / 1e9, color=colour, linewidth=4, alpha=0.35)
        share = result.share_of_peak.value
        of_peak = f", {wording.percent(share)} of peak" if math.isfinite(share) else ""
        words = (
            f"{kernel}, n = {n}: {wording.gflops(rate.value)} GFLOP/s{wording.within(rate, 1e-9)}{of_peak}"
        )
        axes.plot(
            [n],
            [rate.value / 1e9],
            marker=canvas.styles[kernel].marker,
            color=colour,
            markeredgecolor=canvas.colour("paper"),
            markeredgewidth=0.8,
            gid=canvas.tip(words),
        )


def size_ticks(axes: Axes, sizes: list[int], width: float) -> None:
    """As many sizes below a logarithmic axis of `width` pixels as there is room for, powers of two first."""
    low, high = axes.get_xlim()
    powers = [n for n in sizes if n & (n - 1) == 0]
    candidates = powers if len(powers) > 1 else sizes
    octave = width / math.log2(high / low)
    shown = next(
        some for every in range(1, len(candidates) + 1) if _fit(some := candidates[::-every], octave)
    )
    axes.set_xticks(shown, [str(n) for n in shown])
    axes.set_xticks([], minor=True)


def _rate_ticks(axes: Axes, canvas: Canvas) -> None:
    low, high = axes.get_ylim()
    ticks = log_ticks(low, high)
    axes.set_yticks(ticks, [f"{tick:,g}" if tick < 1e4 else f"{tick:,.0f}" for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.grid(True, axis="y", color=canvas.colour("grid"), linewidth=1)


def _fit(sizes: list[int], octave: float) -> bool:
    """True if the sizes (falling) can be written below the axis, where a factor of 2 is `octave` pixels."""
    return all(math.log2(n / below) * octave > extent(str(n)) + 8 for n, below in pairwise(sizes))


def along(corners: np.ndarray) -> np.ndarray:
    """(N, 2) points every few pixels along a polyline."""
    dense = [corners[:1]]
    for start, end in pairwise(corners):
        steps = max(1, int(math.dist(start, end) / 4))
        dense.append(start + (end - start) * np.linspace(0, 1, steps + 1)[1:, None])
    return np.concatenate(dense)
