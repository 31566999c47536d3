"""Compare: is NEW faster, slower or the same as BASE, and can that be said at all?

    kernels(run, base, new)       two kernels of one run: launches are pairs
    against(run)                  a git revision (base) and the working tree (new) in one run: pairs too
    runs(base, new, reference)    two runs: each time over that of a kernel which is the same in both, then
                                  the ratio of those ratios: what slows a whole run cancels

Every ratio is a speed-up: how many times faster NEW is than BASE. Intervals are 95 %, over launches: Student's
t over pairs, Welch's t (Biometrika 34, 1947) between runs. No verdict is given below the floor, the
A/A ratio that the run itself measured.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, variance
from typing import Any

import mlp
from bench.records import Line, Run, canonical
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
    student,
)

FASTER, SLOWER, SAME, UNKNOWN = "faster", "slower", "same", "cannot say"
# Where these stand and there was a time before, something is broken.
BROKEN = ("wrong", "failed", "crashed", "timeout")
NOTHING = Interval(math.nan, math.nan, math.nan, 0)
# Two times are called the same if nothing in the interval is further from 1 than this (or than the floor).
SAME_WITHIN = 0.02
# A floor above this says that the machine was in turmoil, not that whatever lies below it is the same.
TURMOIL = 0.10
# What a compiled kernel's code comes from, besides its source.
COMPILERS = ("numpy", "numba", "llvmlite")
# What about a machine is held against another's: how it is called, and where environment.json has it.
MACHINE = {
    "cpu": ("cpu", "model"),
    "microcode": ("cpu", "microcode"),
    "hypervisor": ("cpu", "hypervisor"),
    "smt": ("cpu", "smt"),
    "cores": ("cpu", "cores"),
    "quota": ("quota_cores",),
    "governor": ("governor",),
    "boost": ("frequency", "boost"),
    "transparent huge pages": ("transparent_huge_pages",),
    "kernel": ("kernel",),
    "python": ("python",),
}


@dataclass(frozen=True)
class Pair:
    """One problem, or one training step, on both sides.

    kernel      whose time it is; of two kernels the new one
    base, new   seconds per call
    ratio       how many times faster NEW is
    floor       the part by which equal things may differ here; NaN: not measured, so there is no verdict
    verdict     faster, slower, same or cannot say; None for the reference, which is not judged
    reason      why nothing can be said
    doubts      what spoils either time, in sentences
    broken      BASE is right and timed, and NEW is wrong, fails, crashes or hangs
    """

    kernel: str
    threads: int
    cache: str
    problem: Line
    model: Line
    base: Interval
    new: Interval
    ratio: Interval
    floor: float
    verdict: str | None
    reason: str | None = None
    doubts: tuple[str, ...] = ()
    broken: bool = False

    def record(self) -> Line:
        """For --json."""
        what = {"problem": self.problem} if self.problem else {"model": self.model}
        times = {key: as_figures(getattr(self, key)) for key in ("base", "new", "ratio")}
        kept = ("kernel", "threads", "cache", "floor", "verdict", "reason", "doubts", "broken")
        return {key: getattr(self, key) for key in kept} | what | times


@dataclass(frozen=True)
class Mean:
    """The geometric mean of a kernel's ratios over its `cells` cells, judged against the largest of their floors.

    The unit stays the launch: the mean log-ratio over the cells in each launch that all of them share, and t
    over those. Where they share fewer than two, the mean of the cells' own bounds, as if all erred together.
    """

    kernel: str
    cells: int
    ratio: Interval
    floor: float
    verdict: str
    reason: str | None

    def record(self) -> Line:
        """For --json."""
        return dict(vars(self)) | {"ratio": as_figures(self.ratio)}


@dataclass(frozen=True)
class Comparison:
    """What was compared, cell by cell and in the mean of each kernel.

    form        kernels, revisions or runs
    base, new   names of the sides: kernels, a revision and the working tree, or folders of runs
    reference   the kernel to which the times of two runs are held; None within one run
    warnings    what a reader must know before believing any of it
    """

    form: str
    base: str
    new: str
    pairs: tuple[Pair, ...]
    means: tuple[Mean, ...]
    reference: str | None = None
    warnings: tuple[str, ...] = ()

    def regressions(self, percent: float) -> list[Pair | Mean]:
        """What is slower, above its floor, and takes more than `percent` % longer; and what is broken."""
        return regressions(self.pairs, self.means, percent)

    def record(self) -> Line:
        """For --json."""
        pairs, means = [pair.record() for pair in self.pairs], [mean.record() for mean in self.means]
        return dict(vars(self)) | {"pairs": pairs, "means": means}


def regressions(pairs: Iterable[Pair], means: Iterable[Mean], percent: float) -> list[Pair | Mean]:
    """What is slower, above its floor, and takes more than `percent` % longer; and what is broken."""
    pairs = list(pairs)
    both: list[Pair | Mean] = [*pairs, *means]
    slower = [one for one in both if one.verdict == SLOWER and 1 / one.ratio.value > 1 + percent / 100]
    return [*slower, *(pair for pair in pairs if pair.broken)]


def verdict(interval: Interval, floor: float, same_within: float = SAME_WITHIN) -> str:
    """Of NEW against BASE, from a speed-up and the floor.

    faster, slower   the interval excludes 1, and the difference is above the floor
    same             nothing in the interval is further from 1 than the floor, or than `same_within`; of a
                     floor above TURMOIL only the latter counts
    cannot say       everything else, and whatever is not a number

    Distances are of logarithms: 1.02 and 1/1.02 are both 2 % from 1.
    """
    if not all(map(math.isfinite, (interval.low, interval.value, interval.high, floor))) or interval.low <= 0:
        return UNKNOWN
    if interval.excludes(1.0) and abs(math.log(interval.value)) > math.log1p(floor):
        return FASTER if interval.value > 1 else SLOWER
    furthest = max(abs(math.log(interval.low)), abs(math.log(interval.high)))
    return SAME if furthest <= math.log1p(_near(floor, same_within)) else UNKNOWN


def _near(floor: float, same_within: float) -> float:
    """What counts as no difference."""
    return max(floor, same_within) if floor <= TURMOIL else same_within


def kernels(run: Run, base: str, new: str, same_within: float = SAME_WITHIN) -> Comparison:
    """Two kernels of one run, by their names there; a file kernel also by the end of its name.

    Raises ValueError for a kernel that the run does not hold.
    """
    found = results(run)
    before, after = (named(name, found, run) for name in (base, new))
    if before == after:
        raise ValueError(f"{base!r} and {new!r} are the same kernel; give two")
    sides = _met([{key_of(r): r for r in found if r.kernel == name} for name in (before, after)])
    return _paired("kernels", (before, after), (before, after), found, sides, same_within)


def _met(sides: list[dict[Where, Result]]) -> list[dict[Where, Result]]:
    """Where one side is a CPU's and the other a GPU's: each problem of that, beside every thread count of the CPU.

    As the GPU's kernels are timed by default, if a problem was timed in several ways.
    """
    of_gpu = [bool(side) and all(result.threads == 0 for result in side.values()) for side in sides]
    if of_gpu[0] == of_gpu[1] or not all(sides):
        return sides
    gpu, cpu = (sides[of_gpu.index(which)] for which in (True, False))
    default = {"operands": "device", "cache": "cold"}
    ways = sorted(gpu.values(), key=lambda r: [r.cell.get(key) == value for key, value in default.items()])
    known = {canonical(result.problem): result for result in ways if result.problem}
    beside = {at: known[key] for at, one in cpu.items() if (key := canonical(one.problem)) in known}
    met = {canonical(result.problem) for result in beside.values()}
    beside |= {at: one for at, one in gpu.items() if canonical(one.problem) not in met}
    return [beside, cpu] if of_gpu[0] else [cpu, beside]


def against(run: Run, same_within: float = SAME_WITHIN) -> Comparison:
    """The git revision (base) and the working tree (new) of a run that holds both.

    Raises ValueError if it does not.
    """
    found = results(run)
    revisions = list(dict.fromkeys(r.cell["revision"] for r in found if r.cell.get("revision")))
    if len(revisions) != 1:
        held = f"{len(revisions)} revisions" if revisions else "no second revision"
        raise ValueError(f"{run.path}: holds {held}; `gemmlab compare --against REV` makes a run with one")
    sides = [
        {key_of(r, with_kernel=True): r for r in found if (r.cell.get("revision") or "") == revision}
        for revision in (revisions[0], "")
    ]
    labels = (f"revision {revisions[0][:12]}", "the working tree")
    return _paired("revisions", (revisions[0], "working tree"), labels, found, sides, same_within)


def runs(
    base: Run, new: Run, reference: str | None = None, *, kernel: str | None = None,
    same_within: float = SAME_WITHIN,
) -> Comparison:  # fmt: skip
    """Two runs: of every kernel that both hold (or of `kernel`), the ratio of its ratios to the reference.

    reference  a kernel that is the same in both; default: `blas`, if its source and the BLAS behind it are,
               else the kernel with the most cells whose source and compiler are; where there is none,
               nothing can be said

    Raises ValueError for a kernel that a run does not hold, or a reference that is not the same in both.
    """
    found = [[r for r in results(run) if not r.cell.get("revision")] for run in (base, new)]
    names = list(dict.fromkeys(r.kernel for side in found for r in side))
    if kernel is not None:
        kernel = named(kernel, found[0], base)
        names = [named(kernel, found[1], new)]
    chosen = _reference(base, new, found, reference, kernel)
    alike = base.path.name == new.path.name
    sides = [
        Side(
            str(run.path) if alike else run.path.name,
            floors(own),
            {key_of(r, with_kernel=True): r for r in own},
        )
        for run, own in zip((base, new), found)
    ]
    pairs: list[Pair] = []
    means: list[Mean] = []
    for name in names:
        both = sides[0].cells | sides[1].cells
        own = [
            _between(one, at, sides, chosen, same_within)
            for at, one in in_order({at: one for at, one in both.items() if one.kernel == name})
        ]
        pairs += [pair for pair, _ in own]
        judged = [(pair, logs) for pair, logs in own if logs]
        if judged:
            before, after = (averaged([logs[i] for _, logs in judged]) for i in (0, 1))
            ratio = welch(before, after) if min(len(before), len(after)) >= 2 else None
            means.append(_mean(name, [pair for pair, _ in judged], ratio, same_within))
    warnings = [] if chosen or not names else ["no kernel is the same in both runs: nothing can be said"]
    different = differences(base, new)
    if different:
        warnings.append("the runs were not made alike: " + "; ".join(different))
    return Comparison(
        "runs", str(base.path), str(new.path), tuple(pairs), tuple(means), chosen, tuple(warnings)
    )


def welch(one: Sequence[float], other: Sequence[float]) -> Interval:
    """exp(mean(one) - mean(other)) of logarithms, with Welch's t-interval; bounds NaN below two of each."""
    n = min(len(one), len(other))
    if n == 0:
        return NOTHING
    difference = fmean(one) - fmean(other)
    if n == 1:
        return Interval(math.exp(difference), math.nan, math.nan, 1)
    parts = [(variance(side) / len(side), len(side) - 1) for side in (one, other)]
    spread = sum(part for part, _ in parts)
    half = 0.0
    if spread > 0:
        degrees = spread**2 / sum(part**2 / free for part, free in parts)
        half = student(degrees) * math.sqrt(spread)
    return Interval(math.exp(difference), math.exp(difference - half), math.exp(difference + half), n)


