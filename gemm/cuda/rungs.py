"""The ladder as data: of each rung its file, tile sizes, grid and block, and the variants that operands ask for.

A kernel is one .cu file in `source/` that defines `gemm(const Product<..> p)`; tile sizes and variants are macros of
it. A variant is chosen by the operands (`Rung.variant`): which way they lie, whether they are read 16 bytes at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product as every
from pathlib import Path
from typing import Any

from gemm.kernel import Signature

SOURCE = Path(__file__).parent / "source"
FLOAT32 = (Signature("float32", "float32", "float32"),)

# As tiles.cuh numbers them.
ANY, ALONG, ACROSS = range(3)

Macros = Mapping[str, int]
# What a block of any CUDA device may have: threads, and bytes of shared memory without asking for more.
MOST_THREADS = 1024
SHARED_BYTES = 48 * 1024
# A thread has at most 255 registers; what is not a sum needs some too.
MOST_SUMS = 192


@dataclass(frozen=True, eq=False)
class Rung:
    """One kernel of the ladder.

    name          as on the command line
    file          in SOURCE
    idea          what it adds to the rung below, in a line
    rung          its place on the ladder
    tiles         tile sizes: macros and their defaults, which are the .cu file's too
    block         the threads of a block for these tiles: (x, y, z)
    tile          the rows and columns of C that a block computes
    held          bytes of shared memory that a block declares (static), and
    shared_bytes  those that the launch adds (dynamic)
    variant       the further macros for a product (`product.pack`)
    variants      every answer of `variant`
    rules         what tile sizes must hold, each with the sentence for those that do not
    signatures    the dtypes that it takes
    since         the first architecture that it runs on; "sm_90a" also means: on no other
    """

    name: str
    file: str
    idea: str
    rung: float
    tiles: Mapping[str, int]
    block: Callable[[Macros], tuple[int, int, int]]
    tile: Callable[[Macros], tuple[int, int]]
    held: Callable[[Macros], int]
    shared_bytes: Callable[[Macros], int] = lambda tiles: 0
    variant: Callable[[Any], dict[str, int]] = lambda product: {}
    variants: Iterable[Macros] = ({},)
    rules: Callable[[Macros], Iterable[tuple[bool, str]]] = lambda tiles: ()
    signatures: tuple[Signature, ...] = FLOAT32
    since: str = "sm_80"

    def grid(self, m: int, n: int, tiles: Macros) -> tuple[int, int, int]:
        """The blocks for a C of m x n, in one dimension: a block for each tile."""
        rows, columns = self.tile(tiles)
        return -(-m // rows) * -(-n // columns), 1, 1

    def macros(self, product: Any, tiles: Macros | None = None) -> dict[str, int]:
        """Everything that a kernel is compiled with for this product: tile sizes and variant."""
        return {**(self.tiles if tiles is None else tiles), **self.variant(product)}

    def refused(self, tiles: Mapping[str, Any]) -> str | None:
        """Why these are no tile sizes for this rung, in a sentence; None: they are."""
        if set(tiles) != set(self.tiles):
            return f"{self.name} has {', '.join(self.tiles)}, not {', '.join(map(str, tiles)) or 'nothing'}"
        for name, size in tiles.items():
            if type(size) is not int or not 0 < size <= 1024:
                return f"{name} is {size!r:.40}, not a whole number from 1 to 1024"
        for holds, sentence in self.rules(tiles):
            if not holds:
                return sentence
        x, y, z = self.block(tiles)
        if x * y * z > MOST_THREADS:
            return f"a block would have {x * y * z} threads, and has at most {MOST_THREADS}"
        if self.held(tiles) > SHARED_BYTES:
            return f"a block would hold {self.held(tiles)} bytes of shared memory, and has {SHARED_BYTES}"
        return None

    @property
    def path(self) -> Path:
        return SOURCE / self.file


def orders(product: Any) -> dict[str, int]:
    """A_ORDER and B_ORDER: the direction in which threads read an operand; along k if it is contiguous in neither."""
    return {
        name: ALONG if order == ANY else order
        for name, order in (("A_ORDER", _order_of_a(product)), ("B_ORDER", _order_of_b(product)))
    }


def vectors(product: Any) -> dict[str, int]:
    """The orders, and whether four neighbours in that order are 16 aligned bytes: A_WIDE and B_WIDE."""
    a, b = _order_of_a(product), _order_of_b(product)
    return {**orders(product), "A_WIDE": int(_wide_a(product, a)), "B_WIDE": int(_wide_b(product, b))}


def asynchronous(product: Any) -> dict[str, int]:
    """The orders, and wide copies only of what needs no transposing."""
    a, b = _order_of_a(product), _order_of_b(product)
    wide_a, wide_b = a == ACROSS and _wide_a(product, a), b == ACROSS and _wide_b(product, b)
    return {"A_ORDER": a, "B_ORDER": b, "A_WIDE": int(wide_a), "B_WIDE": int(wide_b)}


def _order_of_a(product: Any) -> int:
    return _order(along=product["a_column"], across=product["a_row"])


def _order_of_b(product: Any) -> int:
    return _order(along=product["b_row"], across=product["b_column"])


def _order(along: int, across: int) -> int:
    return ALONG if along == 1 else ACROSS if across == 1 else ANY


def _wide_a(product: Any, order: int) -> bool:
    if order == ALONG:
        return _wide(product["a"], product["k"], product["a_row"])
    return order == ACROSS and _wide(product["a"], product["m"], product["a_column"])


def _wide_b(product: Any, order: int) -> bool:
    if order == ALONG:
        return _wide(product["b"], product["k"], product["b_column"])
    return order == ACROSS and _wide(product["b"], product["n"], product["b_row"])


def _wide(address: int, size: int, stride: int) -> bool:
    """Whether rows of `size` float32 numbers, `stride` apart, are whole pieces of 16 aligned bytes."""
    return bool(address % 16 == 0 and size % 4 == 0 and stride % 4 == 0)


def combinations(**choices: Iterable[int]) -> tuple[dict[str, int], ...]:
    """Every combination of macros' values."""
    return tuple(dict(zip(choices, values)) for values in every(*choices.values()))


