"""Conformance: every clause of the contract put to a kernel, and a wrong answer explained.

The trials run from the plainest to the most exacting; the first that fails is the one a student should
look at. A wrong result is compared with what well-known mistakes would have given (`gemm.diagnosis`).
"""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from gemm import contract
from gemm.correctness import (
    accumulator_of,
    error_ratio,
    exact_product,
    exactly,
    reference,
    significand_problems,
)
from gemm.diagnosis import explain, explain_precision, special_values
from gemm.drawn import Drawn, Failure, draw, judge, shrink
from gemm.dtypes import EVERY as DTYPES
from gemm.dtypes import is_here, named
from gemm.epilogue import Epilogue
from gemm.guards import OUTSIDE, Guards, Twin, laid_out
from gemm.kernel import Kernel
from gemm.problems import STRIDES, Problem, lay_out
from gemm.registry import get

Progress = Callable[[str, str], None]


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: which rule, on which problem, in a sentence."""

    rule: str
    problem: str
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """What an examination found: the faults (none: it passed), the problems tried, the largest error ratio.

    dtypes  of the problems: the kernel's, but for bfloat16 where ml_dtypes is not installed
    """

    kernel: str
    faults: tuple[Fault, ...]
    problems: int
    error_ratio: float
    dtypes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.faults


class _Wrong(Exception):
    def __init__(self, rule: str, problem: Problem | Drawn, sentence: str) -> None:
        super().__init__(sentence)
        self.fault = Fault(rule, str(problem), sentence)


def examine(
    kernel: str | Kernel,
    progress: Progress | None = None,
    most: int = 3,
    *,
    at_random: int = 0,
    seed: int = 0,
) -> Verdict:
    """Put every rule of the contract to a kernel.

    progress   called with (trial, problem) before each problem: after a crash it tells what was tried last
    most       stop after this many faults; each trial reports its first
    at_random  so many problems drawn at random as well (`gemm.drawn`), by `seed`; these change the process's threads
    """
    examiner = _Examiner(get(kernel), progress or (lambda trial, problem: None))
    faults = []
    trials: tuple[Any, ...] = TRIALS
    if at_random:
        trials += (partial(_at_random, count=at_random, seed=seed),)
    for trial in trials:
        try:
            for problem in trial(examiner):
                examiner.count += 1
                examiner.progress(_name(trial), str(problem))
        except _Wrong as wrong:
            faults.append(wrong.fault)
            if len(faults) == most or wrong.fault.sentence == OUTSIDE:
                break  # (memory is damaged: what followed would mean nothing)
    return Verdict(
        examiner.kernel.name, tuple(faults), examiner.count, examiner.worst, tuple(examiner.dtypes)
    )


def _name(trial: Any) -> str:
    return str(getattr(trial, "func", trial).__name__).strip("_")


def large(dtype: str) -> Problem:
    """So large that kernels use their threads, and two tiles of 128 in each direction."""
    return Problem(201, 205, 203, dtype, data="integers")


class _Examiner:
    """One kernel under examination: runs it on a problem with guards around everything."""

    def __init__(self, kernel: Kernel, progress: Progress) -> None:
        self.kernel, self.progress = kernel, progress
        self.count, self.worst = 0, 0.0
        takes = [dtype for dtype in DTYPES if kernel.signature(dtype)]
        self.dtypes = [dtype for dtype in takes if is_here(dtype)]
        if not self.dtypes:
            named(takes[0] if takes else kernel.signatures[0].input)  # says which package is missing
            raise ValueError(
                f"kernel {kernel.name!r} takes none of {', '.join(DTYPES)}: there is no rule for it"
            )
        self.quick = kernel.name not in SLOW and not kernel.name.endswith(HOST)
        # Where operands are put: on the host; or on the device, so many numbers behind an aligned address.
        self.shift: int | None = None

    def run(
        self, problem: Problem, a: np.ndarray, b: np.ndarray, c: np.ndarray, rule: str = "contract"
    ) -> np.ndarray:
        """The product into c, after which a, b and everything around c must be as before."""
        if self.shift is not None:
            a, b = (x if laid_out(x) else lay_out(x) for x in (a, b))
        guards = Guards(a, b, c)
        try:
            epilogue = problem.make_epilogue()
            multiply = self._multiply if self.shift is None else partial(self._multiply_there, self.shift)
            with np.errstate(all="ignore"):
                multiply(problem, a, b, c, epilogue)
        except Exception as error:
            raise _Wrong(rule, problem, f"raises {type(error).__name__}: {error}") from error
        if broken := guards.broken():
            raise _Wrong("contract", problem, broken)
        return c

    def _multiply(self, problem: Problem, a: Any, b: Any, c: Any, epilogue: Epilogue | None) -> None:
        contract.matmul(
            a, b, c, kernel=self.kernel, alpha=problem.alpha, beta=problem.beta, epilogue=epilogue
        )

    def _multiply_there(
        self,
        shift: int,
        problem: Problem,
        a: np.ndarray,
        b: np.ndarray,
        c: np.ndarray,
        epilogue: Epilogue | None,
    ) -> None:
        """On the device, with all that lies around the operands; which then comes back, whatever it has become."""
        import cupy

        twins = [Twin(x, shift) for x in (a, b, c)]
        if epilogue is not None:
            own = {name: getattr(epilogue, name) for name in ("bias", "aux_out", "aux_in")}
            epilogue = replace(
                epilogue, **{name: cupy.asarray(x) for name, x in own.items() if x is not None}
            )
        there = [twin.view for twin in twins]
        self._multiply(problem, there[0], there[1], there[2], epilogue)
        for twin in twins:
            twin.back()

    def exact(self, problem: Problem, seed: int = 0) -> None:
        """Rule 2 on one problem."""
        problem = replace(problem, data="integers")
        a, b, c0 = problem.operands(seed, self.kernel.digits)
        expected = problem.alpha * exact_product(a, b)
        c = lay_out(c0, strides=problem.strides)
        if problem.beta == 0:
            c[...] = np.nan  # must not survive
        else:
            expected += problem.beta * c0.astype(np.float64)
        self.run(problem, a, b, c, "exact")
        if not exactly(c, expected):
            again = self._with_zeros(problem, a, b) if problem.beta == 0 else None
            raise _Wrong("exact", problem, explain(problem, a, b, c0, np.array(c), expected, again))

    def _with_zeros(self, problem: Problem, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The result with a C of zeros in place of NaN: tells what is not written from what is added to."""
        return self.run(problem, a, b, _guarded(problem, 0.0))

    def rounding(self, problem: Problem, seed: int = 0) -> None:
        """Rule 1 on one problem."""
        a, b, c0 = problem.operands(seed)
        c = _guarded(problem, np.nan) if problem.beta == 0 else lay_out(c0)
        signature = self.kernel.signature(problem.dtype)
        right = reference(
            a, b, c0, alpha=problem.alpha, beta=problem.beta, epilogue=problem.make_epilogue(),
            accumulator=accumulator_of(signature, problem.dtype), multiplies=self.kernel.multiplies,
        )  # fmt: skip
        self.run(problem, a, b, c, "rounding")
        ratio = error_ratio(c, right)
        if ratio > self.kernel.error_constant:
            cause = explain_precision(a, b, c, right.c, problem, self.kernel.digits)
            raise _Wrong("rounding", problem, f"is off by {ratio:.3g} times what rounding allows{cause}")
        self.worst = max(self.worst, ratio)

    def significands(self, problem: Problem, seed: int = 0) -> None:
        """Rule 3 on one problem, from both sides."""
        for side, a, b, expected in significand_problems(problem, seed, self.kernel.digits):
            c = self.run(problem, a, b, _guarded(problem, np.nan), "full significands")
            if not exactly(c, expected):
                cause = explain_precision(a, b, c, expected, problem, self.kernel.digits)
                raise _Wrong(
                    "full significands",
                    problem,
                    f"does not return the entries of {side} when they are selected one by one{cause}",
                )


