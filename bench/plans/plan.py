"""The plan: the list of cells that will be run, how often and how long, and the memory that they need.

A cell is one kernel on one problem (or one model) with one thread count, its operands in the caches or not. Cells
that share all but the kernel form a group: they are timed in turn, round by round. Where factors are varied around a
base, all cells are one group. (`bench.plans.axes`, `network` and `factors` make cells from what a user writes.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import gemm
import mlp
from bench.host.environment import available_memory, last_cache, stream_size
from bench.isolation import trial
from bench.peers import is_peer
from bench.plans import cold, device
from bench.records import Line, RunError, cell_id
from gemm.dtypes import itemsize
from gemm.problems import Problem

# The numbers of launches at which sampling may stop, whatever made it stop: a rule that looks after every
# launch whether the interval is narrow by now covers the truth in 85 % where it says 95.
DECLARED = (3, 6, 12, 24)
# Of each precision: `precise` looks at 12 and goes on to 24 where intervals are still wide.
PRECISIONS: dict[str, dict[str, Any]] = {
    "quick": {"launches": 3},
    "default": {"launches": 6},
    "precise": {"launches": 24, "looks": (12,)},
}


@dataclass(frozen=True)
class Cell:
    """One kernel on one problem or model. `identity` is what its id is the hash of.

    threads   of its process's pools; of a kernel on a device 0 (`bench.plans.device.NO_THREADS`): none of ours
    cache     hot, or cold: its operands are evicted before every call
    tuning    what its kernel's settings for this machine are, where it has any: of a mapping, all that it names
    revision  the git revision whose source it runs ("": the one that runs the lab)
    device    cpu or cuda: where its kernel multiplies. Of a device also
    operands  where they lie, and
    arithmetic  what it multiplies: float32, tfloat32, ...: which ceiling it is held against
    """

    kernel: str
    threads: int
    problem: Problem | None = None
    model: tuple[tuple[str, Any], ...] = ()
    source: str = ""
    cache: str = "hot"
    revision: str = ""
    tuning: str | None = None
    device: str = "cpu"
    operands: str = "host"
    arithmetic: str | None = None

    @property
    def identity(self) -> Line:
        what = {"problem": self.problem.record()} if self.problem else {"model": unfrozen(self.model)}
        return {
            "kernel": self.kernel, "source": self.source, "tuning": self.tuning, "threads": self.threads,
            "cache": self.cache, "via": "prepared", **what,
            **({"revision": self.revision} if self.revision else {}),
            **({"device": self.device, "operands": self.operands} if self.device != "cpu" else {}),
            **({"arithmetic": self.arithmetic} if self.arithmetic else {}),
        }  # fmt: skip

    @property
    def id(self) -> str:
        return cell_id(self.identity)

    @property
    def group(self) -> tuple[Any, ...]:
        """Cells with the same key are timed in turn, unless the plan has all in one (`Plan.group`)."""
        return (self.threads, self.problem or self.model, self.cache, self.device, self.operands)

    @property
    def dtype(self) -> str:
        return self.problem.dtype if self.problem else dict(self.model)["dtype"]

    @classmethod
    def from_identity(cls, identity: Line) -> Cell:
        """The cell again, with the kernel's source and tuning as they are now (of another revision, as they were)."""
        problem, model, revision = (identity.get(key) for key in ("problem", "model", "revision"))
        kernel, what = identity["kernel"], problem or model or {}
        return cls(
            kernel, identity["threads"],
            Problem.from_record(problem) if problem else None,
            frozen(model) if model else (),
            identity["source"] if revision else source(kernel),
            identity.get("cache", "hot"), revision or "",
            identity.get("tuning") if revision else tuning(kernel, what["dtype"]),
            identity.get("device", "cpu"), identity.get("operands", "host"), identity.get("arithmetic"),
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
    more_s     seconds of further rounds in a launch where rounds were disturbed
    twin       the kernel that gets a second process, for A/A (where it is not in a group, the fastest there);
               None: no A/A, and so no verdict
    groups     name -> its shapes as `Shape.text` writes them: the rows of a table that is made of this run
    factors    name -> the values that it has one after the other, while all else is as in the first cell, the base
               (`bench.plans.factors`)
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
    more_s: float = 1.0
    seed: int = 0
    twin: str | None = "blas"
    groups: dict[str, list[str]] = field(default_factory=dict)
    factors: dict[str, list[Any]] = field(default_factory=dict)
    trees: dict[str, dict[str, str]] = field(default_factory=dict)

    def group(self, cell: Cell) -> tuple[Any, ...]:
        """Cells with the same key are timed in turn."""
        return () if self.factors else cell.group

    def record(self) -> Line:
        cells = [cell.identity for cell in self.cells]
        return {k: v for k, v in asdict(self).items() if k != "cells"} | {"cells": cells}

    def check(self) -> None:
        """TypeError names a field that is not what it should be: a plan is a file that anybody may have edited."""
        seconds = [
            self.sample_s,
            self.cell_s,
            self.timeout_s,
            1.0 if self.budget_s is None else self.budget_s,
        ]
        counts = [self.launches, self.rounds, *self.looks]
        counts += [cell.threads for cell in self.cells if cell.device == "cpu"]
        for value in (*counts, *seconds):
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise TypeError(f"{value!r} is no number above 0")
        for value in counts:
            if not isinstance(value, int):
                raise TypeError(f"{value!r} is no whole number")
        if not all(isinstance(members, list) for members in dict(self.groups).values()):
            raise TypeError("groups of no shapes")
        if not all(isinstance(values, list) for values in dict(self.factors).values()):
            raise TypeError("factors of no values")
        if not all(isinstance(tree, dict) for tree in dict(self.trees).values()):
            raise TypeError("trees of no revision")

    @classmethod
    def from_record(cls, record: Line) -> Plan:
        """Raises RunError for what is no plan, UnknownKernel for a kernel that is gone."""
        known = {f.name for f in fields(cls)} - {"cells"}
        try:
            cells = [Cell.from_identity(identity) for identity in record["cells"]]
            plan = cls(cells=cells, **{key: value for key, value in record.items() if key in known})
            plan.looks = tuple(plan.looks)
            plan.check()
            return plan
        except (KeyError, TypeError, AttributeError) as error:
            raise RunError(
                f"plan.json is damaged ({type(error).__name__}: {error}); the run cannot be resumed"
            ) from error


def check_memory(cells: Iterable[Cell], group: Callable[[Cell], Any] = lambda cell: cell.group) -> None:
    """Refuse, before anything is allocated, what needs more memory than there is. Raises ValueError."""
    cells = list(cells)
    device.check_memory(cells)
    needed, free = memory(cells, group), available_memory()
    if needed > 0.9 * free:
        raise ValueError(
            f"the largest problem needs about {needed / 2**30:.1f} GiB over all its workers and "
            f"{free / 2**30:.1f} GiB are free; use smaller sizes or fewer kernels at once"
        )


def ceiling_memory() -> int:
    """Bytes of the buffer in which every level's bandwidth is measured."""
    return stream_size(last_cache())


def memory(cells: Iterable[Cell], group: Callable[[Cell], Any] = lambda cell: cell.group) -> int:
    """Bytes that the largest group of cells needs at once, over all its workers.

    Each holds A, B and C, hot or in as many copies as cold calls rotate over (or what a network takes, see
    mlp.footprint), and one of each group has a twin for A/A. One at a time verifies: with operands of its own,
    float64 copies and integers. Beside them lie the reference with its bound, and the buffer of the ceilings.
    """
    groups: dict[Any, list[tuple[int, int]]] = {}
    for cell in cells:
        groups.setdefault(group(cell), []).append(_held_and_needed(cell))
    totals = [
        sum(held for held, _ in one) + max(held for held, _ in one) + max(needed for _, needed in one)
        for one in groups.values()
    ]
    return max(totals, default=0) + ceiling_memory() * bool(groups)


def _held_and_needed(cell: Cell) -> tuple[int, int]:
    """Bytes that a cell's worker holds while others are timed, and that it needs beside them to verify."""
    if cell.problem:
        p = cell.problem
        operands = p.batch * (p.m * p.k + p.k * p.n + 2 * p.m * p.n)
        held = operands * itemsize(p.dtype)
        needed = held + 20 * operands + 40 * p.batch * p.m * p.n
        copied = (
            cell.cache == "cold" and cell.operands == "host"
        )  # of a device's own, the device holds the copies
        return held + (cold.memory(p) if copied else 0), needed
    model = dict(cell.model)
    kinds = {name: model[name] for name in ("activation", "loss", "optimizer", "dtype") if name in model}
    held = mlp.memory(
        model["arch"], model["batch"], gradients=True, best=bool(model.get("best")), **kinds
    ).total
    layers = [shape.sizes for shape in mlp.architecture(model["arch"]).shapes]
    numbers = [each.weights + model["batch"] * (each.lowered + each.activations) for each in layers]
    return held, 40 * (max(numbers) + model["batch"] * mlp.widths(model["arch"])[0])


def names_in(kernel: str) -> list[str]:
    """The kernels that a name or a mapping (`blas,1=numba-ikj`) names."""
    return [entry.rpartition("=")[2].strip() for entry in kernel.split(",")]


def source(kernel: str) -> str:
    """The hash of a kernel's code; of a mapping (`blas,1=numba-ikj`), of all that it names."""
    hashes = [trial.source(name) for name in names_in(kernel)]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()[:12]


def tuning(kernel: str, dtype: str) -> str | None:
    """Where a kernel's settings for this machine come from (`Kernel.tuning`); of a mapping, of all that it names.

    None for a kernel that has no such settings, and for one of a file.
    """
    named = dict.fromkeys(name for name in names_in(kernel) if not (trial.file_of(name) or is_peer(name)))
    asked = (getattr(gemm.find(name), "tuning", None) for name in named)  # another revision's may have none
    found = dict.fromkeys(settings for ask in asked if ask and (settings := ask(dtype)))
    return ",".join(found) or None


def frozen(model: Line) -> tuple[tuple[str, Any], ...]:
    """A model's description as a hashable value."""
    return tuple(sorted((k, tuple(v) if isinstance(v, list) else v) for k, v in model.items()))


def unfrozen(model: tuple[tuple[str, Any], ...]) -> Line:
    """`frozen` undone."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in model}


def full_name(kernel: str) -> str:
    """The name by which a worker elsewhere finds a kernel or a mapping: files by their whole path."""
    return renamed(kernel, trial.name)


def renamed(kernel: str, rename: Callable[[str], str]) -> str:
    """A kernel's name, or a mapping with each of the names in it, put through `rename`."""
    entries = [entry.rpartition("=") for entry in kernel.split(",")]
    return ",".join(f"{where}{equals}{rename(name.strip())}" for where, equals, name in entries)
