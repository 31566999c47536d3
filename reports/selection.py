"""Selection: which results belong side by side, and what each is compared with."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.exchange.public import without_places
from bench.records import Line, Run, canonical, number
from bench.records import opened as opened_run
from bench.verdicts import best
from bench.verdicts.compare import FASTER, SLOWER, verdict
from bench.verdicts.exploration import Exploration, exploration
from bench.verdicts.statistics import (
    Floor,
    Interval,
    Profile,
    Result,
    bandwidths_on,
    floor_for,
    floors,
    peak,
    peak_of,
    profiles,
    results,
    speedup,
)
from reports import palette, wording
from reports.curves import Course, courses

Shape = tuple[int, int, int]
Runs = str | Path | Run | Sequence[str | Path | Run]

# The kernel that is to beat the libraries.
FLAGSHIP = "numba-micro"
# Stands in for the floor of a run without A/A: a smaller difference is not called one.
UNKNOWN_FLOOR = 0.10


def opened(runs: Runs) -> list[Run]:
    """Runs, folders of runs or one of them, read. Raises RunError where there is nothing to read."""
    several = [runs] if isinstance(runs, (str, Path, Run)) else list(runs)
    return [opened_run(run) for run in several]


def shape(result: Result) -> Shape:
    return tuple(int(result.problem[axis]) for axis in "mnk")  # type: ignore[return-value]


def label(result: Result) -> str:
    """The kernel, and of another git revision's (`compare --against`) that revision."""
    revision = result.cell.get("revision")
    return f"{result.kernel} {str(revision)[:12]}" if revision else result.kernel


def measured(result: Result) -> bool:
    """True if the result is right, has whole launches and so has a time."""
    return result.status == "ok" and result.seconds.n > 0


def told_apart(ratio: Interval, floor: float) -> bool:
    """True if a ratio is a difference: its interval excludes 1, and it is further from 1 than the floor.

    floor  as `floor_for` gives it; of a run without A/A (NaN) UNKNOWN_FLOOR. A single launch has no interval, and is
           held against the floor alone.
    """
    floor = floor if math.isfinite(floor) else UNKNOWN_FLOOR
    if ratio.n > 1:
        return verdict(ratio, floor) in (FASTER, SLOWER)
    return abs(math.log(ratio.value)) > math.log1p(floor)


@dataclass(frozen=True)
class Comparison:
    """Products that differ in nothing but the kernel and m, n, k.

    cells   kernel -> shape -> result, kernels in ladder order, shapes rising
    peak    the FMA rate measured for this dtype and these threads, FLOP/s; NaN if it was not. On a GPU that of the
            arithmetic that most of its kernels do
    floors  what a kernel against itself came to in this run
    ceiling the name of the peak's ceiling
    """

    run: Run
    name: str
    dtype: str
    threads: int
    cells: dict[str, dict[Shape, Result]]
    peak: float
    floors: Sequence[Floor] = ()
    ceiling: str = "fma"

    @property
    def bandwidths(self) -> dict[str, float]:
        """Level -> B/s of its fastest kind of pass on as many threads; {} where none was measured."""
        rates = bandwidths_on(self.run, self.threads)
        return {level: max(kinds.values()) for level, kinds in sorted(rates.items(), key=_near)}

    @property
    def shapes(self) -> list[Shape]:
        """Every shape that any kernel has a cell for, rising in m n k."""
        return sorted({at for row in self.cells.values() for at in row}, key=lambda at: (math.prod(at), at))

    @property
    def sizes(self) -> list[int]:
        """The sizes of the square ones."""
        return [m for m, n, k in self.shapes if m == n == k]

    @property
    def oblong(self) -> list[Shape]:
        """The shapes that are not square."""
        return [at for at in self.shapes if len(set(at)) > 1]

    def at(self, shape: Shape) -> dict[str, Result]:
        """The measured results of one shape, by kernel."""
        return {
            kernel: row[shape] for kernel, row in self.cells.items() if shape in row and measured(row[shape])
        }

    def floor(self, result: Result) -> float:
        """The A/A floor of a result's size class and threads, as a fraction; NaN where it was not measured."""
        return floor_for(self.floors, result)

    def line(self, kernel: str) -> list[tuple[int, Result]]:
        """Size and result of a kernel's measured square products."""
        row = self.cells[kernel]
        return [(n, row[n, n, n]) for n in self.sizes if (n, n, n) in row and measured(row[n, n, n])]


# NVIDIA's library, by what it multiplies: whose rate a kernel of the same arithmetic is a share of.
VENDORS = ("cublas", "cublas-tf32")


def of_vendor(there: Mapping[str, Result]) -> dict[str, tuple[str, Interval]]:
    """Kernel -> NVIDIA's library of the same arithmetic, and this kernel's rate over its (0 to 1 and above).

    there  the measured results of one shape; {} where the library is not among them
    """
    vendors = {
        there[name].cell.get("arithmetic"): name
        for name in VENDORS
        if name in there and there[name].cell.get("arithmetic")
    }
    return {
        kernel: (vendor, speedup(there[vendor], result))
        for kernel, result in there.items()
        if (vendor := vendors.get(result.cell.get("arithmetic")))
    }


