"""Selection: which kernel `auto` shall use for what shape, from sweeps' records; written on request, nothing is timed.

A kernel can be chosen where it was timed on the same shapes as the others, in one run, with hot caches. On one thread
any of them may follow any other. On several, a pool of threads that has finished looks out for more work on the cores
that the next product needs (`bench.verdicts.doubts.pools`), so that the kernels of one pool alone are chosen from: of
the pool with which all shapes together take least.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import gemm
from bench import config_files
from bench.isolation import trial
from bench.records import Line, Run, now, opened
from bench.verdicts.statistics import Interval, Result, geometric, results, size_class
from gemm import selection
from gemm.selection import AUTO, FILE, Choices, cpu

# Fewer shapes than this tell nothing of those between; a kernel that was timed on a smaller share of the others' shapes
# is left out rather than all of those that it lacks.
FEWEST, SHARE = 6, 0.6

Shape = tuple[int, int, int, str]  # m n k, and the order of A and B


@dataclass(frozen=True)
class Group:
    """Shapes of one size class and order, and the kernels that are chosen there.

    chosen   kernel -> how many of the shapes
    margin   how many times as long the next best kernel takes, over all shapes of the class; None: there is no next
    """

    order: str
    size: str
    chosen: dict[str, int]
    best: str
    next: str | None
    margin: Interval | None

    @property
    def within_noise(self) -> bool:
        """Whether the margin's interval holds 1, or there is none."""
        return self.margin is not None and not self.margin.excludes(1.0)


@dataclass(frozen=True)
class Selected:
    """What is chosen on one number of threads with one dtype.

    pool      the one pool that kernels were taken from, where others would have got in its way; else None
    given_up  what that costs: time of all shapes over that with the best kernel of any pool, if pools did not disturb
    left_out  kernel -> why it cannot be chosen
    """

    dtype: str
    threads: int
    choices: Choices
    groups: tuple[Group, ...]
    pool: str | None
    given_up: float
    left_out: dict[str, str]

    def record(self) -> Line:
        """For --json."""
        return {
            "dtype": self.dtype, "threads": self.threads, "kernels": list(self.choices.kernels),
            "shapes": len(self.choices.shapes), "pool": self.pool, "given_up": self.given_up,
            "left_out": self.left_out,
            "groups": [
                {"order": g.order, "size": g.size, "chosen": g.chosen, "best": g.best, "next": g.next,
                 "margin": vars(g.margin) if g.margin else None, "within_noise": g.within_noise}
                for g in self.groups
            ],
        }  # fmt: skip

    def entry(self) -> Line:
        """As the file holds it."""
        products = [
            dict(zip(("m", "n", "k", "order"), shape)) | {"seconds": [math.exp(log) for log in logs]}
            for shape, logs in zip(self.choices.shapes, self.choices.logs)
        ]
        return {
            "dtype": self.dtype, "threads": self.threads, "date": now(),
            "kernels": list(self.choices.kernels), "products": products,
        }  # fmt: skip


def select(runs: Sequence[str | Path | Run], kernels: Sequence[str] | None = None) -> list[Selected]:
    """What `auto` shall use, for each dtype and number of threads that these runs have times of.

    kernels  those to consider (default: all registered ones in the runs)

    Raises ValueError where there is nothing to choose, gemm.UnknownKernel.
    """
    wanted = [gemm.find(name).name for name in kernels] if kernels is not None else None
    if wanted is not None and AUTO in wanted:
        raise ValueError(f"{AUTO!r} is what is selected for; name kernels that multiply themselves")
    if wanted is not None and len(set(wanted)) < 2:
        raise ValueError("a selection is among two kernels or more; name them, comma between")
    read = [opened(run) for run in runs]
    taken: dict[tuple[str, int], dict[Shape, dict[str, Result]]] = {}
    for run in read:
        for key, shape, members in _products(run, wanted):
            before = taken.setdefault(key, {}).get(shape, {})
            if len(members) >= len(before):  # of one run alone: only there were they timed in turn
                taken[key][shape] = members
    made = [found for key, shapes in sorted(taken.items()) if (found := _selected(*key, shapes))]
    if not made:
        names = ", ".join(str(run.path) for run in read)
        raise ValueError(
            f"{names}: no {FEWEST} shapes there have times of two kernels to choose from; "
            "sweep several kernels on many shapes, as `gemmlab sweep --suite mlp --kernels numba-micro,blas` does"
        )
    return made


def keep(found: Sequence[Selected], out: str | Path | None = None) -> Path:
    """Put choices into the file, in the place of earlier ones of the same dtypes and threads; the file.

    Raises ValueError where the file is switched off, or another.
    """
    file = config_files.writable(FILE, out)
    others, mine = config_files.entries(FILE, file, cpu())
    before = (mine or {}).get("choices")
    keys = {(one.dtype, one.threads) for one in found}
    same = [
        one
        for one in (before if isinstance(before, list) else [])
        if isinstance(one, dict) and (one.get("dtype"), one.get("threads")) not in keys
    ]
    entry = {"cpu": cpu(), "choices": [*same, *(one.entry() for one in found)]}
    config_files.put(FILE, file, [*others, entry])
    selection.refresh()
    return file


