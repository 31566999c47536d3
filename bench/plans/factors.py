"""Factors: what a network's step depends on, varied one at a time around a base.

"Which of these things affect the runtime cost?" (lecture 12)

    width       the widest of the hidden layers, the others in proportion
    depth       hidden layers: the last one repeated, or the last ones left out
    batch, dtype, activation, loss, optimizer, kernel, threads

A plan that varies factors holds the base as its first cell, and for each factor the values in their order, the base's
own among them. What cell a value stands for is `varied(base, factor, value)`, for the one who plans and for the one who
reads the records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import gemm
import mlp
from bench.plans import network
from bench.plans.plan import Cell, full_name
from bench.plans.shapes import sizes, whole
from bench.records import Line, canonical
from gemm.epilogue import ACTIVATIONS
from gemm.problems import DTYPES
from gemm.threads import available_cores
from mlp.mistakes import unknown

WIDTHS = (64, 128, 256, 512, 1024)
DEPTHS = (1, 2, 4, 8)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)
FACTORS = ("width", "depth", "batch", "dtype", "activation", "loss", "optimizer", "kernel", "threads")
# Those whose values are numbers, and so are in an order.
NUMBERS = ("width", "depth", "batch", "threads")
# So small that no network diverges or is learnt by heart while it is timed: arithmetic on NaN and on subnormal
# numbers takes another time.
LR = 1e-6


def base_of(cell: Line) -> Line:
    """Kernel, threads and model of a cell's identity or closing line: what is varied."""
    return {key: cell[key] for key in ("kernel", "threads", "model")}


def plan(base: Cell, only: Iterable[str] = (), values: Mapping[str, Sequence[Any]] | None = None) -> Line:
    """Fields of a Plan: `cells`, the base first, `factors`, and the kernel whose A/A is the floor, `twin`.

    only    the factors to vary; default: those that have values, or else every one that can be
    values  factor -> the values that replace the usual ones; the base's own is among them in any case

    Raises ValueError, UnknownKernel for what cannot be varied, or be built.
    """
    values = dict(values or {})
    chosen = list(dict.fromkeys(only))
    for factor in (*chosen, *values):
        if factor not in FACTORS:
            raise unknown("factor", factor, FACTORS)
    if chosen and (unused := [factor for factor in values if factor not in chosen]):
        raise ValueError(
            f"{unused[0]} has values and is not varied; add it to the factors, or leave them out"
        )
    start = base_of(base.identity)
    asked = chosen or list(values)
    factors: dict[str, list[Any]] = {}
    for factor in asked or FACTORS:
        if reason := refused(start, factor):
            if factor in asked:
                raise ValueError(reason)
            continue
        own = _own_values(start, factor, values.get(factor))
        if len(own) > 1:
            factors[factor] = own
        elif factor in asked:
            raise ValueError(
                f"{factor}: {own[0]} is the base's own, and there is no other; give another value"
            )
    cells = [base]
    for factor, own in factors.items():
        cells += [_cell(varied(start, factor, value)) for value in own if value != value_of(start, factor)]
    return {"cells": list(dict.fromkeys(cells)), "factors": factors, "twin": base.kernel}


def varied(base: Line, factor: str, value: Any) -> Line:
    """The base (kernel, threads, model) with one thing changed."""
    if factor in ("kernel", "threads"):
        return base | {factor: value}
    model = base["model"]
    if factor in ("width", "depth"):
        reshaped = _of_width if factor == "width" else _of_depth
        changed = {"arch": [model["arch"][0], *reshaped(_hidden(base), value), model["arch"][-1]]}
    else:
        changed = {factor: value}
    return base | {"model": model | changed}


def value_of(base: Line, factor: str) -> Any:
    """What the base has of a factor."""
    if factor in ("kernel", "threads"):
        return base[factor]
    if factor == "width":
        return max(_hidden(base))
    return len(_hidden(base)) if factor == "depth" else base["model"][factor]


def refused(base: Line, factor: str) -> str:
    """Why a factor cannot be varied around this base, as a sentence; "" if it can."""
    arch = base["model"]["arch"]
    if factor in ("width", "depth"):
        if not all(isinstance(width, int) for width in arch):
            return (
                f"{factor} is not varied: only of a network that is nothing but widths is it one number, "
                f"and {'-'.join(map(str, arch))} has other layers"
            )
        if len(arch) < 3:
            return f"{factor} is not varied: {'-'.join(map(str, arch))} has no hidden layer"
    return ""


def same(one: Line, other: Line) -> bool:
    """True if both are the same kernel, threads and model."""
    return canonical(base_of(one)) == canonical(base_of(other))


def _cell(what: Line) -> Cell:
    model = dict(what["model"])
    arch, batch = model.pop("arch"), model.pop("batch")
    (cell,) = network.cells(arch, batch, [what["kernel"]], what["threads"], **model)
    return cell


def _hidden(base: Line) -> list[int]:
    return [int(width) for width in base["model"]["arch"][1:-1]]


def _of_width(hidden: Sequence[int], width: int) -> list[int]:
    return [max(1, round(one * width / max(hidden))) for one in hidden]


def _of_depth(hidden: Sequence[int], depth: int) -> list[int]:
    return [*hidden, *[hidden[-1]] * (depth - len(hidden))][:depth]


def _usual(base: Line, factor: str) -> Sequence[Any]:
    """The values that a factor has where nobody says which."""
    return {
        "width": WIDTHS,
        "depth": DEPTHS,
        "batch": BATCHES,
        "dtype": DTYPES,
        "activation": tuple(ACTIVATIONS),
        "loss": tuple(mlp.LOSSES),
        "optimizer": tuple(mlp.OPTIMIZERS),
        "kernel": [k.name for k in gemm.kernels() if k.device == "cpu" and not k.peer],
        "threads": [*(count for count in (1, 2, 4, 8, 16, 32, 64, 128) if count < available_cores()), "all"],
    }[factor]


def _own_values(base: Line, factor: str, given: Sequence[Any] | None) -> list[Any]:
    """A factor's values, the base's among them: numbers rising, names as they come with the base's first."""
    if given is not None and not given:
        raise ValueError(f"{factor}: no value is given; leave it out for the usual ones")
    read = _READ.get(factor, lambda value: [str(value)])
    values = [one for value in (_usual(base, factor) if given is None else given) for one in read(value)]
    own = value_of(base, factor)
    return sorted({own, *values}) if factor in NUMBERS else list(dict.fromkeys([own, *values]))


# What an entry of a factor's values stands for: several, where it is a range.
_READ: dict[str, Callable[[Any], list[Any]]] = {
    "width": lambda value: sizes(value, "width"),
    "depth": lambda value: (
        [0] if str(value) == "0" else sizes(value, "depth")
    ),  # without any it is a linear model
    "batch": lambda value: sizes(value, "batch"),
    "threads": lambda value: [available_cores() if value == "all" else whole(value, "threads")],
    "kernel": lambda value: [full_name(value)],
}
