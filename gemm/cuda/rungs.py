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

import numpy as np

from gemm.cuda import tensor_map
from gemm.cuda.probe import runs
from gemm.kernel import Signature

SOURCE = Path(__file__).parent / "source"
FLOAT32 = (Signature("float32", "float32", "float32"),)
BFLOAT16 = (Signature("bfloat16", "float32", "bfloat16"),)
FLOAT16 = (Signature("float16", "float32", "float16"),)

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
    refusal       why the kernel cannot take this product, in a sentence; None: it can
    argument      what the kernel is handed for a product, these tiles and an encoder of tensor maps
    multiplies    what operands are rounded to before they are multiplied, where that is not their dtype
    persistent    at most a block for each multiprocessor is launched; they take the tiles in turn
    faster        another kernel of the same name's, to be taken where it runs and does not refuse
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
    refusal: Callable[[Any], str | None] = lambda product: None
    argument: Callable[[Any, Macros, tensor_map.Encode], Any] = lambda product, tiles, encode: product
    multiplies: str | None = None
    persistent: bool = False
    faster: Rung | None = None

    def grid(self, m: int, n: int, tiles: Macros, processors: int = 1) -> tuple[int, int, int]:
        """The blocks for a C of m x n, in one dimension: a block for each tile, or for each of the multiprocessors."""
        rows, columns = self.tile(tiles)
        if not self.persistent:
            return -(-m // rows) * -(-n // columns), 1, 1
        cluster = tiles["CLUSTER"]  # one tile above the other
        clusters = -(-m // (rows * cluster)) * -(-n // columns)
        return min(clusters, max(processors // cluster, 1)) * cluster, 1, 1

    def fitting(self, product: Any, capability: tuple[int, int]) -> Rung:
        """The kernel for this product on such a device: the faster one if it can, else this."""
        other = self.faster
        return other if other and runs(other.since, capability) and other.refusal(product) is None else self

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


def chunked(itemsize: int, **more: int) -> Callable[[Any], dict[str, int]]:
    """Variants of the tensor-core rungs: the orders, whether chunks begin on 16 bytes, and the activation.

    A last chunk that stands over the edge is read in part: sizes need not be whole chunks.
    """

    def variant(product: Any) -> dict[str, int]:
        chosen = orders(product)
        for name in "ab":
            along = chosen[f"{name.upper()}_ORDER"] == ALONG
            size, steps = "m" if name == "a" else "n", (product[f"{name}_row"], product[f"{name}_column"])
            by_size, by_k = steps if name == "a" else steps[::-1]
            step, stride, lines = (by_k, by_size, product[size]) if along else (by_size, by_k, product["k"])
            aligned = product[name] % 16 == 0 and (lines == 1 or stride * itemsize % 16 == 0)
            chosen[f"{name.upper()}_WIDE"] = int(step == 1 and aligned)
        return {**chosen, "FUNCTION": int(product["function"]), **more}

    return variant


def _chunked_variants(**more: int) -> tuple[dict[str, int], ...]:
    """All of them but for the activations, of which there is the first."""
    choices = {"A_ORDER": (ALONG, ACROSS), "B_ORDER": (ALONG, ACROSS), "A_WIDE": (0, 1), "B_WIDE": (0, 1)}
    return combinations(**choices, FUNCTION=(0,), **{name: (value,) for name, value in more.items()})


def _fragments(least: int) -> Callable[[Macros], Iterable[tuple[bool, str]]]:
    """The rules of tiles whose warps' are whole fragments, with at least so many columns."""

    def rules(tiles: Macros) -> Iterable[tuple[bool, str]]:
        for block, warp in (("BM", "WM"), ("BN", "WN")):
            holds = tiles[block] % tiles[warp] == 0
            yield holds, f"{block} is {tiles[block]}, not a multiple of {warp}, {tiles[warp]}"
        for name, size in (("WM", 16), ("WN", least), ("BK", 8)):
            if name in tiles:
                holds = tiles[name] % size == 0
                yield holds, f"{name} is {tiles[name]}, not a multiple of {size}, a fragment's"
        if "BK" not in tiles:
            for name in ("BM", "BN"):
                yield (
                    tiles[name] % 64 == 0,
                    f"{name} is {tiles[name]}, not a multiple of 64, a line of 128 bytes",
                )
        yield tiles["STAGES"] >= 2, "STAGES is 1; one is computed while another arrives, which makes 2"
        sums = tiles["WM"] * tiles["WN"] // 32
        yield sums <= MOST_SUMS, f"a thread would have {sums} sums, and has registers for {MOST_SUMS}"

    return rules


def _tf32_bytes(tiles: Macros) -> int:
    bm, bn, bk = tiles["BM"], tiles["BN"], tiles["BK"]
    return 4 * tiles["STAGES"] * sum(size * bk + max(4 * size, 8 * bk) for size in (bm, bn))


TF32 = Rung(
    name="cuda-tf32",
    file="tf32.cu",
    idea="tensor cores, on operands rounded to TF32; copies for four steps ahead",
    rung=87,
    tiles={"BM": 128, "BN": 128, "BK": 16, "WM": 64, "WN": 32, "STAGES": 4, "BAND": 8},
    block=lambda tiles: (_warps(tiles) * 32, 1, 1),
    tile=_tile,
    held=lambda tiles: 0,
    shared_bytes=_tf32_bytes,
    variant=chunked(4),
    variants=_chunked_variants(),
    rules=_fragments(8),
    multiplies="tfloat32",
)


LINE = 64  # elements of 16 bits: 128 bytes


def _hopper_bytes(tiles: Macros) -> int:
    """The ring, its barriers, and what it takes to begin on 1024 bytes."""
    return tiles["STAGES"] * (2 * LINE * (tiles["BM"] + tiles["BN"]) + 16) + 1024


def _boxes(product: Any, tiles: Macros) -> list[tuple[tensor_map.Matrix, tensor_map.Box]]:
    """A and B for the copy engine. Along k a box is the block's tile (of B, its share); across, a panel of it."""
    chosen, found = orders(product), []
    for name, lines in (("a", tiles["BM"]), ("b", tiles["BN"] // tiles["CLUSTER"])):
        along = chosen[f"{name.upper()}_ORDER"] == ALONG
        found.append((tensor_map.lying(product, name, along), (LINE, lines if along else LINE)))
    return found


def _not_for_tma(tiles: Macros) -> Callable[[Any], str | None]:
    def refusal(product: Any) -> str | None:
        for name, (matrix, box) in zip("AB", _boxes(product, tiles)):
            if reason := tensor_map.why_not(matrix, box):
                return f"{name}: {reason}"
        return None

    return refusal


def _with_maps(dtype: int) -> Callable[[Any, Macros, tensor_map.Encode], Any]:
    def argument(product: Any, tiles: Macros, encode: tensor_map.Encode) -> Any:
        given = np.zeros((), tensor_map.ARGUMENTS)
        given["p"] = product
        for name, (matrix, box) in zip(("map_a", "map_b"), _boxes(product, tiles)):
            given[name] = encode(matrix, box, dtype)
        return given

    return argument


def _hopper_variant(number: int) -> Callable[[Any], dict[str, int]]:
    return lambda product: {**orders(product), "FUNCTION": int(product["function"]), "FLOAT16": number}


def _in_warpgroups(tiles: Macros) -> Iterable[tuple[bool, str]]:
    yield tiles["BM"] == 128, f"BM is {tiles['BM']}, not 128: two warpgroups of 64 rows"
    yield tiles["BN"] in (128, 256), f"BN is {tiles['BN']}, not 128 or 256"
    yield tiles["CLUSTER"] in (1, 2), f"CLUSTER is {tiles['CLUSTER']}, not 1 or 2"
    yield tiles["STAGES"] >= 2, "STAGES is 1; one is computed while another arrives, which makes 2"
    holds = tiles["BAND"] % tiles["CLUSTER"] == 0
    yield holds, f"BAND is {tiles['BAND']}, not a multiple of CLUSTER, {tiles['CLUSTER']}"
    needs = _hopper_bytes(tiles)
    yield needs <= HOPPER_BYTES, f"a block would need {needs} bytes of shared memory, and has {HOPPER_BYTES}"


HOPPER_BYTES = 227 * 1024
HOPPER_TILES = {"BM": 128, "BN": 256, "STAGES": 4, "CLUSTER": 1, "BAND": 16}


def _in_16_bits(
    name: str, format: str, signatures: tuple[Signature, ...], number: int, dtype: int, rung: float
) -> Rung:
    """The two kernels of a 16-bit format: for any GPU and any operands, and Hopper's."""
    hopper = Rung(
        name=f"{name}-hopper",
        file="hopper.cu",
        idea=f"{format} on Hopper: a warpgroup fetches by bulk copies, two multiply by wgmma",
        rung=rung,
        tiles=HOPPER_TILES,
        block=lambda tiles: (384, 1, 1),
        tile=_tile,
        held=lambda tiles: 0,
        shared_bytes=_hopper_bytes,
        variant=_hopper_variant(number),
        variants=combinations(
            A_ORDER=(ALONG, ACROSS), B_ORDER=(ALONG, ACROSS), FUNCTION=(0,), FLOAT16=(number,)
        ),
        rules=_in_warpgroups,
        signatures=signatures,
        since="sm_90a",
        refusal=_not_for_tma(HOPPER_TILES),
        argument=_with_maps(dtype),
        persistent=True,
    )
    return Rung(
        name=name,
        file="half.cu",
        idea=f"tensor cores, {format} operands, sums in float32; on Hopper by wgmma and bulk copies",
        rung=rung,
        tiles={"BM": 128, "BN": 128, "WM": 64, "WN": 32, "STAGES": 3, "BAND": 8},
        block=lambda tiles: (_warps(tiles) * 32, 1, 1),
        tile=_tile,
        held=lambda tiles: 0,
        shared_bytes=lambda tiles: 2 * LINE * tiles["STAGES"] * (tiles["BM"] + tiles["BN"]),
        variant=chunked(2, FLOAT16=number),
        variants=_chunked_variants(FLOAT16=number),
        rules=_fragments(32),
        signatures=signatures,
        faster=hopper,
    )


BF16 = _in_16_bits("cuda-bf16", "bfloat16", BFLOAT16, 0, tensor_map.BFLOAT16, 88)
FP16 = _in_16_bits("cuda-fp16", "float16", FLOAT16, 1, tensor_map.FLOAT16, 89)

# In float32 throughout, and then on tensor cores.
RUNGS = (NAIVE, COALESCED, SHARED, TILE1D, TILE2D, VECTORIZED, WARPTILE)
TENSOR_RUNGS = (TF32, BF16, FP16)
LADDER = RUNGS + TENSOR_RUNGS
# Every kernel that has tile sizes of its own.
TILED = LADDER + tuple(rung.faster for rung in LADDER if rung.faster)