def differences(base: Run, new: Run) -> list[str]:
    """What differs between the machines and the software of two runs, as `what (there, here)`."""
    before, after = (dict(_facts(run)) for run in (base, new))
    return [
        f"{what} ({before.get(what, 'none')}, {after.get(what, 'none')})"
        for what in dict.fromkeys([*before, *after])
        if before.get(what) != after.get(what)
    ]


# Within one run

Logs = dict[int, float]  # launch -> a logarithm of a ratio of times
Where = str  # the canonical JSON of what two cells must have in common to be compared


def _paired(
    form: str, names: tuple[str, str], labels: tuple[str, str], found: Iterable[Result],
    sides: list[dict[Where, Result]], same_within: float,
) -> Comparison:  # fmt: skip
    measured = floors(found)
    own: dict[str, list[Pair]] = {}
    logs: dict[str, list[Logs]] = {}
    pairs = []
    for at, one in in_order(sides[0] | sides[1]):
        before, after = (side.get(at) for side in sides)
        reason = why_not(before, labels[0]) or why_not(after, labels[1])
        pair = pair_of(one, (before, after), floor_for(measured, one), reason, labels)
        if before and after and reason is None:
            pair = judged(pair, speedup(before, after), same_within)
            own.setdefault(one.kernel, []).append(pair)
            logs.setdefault(one.kernel, []).append(log_ratios(after, before))
        pairs.append(pair)
    means = []
    for kernel, members in own.items():
        means.append(mean_of(kernel, members, logs[kernel], same_within))
    return Comparison(form, *names, tuple(pairs), tuple(means))


