"""Which kernel does which product.

    blas                                      every product
    blas,1=numba-micro,*.dW=cblas:mkl,2.Z=python

An entry is `where=kernel`; `where` is `layer.kind`, `layer`, `*.kind` or `*`, and a kernel alone is `*`.
The most specific entry wins, in that order: one that names the layer beats one that names only the kind.
Layers count from 1; the kinds are Z, dW and dX. What no entry covers is done by `blas`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import gemm
from mlp.operations import PRODUCTS

Assignment = dict[tuple[int, str], gemm.Kernel]
Spec = str | gemm.Kernel | Mapping[Any, str | gemm.Kernel]


def assign(spec: Spec, layers: int) -> Assignment:
    """The kernel of every product of a network: (layer, kind) -> Kernel, loaded.

    spec  a kernel (name or value), the text above, or a mapping {"1": ..., "*.dW": ...} of the same

    Raises ValueError for an entry that is malformed, given twice, or names a layer or kind that there is
    not; gemm.UnknownKernel; gemm.KernelUnavailable.
    """
    entries: dict[str, gemm.Kernel] = {}
    for where, kernel in _entries(spec):
        _check(where, layers)
        if where in entries:
            raise ValueError(f"kernel entry {where!r} is given twice")
        entries[where] = gemm.get(kernel)
    entries.setdefault("*", gemm.get("blas"))
    return {
        (layer, kind): next(
            entries[w] for w in (f"{layer}.{kind}", f"{layer}", f"*.{kind}", "*") if w in entries
        )
        for layer in range(1, layers + 1)
        for kind in PRODUCTS
        if (layer, kind) != (1, "dX")
    }


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


def _check(where: str, layers: int) -> None:
    form = re.fullmatch(r"(\*|0|[1-9][0-9]*)(?:\.(\w+))?", where)
    if form is None:
        raise ValueError(f"kernel entry {where!r} is neither a layer, a layer.kind, a *.kind nor *")
    layer, kind = form.groups()
    if layer != "*" and not 1 <= int(layer) <= layers:
        raise ValueError(f"kernel entry {where!r} names layer {layer}; this network has layers 1 to {layers}")
    if kind is not None and kind not in PRODUCTS:
        raise ValueError(f"kernel entry {where!r} names the kind {kind}; the products are Z, dW and dX")
    if (layer, kind) == ("1", "dX"):
        raise ValueError("kernel entry '1.dX' names a product that no step needs: nothing lies below layer 1")
