"""The cost model: seconds of a network's operations from their sizes, with prices fitted to what was measured.

An operation is a sum of *terms*, each a quantity that its sizes tell (calls, FLOPs, bytes of A, B and C, bytes that the
caches cannot have kept, elements of what is fused) times a *price* in seconds:

    product      calls + FLOPs + bytes of A, of B, of C, for each order (nn, nt, tn); elements of each fused part
    other        calls + bytes, for each kind (a loss, an optimizer's update, ...)
    from afar    bytes that do not stay in the L2, in the L3, between one use and the next: of products, of others
    step, row    what Python adds to a step, and the recorder to each row of an instrumented one

How much of the last cache is at hand, which others use too, is fitted: the share with which the sums are nearest.
Prices are fitted by non-negative least squares (Lawson and Hanson 1974; scipy) of *relative* errors: nothing costs
less than nothing, and a microsecond counts as much where it is a tenth of a step as a millisecond does. What a sum of
terms cannot tell, where a kernel changes from one path to another, a tile fits badly, or an array outgrows a cache, is
interpolated for each kind: a Gaussian process over log2 m, n and k (of what is no product, over log2 of its bytes) and
of the bytes that pass by between one use of its operands and the next, of the logarithm of measured over sum (Rasmussen
and Williams 2006, ch. 2), which is 0, so that the sum alone stands, far from everything that was measured.

How far off the model is, it says itself: each calibrated network is predicted by a model that has not seen it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

ORDERS = ("nn", "nt", "tn")
LEVELS = ("L2", "L3")
STEP, ROW = "step", "row"
# Of a last cache a machine's other users leave this one a share: all, or halved less than so many times; less only
# where that brings what is left over down to this.
HALVED, BETTER = 5, 0.99
# A logarithm so many times as far from the median as half of them are is a disturbed sample, no property of a shape.
FAR = 4.0
# What the interpolation is fitted within: length scales in octaves (longer ones of `around`, which all rows of a
# network have in common, as they have a bad moment of the machine), variances of the logarithm.
SCALES, SCALES_AROUND, SIGNAL, NOISE = (0.7, 8.0), (2.0, 8.0), (1e-4, 1.0), (1e-4, 0.1)
FOLDS = 10
# A relative error up to this counts squared, beyond it as it is (Huber 1964), by weights that are found in so many
# turns: a neighbour in a cache makes some samples slow, and none fast.
USUAL, REWEIGHTED = 0.1, 5
# Below the first so many bytes stay in a core's own caches, beyond the second in none.
AROUND = (1 << 17, 1 << 26)
# A task needs so many others of its kind, or there is no interpolation.
FEWEST = 8
# Length scales and variances follow from so many at most.
MANY = 150

Terms = dict[str, float]


@dataclass(frozen=True)
class Task:
    """An operation, as far as its cost goes.

    kind    of a product its order, "nn", "nt" or "tn"; of another what it is: "loss:hinge", "update:adam", "db"
    m, n, k of a product, with `times`: how many equal ones it stands for; 0 of another
    parts   of a product: what it does besides, "bias", "relu", "relu'", "update", ...
    bytes   that it reads and writes at least
    around  bytes that pass by between one use of its operands and the next: what a whole step works on
    """

    kind: str
    m: int = 0
    n: int = 0
    k: int = 0
    times: int = 1
    parts: tuple[str, ...] = ()
    bytes: int = 0
    around: int = 0
    itemsize: int = 4

    @property
    def is_product(self) -> bool:
        return self.m > 0


@dataclass(frozen=True)
class Measured:
    """Tasks that together took so many seconds.

    tasks   of an operation one, of a whole step all
    extra   terms that are no task's: STEP of a step, ROW of an operation under the recorder
    source  what it came from, a network or a product: left out together in cross-validation
    """

    tasks: tuple[Task, ...]
    seconds: float
    extra: tuple[str, ...]
    source: str
    weight: float = 1.0


def terms(task: Task, caches: Mapping[str, int]) -> Terms:
    """The quantities of a task, by the names of their prices; caches: bytes of LEVELS, of those that are known."""
    far = {
        level: task.bytes * max(0.0, 1 - caches[level] / task.around)
        for level in LEVELS
        if caches.get(level) and task.around
    }
    if not task.is_product:
        found = {f"{task.kind}.call": 1.0, f"{task.kind}.byte": float(task.bytes)}
        return found | {f"other.beyond {level}": amount for level, amount in far.items()}
    m, n, k, times, unit = task.m, task.n, task.k, task.times, task.itemsize
    found = {
        f"{task.kind}.call": float(times),
        f"{task.kind}.flop": 2.0 * m * n * k * times,
        f"{task.kind}.a": float(m * k * unit * times),
        f"{task.kind}.b": float(k * n * unit * times),
        f"{task.kind}.c": float(m * n * unit * times),
    }
    found |= {f"{part}.element": float(m * n * times) for part in task.parts}
    return found | {f"product.beyond {level}": amount for level, amount in far.items()}


@dataclass
class Shapes:
    """The interpolation over the sizes of one kind of task: a Gaussian process's mean.

    at       (count, d): `sizes` of what was measured, d as many as those have
    weights  (count,): of each
    scales   (d,): octaves over which it changes
    signal, noise  variances: of what it follows, and of what it takes for noise
    low, high  the least and the largest logarithm that was seen: beyond what was measured it does not go on
    """

    at: list[list[float]]
    weights: list[float]
    scales: list[float]
    signal: float
    noise: float
    low: float = 0.0
    high: float = 0.0

    def factor(self, task: Task) -> float:
        """Measured over the sum of terms, as near as what was measured tells."""
        here, total = sizes(task), 0.0
        for there, weight in zip(self.at, self.weights):
            away = sum(((x - y) / scale) ** 2 for x, y, scale in zip(here, there, self.scales))
            total += weight * math.exp(-away / 2)
        return math.exp(min(max(self.signal * total, self.low), self.high))


def sizes(task: Task) -> list[float]:
    """What the cost of a kind of task is interpolated over: log2 of m, n and k, or of the bytes; and of `around`."""
    own = (task.m, task.n, task.k) if task.is_product else (max(1, task.bytes),)
    least, most = AROUND
    return [math.log2(x) for x in (*own, min(max(task.around, least), most))]


@dataclass
class CostModel:
    """Prices (seconds for each unit of a term), and what is interpolated over shapes, by order.

    caches     bytes of "L2" and "L3", of those that are known; of L3 what is at hand, which is fitted
    bandwidth  B/s at which what is no product and was not measured is taken to move its bytes; NaN: nobody knows
    """

    prices: Terms
    shapes: dict[str, Shapes]
    caches: dict[str, int]
    bandwidth: float = math.nan

    def knows(self, task: Task) -> bool:
        """Whether anything of its kind, and with its parts, was measured."""
        needed = [f"{task.kind}.byte"] if not task.is_product else [f"{task.kind}.flop"]
        return all(name in self.prices for name in needed + [f"{part}.element" for part in task.parts])

    def seconds(self, task: Task) -> float:
        """What a task takes, 0 at least.

        Of an order that was not measured as one that was; of another kind that was not, its bytes at the bandwidth; a
        fused part that was not costs nothing (`knows` tells).
        """
        if not task.is_product and not self.knows(task):
            return task.bytes / self.bandwidth if self.bandwidth > 0 else 0.0
        if task.is_product and f"{task.kind}.flop" not in self.prices:
            task = replace(task, kind=next((o for o in ORDERS if f"{o}.flop" in self.prices), task.kind))
        total = self.sum(terms(task, self.caches))
        if task.kind in self.shapes:
            total *= self.shapes[task.kind].factor(task)
        return total

    def step(self, tasks: Iterable[Task]) -> float:
        """What a step of these takes, Python's part in it included."""
        return math.fsum(map(self.seconds, tasks)) + self.prices.get(STEP, 0.0)

    def sum(self, amounts: Terms) -> float:
        return math.fsum(self.prices.get(name, 0.0) * amount for name, amount in amounts.items())