def _guarded(problem: Problem, value: float) -> np.ndarray:
    """A C full of `value`, with guards around it."""
    return lay_out(np.full((problem.m, problem.n), value, named(problem.dtype)), strides=problem.strides)


# The trials: each yields the problems that it tries, before it tries them.

# Kernels that would take minutes over the large problem again and again, and have no threads of their own.
SLOW = ("python", "numpy-dot")
HOST = "@host"  # CUDA sources on the CPU (gemm.cuda.host)
SMALL = (
    (2, 3, 4),
    (4, 4, 4),
    (1, 1, 1),
    (5, 7, 3),
    (8, 8, 8),
    (16, 16, 16),
    (17, 19, 23),
    (33, 31, 29),
    (64, 64, 64),
    (65, 67, 63),
)
# Every size up to here in one dimension, the others small: every remainder by every usual tile (4 to 256) is
# met; then around powers of two.
EVERY = 272
LARGE = (383, 384, 385, 511, 512, 513, 767, 768, 769, 1023, 1024, 1025)


def _plain(on: _Examiner) -> Iterator[Problem]:
    for dtype in on.dtypes:
        for m, n, k in SMALL:
            problem = Problem(m, n, k, dtype)
            yield problem
            on.exact(problem)


def _alpha_and_beta(on: _Examiner) -> Iterator[Problem]:
    for dtype in on.dtypes:
        for alpha, beta in ((2, 0), (1, 1), (-1, 1), (1, -1), (3, 2), (0, 2), (0, 0), (-2, 3)):
            for m, n, k in ((5, 7, 3), (33, 18, 40)):
                problem = Problem(m, n, k, dtype, alpha=float(alpha), beta=float(beta))
                yield problem
                on.exact(problem)


