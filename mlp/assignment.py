"""Which kernel does which product.

    blas                                      every product
    blas,1=numba-micro,*.dW=cblas:mkl,2.Z=python

An entry is `where=kernel`; `where` is `layer.kind`, `layer`, `*.kind` or `*`, and a kernel alone is `*`.
The most specific entry wins, in that order: one that names the layer beats one that names only the kind.
Layers count from 1; the kinds are Z, dW and dX, of a recurrent layer H, dU and dH as well (mlp.operations). What no
entry covers is done by `blas`, on a GPU by `cublas`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

import gemm
from mlp.devices import CPU, Device
from mlp.operations import ORDERS, PRODUCTS, Operation

Spec = str | gemm.Kernel | Mapping[Any, str | gemm.Kernel]


class Assignment(dict[tuple[int, str], gemm.Kernel]):
    """(layer, kind) -> Kernel."""

    def choose(self, layer: int, kind: str, m: int, n: int, k: int, dtype: np.dtype) -> gemm.Kernel:
        """The kernel for a product of that shape; it asks `auto` for its choice."""
        kernel = self[layer, kind]
        if kernel.choose is None:
            return kernel
        return gemm.get(kernel.choose(m, n, k, dtype.name, order=ORDERS[kind]))

    def of(self, operation: Operation) -> gemm.Kernel:
        """The kernel of a product among a step's operations."""
        kernel = self[operation.layer, operation.op]
        return kernel if kernel.choose is None or operation.kernel is None else gemm.get(operation.kernel)


def assign(spec: Spec, layers: Sequence[Sequence[str]], device: Device = CPU) -> Assignment:
    """The kernel of every product of a network, loaded.

    spec    a kernel (name or value), the text above, or a mapping {"1": ..., "*.dW": ...} of the same
    layers  the kinds of product that each layer has
    device  where the network lives, and its kernels must multiply

    Raises ValueError for an entry that is malformed, given twice, names a layer or kind that there is
    not, or a kernel of another device; gemm.UnknownKernel; gemm.KernelUnavailable.
    """
    entries: dict[str, gemm.Kernel] = {}
    for where, kernel in _entries(spec):
        _check(where, layers)
        if where in entries:
            raise ValueError(f"kernel entry {where!r} is given twice")
        entries[where] = _on(device, gemm.get(kernel))
    if "*" not in entries:
        entries["*"] = gemm.get(device.kernel)
    return Assignment(
        {
            (layer, kind): next(
                entries[w] for w in (f"{layer}.{kind}", f"{layer}", f"*.{kind}", "*") if w in entries
            )
            for layer, kinds in enumerate(layers, start=1)
            for kind in kinds
            if (layer, kind) != (1, "dX")
        }
    )


def _on(device: Device, kernel: gemm.Kernel) -> gemm.Kernel:
    """The kernel, if it multiplies what lies on that device."""
    if kernel.device == "cuda" and device.name == "cpu":
        raise ValueError(
            f"kernel {kernel.name!r} multiplies on the GPU and this network lives on the CPU; give it device 'cuda', "
            "or a kernel of the CPU such as blas"
        )
    if kernel.device != "cuda" and device.name == "cuda":
        raise ValueError(
            f"kernel {kernel.name!r} multiplies on the CPU and this network lives on the GPU; give it a kernel of "
            "the GPU such as cublas or cuda-warptile, or device 'cpu'"
        )
    return kernel


def _entries(spec: Spec) -> Iterable[tuple[str, str | gemm.Kernel]]:
    if isinstance(spec, gemm.Kernel):
        yield "*", spec
    elif isinstance(spec, str):
        for entry in spec.split(","):
            where, kernel = entry.split("=", 1) if "=" in entry else ("*", entry)
            if not where.strip() or not kernel.strip():
                raise ValueError(f"kernel {spec!r} has an empty entry; write it like blas,1=numba-ikj")
            yield where.strip(), kernel.strip()
    elif isinstance(spec, Mapping):
        for where, value in spec.items():
            yield str(where), value
    else:
        raise ValueError(f"kernel must be a name, a gemm.Kernel or a mapping of them, not {spec!r}")


def _check(where: str, layers: Sequence[Sequence[str]]) -> None:
    form = re.fullmatch(r"(\*|0|[1-9][0-9]*)(?:\.(\w+))?", where)
    if form is None:
        raise ValueError(f"kernel entry {where!r} is neither a layer, a layer.kind, a *.kind nor *")
    layer, kind = form.groups()
    if layer != "*" and not 1 <= int(layer) <= len(layers):
        raise ValueError(
            f"kernel entry {where!r} names layer {layer}; this network has layers 1 to {len(layers)}"
        )
    there = layers if layer == "*" else [layers[int(layer) - 1]]
    known = [known for known in PRODUCTS if any(known in kinds for kinds in there)]
    if kind is not None and kind not in known:
        products = f"{', '.join(known[:-1])} and {known[-1]}"
        raise ValueError(f"kernel entry {where!r} names the kind {kind}; the products are {products}")
    if (layer, kind) == ("1", "dX"):
        raise ValueError("kernel entry '1.dX' names a product that no step needs: nothing lies below layer 1")