def _near(level: tuple[str, Any]) -> tuple[bool, str]:
    """L1, L2, L3, DRAM."""
    return level[0] == "DRAM", level[0]


def comparisons(run: Run, found: Iterable[Result]) -> list[Comparison]:
    """The products among a run's results, grouped, the group with most measured cells first."""
    groups: dict[str, list[Result]] = {}
    for result in found:
        if result.problem:
            groups.setdefault(canonical(setting(result)), []).append(result)
    settings = {key: setting(members[0]) for key, members in groups.items()}
    varying = {
        field
        for one in settings.values()
        for field in one
        if len({canonical(other.get(field)) for other in settings.values()}) > 1
    }
    measured_floors = floors(members for group in groups.values() for members in group)
    made = [
        _comparison(run, members, _title(settings[key], varying), measured_floors)
        for key, members in groups.items()
    ]
    return sorted(
        made, key=lambda group: -sum(measured(r) for row in group.cells.values() for r in row.values())
    )


def setting(result: Result) -> Line:
    """Everything about a product's cell but its kernel and m, n, k."""
    apart = {axis: value for axis, value in result.problem.items() if axis not in ("m", "n", "k")}
    return apart | {key: result.cell.get(key) for key in ("threads", "cache", "via", "operands")}


PLAIN = {
    "op_a": "n",
    "op_b": "n",
    "strides": "contiguous",
    "batch": 1,
    "alpha": 1,
    "beta": 0,
    "epilogue": None,
    "data": "normal",
    "cache": "hot",
    "operands": "device",
}


ORDERS = {"tn": "Aᵀ B", "nt": "A Bᵀ", "tt": "Aᵀ Bᵀ"}
SAID = {"cache": "{} cache", "operands": "operands of the {}", "data": "{} data", "batch": "batch of {}"}


def _title(of: Line, varying: set[str]) -> str:
    parts = [str(of.get("dtype", "")), wording.threads(1 if of.get("threads") is None else of["threads"])]
    return ", ".join(part for part in (*parts, *unusual(of, varying)) if part)


def unusual(of: Line, varying: Iterable[str] = ()) -> list[str]:
    """What of a product's setting is not plain, in words; fields of `varying` in any case."""
    order = f"{of.get('op_a') or 'n'}{of.get('op_b') or 'n'}"
    parts = [ORDERS.get(order, order)] if order != "nn" else []
    for field in sorted(set(of) - {"m", "n", "k", "dtype", "threads", "op_a", "op_b"}):
        value = of[field]
        worth_saying = value != PLAIN[field] if field in PLAIN else field in varying
        if value is not None and worth_saying:
            text = f"{value:g}" if isinstance(value, float) else str(value)
            parts.append(SAID.get(field, f"{field} {{}}").format(text))
    return parts


def _comparison(run: Run, members: list[Result], title: str, floors: Sequence[Floor]) -> Comparison:
    sources: dict[str, set[Any]] = {}
    for result in members:
        sources.setdefault(label(result), set()).add(result.cell.get("source"))
    cells: dict[str, dict[Shape, Result]] = {}
    for result in members:
        name = label(result)
        if len(sources[name]) > 1:  # two versions of a kernel in one run
            name += f" {str(result.cell.get('source'))[:6]}"
        cells.setdefault(name, {})[shape(result)] = result
    dtype, threads = members[0].problem.get("dtype", ""), members[0].threads
    ordered = {kernel: cells[kernel] for kernel in palette.ladder(cells)}
    (of_most, _), *_ = Counter(map(peak_of, members)).most_common(1)
    return Comparison(run, title, dtype, threads, ordered, peak(run, *of_most), floors, of_most[0])


@dataclass(frozen=True)
class Rung:
    """A kernel's place on the speed-up ladder.

    speedup    against the baseline, with its interval
    predicted  seconds per call, for a kernel that was skipped; `speedup` then has no interval
    """

    kernel: str
    result: Result
    speedup: Interval
    predicted: float | None = None


@dataclass(frozen=True)
class Ladder:
    """One shape's kernels, the slowest first."""

    comparison: Comparison
    shape: Shape
    baseline: str
    rungs: list[Rung]

    @property
    def base(self) -> Result:
        return self.comparison.cells[self.baseline][self.shape]

    def differs(self, rung: Rung) -> bool:
        """True if a measured rung is faster or slower than the baseline, and not within the noise."""
        return told_apart(rung.speedup, self.comparison.floor(rung.result))

    def sure(self, rung: Rung, noise: str = "within the noise") -> str:
        """What stands beside a rung's speed-up: its interval, or what is to be known instead."""
        if rung.predicted:
            return "predicted"
        if rung.kernel == self.baseline:
            return "baseline"
        return wording.bounds(rung.speedup) if self.differs(rung) else noise