def fit(measured: Sequence[Measured], caches: Mapping[str, int], like: CostModel | None = None) -> CostModel:
    """The model that fits best. Raises ValueError where nothing was measured.

    like  a model whose share of the cache, length scales and variances are taken as they are, which saves most of the
          time
    """
    if not measured:
        raise ValueError("there is nothing to fit a cost model to")
    known = {level: size for level, size in caches.items() if level in LEVELS}
    tried = [known | like.caches] if like else _shares(known)
    at_hand, (least, prices) = tried[0], _prices(measured, tried[0])
    for own in tried[1:]:
        loss, others = _prices(measured, own)
        if loss < BETTER * least - 1e-9:  # of exact times rounding is what is left
            at_hand, least, prices = own, loss, others
    model = CostModel(prices, {}, at_hand, _bandwidth(measured))
    alone: dict[str, list[Measured]] = {}
    for one in measured:
        if len(one.tasks) == 1:
            alone.setdefault(one.tasks[0].kind, []).append(one)
    for kind, members in alone.items():
        if len(members) >= FEWEST:
            found = _interpolated(members, model, like.shapes.get(kind) if like else None)
            if found is not None:
                model.shapes[kind] = found
    return model


def _shares(caches: dict[str, int]) -> list[dict[str, int]]:
    """What may be at hand of these caches: of a last one that is shared with others, all, a half, a quarter, ..."""
    last = caches.get("L3", 0)
    sizes = [last >> halved for halved in range(HALVED) if last >> halved > caches.get("L2", 0)]
    return [caches | {"L3": size} for size in sizes] or [caches]


def _bandwidth(measured: Sequence[Measured]) -> float:
    """Bytes per second of all that is no product, in the mean; NaN where nothing of it was measured."""
    others = [one for one in measured if len(one.tasks) == 1 and not one.tasks[0].is_product]
    moved = sum(one.tasks[0].bytes for one in others)
    return moved / math.fsum(one.seconds for one in others) if moved else math.nan


