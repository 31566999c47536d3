"""Cold: how many times as long a product takes when its operands are not in the caches, against size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.records import canonical
from bench.verdicts.statistics import Interval, speedup
from reports import wording
from reports.canvas import SMALL, Canvas, widest
from reports.rates import names, size_ticks
from reports.selection import Comparison, setting, told_apart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Point:
    """Time cold over time hot of a kernel's square product; `differs`: by more than the noise."""

    n: int
    ratio: Interval
    differs: bool


@dataclass(frozen=True)
class Pair:
    """The same products with their operands in the caches and out of them."""

    hot: Comparison
    cold: Comparison

    @property
    def points(self) -> dict[str, list[Point]]:
        """Kernel -> its points, sizes rising."""
        found: dict[str, list[Point]] = {}
        for kernel in self.hot.cells:
            cold = dict(self.cold.line(kernel)) if kernel in self.cold.cells else {}
            for n, hot in self.hot.line(kernel):
                ratio = speedup(cold[n], hot) if n in cold else None
                if ratio is not None and math.isfinite(ratio.value):
                    differs = told_apart(ratio, self.hot.floor(hot))
                    found.setdefault(kernel, []).append(Point(n, ratio, differs))
        return found


def pairs(comparisons: Sequence[Comparison]) -> list[Pair]:
    """Comparisons that differ in the cache alone and share several sizes of a kernel."""
    hot: dict[str, Comparison] = {}
    cold: dict[str, Comparison] = {}
    for comparison in comparisons:
        result = next(result for row in comparison.cells.values() for result in row.values())
        where = cold if result.cell.get("cache") == "cold" else hot
        where[canonical({key: value for key, value in setting(result).items() if key != "cache"})] = (
            comparison
        )
    made = [Pair(hot[key], cold[key]) for key in hot if key in cold]
    return [pair for pair in made if any(len(points) > 1 for points in pair.points.values())]


def cold(pair: Pair, canvas: Canvas) -> Figure:
    """A line per kernel; a hollow mark lies within the noise."""
    points = pair.points
    sizes = sorted({point.n for line in points.values() for point in line})
    ends = [kernel for kernel, line in points.items() if line[-1].n == sizes[-1]]
    height = 220.0 if canvas.narrow else 240.0
    left, right = 42.0, widest(ends) + 18
    figure, axes = canvas.frame(left, 44, right, 44, height)
    width = canvas.inner - left - right
    values = [point.ratio.value for line in points.values() for point in line]
    low, high = min(*values, 1.0), max(*values, 1.1)
    room = 0.08 * (high - low)
    axes.set(xscale="log", xlim=(sizes[0] / 1.12, sizes[-1] * 1.12), ylim=(low - room, high + room))
    axes.locator_params(axis="y", nbins=6)
    axes.set_yticks([tick for tick in axes.get_yticks() if low - room <= tick <= high + room])
    axes.grid(True, axis="y", color=canvas.colour("grid"), linewidth=1)
    size_ticks(axes, sizes, width)
    axes.axhline(1.0, color=canvas.colour("muted"), linewidth=1.2)
    to_pixels = axes.transData - canvas.pixels(axes)
    corners = {}
    for kernel, line in points.items():
        _draw(axes, canvas, kernel, line)
        corners[kernel] = to_pixels.transform([(point.n, point.ratio.value) for point in line])
    names(axes, canvas, corners, ends, (width, height))
    canvas.text(axes, -left + 2, -30, "time cold / time hot", "muted", size=SMALL)
    under = "n (all three sides of the product)"
    canvas.text(axes, width / 2, height + 34, under, "muted", size=SMALL, ha="center")
    return figure


def seen(pair: Pair) -> str:
    """What to see: who suffers most, and where."""
    worst = max(
        ((kernel, point) for kernel, line in pair.points.items() for point in line),
        key=lambda one: one[1].ratio.value,
    )
    kernel, point = worst
    if not point.differs:
        return "Out of the caches nothing takes longer by more than the noise (hollow marks)."
    return (
        f"At n = {point.n} {kernel} takes {wording.digits(point.ratio.value)}{wording.within(point.ratio)} times as "
        "long with its operands out of the caches; hollow marks are within the noise."
    )


def _draw(axes: Axes, canvas: Canvas, kernel: str, line: Sequence[Point]) -> None:
    colour = canvas.kernel(kernel)
    axes.plot([p.n for p in line], [p.ratio.value for p in line], color=colour, solid_capstyle="round")
    for point in line:
        ratio = point.ratio
        if math.isfinite(ratio.low):
            axes.vlines(point.n, ratio.low, ratio.high, color=colour, linewidth=4, alpha=0.35)
        axes.plot(
            [point.n],
            [ratio.value],
            marker=canvas.styles[kernel].marker,
            color=colour if point.differs else canvas.colour("paper"),
            markeredgecolor=canvas.colour("paper") if point.differs else colour,
            markeredgewidth=0.8 if point.differs else 1.6,
            gid=canvas.tip(
                f"{kernel}, n = {point.n}: {wording.digits(ratio.value)}{wording.within(ratio)} times as long cold"
            ),
        )
