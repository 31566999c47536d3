"""Calibration: what runs have measured of a kernel as a cost model, kept for this kind of processor.

    observed(run, ...)     records -> what the model is fitted to: rows and steps of profiles, products of sweeps
    calibrate(...)         measures a set of small networks that fills the range evenly, and keeps the model
    kept(...)              the model that was kept for a kernel, a dtype and a number of threads

A network's rows are the better source: operands lie where a step leaves them, epilogues are fused as they will be, and
everything that is no product is there too. Of a run of products alone the model knows the kernel with its operands in
the caches, and takes the rest to move its bytes at the bandwidth that the run has measured.

An entry of the file (`gemm.configuration`):

    {"cpu": {...}, "calibrations": [{"kernel": "numba-micro", "dtype": "float32", "threads": 1, "date": ...,
     "source": ..., "runs": [...], "ranges": {"m": [1, 1024], ...}, "errors": {...}, "model": {...}}, ...]}
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlp
from bench import config_files
from bench.records import Line, Run, now, opened
from bench.timing.progress import Progress
from bench.verdicts import bounds
from bench.verdicts.cost_model import (
    ORDERS,
    ROW,
    STEP,
    CostModel,
    Errors,
    Measured,
    Shapes,
    Task,
    cross_validated,
    fit,
    sizes,
)
from bench.verdicts.statistics import (
    Profile,
    Result,
    Row,
    peaks,
    price_of_crowding,
    profiles,
    results,
    slowed,
)
from gemm import processor
from gemm.configuration import Entry, Kept, Unusable

if TYPE_CHECKING:
    from bench.plans.plan import Cell

FILE = Kept(
    "calibration", 1, "GEMMLAB_CALIBRATION", "calibration", "gemmlab predict --calibrate", longest=64 << 20
)
# Which operand of a product of each kind is stored transposed (`mlp.operations`).
ORDER = {"Z": "nn", "dX": "nt", "dW": "tn", "H": "nn", "dH": "nt", "dU": "tn"}
# How many networks are measured, and how: five minutes in all on one core of a Zen 4.
NETWORKS = 128
SETTINGS: dict[str, Any] = {"launches": 3, "rounds": 5, "sample_s": 0.02, "more_s": 0.3, "twin": None}
LR = 1e-4  # none of them diverges while it is timed
# A step counts as much as so many sets of its rows.
STEP_COUNTS = 2.0


class NoCalibration(ValueError):
    """Nothing is known of this kernel on so many threads with this dtype; the message names the command to run."""


@dataclass(frozen=True)
class Calibration:
    """A kernel's cost model, and what it stands on.

    source   hash of the kernel's code then
    runs     names of the runs
    ranges   of m, n, k: the least and the largest that were measured
    errors   of predictions of what the model had not seen
    crowded  what a neighbour on its core costs it (`statistics.price_of_crowding`)
    """

    kernel: str
    dtype: str
    threads: int
    source: str
    date: str
    runs: tuple[str, ...]
    ranges: dict[str, tuple[int, int]]
    errors: Errors
    model: CostModel
    crowded: float = 0.0

    def inside(self, task: Task) -> bool:
        """Whether its sizes are between those that were measured."""
        sizes = {"m": task.m, "n": task.n, "k": task.k}
        return not task.is_product or all(
            low <= sizes[axis] <= high for axis, (low, high) in self.ranges.items()
        )

    def record(self) -> Line:
        """As the file holds it."""
        return asdict(self) | {"model": asdict(self.model)}


def task_of(row: mlp.Operation | Row, model: Line, around: int) -> Task:
    """An operation of a step (or its measured row) as the cost model sees it; around: `passing` of its step."""
    size = 8 if model["dtype"] == "float64" else 4
    others = [part for part in row.parts if part != row.op]
    if row.m is None or row.n is None or row.k is None:
        name = {"activation": "activation", "loss": "loss", "update": "optimizer"}.get(row.op)
        kind = f"{row.op}:{model.get(name)}" if name else row.op
        kind += "'" if (row.op, row.phase) == ("activation", "backward") else ""
        return Task("+".join([kind, *others]), bytes=row.bytes, around=around, itemsize=size)
    parts = tuple(part.replace("activation", str(model.get("activation"))) for part in others)
    times = getattr(row, "times", 1) or 1
    return Task(
        ORDER.get(row.op, "nn"), row.m, row.n, row.k, times, parts, row.bytes, around, size
    )  # fmt: skip


def passing(rows: Iterable[mlp.Operation | Row]) -> int:
    """Bytes that a step works on: what the forward pass and separate updates touch, which is most of it, once each."""
    return sum(row.bytes for row in rows if row.phase in ("forward", "update"))


def observed(run: Run, kernel: str, dtype: str, threads: int, without: Container[str] = ()) -> list[Measured]:
    """What a run has measured of a kernel: its products, the rows of networks, and the steps that are its alone.

    On a core of its own: what a neighbour there cost (`price`) is taken off.

    without  ids of cells that are left out
    """
    measured = _measured(run, dtype, threads, without)
    price, found = price_of_crowding(measured), []
    for result in measured:
        if result.kernel == kernel and result.problem:
            found += _of_product(result, price)
    for profile in profiles(run, measured):
        found += _of_network(profile, kernel, price)
    return found


def _measured(run: Run, dtype: str, threads: int, without: Container[str]) -> list[Result]:
    return [one for one in results(run) if one.cell["cell"] not in without and _fits(one, dtype, threads)]


def _fits(result: Result, dtype: str, threads: int) -> bool:
    own = (result.problem or result.model).get("dtype")
    return (own, result.threads, result.status) == (dtype, threads, "ok") and bool(result.samples)


def _of_product(result: Result, price: float) -> list[Measured]:
    p = result.problem
    order = p.get("op_a", "n") + p.get("op_b", "n")
    if order == "tt" or p.get("epilogue") or p.get("strides", "contiguous") != "contiguous":
        return []  # no step has these
    size, times = (8 if p["dtype"] == "float64" else 4), p.get("batch", 1)
    moved = size * times * (p["m"] * p["k"] + p["k"] * p["n"] + p["m"] * p["n"])
    around = 1 << 60 if result.cell.get("cache") == "cold" else moved
    parts = ("update",) if p.get("beta", 0) else ()
    task = Task(order, p["m"], p["n"], p["k"], times, parts, moved, around, size)
    return [Measured((task,), result.seconds.value / slowed(result, price), (), result.cell["cell"])]


def _of_network(profile: Profile, kernel: str, price: float) -> list[Measured]:
    slow = slowed(profile.result, price)
    model, source = profile.result.model, profile.result.cell["cell"]
    around = passing(profile.rows)
    tasks = {row.id: task_of(row, model, around) for row in profile.rows}
    found = [
        Measured(
            (tasks[row.id],),
            row.seconds / slow,
            (ROW,),
            source,
            math.sqrt(min(1.0, row.seconds / profile.step)),
        )
        for row in profile.rows
        if row.seconds > 0 and (row.kernel == kernel or not tasks[row.id].is_product)
    ]
    if all(row.kernel == kernel for row in profile.rows if tasks[row.id].is_product):
        found.append(Measured(tuple(tasks.values()), profile.step / slow, (STEP,), source, STEP_COUNTS))
    return found


def from_runs(
    runs: Sequence[str | Path | Run], kernel: str, dtype: str, threads: int, without: Container[str] = ()
) -> Calibration:
    """The calibration that these runs amount to. Raises NoCalibration where they hold nothing of the kind.

    without  ids of cells that it is not to have seen
    """
    found: list[Measured] = []
    names, source, bandwidth, price = [], "", math.nan, 0.0
    caches: dict[str, int] = {}
    for run in map(opened, runs):
        some = observed(run, kernel, dtype, threads, without)
        if some:
            found += some
            names.append(run.path.name)
            caches = (run.environment.get("cpu") or {}).get("caches") or processor.caches()
            source = next((c.get("source", "") for c in run.cells if c["kernel"] == kernel), source)
            bandwidth = _bandwidth(run, threads)
            price = price_of_crowding(_measured(run, dtype, threads, without))
    products = [one.tasks[0] for one in found if len(one.tasks) == 1 and one.tasks[0].is_product]
    if not products:
        where = ", ".join(str(run.path if isinstance(run, Run) else run) for run in runs)
        raise NoCalibration(
            f"{where}: no product of {kernel} in {dtype} on {_threads(threads)} was measured there; "
            f"{command(kernel, dtype, threads)} measures what is needed"
        )
    model = fit(found, caches)
    if math.isnan(model.bandwidth):
        model.bandwidth = bandwidth
    ranges = {
        axis: (min(getattr(t, axis) for t in products), max(getattr(t, axis) for t in products))
        for axis in "mnk"
    }
    errors = cross_validated(found, caches)
    return Calibration(kernel, dtype, threads, source, now(), tuple(names), ranges, errors, model, price)


def _bandwidth(run: Run, threads: int) -> float:
    """Bytes per second that a run has seen the L3 copy, or else memory; NaN where it has not looked."""
    names = dict.fromkeys(line["ceiling"] for line in run.of("ceiling") if line["ceiling"] != "fma")
    by_level = bounds.bandwidths(
        {name: max(peaks(run, name, None, threads).values(), default=math.nan) for name in names}
    )
    for level in ("L3", "DRAM"):
        rates = [rate for rate in by_level.get(level, {}).values() if rate > 0]
        if rates:
            return min(rates)
    return math.nan


def calibrate(
    kernel: str,
    dtype: str,
    threads: int,
    *,
    networks: int = NETWORKS,
    folder: str | Path | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Calibration:
    """Measure small networks that fill the range evenly (`bench.plans.draws.spread`), and what they amount to.

    folder    of the run (default: a new one in runs/)
    settings  of the plan, over SETTINGS

    Nothing is written but the run; `keep` writes the file. Raises ValueError for a kernel, dtype or threads that cannot
    be, NoCalibration where nothing could be measured.
    """
    from bench.plans import draws
    from bench.plans.plan import Plan
    from bench.timing import engine

    cells = cells_of(draws.spread(networks), kernel, dtype, threads)
    plan = Plan(cells=cells, **(SETTINGS | settings))
    run = engine.start(plan, folder, stem="calibration", progress=progress)
    failed = [cell for cell in run.cells if cell["status"] not in ("ok", "impossible")]
    if len(failed) == len(cells):
        raise NoCalibration(f"{kernel} has no time on any network: {failed[0]['reason']}")
    return from_runs([run], cells[0].kernel, dtype, threads)


def cells_of(networks: Iterable[dict[str, Any]], kernel: str, dtype: str, threads: int) -> list[Cell]:
    """Networks as `bench.plans.draws` describes them, as cells of a plan."""
    from bench.plans import network

    cells = []
    for one in networks:
        model = {key: value for key, value in one.items() if key not in ("arch", "batch")}
        cells += network.cells(one["arch"], one["batch"], [kernel], threads, dtype=dtype, lr=LR, **model)
    return cells


def keep(found: Calibration, out: str | Path | None = None) -> Path:
    """Put a calibration into the file, in the place of an earlier one of its kernel, dtype and threads; the file.

    Raises ValueError where the file is switched off, or another.
    """
    file = config_files.writable(FILE, out)
    others, mine = config_files.entries(FILE, file, cpu())
    before = (mine or {}).get("calibrations")
    before = before if isinstance(before, list) else []
    key = [found.kernel, found.dtype, found.threads]
    same = [one for one in before if [one.get(name) for name in ("kernel", "dtype", "threads")] != key]
    config_files.put(FILE, file, [*others, {"cpu": cpu(), "calibrations": [*same, found.record()]}])
    return file


def kept(kernel: str, dtype: str, threads: int) -> Calibration:
    """The calibration that was kept for this machine. Raises NoCalibration where there is none."""
    nothing: dict[tuple[str, str, int], Calibration] = {}
    known = FILE.mine(cpu, _read, nothing)
    if (kernel, dtype, threads) in known:
        return known[kernel, dtype, threads]
    beside = [f"{d} on {_threads(t)}" for k, d, t in known if k == kernel]
    there = f" (there is one for {', '.join(beside)})" if beside else ""
    raise NoCalibration(
        f"no calibration of {kernel} in {dtype} on {_threads(threads)} for this machine{there}; "
        f"{command(kernel, dtype, threads)} makes one in some minutes, or give a run of it with --from"
    )


def cpu() -> Entry:
    """What an entry is for: the processor and its caches."""
    return {**processor.identity(), "caches": processor.caches()}


def _read(entry: Entry, file: Path) -> dict[tuple[str, str, int], Calibration]:
    """An entry's calibrations. Raises Unusable."""
    try:
        found = [_calibration(one) for one in entry["calibrations"] if _of_this_model(one)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unusable(f"{file}: damaged, a calibration without its figures ({error})") from error
    return {(one.kernel, one.dtype, one.threads): one for one in found}


def _of_this_model(record: Line) -> bool:
    """Whether it is interpolated over what this gemmlab interpolates over; as good as not there if not."""
    shapes = record["model"]["shapes"]
    return "crowded" in record and all(
        {"low", "high"} <= one.keys()
        and len(one["scales"]) == len(sizes(Task(kind, *((1, 1, 1) if kind in ORDERS else ()))))
        for kind, one in shapes.items()
    )


def _calibration(record: Line) -> Calibration:
    """What `Calibration.record` has written."""
    model = record["model"]
    shapes = {
        str(kind): Shapes(
            at=[_finite_list(point) for point in one["at"]],
            weights=_finite_list(one["weights"]),
            scales=_finite_list(one["scales"]),
            signal=_finite(one["signal"]),
            noise=_finite(one["noise"]),
            low=_finite(one["low"]),
            high=_finite(one["high"]),
        )
        for kind, one in model["shapes"].items()
    }
    if any(
        len(one.at) != len(one.weights) or {*map(len, one.at)} != {len(one.scales)} for one in shapes.values()
    ):
        raise ValueError("points without a weight")
    prices = {str(name): _finite(price) for name, price in model["prices"].items()}
    if not prices or min(prices.values()) < 0:
        raise ValueError("a price below 0")
    caches = {str(level): int(size) for level, size in model["caches"].items()}
    return Calibration(
        kernel=str(record["kernel"]),
        dtype=str(record["dtype"]),
        threads=int(record["threads"]),
        source=str(record["source"]),
        date=str(record["date"]),
        runs=tuple(map(str, record["runs"])),
        ranges={axis: (int(low), int(high)) for axis, (low, high) in record["ranges"].items()},
        errors=Errors(tuple(_finite_list(record["errors"]["ratios"])), str(record["errors"]["of"])),
        model=CostModel(prices, shapes, caches, float(model["bandwidth"])),
        crowded=_finite(record["crowded"]),
    )


def _finite_list(values: Sequence[Any]) -> list[float]:
    return [_finite(value) for value in values]


def _finite(value: Any) -> float:
    found = float(value)
    if not math.isfinite(found):
        raise ValueError(f"{value!r} is no number")
    return found


def command(kernel: str, dtype: str, threads: int) -> str:
    """What to run to have a calibration, in a sentence."""
    return f"`gemmlab predict --calibrate --kernel {kernel} --dtype {dtype} --threads {threads}`"


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"
