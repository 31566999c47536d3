"""The tuning file: block sizes that `gemmlab tune` found for this kind of processor, read and never written here.

An entry of it (`gemm.configuration`), whose `cpu` is this machine's:

    {"cpu": {...}, "date": "2026-01-31T12:00:00Z", "blocks": {"float32": {"depth": 1024, ...}, ...}}

It is read once, at the first product; where it cannot be used, the model's block sizes are used.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from gemm import processor
from gemm.configuration import Entry, Kept, Unusable
from gemm.micro import blocking
from gemm.micro.host import BYTES, vectors

FILE = Kept("tuning", 1, "GEMMLAB_TUNING", "block sizes", "gemmlab tune")


def cpu() -> Entry:
    """What an entry is for: processor, vector unit as code is compiled for it, and caches in bytes."""
    return {**processor.identity(), "vectors": vectors()._asdict(), "caches": processor.caches()}


def blocks_of(entry: Entry, file: Path) -> dict[str, blocking.Blocks]:
    """An entry's block sizes. Raises Unusable for any that are absurd."""
    sizes = entry.get("blocks")
    if not isinstance(sizes, dict):
        raise Unusable(f"{file}: damaged, an entry without block sizes")
    found = {}
    for dtype, members in sizes.items():
        if dtype not in BYTES or not isinstance(members, dict):
            raise Unusable(f"{file}: block sizes for {dtype!r:.40}, not for {' or '.join(BYTES)}")
        if why := blocking.refused(members, dtype):
            raise Unusable(f"{file}: block sizes of {dtype} refused: {why}")
        found[dtype] = blocking.Blocks(**members)
    return found


@cache
def tuned() -> dict[str, blocking.Blocks]:
    """The file's block sizes for this machine, by dtype; {} if there are none, and one warning if there is a file."""
    return FILE.mine(cpu, blocks_of, {})  # `cpu` loads LLVM: not without a file
