"""Canvas: what every figure is drawn on. Places in pixels, type of one size, colours by role.

A figure is drawn for one of two widths, with the same type: a phone's reader gets other proportions, not
smaller letters. Roles ("ink", "kernel:blas", "kind:dW") become colours here, so that one drawing serves a
slide (real colours) and the page (stand-ins that `reports.svg` turns into CSS variables).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reports import palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Transform

TYPE = 12.5  # px, of every letter in a figure
SMALL = 11.0
BOLD = 1.12  # how much wider bold letters are
WIDE, PHONE, SLIDE = 880.0, 344.0, 960.0  # widths
DPI = 72  # one SVG unit is one pixel

SETTINGS: Any = {
    "font.family": "DejaVu Sans",  # comes with Matplotlib; what is measured with it fits other fonts too
    "font.size": TYPE,
    "svg.fonttype": "none",
    "svg.hashsalt": "gemmlab",
    "text.parse_math": False,  # a kernel may be called a$b
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 2.0,
    "lines.markersize": 8,
    "hatch.linewidth": 0.8,
    "path.simplify": False,
}


@dataclass
class Canvas:
    """Width in pixels, the colour of a role, and the styles of the kernels in this report.

    title  drawn above the figure where it has to stand alone, else None
    pad    pixels left free on both sides
    tips   what the reader's pointer is told: id of an artist -> text; filled while drawing
    """

    width: float
    colour: Callable[[str], str]
    styles: Mapping[str, palette.Style]
    title: str | None = None
    pad: float = 0.0
    tips: dict[str, str] = field(default_factory=dict)

    @property
    def inner(self) -> float:
        """The width between the pads."""
        return self.width - 2 * self.pad

    @property
    def narrow(self) -> bool:
        return self.width < 500

    def frame(
        self, left: float, top: float, right: float, bottom: float, height: float
    ) -> tuple[Figure, Axes]:
        """A figure with one pair of axes: margins (inside the pads) and the height of the axes in pixels."""
        from matplotlib.figure import Figure

        lines = wrap(self.title, self.inner, TYPE * 1.4) if self.title else []
        top += 28 * len(lines) + (16 if lines else 0)
        left, right = left + self.pad, right + self.pad
        whole = top + height + bottom
        figure = Figure(figsize=(self.width / DPI, whole / DPI), dpi=DPI, facecolor=self.colour("paper"))
        for at, line in enumerate(lines):
            figure.text(
                self.pad / self.width,
                1 - (32 + 28 * at) / whole,
                line,
                size=TYPE * 1.4,
                weight="bold",
                color=self.colour("ink"),
            )
        box = (left / self.width, bottom / whole, (self.width - left - right) / self.width, height / whole)
        return figure, self._axes(figure, box)

    def pair(
        self, left: float, top: float, right: float, bottom: float, height: float, gap: float
    ) -> tuple[Figure, Axes, Axes]:
        """Two pairs of axes of one size, `gap` pixels apart: side by side, on a phone one below the other.

        Margins as of `frame`; the gap has the labels between the two in it.
        """
        if self.narrow:
            figure, first = self.frame(left, top, right, bottom + height + gap, height)
            x, y, width, tall = first.get_position().bounds
            box = (x, y - tall * (height + gap) / height, width, tall)
        else:
            each = (self.inner - left - gap - right) / 2
            figure, first = self.frame(left, top, right + gap + each, bottom, height)
            x, y, width, tall = first.get_position().bounds
            box = (x + (each + gap) / self.width, y, width, tall)
        return figure, first, self._axes(figure, box)

    def panel(
        self, figure: Figure, sheet: Axes, left: float, top: float, width: float, height: float
    ) -> Axes:
        """Further axes, a box in pixels right and down of the top left corner of `sheet`."""
        whole, box = figure.bbox, sheet.bbox
        x, y = box.x0 + left, box.y1 - top - height
        box_of = (x / whole.width, y / whole.height, width / whole.width, height / whole.height)
        return self._axes(figure, box_of)

    def _axes(self, figure: Figure, box: tuple[float, float, float, float]) -> Axes:
        axes = figure.add_axes(box, facecolor="none")
        axes.tick_params(colors=self.colour("muted"), pad=6)
        axes.spines["bottom"].set_color(self.colour("grid"))
        return axes

    def across(self, axes: Axes) -> float:
        """The width of axes in pixels."""
        return float(axes.get_position().width * self.width)

    def tip(self, text: str) -> str:
        """An id for an artist that tells `text` to the pointer."""
        self.tips[f"tip{len(self.tips)}"] = text
        return f"tip{len(self.tips) - 1}"

    def kernel(self, name: str) -> str:
        return self.colour(f"kernel:{name}")

    def pixels(self, axes: Axes) -> Transform:
        """From pixels right and down of the axes' top left corner, to wherever that is drawn."""
        from matplotlib.transforms import Affine2D

        box = axes.bbox  # in pixels, as long as nobody has asked for another resolution
        return Affine2D().scale(1 / box.width, -1 / box.height).translate(0, 1) + axes.transAxes

    def text(self, axes: Axes, x: float, y: float, words: str, role: str = "ink", **how: Any) -> None:
        """Text at (x, y) pixels."""
        where = self.pixels(axes)
        axes.text(x, y, words, transform=where, color=self.colour(role), **({"va": "center"} | how))

    def mark(self, axes: Axes, x: float, y: float, kernel: str) -> None:
        """A kernel's marker at (x, y) pixels."""
        marker, colour = self.styles[kernel].marker, self.kernel(kernel)
        axes.plot([x], [y], marker=marker, color=colour, transform=self.pixels(axes), clip_on=False)


def standalone(styles: Mapping[str, palette.Style]) -> Callable[[str], str]:
    """Real colours, for slides on white."""
    return lambda role: palette.colour(role, styles).light


def extent(words: str, size: float = TYPE) -> float:
    """The width of a text in pixels, an upper bound for narrower fonts than the one measured."""
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont("DejaVu Sans"))  # Matplotlib's own object, which its drawing sets to other sizes
    font.set_size(size, DPI)
    font.set_text(words)
    return float(font.get_width_height()[0] / 64)


def wrap(words: str, width: float, size: float = TYPE) -> list[str]:
    """A text in lines of at most `width` pixels."""
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and extent(longer, size) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def widest(words: Iterable[str], size: float = TYPE) -> float:
    """The width of the widest, in bold."""
    return max((extent(word, size) * BOLD for word in words), default=0.0)


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten, or 1-2-5 steps where there are few of them."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1,) if math.log10(high / low) > 2.2 else (1, 2, 5)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    return [tick for tick in ticks if low <= tick <= high]


def flow(words: Iterable[str], width: float) -> list[list[tuple[str, float]]]:
    """The lines of a key: each word and its place in pixels, as many to a line as fit."""
    lines: list[list[tuple[str, float]]] = [[]]
    x = 0.0
    for word in words:
        long = 20 + extent(word) * BOLD + 16
        if x + long > width and lines[-1]:
            lines.append([])
            x = 0.0
        lines[-1].append((word, x))
        x += long
    return lines
