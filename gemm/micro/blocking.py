"""Block sizes as data: from the caches by a model, or from this machine's tuning file.

The model gives each block its cache, as that of Low et al. does (Analytical Modeling Is Enough for High-Performance
BLIS, ACM TOMS 43, 2016), with the roles that A and B have in `loops.py`: a block of B is for L3 where it is packed,
for L2 where it is read as it lies; A is packed a strip at a time and has no block. L1 decides nothing: strips pass
through it, and a depth for which they would stay there has C read and written too often.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from gemm.micro import job
from gemm.micro.host import BYTES, Tile, tile

Array = np.ndarray

# Bytes, where the system does not tell: what even old processors have for each core.
UNKNOWN = {"L2": 256 << 10, "L3": 8 << 20}
# The deepest that the model makes a block.
DEEP = 1024
# Bytes of packed B, at most, however large the caches (cores may share them): the workspace is a few MiB per thread.
MOST_OF_B = 4 << 20
# FLOPs in vectors and bytes moved, in the units of `plan.choose_parts`, that pay for waking a thread.
WAKING = 1_000_000

# What block sizes from a file may be: no number, no depth and no workspace (bytes for each thread) beyond these.
LARGEST, MOST_SPACE = 1 << 40, 64 << 20


class Blocks(NamedTuple):
    """What tuning may change, in the order of the table's words from `job.B_NEAR` on.

    near            bytes of a block of B that is read as it lies and should stay in L2
    columns         columns of a packed block of B, which stays in L3
    depth           k of both
    in_place        bytes of B up to which it is read as it lies, not packed
    few_rows        rows of C up to which it is not packed either, where its vectors are whole lines (`plan.FEW_STRIPS`)
    worth_a_thread  FLOPs (and bytes moved) below which a second thread costs more than it brings; from a multiple of
    it
                    on there are more parts than threads (`plan.choose_parts`)
    """

    near: int
    columns: int
    depth: int
    in_place: int
    few_rows: int
    worth_a_thread: int


_tables = {dtype: np.zeros(job.TABLE_LENGTH, np.int64) for dtype in BYTES}
_used: dict[str, Blocks] = {}


def table(dtype: str) -> Array:
    """The table of a dtype, whose address native code gets: addresses of code, then block sizes."""
    if dtype not in _used:
        use(dtype, chosen(dtype))
    return _tables[dtype]


def use(dtype: str, blocks: Blocks) -> None:
    """Products bound from now on use these block sizes."""
    _used[dtype] = blocks
    _tables[dtype][job.B_NEAR :] = blocks


def used() -> dict[str, Blocks]:
    """The block sizes of each dtype that was multiplied in this process."""
    return dict(_used)


def chosen(dtype: str) -> Blocks:
    """This machine's block sizes: of the tuning file where it has them, else of the model."""
    from gemm.micro import tuning

    return tuning.tuned().get(dtype) or model(tile(dtype))


def origin(dtype: str) -> str:
    """Where `chosen` has them from: "model", or twelve hex digits that stand for the file's."""
    from gemm.micro import tuning

    found = tuning.tuned().get(dtype)
    return "model" if found is None else hashlib.sha256(repr(tuple(found)).encode()).hexdigest()[:12]


def model(shape: Tile, caches: Mapping[str, int] | None = None) -> Blocks:
    """Block sizes that follow from the register tile and the caches.

    caches  bytes of levels, {"L2": ..., "L3": ...}, more are not looked at; default: this machine's
    """
    if caches is None:
        from gemm import processor

        caches = processor.caches()
    l2, l3 = (caches.get(level) or size for level, size in UNKNOWN.items())
    unit = BYTES[shape.dtype]
    # A strip of A and one of B, both as long as k is deep, are a quarter of L2 and stream through L1; beyond DEEP, that
    # C is read and written once in so many multiply-adds is felt no more.
    depth = l2 // 4 // ((shape.rows + shape.columns) * unit) // 8 * 8
    depth = max(64, min(depth, DEEP))
    # A block of B is a quarter of L3: other threads have theirs there.
    columns = max(min(l3 // 4, MOST_OF_B) // (depth * shape.columns * unit), 1) * shape.columns
    # B is read as it lies while all of it stays in L2, or while few strips of A come back to it: packing is a pass
    # over B, and would be used too seldom to pay. A tile of six rows asks L2 for B twice as often as one of fourteen.
    return Blocks(
        near=l2 // 2,
        columns=columns,
        depth=depth,
        in_place=l2 if shape.registers >= 32 else l2 // 5,
        few_rows=(20 if shape.registers >= 32 else 4) * shape.rows,
        worth_a_thread=WAKING,
    )


def workspace(blocks: Blocks, shape: Tile) -> int:
    """Bytes that a thread needs for a block of B and a strip of A, at most (`plan.choose_space`)."""
    deepest = blocks.depth + 7 + shape.lanes  # a depth is rounded up to eights
    return (deepest * (blocks.columns + shape.columns) + job.A_SPACE) * BYTES[shape.dtype]


def refused(sizes: Mapping[str, Any], dtype: str) -> str | None:
    """Why these numbers are no block sizes (a part of a sentence); None if they are."""
    if set(sizes) != set(Blocks._fields):
        named = ", ".join(map(str, sizes)) or "nothing"
        return f"they name {named:.80}, not {', '.join(Blocks._fields)}"
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= LARGEST:
            return f"{name} is {size!r:.40}, no whole number from 1 to 2^40"
    if sizes["depth"] > job.DEEPEST:
        return f"depth is {sizes['depth']}, more than {job.DEEPEST}"
    space = workspace(Blocks(**sizes), tile(dtype))
    if space > MOST_SPACE:
        return f"a thread's workspace would be {space >> 20} MiB, more than {MOST_SPACE >> 20}"
    return None
