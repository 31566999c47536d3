"""Axes: a sweep as its user writes it (flags, TOML, Python, a named suite), and the cells that it stands for."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatch
from itertools import product
from pathlib import Path
from typing import Any

import gemm
from bench.isolation import trial
from bench.peers import is_peer
from bench.plans import device
from bench.plans.plan import DECLARED, PRECISIONS, Cell, full_name, source, tuning
from bench.plans.shapes import ORDERS, Shape, all_shapes, all_sizes, mixed, whole
from bench.records import Line
from gemm.dtypes import EVERY, is_here
from gemm.problems import DATA, Problem
from gemm.threads import available_cores

# The largest number that a setting may be: a day in seconds.
LONGEST = 86_400
# alpha and beta beyond this overflow float32 before they say anything.
LARGEST = 1e30
# What a sweep does that names no size: they show the climb from Python loops to BLAS.
LADDER_SIZES = (16, 32, 64, 128, 256, 512, 1024)
CACHES = ("hot", "cold")
SUITES = Path(__file__).parent / "suites"
# Settings of a Plan that a sweep's file may hold.
COUNTS = ("launches", "rounds", "seed")
SECONDS = ("sample_s", "cell_s", "budget_s", "timeout_s")
SETTINGS = (*COUNTS, *SECONDS, "precision")


@dataclass(frozen=True)
class Sweep:
    """A sweep over products: the cross product of its axes.

    kernels  by default the ladder, without the peers; cuda-* stands for all of the ladder that are called so
    shapes   with an order or a batch of their own where they bring one; sizes n are squares (n, n, n) and come on
             top of them
    groups   named lists of both, on top of them as well: tables give each a row of its own
    threads  counts, or "all"
    orders   of the operands: nn, tn, nt, tt ("t": stored transposed, handed over as a view)
    cache    hot, cold: operands evicted before every call; by default hot, of a device's own operands cold
    operands of kernels on a device: device (the default), host: NumPy arrays, taken there and back in every call
    data     kinds of it (gemm.problems.DATA)
    batch    products in a stack
    """

    kernels: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    shapes: tuple[Shape, ...] = ()
    groups: tuple[tuple[str, tuple[Shape, ...]], ...] = ()
    dtypes: tuple[str, ...] = ("float32",)
    threads: tuple[int | str, ...] = ()
    orders: tuple[str, ...] = ("nn",)
    cache: tuple[str, ...] = ()
    operands: tuple[str, ...] = ("device",)
    data: tuple[str, ...] = ("normal",)
    batch: tuple[int, ...] = (1,)
    alpha: float = 1.0
    beta: float = 0.0

    def cells(self) -> list[Cell]:
        """Every cell, smaller problems first. Raises ValueError, UnknownKernel for what cannot be."""
        kernels = self._named() or tuple(
            kernel.name
            for kernel in gemm.kernels()
            if not kernel.peer
            and (kernel.device == "cpu" or kernel.available)
            and any(map(kernel.signature, self.dtypes))
        )
        for dtype in self.dtypes:
            if not is_here(dtype):
                raise ValueError(
                    f"{dtype} is a dtype of ml_dtypes, which is not installed; pip install ml_dtypes"
                )
        if peer := next(filter(is_peer, kernels), None):
            raise ValueError(f"{peer} does whole training steps; name it in `gemmlab profile`")
        cores = available_cores()
        threads = [cores if count == "all" else int(count) for count in self.threads or ("all",)]
        for count in threads:
            if count < 1 or count > cores:
                raise ValueError(
                    f"threads = {count}: this process may use 1 to {cores} cores, or all of them"
                )
        on_device = [kernel for kernel in kernels if device.device_of(kernel) != "cpu"]
        on_cpu = [kernel for kernel in kernels if kernel not in on_device]
        cells = [
            Cell(
                full_name(kernel),
                count,
                problem,
                source=source(kernel),
                cache=cache,
                tuning=tuning(kernel, problem.dtype),
            )
            for count in threads
            for problem in self._rising(LADDER_SIZES)
            for cache in self.cache or CACHES[:1]
            for kernel in self._that_take(problem.dtype, on_cpu)
        ]
        cells += [
            Cell(
                full_name(kernel),
                device.NO_THREADS,  # one cell of a problem, however many threads others have
                problem,
                source=source(kernel),
                cache=cache,
                tuning=tuning(kernel, problem.dtype),
                device=device.device_of(kernel),
                operands=operands,
                arithmetic=device.arithmetic(kernel, problem.dtype),
            )
            for problem in (self._rising(device.SIZES) if on_device else ())
            for operands in self.operands
            for cache in self.cache or (("cold",) if operands == "device" else ("hot",))
            for kernel in self._that_take(problem.dtype, on_device)
        ]
        return list(dict.fromkeys(cells))

    def _named(self) -> tuple[str, ...]:
        """The kernels that are named, patterns written out. Raises ValueError for one that fits none."""
        found: list[str] = []
        for name in self.kernels:
            if "*" not in name or trial.file_of(name):
                found.append(name)
                continue
            fits = [
                kernel.name for kernel in gemm.kernels() if not kernel.peer and fnmatch(kernel.name, name)
            ]
            if not fits:
                raise ValueError(f"no kernel is called like {name!r}; `gemmlab kernels` lists them")
            found += fits
        return tuple(dict.fromkeys(found))

    def _that_take(self, dtype: str, kernels: Iterable[str]) -> list[str]:
        """The kernels for this dtype. One that takes no dtype of the sweep stays: its record says what it takes."""
        return [
            kernel
            for kernel in kernels
            if device.takes(kernel, dtype) or not any(device.takes(kernel, other) for other in self.dtypes)
        ]

    def _rising(self, sizes: Sequence[int]) -> list[Problem]:
        """Every problem, smaller ones first; `sizes` where the sweep names none."""
        return sorted(self._problems(sizes), key=lambda problem: problem.flops)

    def grouped(self) -> dict[str, list[str]]:
        """Name of a group -> its shapes, written out with order and batch: what a plan keeps of groups."""
        return {name: [one.text for one in self._written_out(members)] for name, members in self.groups}

    def _problems(self, default: Sequence[int]) -> Iterable[Problem]:
        shapes = [*(Shape(n, n, n) for n in self.sizes), *self.shapes]
        shapes += [shape for _, members in self.groups for shape in members]
        written_out = list(self._written_out(shapes or [Shape(n, n, n) for n in default]))
        for dtype, data, (m, n, k, order, batch) in product(self.dtypes, self.data, written_out):
            yield Problem(
                m, n, k, dtype, (order or "nn")[0], (order or "nn")[1],
                alpha=self.alpha, beta=self.beta, data=data, batch=batch or 1,
            )  # fmt: skip

    def _written_out(self, shapes: Iterable[Shape]) -> Iterable[Shape]:
        """Each shape with every order and batch that it is to have."""
        for shape in shapes:
            orders = (shape.order,) if shape.order else self.orders
            for order, batch in product(orders, (shape.batch,) if shape.batch else self.batch):
                yield shape._replace(order=order, batch=batch)


AXES = tuple(field.name for field in fields(Sweep))
LISTS = tuple(name for name in AXES if name not in ("groups", "alpha", "beta"))
# What says which products there are: who gives one of these replaces all.
PRODUCTS = ("sizes", "shapes", "groups")


def suites() -> dict[str, str]:
    """Name -> the line that says what it is for, of every suite in `bench/plans/suites/`."""
    return {path.stem: _read(path)["about"] for path in sorted(SUITES.glob("*.toml"))}


def suite(name: str, where: str) -> Line:
    """The axes of a named suite. ValueError gives the names for one that there is not."""
    known = suites()
    if name not in known:
        raise ValueError(f"{where}: unknown suite {name!r}; there are {', '.join(known)}")
    table = _read(SUITES / f"{name}.toml")
    return {key: value for key, value in table.items() if key not in ("about", *SETTINGS)}


def suite_settings(name: str | None, where: str) -> Line:
    """The settings of the run that a named suite has of its own; {} for None."""
    if name is None:
        return {}
    suite(name, where)
    table = _read(SUITES / f"{name}.toml")
    return settings({key: value for key, value in table.items() if key in SETTINGS}, f"suite {name}")


def load_toml(path: str | Path) -> tuple[Sweep, Line]:
    """A sweep file: the sweep, and the settings of the run that it names.

    Keys are those of Sweep, `suite` (whose axes and settings the file's own replace), `precision`, and COUNTS and
    SECONDS of Plan; `groups` is a table of lists of sizes and shapes. ValueError says the line of a
    syntax error, and the nearest name for an unknown key.
    """
    table = _read(path)
    _known(f"{path}: unknown key", table, (*AXES, "suite", *SETTINGS))
    axes = {key: value for key, value in table.items() if key in (*AXES, "suite")}
    numbers = {key: value for key, value in table.items() if key in SETTINGS}
    sweep = make_sweep(axes, str(path), axes)
    below = suite_settings(table.get("suite"), str(path))
    return sweep, settings_over(below, numbers, str(path)) if below else settings(numbers, str(path))


def make_sweep(values: Line, where: str, required: Iterable[str] = (), under: Sweep | None = None) -> Sweep:
    """A Sweep from plain values (of a file or of flags); `where` begins every message.

    values    axes, and `suite`, whose axes stand where `values` has none
    required  the axes that somebody has set, and that therefore must not be empty; others are then as if not given
    under     a sweep whose axes stand where neither has any

    Sizes, shapes and groups are one axis here: who gives one of them replaces all.
    """
    values = {key: value for key, value in values.items() if value is not None}
    given = set(values) & set(required)
    for key in LISTS:
        if key in values:
            several = isinstance(values[key], Iterable) and not isinstance(values[key], str)
            values[key] = list(values[key]) if several else [values[key]]
        if not values.get(key, True):
            if key in given:
                raise ValueError(f"{where}: {key} is empty; leave it out for the default")
            del values[key]
    if (name := values.pop("suite", None)) is not None:
        values = over(suite(str(name), where), values)
    values = over(vars(under) if under else {}, values)
    values["sizes"] = all_sizes(values.get("sizes", ()), f"{where}: sizes")
    values["shapes"] = all_shapes(values.get("shapes", ()), where)
    values["groups"] = _groups(values.get("groups", ()), f"{where}: groups")
    values["batch"] = all_sizes(values.get("batch", (1,)), f"{where}: batch")
    values["threads"] = tuple(
        count if count == "all" else whole(count, f"{where}: threads", "count of threads")
        for count in values.get("threads", ())
    )
    for key, what, known in (
        ("dtypes", "dtype", EVERY), ("orders", "order", ORDERS), ("cache", "cache", CACHES), ("data", "data", DATA),
        ("operands", "place of operands", device.OPERANDS),
    ):  # fmt: skip
        default = () if key == "cache" else known[:1]  # of a cache, what suits each kernel
        values[key] = tuple(_known(f"{where}: unknown {what}", values.get(key, default), known))
    values["kernels"] = tuple(str(name) for name in values.get("kernels", ()))
    for key in ("alpha", "beta"):
        value = values.get(key, 1.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
            raise ValueError(f"{where}: {key} = {value!r} is no number between -{LARGEST:g} and {LARGEST:g}")
    made = Sweep(**values)
    _apart(made.grouped(), f"{where}: groups")
    return made


def over(below: Line, values: Line) -> Line:
    """`values`, and what they leave open from `below`."""
    if any(values.get(key) for key in PRODUCTS):
        below = {key: value for key, value in below.items() if key not in PRODUCTS}
    return below | values


def settings(values: Line, where: str) -> Line:
    """The settings of a Plan, checked: counts from 1 up, seconds above 0; what else it has, as it is.

    `precision` (quick, default, precise) becomes the launches that it stands for, unless there are `launches`. A
    budget without either takes as many launches as fit, of DECLARED.
    """
    values = dict(values)
    precision = values.pop("precision", None)
    if precision is not None:
        (precision,) = _known(f"{where}: unknown precision", [precision], tuple(PRECISIONS))
        values = ({} if "launches" in values else PRECISIONS[precision]) | values
    elif "budget_s" in values and "launches" not in values:
        values["launches"] = DECLARED[-1]
    for key, value in values.items():
        if key not in (*COUNTS, *SECONDS):
            continue
        right = isinstance(value, int if key in COUNTS else int | float) and not isinstance(value, bool)
        least = 0 if key == "seed" else 1 if key in COUNTS else 1e-9
        if not right or not least <= value <= LONGEST:
            kind = "a whole number" if key in COUNTS else "a number of seconds"
            span = f"from {least} to {LONGEST}" if key in COUNTS else f"above 0, up to {LONGEST}"
            raise ValueError(f"{where}: {key} = {value!r} must be {kind} {span}")
    return values


def settings_over(below: Line, values: Line, where: str) -> Line:
    """`settings(values)`, and what they leave open from the settings `below`.

    A budget alone takes as many launches as fit, of those that stand below.
    """
    above = settings(values, where)
    if "launches" in below and not values.keys() & {"launches", "precision"}:
        above.pop("launches", None)
    return (below | {"looks": ()} if "launches" in above else below) | above


def _groups(value: Any, where: str) -> tuple[tuple[str, tuple[Shape, ...]], ...]:
    """Groups as a sweep holds them, from a table of lists."""
    table = dict(value) if isinstance(value, tuple) else value  # a Sweep's own
    if not isinstance(table, Mapping):
        raise ValueError(f"{where}: {value!r} is no table; write a line `name = [sizes and shapes]` for each")
    for name, members in table.items():
        if not isinstance(members, list | tuple) or not members:
            raise ValueError(f"{where}: {name} = {members!r} is no list of sizes and shapes")
    return tuple((str(name), mixed(members, f"{where}: {name}")) for name, members in table.items())


def _apart(groups: Mapping[str, Sequence[str]], where: str) -> None:
    """Raises ValueError for a shape that is in two groups: its row in a table would be a matter of luck."""
    at: dict[str, str] = {}
    for name, members in groups.items():
        for shape in members:
            if at.setdefault(shape, name) != name:
                raise ValueError(f"{where}: {shape} is in {at[shape]} and in {name}; leave it in one of them")


def _read(path: str | Path) -> Line:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid TOML: {error}") from error


def _known(what: str, values: Iterable[Any], known: Sequence[str]) -> list[str]:
    for value in values:
        if value not in known:
            near = difflib.get_close_matches(str(value), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}"
            raise ValueError(f"{what} {value!r}; {hint}")
    return list(values)