ORDERS = combinations(A_ORDER=(ALONG, ACROSS), B_ORDER=(ALONG, ACROSS))


def _square(tiles: Macros) -> tuple[int, int, int]:
    return tiles["BLOCK"], tiles["BLOCK"], 1


def _square_tile(tiles: Macros) -> tuple[int, int]:
    return tiles["BLOCK"], tiles["BLOCK"]


def _tile(tiles: Macros) -> tuple[int, int]:
    return tiles["BM"], tiles["BN"]


def _in_1d(tiles: Macros) -> Iterable[tuple[bool, str]]:
    yield tiles["BM"] % tiles["TM"] == 0, f"BM is {tiles['BM']}, not a multiple of TM, {tiles['TM']}"


def _outer(tiles: Macros) -> tuple[int, int, int]:
    return tiles["BM"] * tiles["BN"] // (tiles["TM"] * tiles["TN"]), 1, 1


def _rows(tiles: Macros) -> int:
    """Bytes of the rows of C that a block gathers before it writes them."""
    return 4 * tiles["BM"] // tiles["TM"] * tiles["BN"]


def _in_2d(tiles: Macros) -> Iterable[tuple[bool, str]]:
    yield from _in_1d(tiles)
    yield tiles["BN"] % tiles["TN"] == 0, f"BN is {tiles['BN']}, not a multiple of TN, {tiles['TN']}"
    sums = tiles["TM"] * tiles["TN"]
    yield sums <= MOST_SUMS, f"a thread would have {sums} sums, and has registers for {MOST_SUMS}"


def _in_fours(tiles: Macros) -> Iterable[tuple[bool, str]]:
    yield from _in_2d(tiles)
    for name in ("TM", "TN", "BK"):
        yield tiles[name] % 4 == 0, f"{name} is {tiles[name]}, not a multiple of 4, the numbers of one load"


