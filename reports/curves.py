"""Curves: loss and accuracy against epochs and against seconds. The same curve, another clock, for each kernel."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.records import Line, Run, canonical, number
from reports import palette, wording
from reports.canvas import SMALL, Canvas, extent, flow, log_ticks, widest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Kernels whose seconds differ by more than this are drawn on a logarithmic clock: there a factor is a shift.
APART = 3.0
# Losses that differ by more than this are drawn on a logarithmic axis.
STEEP = 20.0
# What a curve is of, and how it is drawn: the first there is stands for the kernel.
LOSSES = (("train_loss", "training", ()), ("validation_loss", "validation", (8, 4)))
ACCURACIES = (("test_accuracy", "test", ()), ("validation_accuracy", "validation", (8, 4)))
Point = tuple[int, float, float]  # epoch, seconds, value
Kinds = Sequence[tuple[str, str, tuple[int, ...]]]  # a field of an epoch, its name, dashes in pixels


@dataclass(frozen=True)
class Course:
    """One network that learns the same data in the same order, on one kernel or several.

    lines  kernel -> its line of kind `training`, in ladder order
    """

    name: str
    lines: dict[str, Line]

    @property
    def learnt(self) -> dict[str, Line]:
        """Those that have ended an epoch."""
        return {kernel: line for kernel, line in self.lines.items() if line["epochs"]}

    def points(self, kernel: str, what: str) -> list[Point]:
        """(epoch, seconds, value) after every epoch that has one."""
        found = []
        for epoch in self.lines[kernel]["epochs"]:
            value = number(epoch.get(what))
            if value is not None and math.isfinite(value):
                found.append((int(epoch["epoch"]), float(epoch["cumulative_s"]), value))
        return found

    def has(self, kinds: Kinds) -> bool:
        return any(self.points(kernel, what) for kernel in self.lines for what, *_ in kinds)


def courses(run: Run) -> list[Course]:
    """The trainings of a run, those of the same network and data together."""
    groups: dict[str, list[Line]] = {}
    for line in run.of("training"):
        groups.setdefault(canonical([line["model"], line["threads"]]), []).append(line)
    made = []
    for members in groups.values():
        by_kernel = {str(line["kernel"]): line for line in members}
        model, threads = members[0]["model"], members[0]["threads"]
        name = f"{wording.architecture(model)} on {model.get('data')}, {wording.threads(threads)}"
        made.append(Course(name, {kernel: by_kernel[kernel] for kernel in palette.ladder(by_kernel)}))
    return made


def losses(course: Course, canvas: Canvas) -> Figure:
    """Mean loss of an epoch's steps, and of the validation part after it."""
    return _curves(course, canvas, LOSSES, "loss", _loss_axis)


def accuracies(course: Course, canvas: Canvas) -> Figure:
    """Shares of the test and the validation part that are labelled right after an epoch."""
    return _curves(course, canvas, ACCURACIES, "% right", _accuracy_axis)


def seen_in_losses(course: Course) -> str:
    """What to see: by how much the clocks differ, and that nothing else does."""
    clocks = {kernel: float(line["seconds"]) for kernel, line in course.learnt.items()}
    fast, slow = min(clocks, key=lambda k: clocks[k]), max(clocks, key=lambda k: clocks[k])
    what = wording.plural(len(course.lines[fast]["epochs"]), "epoch")
    if len(clocks) == 1:
        return f"{fast} takes {wording.duration(clocks[fast])} in the steps of {what}."
    lie = "lie on each other" if _alike(course, LOSSES) else "drift apart by rounding"
    return (
        f"Against epochs the curves {lie}; {what} take {wording.duration(clocks[fast])} with {fast} and "
        f"{wording.duration(clocks[slow])} with {slow}, in one process each: these seconds have no interval."
    )


def seen_in_accuracies(course: Course) -> str:
    """What to see: how much is right in the end."""
    found = []
    for what, name, _ in ACCURACIES:
        last = [points[-1] for kernel in course.learnt if (points := course.points(kernel, what))]
        if last:
            low, high = (wording.percent(bound([point[2] for point in last])) for bound in (min, max))
            share = low if low == high else f"{low.removesuffix(' %')} to {high}"
            found.append(f"{share} of the {name} examples")
    epochs = wording.plural(max(len(line["epochs"]) for line in course.learnt.values()), "epoch")
    kernels = ", whatever the kernel" if len(course.learnt) > 1 else ""
    return f"After {epochs} {wording.listed(found)} are labelled right{kernels}."


