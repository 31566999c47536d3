"""Shapes: GFLOP/s of products that are not square, one row per shape, one mark per kernel."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from reports import wording
from reports.canvas import SMALL, Canvas, flow, log_ticks, widest
from reports.selection import Comparison

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def shapes(comparison: Comparison, canvas: Canvas) -> Figure:
    """Rates on a log axis, as in `rates`; the measured peak is the dashed line."""
    rows = [at for at in comparison.oblong if comparison.at(at)]
    kernels = [kernel for kernel in comparison.cells if any(kernel in comparison.at(at) for at in rows)]
    names = [wording.shape(*at) for at in rows]
    step = 44.0 if canvas.narrow else 32.0
    left = 10.0 if canvas.narrow else widest(names) + 24
    keys = flow(kernels, canvas.inner - 8)
    top = 30 + 20.0 * len(keys)
    height = step * len(rows)
    figure, axes = canvas.frame(left, top, 14, 46, height)
    width = canvas.inner - left - 14
    values = [result.rate.value / 1e9 for at in rows for result in comparison.at(at).values()]
    peak = comparison.peak / 1e9
    high = max([*values, peak] if math.isfinite(peak) else values)
    axes.set(xscale="log", xlim=(min(*values, high / 10) / 1.3, high * 1.25), ylim=(height, 0), yticks=[])
    axes.grid(True, axis="x", color=canvas.colour("grid"), linewidth=1)
    ticks = log_ticks(*axes.get_xlim())
    axes.set_xticks(ticks, [f"{tick:,g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    if math.isfinite(peak):
        axes.axvline(peak, color=canvas.colour("peak"), linewidth=1.4, dashes=(5, 3))
        x = (axes.transData - canvas.pixels(axes)).transform((peak, 0))[0]
        canvas.text(axes, x, -10, f"measured peak {wording.digits(peak)}", "peak", size=SMALL, ha="right")
    for at, (shape, name) in enumerate(zip(rows, names)):
        y = step * at + (28 if canvas.narrow else step / 2)
        axes.axhline(y, color=canvas.colour("grid"), linewidth=1)
        canvas.text(axes, 0 if canvas.narrow else 14 - left, step * at + 10 if canvas.narrow else y, name)
        for kernel, result in comparison.at(shape).items():
            rate = result.rate
            tip = f"{kernel}, {name}: {wording.gflops(rate.value)} GFLOP/s{wording.within(rate, 1e-9)}"
            axes.plot(
                [rate.value / 1e9],
                [y],
                marker=canvas.styles[kernel].marker,
                color=canvas.kernel(kernel),
                markersize=9,
                markeredgecolor=canvas.colour("paper"),
                gid=canvas.tip(tip),
            )
    for at, line in enumerate(keys):
        for kernel, x in line:
            canvas.mark(axes, x + 14 - left, 14 + 20 * at - top, kernel)
            canvas.text(axes, x + 24 - left, 14 + 20 * at - top, kernel, weight="bold")
    canvas.text(axes, width / 2, height + 35, "GFLOP/s", "muted", size=SMALL, ha="center")
    return figure
