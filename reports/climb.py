"""Climb: the speed-up ladder. How many times faster than the baseline each kernel is, on a log axis."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from reports import wording
from reports.canvas import SMALL, TYPE, Canvas, extent, log_ticks, widest
from reports.selection import Ladder, Rung

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def climb(ladder: Ladder, canvas: Canvas) -> Figure:
    """A bar per kernel, the slowest on top; a hollow one is a prediction, not a measurement."""
    rungs = [rung for rung in ladder.rungs if math.isfinite(rung.speedup.value)]
    step = 46.0 if canvas.narrow else 34.0
    numbers, notes = [wording.factor(rung.speedup.value) for rung in rungs], [_note(r, ladder) for r in rungs]
    if canvas.narrow:
        left = right = 16.0
    else:
        left = widest(rung.kernel for rung in rungs) + 44
        right = widest(numbers) + widest(notes, SMALL) + 34
    height = step * len(rungs)
    figure, axes = canvas.frame(left, 8, right, 46, height)
    width = canvas.inner - left - right
    values = [rung.speedup.value for rung in rungs]
    low, high = min(*values, 1.0), max(*values, 1.0)
    axes.set(xscale="log", xlim=(low / 1.02, max(high, low * 10) * 1.06), ylim=(height, 0), yticks=[])
    _ticks(axes, canvas, width)
    for at, (rung, number, note) in enumerate(zip(rungs, numbers, notes)):
        y, thick = (step * at + 32, 14) if canvas.narrow else (step * (at + 0.5), 18)
        _bar(axes, canvas, ladder, rung, y, thick)
        name = step * at + 13 if canvas.narrow else y
        canvas.mark(axes, 5 if canvas.narrow else 16 - left, name, rung.kernel)
        canvas.text(axes, 18 if canvas.narrow else 28 - left, name, rung.kernel, weight="bold")
        if canvas.narrow:
            canvas.text(axes, width, name, note, "muted", size=SMALL, ha="right")
            canvas.text(
                axes, width - extent(note, SMALL) - 8 * bool(note), name, number, weight="bold", ha="right"
            )
        else:
            canvas.text(axes, width + 14, y, number, weight="bold", size=TYPE)
            canvas.text(axes, width + 26 + widest(numbers), y, note, "muted", size=SMALL)
    under = f"times faster than {ladder.baseline}, {wording.shape(*ladder.shape)}"
    canvas.text(axes, width / 2, height + 35, under, "muted", size=SMALL, ha="center")
    return figure


def _note(rung: Rung, ladder: Ladder) -> str:
    return "predicted, not run" if rung.predicted else ladder.sure(rung)


def _bar(axes: Axes, canvas: Canvas, ladder: Ladder, rung: Rung, y: float, thick: float) -> None:
    colour, speedup = canvas.kernel(rung.kernel), rung.speedup
    how: dict[str, Any] = {"color": colour}
    if rung.predicted:
        how = {"facecolor": "none", "edgecolor": colour, "linestyle": (0, (3, 2)), "linewidth": 1.2}
    seconds = rung.predicted or rung.result.seconds.value
    words = f"{rung.kernel}: {wording.duration(seconds)}{' (predicted)' if rung.predicted else ''}"
    start, end = sorted((1.0, speedup.value))
    if end / start < 1.02:  # the baseline itself: a mark where the bars begin
        end = start * 1.02
    axes.barh(y, end - start, left=start, height=thick, gid=canvas.tip(words), **how)
    if math.isfinite(speedup.low) and rung.kernel != ladder.baseline:
        inside, outside = sorted((speedup.low, speedup.high), key=lambda bound: abs(math.log(bound)))
        for bound, ink in ((inside, canvas.colour("paper")), (outside, colour)):
            axes.hlines(y, min(bound, speedup.value), max(bound, speedup.value), color=ink, linewidth=1.6)
            axes.vlines(bound, y - thick / 4, y + thick / 4, color=ink, linewidth=1.6)


def _ticks(axes: Axes, canvas: Canvas, width: float) -> None:
    low, high = axes.get_xlim()
    ticks = log_ticks(low, high)
    names = [f"{tick:,.0f}×" if tick >= 1 else f"1/{1 / tick:,.0f}" for tick in ticks]
    every = max(1, math.ceil(len(ticks) * (widest(names) + 10) / width))
    start = (ticks.index(1.0) % every) if 1.0 in ticks else 0
    axes.set_xticks(ticks[start::every], names[start::every])
    axes.set_xticks([], minor=True)
    axes.grid(True, axis="x", color=canvas.colour("grid"), linewidth=1)
