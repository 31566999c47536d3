"""Candidates: block sizes of numba-micro, timed in turn in one process on the same operands, each verified first.

For the choice of block sizes only: a ratio within one process says which sizes suit this processor better; how fast the
kernel is, fresh processes must say (`gemmlab sweep`).
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

import gemm
from bench.host.witness import Witness
from bench.timing.subjects import DISCARD_NS, Wrong, clock, loops_for
from bench.verdicts.statistics import UNDISTURBED
from gemm.correctness import error_ratio, reference
from gemm.micro import blocking, job
from gemm.micro.blocking import Blocks
from gemm.problems import Problem

KERNEL = "numba-micro"
SAMPLE_S = 0.004
# A sample that waited for its cores is taken again, so often at most; then it counts as disturbed.
AGAIN = 2

Call = Callable[[], Any]


class Candidates:
    """Problems of one dtype on so many threads; `sample` times settings on them.

    taken, disturbed  samples so far, and those that had to wait for a core that somebody else used
    """

    def __init__(self, problems: Iterable[Problem], threads: int) -> None:
        self.threads = threads
        self.products = [Product(problem) for problem in problems]
        self.random = random.Random(0)
        self.taken = self.disturbed = 0

    def sample(self, candidates: Sequence[Blocks]) -> list[dict[str, float]]:
        """One round: seconds of each candidate by problem, in random order, each C verified.

        Problems that a candidate does exactly as the first one are left out of its seconds; what a candidate is given
        twice is bound twice. Raises Wrong.
        """
        if gemm.get_threads() != self.threads:
            gemm.set_threads(self.threads)
        found: list[dict[str, float]] = [{} for _ in candidates]
        gc.collect()
        gc.disable()
        try:
            for product in self.products:
                keys = [(blocks, candidates[:at].count(blocks)) for at, blocks in enumerate(candidates)]
                bound = [product.bound(*key) for key in keys]
                own = [at for at, blocks in enumerate(candidates) if blocks == candidates[0]]
                differing = [
                    at for at, one in enumerate(bound) if at not in own and not one.same_as(bound[0])
                ]
                if differing:
                    turns = [*own, *differing]
                    self.random.shuffle(turns)
                    for at in turns:
                        seconds, waited = product.sample(bound[at])
                        found[at][str(product.problem)] = seconds
                        self.taken += 1
                        self.disturbed += waited > UNDISTURBED
        finally:
            gc.enable()
        return found


class Bound:
    """A product with its block sizes decided: the call, and a fingerprint of the C that it makes."""

    def __init__(self, call: Call, fingerprint: tuple[int, int]) -> None:
        self.call, self.fingerprint = call, fingerprint
        words = getattr(call, "words", None)
        self.plan = None if words is None else _plan(words)

    def same_as(self, other: Bound) -> bool:
        """Would it do the very same?"""
        return self.plan is not None and other.plan is not None and bool((self.plan == other.plan).all())


class Product:
    """One problem's operands, its reference, and the calls bound to it so far."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.a, self.b, self.c = problem.operands()
        self.right = reference(self.a, self.b)
        self.calls: dict[tuple[Blocks, int], Bound] = {}
        self.loops = 0

    def bound(self, blocks: Blocks, copy: int) -> Bound:
        """The product by these block sizes, verified. Raises Wrong."""
        if (blocks, copy) not in self.calls:
            blocking.use(self.problem.dtype, blocks)
            call = gemm.prepare(self.a, self.b, self.c, kernel=KERNEL)
            self.c.fill(np.nan)
            call()
            ratio = error_ratio(self.c, self.right)
            if not ratio <= gemm.get(KERNEL).error_constant:
                raise Wrong(f"{self.problem} with {blocks} has error ratio {ratio:.3g}", ratio)
            if not self.loops:
                self.loops, seconds = loops_for(partial(clock, call), SAMPLE_S)
                self.discarded = int(DISCARD_NS / 1e9 / seconds)
            self.calls[blocks, copy] = Bound(call, fingerprint(self.c))
        return self.calls[blocks, copy]

    def sample(self, bound: Bound) -> tuple[float, float]:
        """Seconds per call, into a C full of NaN, and the share that it waited. Of a few tries the least disturbed.

        Raises Wrong.
        """
        tries = []
        for _ in range(1 + AGAIN):
            self.c.fill(np.nan)
            clock(bound.call, self.discarded)
            with Witness() as seen:
                seconds = clock(bound.call, self.loops) / 1e9
            if fingerprint(self.c) != bound.fingerprint:
                raise Wrong(f"{self.problem}: another C than the one that was verified")
            waited = (seen.figures["waited_s"] or 0.0) / seconds
            tries.append((waited, seconds / self.loops))
            if waited <= UNDISTURBED:
                break
        waited, least_disturbed = min(tries)
        return least_disturbed, waited


def fingerprint(c: np.ndarray) -> tuple[int, int]:
    """Sum and exclusive or of an array's bits: the same kernel makes the same bits of the same operands."""
    bits = np.ascontiguousarray(c).view(f"u{c.itemsize}")
    return int(bits.sum(dtype=np.uint64)), int(np.bitwise_xor.reduce(bits, axis=None))


def _plan(words: np.ndarray) -> np.ndarray:
    """A job without what makes no difference: blocks larger than the product, and the size of the workspace."""
    plan = words.copy()
    for block, size in ((job.BLOCK_N, job.N), (job.BLOCK_K, job.K)):
        plan[block] = min(plan[block], plan[size])
    plan[job.SPACE] = 0
    return plan
