"""Palette: one colour and one marker per kernel, the same in every figure, light and dark.

Chosen by search in OKLab: at least 3:1 against the background, and as far from one another as that
leaves room for, in full colour vision and in simulated deuteranopia, protanopia and tritanopia (Machado
et al. 2009). Colour is never the only cue: every kernel has its marker and its name beside it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Colour(NamedTuple):
    """The same thing on a light and on a dark background, as #rrggbb."""

    light: str
    dark: str


class Style(NamedTuple):
    """How a kernel is drawn; `marker` is Matplotlib's."""

    colour: Colour
    marker: str


INKS = {
    "paper": Colour("#ffffff", "#14171c"),
    "ink": Colour("#1b1f24", "#e8eaed"),
    "muted": Colour("#5d6570", "#9ba3ae"),
    "grid": Colour("#e3e6ea", "#2b3038"),
    "peak": Colour("#a3243b", "#ff8d97"),
}

KERNELS = {
    "python": Style(Colour("#b8860b", "#f5bd1f"), "o"),
    "numpy-dot": Style(Colour("#b9501a", "#e0651a"), "s"),
    "numba-ijk": Style(Colour("#7b2c71", "#c26aa8"), "^"),
    "numba-ikj": Style(Colour("#0c93dd", "#3bbcf0"), "D"),
    "numba-blocked": Style(Colour("#1c4eba", "#667df0"), "v"),
    "numba-micro": Style(Colour("#0d846d", "#2fe0a0"), "X"),
    "blas": Style(Colour("#272c33", "#e3e8f0"), "P"),
    "cublas": Style(Colour("#444a00", "#87af77"), "*"),
    "torch": Style(Colour("#825349", "#dca1ab"), "p"),
    "dask": Style(Colour("#074650", "#96d5e4"), "h"),
}

# for cblas:*, cuda-* and kernels of the user's own
FURTHER = (
    Style(Colour("#7e66e6", "#9a82d6"), "<"),
    Style(Colour("#7f8e5e", "#798758"), ">"),
    Style(Colour("#a06ab4", "#a855ce"), "d"),
    Style(Colour("#6a989a", "#729f97"), "H"),
    Style(Colour("#654636", "#beecc4"), "8"),
)

# Cool for the matrix products, warm for everything else: what share is products shows at a glance.
PRODUCTS = ("Z", "H", "dW", "dU", "dX", "dH")
MOVES = ("im2col", "col2im", "transpose")  # one kind, "rows": what a layer makes its rows with
KINDS = {
    "Z": Colour("#28229c", "#6c8cf5"),
    "H": Colour("#8b10f0", "#9e14fb"),
    "dW": Colour("#0760a9", "#4abaf0"),
    "dU": Colour("#9075d3", "#3b7b6c"),
    "dX": Colour("#008089", "#8fe6ef"),
    "dH": Colour("#28074c", "#c4ffea"),
    "rows": Colour("#420e02", "#ae4923"),
    "bias": Colour("#b38a20", "#cda820"),
    "activation": Colour("#b4523e", "#d9703f"),
    "loss": Colour("#6d1538", "#fe86b0"),
    "db": Colour("#734508", "#ffd6a3"),
    "update": Colour("#a30f6a", "#b56fb3"),
    "remainder": Colour("#7b828c", "#828a96"),
}

LADDER = (
    "python",
    "numpy-dot",
    "numba-ijk",
    "numba-ikj",
    "numba-blocked",
    "numba-micro",
    "numba",
    "blas",
    "cblas",
    "torch",
    "cuda",
    "cublas",
    "dask",
)


def ladder(names: Iterable[str]) -> list[str]:
    """Kernel names, each once, in the order of the ladder; those it does not know come last, by name."""

    def rung(name: str) -> tuple[int, str]:
        plain = name.partition(" ")[0]  # what follows is a revision
        known = (plain, plain.partition(":")[0], plain.partition("-")[0])
        return next((LADDER.index(part) for part in known if part in LADDER), len(LADDER)), name

    return sorted(set(names), key=rung)


def styles(names: Iterable[str]) -> dict[str, Style]:
    """A style for each name: its own if it has one, else one of the further ones, picked by the name.

    A name keeps its further style from report to report, unless another name of this report has it.
    """
    found, taken = {}, set[int]()
    for name in ladder(names):
        if name in KERNELS:
            found[name] = KERNELS[name]
            continue
        first = hashlib.sha256(name.encode()).digest()[0] % len(FURTHER)
        places = [(first + step) % len(FURTHER) for step in range(len(FURTHER))]
        place = next((place for place in places if place not in taken), first)
        taken.add(place)
        found[name] = FURTHER[place]
    return found


def kind(op: str, parts: Iterable[str] = ()) -> str:
    """The kind of an operation (a key of KINDS); a fused one counts as the product in it."""
    words = {word for name in (op, *parts) for word in re.findall(r"[A-Za-z]+", name)}
    if op in MOVES:
        return "rows"
    return next((known for known in (*PRODUCTS, *KINDS) if known in words), "remainder")


def colour(role: str, styles: Mapping[str, Style]) -> Colour:
    """The colour of a role: "ink", "kernel:NAME" or "kind:KIND"."""
    family, _, name = role.partition(":")
    if family == "kernel":
        return styles[name].colour
    return KINDS[name] if family == "kind" else INKS[role]