def key_of(result: Result, *, with_kernel: bool = False, kernel: str | None = None) -> Where:
    """What a cell is, but for the side that it is on."""
    cell = result.cell
    name = kernel or (result.kernel if with_kernel else None)
    axes = {"threads": result.threads, "cache": cell.get("cache", "hot"), "via": cell.get("via", "prepared")}
    if "operands" in cell:
        axes["operands"] = cell["operands"]
    revision = None if with_kernel or kernel else cell.get("revision")
    return canonical([name, axes, result.problem, result.model, revision])


def in_order(cells: dict[Where, Result]) -> list[tuple[Where, Result]]:
    """Kernels as they come; then threads, dtypes, sizes."""
    order = list(dict.fromkeys(result.kernel for result in cells.values()))

    def place(item: tuple[Where, Result]) -> Any:
        _, result = item
        p = result.problem or result.model
        work = p["m"] * p["n"] * p["k"] if result.problem else p["batch"] * sum(mlp.widths(p["arch"]))
        return order.index(result.kernel), result.threads, p["dtype"], bool(result.model), work, item[0]

    return sorted(cells.items(), key=place)


def pair_of(
    one: Result, two: tuple[Result | None, Result | None], floor: float, reason: str | None,
    names: tuple[str, str],
) -> Pair:  # fmt: skip
    """Both times, and no verdict yet."""
    times = [r.seconds if r and why_not(r, "") is None else NOTHING for r in two]
    doubts = tuple(
        f"{name}: {doubt['sentence']}"
        for name, result in zip(names, two)
        for doubt in (result.cell.get("doubts") or [] if result else [])
    )
    kernel = two[1].kernel if two[1] else one.kernel
    return Pair(
        kernel, one.threads, one.cell.get("cache", "hot"), one.problem, one.model, times[0], times[1],
        NOTHING, floor, UNKNOWN, reason, doubts, is_broken(*two),
    )  # fmt: skip