def ladders(comparison: Comparison, baseline: str | None = None) -> list[Ladder]:
    """The ladder at the largest size that most kernels reach, then the one at the largest size of all.

    baseline  None: at each size the slowest kernel measured there. A kernel: only sizes that it has.
    """
    squares = [(n, n, n) for n in comparison.sizes] or comparison.shapes
    found = {at: comparison.at(at) for at in squares}
    usable = [at for at, there in found.items() if len(there) > 1 and (baseline is None or baseline in there)]
    if not usable:
        return []
    common = max(usable, key=lambda at: (len(found[at]), usable.index(at)))
    made = []
    for at in dict.fromkeys((common, usable[-1])):
        base = baseline or max(found[at], key=lambda kernel: found[at][kernel].seconds.value)
        made.append(ladder(comparison, at, base))
    return made


def ladder(comparison: Comparison, shape: Shape, baseline: str) -> Ladder:
    """Every kernel of one shape against one of them; skipped ones by the prediction on record."""
    there = comparison.at(shape)
    base = there[baseline]
    rungs = [Rung(kernel, result, speedup(base, result)) for kernel, result in there.items()]
    for kernel, row in comparison.cells.items():
        predicted = number(row[shape].cell.get("predicted_s")) if shape in row else None
        if predicted and row[shape].status == "skipped":
            ratio = Interval(base.seconds.value / predicted, math.nan, math.nan, 0)
            rungs.append(Rung(kernel, row[shape], ratio, predicted))
    rungs.sort(key=lambda rung: rung.speedup.value)
    return Ladder(comparison, shape, baseline, rungs)


@dataclass(frozen=True)
class Training:
    """One model's training step with each of its kernels, the slowest first."""

    run: Run
    name: str
    profiles: list[Profile]


def trainings(run: Run, found: Iterable[Profile]) -> list[Training]:
    """The profiles of a run, grouped by model and threads."""
    groups: dict[str, list[Profile]] = {}
    for profile in found:
        if measured(profile.result) and profile.step > 0:
            key = canonical([profile.result.model, profile.result.threads])
            groups.setdefault(key, []).append(profile)
    made = []
    for members in groups.values():
        first = members[0].result
        title = f"{wording.architecture(first.model)}, {wording.threads(first.threads)}"
        made.append(Training(run, title, sorted(members, key=lambda profile: -profile.step)))
    return made


@dataclass(frozen=True)
class Selection:
    """A run, read once and sorted for everything that is drawn from it.

    name    the run's folder, and its host where the runs are of several
    floors  what a kernel against itself came to, by size class and threads
    libraries  a kernel of the lab's against the best of the CBLAS libraries, where the run has both
    courses    networks that learnt, kernel by kernel
    explored   what affects the cost of a network, where the run varied that; its trainings are then the base's alone
    """

    run: Run
    name: str
    results: list[Result]
    comparisons: list[Comparison]
    trainings: list[Training]
    floors: Sequence[Floor] = ()
    libraries: best.Best | None = None
    courses: Sequence[Course] = ()
    explored: Exploration | None = None

    @property
    def kernels(self) -> list[str]:
        """Every kernel label, in ladder order."""
        labels = {label for comparison in self.comparisons for label in comparison.cells}
        labels |= {kernel for course in self.courses for kernel in course.lines}
        return palette.ladder(labels | {label(result) for result in self.results})


def select(runs: Iterable[Run], baseline: str | None = None, public: bool = False) -> list[Selection]:
    """Runs sorted for drawing; `public` leaves out host, user and paths.

    Raises ValueError if a baseline is given and no run has measured it.
    """
    shown = [without_places(run) if public else run for run in runs]
    hosts = {run.environment.get("host") for run in shown}
    selections = [_selected(run, several_hosts=len(hosts) > 1) for run in shown]
    _must_know(baseline, selections)
    return selections


def _selected(run: Run, several_hosts: bool) -> Selection:
    host = run.environment.get("host")
    name = f"{run.path.name} ({host})" if host and several_hosts else run.path.name
    found = results(run)
    explored = exploration(run, found)
    steps = trainings(run, explored.profiles if explored else profiles(run, found))
    return Selection(
        run, name, found, comparisons(run, found), steps, floors(found), libraries(run, found), courses(run), explored,
    )  # fmt: skip


def libraries(run: Run, found: Iterable[Result]) -> best.Best | None:
    """`numba-micro`, or the highest rung that is no library's, against the best CBLAS at each product."""
    timed = {r.kernel for r in found if r.problem and measured(r) and not r.cell.get("revision")}
    vendors = [kernel for kernel in timed if kernel.startswith("cblas:")]
    own = [kernel for kernel in palette.ladder(timed) if not best.is_library(kernel)]
    if not vendors or not own:
        return None
    new = FLAGSHIP if FLAGSHIP in own else own[-1]
    return best.against(run, best.LIBRARIES if set(vendors) & set(best.LIBRARIES) else sorted(vendors), new)


def _must_know(baseline: str | None, selections: Iterable[Selection]) -> None:
    measured_ones = {
        kernel
        for selection in selections
        for comparison in selection.comparisons
        for kernel, row in comparison.cells.items()
        if any(map(measured, row.values()))
    }
    if baseline is not None and baseline not in measured_ones:
        there = ", ".join(palette.ladder(measured_ones)) or "none"
        raise ValueError(f"baseline {baseline!r} was not measured in these runs; measured kernels: {there}")
