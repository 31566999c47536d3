"""The host: how wide its vectors are, how many registers hold them, and the register tile that follows.

Nothing here knows a machine by name. What counts is what LLVM is told to compile for: the features of this
CPU, or those of `NUMBA_CPU_FEATURES` where it is set (so that a Haswell's code can be made and run elsewhere).
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

BYTES = {"float32": 4, "float64": 8}
# No tile is wider than this many vectors, however few rows it has: enough running sums to hide the
# latency of an FMA (4 cycles times 2 a cycle), and no more variants to compile than that takes.
WIDEST = {1: 8}
WIDE = 4


class Vectors(NamedTuple):
    """The vector unit: bytes of a register, how many there are, whether it multiplies and adds in one."""

    bytes: int
    registers: int
    fma: bool


class Tile(NamedTuple):
    """The register tile of one dtype: rows, and columns in vectors of `lanes` elements."""

    dtype: str
    lanes: int
    rows: int
    vectors: int
    registers: int
    fma: bool

    @property
    def columns(self) -> int:
        return self.vectors * self.lanes

    def widest(self, rows: int) -> int:
        """How many vectors wide a tile of fewer rows may be: rows x w sums, w of B and a broadcast in registers.

        Where a mask is a vector too (before AVX-512), it takes a register more.
        """
        fit = (self.registers - 1 - (self.registers < 32)) // (rows + 1)
        return max(1, min(fit, WIDEST.get(rows, WIDE)))


@cache
def vectors() -> Vectors:
    """The vector unit that code is compiled for."""
    features = _features()
    if "+avx512f" in features:
        return Vectors(64, 32, True)
    if "+avx" in features:
        return Vectors(32, 16, "+fma" in features)
    if "+neon" in features or "+fp-armv8" in features:
        return Vectors(16, 32, True)
    return Vectors(16, 16, False)


@cache
def tile(dtype: str) -> Tile:
    """The register tile for `dtype`: two vectors wide, and as many rows as the registers hold.

    Of R registers, two hold a row of B and one a broadcast element of A; the others are the sums:
    14 x 2 of AVX-512's 32 registers, 6 x 2 of AVX2's 16. Every tile from 7 sums up that was tried ran at the
    FMA units' speed; this one wastes the fewest columns at the edge of C.
    """
    unit = vectors()
    wide = 2
    rows = (unit.registers - wide - 1) // wide
    return Tile(dtype, unit.bytes // BYTES[dtype], rows, wide, unit.registers, unit.fma)


def _features() -> frozenset[str]:
    import llvmlite.binding as llvm
    from numba import config

    asked = config.CPU_FEATURES
    if asked is None:
        return frozenset(llvm.get_host_cpu_features().flatten().split(","))
    return frozenset(feature.strip() for feature in asked.split(","))