def is_broken(base: Result | None, new: Result | None) -> bool:
    return bool(base and new and base.status == "ok" and new.status in BROKEN)


def judged(pair: Pair, ratio: Interval, same_within: float) -> Pair:
    found = verdict(ratio, pair.floor, same_within)
    reason = _doubtful(ratio, pair.floor, same_within) if found == UNKNOWN else None
    return replace(pair, ratio=ratio, verdict=found, reason=reason)


def mean_of(kernel: str, pairs: Sequence[Pair], logs: Sequence[Logs], same_within: float) -> Mean:
    """Of a kernel's pairs, whose log-ratios by launch are `logs`."""
    shared = averaged(logs)
    ratio = geometric(map(math.exp, shared)) if len(shared) >= 2 else None
    return _mean(kernel, pairs, ratio, same_within)


def _mean(kernel: str, pairs: Sequence[Pair], ratio: Interval | None, same_within: float) -> Mean:
    """`ratio` None: no two launches are shared by all cells."""
    if ratio is None:
        bounds = [
            math.exp(fmean(math.log(getattr(pair.ratio, end)) for pair in pairs))
            for end in ("value", "low", "high")
        ]
        ratio = Interval(bounds[0], bounds[1], bounds[2], min(pair.ratio.n for pair in pairs))
    floor = max((pair.floor for pair in pairs), key=_nan_first)
    found = verdict(ratio, floor, same_within)
    reason = _doubtful(ratio, floor, same_within) if found == UNKNOWN else None
    return Mean(kernel, len(pairs), ratio, floor, found, reason)


