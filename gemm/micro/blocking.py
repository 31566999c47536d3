"""Block sizes as data: from the caches by a model, or from this machine's tuning file."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gemm.micro import job

Array = np.ndarray


class Blocks(NamedTuple):
    """What tuning may change, in the order of the table's words from `job.B_NEAR` on.

    near            bytes of a block of B that is read as it lies and should stay in L2
    columns         columns of a packed block of B, which stays in L3
    depth           k of both
    in_place        bytes of B up to which it is read as it lies, not packed
    few_rows        rows of C up to which it is not packed either
    worth_a_thread  FLOPs (and bytes moved) below which a second thread costs more than it brings
    """

    near: int
    columns: int
    depth: int
    in_place: int
    few_rows: int
    worth_a_thread: int


_tables = {dtype: np.zeros(job.TABLE_LENGTH, np.int64) for dtype in ("float32", "float64")}


def table(dtype: str) -> Array:
    """The table of a dtype, whose address native code gets: addresses of code, then block sizes."""
    return _tables[dtype]


def use(dtype: str, blocks: Blocks) -> None:
    """Products bound from now on use these block sizes."""
    _tables[dtype][job.B_NEAR :] = blocks


use("float32", Blocks(524288, 2048, 1024, 1 << 20, 56, 1_000_000))
use("float64", Blocks(524288, 1024, 1024, 1 << 20, 56, 1_000_000))
