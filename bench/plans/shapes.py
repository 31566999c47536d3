"""Shapes: the small language in which sizes and shapes are written, in flags, in TOML and in Python.

333                   a size
64:4096:*2            sizes from 64, each twice the last, up to 4096 if it is hit
100:1000:+100         sizes 100 apart
784x512x128           a shape, m x n x k; each of the three may be a range: all combinations
784x512x128 tn        ... with an order of its own, in place of the sweep's `orders`
64x64x64 nn *16       ... and a batch of its own: a stack of 16 products, in place of the sweep's `batch`
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

ORDERS = ("nn", "tn", "nt", "tt")
# Sizes that one range may stand for, and shapes that one entry may.
MOST = 10_000
RANGE = re.compile(r"(\d+):(\d+):([*+])(\d+)")


class Shape(NamedTuple):
    """m x n x k; order and batch where this shape brings its own, else None."""

    m: int
    n: int
    k: int
    order: str | None = None
    batch: int | None = None

    @property
    def text(self) -> str:
        """As it is written above: 784x512x128 tn, 64x64x64 nn *16."""
        batch = f" *{self.batch}" if (self.batch or 1) > 1 else ""
        return f"{self.m}x{self.n}x{self.k} {self.order or ORDERS[0]}{batch}"


def whole(value: Any, where: str, what: str = "size") -> int:
    """A size, or another count: a whole number from 1 up, given as one or as text."""
    try:
        number = int(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ValueError(f"{where}: {value!r} is no {what}; it must be a whole number from 1 up")
    return number


def sizes(value: Any, where: str) -> list[int]:
    """The sizes that an entry stands for: one, or those of a range."""
    if not isinstance(value, str) or ":" not in value:
        return [whole(value, where)]
    found = RANGE.fullmatch(value.replace(" ", ""))
    if not found:
        raise ValueError(f"{where}: {value!r} is no range; write 64:4096:*2 or 100:1000:+100")
    first, last, step = whole(found[1], where), int(found[2]), int(found[4])
    if step == 0 or (found[3] == "*" and step == 1):
        raise ValueError(f"{where}: {value!r} never ends; its step must be *2 or more, or +1 or more")
    if last < first:
        raise ValueError(f"{where}: {value!r} ends below its start; write the smaller size first")
    chosen: list[int] = []
    for size in _steps(first, last, found[3], step):
        if len(chosen) == MOST:
            raise ValueError(f"{where}: {value!r} stands for more than {MOST} sizes; take a larger step")
        chosen.append(size)
    return chosen


def shapes(value: Any, where: str) -> list[Shape]:
    """The shapes that an entry stands for: text as above, (m, n, k), or a Shape."""
    if isinstance(value, Shape):  # written out already
        return [value]
    what = f"{where}: shape {value!r}"
    dimensions, order, batch = _parts(value, where) if isinstance(value, str) else (value, None, None)
    if not isinstance(dimensions, Sequence) or len(dimensions) != 3:
        raise ValueError(f"{what} is not m x n x k, such as 128x512x784 or 128x512x784 tn *16")
    m, n, k = (sizes(dimension, what) for dimension in dimensions)
    if len(m) * len(n) * len(k) > MOST:
        raise ValueError(f"{what} stands for more than {MOST} shapes; take larger steps")
    return [Shape(*each, order, batch) for each in product(m, n, k)]


def all_sizes(values: Iterable[Any], where: str) -> tuple[int, ...]:
    """Every size of a list of entries."""
    return tuple(size for value in values for size in sizes(value, where))


def all_shapes(values: Iterable[Any], where: str) -> tuple[Shape, ...]:
    """Every shape of a list of entries."""
    return tuple(shape for value in values for shape in shapes(value, where))


def mixed(values: Iterable[Any], where: str) -> tuple[Shape, ...]:
    """Every shape of a list of which some entries are sizes, of squares: what a group holds."""
    found: list[Shape] = []
    for value in values:
        is_size = isinstance(value, int) or (isinstance(value, str) and "x" not in value.lower())
        found += [Shape(n, n, n) for n in sizes(value, where)] if is_size else shapes(value, where)
    return tuple(found)


def _steps(first: int, last: int, sign: str, step: int) -> Iterator[int]:
    while first <= last:
        yield first
        first = first * step if sign == "*" else first + step


def _parts(text: str, where: str) -> tuple[list[str], str | None, int | None]:
    """The dimensions, the order and the batch of a shape as text."""
    first, *rest = text.lower().split() or [""]
    order = rest.pop(0) if rest and not rest[0].startswith("*") else None
    if order is not None and order not in ORDERS:
        raise ValueError(
            f"{where}: shape {text!r} has no order {order!r}; there are {', '.join(ORDERS)}, after a blank"
        )
    batch = whole(rest.pop(0)[1:], f"{where}: the batch of shape {text!r}") if rest else None
    if rest:
        raise ValueError(f"{where}: shape {text!r} goes on after its batch; leave {' '.join(rest)!r} out")
    return first.split("x"), order, batch
