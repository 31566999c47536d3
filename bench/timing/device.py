"""Device: what a worker times on a GPU. A product of device arrays, timed by the device's own clock; or of host arrays.

A call returns when its work is queued, so the clock is a pair of events around a loop of calls on one stream, waited
for once. Beside what `bench.timing.subjects` does for every product, this does what a GPU needs:

    warm      calls that are not counted, until the time of one settles: an idle GPU's clock is a sixth of its highest
    cold      the default. A, B and C have copies, together more than twice the L2 cache, and calls take them in turn;
              the cache is overwritten before the loop. A network's next product finds other operands in a cache of 60
              MB than its own from the last time, and one that always finds its own is timed too well up to n = 2048
    gauged    clock, power, temperature and the reasons of a lower clock, while the device still works
    verified  what every sample leaves in C is compared, on the device, bit for bit with a C that was checked by all
              three rules; what differs is copied back and judged by the rules. (To copy and check every C of 8192 x
              8192 on the host takes tens of seconds.) Around every copy lie guards, and A and B have one that no
              kernel is given, to be compared with
"""

from __future__ import annotations

import gc
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from itertools import cycle, islice
from math import ceil, isfinite
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np

import gemm
from bench.host import gpu
from bench.plans import device as plans
from bench.timing import device_rules
from bench.timing.device_rules import bits_of, nan_bits
from bench.timing.manners import manners
from bench.timing.subjects import LOOKED_AT, Call, Operands, Product, Wrong, load, loops_for, settle
from gemm.correctness import Reference, error_ratio
from gemm.dtypes import named
from gemm.guards import OUTSIDE, changed_input
from gemm.problems import Problem, lay_out

# Copies of operands begin on lines of so many bytes, as the device's allocator and its widest loads have them.
LINE = 256
# A sample lasts so long at least: shorter ones see one step of the clock's control and not the next.
SAMPLE_S = 0.05
# Warm-up: batches of so many seconds, until two after each other differ by no more than SETTLED. At least and at most
# so long in all: before a sample, and before the first one.
BATCH_S, SETTLED = 0.01, 0.01
LEAST_S, MOST_S, FIRST_S = 0.04, 0.5, 2.0
# The first product of a pilot, and the seconds at which a call is long enough to be believed.
PILOT, PILOT_S = 256, 0.002
# Calls of which the overhead is the mean.
OVERHEAD_CALLS = 500
# Elements of A, B or C above which the rules are applied on the device first.
LARGE = 1 << 20
# Of the device's free memory no more than this is taken.
SHARE = 0.9


class TooLarge(Exception):
    """The device has not the memory for this cell; the message is the sentence for the record."""


class Slots:
    """Copies of an array that `gemm.problems.lay_out` made, on the device: `all` (count, ...), each laid out alike.

    In memory, a guard of NaN, the first copy up to the end of its last line, a guard, the second, ..., a guard.

    all    the copies, as arrays for kernels; `bits` the same memory as unsigned integers
    slot   a guard and the first copy, in memory of its own that no kernel is given
    """

    def __init__(self, array: np.ndarray, count: int) -> None:
        import cupy

        size, line = array.itemsize, LINE // array.itemsize
        buffer = array.base
        assert buffer is not None
        low, high = np.lib.array_utils.byte_bounds(array)
        first, inside = (low - buffer.ctypes.data) // size, (high - low) // size
        # as far as an edge tile writes that does not know where C ends: two rows, as on the host
        beside = max(2 * array.shape[-1], line)
        self.guard = ceil(beside / line) * line
        self.inside, self.width = inside, self.guard + ceil(inside / line) * line
        slot = np.full(self.width, nan_bits(array.dtype), bits_of(array.dtype))
        slot[self.guard : self.guard + inside] = buffer.view(slot.dtype)[first : first + inside]
        self.slot = cupy.asarray(slot)
        self.memory = cupy.empty(count * self.width + self.guard, slot.dtype)
        self.rows = self.memory[: count * self.width].reshape(count, self.width)
        self.rows[...] = self.slot
        self.memory[count * self.width :] = self.slot[: self.guard]
        offset = self.guard * size + array.__array_interface__["data"][0] - low
        shape, strides = (count, *array.shape), (self.width * size, *array.strides)
        self.all, self.bits = (
            cupy.ndarray(shape, dtype, self.memory.data + offset, strides)
            for dtype in (array.dtype, slot.dtype)
        )

    @staticmethod
    def bytes(array: np.ndarray, count: int) -> int:
        """What so many copies take, and the one beside them."""
        low, high = np.lib.array_utils.byte_bounds(array)
        return (count + 1) * (high - low + max(2 * array.shape[-1] * array.itemsize, LINE) + 2 * LINE)

    def untouched(self, at: int) -> bool:
        """Whether a copy and the guards on both its sides are as they were."""
        return bool((self.rows[at] == self.slot).all()) and self._guard_behind(at)

    def guarded(self, at: int) -> bool:
        """Whether the guards around a copy are as they were, whatever is in it."""
        row = self.rows[at]
        end = self.guard + self.inside
        around = ((row[: self.guard], self.slot[: self.guard]), (row[end:], self.slot[end:]))
        return all(bool((now == before).all()) for now, before in around) and self._guard_behind(at)

    def _guard_behind(self, at: int) -> bool:
        start = (at + 1) * self.width
        return bool((self.memory[start : start + self.guard] == self.slot[: self.guard]).all())