def _layouts(on: _Examiner) -> Iterator[Problem]:
    for dtype in on.dtypes:
        for strides in ("contiguous", "padded", "every-second", "reversed"):
            for op_a, op_b in (("n", "n"), ("t", "n"), ("n", "t"), ("t", "t")):
                for m, n, k in ((6, 6, 6), (19, 35, 26), (70, 9, 41), (24, 32, 16)):
                    for alpha, beta in ((1.0, 0.0), (2.0, 3.0)):
                        problem = Problem(m, n, k, dtype, op_a, op_b, strides, alpha, beta)
                        yield problem
                        on.exact(problem)
        problem = Problem(21, 34, 13, dtype)
        yield problem
        _columns_of_c(on, problem)


def _columns_of_c(on: _Examiner, problem: Problem) -> None:
    """C itself transposed, and A and B broadcast from one row (stride 0)."""
    a, b, _ = replace(problem, data="integers").operands(digits=on.kernel.digits)
    c = lay_out(np.zeros((problem.m, problem.n), a.dtype), "t", fill=np.nan)
    if not exactly(on.run(problem, a, b, c), exact_product(a, b)):
        raise _Wrong("exact", problem, "is wrong when C is stored by columns: C's strides are not respected")
    a0, b0 = np.broadcast_to(a[:1], a.shape), np.broadcast_to(b[:, :1], b.shape)
    if not exactly(on.run(problem, a0, b0, _guarded(problem, 0.0)), exact_product(a0, b0)):
        raise _Wrong("exact", problem, "is wrong for broadcast operands (a stride of 0)")


def _edges(on: _Examiner) -> Iterator[Problem]:
    for dtype in on.dtypes:
        for size in (*range(1, EVERY), *LARGE):
            for m, n, k in ((size, 3, 5), (4, size, 5), (3, 4, size)):
                problem = Problem(m, n, k, dtype)
                yield problem
                on.exact(problem)
        for size in (47, 48, 49, 50, 63, 64, 65, 95, 96, 97):
            problem = Problem(size, size, size, dtype)
            yield problem
            on.exact(problem)
        problem = large(dtype)
        yield problem
        on.exact(problem)


def _precision(on: _Examiner) -> Iterator[Problem]:
    shapes = ((7, 9, 8), (20, 40, 30), (65, 66, 67), (3, 5, 300), (128, 32, 24))
    for dtype in on.dtypes:
        for m, n, k in shapes:
            problem = Problem(m, n, k, dtype)
            yield problem
            on.significands(problem)


def _long_sums(on: _Examiner) -> Iterator[Problem]:
    for dtype in on.dtypes:
        for m, n, k in ((1, 1, 5000), (6, 5, 2049), (16, 16, 4096)):
            problem = Problem(m, n, k, dtype)
            yield problem
            on.exact(problem)
            for seed in range(3):
                on.significands(problem, seed)