def _products(
    run: Run, wanted: Sequence[str] | None
) -> Iterable[tuple[tuple[str, int], Shape, dict[str, Result]]]:
    """(dtype, threads), shape, and the results of the kernels that were timed there, hot and plain."""
    groups: dict[tuple[tuple[str, int], Shape], dict[str, Result]] = {}
    for result in results(run):
        p = result.problem
        plain = p and (p.get("batch", 1), p.get("alpha", 1), p.get("beta", 0)) == (1, 1, 0)
        if not plain or p.get("epilogue") or result.cell.get("cache", "hot") != "hot":
            continue
        if result.status != "ok" or not result.samples or result.cell.get("revision"):
            continue
        if trial.file_of(result.kernel) or result.kernel == AUTO:
            continue  # a student's file is tried, not relied on
        if result.cell.get("device", "cpu") != "cpu":
            continue  # `auto` multiplies where host arrays are
        if wanted is not None and result.kernel not in wanted:
            continue
        shape = (p["m"], p["n"], p["k"], p.get("op_a", "n") + p.get("op_b", "n"))
        groups.setdefault(((p["dtype"], result.threads), shape), {})[result.kernel] = result
    for (key, shape), members in groups.items():
        yield key, shape, members


def _selected(dtype: str, threads: int, shapes: dict[Shape, dict[str, Result]]) -> Selected | None:
    counts = Counter(name for members in shapes.values() for name in members)
    left_out: dict[str, str] = {}
    most = max(counts.values())
    for name, count in counts.items():
        if count < SHARE * most:
            left_out[name] = f"timed on {count} of {most} shapes"
        elif (reason := _reason(name)) is not None:
            left_out[name] = reason
    names = [name for name in counts if name not in left_out]
    shared = {shape: members for shape, members in shapes.items() if all(n in members for n in names)}
    if len(names) < 2 or len(shared) < FEWEST:
        return None
    seconds = {
        shape: {name: members[name].seconds.value for name in names} for shape, members in shared.items()
    }
    pools = {gemm.find(name).pool for name in names} - {None}
    pool, given_up, kernels = None, 1.0, names
    if threads > 1 and len(pools) > 1:
        mine = {one: [n for n in names if gemm.find(n).pool in (one, None)] for one in pools if one}
        pool = min(mine, key=lambda one: _total(seconds, mine[one]))
        kernels = mine[pool]
        given_up = math.exp((_total(seconds, kernels) - _total(seconds, names)) / len(seconds))
        others = {n: f"of another thread pool than {pool}'s" for n in names if n not in kernels}
        left_out |= others
    ordered = sorted(shared)
    choices = Choices(
        tuple(kernels),
        tuple(ordered),
        tuple(tuple(math.log(seconds[s][n]) for n in kernels) for s in ordered),
    )
    return Selected(dtype, threads, choices, tuple(_groups(choices, shared, names)), pool, given_up, left_out)


def _reason(name: str) -> str | None:
    try:
        return gemm.find(name).reason
    except gemm.UnknownKernel as error:
        return str(error)


def _total(seconds: dict[Shape, dict[str, float]], kernels: Sequence[str]) -> float:
    """The logarithms of the best times of these kernels, summed over the shapes."""
    return math.fsum(math.log(min(one[name] for name in kernels)) for one in seconds.values())


def _groups(
    choices: Choices, shared: dict[Shape, dict[str, Result]], names: Sequence[str]
) -> Iterable[Group]:
    """Of each class the best that can be chosen, against the best other of all `names`."""
    members: dict[tuple[str, str], list[Shape]] = {}
    for shape in choices.shapes:
        result = next(iter(shared[shape].values()))
        members.setdefault((shape[3], size_class(result)), []).append(shape)
    sizes = ("small", "medium", "large")
    for (order, size), shapes in sorted(members.items(), key=lambda one: (one[0][0], sizes.index(one[0][1]))):
        chosen = Counter(choices.ranked(*shape)[0] for shape in shapes)
        totals = {
            name: math.fsum(math.log(shared[shape][name].seconds.value) for shape in shapes) for name in names
        }
        best = min(choices.kernels, key=lambda name: totals[name])
        rest = sorted((name for name in names if name != best), key=lambda name: totals[name])
        margin = _margin([(shared[s][best], shared[s][rest[0]]) for s in shapes]) if rest else None
        yield Group(order, size, dict(chosen.most_common()), best, rest[0] if rest else None, margin)


def _margin(pairs: Sequence[tuple[Result, Result]]) -> Interval:
    """How many times as long the second takes as the first: the mean over pairs in each launch, over launches."""
    by_launch: dict[int, list[float]] = {}
    for best, other in pairs:
        ours, theirs = best.medians, other.medians
        for launch in ours.keys() & theirs.keys():
            by_launch.setdefault(launch, []).append(math.log(theirs[launch] / ours[launch]))
    most = max(map(len, by_launch.values()), default=0)
    return geometric(
        math.exp(math.fsum(logs) / len(logs)) for logs in by_launch.values() if len(logs) == most
    )