class DeviceProduct(Product):
    """One kernel on one problem whose operands live on the device; see the head of this file."""

    def __init__(
        self,
        kernel: str,
        problem: dict[str, Any],
        seed: int,
        reference_at: str | None = None,
        cache: str = "cold",
    ) -> None:
        super().__init__(kernel, problem, seed, reference_at, cache)
        p = self.problem
        self.large = max(p.m * p.k, p.k * p.n, p.m * p.n) * p.batch > LARGE

    def open(self, sample_s: float) -> dict[str, Any]:
        """Verify by all three rules, warm up, then calibrate. Raises Wrong, Meddled, TooLarge."""
        import cupy

        count = plans.copies(self.problem, gpu.l2_bytes()) if self.cold else 1
        self._must_fit(count)
        self.slots = {
            name: Slots(array, count) for name, array in (("a", self.a), ("b", self.b), ("c", self.c))
        }
        a, b, c = (slots.all for slots in self.slots.values())
        self.c_bits = self.slots["c"].bits
        # C of a problem with a beta starts from what the host drew, else from NaN
        start = self.slots["c"].slot if self.problem.beta != 0 else None
        self.start = None if start is None else self.c_bits[0].copy()
        self.epilogue_there = device_rules.epilogue_there(self.epilogue)
        self._poison(self.c_bits)
        stream = cupy.cuda.get_current_stream()
        begin = perf_counter_ns()
        call = self._prepare(a[0], b[0], c[0])
        call()
        stream.synchronize()
        first = self.loading_s + (perf_counter_ns() - begin) / 1e9
        self._verify_around([0], changed=None)
        worst = self._verify_first()
        self.verified = self.c_bits[0].copy()
        self._verify_all_rules()
        calls = [call] + [self._prepare(*one) for one in zip(a[1:], b[1:], c[1:])]
        self.copies = [Operands(*one) for one in zip(a, b, c, calls)]
        self.turns, self.next = cycle(calls), 0
        self.flush = cupy.empty(2 * gpu.l2_bytes(), np.uint8) if self.cold else None
        gpu.now()  # NVML is opened now, not in the first sample
        self.call_ns = float(self._spend(1))
        self._warm(FIRST_S)
        self.loops, seconds = loops_for(self._spend, max(sample_s, SAMPLE_S))
        if self.loops >= count:  # whole turns, so that all copies count alike
            self.loops = max(1, round(self.loops / count)) * count
        self.call_ns = seconds * 1e9
        per_call = overhead(self.kernel.name, self.problem.dtype)
        self.manners.check(libraries=True)
        cupy.get_default_memory_pool().free_all_blocks()
        settle()
        return {
            "first_call_s": first, "error_ratio": worst, "seconds": seconds, "loops": self.loops,
            "overhead_s": per_call, "flops": self.problem.flops, "bytes": self.problem.bytes, "copies": count,
        }  # fmt: skip

    def sample(self) -> dict[str, Any]:
        """Seconds per call over `loops` calls into a poisoned C, with one row of one A negated; then verified.

        With what the device was doing meanwhile (`bench.host.gpu.now`). Raises Wrong.
        """
        looked_at = self._visited(0)
        self.rng.shuffle(looked_at)
        looked_at = looked_at[: LOOKED_AT + 1]
        row = tuple(int(self.rng.integers(size)) for size in self.a.shape[:-1])
        self._negate(looked_at[0], row)
        gc.collect()
        gc.disable()
        self._warm(MOST_S)
        self.turns, self.next = cycle([copy.call for copy in self.copies]), 0  # as `_visited` was told
        self._poison(self.c_bits)
        if self.flush is not None:
            self.flush.fill(1)  # the poison lies in the cache by now
        spent = self._spend(self.loops, gauge := Gauge())
        gc.enable()
        if self.problem.beta != 0:  # C has been through many calls: one more, from the start
            for at in looked_at:
                self._poison(self.c_bits[at])
                self.copies[at].call()
        ratios = [self._verify_row(looked_at[0], row), *(self._verify_same(at) for at in looked_at[1:])]
        self._negate(looked_at[0], row)
        self._verify_around(looked_at, changed=None)
        self.manners.check()
        return {
            "loops": self.loops,
            "seconds": spent / 1e9 / self.loops,
            "error_ratio": max(ratios),
        } | gauge.seen

    def _operands(self, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As every product's; where the parent has kept A and B beside the reference, as large ones, from there."""
        p, kept = self.problem, {name: Path(f"{self.reference_at}-{name}.npy") for name in "ab"}
        if p.beta != 0 or not all(file.is_file() for file in kept.values()):
            return super()._operands(seed)
        a, b = (np.load(file, mmap_mode="r").view(named(p.dtype)) for file in kept.values())
        c = np.zeros((*a.shape[:-1], b.shape[-1]), a.dtype)  # (what is in it is read by nobody)
        return lay_out(a, p.op_a, p.strides), lay_out(b, p.op_b, p.strides), lay_out(c, strides=p.strides)

    # Time

    def _spend(self, calls: int, gauge: Gauge | None = None) -> int:
        """Nanoseconds of the device for so many calls, each on the next copy."""
        self.next = (self.next + calls) % len(self.copies)
        return clock(islice(self.turns, calls), gauge)

    def _warm(self, most_s: float) -> None:
        """Calls that are not counted, until the time of one settles; for `most_s` at most, and one at least."""
        batch = max(1, ceil(BATCH_S * 1e9 / self.call_ns))
        spent, before = 0.0, 0.0
        while True:
            seconds = self._spend(batch) / 1e9
            spent += seconds
            settled = abs(seconds - before) <= SETTLED * seconds and spent >= LEAST_S
            if settled or spent >= most_s or (batch == 1 and seconds > LEAST_S):
                break
            before = seconds
        self.call_ns = max(1.0, seconds / batch * 1e9)

    def _visited(self, after: int) -> np.ndarray:
        """Which copies `loops` calls will come by, from the first on."""
        return np.arange(min(self.loops, len(self.copies)))

    # Memory

    def _must_fit(self, count: int) -> None:
        import cupy

        free = int(cupy.cuda.Device().mem_info[0])
        needed = sum(Slots.bytes(array, count) for array in (self.a, self.b, self.c))
        needed += plans.beside(self.problem, gpu.l2_bytes() if self.cold else 0, self.large)
        if needed > SHARE * free:
            raise TooLarge(
                f"{self.problem} takes {needed / 2**30:.1f} GiB on the device in {count} copies, and "
                f"{free / 2**30:.1f} GiB are free there; use smaller sizes or fewer kernels at once"
            )

    def _poison(self, bits: Any) -> None:
        """C as it is before a sample: NaN, or where beta is not 0 what the problem starts from."""
        if self.start is None:
            bits[...] = nan_bits(self.c.dtype)
        else:
            bits[...] = self.start

    def _negate(self, at: int, row: tuple[int, ...]) -> None:
        """Turn the sign of a row of A."""
        part = self.slots["a"].bits[(at, *row)]
        part ^= device_rules.sign_bit(self.a.dtype)

    def _prepare(self, a: Any, b: Any, c: Any) -> Call:
        scalars = self._scalars() | {"epilogue": self.epilogue_there}
        return gemm.prepare(a, b, c, kernel=self.kernel, **scalars)

    # Right or wrong

    def _verify_first(self) -> float:
        """Rule 1 for the whole of the first copy's C: its error ratio."""
        right = self.right
        if self.large:
            ratio = device_rules.error_ratio(self.slots["c"].all[0], right)
            if isfinite(ratio) and ratio <= self.kernel.error_constant:
                return ratio
        return self._allowed(error_ratio(self._fetched(0), right))

    def _verify_all_rules(self) -> None:
        """Rules 2 and 3; where the device finds anything, the host has the last word."""
        if self.large and self.problem.batch == 1:
            plain = replace(self.problem, alpha=1.0, beta=0.0, epilogue=None)
            if device_rules.exact(self.kernel, plain):
                return
        self.verify_exact()

    def _verify_same(self, at: int) -> float:
        """A copy's C against the verified one; where they differ, by rule 1."""
        if bool((self.c_bits[at] == self.verified).all()):
            return 0.0
        with self.manners.alone():
            return self._allowed(error_ratio(self._fetched(at), self.right), " in a timed result")

    def _verify_row(self, at: int, row: tuple[int, ...]) -> float:
        """The same after calls with one row of A negated: the other rows as before, that row with its sign turned.

        Where sums are not symmetrical (an epilogue, a beta), or some element differs, by rule 1 with the changed A.
        """
        same = self.c_bits[at] == self.verified
        same[row] = True
        others = bool(same.all())
        if others and self.problem.beta == 0 and self.epilogue is None:
            now, before = (
                device_rules.wide(bits[row], self.c.dtype) for bits in (self.c_bits[at], self.verified)
            )
            if bool((now == -before).all()):
                return 0.0
        c = self._fetched(at)
        with self.manners.alone():
            if (
                others and self.epilogue is None and self.problem.beta == 0
            ):  # the reference's sign turns as well
                right = Reference(-self.right.c[row][None], self.right.bound[row][None])
                return self._allowed(error_ratio(c[row][None], right), " in a timed result")
            if others and self.epilogue is None:
                b = self.b[row[:-1]]
                right = self._reference(-self.a[row][None], b, self.c0[row][None])
                return self._allowed(error_ratio(c[row][None], right), " in a timed result")
            a = self.a.copy()
            a[row] *= -1
            right = self._reference(a, self.b, self.c0)
            return self._allowed(error_ratio(c, right), " in a timed result")

    def _verify_around(self, looked_at: Iterable[int], changed: int | None) -> None:
        """That A, B and what lies around C are as they were. Raises Wrong."""
        for at in looked_at:
            for name in ("a", "b"):
                if not self.slots[name].untouched(at):
                    raise Wrong(changed_input(name.upper()))
            if not self.slots["c"].guarded(at):
                raise Wrong(OUTSIDE)

    def _fetched(self, at: int) -> np.ndarray:
        """A copy's C, on the host."""
        import cupy

        return cupy.asnumpy(self.c_bits[at]).view(self.c.dtype)


class HostDataProduct(Product):
    """A device kernel whose operands lie on the host: each call takes them there and C back (`--operands host`).

    seconds     of all of it, by the host's clock
    transfer_s  of the copies alone, timed apart in the same sample: A, B and C where it is read, and C back
    product_s   of the product alone, on arrays that are there already, by the device's clock
    """

    def open(self, sample_s: float) -> dict[str, Any]:
        import cupy

        opened = super().open(max(sample_s, SAMPLE_S))
        p = self.problem
        self.there = [cupy.asarray(array) for array in (self.a, self.b, self.c0)]
        epilogue = device_rules.epilogue_there(self.epilogue)
        self.product = gemm.prepare(
            *self.there, kernel=self.kernel, alpha=p.alpha, beta=p.beta, epilogue=epilogue
        )
        self.product()
        self.product_loops, _ = loops_for(self._product, SAMPLE_S / 5)
        self.transfer_loops, _ = loops_for(self._transfer, SAMPLE_S / 5)
        return opened

    def sample(self) -> dict[str, Any]:
        taken = super().sample()
        self._transfer(1)
        transfer = self._transfer(self.transfer_loops) / self.transfer_loops
        self._product(self.product_loops)
        if self.problem.beta != 0:
            self.there[2][...] = self._asarray(self.c0)
        product = self._product(self.product_loops) / self.product_loops
        # what another process of the host did meanwhile is on record with the whole; the device knows nothing of it
        return taken | {"transfer_s": transfer / 1e9, "product_s": product / 1e9} | gpu.now()

    def _product(self, calls: int) -> int:
        return clock([self.product] * calls)

    def _transfer(self, calls: int) -> int:
        """Nanoseconds of the host for what `gemm.contract` copies around a product, so many times."""
        import cupy

        begin = perf_counter_ns()
        for _ in range(calls):
            self._asarray(self.a), self._asarray(self.b)
            c = self._asarray(self.c0) if self.problem.beta != 0 else self.there[2]
            np.copyto(self.c, cupy.asnumpy(c))
        return perf_counter_ns() - begin

    @staticmethod
    def _asarray(array: np.ndarray) -> Any:
        import cupy

        return cupy.asarray(array)


class Gauge:
    """What the device was doing, read once while it works."""

    seen: dict[str, Any]

    def read(self) -> None:
        self.seen = gpu.now()


def clock(calls: Iterable[Call], gauge: Gauge | None = None) -> int:
    """Nanoseconds that the device takes for these calls, one after the other on the current stream."""
    import cupy

    begin, end = cupy.cuda.Event(), cupy.cuda.Event()
    begin.record()
    for call in calls:
        call()
    end.record()
    if gauge is not None:
        gauge.read()  # the device still works, most of the time
    end.synchronize()
    return max(1, int(cupy.cuda.get_elapsed_time(begin, end) * 1e6))


@cache
def overhead(kernel: str, dtype: str) -> float:
    """Seconds of a prepared call on a 1 x 1 x 1 product, launch included: what a call costs beside arithmetic."""
    a, b, c = operands(Problem(1, 1, 1, dtype))
    call = gemm.prepare(a, b, c, kernel=kernel)
    clock([call] * 10)
    return min(clock([call] * OVERHEAD_CALLS) for _ in range(5)) / 1e9 / OVERHEAD_CALLS


def pilot(kernel: str, problem: Problem) -> float:
    """Seconds that a call on the problem is likely to take on the device; see `bench.timing.subjects.pilot`."""
    manners()  # as they are before the kernel's first call
    load(kernel, problem)
    best, size = float("inf"), PILOT
    while True:
        small = replace(problem, **{name: min(getattr(problem, name), size) for name in ("m", "n", "k")})
        call = gemm.prepare(*operands(small), kernel=kernel, alpha=problem.alpha, beta=problem.beta)
        call()
        seconds = min(clock([call]) for _ in range(3)) / 1e9
        best = min(best, seconds * problem.flops / small.flops)
        if seconds > PILOT_S or small.flops == problem.flops:
            return best
        size *= 2


def operands(problem: Problem) -> tuple[Any, Any, Any]:
    """A, B and C on the device, in the problem's orders, of some ordinary numbers repeated: for a look at a time."""
    import cupy

    p = problem
    rng = np.random.default_rng(0)
    stack = (p.batch,) if p.batch > 1 else ()
    made = []
    for (rows, columns), op in (((p.m, p.k), p.op_a), ((p.k, p.n), p.op_b), ((p.m, p.n), "n")):
        shape = (rows, columns) if op == "n" else (columns, rows)
        some = rng.standard_normal(min(rows * columns, LARGE), np.float32)
        dtype = named(p.dtype)
        bits = cupy.asarray(some.astype(dtype).view(bits_of(dtype)))
        there = cupy.resize(bits, rows * columns * p.batch).reshape(*stack, *shape).view(dtype)
        made.append(there if op == "n" else there.swapaxes(-1, -2))
    a, b, c = made
    return a, b, c
