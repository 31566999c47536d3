"""Subjects: what a worker times. A product, a training step, or a ceiling, behind the same two calls.

    open(...)    make the operands, verify, time the first call, find how many calls make a sample
    sample()     one sample, verified again; plain data that goes into the records

Everything here runs inside a worker process, with its threads set before it started.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from itertools import cycle, islice, repeat
from math import ceil
from time import perf_counter_ns
from typing import Any

import numpy as np

import gemm
import mlp
from bench import peers
from bench.host.witness import Witness
from bench.plans import cold
from bench.plans.network import batch_for
from bench.plans.plan import names_in
from bench.timing.manners import manners
from gemm.contract import resolved
from gemm.correctness import (
    Reference,
    accumulator_of,
    error_ratio,
    exact_product,
    exactly,
    integers_agree,
    reference,
    significand_problems,
)
from gemm.dtypes import low, roundoff
from gemm.guards import Guards
from gemm.problems import Problem, lay_out
from mlp.devices import host

# Calls at the start of a turn that are not counted, for about this long and one at least: caches, clocks and
# sleeping threads come back to what they are in the middle of a run.
DISCARD_NS = 2_000_000
# The size of the first product from which a kernel's first cell is predicted, and the seconds at which a
# call is long enough to be believed.
PILOT = 24
PILOT_S = 0.02
# One loop of the calls whose overhead is measured.
OVERHEAD_NS = 200_000
# Copies of a cold cell that each sample verifies beside the one that it changed.
LOOKED_AT = 3
# Different problems of rule 3 in a stack: more than a kernel would mix up by counting in powers of two.
STACKED = 7

Call = Callable[[], Any]


class Wrong(Exception):
    """The subject computed something wrong; the message says what, `error_ratio` how far (None: another rule)."""

    def __init__(self, message: str, error_ratio: float | None = None) -> None:
        super().__init__(message)
        self.error_ratio = error_ratio


def clock(call: Call, times: int) -> int:
    """Nanoseconds that `times` calls take."""
    return clock_each(repeat(call, times))


def clock_each(calls: Iterable[Call]) -> int:
    """Nanoseconds that these calls take, one after the other."""
    begin = perf_counter_ns()
    for call in calls:
        call()
    return perf_counter_ns() - begin


def loops_for(spend: Callable[[int], int], sample_s: float) -> tuple[int, float]:
    """How many calls fill a sample of `sample_s`, and the seconds of one: doubling until it is long enough.

    spend  does so many calls and returns the nanoseconds

    The fastest call counts: one that was disturbed would make every sample too short.
    """
    loops, fastest = 1, spend(1) / 1e9
    while True:
        spent = spend(loops) / 1e9
        fastest = min(fastest, spent / loops)
        if loops * fastest >= sample_s / 4 or loops >= 1 << 24:
            return max(1, ceil(sample_s / fastest)), fastest
        loops *= 2


def settle() -> None:
    """Collect garbage once and leave what is alive out of later collections: 45 ms each with Numba loaded."""
    gc.collect()
    gc.freeze()


@cache
def importing(kernel: str) -> float:
    """Seconds to import a kernel in this process."""
    start = perf_counter_ns()
    gemm.get(kernel)
    return (perf_counter_ns() - start) / 1e9


@cache
def starting(kernel: str, dtype: str, op_a: str = "n", op_b: str = "n", strides: str = "contiguous") -> float:
    """Seconds of a first small product of its kind in this process: compilation, thread pools."""
    a, b, c = Problem(2, 2, 2, dtype, op_a, op_b, strides).operands()
    start = perf_counter_ns()
    gemm.matmul(a, b, c, kernel=kernel)
    return (perf_counter_ns() - start) / 1e9


def load(kernel: str, problem: Problem) -> float:
    """Seconds from nothing to a first small product, as if the problem's were the first kind in this process.

    What another order or layout has started already (code for any strides, say) is counted for this one too.
    """
    imported = importing(kernel)  # first
    plain = starting(kernel, problem.dtype)
    return imported + max(plain, starting(kernel, problem.dtype, problem.op_a, problem.op_b, problem.strides))


@cache
def overhead(kernel: str, dtype: str) -> float:
    """Seconds of a prepared call on a 1 x 1 x 1 product: what a call costs beside arithmetic. Best of a few loops."""
    a, b, c = Problem(1, 1, 1, dtype).operands()
    call = gemm.prepare(a, b, c, kernel=kernel)
    call()
    loops = max(1, min(1000, OVERHEAD_NS // max(1, clock(call, 1))))
    return min(clock(call, loops) for _ in range(5)) / 1e9 / loops


def pilot(kernel: str, problem: Problem) -> float:
    """Seconds that a call on the problem is likely to take.

    From products with every size cut to at most PILOT, then twice that, until a call is long enough for its
    rate to mean something: what is overhead at 24 is none at 400.
    """
    manners()  # as they are before the kernel's first call
    load(kernel, problem)
    best, size = float("inf"), PILOT
    while True:
        small = replace(problem, **{name: min(getattr(problem, name), size) for name in ("m", "n", "k")})
        a, b, c = small.operands()
        call = gemm.prepare(a, b, c, kernel=kernel, alpha=problem.alpha, beta=problem.beta)
        seconds = min(clock(call, 1) for _ in range(3)) / 1e9
        best = min(best, seconds * problem.flops / small.flops)
        if seconds > PILOT_S or small.flops == problem.flops:
            return best
        size *= 2


def network(kernel: str | None, model: dict[str, Any], seed: int) -> mlp.MLP:
    """A cell's model, built. kernel None: what it multiplies with is of no interest."""
    return mlp.MLP(
        model["arch"], activation=model["activation"], loss=model["loss"], optimizer=model["optimizer"],
        lr=model.get("lr", 0.01), kernel=kernel, dtype=model["dtype"], seed=seed,
        device=model.get("device", "cpu"),
    )  # fmt: skip


