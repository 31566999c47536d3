"""Ceilings: what this machine can do at most, measured in the run that is held against them.

fma                     multiply-adds per second out of registers: twelve independent chains of vector FMAs
{l1,l2,l3,dram}-read    bytes per second loaded from this level of the memory
{l1,l2,l3,dram}-write   bytes per second stored into it
{l1,l2,l3,dram}-copy    bytes per second loaded plus bytes per second stored, from one half of a buffer to
                        the other

All are written as LLVM vector code, so that no compiler's taste comes between, and take the best of the
vector widths here. Loads and stores are the plain ones that a kernel would use: the stores are no
non-temporal ones, so a machine that reads a line before it overwrites it has moved more than is counted.

A level's buffer is the geometric mean of the level's size and that of the level before: a pass over it
finds nothing left in the one before, and does not depend on who else uses the level. With several threads,
each runs its own chains or its own part of the buffer, at the same time; threads that share a cache share
the buffer's size.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import ceil, sqrt
from time import perf_counter
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from bench.host.environment import cache_instances, last_cache, stream_size
from gemm import compiled
from gemm.threads import each, get_threads

CHAINS = 12  # latency 4 times two FMA pipes is 8, and with the factor these fit into 16 registers
VECTORS = 8  # loads or stores in one step of a pass: the loop around them costs nothing then
PAGE = 4096  # every thread's part is whole pages, and so whole steps
# A sample is several windows: the fastest counts, for a ceiling is what the machine can do, and a window is
# shorter than the turn that a scheduler gives to another process. Where threads share what is measured, the
# window is all of theirs, and so long that starting them does not matter.
SAMPLE_S = 0.008
WINDOW_S = 0.001
SHARED_WINDOW_S = 0.003
FEW_B = 4 << 20  # bytes over which a vector width is tried: about 50 microseconds out of a cache
KINDS = ("read", "write", "copy")


def names(caches: dict[str, int]) -> tuple[str, ...]:
    """Every ceiling of a machine with these caches ({"L1d": bytes, "L2": ...}); DRAM is always there."""
    levels = [*(_level(key) for key in sorted(caches)), "dram"]
    return ("fma", *(f"{level}-{kind}" for level in levels for kind in KINDS))


def _level_and_kind(name: str) -> tuple[str, str]:
    level, _, kind = name.partition("-")
    return level, kind


def _level(key: str) -> str:
    """ "L1d" -> "l1"."""
    return key.lower().removesuffix("d")


def _chains(bits: int) -> Any:
    """An intrinsic (x, n) -> sum: n rounds of CHAINS vector FMAs of `bits` bits, each chain on its own."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, count = arguments
        width = 32 if signature.return_type == types.float32 else 64
        lanes = bits // width
        vector = ir.VectorType(x.type, lanes)
        kind = ir.FunctionType(vector, [vector] * 3)
        fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{lanes}f{width}")
        zero, lane = ir.Constant(count.type, 0), ir.IntType(32)
        splat = builder.insert_element(ir.Constant(vector, ir.Undefined), x, ir.Constant(lane, 0))
        mask = ir.Constant(ir.VectorType(lane, lanes), [0] * lanes)
        factor = builder.shuffle_vector(splat, ir.Constant(vector, ir.Undefined), mask)
        before = builder.block
        loop = builder.append_basic_block("fma")
        after = builder.append_basic_block("sum")
        builder.branch(loop)
        builder.position_at_end(loop)
        i = builder.phi(count.type)
        i.add_incoming(zero, before)
        sums = [builder.phi(vector) for _ in range(CHAINS)]
        following = []
        for chain, total in enumerate(sums):
            start = ir.Constant(vector, [float(chain + 1)] * lanes)
            total.add_incoming(start, before)
            following.append(builder.call(fma, [total, factor, factor]))
        for total, new in zip(sums, following):
            total.add_incoming(new, loop)
        step = builder.add(i, ir.Constant(count.type, 1))
        i.add_incoming(step, loop)
        builder.cbranch(builder.icmp_signed("<", step, count), loop, after)
        builder.position_at_end(after)
        total = following[0]
        for new in following[1:]:
            total = builder.fadd(total, new)
        result = builder.extract_element(total, ir.Constant(lane, 0))
        for at in range(1, lanes):
            result = builder.fadd(result, builder.extract_element(total, ir.Constant(lane, at)))
        return result

    def chains(typing: Any, x: Any, n: Any) -> Any:
        return x(x, types.intp), generate

    return intrinsic(chains)