def _prices(measured: Sequence[Measured], caches: Mapping[str, int]) -> tuple[float, Terms]:
    """How far off the sums of terms are, as USUAL weighs it, and the prices that make it least."""
    import numpy as np
    from scipy.optimize import nnls

    rows: list[Terms] = []
    for one in measured:
        row = dict.fromkeys(one.extra, 1.0)
        for task in one.tasks:
            for name, amount in terms(task, caches).items():
                row[name] = row.get(name, 0.0) + amount
        rows.append(row)
    names = sorted({name for row in rows for name in row})
    matrix = np.zeros((len(rows), len(names)))
    for at, (row, one) in enumerate(zip(rows, measured)):
        for name, amount in row.items():
            matrix[at, names.index(name)] = one.weight * amount / one.seconds
    largest = matrix.max(axis=0)
    kept = largest > 0
    names = [name for name, keep in zip(names, kept) if keep]
    scaled = matrix[:, kept] / largest[kept]  # FLOPs and calls are of very different sizes
    wanted = np.array([one.weight for one in measured])
    trust = np.ones(len(measured))
    for _ in range(REWEIGHTED):
        found, _ = nnls(scaled * trust[:, None], wanted * trust, maxiter=50 * len(names))
        off = np.abs(scaled @ found - wanted) / wanted
        trust = np.sqrt(np.minimum(1.0, USUAL / np.maximum(off, 1e-12)))
    loss = np.where(off < USUAL, off**2 / 2, USUAL * (off - USUAL / 2)).sum()
    return float(loss), {name: float(x) for name, x in zip(names, found / largest[kept])}


def _interpolated(measured: Sequence[Measured], model: CostModel, like: Shapes | None) -> Shapes | None:
    """Over what the sum of terms leaves of these, all of one kind; None where that sum says nothing."""
    import numpy as np

    at, found = [], []
    for one in measured:
        (task,) = one.tasks
        own = one.seconds - model.sum(dict.fromkeys(one.extra, 1.0))
        total = model.sum(terms(task, model.caches))
        if own > 0 and total > 0:
            at.append(sizes(task))
            found.append(math.log(own / total))
    if len(at) < FEWEST:
        return None
    logs = np.array(found)
    middle = np.median(logs)
    width = FAR * np.median(np.abs(logs - middle)) + 1e-9
    values = np.clip(logs, middle - width, middle + width)
    return _gaussian_process(np.array(at), values, like)


def _gaussian_process(at: np.ndarray, values: np.ndarray, like: Shapes | None) -> Shapes:
    """Of points (count, d) and values (count,): scales and variances by the likelihood, or those of another."""
    import warnings

    import numpy as np
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    first = like or Shapes([], [], [2.0] * at.shape[1], 0.05, 0.005)
    bounds = [SCALES] * (at.shape[1] - 1) + [SCALES_AROUND]
    kernel = ConstantKernel(first.signal, SIGNAL) * RBF(first.scales, bounds) + WhiteKernel(
        first.noise, NOISE
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # at a bound: as far as it may go
        if like is None:  # the likelihood of some, as its price grows with the cube of their number
            some = np.random.default_rng(0).permutation(len(at))[:MANY]
            kernel = GaussianProcessRegressor(kernel).fit(at[some], values[some]).kernel_
        found = GaussianProcessRegressor(kernel, optimizer=None).fit(at, values)
    variance, scales = found.kernel_.k1.k1.constant_value, found.kernel_.k1.k2.length_scale
    scales = [float(x) for x in np.atleast_1d(scales)]
    return Shapes(
        at.tolist(),
        found.alpha_.ravel().tolist(),
        scales,
        float(variance),
        float(found.kernel_.k2.noise_level),
        float(values.min()),
        float(values.max()),
    )


@dataclass(frozen=True)
class Errors:
    """How far off predictions are of what the model has not seen: predicted over measured, one for each source."""

    ratios: tuple[float, ...]
    of: str  # what was predicted: "networks", or "products" where no network was measured

    def within(self, share: float) -> float:
        """The relative error that so large a share of them stays below (0 to 1)."""
        off = sorted(abs(math.log(ratio)) for ratio in self.ratios)
        return math.expm1(off[min(len(off) - 1, math.ceil(share * len(off)) - 1)]) if off else math.nan


def cross_validated(measured: Sequence[Measured], caches: Mapping[str, int]) -> Errors:
    """Predict each source by a model of the others, FOLDS times; of networks whole steps, else each product."""
    sources = list(dict.fromkeys(one.source for one in measured))
    steps = any(STEP in one.extra for one in measured)
    ratios, whole = [], fit(measured, caches)
    for fold in range(min(FOLDS, len(sources))):
        out = set(sources[fold :: min(FOLDS, len(sources))])
        rest = [one for one in measured if one.source not in out]
        if not rest:
            continue
        model = fit(rest, caches, like=whole)
        for one in measured:
            if one.source in out and (STEP in one.extra) == steps:
                predicted = math.fsum(map(model.seconds, one.tasks))
                predicted += model.sum(dict.fromkeys(one.extra, 1.0))
                if predicted > 0:
                    ratios.append(predicted / one.seconds)
    return Errors(tuple(ratios), "networks" if steps else "products")