def _rounding(on: _Examiner) -> Iterator[Problem]:
    for dtype in on.dtypes:
        for m, n, k in (*SMALL, (3, 5, 4096), (90, 100, 110)):
            for alpha, beta in ((1.0, 0.0), (-0.7, 0.3)):
                problem = Problem(m, n, k, dtype, alpha=alpha, beta=beta)
                yield problem
                on.rounding(problem)
        for data in ("wide", "denormals"):
            for m, n, k in ((17, 19, 23), (40, 30, 50), (3, 5, 4096)):
                problem = Problem(m, n, k, dtype, data=data)
                yield problem
                on.rounding(problem)


def _epilogues(on: _Examiner) -> Iterator[Problem]:
    names = (
        "bias",
        "relu",
        "bias+relu",
        "bias+tanh",
        "bias+sigmoid",
        "grad:relu",
        "grad:tanh",
        "grad:sigmoid",
    )
    for dtype in on.dtypes:
        for epilogue in names:
            for m, n, k in ((1, 1, 1), (17, 33, 9)):
                problem = Problem(m, n, k, dtype, epilogue=epilogue)
                yield problem
                on.rounding(problem)


def _not_numbers(on: _Examiner) -> Iterator[Problem]:
    for dtype in on.dtypes:
        for m, n, k in ((3, 4, 5), (18, 34, 20)):
            problem = Problem(m, n, k, dtype)
            yield problem
            for where, a, b in special_values(problem):
                c = on.run(problem, a, b, _guarded(problem, 0.0))
                with np.errstate(all="ignore"):
                    expected = a.astype(np.float64) @ b.astype(np.float64)
                if not _same_special(c, expected):
                    lost = np.isfinite(c) & ~np.isfinite(expected)
                    verb = "swallows" if lost.any() else "spreads or changes"
                    raise _Wrong(
                        "rounding",
                        problem,
                        f"{verb} {where}: C must be NaN or infinite exactly where the sums are",
                    )
        problem = Problem(6, 7, 5, dtype, alpha=0.0, beta=1.0)
        yield problem
        a, b, c = problem.operands()
        expected = c.copy()
        a[...] = np.nan
        if not exactly(on.run(problem, a, b, c), expected):
            raise _Wrong("contract", problem, "reads A although alpha = 0: NaN in A reaches C")


def _same_special(c: np.ndarray, expected: np.ndarray) -> bool:
    c = c.astype(np.float64)
    nan, inf = np.isnan(expected), np.isinf(expected)
    same_inf = np.array_equal(c[inf], expected[inf])
    return bool(np.array_equal(np.isnan(c), nan) and np.array_equal(np.isinf(c), inf) and same_inf)


def _again(on: _Examiner) -> Iterator[Problem]:
    """The same arrays several times with other contents: nothing may be remembered."""
    for dtype in on.dtypes:
        for m, n, k in ((5, 6, 7), (40, 33, 50)):
            problem = Problem(m, n, k, dtype, data="integers")
            yield problem
            a, b, c = problem.operands()
            for time in range(4):
                new_a, new_b, _ = problem.operands(time, on.kernel.digits)
                a[...], b[...], c[...] = new_a, new_b, np.nan
                if not exactly(on.run(problem, a, b, c), exact_product(new_a, new_b)):
                    which = "the first time" if time <= 1 else f"the first {time} times"
                    raise _Wrong(
                        "exact",
                        problem,
                        f"is right only {which}: call {time + 1} on the same arrays, with new contents, is wrong "
                        "(something of an earlier call is remembered)",
                    )
            if on.kernel.deterministic:
                _deterministic(on, Problem(m, n, k, dtype))


def _deterministic(on: _Examiner, problem: Problem) -> None:
    a, b, c = problem.operands()
    c[...] = 0
    first = on.run(problem, a, b, c).copy()
    for _ in range(3):
        c[...] = 0
        if not np.array_equal(on.run(problem, a, b, c), first):
            raise _Wrong("contract", problem, "gives other bits for the same inputs (and does not say so)")


