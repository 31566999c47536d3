"""Statistics: from samples to figures that carry their uncertainty.

The unit is the launch (Kalibera and Jones, Rigorous Benchmarking in Reasonable Time, 2013; Georges et
al. 2007): one process of a kernel differs from the next by more than its rounds do. So the rounds of
a launch give one median, a ratio of two kernels gives one log-ratio per launch that both took part
in, and the interval is Student's t over those log-ratios. The estimand is the ratio of medians.

A kernel against itself (A/A, its twin in a second process) says what ratio means nothing on this machine: the
floor, below which no difference is called one. Samples that waited for cores, because something else ran there,
are not counted where a launch has enough others (how long it waited says nothing of how fast a kernel is, so
leaving them out favours none). Where it has not, all count, and on one thread the wait is taken off; of
several threads nobody can say how much of a wait was waited for. Of samples whose core had a neighbour that nobody
sees (`bench.host.pace`, measured beside each) the least crowded count, and launches that had nothing else do not where
enough others had better, for the same reason.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import median
from typing import Any

from bench.records import Line, Run, number, whole_launches
from bench.verdicts.bounds import bandwidths
from mlp.operations import PRODUCTS

CONFIDENCE = 0.95
# A sample that waited for no larger a share of its cores' time than this was not disturbed; and a launch needs
# so many of them (all, if it has fewer rounds) to do without the others.
UNDISTURBED, ENOUGH = 0.01, 3
# Beside a sample whose core was its own a short loop took no longer than the least of the run and this share.
CROWDED = 0.05
# However long the scheduler says that a sample waited, this share of its time was its own: the account of a
# wait and the clock are read at different moments.
LEAST = 0.01
# Half-width of an interval, as a logarithm, that is narrow enough.
NARROW = 0.01
# What the names of a GPU's ceilings begin with (`bench.timing.device_ceilings`).
GPU = "cuda-"


@dataclass(frozen=True)
class Interval:
    """A figure with its two-sided 95 % interval over `n` launches; the bounds are NaN if n < 2."""

    value: float
    low: float
    high: float
    n: int

    def excludes(self, value: float) -> bool:
        """True if `value` lies outside the interval; False also where there is no interval."""
        return value < self.low or value > self.high


@dataclass
class Result:
    """One cell, read back: its closing line and its seconds per call, by launch.

    samples  of its own process: those that count (`counted`), on one thread without what they waited
    twin     of a second process of the same kernel, where the run had one
    peaks    the FMA rate of each launch, FLOP/s
    crowd    how much longer a short loop beside the samples that count took in each launch (`crowding`), in the mean
    """

    cell: Line
    samples: dict[int, list[float]] = field(default_factory=dict)
    twin: dict[int, list[float]] = field(default_factory=dict)
    peaks: dict[int, float] = field(default_factory=dict)
    crowd: dict[int, float] = field(default_factory=dict)

    @property
    def kernel(self) -> str:
        return self.cell["kernel"]

    @property
    def threads(self) -> int:
        return self.cell["threads"]

    @property
    def problem(self) -> Line:
        """m n k dtype op_a op_b ... of a product; {} for a training step."""
        return self.cell.get("problem") or {}

    @property
    def model(self) -> Line:
        """arch batch loss ... of a training step; {} for a product."""
        return self.cell.get("model") or {}

    @property
    def status(self) -> str:
        return self.cell["status"]

    @property
    def medians(self) -> dict[int, float]:
        """Seconds per call of each launch: the median of its rounds."""
        return {launch: median(values) for launch, values in self.samples.items()}

    @property
    def seconds(self) -> Interval:
        """Seconds per call: the geometric mean of the launches' medians."""
        return geometric(self.medians.values())

    @property
    def rate(self) -> Interval:
        """FLOP/s."""
        seconds, flops = self.seconds, self.cell.get("flops") or math.nan
        return Interval(flops / seconds.value, flops / seconds.high, flops / seconds.low, seconds.n)

    @property
    def share_of_peak(self) -> Interval:
        """Rate over the FMA rate measured in the same launches (0 to 1)."""
        flops = self.cell.get("flops") or math.nan
        paired = [
            flops / seconds / self.peaks[at] for at, seconds in self.medians.items() if at in self.peaks
        ]
        return geometric(paired)