def _passes(kind: str, bits: int) -> Any:
    """An intrinsic (source, target, size, n) -> bits: n passes over `size` bytes from these addresses.

    A read is folded into one xor per vector, so that it is wanted; a statement that may change all memory
    stands in every step, so that no pass is left out, hoisted, or turned into memset or memcpy.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, target, size, passes = arguments
        word, lanes, step = source.type, bits // 64, VECTORS * bits // 8
        vector, zero = ir.VectorType(word, lanes), ir.Constant(word, 0)
        anything = ir.InlineAsm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", side_effect=True)

        def at(base: Any, number: int) -> Any:
            address = builder.add(base, ir.Constant(word, number * bits // 8))
            return builder.inttoptr(address, vector.as_pointer())

        before = builder.block
        outer, inner, following, after = map(builder.append_basic_block, ("pass", "step", "next", "done"))
        builder.branch(outer)
        builder.position_at_end(outer)
        count = builder.phi(word)
        count.add_incoming(zero, before)
        carried = [builder.phi(vector) for _ in range(VECTORS)]
        builder.branch(inner)
        builder.position_at_end(inner)
        offset = builder.phi(word)
        offset.add_incoming(zero, outer)
        held = [builder.phi(vector) for _ in range(VECTORS)]
        sources, targets = builder.add(source, offset), builder.add(target, offset)
        new = held
        if kind != "write":
            new = [builder.load(at(sources, i), align=bits // 8) for i in range(VECTORS)]
        if kind != "read":
            for i, value in enumerate(new):
                builder.store(value, at(targets, i), align=bits // 8)
        else:
            new = [builder.xor(old, value) for old, value in zip(held, new)]
        builder.call(anything, [])
        further = builder.add(offset, ir.Constant(word, step))
        offset.add_incoming(further, inner)
        builder.cbranch(builder.icmp_signed("<", further, size), inner, following)
        builder.position_at_end(following)
        done = builder.add(count, ir.Constant(word, 1))
        count.add_incoming(done, following)
        for i in range(VECTORS):
            held[i].add_incoming(carried[i], outer)
            held[i].add_incoming(new[i], inner)
            carried[i].add_incoming(ir.Constant(vector, [i + 1] * lanes), before)
            carried[i].add_incoming(new[i], following)
        builder.cbranch(builder.icmp_signed("<", done, passes), outer, after)
        builder.position_at_end(after)
        total = new[0]
        for value in new[1:]:
            total = builder.xor(total, value)
        lane = [ir.Constant(ir.IntType(32), i) for i in range(lanes)]
        result = builder.extract_element(total, lane[0])
        for i in lane[1:]:
            result = builder.xor(result, builder.extract_element(total, i))
        return result

    def passes(typing: Any, source: Any, target: Any, size: Any, n: Any) -> Any:
        return types.intp(types.intp, types.intp, types.intp, types.intp), generate

    return intrinsic(passes)


_fma_128, _fma_256, _fma_512 = _chains(128), _chains(256), _chains(512)
_read_128, _write_128, _copy_128 = (_passes(kind, 128) for kind in KINDS)
_read_256, _write_256, _copy_256 = (_passes(kind, 256) for kind in KINDS)
_read_512, _write_512, _copy_512 = (_passes(kind, 512) for kind in KINDS)

# One function per width, by name: Numba finds no closure again in its cache on disk.


def _run_128(x, n, out):
    out[0] = _fma_128(x, n)


def _run_256(x, n, out):
    out[0] = _fma_256(x, n)


def _run_512(x, n, out):
    out[0] = _fma_512(x, n)


def _pass_128(kind, source, target, size, n, out):
    if kind == 0:
        out[0] = _read_128(source, target, size, n)
    elif kind == 1:
        out[0] = _write_128(source, target, size, n)
    else:
        out[0] = _copy_128(source, target, size, n)


def _pass_256(kind, source, target, size, n, out):
    if kind == 0:
        out[0] = _read_256(source, target, size, n)
    elif kind == 1:
        out[0] = _write_256(source, target, size, n)
    else:
        out[0] = _copy_256(source, target, size, n)


def _pass_512(kind, source, target, size, n, out):
    if kind == 0:
        out[0] = _read_512(source, target, size, n)
    elif kind == 1:
        out[0] = _write_512(source, target, size, n)
    else:
        out[0] = _copy_512(source, target, size, n)


@cache
def vector_widths() -> tuple[int, ...]:
    """Vector widths in bits that this CPU has, widest first."""
    features = binding.get_host_cpu_features()
    wide = [512] if features.get("avx512f") else []
    return (*wide, *([256] if features.get("avx") else []), 128)


@cache
def _chain_runner(bits: int, dtype: str) -> Callable[..., None]:
    element = getattr(types, dtype)
    signature = types.void(element, types.intp, element[::1])
    return compiled.cached({128: _run_128, 256: _run_256, 512: _run_512}[bits], signature)


@cache
def _pass_runner(bits: int) -> Callable[..., None]:
    signature = types.void(*[types.intp] * 5, types.intp[::1])
    return compiled.cached({128: _pass_128, 256: _pass_256, 512: _pass_512}[bits], signature)


@cache
def _memory(size: int) -> np.ndarray:
    """`size` bytes from a page's start on, the one buffer of all ceilings in this process.

    Written once, by this process's threads: pages then lie near those who use them, and are not the one page
    of zeros that Linux shows to who only reads.
    """
    raw = np.empty(size + PAGE, np.uint8)
    memory = raw[-raw.ctypes.data % PAGE :][:size]
    each(_fill, [(part,) for part in np.array_split(memory, get_threads())])
    return memory


def _fill(part: np.ndarray) -> None:
    part.fill(1)


def _rate(run: Callable[..., None], x: Any, per_round: int, out: np.ndarray) -> float:
    start = perf_counter()
    run(x, 100_000, out)
    return 100_000 * per_round / (perf_counter() - start)


def _pass_rate(run: Callable[..., None], what: tuple[int, ...], n: int, out: np.ndarray) -> float:
    start = perf_counter()
    run(*what, n, out)
    return n / (perf_counter() - start)


def _part(level: str, threads: int, caches: dict[str, int]) -> int | None:
    """Bytes of each thread's part of a level's buffer; None for memory that no cache holds.

    The geometric mean of the level before and the thread's share of the level, but never less than one and
    a half of the level before (where threads share a small last level: their parts overflow it together no
    more than the levels before hold).
    """
    before = 0
    for key in sorted(caches):
        instances = cache_instances().get(key, threads if key < "L3" else 1)
        sharers = ceil(threads / instances)
        share = caches[key] / sharers
        if _level(key) == level:
            return int(max(sqrt(before * share), 1.5 * before) if before else share / 2)
        before = int(share)
    return None


class Ceiling:
    """One ceiling for one thread count; `sample()` returns (seconds, work) of its fastest window.

    name    one of `names(caches)`; ValueError for any other
    dtype   of the multiply-adds; the bandwidths do not depend on it
    caches  bytes of each level, as of bench.host.environment.caches()
    """

    def __init__(self, name: str, dtype: str, threads: int, caches: dict[str, int]) -> None:
        if name not in names(caches):
            raise ValueError(f"unknown ceiling {name!r}; there are {', '.join(names(caches))}")
        self.name, self.threads = name, threads
        self.unit = "FLOP" if name == "fma" else "B"
        # caches before the third level belong to a core
        self._private = threads == 1 or name.partition("-")[0] in ("fma", "l1", "l2")
        if name == "fma":
            self._prepare_fma(dtype)
        else:
            self._prepare_passes(*_level_and_kind(name), caches)

    _arguments: list[tuple[Any, ...]]

    def _prepare_fma(self, dtype: str) -> None:
        outs = [np.zeros(1, dtype) for _ in range(self.threads)]
        x, best = np.dtype(dtype).type(0.5), None
        for bits in vector_widths():
            run = _chain_runner(bits, dtype)
            per_round = 2 * CHAINS * bits // (8 * np.dtype(dtype).itemsize)
            rate = max(_rate(run, x, per_round, outs[0]) for _ in range(5))
            if best is None or rate > best[0]:
                best = rate, run, per_round
        assert best is not None
        rate, self._run, per_round = best
        rounds = self._set_window(rate, per_round, least=1000)
        self._arguments = [(x, rounds, out) for out in outs]

    def _prepare_passes(self, level: str, kind: str, caches: dict[str, int]) -> None:
        whole = stream_size(last_cache())
        self._memory = memory = _memory(whole)
        size = min(_part(level, self.threads, caches) or whole, whole // self.threads)
        size = max(size // PAGE, 1) * PAGE
        each_way = size // 2 if kind == "copy" else size
        starts = [memory.ctypes.data + i * size for i in range(self.threads)]
        what = [(KINDS.index(kind), at, at + size - each_way, each_way) for at in starts]
        outs = [np.zeros(1, np.intp) for _ in starts]
        few, best = ceil(FEW_B / size), 0.0
        for bits in vector_widths():
            run = _pass_runner(bits)
            run(*what[0], 1, outs[0])
            rate = max(_pass_rate(run, what[0], few, outs[0]) for _ in range(5 if few > 1 else 1))
            if rate > best:
                best, self._run = rate, run
        passes = self._set_window(best * size, size, least=1)
        self._arguments = [(*where, passes, out) for where, out in zip(what, outs)]

    def sample(self) -> tuple[float, int]:
        """Seconds that the fastest window took, and the work (FLOP or bytes) done in it by all threads."""
        if self._private:  # each thread's own fastest window: what the others do does not matter to it
            fastest = np.full(self.threads, np.inf)
            each(self._windows, [(fastest[i : i + 1], one) for i, one in enumerate(self._arguments)])
            return self.threads / float((1 / fastest).sum()), self._work
        seconds = []
        for _ in range(self._count):
            start = perf_counter()
            each(self._run, self._arguments)
            seconds.append(perf_counter() - start)
        return min(seconds), self._work

    def _windows(self, fastest: np.ndarray, arguments: tuple[Any, ...]) -> None:
        for _ in range(self._count):
            start = perf_counter()
            self._run(*arguments)
            fastest[0] = min(fastest[0], perf_counter() - start)

    def _set_window(self, rate: float, per_round: int, least: int) -> int:
        """Rounds of a window, for so many units of work per second and per round; sets count and work."""
        length = WINDOW_S if self._private else SHARED_WINDOW_S
        rounds = max(round(length * rate / per_round), least)
        self._count = max(round(SAMPLE_S * rate / (rounds * per_round)), 2)
        self._work = rounds * per_round * self.threads
        return rounds