def _at_once(on: _Examiner) -> Iterator[Problem]:
    if on.kernel.device not in ("cpu", "cuda"):
        return
    problems = [Problem(48, 37, 52, on.dtypes[0], data="integers")]
    if on.quick:
        problems.append(large(on.dtypes[0]))
    for problem in problems:
        yield problem
        with ThreadPoolExecutor(4) as pool:
            try:
                right = all(pool.map(partial(_right_repeatedly, on, problem), range(8)))
            except Exception as error:  # a student's kernel may raise anything
                what = f"called from several threads, raises {type(error).__name__}: {error}"
                raise _Wrong("contract", problem, what) from error
        if not right:
            raise _Wrong("contract", problem, "is wrong when several Python threads call it at the same time")


def _right_repeatedly(on: _Examiner, problem: Problem, seed: int) -> bool:
    a, b, c = problem.operands(seed, on.kernel.digits)
    for _ in range(4):
        c[...] = np.nan
        contract.matmul(a, b, c, kernel=on.kernel)
        if not exactly(c, exact_product(a, b)):
            return False
    return True


def _on_the_device(on: _Examiner) -> Iterator[Problem]:
    """Operands that live there, at aligned addresses and others, with guards around them there."""
    if on.kernel.device != "cuda":
        return
    try:
        for on.shift in (0, 1):
            for dtype in on.dtypes:
                for strides in STRIDES:
                    for op_a, op_b in (("n", "n"), ("t", "n"), ("n", "t"), ("t", "t")):
                        for m, n, k, alpha, beta in ((19, 35, 26, 1.0, 0.0), (64, 48, 32, 2.0, 3.0)):
                            problem = Problem(m, n, k, dtype, op_a, op_b, strides, alpha, beta)
                            yield problem
                            on.exact(problem)
                for m, n, k in ((1, 1, 1), (1, 33, 7), (33, 1, 7), (129, 127, 130), (128, 128, 64)):
                    problem = Problem(m, n, k, dtype)
                    yield problem
                    on.exact(problem)
                    on.significands(problem)
                for epilogue in (
                    "bias+relu",
                    "bias+gelu",
                    "tanh",
                    "sigmoid",
                    "grad:tanh",
                    "grad:gelu",
                    "grad:leaky-relu",
                ):
                    problem = Problem(17, 33, 9, dtype, epilogue=epilogue)
                    yield problem
                    on.rounding(problem)
    finally:
        on.shift = None


FORK_SECONDS = 30


def _after_fork(on: _Examiner) -> Iterator[Problem]:
    if on.kernel.device != "cpu" or not hasattr(os, "fork"):
        return
    problem = large(on.dtypes[0]) if on.quick else Problem(48, 37, 52, on.dtypes[0], data="integers")
    yield problem
    a, b, c = problem.operands(digits=on.kernel.digits)
    on.run(problem, a, b, c)  # if it has pools, they exist by now
    with warnings.catch_warnings():  # Python 3.12 warns of what is put to the test here
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        signal.alarm(FORK_SECONDS)  # a child that hangs ends itself
        try:
            c[...] = np.nan
            contract.matmul(a, b, c, kernel=on.kernel)
            os._exit(0 if exactly(c, exact_product(a, b)) else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    if status:
        hung = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM
        how = f"hangs (for {FORK_SECONDS} s)" if hung else f"fails (wait status {status})"
        raise _Wrong("contract", problem, f"{how} in a child process after a fork")


THREADS = (1, 2, 3)
IN_A_ROW = 250  # problems on the same number of threads: setting it takes longer than a small product


def _at_random(on: _Examiner, count: int, seed: int) -> Iterator[Drawn]:
    from gemm import get_threads, set_threads

    threads = get_threads()
    try:
        for number in range(count):
            if number % IN_A_ROW == 0:
                set_threads(THREADS[number // IN_A_ROW % len(THREADS)])
            drawn = draw(seed, number, on.dtypes)
            yield drawn
            found = judge(on.kernel, drawn)
            if isinstance(found, Failure):
                least, found = shrink(on.kernel, drawn, found)
                raise _Wrong(
                    found.rule, least, f"{found.sentence} (from problem {number} of seed {seed}: {drawn})"
                )
            on.worst = max(on.worst, found)
    finally:
        set_threads(threads)


TRIALS: tuple[Callable[[_Examiner], Iterator[Problem]], ...] = (
    _plain,
    _alpha_and_beta,
    _layouts,
    _edges,
    _again,
    _precision,
    _long_sums,
    _rounding,
    _not_numbers,
    _epilogues,
    _on_the_device,
    _at_once,
    _after_fork,
)