def geometric(values: Iterable[float]) -> Interval:
    """Geometric mean of positive values with its t-interval (over launches)."""
    logs = [math.log(value) for value in values if value > 0]
    n = len(logs)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = math.fsum(logs) / n
    if n == 1:
        return Interval(math.exp(mean), math.nan, math.nan, 1)
    deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in logs) / (n - 1))
    half = student(n - 1) * deviation / math.sqrt(n)
    return Interval(math.exp(mean), math.exp(mean - half), math.exp(mean + half), n)


def speedup(base: Result, other: Result) -> Interval:
    """How many times faster `other` is than `base`: one log-ratio of medians per launch both ran in."""
    before, after = base.medians, other.medians
    return geometric(before[launch] / after[launch] for launch in before if launch in after)


def price_of_crowding(found: Iterable[Result]) -> float:
    """The b with which a cell's time goes like (1 + crowding)^b from one of its launches to the next; 0 if unknown.

    One for all cells, by least squares over the logarithms, each cell against itself.
    """
    both = slope = 0.0
    for result in found:
        x = [math.log1p(result.crowd[launch]) for launch in result.samples]
        y = [math.log(seconds) for seconds in result.medians.values()]
        for one, other in zip(x, y):
            both += (one - math.fsum(x) / len(x)) * other
            slope += (one - math.fsum(x) / len(x)) ** 2
    return max(0.0, both / slope) if slope > 0 else 0.0


def slowed(result: Result, price: float) -> float:
    """How many times as long as alone on its core a cell took, in the mean of its launches, at such a price."""
    logs = [price * math.log1p(crowd) for crowd in result.crowd.values()]
    return math.exp(math.fsum(logs) / len(logs)) if logs else 1.0


def narrow(found: Sequence[Result]) -> bool:
    """True if every kernel's speed-up against the fastest is known to NARROW: then sampling may stop at a look."""
    fastest = min(found, key=lambda result: result.seconds.value)
    intervals = [speedup(fastest, other) for other in found if other is not fastest] or [fastest.seconds]
    return all(math.log(interval.high / interval.low) / 2 <= NARROW for interval in intervals)


@lru_cache
def student(degrees: int) -> float:
    """The two-sided 95 % quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.5 + CONFIDENCE / 2))


@dataclass(frozen=True)
class Floor:
    """What a kernel against itself came to: one size class on one number of threads.

    ratio  A/A, the geometric mean over cells in each launch, with its interval over launches
    value  the upper bound on |log A/A| as a fraction: 0.012 is 1.2 %; NaN from a single launch
    """

    size_class: str
    threads: int
    kernel: str
    ratio: Interval
    value: float


def size_class(result: Result) -> str:
    """What noise depends on most: small, medium (cube root of m n k from 64), large (from 256), or step.

    Cold ones are a class of their own: "large, cold".
    """
    if not result.problem:
        return "step"
    p = result.problem
    size = (p["m"] * p["n"] * p["k"] * p.get("batch", 1)) ** (1 / 3)
    name = "small" if size < 63.9 else "medium" if size < 255.9 else "large"
    if result.threads == 0 and result.cell.get("operands") == "host":
        name += ", host data"
    return f"{name}, cold" if result.cell.get("cache") == "cold" else name


def floors(run: Run | Iterable[Result]) -> list[Floor]:
    """The floor of every size class and thread count that a run measured A/A of."""
    found = results(run) if isinstance(run, Run) else run
    logs: dict[tuple[str, int], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    kernels: dict[tuple[str, int], dict[str, None]] = defaultdict(dict)
    for result in found:
        at, own = (size_class(result), result.threads), result.medians
        for launch, seconds in result.twin.items():
            if launch in own:
                logs[at][launch].append(math.log(own[launch] / median(seconds)))
                kernels[at][result.kernel] = None
    made = []
    for at, by_launch in logs.items():
        ratio = geometric(math.exp(math.fsum(one) / len(one)) for one in by_launch.values())
        bound = math.nan if ratio.n < 2 else max(-math.log(ratio.low), math.log(ratio.high))
        made.append(Floor(*at, ", ".join(kernels[at]), ratio, math.expm1(bound)))
    return made


def floor_for(run: Run | Iterable[Floor], result: Result) -> float:
    """The floor that applies to a cell; NaN where its class was not measured, and so no verdict can be given."""
    known = floors(run) if isinstance(run, Run) else run
    at = (size_class(result), result.threads)
    return next((floor.value for floor in known if (floor.size_class, floor.threads) == at), math.nan)


def waited_share(line: Line, threads: int) -> float:
    """The share of its cores' time that a sample waited for a core; 0 where nobody knows."""
    calls = line.get("loops") or line.get("steps") or 1
    return waited(line, threads) / (float(line["seconds"]) * calls * max(threads, 1))


