"""The micro-kernel's inner loop as the processor gets it: printed, counted and judged.

    python -m gemm.micro.assembly [--dtype float32] [--rows 14 --wide 2 --keep 0]    one variant's loop over k
    python -m gemm.micro.assembly --all                                              a line for each variant

A good loop is FMAs, loads of B, broadcasts of A, prefetches and the few additions that move the pointers; nothing is
kept on the stack (a spill: the registers did not suffice), nothing is stored but by the variants that leave a packed
copy behind, and nothing else is computed. Exit code 1 where a loop is not good. The
assembly is LLVM's own of the code that Numba compiles, so no disassembler is needed. x86-64 only.
"""

from __future__ import annotations

import argparse
import inspect
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from gemm.micro.host import BYTES, tile
from gemm.micro.tile import Variant

# AT&T syntax: the source comes first, the destination last.
FMA = re.compile(r"vf(n?madd|n?msub)(132|213|231)p[sd]$")
BROADCAST = re.compile(r"v?(broadcast|pbroadcast)\w+$|v?movddup$")
ELEMENT = re.compile(r"v?movs[sd]$|v?movlp[sd]$|vmovq$")
LOAD = re.compile(r"v?(mov(u|a)p[sd]|movdq[ua]\d*|maskmovp[sd]|lddqu)$")
POINTERS = re.compile(
    r"(add|sub|lea|inc|dec|cmp|test|mov|and|shl|sal|neg|xor|imul|cmov[a-z]+)[qlwb]$|nop[wl]?$"
)
PREFETCH = re.compile(r"prefetch\w+$")
JUMP = re.compile(r"j[a-z]+$")
MEMORY = re.compile(r"(-?\w+)?\(([^)]*)\)")


@dataclass
class Loop:
    """What the instructions of one loop are; a memory operand of an FMA counts as the load that it is.

    broadcasts  of an element of memory, in one instruction or by way of a register
    stores      of what is kept, in memory that is not the stack
    spills      instructions that read or write the stack
    other       arithmetic or moves of vectors that are neither
    """

    fmas: int = 0
    loads: int = 0
    broadcasts: int = 0
    pointers: int = 0
    prefetches: int = 0
    stores: int = 0
    jumps: int = 0
    spills: int = 0
    other: int = 0

    def good(self, keeps: bool = False) -> bool:
        """keeps: the variant leaves a packed copy behind."""
        return self.fmas > 0 and self.spills == self.other == 0 and (keeps or self.stores == 0)

    def __str__(self) -> str:
        return ", ".join(f"{getattr(self, field.name)} {field.name}" for field in fields(self))