def _alike(course: Course, kinds: Kinds) -> bool:
    """True if no two kernels' values after an epoch differ by what can be seen: a hundredth of their range."""
    for what, *_ in kinds:
        lines = [{epoch: value for epoch, _, value in course.points(k, what)} for k in course.learnt]
        values = [value for line in lines for value in line.values()]
        if not values:
            continue
        room = (max(values) - min(values)) / 100
        shared = set.intersection(*(set(line) for line in lines))
        if any(max(at) - min(at) > room for at in ([line[e] for line in lines] for e in shared)):
            return False
    return True


def _curves(
    course: Course,
    canvas: Canvas,
    kinds: Kinds,
    unit: str,
    value_axis: Callable[[Axes, Canvas, list[float]], None],
) -> Figure:
    kernels = list(course.learnt)
    shown = [kind for kind in kinds if any(course.points(kernel, kind[0]) for kernel in kernels)]
    key = flow(kernels, canvas.inner)
    kept = any(course.lines[kernel].get("best_epoch") for kernel in kernels)
    top = 22.0 * (len(key) + (len(shown) > 1 or kept)) + 30
    height = 210.0 if canvas.narrow else 280.0
    figure, by_epoch, by_second = canvas.pair(48, top, 16, 44, height, 84 if canvas.narrow else 64)
    values = [
        value for kernel in kernels for what, *_ in shown for _, _, value in course.points(kernel, what)
    ]
    for axes in (by_epoch, by_second):
        value_axis(axes, canvas, values)
    _epoch_axis(
        by_epoch, max(epoch for k in kernels for what, *_ in shown for epoch, _, _ in course.points(k, what))
    )
    seconds = {
        kernel: [s for what, *_ in shown for _, s, _ in course.points(kernel, what)] for kernel in kernels
    }
    _second_axis(by_second, canvas, [one for one in seconds.values() if one])
    for place, kernel in enumerate(kernels):
        for what, name, style in shown:
            points = course.points(kernel, what)
            for axes, at in ((by_epoch, 0), (by_second, 1)):
                # Curves that lie on each other are drawn ever thinner, so that each shows beside the next.
                wide = 2.0 + 2.2 * (len(kernels) - 1 - place) * (axes is by_epoch)
                _draw(axes, canvas, kernel, name, points, at, style, wide)
        name, points = shown[-1][1], course.points(kernel, shown[-1][0])
        for point in (point for point in points if point[0] == course.lines[kernel].get("best_epoch")):
            for axes, at in ((by_epoch, 0), (by_second, 1)):
                _mark(axes, canvas, kernel, f"{name}, whose weights were kept", point, at, hollow=True)
    _key(by_epoch, canvas, key, shown, kept)
    for axes in (by_epoch, by_second):
        canvas.text(axes, -46, -14, unit, "muted", size=SMALL)
    width = canvas.across(by_epoch)
    canvas.text(by_epoch, width / 2, height + 34, "epochs", "muted", size=SMALL, ha="center")
    canvas.text(by_second, width / 2, height + 34, "seconds in steps", "muted", size=SMALL, ha="center")
    return figure


def _draw(
    axes: Axes, canvas: Canvas, kernel: str, name: str, points: Sequence[Point], at: int,
    dashes: tuple[int, ...], wide: float,
) -> None:  # fmt: skip
    """A curve, and the kernel's mark at its end."""
    if not points:
        return
    style: Any = (
        (0, [dash / wide for dash in dashes]) if dashes else "-"
    )  # in pixels, however wide the line is
    colour = canvas.kernel(kernel)
    axes.plot([p[at] for p in points], [p[2] for p in points], color=colour, linestyle=style, linewidth=wide)
    _mark(axes, canvas, kernel, name, points[-1], at)


def _mark(
    axes: Axes, canvas: Canvas, kernel: str, name: str, point: Point, at: int, hollow: bool = False
) -> None:
    epoch, seconds, value = point
    colour, paper = canvas.kernel(kernel), canvas.colour("paper")
    words = f"{kernel}, {name}: {wording.digits(value)} after epoch {epoch}, {wording.duration(seconds)}"
    axes.plot(
        [point[at]],
        [value],
        marker=canvas.styles[kernel].marker,
        color=paper if hollow else colour,
        markeredgecolor=colour if hollow else paper,
        markeredgewidth=1.4 if hollow else 0.8,
        clip_on=False,
        gid=canvas.tip(words),
    )