def waited(line: Line, threads: int) -> float:
    """Core-seconds that a sample waited: on one thread those of its caller alone, whatever others it has started."""
    if threads == 0:  # on a device nothing of the host's waits for a core
        return 0.0
    figure = "caller_waited_s" if threads == 1 and "caller_waited_s" in line else "waited_s"
    return number(line.get(figure)) or 0.0


def least_pace(run: Run) -> float | None:
    """Seconds that the short loop beside samples took at best in a run; None where nobody measured it."""
    lines = (*run.of("sample"), *run.of("step"), *run.of("twin"))
    return min((pace for line in lines if (pace := number(line.get("pace_s")))), default=None)


def crowding(line: Line, least: float | None) -> float:
    """How much longer than at best in its run the short loop beside a sample took (0.2: a fifth); 0 if unknown."""
    pace = number(line.get("pace_s"))
    return max(0.0, pace / least - 1) if pace and least else 0.0


def counted(lines: Sequence[Line], threads: int, rounds: int, least: float | None = None) -> list[Line]:
    """Of a launch's samples those that count, in their order.

    The ones that did not wait, or all where these are too few; of these the ones whose core was their own, or the least
    crowded where these are too few.

    least  seconds of `least_pace`
    """
    enough = min(ENOUGH, rounds)
    quiet = [line for line in lines if waited_share(line, threads) <= UNDISTURBED]
    kept = quiet if len(quiet) >= enough else list(lines)
    if threads == 0:  # on a device
        return kept
    most = max(CROWDED, sorted(crowding(line, least) for line in kept)[min(enough, len(kept)) - 1])
    return [line for line in kept if crowding(line, least) <= most]


def counted_launches(
    lines: Iterable[Line], threads: int, rounds: int, least: float | None = None
) -> dict[int, list[Line]]:
    """Of a cell's samples those that count, by launch: of whole launches, and of each what `counted` says.

    Launches that never had their core to themselves do not count where enough others had.
    """
    found = {
        launch: counted(members, threads, rounds, least) for launch, members in whole_launches(lines, rounds)
    }
    if threads == 0:
        return found
    alone = {
        launch: members
        for launch, members in found.items()
        if median(crowding(line, least) for line in members) <= CROWDED
    }
    return alone if len(alone) >= min(ENOUGH, len(found)) else found


def own_seconds(line: Line, threads: int) -> float:
    """Seconds per call of a sample; on one thread without what it waited for its core."""
    seconds = float(line["seconds"])
    if threads != 1:
        return seconds
    calls = line.get("loops") or line.get("steps") or 1
    return max(seconds - waited(line, threads) / calls, seconds * LEAST)


