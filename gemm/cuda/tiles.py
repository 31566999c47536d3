"""Tile sizes: those of the ladder (`rungs.py`), or what the user's file has for this kind of GPU. Never written here.

An entry of the file (`gemm.configuration`), whose `cpu` names the device:

    {"cpu": {"device": "NVIDIA H200", "capability": [9, 0], "processors": 132}, "date": "2026-01-31T12:00:00Z",
     "tiles": {"cuda-warptile": {"BM": 128, ...}, ...}}

The results do not depend on them: every sum is taken in the order of k.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from gemm.configuration import Entry, Kept, Unusable
from gemm.cuda import probe
from gemm.cuda.rungs import TILED, Macros, Rung

FILE = Kept("cuda-tuning", 1, "GEMMLAB_CUDA_TUNING", "tile sizes", "gemmlab tune --device cuda")


def chosen(rung: Rung) -> Macros:
    """The tile sizes of a rung on this machine."""
    return tuned().get(rung.name, rung.tiles)


def origin(rung: Rung) -> str:
    """Where they are from: "model" (the ladder's own), or twelve hex digits that stand for the file's."""
    known = tuned()
    found = [
        (one.name, sorted(known[one.name].items()))
        for one in (rung, rung.faster)
        if one and one.name in known
    ]
    return hashlib.sha256(repr(found).encode()).hexdigest()[:12] if found else "model"


def device() -> Entry:
    """What an entry is for."""
    found = probe.device()
    if found is None:
        return {}
    return {"device": found.name, "capability": list(found.capability), "processors": found.processors}


def tiles_of(entry: Entry, file: Path) -> dict[str, Macros]:
    """An entry's tile sizes by kernel. Raises Unusable for any that are absurd."""
    kernels = entry.get("tiles")
    if not isinstance(kernels, dict):
        raise Unusable(f"{file}: damaged, an entry without tile sizes")
    ladder = {rung.name: rung for rung in TILED}
    for name, tiles in kernels.items():
        if name not in ladder or not isinstance(tiles, dict):
            raise Unusable(f"{file}: tile sizes for {name!r:.40}, not for one of {', '.join(ladder)}")
        if why := ladder[name].refused(tiles):
            raise Unusable(f"{file}: tile sizes of {name} refused: {why}")
    return kernels


@cache
def tuned() -> dict[str, Macros]:
    """The file's tile sizes for this GPU, by kernel; {} if there are none, and one warning if there is a file."""
    if probe.device() is None:
        return {}
    return FILE.mine(device, tiles_of, {})
