"""The ladder as data: of each rung its file, tile sizes, grid and block, and the variants that operands ask for.

A kernel is one .cu file in `source/` that defines `gemm(const Product<..> p)`; tile sizes and variants are macros of
it. A variant is chosen by the operands (`Rung.variant`): which way they lie, whether they can be read 16 bytes at a time.
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


@dataclass(frozen=True)
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
    headers       in SOURCE, what the file includes
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
    headers: tuple[str, ...] = ("product.cuh", "finish.cuh", "tiles.cuh")

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

    @property
    def files(self) -> list[Path]:
        """All that it is written in: the .cu file and its headers."""
        return [self.path, *(SOURCE / header for header in self.headers)]


def orders(product: Any) -> dict[str, int]:
    """A_ORDER and B_ORDER: the direction in which threads read an operand; along k if it is contiguous in neither."""
    return {
        "A_ORDER": ACROSS if product["a_row"] == 1 != product["a_column"] else ALONG,
        "B_ORDER": ACROSS if product["b_column"] == 1 or product["b_row"] != 1 else ALONG,
    }


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


NAIVE = Rung(
    name="cuda-naive",
    file="naive.cu",
    idea="a thread for each element of C, neighbours in a column",
    rung=80,
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

RUNGS = (NAIVE, COALESCED, SHARED, TILE1D)
