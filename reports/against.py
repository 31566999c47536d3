"""Against: at each shape the speed-up over the best library, in groups, a panel for each dtype and number of threads.

Above the line the kernel is faster than the best library there is at that shape. The mark says which library that is;
the short line, how far the measured ceilings would let anybody go.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.records import canonical
from bench.verdicts.best import Best, Group, Setting, Shape
from reports import libraries, verdicts
from reports.canvas import SMALL, Canvas, extent, flow, widest, wrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Places on an axis of ratios, those that matter most first.
TICKS = (1, 2, 0.5, 4, 0.25, 8, 0.125, 16, 1.5, 0.75, 1.2, 0.9, 3, 0.6, 6, 1.1, 0.8, 1.05, 0.95)
LIMIT = "what the ceilings allow"


@dataclass(frozen=True)
class Places:
    """Where each shape stands on the x axis, in slots; groups are a slot apart.

    groups  name, first and last slot
    """

    slots: dict[str, float]
    groups: list[tuple[str, float, float]]

    @property
    def span(self) -> tuple[float, float]:
        return -0.8, self.groups[-1][2] + 0.8


def against(best: Best, canvas: Canvas) -> Figure:
    """Panels one below the other; all share their axes."""
    places, settings = _places(best), best.settings
    high, between = (120.0, 36.0) if canvas.narrow else (150.0, 36.0)
    ticks_wide = widest(["0.75×"], SMALL) + 14
    width = canvas.inner - ticks_wide - 8
    keys = flow([*_winners(best), LIMIT], canvas.inner - 8)
    notes = [line for text in libraries.warning(best) for line in wrap(text, canvas.inner - 8, SMALL)]
    labels = _labels(places, width)
    top = 20.0 * len(keys) + 18 * len(notes) + between
    whole = len(settings) * high + (len(settings) - 1) * between
    figure, back = canvas.frame(ticks_wide, top, 8, 16 + 16 * (1 + max(line for *_, line in labels)), whole)
    back.set_axis_off()
    low, upper = _range(best)
    for at, setting in enumerate(settings):
        down = at * (high + between)
        axes = _panel(figure, back, canvas, down, high, whole)
        axes.set(xscale="linear", yscale="log", xlim=places.span, ylim=(low, upper))
        _grid(axes, canvas, places, high)
        shapes = [shape for shape in best.shapes if shape.compared and shape.setting == setting]
        for shape in shapes:
            _mark(axes, canvas, shape, places.slots[_key(shape)], best.new)
        _heading(back, canvas, best, setting, down - 14, width)
    for name, x, line in labels:
        canvas.text(back, x, whole + 16 + 16 * line, name, "muted", size=SMALL)
    for at, words in enumerate(keys):
        for word, x in words:
            y = 10 + 20 * at - top
            _key_of(back, canvas, word, x + 8 - ticks_wide, y)
            canvas.text(back, x + 20 - ticks_wide, y, word, weight="bold" if word != LIMIT else "normal")
    for at, text in enumerate(notes):
        y = 20 * len(keys) + 10 + 18 * at - top
        canvas.text(back, 4 - ticks_wide, y, text, "peak", size=SMALL)
    return figure


def seen(best: Best) -> str:
    """What to see in it."""
    compared = [shape for shape in best.shapes if shape.compared]
    ahead = sum(shape.pair.ratio.value >= 1 for shape in compared)
    return (
        f"Each mark is one shape; above the line {best.new} is faster than the best library there ({ahead} of "
        f"{len(compared)}). The mark says which library that is, the thin line is the 95 % interval, "
        "and the short line is what the ceilings would allow, where it fits."
    )


def _places(best: Best) -> Places:
    compared = [shape for shape in best.shapes if shape.compared]
    names = dict.fromkeys(group.name for group in best.groups)
    slots: dict[str, float] = {}
    groups: list[tuple[str, float, float]] = []
    for name in names:
        members = {_key(shape): shape for shape in compared if shape.group == name}
        first = len(slots) + len(groups) * 1.0
        for step, key in enumerate(sorted(members, key=lambda key: _work(members[key]))):
            slots[key] = first + step
        groups.append((name, first, first + len(members) - 1))
    return Places(slots, groups)


def _key(shape: Shape) -> str:
    """The same for a shape in every panel."""
    return canonical({key: value for key, value in shape.pair.problem.items() if key != "dtype"})


def _work(shape: Shape) -> tuple[int, str]:
    p = shape.pair.problem
    return p["m"] * p["n"] * p["k"] * (p.get("batch") or 1), _key(shape)


def _range(best: Best) -> tuple[float, float]:
    values = [shape.pair.ratio.value for shape in best.shapes if shape.compared]
    return min(*values, 0.9) / 1.06, max(*values, 1.12) * 1.06


def _winners(best: Best) -> list[str]:
    """The peers that are the best somewhere."""
    first = {shape.best for shape in best.shapes if shape.compared}
    return [peer for peer in best.peers if peer in first]


def _panel(figure: Figure, back: Axes, canvas: Canvas, down: float, high: float, whole: float) -> Axes:
    box = back.get_position()
    bottom = box.y1 - (down + high) / whole * box.height
    axes = figure.add_axes((box.x0, bottom, box.width, high / whole * box.height), facecolor="none")
    axes.tick_params(colors=canvas.colour("muted"), pad=6, labelsize=SMALL)
    axes.spines["bottom"].set_visible(False)
    return axes


def _grid(axes: Axes, canvas: Canvas, places: Places, high: float) -> None:
    low, upper = axes.get_ylim()
    pixel = high / math.log(upper / low)
    shown: list[float] = []
    for tick in TICKS:
        inside = low * 1.01 < tick < upper / 1.01
        if inside and all(abs(math.log(tick / other)) * pixel > 20 for other in shown):
            shown.append(tick)
    axes.set_xticks([])
    axes.set_yticks(shown, [f"{tick:g}×" for tick in shown])
    axes.set_yticks([], minor=True)
    axes.grid(True, axis="y", color=canvas.colour("grid"), linewidth=1)
    for _, _, last in places.groups[:-1]:
        axes.axvline(last + 1.0, color=canvas.colour("grid"), linewidth=1)
    axes.axhline(1.0, color=canvas.colour("ink"), linewidth=1.2)


def _mark(axes: Axes, canvas: Canvas, shape: Shape, x: float, new: str) -> None:
    ratio, best = shape.pair.ratio, str(shape.best)
    colour = canvas.kernel(best)
    low, upper = axes.get_ylim()
    if low < shape.allows < upper:
        axes.hlines(shape.allows, x - 0.42, x + 0.42, color=canvas.colour("peak"), linewidth=1.4, alpha=0.6)
    if math.isfinite(ratio.low):
        axes.vlines(x, ratio.low, ratio.high, color=colour, linewidth=1.6, alpha=0.6)
    allowed = f"; the ceilings allow {verdicts.factor(shape.allows)}×" if math.isfinite(shape.allows) else ""
    axes.plot(
        [x],
        [ratio.value],
        marker=canvas.styles[best].marker,
        color=colour,
        markersize=5.5 if canvas.narrow else 8,
        markeredgecolor=canvas.colour("paper"),
        markeredgewidth=0.6,
        gid=canvas.tip(f"{libraries.named(shape.setting)}: {new} {libraries.least(shape)}{allowed}"),
    )


def _heading(back: Axes, canvas: Canvas, best: Best, setting: Setting, y: float, width: float) -> None:
    canvas.text(back, 0, y, libraries.named(setting), weight="bold")
    (total,) = (total for total in best.totals if total.setting == setting)
    canvas.text(back, width, y, _figure(total, canvas), "muted", size=SMALL, ha="right")


def _figure(total: Group, canvas: Canvas) -> str:
    ratio = total.mean.ratio
    mean = f"{verdicts.factor(ratio.value)}×{verdicts.bracketed(ratio)}"
    if canvas.narrow:
        return mean
    worst = total.worst
    return f"geometric mean {mean}, least {verdicts.factor(worst.pair.ratio.value)}× at {libraries.at(worst)}"


def _labels(places: Places, width: float) -> list[tuple[str, float, int]]:
    """Each group's name with its place in pixels, and the first line on which it is clear of others."""
    start, end = places.span
    per_slot = width / (end - start)
    free: list[float] = []  # where each line is free from
    found = []
    for name, first, last in places.groups:
        long = extent(name, SMALL)
        x = min(max(((first + last) / 2 - start) * per_slot - long / 2, 0), width - long)
        line = next((at for at, taken in enumerate(free) if x > taken + 8), len(free))
        free[line : line + 1] = [x + long]
        found.append((name, x, line))
    return found


def _key_of(back: Axes, canvas: Canvas, word: str, x: float, y: float) -> None:
    if word != LIMIT:
        canvas.mark(back, x, y, word)
        return
    how: dict[str, Any] = {"transform": canvas.pixels(back), "clip_on": False, "linewidth": 1.4, "alpha": 0.6}
    back.plot([x - 7, x + 7], [y, y], color=canvas.colour("peak"), **how)