@cache
def listing(dtype: str) -> str:
    """The assembly of the micro-kernel for `dtype`, all its tiles; compiled anew (seconds).

    Raises ValueError where this machine's assembly is not what this page reads.
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        raise ValueError(f"{platform.machine()}: only the assembly of x86-64 is understood here")
    import numba
    from numba import types

    from gemm.micro import native

    function = {"float32": native.tile_f32, "float64": native.tile_f64}[dtype]
    integers = len(inspect.signature(function).parameters) - 2
    signature = types.void(*[types.int64] * integers, *[getattr(types, dtype)] * 2)
    made: Any = numba.cfunc(signature, nopython=True, error_model="numpy")(function)
    return str(made._library.get_asm_str())


def in_listing(dtype: str) -> list[Variant]:
    """Every variant in the listing."""
    found = re.findall(rf"^tile_{dtype}_(\d+)x(\d+)_(\d+)(_whole)?:", listing(dtype), re.MULTILINE)
    return sorted(Variant(int(rows), int(wide), int(keep), bool(whole)) for rows, wide, keep, whole in found)


def loops(text: str, name: str) -> list[list[str]]:
    """The instructions of each innermost loop with FMAs of a function. ValueError: it is not in this listing."""
    start = re.search(rf"^{name}:", text, re.MULTILINE)
    if start is None:
        raise ValueError(f"the listing has no {name}")
    body = text[start.end() : text.index(".Lfunc_end", start.end())].splitlines()
    lines = [line.split("#")[0].strip() for line in body]
    lines = [line for line in lines if line and (not line.startswith(".") or line.endswith(":"))]
    labels = {line[:-1]: at for at, line in enumerate(lines) if line.endswith(":")}
    spans = [
        (labels[target], at + 1)
        for at, line in enumerate(lines)
        if JUMP.match((parts := line.split())[0]) and (target := parts[-1]) in labels and labels[target] <= at
    ]
    inner = [
        span for span in spans if not any(span != s and span[0] <= s[0] and s[1] <= span[1] for s in spans)
    ]
    found = [
        [line for line in lines[first:last] if not line.endswith(":")] for first, last in sorted(set(inner))
    ]
    return [loop for loop in found if any(FMA.match(line.split("\t")[0]) for line in loop)]


def count(instructions: list[str], *, frame: bool = False) -> Loop:
    """What they are. frame: %rbp points into the stack, too."""
    stack = ("%rsp", "%rbp") if frame else ("%rsp",)
    loop = Loop()
    for line in instructions:
        what, _, operands = line.partition("\t")
        memory = MEMORY.search(operands)
        base = memory.group(2).split(",")[0] if memory else ""
        reads = memory is not None and not operands.endswith(")")  # (a store's last operand is memory)
        if base in stack or what in ("push", "pop", "pushq", "popq"):
            loop.spills += 1
        elif FMA.match(what):
            loop.fmas += 1
            if memory and "{1to" in operands:
                loop.broadcasts += 1
            elif memory:
                loop.loads += 1
        elif (
            BROADCAST.match(what) or ELEMENT.match(what)
        ) and reads:  # (an element's is from the register, later)
            loop.broadcasts += 1
        elif BROADCAST.match(what) and memory is None:
            pass
        elif LOAD.match(what) and reads:
            loop.loads += 1
        elif (LOAD.match(what) or ELEMENT.match(what)) and memory is not None:
            loop.stores += 1
        elif PREFETCH.match(what):
            loop.prefetches += 1
        elif JUMP.match(what):
            loop.jumps += 1
        elif POINTERS.match(what) and (memory is None or what.startswith("lea")):
            loop.pointers += 1
        else:
            loop.other += 1
    return loop


def judged(dtype: str, variant: Variant) -> Iterator[tuple[list[str], Loop]]:
    """Each loop over k of a variant: its instructions and what they are."""
    name, text = variant.named(dtype), listing(dtype)
    found = loops(text, name)
    at = text.index(f"\n{name}:")
    frame = "movq\t%rsp, %rbp" in text[at : text.index(".Lfunc_end", at)]
    for instructions in found:
        yield instructions, count(instructions, frame=frame)


def main() -> None:
    asked = argparse.ArgumentParser(
        prog="python -m gemm.micro.assembly", description=(__doc__ or "").split("\n")[0]
    )
    asked.add_argument("--dtype", choices=BYTES, default="float32")
    asked.add_argument("--rows", type=int, help="of the tile (as many as the registers hold)")
    asked.add_argument("--wide", type=int, help="of the tile, in vectors (as wide as that leaves room for)")
    asked.add_argument("--keep", type=int, default=0, help="what it leaves behind (0: nothing; 1: A, packed)")
    asked.add_argument(
        "--edge", action="store_true", help="the one for the edge of C: its last vector is masked"
    )
    asked.add_argument("--all", action="store_true", help="a line for each variant")
    told = asked.parse_args()
    usual = tile(told.dtype)
    rows = usual.rows if told.rows is None else told.rows
    wide = usual.widest(rows) if told.wide is None else told.wide
    this = Variant(rows, wide, told.keep, not told.edge)
    there = in_listing(told.dtype)
    if this not in there:
        names = ", ".join(sorted({f"{one.rows} {one.wide} {one.keep}" for one in there}))
        asked.error(
            f"no tile for {told.dtype} has this --rows --wide --keep: {rows} {wide} {told.keep}; there are {names}"
        )
    good = True
    for variant in there if told.all else [this]:
        for instructions, loop in judged(told.dtype, variant):
            if not told.all:
                sys.stdout.write("".join(f"    {line.expandtabs(16)}\n" for line in instructions))
            right = loop.good(keeps=variant.keep > 0)
            kept = ", one that keeps" if variant.keep else ""
            edge = ", whole" if variant.whole else ""
            verdict = "good" if right else "not good"
            sys.stdout.write(
                f"{told.dtype} {variant.rows} x {variant.wide} vectors{kept}{edge}: {loop}: {verdict}\n"
            )
            good = good and right
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