def products(model: mlp.MLP, batch: int) -> dict[str, list[Problem]]:
    """Kernel -> the products of a step that it does, as problems of their own."""
    found: dict[str, list[Problem]] = {}
    for op in model.operations(batch):
        if op.kernel is not None and op.m is not None and op.n is not None and op.k is not None:
            problem = Problem(op.m, op.n, op.k, model.dtype.name, *op.order)
            found.setdefault(op.kernel, []).append(problem)
    return found


def import_all(kernel: str) -> float:
    """Seconds to import each kernel that a name or a mapping names."""
    return sum(importing(name) for name in names_in(kernel))


def start_all(model: mlp.MLP, batch: int) -> float:
    """Seconds of a first small product of each kind that a step has, with the kernel that does it."""
    kinds = {(kernel, p.op_a, p.op_b) for kernel, own in products(model, batch).items() for p in own}
    return sum(starting(kernel, model.dtype.name, *orders) for kernel, *orders in sorted(kinds))


def _pilot_of(kernel: str) -> Callable[[str, Problem], float]:
    """The pilot of a kernel's products, where its operands will be."""
    from bench.timing import device

    return device.pilot if gemm.find(kernel).device == "cuda" else pilot


def pilot_step(kernel: str, model: dict[str, Any]) -> float:
    """Seconds that a step's products are likely to take: at the rate of the largest that a kernel does."""
    manners()  # as they are before the kernel's first call
    import_all(kernel)
    built = network(kernel, model, seed=0)
    start_all(built, model["batch"])
    predicted = 0.0
    for name, own in products(built, model["batch"]).items():
        largest = max(own, key=lambda problem: problem.flops)
        predicted += _pilot_of(name)(name, largest) * sum(problem.flops for problem in own) / largest.flops
    return predicted


@dataclass(frozen=True, eq=False)
class Operands:
    """One copy of A, B and C, and the call prepared on them."""

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    call: Call