def _key(axes: Axes, canvas: Canvas, key: list[list[tuple[str, float]]], shown: Kinds, kept: bool) -> None:
    """The kernels' marks and names above the figure, and which line is of what."""
    y = 11.0 - 22 * (len(key) + (len(shown) > 1 or kept)) - 30
    for row in key:
        for kernel, x in row:
            canvas.mark(axes, x - 42, y, kernel)
            canvas.text(axes, x - 30, y, kernel, weight="bold")
        y += 22
    x, muted = -48.0, canvas.colour("muted")
    how: dict[str, Any] = {"transform": canvas.pixels(axes), "clip_on": False, "color": muted}
    for _, name, dashes in shown if len(shown) > 1 else ():
        style: Any = (0, [dash / 2 for dash in dashes]) if dashes else "-"
        axes.plot([x, x + 26], [y, y], linestyle=style, linewidth=2, **how)
        canvas.text(axes, x + 33, y, name, "muted", size=SMALL)
        x += 33 + extent(name, SMALL) + 22
    if kept:
        axes.plot(
            [x + 6], [y], marker="o", markerfacecolor=canvas.colour("paper"), markeredgewidth=1.4, **how
        )
        canvas.text(axes, x + 18, y, "weights kept", "muted", size=SMALL)


def _loss_axis(axes: Axes, canvas: Canvas, values: list[float]) -> None:
    low, high = min(values), max(values)
    if low > 0 and high / low > STEEP:
        axes.set(yscale="log", ylim=(low / 1.3, high * 1.3))
        ticks = log_ticks(*axes.get_ylim())
        _value_ticks(axes, canvas, ticks, [f"{tick:g}" for tick in ticks])
        return
    room = 0.06 * (high - low or abs(high) or 1.0)
    axes.locator_params(axis="y", nbins=6)
    axes.set(ylim=(max(low - room, 0.0) if low >= 0 else low - room, high + room))
    ticks = [float(tick) for tick in axes.get_yticks() if axes.get_ylim()[0] <= tick <= axes.get_ylim()[1]]
    _value_ticks(axes, canvas, ticks, [f"{tick:g}" for tick in ticks])


def _accuracy_axis(axes: Axes, canvas: Canvas, values: list[float]) -> None:
    low = min(values)
    axes.locator_params(axis="y", nbins=6)
    axes.set(ylim=(max(0.0, low - 0.06 * (1.0 - low) - 0.005), 1.0))
    ticks = [float(tick) for tick in axes.get_yticks() if axes.get_ylim()[0] <= tick <= 1.0001]
    _value_ticks(axes, canvas, ticks, [f"{100 * tick:.4g}" for tick in ticks])


def _value_ticks(axes: Axes, canvas: Canvas, ticks: Sequence[float], names: Sequence[str]) -> None:
    axes.set_yticks(ticks, names)
    axes.set_yticks([], minor=True)
    axes.grid(True, axis="y", color=canvas.colour("grid"), linewidth=1)


def _epoch_axis(axes: Axes, last: int) -> None:
    axes.set(xlim=(1 - 0.02 * last, last + 0.02 * last) if last > 1 else (0.5, 1.5))
    step = max(1, math.ceil(last / 6))
    step = next(nice * 10**power for power in range(9) for nice in (1, 2, 5) if nice * 10**power >= step)
    axes.set_xticks(sorted({1, *range(step, last + 1, step)} - ({step} if step == 2 and last > 9 else set())))


def _second_axis(axes: Axes, canvas: Canvas, seconds: Iterable[Sequence[float]]) -> None:
    lines = list(seconds)
    totals = [max(line) for line in lines]
    low, high = min(map(min, lines)), max(totals)
    if max(totals) / min(totals) > APART and low > 0:
        axes.set(xscale="log", xlim=(low / 1.15, high * 1.15))
        ticks = log_ticks(*axes.get_xlim())
    else:
        axes.set(xlim=(0.0, high * 1.03))
        axes.locator_params(axis="x", nbins=5)
        ticks = [float(tick) for tick in axes.get_xticks() if 0 <= tick <= axes.get_xlim()[1]]
    names = [_time(tick, high) for tick in ticks]
    every = max(1, math.ceil(len(ticks) * (widest(names) + 12) / canvas.across(axes)))
    axes.set_xticks(ticks[::every], names[::every])
    axes.set_xticks([], minor=True)


def _time(seconds: float, high: float) -> str:
    """Of a tick: 0, 20 ms, 0.5 s."""
    if seconds == 0:
        return "0"
    return f"{seconds * 1e3:g} ms" if high < 0.2 or seconds < 0.01 else f"{seconds:g} s"
