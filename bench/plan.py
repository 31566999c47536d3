"""The plan: from a sweep as the user says it (TOML or flags) to the list of cells that will be run.

A cell is one kernel on one problem (or one model) with one thread count. Cells that share problem and
thread count form a group: they are timed in turn, round by round.
"""

from __future__ import annotations

import difflib
import hashlib
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import gemm
from bench.environment import available_memory, last_cache, stream_size
from bench.records import Line, RunError, cell_id
from gemm.problems import DATA, DTYPES, Problem
from gemm.threads import available_cores

# The largest number that a setting may be: a day in seconds.
LONGEST = 86_400
# The numbers of launches at which sampling may stop, whatever made it stop: a rule that looks after every
# launch whether the interval is narrow by now covers the truth in 85 % where it says 95.
DECLARED = (3, 6, 12, 24)
# Of each precision: `precise` looks at 12 and goes on to 24 where intervals are still wide.
PRECISIONS: dict[str, dict[str, Any]] = {
    "quick": {"launches": 3},
    "default": {"launches": 6},
    "precise": {"launches": 24, "looks": (12,)},
}
# alpha and beta beyond this overflow float32 before they say anything.
LARGEST = 1e30
# What a sweep does that names no size: they show the climb from Python loops to BLAS.
LADDER_SIZES = (16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True)
class Cell:
    """One kernel on one problem or model. `identity` is what its id is the hash of.

    cache     hot, or cold: its operands are evicted before every call
    revision  the git revision whose source it runs ("": the one that runs the lab)
    """

    kernel: str
    threads: int
    problem: Problem | None = None
    model: tuple[tuple[str, Any], ...] = ()
    source: str = ""
    cache: str = "hot"
    revision: str = ""

    @property
    def identity(self) -> Line:
        what = {"problem": self.problem.record()} if self.problem else {"model": unfrozen(self.model)}
        return {
            "kernel": self.kernel, "source": self.source, "tuning": None, "threads": self.threads,
            "cache": self.cache, "via": "prepared", **what,
            **({"revision": self.revision} if self.revision else {}),
        }  # fmt: skip

    @property
    def id(self) -> str:
        return cell_id(self.identity)

    @property
    def group(self) -> tuple[Any, ...]:
        """Cells with the same key are timed in turn."""
        return (self.threads, self.problem or self.model, self.cache)

    @property
    def dtype(self) -> str:
        return self.problem.dtype if self.problem else dict(self.model)["dtype"]

    @classmethod
    def from_identity(cls, identity: Line) -> Cell:
        """The cell again, with the kernel's source as it is now (of another revision, as it was)."""
        problem, model, revision = (identity.get(key) for key in ("problem", "model", "revision"))
        return cls(
            identity["kernel"], identity["threads"],
            Problem.from_record(problem) if problem else None,
            frozen(model) if model else (),
            identity["source"] if revision else source(identity["kernel"]),
            identity.get("cache", "hot"), revision or "",
        )  # fmt: skip


@dataclass
class Plan:
    """Everything a run is going to do, as `plan.json` holds it.

    launches   fresh processes of every kernel (the unit of the statistics)
    looks      the numbers of launches before that at which sampling stops where intervals are narrow enough
    rounds     samples of each cell in each launch
    sample_s   seconds that one sample should last
    cell_s     seconds that one cell may take in all; cells predicted to take longer are skipped
    budget_s   seconds: sampling goes on to the next of DECLARED only if that fits (None: no limit)
    timeout_s  seconds after which a worker that does not answer is ended
    twin       the kernel that gets a second process, for A/A (where it is not in a group, the fastest there);
               None: no A/A, and so no verdict
    trees      revision -> {"root": the folder that its workers import from, "python": its interpreter}
    """

    cells: list[Cell] = field(default_factory=list)
    launches: int = PRECISIONS["default"]["launches"]
    looks: tuple[int, ...] = ()
    rounds: int = 5
    sample_s: float = 0.02
    cell_s: float = 30.0
    budget_s: float | None = None
    timeout_s: float = 300.0
    seed: int = 0
    twin: str | None = "blas"
    trees: dict[str, dict[str, str]] = field(default_factory=dict)

    def record(self) -> Line:
        cells = [cell.identity for cell in self.cells]
        return {k: v for k, v in asdict(self).items() if k != "cells"} | {"cells": cells}

    @classmethod
    def from_record(cls, record: Line) -> Plan:
        """Raises RunError for what is no plan, UnknownKernel for a kernel that is gone."""
        known = {f.name for f in fields(cls)} - {"cells"}
        try:
            cells = [Cell.from_identity(identity) for identity in record["cells"]]
            plan = cls(cells=cells, **{key: value for key, value in record.items() if key in known})
            plan.looks = tuple(plan.looks)
            return plan
        except (KeyError, TypeError, AttributeError) as error:
            raise RunError(
                f"plan.json is damaged ({type(error).__name__}: {error}); the run cannot be resumed"
            ) from error


