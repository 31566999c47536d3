"""Ceilings: what this machine can do at most, measured in the run that is held against them.

fma         multiply-adds per second out of registers: twelve independent chains of vector FMAs, written as
            LLVM vector code so that no compiler's taste comes between; the best of the vector widths here
dram-read   bytes per second summed from a buffer four times the last cache
dram-copy   bytes per second copied between two such buffers (read plus write; a machine that reads lines
            before it overwrites them moves half as much again)

With several threads, each runs its own chains or its own part of the buffers, at the same time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from time import perf_counter
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from bench.environment import stream_size
from gemm import compiled
from gemm.threads import each

CHAINS = 12  # latency 4 times two FMA pipes is 8, and with the factor these fit into 16 registers
NAMES = ("fma", "dram-read", "dram-copy")


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


_fma_128, _fma_256, _fma_512 = _chains(128), _chains(256), _chains(512)


def _run_128(x, n, out):
    out[0] = _fma_128(x, n)


def _run_256(x, n, out):
    out[0] = _fma_256(x, n)


def _run_512(x, n, out):
    out[0] = _fma_512(x, n)


def _sum(source, out):
    total = source[0] * 0
    for i in range(source.size):
        total += source[i]
    out[0] = total


def _copy(source, out):
    for i in range(source.size):
        out[i] = source[i]


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
def _stream_runner(name: str) -> Callable[..., None]:
    array = types.float64[::1]
    fastmath = {"reassoc", "nsz"}  # the sum may be reordered: bandwidth is asked for, not the sum
    return compiled.cached(
        {"dram-read": _sum, "dram-copy": _copy}[name], types.void(array, array), fastmath=fastmath
    )


def _rate(run: Callable[..., None], x: Any, per_round: int, out: np.ndarray) -> float:
    start = perf_counter()
    run(x, 100_000, out)
    return 100_000 * per_round / (perf_counter() - start)


class Ceiling:
    """One ceiling for one dtype and thread count; `sample()` returns (seconds, work)."""

    def __init__(self, name: str, dtype: str, threads: int, last_cache: int = 32 << 20) -> None:
        self.name, self.threads = name, threads
        self.unit = "FLOP" if name == "fma" else "B"
        if name == "fma":
            self._prepare_fma(dtype)
        else:
            self._prepare_stream(name, last_cache)

    _arguments: list[tuple[Any, ...]]

    def _prepare_fma(self, dtype: str) -> None:
        self._outs = [np.zeros(1, dtype) for _ in range(self.threads)]
        x, best = np.dtype(dtype).type(0.5), None
        for bits in vector_widths():
            run = _chain_runner(bits, dtype)
            per_round = 2 * CHAINS * bits // (8 * np.dtype(dtype).itemsize)
            rate = max(_rate(run, x, per_round, self._outs[0]) for _ in range(5))
            if best is None or rate > best[0]:
                best = rate, run, per_round
        assert best is not None
        rate, self._run, per_round = best
        rounds = max(int(0.005 * rate / per_round), 1000)  # five milliseconds
        self._arguments = [(x, rounds, out) for out in self._outs]
        self._work = rounds * per_round * self.threads

    def _prepare_stream(self, name: str, last_cache: int) -> None:
        self._run = _stream_runner(name)
        size = stream_size(last_cache) // 8
        source = np.ones(size)
        target = np.ones(size) if name == "dram-copy" else np.ones(self.threads)
        sources = np.array_split(source, self.threads)
        self._arguments = list(zip(sources, np.array_split(target, self.threads)))
        self._work = size * 8 * (2 if name == "dram-copy" else 1)

    def sample(self) -> tuple[float, int]:
        """Seconds that it took, and the work (FLOP or bytes) done in them."""
        each(self._run, self._arguments)  # discarded: clocks, pages, the pool
        start = perf_counter()
        each(self._run, self._arguments)
        return perf_counter() - start, self._work
