"""Networks as cells: a training step of a model on one kernel, or on a mapping of kernels."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

import gemm
import mlp
from bench import peers
from bench.isolation import trial
from bench.plans.device import CUDA, NO_THREADS, arithmetic
from bench.plans.plan import Cell, check_memory, frozen, full_name, names_in, renamed, source, tuning
from bench.plans.shapes import whole
from gemm.dtypes import named as dtype_named
from gemm.problems import DTYPES
from gemm.threads import available_cores
from mlp.assignment import assign
from mlp.devices import DEVICES

DEFAULTS: dict[str, Any] = {
    "activation": "relu",
    "loss": "softmax-cross-entropy",
    "optimizer": "sgd",
    "lr": 0.01,
    "dtype": "float32",
    "data": "random",
    "device": "cpu",
}
# What stands in a description only where it is another: those of before have no device.
UNSAID = {"device": "cpu"}


def cells(
    arch: Sequence[int | str] | str,
    batch: int,
    kernels: Sequence[str],
    threads: int | None = None,
    **model: Any,
) -> list[Cell]:
    """One cell per kernel or mapping. Raises ValueError or UnknownKernel for a network that cannot be built."""
    unknown = set(model) - set(DEFAULTS)
    if unknown:
        raise ValueError(
            f"unknown setting {sorted(unknown)[0]!r} of a network; there are {', '.join(DEFAULTS)}"
        )
    described = DEFAULTS | model
    batch = whole(batch, "batch")
    shape = mlp.architecture(arch)
    described |= {"arch": shape.parts, "batch": batch}
    if described["device"] not in DEVICES:
        raise ValueError(f"unknown device {described['device']!r}; there are {', '.join(DEVICES)}")
    there = described["device"] != "cpu"
    for name, usual in UNSAID.items():
        if described[name] == usual:
            del described[name]
    cores = available_cores()
    threads = cores if threads is None else whole(threads, "threads", "count of threads")
    if threads > cores:
        raise ValueError(f"threads = {threads}: this process may use 1 to {cores} cores")
    # Built once here, so that a mistake is one sentence now and not a worker's failure later.
    # On the host, whatever its device: this process may have none.
    known = (*DTYPES, "bfloat16") if there else DTYPES
    plain = described | {"dtype": "float32"} if there and described["dtype"] in known else described
    network = mlp.MLP(
        shape.thin(), kernel="blas",
        **{key: plain[key] for key in ("activation", "loss", "optimizer", "lr", "dtype")},
    )  # fmt: skip
    if described["dtype"] not in known:
        raise ValueError(f"unknown dtype {described['dtype']!r}; there are {', '.join(known)}")
    if described["data"] not in ("random", "digits"):
        described["data"] = str(Path(described["data"]).resolve())
    check_memory([Cell("blas", threads, model=frozen(described))])
    for peer in (peers.get(kernel) for kernel in kernels if peers.is_peer(kernel)):
        if refusal := peer.refuses(described):
            raise ValueError(refusal)
    for kernel in (kernel for kernel in kernels if not peers.is_peer(kernel)):
        with suppress(gemm.KernelUnavailable):  # that becomes a record with the reason
            # files are not for this process to import: in their place, any name does
            any_name = "cublas" if there else "blas"
            named = renamed(kernel, lambda name: any_name if trial.file_of(name) else name)  # noqa: B023 - now
            if not there:
                assign(named, [layer.products for layer in network.layers])
                continue
            for name in names_in(named):
                if gemm.find(name).device != "cuda":
                    raise ValueError(
                        f"kernel {name!r} multiplies on the CPU and this network lives on the GPU; give kernels of "
                        "the GPU such as cublas or cuda-warptile, or leave --device cuda out"
                    )
            assign(renamed(named, lambda name: "blas"), [layer.products for layer in network.layers])
    if described["data"] != "random":
        _, labels = batch_for(described, np.random.default_rng(0))
        if described["loss"] == "softmax-cross-entropy" and labels.max() >= shape.widths[-1]:
            raise ValueError(
                f"data {described['data']!r} has labels up to {labels.max()} and the network {shape.widths[-1]} "
                f"outputs; the last width must be at least {labels.max() + 1}"
            )
    cells = [
        Cell(
            full_name(kernel),
            NO_THREADS if there else threads,
            model=frozen(described),
            source=source(kernel),
            tuning=tuning(kernel, described["dtype"]),
            **_there(kernel, described["dtype"]) if there else {},
        )
        for kernel in kernels
    ]
    return list(dict.fromkeys(cells))


def _there(kernel: str, dtype: str) -> dict[str, Any]:
    """What a cell on a GPU has besides; of a mapping, the arithmetic is that of its first entry."""
    multiplied = dtype if peers.is_peer(kernel) else arithmetic(names_in(kernel)[0], dtype)
    return {"device": CUDA, "operands": "device", "arithmetic": multiplied}


def batch_for(model: dict[str, Any], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One batch for a model: of its data set if that has its width, else drawn; x (batch, d_in), labels (batch,)."""
    widths, batch = mlp.widths(model["arch"]), model["batch"]
    name = model.get("data", "random")
    if name != "random":
        data = mlp.load(name)
        if data.x_train.shape[1] != widths[0]:
            raise ValueError(
                f"data {name!r} has {data.x_train.shape[1]} features and the network takes {widths[0]}; "
                f"begin the architecture with {data.x_train.shape[1]}"
            )
        rows = rng.permutation(len(data.x_train))[np.arange(batch) % len(data.x_train)]
        return np.ascontiguousarray(data.x_train[rows], dtype=dtype_named(model["dtype"])), data.y_train[rows]
    x = rng.standard_normal((batch, widths[0])).astype(dtype_named(model["dtype"]))
    return x, rng.integers(0, widths[-1], batch)