@dataclass(frozen=True)
class Sweep:
    """A sweep over products: the cross product of its axes.

    shapes   (m, n, k); sizes n are squares (n, n, n) and added to them
    orders   of the operands: nn, tn, nt, tt ("t": stored transposed, handed over as a view)
    """

    kernels: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    shapes: tuple[tuple[int, int, int], ...] = ()
    dtypes: tuple[str, ...] = ("float32",)
    threads: tuple[int, ...] = ()
    orders: tuple[str, ...] = ("nn",)
    alpha: float = 1.0
    beta: float = 0.0
    data: str = "normal"

    def cells(self) -> list[Cell]:
        """Every cell, smaller problems first. Raises ValueError, UnknownKernel for what cannot be."""
        kernels = self.kernels or tuple(kernel.name for kernel in gemm.kernels())
        shapes = [(n, n, n) for n in self.sizes] + list(self.shapes)
        shapes = shapes or [(n, n, n) for n in LADDER_SIZES]
        problems = [
            Problem(m, n, k, dtype, order[0], order[1], alpha=self.alpha, beta=self.beta, data=self.data)
            for dtype in self.dtypes
            for order in self.orders
            for m, n, k in shapes
        ]
        cores = available_cores()
        for threads in self.threads:
            if threads < 1 or threads > cores:
                raise ValueError(f"threads = {threads}: this process may use 1 to {cores} cores")
        cells = [
            Cell(full_name(kernel), threads, problem, source=source(kernel))
            for threads in self.threads or (cores,)
            for problem in sorted(problems, key=lambda problem: problem.flops)
            for kernel in kernels
        ]
        return list(dict.fromkeys(cells))


def load_toml(path: str | Path) -> tuple[Sweep, Line]:
    """A sweep file: the sweep, and the settings of the run that it names.

    Keys are those of Sweep (`shapes` as "128x512x784", m x n x k, or [128, 512, 784]) and of Plan without the
    cells. ValueError says the line of a syntax error, and the nearest name for an unknown key.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid TOML: {error}") from error
    sweep_keys = {f.name for f in fields(Sweep)}
    plan_keys = {f.name for f in fields(Plan)} - {"cells"}
    for key in table:
        if key not in sweep_keys | plan_keys:
            near = difflib.get_close_matches(key, sweep_keys | plan_keys, n=1)
            hint = (
                f"did you mean {near[0]!r}?"
                if near
                else f"there are {', '.join(sorted(sweep_keys | plan_keys))}"
            )
            raise ValueError(f"{path}: unknown key {key!r}; {hint}")
    return (
        make_sweep({k: v for k, v in table.items() if k in sweep_keys}, str(path), table),
        settings({k: v for k, v in table.items() if k in plan_keys}, str(path)),
    )


def make_sweep(values: Line, where: str, required: Iterable[str] = ()) -> Sweep:
    """A Sweep from plain values (of a file or of flags); `where` begins every message.

    required  the axes that somebody has set, and that therefore must not be empty
    """
    given, values = set(values) & set(required), dict(values)
    for key in ("kernels", "sizes", "shapes", "dtypes", "threads", "orders"):
        if key in values and not isinstance(values[key], list | tuple):
            values[key] = [values[key]]
        if key in given and not values[key]:
            raise ValueError(f"{where}: {key} is empty; leave it out for the default")
    for key in ("sizes", "threads"):
        values[key] = tuple(whole(value, f"{where}: {key}") for value in values.get(key, ()))
    values["shapes"] = tuple(shape(value, where) for value in values.get("shapes", ()))
    for key, known in (("dtypes", DTYPES), ("orders", ("nn", "tn", "nt", "tt"))):
        values[key] = tuple(
            _known(f"{where}: unknown {key.removesuffix('s')}", values.get(key, known[:1]), known)
        )
    values["kernels"] = tuple(str(name) for name in values.get("kernels", ()))
    for key in ("alpha", "beta"):
        value = values.get(key, 1.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
            raise ValueError(f"{where}: {key} = {value!r} is no number between -{LARGEST:g} and {LARGEST:g}")
    if "data" in values:
        _known(f"{where}: unknown data", [values["data"]], DATA)
    return Sweep(**values)


def settings(values: Line, where: str) -> Line:
    """The numbers of a Plan, checked: counts from 1 up, seconds above 0."""
    for key, value in values.items():
        counts = key in ("launches", "rounds", "seed")
        right = isinstance(value, int if counts else int | float) and not isinstance(value, bool)
        least = 0 if key == "seed" else 1 if counts else 1e-9
        if not right or not least <= value <= LONGEST:
            kind = f"a whole number from {least} up" if counts else "a number of seconds above 0"
            raise ValueError(f"{where}: {key} = {value!r} must be {kind}")
    return values


def whole(value: Any, where: str) -> int:
    """A size: a whole number from 1 up, given as one or as text."""
    try:
        number = int(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ValueError(f"{where}: {value!r} is no size; sizes are whole numbers from 1 up")
    return number


def shape(value: Any, where: str) -> tuple[int, int, int]:
    """(m, n, k) from "128x512x784" or [128, 512, 784]."""
    parts = value.lower().split("x") if isinstance(value, str) else value
    if not isinstance(parts, Sequence) or len(parts) != 3:
        raise ValueError(f"{where}: shape {value!r} is not m x n x k, such as 128x512x784")
    m, n, k = (whole(part, f"{where}: shape {value!r}") for part in parts)
    return m, n, k


def check_memory(cells: Iterable[Cell]) -> None:
    """Refuse, before anything is allocated, what needs more memory than there is. Raises ValueError."""
    needed, free = memory(cells), available_memory()
    if needed > 0.9 * free:
        raise ValueError(
            f"the largest problem needs about {needed / 2**30:.1f} GiB over all its workers and "
            f"{free / 2**30:.1f} GiB are free; use smaller sizes or fewer kernels at once"
        )


def ceiling_memory() -> int:
    """Bytes of the buffer in which every level's bandwidth is measured."""
    return stream_size(last_cache())