def results(run: Run) -> list[Result]:
    """Every cell of a run (also those without samples), in the order of the plan's closing lines.

    Only launches that hold all their rounds count: a launch cut by a kill is kept in the records and
    left out here.
    """
    rounds = rounds_of(run)
    taken: dict[str, list[Line]] = defaultdict(list)
    twins: dict[str, list[Line]] = defaultdict(list)
    for line in (*run.of("sample"), *run.of("step")):
        if not line.get("instrumented", False):
            taken[line["cell"]].append(line)
    for line in run.of("twin"):
        twins[line["cell"]].append(line)
    highest: dict[tuple[str, str | None, int], dict[int, float]] = {}
    found, least = [], least_pace(run)
    for cell in run.cells:
        result = Result(cell)
        for lines, by_launch in ((taken, result.samples), (twins, result.twin)):
            for launch, kept in counted_launches(lines[cell["cell"]], result.threads, rounds, least).items():
                by_launch[launch] = [own_seconds(line, result.threads) for line in kept]
                if by_launch is result.samples:
                    result.crowd[launch] = math.fsum(crowding(line, least) for line in kept) / len(kept)
        key = peak_of(result)
        if key not in highest:
            highest[key] = peaks(run, *key)
        result.peaks = highest[key]
        found.append(result)
    return found


def peak_of(result: Result) -> tuple[str, str | None, int]:
    """The ceiling that a cell's arithmetic is held against, as `peaks` takes it: its name, dtype and threads."""
    arithmetic = result.cell.get("arithmetic")
    if arithmetic:
        return GPU + arithmetic, None, result.threads
    return "fma", result.problem.get("dtype") or result.model.get("dtype"), result.threads


def rounds_of(run: Run) -> int:
    """Rounds that a launch of this run must have; 1 where nobody knows."""
    planned = run.plan.get("rounds")
    return planned if isinstance(planned, int) else 1


def peaks(run: Run, ceiling: str, dtype: str | None, threads: int) -> dict[int, float]:
    """The highest rate (FLOP/s, or B/s for bandwidth) of a ceiling in each launch."""
    best: dict[int, float] = {}
    for line in run.of("ceiling"):
        if (line["ceiling"], line["threads"]) != (ceiling, threads) or "seconds" not in line:
            continue
        if dtype in (line["dtype"], None):
            rate = line["work"] / line["seconds"]
            best[line["launch"]] = max(rate, best.get(line["launch"], 0.0))
    return best


def bandwidths_on(
    run: Run, threads: int, over_launches: Callable[[Iterable[float]], float] = median
) -> dict[str, dict[str, float]]:
    """Level -> kind -> B/s on so many threads; with 0, of the GPU, whose ceilings are called cuda-..."""
    of = GPU if threads == 0 else ""
    names = dict.fromkeys(line["ceiling"] for line in run.of("ceiling"))
    found = {name: peaks(run, name, None, threads).values() for name in names if name.startswith(of)}
    return bandwidths({name.removeprefix(of): over_launches(each) for name, each in found.items() if each})


def peak(run: Run, ceiling: str = "fma", dtype: str | None = None, threads: int = 1) -> float:
    """The measured ceiling of a run: the median over launches; NaN if it was not measured."""
    rates = list(peaks(run, ceiling, dtype, threads).values())
    return median(rates) if rates else math.nan


@dataclass(frozen=True)
class Row:
    """One operation of a training step: mean seconds per step, and what it is."""

    id: str
    layer: int
    op: str
    phase: str
    parts: tuple[str, ...]
    kernel: str
    m: int | None
    n: int | None
    k: int | None
    flops: int
    bytes: int
    seconds: float
    share: float  # of the uninstrumented step, 0 to 1
    times: int = 1  # so many such products, one after the other

    @property
    def rate(self) -> float:
        """FLOP/s."""
        return self.flops / self.seconds if self.seconds else math.nan

    @property
    def intensity(self) -> float:
        """FLOP per byte of compulsory traffic."""
        return self.flops / self.bytes if self.bytes else math.nan