class Product:
    """One kernel on one problem, a stack of products where its batch is above 1.

    Hot, there is one copy of the operands; cold, there are many, and every call takes the next (`bench.plans.cold`).
    """

    def __init__(
        self,
        kernel: str,
        problem: dict[str, Any],
        seed: int,
        reference_at: str | None = None,
        cache: str = "hot",
    ) -> None:
        self.manners = manners()  # before the kernel's file is even imported
        self.problem = Problem.from_record(problem)
        self.loading_s = load(kernel, self.problem)  # before anything else imports it
        self.kernel = gemm.find(kernel)
        self.reference_at = reference_at
        self.a, self.b, self.c0 = self._operands(seed)
        self.c = lay_out(self.c0, strides=self.problem.strides)
        self.rng = np.random.default_rng()
        self.epilogue = self.problem.make_epilogue()
        self.cold = cache == "cold"

    def open(self, sample_s: float) -> dict[str, Any]:
        """Verify by all three rules, then calibrate. Raises Wrong, Meddled."""
        guards = Guards(self.a, self.b, self.c)
        self._poison(self.c)
        start = perf_counter_ns()
        call = self._prepare(self.a, self.b, self.c)
        call()
        first = self.loading_s + (perf_counter_ns() - start) / 1e9
        self._verify_guards(guards)
        worst = self._verify(self.c)
        self.verify_exact()
        self.copies = [Operands(self.a, self.b, self.c, call)]
        if self.cold:
            guards = self._copy()
        self.loops, seconds = loops_for(self._spend, sample_s)
        if self.loops >= len(self.copies):  # whole turns, so that all copies count alike
            self.loops = round(self.loops / len(self.copies)) * len(self.copies)
        self.call_ns = seconds * 1e9
        per_call = overhead(self.kernel.name, self.problem.dtype)
        self._verify_guards(guards)
        self.manners.check(libraries=True)
        settle()
        chosen = {"chosen": resolved(self.kernel, self.a, self.b).name} if self.kernel.choose else {}
        return {
            "first_call_s": first, "error_ratio": worst, "seconds": seconds, "loops": self.loops,
            "overhead_s": per_call, "flops": self.problem.flops, "bytes": self.problem.bytes, **chosen,
        }  # fmt: skip

    @cached_property
    def right(self) -> Reference:
        """The reference, from the files that the parent wrote, or computed here."""
        own = accumulator_of(self.kernel.signature(self.problem.dtype), self.problem.dtype)
        usual = own == accumulator_of(None, self.problem.dtype)
        if self.reference_at is None or not usual or self._rounds_in_part:  # another bound than most kernels'
            return self._reference(self.a, self.b, self.c0)
        c, bound = (np.load(f"{self.reference_at}-{part}.npy", mmap_mode="r") for part in ("c", "bound"))
        if self.kernel.multiplies:
            bound = bound * rounded_operands(self.kernel.multiplies, own, self.problem.k)
        return Reference(c, bound)

    @property
    def _rounds_in_part(self) -> bool:
        """Whether the kernel rounds its operands and the bound has other parts than the product's."""
        return self.kernel.multiplies is not None and (self.problem.beta != 0 or self.epilogue is not None)

    def sample(self) -> dict[str, Any]:
        """Seconds per call over `loops` calls into a poisoned C, with one row of one A negated; then verified.

        Cold, what is verified is the copy whose A was changed and LOOKED_AT others that the loop comes by, their guards
        as well. Raises Wrong, Meddled.
        """
        discarded = max(1, int(DISCARD_NS / self.call_ns))
        looked_at = self._visited(discarded)
        self.rng.shuffle(looked_at)
        looked_at = looked_at[: LOOKED_AT + 1]
        guards = [self._guards(at) for at in looked_at]
        changed, *others = (self.copies[at] for at in looked_at)
        row = tuple(int(self.rng.integers(size)) for size in changed.a.shape[:-1])
        changed.a[row] *= -1
        gc.collect()
        gc.disable()
        self._spend(discarded)
        self._poison(self.c)
        if self.cold:
            self.sweeper.sweep()  # the poison lies in the cache by now
        with Witness() as seen:
            spent = self._spend(self.loops)
        gc.enable()
        if self.problem.beta != 0:  # C has been through many calls: one more, from the start
            for copy in (changed, *others):
                self._poison(copy.c)
                copy.call()
        changed.a[row] *= -1
        self._verify_guards(*guards)
        with self.manners.alone():
            ratios = [self._verify_changed(changed, row), *(self._verify(copy.c) for copy in others)]
        self.manners.check()
        return {
            "loops": self.loops,
            "seconds": spent / 1e9 / self.loops,
            "error_ratio": max(ratios),
        } | seen.figures

    def _operands(self, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A, B and the C that is read where beta is not 0."""
        return self.problem.operands(seed)

    def _prepare(self, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> Call:
        return gemm.prepare(a, b, c, kernel=self.kernel, **self._scalars())

    def _scalars(self) -> dict[str, Any]:
        return {"alpha": self.problem.alpha, "beta": self.problem.beta, "epilogue": self.epilogue}

    # Copies, taken in turn

    def _copy(self) -> Guards:
        """Make the copies of a cold cell; `self.c` is all their C from here on. Returns the guards of all."""
        count = cold.copies(self.problem)
        a, b, self.blocks = (cold.Copies(array, count) for array in (self.a, self.b, self.c))
        self.c = self.blocks.all
        self.copies = [Operands(*one, self._prepare(*one)) for one in zip(a.all, b.all, self.c)]
        self.sweeper = cold.Sweeper()
        self.turns, self.next = cycle([copy.call for copy in self.copies]), 0
        return Guards(a.all, b.all, self.c)

    def _guards(self, at: int) -> Guards:
        """The guards of one copy."""
        copy = self.copies[at]
        return Guards(copy.a, copy.b, copy.c, self.blocks.around(at) if self.cold else None)

    def _spend(self, calls: int) -> int:
        """Nanoseconds of so many calls, each on the next copy."""
        if not self.cold:
            return clock(self.copies[0].call, calls)
        self.next = (self.next + calls) % len(self.copies)
        return clock_each(islice(self.turns, calls))

    def _visited(self, after: int) -> np.ndarray:
        """Which copies `loops` calls will come by, `after` calls from now."""
        count = len(self.copies)
        first = self.next + after if self.cold else 0
        return (first + np.arange(min(self.loops, count))) % count

    def _poison(self, c: np.ndarray) -> None:
        c[...] = np.nan if self.problem.beta == 0 else self.c0

    # Right or wrong

    def _verify_guards(self, *guards: Guards) -> None:
        for guard in guards:
            if broken := guard.broken():
                raise Wrong(broken)

    def _reference(self, a: np.ndarray, b: np.ndarray, c0: np.ndarray) -> Reference:
        accumulator = accumulator_of(self.kernel.signature(self.problem.dtype), self.problem.dtype)
        multiplies = self.kernel.multiplies
        return reference(a, b, c0, **self._scalars(), accumulator=accumulator, multiplies=multiplies)

    def _verify(self, c: np.ndarray) -> float:
        return self._allowed(error_ratio(c, self.right))

    def _allowed(self, ratio: float, where: str = "") -> float:
        if not ratio <= self.kernel.error_constant:
            raise Wrong(
                f"error ratio {ratio:.3g}{where}: off by more than rounding allows (see gemmlab check)", ratio
            )
        return ratio

    def _verify_changed(self, copy: Operands, row: tuple[int, ...]) -> float:
        """Rule 1 after calls with one row of A negated: that row anew, all others as before."""
        if self.epilogue is not None:
            a = copy.a.copy()
            a[row] *= -1
            return self._allowed(error_ratio(copy.c, self._reference(a, self.b, self.c0)))
        b = self.b[row[:-1]]
        ratios = [error_ratio(copy.c[row][None], self._reference(-copy.a[row][None], b, self.c0[row][None]))]
        for at in beside(row):
            ratios.append(error_ratio(copy.c[at], Reference(self.right.c[at], self.right.bound[at])))
        return self._allowed(max(ratios), " in a timed result")

    def verify_exact(self) -> None:
        """Rules 2 and 3 at this shape, in this order and layout, with operands of their own. Raises Wrong.

        Of a stack, every product is put to both; rule 3 has STACKED different problems, repeated.
        """
        p = self.problem
        plain = replace(p, data="integers", alpha=1.0, beta=0.0, epilogue=None)
        a, b, c = plain.operands(digits=self.kernel.digits)
        c[...] = np.nan
        gemm.matmul(a, b, c, kernel=self.kernel)
        # what C of 16 bits cannot hold is rounded once, and then there is no sum to compare
        if not (exactly(c, exact_product(a, b)) if low(c.dtype) else integers_agree(a, b, c)):
            raise Wrong("a product of small integers is not exact (see gemmlab check)")
        for side, left, right, expected in _significands(plain, self.kernel.digits):
            c[...] = np.nan
            operands = lay_out(left, p.op_a, p.strides), lay_out(right, p.op_b, p.strides)
            gemm.matmul(*operands, c, kernel=self.kernel)
            if not exactly(c, expected):
                raise Wrong(
                    f"full significands of {side} do not come through: inputs rounded or terms dropped"
                )


def rounded_operands(multiplies: str, accumulator: str, k: int) -> float:
    """How many times a product's bound is that of a kernel that rounds its operands: (2 w + w^2) |A| |B| more.

    The bound that is known is u (k + 2) |A| |B| and a little, so this is a little more than needed.
    """
    w = roundoff(multiplies)
    return 1 + (2 * w + w * w) / (roundoff(accumulator) * (k + 2))


def _significands(
    problem: Problem, digits: int | None = None
) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """`significand_problems`, for a stack as stacks."""
    if problem.batch == 1:
        yield from significand_problems(problem, digits=digits)
        return
    different = [significand_problems(problem, seed, digits) for seed in range(min(STACKED, problem.batch))]
    which = np.arange(problem.batch) % len(different)
    for versions in zip(*different):
        side = versions[0][0]
        left, right, expected = (np.stack(arrays)[which] for arrays in list(zip(*versions))[1:])
        yield side, left, right, expected


def beside(index: tuple[int, ...]) -> Iterator[tuple[int | slice, ...]]:
    """Indices of all of an array but its part `index`: for (2, 5) those before and behind 2, and in it 5."""
    for depth, at in enumerate(index):
        yield (*index[:depth], slice(0, at))
        yield (*index[:depth], slice(at + 1, None))


class Stopwatch(mlp.Recorder):
    """A recorder for `mlp`: the nanoseconds of each operation, summed over steps."""

    def __init__(self) -> None:
        self.spent: dict[str, int] = {}
        self.operations: dict[str, mlp.Operation] = {}

    def begin(self, operation: mlp.Operation) -> None:
        self._began = perf_counter_ns()

    def end(self, operation: mlp.Operation) -> None:
        spent = perf_counter_ns() - self._began
        self.spent[operation.id] = self.spent.get(operation.id, 0) + spent
        self.operations[operation.id] = operation


class PeerStep:
    """The same step in somebody else's library, as a whole (`bench.peers`)."""

    def __init__(self, kernel: str, model: dict[str, Any], seed: int) -> None:
        self.manners = manners()
        self.peer, self.description = peers.get(kernel), model
        self.rng = np.random.default_rng(seed)
        self.x, self.y = batch_for(model, self.rng)
        self.ours = network(None, model, seed)

    def open(self, sample_s: float) -> dict[str, Any]:
        """Check its first steps' losses, then calibrate. Raises Wrong, Meddled."""
        weights, start = [host(weight) for weight in self.ours.parameters()], perf_counter_ns()
        self.step = self.peer.make(self.description, weights, self.x, self.y, gemm.get_threads())
        losses = [float(self.step())]
        first = (perf_counter_ns() - start) / 1e9
        losses += [float(self.step()) for _ in range(2)]
        try:
            self.peer.check(losses, self.description, weights, self.x, self.y)
        except ValueError as wrong:
            raise Wrong(str(wrong)) from wrong
        self.loops, seconds = loops_for(partial(clock, self.step), sample_s)
        operations = self.ours.operations(len(self.x))
        self.manners.check(libraries=True)
        settle()
        return {
            "first_call_s": first, "error_ratio": 0.0, "seconds": seconds, "loops": self.loops,
            "flops": sum(operation.flops for operation in operations),
            "bytes": sum(operation.bytes for operation in operations),
        }  # fmt: skip

    def sample(self) -> dict[str, Any]:
        """Steps; seconds of one."""
        gc.collect()
        gc.disable()
        clock(self.step, max(1, self.loops // 4))
        with Witness() as seen:
            spent = clock(self.step, self.loops)
        gc.enable()
        self.manners.check()
        return {"loops": self.loops, "seconds": spent / 1e9 / self.loops, "layers": []} | seen.figures


class TrainingStep:
    """One training step of a model, its products on one kernel or on a mapping of them."""

    def __init__(self, kernel: str, model: dict[str, Any], seed: int) -> None:
        self.manners = manners()
        self.importing_s = import_all(kernel)
        begin = perf_counter_ns()
        self.model = network(kernel, model, seed)
        self.building_ns = perf_counter_ns() - begin
        self.rng = np.random.default_rng(seed)
        self.x, self.y = batch_for(model, self.rng)

    def verify(self) -> tuple[float, float]:
        """Every product of a step by all three rules: seconds of the first step, and the largest error ratio.

        Raises Wrong.
        """
        loading = self.importing_s + start_all(self.model, len(self.x))
        start = perf_counter_ns()
        self._step()
        first = loading + (self.building_ns + perf_counter_ns() - start) / 1e9
        worst = self._verify()
        self._verify_exact()
        return first, worst

    def open(self, sample_s: float) -> dict[str, Any]:
        """Verify, then calibrate. Raises Wrong, Meddled."""
        first, worst = self.verify()
        self._step()
        self.loops, seconds = loops_for(partial(clock, self._step), sample_s)
        operations = self.model.operations(len(self.x))
        self.manners.check(libraries=True)
        settle()
        return {
            "first_call_s": first, "error_ratio": worst, "seconds": seconds, "loops": self.loops,
            "flops": sum(operation.flops for operation in operations),
            "bytes": sum(operation.bytes for operation in operations),
        }  # fmt: skip

    def sample(self) -> dict[str, Any]:
        """Steps without and with the recorder, in pairs of random order; seconds per step, by operation too.

        In pairs, because what disturbs a machine lasts longer than a step: both kinds get their share of it.
        """
        watch, spent = Stopwatch(), {False: 0, True: 0}
        model, x, y = self.model, self.x, self.y
        calls = {False: self._step, True: lambda: model.step(x, y, recorder=watch)}
        gc.collect()
        gc.disable()
        clock(self._step, max(1, self.loops // 4))
        with Witness() as seen:
            for first in self.rng.random(self.loops) < 0.5:
                for instrumented in (bool(first), not first):
                    spent[instrumented] += clock(calls[instrumented], 1)
        gc.enable()
        self.manners.check()
        return {
            "loops": self.loops,
            "seconds": spent[False] / 1e9 / self.loops,
            "instrumented_seconds": spent[True] / 1e9 / self.loops,
            "layers": [self._row(operation, watch.spent[at]) for at, operation in watch.operations.items()],
            "error_ratio": self._verify(),
        } | seen.figures

    def _row(self, operation: mlp.Operation, spent_ns: int) -> dict[str, Any]:
        return {
            "id": operation.id, "layer": operation.layer, "op": operation.op, "phase": operation.phase,
            "parts": list(operation.parts), "kernel": operation.kernel,
            "m": operation.m, "n": operation.n, "k": operation.k, "times": operation.times,
            "flops": operation.flops, "bytes": operation.bytes, "seconds": spent_ns / 1e9 / self.loops,
        }  # fmt: skip

    def _step(self) -> None:
        self.model.step(self.x, self.y)

    def _verify_exact(self) -> None:
        """Rules 2 and 3 for each distinct product of the step, at its shape and in its order."""
        self._verify_exactly(dict.fromkeys(self.model.operations(len(self.x))))

    def _verify_exactly(self, operations: Iterable[mlp.Operation]) -> None:
        for operation in operations:
            if operation.m is None or operation.kernel is None:
                continue
            orders = operation.order
            shape = {"m": operation.m, "n": operation.n, "k": operation.k}
            dtype = self.model.dtype.name
            record = shape | {"dtype": dtype, "op_a": orders[0], "op_b": orders[1]}
            try:
                Product(operation.kernel, record, seed=0).verify_exact()
            except Wrong as wrong:
                raise Wrong(f"{operation.id}: {wrong}") from wrong

    def _verify(self) -> float:
        """Rule 1 on every product of one step, each checked when it has just been done."""
        worst = 0.0
        plan, alone = self.model.plan(len(self.x)), self.manners.alone

        class Verifier(mlp.Recorder):
            def begin(self, operation: mlp.Operation) -> None:
                self.products = plan.products(operation)
                self.before = [one.out.copy() if one.beta else None for one in self.products]

            def end(self, operation: mlp.Operation) -> None:
                nonlocal worst
                if operation.kernel is None:
                    return
                kernel = gemm.find(operation.kernel)
                for product, before in zip(self.products, self.before):
                    out = product.out
                    accumulator = accumulator_of(kernel.signature(out.dtype), out.dtype.name)
                    with alone():
                        right = reference(
                            product.a, product.b, before, alpha=product.alpha, beta=product.beta,
                            epilogue=product.epilogue, accumulator=accumulator,
                        )  # fmt: skip
                    ratio = error_ratio(out, right)
                    if not ratio <= kernel.error_constant:
                        what = f"{operation.id} has error ratio {ratio:.3g}: off by more than rounding allows"
                        raise Wrong(what, ratio)
                    worst = max(worst, ratio)

        loss = self.model.step(self.x, self.y, recorder=Verifier())
        if not np.isfinite(loss):
            raise Wrong(f"the loss became {loss}: arithmetic on NaN takes another time; try a smaller lr")
        return worst