def _doubtful(ratio: Interval, floor: float, same_within: float) -> str:
    """Why nothing can be said."""
    if not math.isfinite(ratio.low):
        return "it takes two launches on each side"
    if not math.isfinite(floor):
        return "no floor: the run has no A/A for this size and thread count"
    if ratio.excludes(1.0):
        return "the difference is not above the floor"
    if floor > TURMOIL:
        return "the machine was in turmoil: equal things differed by more than ten percent"
    return f"the interval holds 1 and reaches further than {100 * _near(floor, same_within):.1f} % from it"


def why_not(result: Result | None, name: str) -> str | None:
    """Why a cell has no time to compare, or None."""
    if result is None:
        return f"{name}: not in the run"
    if result.status != "ok":
        reason = result.cell.get("reason")
        return f"{name}: {result.status}" + (f" ({reason})" if reason else "")
    return None if result.samples else f"{name}: no whole launch"


def log_ratios(above: Result, below: Result) -> Logs:
    """log(below / above) of each launch that both took part in: how many times faster `above` is."""
    fast, slow = above.medians, below.medians
    return {launch: math.log(slow[launch] / fast[launch]) for launch in sorted(fast) if launch in slow}


def averaged(logs: Sequence[Logs]) -> list[float]:
    """The mean over cells in each launch that all of them share."""
    shared = set.intersection(*(set(one) for one in logs))
    return [fmean(one[launch] for one in logs) for launch in sorted(shared)]


def _nan_first(value: float) -> float:
    """A key by which NaN, not known, is the largest of all floors."""
    return math.inf if math.isnan(value) else value


# Names


def named(name: str, found: Iterable[Result], run: Run) -> str:
    """The kernel of a run that `name` means: by its whole name or, of a file, by its end."""
    there = list(dict.fromkeys(result.kernel for result in found))
    meant = meaning(name, there)
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise ValueError(f"{name!r} may be any of {', '.join(meant)} in {run.path}; give more of its path")
    raise ValueError(f"{name!r} was not run in {run.path}; there are {', '.join(there) or 'no kernels'}")


def meaning(name: str, there: Sequence[str]) -> list[str]:
    """The kernels of `there` that `name` may mean."""
    for whole in (name, os.path.abspath(name)):
        if whole in there:
            return [whole]
    return [kernel for kernel in there if kernel.endswith(os.sep + os.path.normpath(name))]


# Between runs


@dataclass(frozen=True)
class Side:
    """One of two runs."""

    name: str
    floors: list[Floor]
    cells: dict[Where, Result]


