"""Labels: where the name of a line goes, so that names lie neither on each other nor on a line."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Box = tuple[float, float, float, float]  # left, top, right, bottom


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places at least `gap` apart, within low and high if they fit, as near to those wanted as can be.

    Least squares under the order of those wanted: pool neighbours that are too close (isotonic regression).
    """
    order = np.argsort(wanted, kind="stable")
    pools: list[tuple[float, int]] = []  # mean of (wanted - rank * gap), number of members
    for rank, at in enumerate(order):
        mean, count = wanted[at] - rank * gap, 1
        while pools and pools[-1][0] > mean:
            before, members = pools.pop()
            mean, count = (mean * count + before * members) / (count + members), count + members
        pools.append((mean, count))
    top = max(low, high - gap * (len(wanted) - 1))
    starts = [min(max(mean, low), top) for mean, count in pools for _ in range(count)]
    places = [0.0] * len(wanted)
    for rank, at in enumerate(order):
        places[at] = starts[rank] + rank * gap
    return places


def place(
    anchor: tuple[float, float],
    size: tuple[float, float],
    lines: np.ndarray,
    taken: Sequence[Box],
    within: Box,
) -> Box:
    """A box for the label of a point amid the figure: near it, and over as little as possible.

    lines  (N, 2) points along everything drawn; taken  boxes of other labels
    """
    x, y = anchor
    width, height = size
    best, least = (x, y, x + width, y + height), np.inf
    for right in (10.0, -width / 2, -width - 10):
        for down in (0.0, -16, 16, -28, 28, -42, 42):
            if right == -width / 2 and abs(down) < 16:
                continue  # on the point itself
            left, top = x + right, y + down - height / 2
            box = (left, top, left + width, top + height)
            over = _inside(lines, box) + 50 * sum(_overlap(box, other) for other in taken)
            outside = left < within[0] or top < within[1] or box[2] > within[2] or box[3] > within[3]
            cost = over + 1000 * outside + abs(down) / 8 + (right != 10) * 2
            if cost < least:
                best, least = box, cost
    return best


def _inside(points: np.ndarray, box: Box) -> int:
    if not len(points):
        return 0
    x, y = points.T
    return int(((x > box[0] - 3) & (x < box[2] + 3) & (y > box[1] - 1) & (y < box[3] + 1)).sum())


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