def memory(cells: Iterable[Cell]) -> int:
    """Bytes that the largest group of cells needs at once, over all its workers.

    Each holds A, B and C, the same again to verify with, and float64 copies and integers while it does so;
    beside them the reference and its bound, and the second process for A/A.
    """
    groups: dict[Any, int] = {}
    ones: dict[Any, int] = {}
    for cell in cells:
        if cell.problem:
            p = cell.problem
            operands = p.m * p.k + p.k * p.n + 2 * p.m * p.n
            one = 2 * operands * (4 if p.dtype == "float32" else 8) + 20 * operands + 40 * p.m * p.n
        else:
            model = dict(cell.model)
            widths = model["arch"]
            weights = sum(a * b for a, b in zip(widths, widths[1:]))
            one = 8 * (3 * weights + 6 * model["batch"] * sum(widths))
        groups[cell.group] = groups.get(cell.group, one) + one
        ones[cell.group] = one
    twin = max(ones.values(), default=0)
    return max(groups.values(), default=0) + twin + ceiling_memory() * bool(groups)


def names_in(kernel: str) -> list[str]:
    """The kernels that a name or a mapping (`blas,1=numba-ikj`) names."""
    return [entry.rpartition("=")[2].strip() for entry in kernel.split(",")]


def source(kernel: str) -> str:
    """The hash of a kernel's code; of a mapping (`blas,1=numba-ikj`), of all that it names."""
    hashes = [gemm.find(name).source for name in names_in(kernel)]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()[:12]


def frozen(model: Line) -> tuple[tuple[str, Any], ...]:
    """A model's description as a hashable value."""
    return tuple(sorted((k, tuple(v) if isinstance(v, list) else v) for k, v in model.items()))


def unfrozen(model: tuple[tuple[str, Any], ...]) -> Line:
    """`frozen` undone."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in model}


def full_name(kernel: str) -> str:
    """The name by which a worker elsewhere finds a kernel or a mapping: files by their whole path."""
    entries = [entry.rpartition("=") for entry in kernel.split(",")]
    return ",".join(f"{where}{equals}{gemm.find(name.strip()).name}" for where, equals, name in entries)


def _known(what: str, values: Iterable[Any], known: Sequence[str]) -> list[str]:
    for value in values:
        if value not in known:
            near = difflib.get_close_matches(str(value), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise ValueError(f"{what} {value!r}; {hint}")
    return list(values)