def _between(
    one: Result, at: Where, sides: Sequence[Side], reference: str | None, same_within: float
) -> tuple[Pair, list[Logs]]:
    """A cell of two runs, and its log-ratios to the reference in each; [] where it is not judged."""
    two = (sides[0].cells.get(at), sides[1].cells.get(at))
    standards = [side.cells.get(key_of(one, kernel=reference)) if reference else None for side in sides]
    floor = max((floor_for(side.floors, r) for side, r in zip(sides, two) if r), key=_nan_first)
    reasons = [why_not(r, f"{one.kernel} in {side.name}") for side, r in zip(sides, two)]
    if reference is None:
        reasons.append("no kernel is the same in both runs")
    else:
        reasons += [
            why_not(r, f"the reference {reference} in {side.name}") for side, r in zip(sides, standards)
        ]
    reason = next(filter(None, reasons), None)
    pair = pair_of(one, two, floor, reason, (sides[0].name, sides[1].name))
    if one.kernel == reference:
        return replace(pair, verdict=None, reason=reason or "the reference, taken to be the same"), []
    if reason is not None:
        return pair, []
    logs = [log_ratios(standard, r) for standard, r in zip(standards, two) if standard and r]
    return judged(pair, welch(list(logs[0].values()), list(logs[1].values())), same_within), logs


def _reference(
    base: Run, new: Run, found: list[list[Result]], given: str | None, compared: str | None
) -> str | None:
    """The kernel that is the same in both runs."""
    sources = [_sources(side) for side in found]
    if given is not None:
        name = named(given, found[0], base)
        named(name, found[1], new)
        if sources[0][name] != sources[1][name]:
            raise ValueError(
                f"the reference {given!r} is not the same code in both runs; give another kernel"
            )
        if name == compared:
            raise ValueError(f"{given!r} cannot be its own reference; give another kernel with --reference")
        return name
    ok = [{key_of(r, with_kernel=True): r for r in side if why_not(r, "") is None} for side in found]
    same = [
        name
        for name, source in sources[0].items()
        if name != compared and source and source == sources[1].get(name) and _same_ground(name, base, new)
    ]
    if "blas" in same:
        return "blas"
    shared = [result.kernel for at, result in ok[0].items() if at in ok[1]]
    best = max(same, key=shared.count, default=None)
    return best if best in shared else None


def _sources(found: Iterable[Result]) -> dict[str, str]:
    """The hash of each kernel's code; "" where a run holds several."""
    sources: dict[str, set[str]] = {}
    for result in found:
        sources.setdefault(result.kernel, set()).add(str(result.cell.get("source") or ""))
    return {name: (one.pop() if len(one) == 1 else "") for name, one in sources.items()}


def _same_ground(kernel: str, base: Run, new: Run) -> bool:
    """Does the same library, or the same compiler, stand behind the same source?"""
    theirs = kernel in ("blas", "torch") or kernel.startswith("cblas:")
    before, after = (_blas(run, kernel) if theirs else _compilers(run) for run in (base, new))
    return bool(before) and before == after


def _blas(run: Run, kernel: str = "blas") -> list[str]:
    """Every BLAS that the worker of `blas`, or another, had loaded; where no line says it, that of the parent."""
    libraries: list[Any] = (
        [
            library
            for line in run.of("worker")
            if line.get("kernel") == kernel
            for library in line.get("libraries") or []
        ]
        or run.environment.get("blas")
        or []
    )
    return sorted(
        {
            " ".join(str(library.get(key)) for key in ("name", "version", "core_type") if library.get(key))
            for library in libraries
            if library.get("api", "blas") == "blas" and library.get("name") != "openmp"
        }
    )


def _compilers(run: Run) -> Line:
    versions = run.environment.get("versions") or {}
    return {name: versions[name] for name in COMPILERS if name in versions}


def _facts(run: Run) -> Iterable[tuple[str, str]]:
    """What about a machine and its software moves a time."""
    known = run.environment
    memory = known.get("memory_bytes")
    facts = {
        **{what: _at(known, path) for what, path in MACHINE.items()},
        "memory": f"{memory / 2**30:.1f} GiB" if isinstance(memory, int | float) else None,
        "BLAS": ", ".join(_blas(run)) or None,
        **{name: version for name, version in (known.get("versions") or {}).items() if name != "gemmlab"},
        **(known.get("variables") or {}),
    }
    return ((what, str(value)) for what, value in facts.items() if value is not None)


def _at(value: Any, path: Sequence[str]) -> Any:
    """What lies at a path of keys; None where a run of an older gemmlab has no such thing."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value