def _warps(tiles: Macros) -> int:
    return (tiles["BM"] // tiles["WM"]) * (tiles["BN"] // tiles["WN"])


def _in_warps(tiles: Macros) -> Iterable[tuple[bool, str]]:
    bm, bn, bk, wm, wn = (tiles[name] for name in ("BM", "BN", "BK", "WM", "WN"))
    wniter, tm, tn = (tiles[name] for name in ("WNITER", "TM", "TN"))
    yield bm % wm == 0, f"BM is {bm}, not a multiple of WM, {wm}"
    yield bn % wn == 0, f"BN is {bn}, not a multiple of WN, {wn}"
    yield wn % wniter == 0, f"WN is {wn}, not a multiple of WNITER, {wniter}"
    for name in ("TM", "TN"):
        yield tiles[name] % 4 == 0, f"{name} is {tiles[name]}, not a multiple of 4, the numbers of one load"
    wmiter = wm * wn // (32 * tm * tn * wniter)
    fits = wmiter > 0 and wm % wmiter == 0 and wmiter * 32 * tm * tn * wniter == wm * wn
    yield (
        fits,
        f"the {wm} x {wn} numbers of a warp are not 32 lanes' with {wniter} pieces of {tm} x {tn} to the right",
    )
    down, right = wm // wmiter // tm, wn // wniter // tn
    sentence = f"lanes would stand {down} x {right}, and 32 of them must, an even number downwards"
    yield (
        down * right == 32 and down % 2 == 0 and down * tm * wmiter == wm and right * tn * wniter == wn,
        sentence,
    )
    sums = wmiter * tm * wniter * tn
    yield sums <= MOST_SUMS, f"a thread would have {sums} sums, and has registers for {MOST_SUMS}"
    # The same for every variant: copies of 4 and of 16 bytes, across the tile, and 8 threads along k.
    threads = _warps(tiles) * 32
    for name, width in (("BM", bm), ("BN", bn)):
        for count in (1, 4):
            rows = threads * count // width
            shared = rows > 0 and rows * width == threads * count and bk % rows == 0
            yield shared, f"{threads} threads do not share a tile of {name} x BK, {width} x {bk}, evenly"
        shared = bk % 8 == 0 and width % (threads // 8) == 0
        yield (
            shared,
            f"{threads} threads, 8 along k, do not share a tile of {name} x BK, {width} x {bk}, evenly",
        )
    gathered = bm // (wmiter * tm) * bn
    fits = gathered <= 2 * bk * (bm + bn + 8)
    yield fits, f"{gathered} sums of C, gathered to be written, do not fit where the tiles of A and B were"


NAIVE = Rung(
    name="cuda-naive",
    file="naive.cu",
    idea="a thread for each element of C, neighbours in a column",
    rung=80.5,
    tiles={"BLOCK": 32},
    block=_square,
    tile=_square_tile,
    held=lambda tiles: 0,
)

COALESCED = Rung(
    name="cuda-coalesced",
    file="coalesced.cu",
    idea="neighbouring threads are neighbours in a row: their loads are one",
    rung=81,
    tiles={"BLOCK": 32},
    block=_square,
    tile=_square_tile,
    held=lambda tiles: 0,
)

SHARED = Rung(
    name="cuda-shared",
    file="shared.cu",
    idea="a block copies tiles of A and B into shared memory and uses each number 32 times",
    rung=82,
    tiles={"BLOCK": 32},
    block=_square,
    tile=_square_tile,
    held=lambda tiles: 8 * tiles["BLOCK"] * (tiles["BLOCK"] + 1),
    variant=orders,
    variants=ORDERS,
)

TILE1D = Rung(
    name="cuda-tile1d",
    file="tile1d.cu",
    idea="a thread computes eight elements below each other: fewer loads from shared memory",
    rung=83,
    tiles={"BM": 64, "BN": 64, "BK": 8, "TM": 8},
    block=lambda tiles: (tiles["BM"] * tiles["BN"] // tiles["TM"], 1, 1),
    tile=_tile,
    held=lambda tiles: 4 * (tiles["BM"] * (tiles["BK"] + 1) + tiles["BK"] * (tiles["BN"] + 1)),
    variant=orders,
    variants=ORDERS,
    rules=_in_1d,
)

TILE2D = Rung(
    name="cuda-tile2d",
    file="tile2d.cu",
    idea="a thread computes 8 x 8 elements from 8 + 8 numbers: an outer product in registers",
    rung=84,
    tiles={"BM": 128, "BN": 128, "BK": 8, "TM": 8, "TN": 8},
    block=_outer,
    tile=_tile,
    held=lambda tiles: 4 * (tiles["BM"] * (tiles["BK"] + 1) + tiles["BK"] * tiles["BN"]) + _rows(tiles),
    variant=orders,
    variants=ORDERS,
    rules=_in_2d,
)

VECTORIZED = Rung(
    name="cuda-vectorized",
    file="vectorized.cu",
    idea="16 bytes in one load, A transposed in shared memory",
    rung=85,
    tiles={"BM": 128, "BN": 128, "BK": 8, "TM": 8, "TN": 8},
    block=_outer,
    tile=_tile,
    held=lambda tiles: 4 * tiles["BK"] * (tiles["BM"] + tiles["BN"] + 8) + _rows(tiles),
    variant=vectors,
    variants=combinations(A_ORDER=(ALONG, ACROSS), B_ORDER=(ALONG, ACROSS), A_WIDE=(0, 1), B_WIDE=(0, 1)),
    rules=_in_fours,
)

WARPTILE = Rung(
    name="cuda-warptile",
    file="warptile.cu",
    idea="tiles for warps, and copies on their way while the block multiplies",
    rung=86,
    tiles={"BM": 128, "BN": 128, "BK": 16, "WM": 64, "WN": 64, "WNITER": 4, "TM": 8, "TN": 4, "BAND": 16},
    block=lambda tiles: (_warps(tiles) * 32, 1, 1),
    tile=_tile,
    held=lambda tiles: 2 * 4 * tiles["BK"] * (tiles["BM"] + tiles["BN"] + 8),
    variant=asynchronous,
    variants=tuple(
        macros
        for macros in combinations(
            A_ORDER=(ANY, ALONG, ACROSS), B_ORDER=(ANY, ALONG, ACROSS), A_WIDE=(0, 1), B_WIDE=(0, 1)
        )
        if all(macros[f"{x}_ORDER"] == ACROSS or not macros[f"{x}_WIDE"] for x in "AB")
    ),
    rules=_in_warps,
)

RUNGS = (NAIVE, COALESCED, SHARED, TILE1D, TILE2D, VECTORIZED, WARPTILE)