@dataclass(frozen=True)
class Profile:
    """A training step's cost, operation by operation.

    step          seconds of an uninstrumented step (mean)
    instrumented  seconds of a step with the recorder in it (mean)
    accounted     sum of the rows over the uninstrumented step: one ratio per launch, 1.0 is all of it
    products      the same of the rows that are matrix products, with whatever is fused into them
    """

    result: Result
    rows: list[Row]
    step: float
    instrumented: float
    accounted: Interval
    products: Interval
    peak: float


def profile(run: Run, result: Result) -> Profile:
    """The rows of one model cell, from the rounds that count. Means, not medians: means add up."""
    (found,) = _profiles(run, [result])
    return found


def profiles(run: Run, found: Iterable[Result] | None = None) -> list[Profile]:
    """The profile of every training step with samples, of `found` or of all; a peer's is known as a whole only."""
    known = {line["cell"] for line in run.of("layer")}
    found = results(run) if found is None else found
    return _profiles(run, [result for result in found if result.samples and result.cell["cell"] in known])


def _profiles(run: Run, found: Sequence[Result]) -> list[Profile]:
    """Of these; the run's lines are gone through once, however many there are."""
    wanted = {result.cell["cell"] for result in found}
    lines: dict[str, dict[str, list[Line]]] = {
        kind: {cell: [] for cell in wanted} for kind in ("layer", "step")
    }
    for kind, by_cell in lines.items():
        for line in run.of(kind):
            if line["cell"] in wanted:
                by_cell[line["cell"]].append(line)
    rounds, least = rounds_of(run), least_pace(run)
    highest = {key: peak(run, *key) for key in dict.fromkeys(map(peak_of, found))}
    made = []
    for result in found:
        cell = result.cell["cell"]
        layers, steps = lines["layer"][cell], lines["step"][cell]
        made.append(_profile(result, layers, steps, rounds, least, highest[peak_of(result)]))
    return made


def _profile(
    result: Result, layers: list[Line], steps: list[Line], rounds: int, least: float | None, highest: float
) -> Profile:
    launches = set(result.samples)
    plain = [line for line in steps if not line["instrumented"]]
    at = {
        (launch, line["round"])
        for launch, members in counted_launches(plain, result.threads, rounds, least).items()
        for line in members
    }
    lines, steps = (
        [line for line in each if (line["launch"], line["round"]) in at] for each in (layers, steps)
    )

    def mean(members: Sequence[Line]) -> float:
        return math.fsum(float(line["seconds"]) for line in members) / len(members) if members else math.nan

    plain = [line for line in steps if not line["instrumented"]]
    step, instrumented = mean(plain), mean([line for line in steps if line["instrumented"]])
    by_operation: dict[str, list[Line]] = {}
    for line in lines:
        by_operation.setdefault(line["id"], []).append(line)
    rows = [
        Row(
            id=name, layer=first["layer"], op=first["op"], phase=first["phase"], parts=tuple(first["parts"]),
            kernel=first["kernel"] or "", m=first["m"], n=first["n"], k=first["k"],
            flops=first["flops"], bytes=first["bytes"], seconds=mean(members), share=mean(members) / step,
            times=first.get("times", 1),
        )
        for name, members in by_operation.items()
        for first in members[:1]
    ]  # fmt: skip
    shares = []
    for launch in sorted(launches):
        whole = mean([line for line in plain if line["launch"] == launch])
        seconds = {
            name: mean([line for line in members if line["launch"] == launch])
            for name, members in by_operation.items()
        }
        of_products = (seconds[row.id] for row in rows if row.op in PRODUCTS)
        shares.append((math.fsum(seconds.values()) / whole, math.fsum(of_products) / whole))
    accounted, products = (geometric(each) for each in zip(*shares)) if shares else (geometric(()),) * 2
    return Profile(result, rows, step, instrumented, accounted, products, highest)


def as_figures(interval: Interval) -> dict[str, Any]:
    """An interval for --json output."""
    return {key: number(getattr(interval, key)) for key in ("value", "low", "high")} | {"n": interval.n}
