"""Best: one kernel against the fastest of several peers, shape by shape, and in the mean of each group of shapes.

    against(run, peers, new)    peers: names of kernels; all of one run

A shape's *best* peer is the one with the least time, taken as the mean of its logarithm over the launches. The ratio
to it is a speed-up, one log-ratio per launch, with Student's t over launches, as everywhere (`bench.verdicts.compare`).
Which peer is the best is chosen by the same noisy samples that it is then judged by, and the least of three
noisy means is below the least of the true ones: that favours the peers, never the kernel that is held against
them, and it is not in the interval. A group's figure is the mean log-ratio over its shapes in each launch, and t over
launches; each shape keeps its best peer, chosen over all launches.

A figure counts if every peer that was asked for took part. Where one is missing in the whole run the others are
compared, and `Best.missing` says so. Where somebody has no time for one shape, that shape is left out of all
means, with the reason.

Beside the ratio stands what the ceilings would *allow*: the time of the best peer over the time that
arithmetic at the measured peak, or moving each operand once, would need alone (the roofline, `bench.verdicts.bounds`).
The roofs are measured too, and what was reached is allowed: the figure is never below the ratio, nor below 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from bench.plans.shapes import Shape as Written
from bench.records import Line, Run
from bench.verdicts.bounds import roofline
from bench.verdicts.compare import (
    SAME_WITHIN,
    Logs,
    Mean,
    Pair,
    averaged,
    in_order,
    judged,
    key_of,
    log_ratios,
    mean_of,
    meaning,
    named,
    pair_of,
    regressions,
    why_not,
)
from bench.verdicts.statistics import (
    Floor,
    Interval,
    Result,
    as_figures,
    floor_for,
    floors,
    geometric,
    results,
    speedup,
)

# The libraries whose best a kernel has to beat; a figure against fewer does not count.
LIBRARIES = ("cblas:openblas", "cblas:blis", "cblas:mkl")
# Kernels that somebody else has written: what a user would otherwise take.
VENDORS = ("blas", "torch", "cublas")
# The groups of shapes that a run's plan puts in none.
SQUARES, OTHERS, ALL = "squares", "other shapes", "all"

Setting = tuple[str, int, str]  # dtype, threads, cache


@dataclass(frozen=True)
class Shape:
    """One problem, on one number of threads.

    group       the group of the run's plan that it is in, else `squares` or `other shapes`
    best        the peer that is the fastest here; None where none has a time
    pair        NEW against it: times, ratio, floor and verdict, or the reason why there are none
    ratios      NEW's speed-up over each peer, and over each other library in the run
    share       of the measured multiply-add peak that NEW reaches, 0 to 1; `best_share` the best peer; NaN if unknown
    allows      the speed-up that the ceilings would leave; NaN if unknown
    """

    group: str
    best: str | None
    pair: Pair
    ratios: Mapping[str, Interval]
    share: float = math.nan
    best_share: float = math.nan
    allows: float = math.nan

    @property
    def compared(self) -> bool:
        return bool(self.ratios)

    @property
    def setting(self) -> Setting:
        return self.pair.problem["dtype"], self.pair.threads, self.pair.cache

    def record(self) -> Line:
        """For --json."""
        ratios = {kernel: as_figures(ratio) for kernel, ratio in self.ratios.items()}
        own = {key: getattr(self, key) for key in ("group", "best", "share", "best_share", "allows")}
        return self.pair.record() | own | {"ratios": ratios}


@dataclass(frozen=True)
class Group:
    """A group's figures for one dtype, number of threads and cache state: geometric means over its shapes.

    mean      cells, the ratio to the best peer of each, floor and verdict
    worst     the shape with the least ratio
    ratios    the speed-up over each peer alone, and over other libraries that have a time for every shape
    share, best_share, allows   as of a shape
    """

    name: str
    dtype: str
    threads: int
    cache: str
    mean: Mean
    worst: Shape
    ratios: Mapping[str, Interval]
    share: float
    best_share: float
    allows: float

    @property
    def setting(self) -> Setting:
        return self.dtype, self.threads, self.cache

    def record(self) -> Line:
        """For --json."""
        ratios = {kernel: as_figures(ratio) for kernel, ratio in self.ratios.items()}
        kept = ("name", "dtype", "threads", "cache", "share", "best_share", "allows")
        worst = {"problem": self.worst.pair.problem, "best": self.worst.best}
        worst |= {"ratio": as_figures(self.worst.pair.ratio)}
        return (
            {key: getattr(self, key) for key in kept}
            | self.mean.record()
            | {"worst": worst, "ratios": ratios}
        )


@dataclass(frozen=True)
class Best:
    """NEW against the best of its peers.

    peers     those that have times in the run; `missing` the others, and why
    beside    other libraries of the run: shown, not chosen among
    shapes    every problem, also those that are left out of the means, with the reason
    groups    in the order of the run's plan, for one setting after another; `totals` over all groups of a setting
    """

    new: str
    peers: tuple[str, ...]
    missing: Mapping[str, str]
    beside: tuple[str, ...]
    shapes: tuple[Shape, ...]
    groups: tuple[Group, ...]
    totals: tuple[Group, ...]

    @property
    def counts(self) -> bool:
        """False if a peer is missing, or NEW is broken where a peer is right."""
        return not self.missing and not any(shape.pair.broken for shape in self.shapes)

    @property
    def settings(self) -> list[Setting]:
        """Each of dtype, threads and cache that has figures."""
        return [total.setting for total in self.totals]

    def regressions(self, percent: float) -> list[Pair | Mean]:
        """What is slower than the best, above its floor, and takes more than `percent` % longer; what is broken."""
        means = [group.mean for group in (*self.groups, *self.totals)]
        return regressions([shape.pair for shape in self.shapes], means, percent)

    def record(self) -> Line:
        """For --json."""
        parts = ("shapes", "groups", "totals")
        return (
            dict(vars(self))
            | {key: [one.record() for one in getattr(self, key)] for key in parts}
            | {"form": "best", "counts": self.counts}
        )


def several(names: str) -> list[str] | None:
    """The peers of a list with commas between, or None: one name, or a mapping (`blas,1=numba-ikj`)."""
    peers = [name.strip() for name in names.split(",")]
    return peers if len(peers) > 1 and "=" not in names and all(peers) else None


def is_library(kernel: str) -> bool:
    """Is it somebody else's: any CBLAS, NumPy's BLAS, PyTorch, cuBLAS?"""
    return kernel in VENDORS or kernel.startswith("cblas:")


def against(run: Run, peers: Iterable[str], new: str, same_within: float = SAME_WITHIN) -> Best:
    """NEW against the best of its peers at each product of a run.

    Raises ValueError for a NEW that the run does not hold, one that is its own peer, or peers of which none has a time.
    """
    found = [result for result in results(run) if result.problem and not result.cell.get("revision")]
    new = named(new, found, run)
    there = list(dict.fromkeys(result.kernel for result in found))
    asked = list(dict.fromkeys(named(p, found, run) if meaning(p, there) else p for p in peers))
    if new in asked:
        raise ValueError(f"{new!r} is among those that it is to be compared with; leave it out of them")
    cells: dict[str, dict[str, Result]] = {}
    for result in found:
        cells.setdefault(result.kernel, {})[key_of(result)] = result
    missing = {peer: why for peer in asked if (why := _absent(cells.get(peer, {})))}
    present = [peer for peer in asked if peer not in missing]
    if not present:
        raise ValueError(
            f"{', '.join(asked)}: none has a time in {run.path}; there are {', '.join(there) or 'no kernels'}"
        )
    beside = [kernel for kernel in there if is_library(kernel) and kernel not in (*asked, new)]
    members = {at: result for kernel in (*present, new) for at, result in cells[kernel].items()}
    places, measured = _places(run), floors(found)
    shapes: list[Shape] = []
    logs: dict[int, dict[str, Logs]] = {}  # place in shapes -> kernel -> log-ratios by launch
    for at, one in in_order({at: _as(new, one) for at, one in members.items()}):
        sides = {kernel: cells[kernel].get(at) for kernel in (*present, *beside, new)}
        shape, own = _shape(one, sides, present, new, places, measured, same_within)
        logs[len(shapes)] = own
        shapes.append(shape)
    groups, totals = _grouped(shapes, logs, new, [*present, *beside], list(_plan_groups(run)), same_within)
    return Best(new, tuple(present), missing, tuple(beside), tuple(shapes), tuple(groups), tuple(totals))


def _as(kernel: str, result: Result) -> Result:
    """A result under another kernel's name: where only a peer has a cell, it is listed with NEW's."""
    return result if result.kernel == kernel else Result(result.cell | {"kernel": kernel})


def _absent(cells: Mapping[str, Result]) -> str | None:
    """Why a peer has no time in the whole run, or None."""
    reasons = [why_not(result, "") for result in cells.values()]
    if None in reasons:
        return None
    return str(reasons[0]).removeprefix(": ") if reasons else "not in the run"


def _shape(
    one: Result, sides: Mapping[str, Result | None], peers: Sequence[str], new: str,
    places: Mapping[str, str], measured: Sequence[Floor], same_within: float,
) -> tuple[Shape, dict[str, Logs]]:  # fmt: skip
    """A shape, and the log-ratios of NEW to every kernel that has a time, by launch; {} if it is left out."""
    reason = next(filter(None, (why_not(sides[kernel], kernel) for kernel in (new, *peers))), None)
    timed = {
        kernel: result
        for kernel, result in sides.items()
        if result is not None and why_not(result, kernel) is None
    }
    best = _fastest({peer: timed[peer] for peer in peers if peer in timed}, timed.get(new))
    own = sides[new]
    pair = pair_of(
        one, (timed[best] if best else None, own), floor_for(measured, one), reason, (best or "", new)
    )
    group = places.get(_written(one.problem)) or (
        SQUARES if len({one.problem[axis] for axis in "mnk"}) == 1 else OTHERS
    )
    if reason is not None or best is None or own is None:
        return Shape(group, best, pair, {}), {}
    base = timed[best]
    pair = judged(pair, speedup(base, own), same_within)
    logs = {kernel: log_ratios(own, result) for kernel, result in timed.items() if kernel != new}
    ratios = {kernel: speedup(result, own) for kernel, result in timed.items() if kernel != new}
    shares = own.share_of_peak.value, base.share_of_peak.value
    return Shape(group, best, pair, ratios, *shares, _allows(base, pair.ratio)), logs


def _fastest(peers: Mapping[str, Result], new: Result | None) -> str | None:
    """The peer with the least mean log-time over the launches that all share (NEW's among them, if it has any)."""
    if not peers:
        return None
    sides = [*peers.values(), *([new] if new else [])]
    shared = set.intersection(*(set(side.medians) for side in sides))
    if not shared:
        return min(peers, key=lambda peer: peers[peer].seconds.value)
    return min(peers, key=lambda peer: fmean(math.log(peers[peer].medians[at]) for at in shared))


def _allows(best: Result, ratio: Interval) -> float:
    """The speed-up over the best peer that its roofline leaves; what was reached is allowed."""
    share = roofline(best.cell.get("bound") or {})
    return max(1 / share, ratio.value, 1.0) if share else math.nan


def _grouped(
    shapes: Sequence[Shape], logs: Mapping[int, Mapping[str, Logs]], new: str, kernels: Sequence[str],
    order: Sequence[str], same_within: float,
) -> tuple[list[Group], list[Group]]:  # fmt: skip
    """The rows of each setting's groups, and of all its shapes."""
    compared = [at for at, shape in enumerate(shapes) if shape.compared]
    names = dict.fromkeys([*order, SQUARES, OTHERS])
    groups, totals = [], []

    def row(name: str, members: Sequence[int]) -> Group:
        return _row(
            name, [shapes[at] for at in members], [logs[at] for at in members], new, kernels, same_within
        )

    for setting in dict.fromkeys(shapes[at].setting for at in compared):
        of = [at for at in compared if shapes[at].setting == setting]
        for name in names:
            if members := [at for at in of if shapes[at].group == name]:
                groups.append(row(name, members))
        totals.append(row(ALL, of))
    return groups, totals


def _row(
    name: str, shapes: Sequence[Shape], logs: Sequence[Mapping[str, Logs]], new: str, kernels: Sequence[str],
    same_within: float,
) -> Group:  # fmt: skip
    to_best = [own[shape.best] for shape, own in zip(shapes, logs) if shape.best]
    mean = mean_of(new, [shape.pair for shape in shapes], to_best, same_within)
    ratios = {
        kernel: geometric(math.exp(log) for log in averaged([own[kernel] for own in logs]))
        for kernel in kernels
        if all(kernel in own for own in logs)
    }
    share, best_share, allows = (
        _mean(getattr(shape, key) for shape in shapes) for key in ("share", "best_share", "allows")
    )
    worst = min(shapes, key=lambda shape: shape.pair.ratio.value)
    return Group(name, *shapes[0].setting, mean, worst, ratios, share, best_share, allows)


def _mean(values: Iterable[float]) -> float:
    """The geometric mean; NaN where one is not known."""
    return math.exp(fmean(math.log(value) for value in values))


def _plan_groups(run: Run) -> dict[str, list[str]]:
    """The groups of a run's plan; {} of a run that has none."""
    groups = run.plan.get("groups")
    table = groups if isinstance(groups, dict) else {}
    return {str(name): members for name, members in table.items() if isinstance(members, list)}


def _places(run: Run) -> dict[str, str]:
    """Shape, as the plan writes it -> its group."""
    return {str(shape): name for name, members in _plan_groups(run).items() for shape in members}


def _written(problem: Line) -> str:
    order = f"{problem.get('op_a') or 'n'}{problem.get('op_b') or 'n'}"
    m, n, k = (problem[axis] for axis in "mnk")
    return Written(m, n, k, order, problem.get("batch")).text
