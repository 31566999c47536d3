"""A made run that varied one thing at a time around a base: times by a law, so that what matters is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bench.plans import factors
from bench.records import Line, Run, cell_id, write_json
from tests.reports.conftest import LAUNCHES, PEAK, ROUNDS, THREADS, Synthetic, every_round

MODEL: Line = {
    "arch": [784, 512, 512, 10], "batch": 128, "activation": "relu", "loss": "softmax-cross-entropy",
    "optimizer": "sgd", "dtype": "float32", "lr": 1e-6, "data": "random",
}  # fmt: skip
BASE: Line = {"kernel": "numba-micro", "threads": THREADS, "model": MODEL}
VALUES: dict[str, list[Any]] = {
    "width": [64, 128, 256, 512, 1024, 2048],
    "depth": [1, 2, 4, 8],
    "batch": [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024],
    "dtype": ["float32", "float64"],
    "activation": ["relu", "leaky-relu", "gelu", "tanh", "sigmoid", "identity"],
    "loss": ["softmax-cross-entropy", "logistic", "hinge", "squared-error"],
    "optimizer": ["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"],
    "kernel": ["numba-micro", "python", "numba-ikj", "numba-blocked", "blas"],
    "threads": [1, 2],
}
# How many times longer a step takes.
LONGER: dict[Any, float] = {
    "float64": 2.0, "gelu": 1.4, "tanh": 1.03, "sigmoid": 1.02, "adam": 1.9, "adamw": 1.9, "momentum": 1.2,
    "numba-ikj": 8.0, "numba-blocked": 1.9, "blas": 1.1, "logistic": 1.005,
}  # fmt: skip


def flops_of(what: Line) -> float:
    arch, batch = what["model"]["arch"], what["model"]["batch"]
    return float(6 * batch * sum(a * b for a, b in zip(arch, arch[1:])))


def law(what: Line) -> float:
    """Seconds of a step: its operations at a rate, what moving the weights takes, a little for every layer."""
    arch, model = what["model"]["arch"], what["model"]
    weights = sum(a * b for a, b in zip(arch, arch[1:]))
    seconds = (
        flops_of(what) / (0.9 * PEAK) * THREADS / what["threads"] + 16 * weights / 5e10 + 4e-6 * len(arch)
    )
    named = (model["dtype"], model["activation"], model["loss"], model["optimizer"], what["kernel"])
    return seconds * math.prod(LONGER.get(name, 1.0) for name in named)


def explored(
    run: Synthetic, values: Mapping[str, list[Any]] = VALUES, base: Line = BASE, *,
    seconds: Callable[[Line], float] = law, launches: int = LAUNCHES, noise: float = 0.002,
    not_run: Mapping[str, Line] | None = None, **fields: Any,
) -> Run:  # fmt: skip
    """`seconds` of a step; `noise` of a launch; `not_run`: closing fields of kernels without samples."""
    whats = [base]
    for factor, own in values.items():
        whats += [factors.varied(base, factor, value) for value in own]
    cells = {cell_id(what): what for what in whats}
    plan = {"rounds": ROUNDS, "launches": launches, "factors": dict(values), "cells": [*cells.values()]}
    write_json(run.folder / "plan.json", plan)
    python = {"status": "skipped", "predicted_s": 9.0, "reason": "predicted from smaller sizes: 9 s a call"}
    absent = {"python": python} if not_run is None else not_run
    for cell, what in cells.items():
        status = absent.get(what["kernel"], {"status": "ok"})
        if status["status"] == "ok":
            _step(run, cell, what, seconds(what), launches, noise, twin=what == base)
        closing = {"source": "feed", "cache": "hot", "flops": flops_of(what), "bytes": 1.0, "reason": None}
        run.writer.append("cell", cell, **(closing | what | status | fields))
    for launch, round_ in every_round():
        at = {"launch": launch, "round": round_, "order": 0, "threads": THREADS, "dtype": "float32"}
        run.writer.append("ceiling", "", ceiling="fma", unit="FLOP", work=PEAK, seconds=1.0, **at)
    return run.done()


def _step(
    run: Synthetic, cell: str, what: Line, seconds: float, launches: int, noise: float, twin: bool
) -> None:
    products = min(0.97, flops_of(what) / (0.9 * PEAK) / law(BASE | what | {"threads": THREADS}) + 0.1)
    for launch in range(launches):
        luck = math.exp(run.noise.gauss(0, noise))
        for round_ in range(ROUNDS):
            took = seconds * luck * math.exp(run.noise.gauss(0, noise))
            at = {"model": what["model"], "launch": launch, "round": round_, "order": 0, "steps": 10}
            for op, share in (("Z", products), ("loss", 0.98 - products)):
                run.writer.append(
                    "layer", cell, **at, **_operation(op, what["kernel"]), seconds=took * max(share, 0.01)
                )
            run.writer.append("step", cell, **at, seconds=took, instrumented=False)
            run.writer.append("step", cell, **at, seconds=took * 1.01, instrumented=True)
            if twin:
                other = took * math.exp(run.noise.gauss(0, noise))
                here = {"launch": launch, "round": round_, "order": 0, "loops": 10}
                run.writer.append("twin", cell, seconds=other, **here)


def _operation(op: str, kernel: str) -> Line:
    product = op == "Z"
    sides: Iterable[int | None] = (128, 512, 784) if product else (None,) * 3
    return {
        "id": f"1.{op}" if product else op, "layer": int(product), "op": op, "parts": [op], "phase": "forward",
        "kernel": kernel if product else None, **dict(zip("mnk", sides)), "flops": 1000, "bytes": 1000,
    }  # fmt: skip
