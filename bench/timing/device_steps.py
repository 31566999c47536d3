"""Device steps: training steps on a GPU, by the device's own clock, operation by operation, and steps of others there.

A step is put on the stream and not waited for, as a training does it. Around every operation of an instrumented step an
event is recorded; all are read when the sample is over, so that nothing between two operations waits. A row is the time
from the event before it to the one behind: the rows add up to the step, and where the device waits for the host's next
launch, that is in the row that was launched late. Verified as steps on the host are, but of large products some rows:
the host would take minutes for all. Written without a GPU at hand, and not yet run on one.
"""

from __future__ import annotations

import gc
from dataclasses import replace
from functools import partial
from itertools import repeat
from math import ceil
from time import perf_counter_ns
from typing import Any

import numpy as np

import gemm
import mlp
from bench.host import gpu
from bench.timing import device_rules
from bench.timing.device import BATCH_S, FIRST_S, LARGE, LEAST_S, MOST_S, SAMPLE_S, SETTLED, clock
from bench.timing.manners import manners
from bench.timing.subjects import PeerStep, TrainingStep, Wrong, loops_for, settle, start_all
from gemm.correctness import accumulator_of, error_ratio, reference
from gemm.epilogue import Epilogue
from gemm.problems import Problem
from mlp.devices import host
from mlp.layers import Product

# Rows of a large product that a sample verifies: the first, the last, and others drawn.
ROWS = 32


class Timeline(mlp.Recorder):
    """A recorder for steps on a device: events, read after the last of them."""

    def __init__(self) -> None:
        self._events: list[Any] = []
        self._used = 0
        self._steps: list[tuple[int, list[mlp.Operation]]] = []  # its first event, its operations

    def step(self, step: Any) -> None:
        """Record a step: step(recorder)."""
        self._steps.append((self._used, []))
        self._mark()
        step(self)
        self._mark()

    def end(self, operation: mlp.Operation) -> None:
        self._steps[-1][1].append(operation)
        self._mark()

    def _mark(self) -> None:
        import cupy

        if self._used == len(self._events):
            self._events.append(cupy.cuda.Event())
        self._events[self._used].record()
        self._used += 1

    def read(self) -> tuple[float, dict[str, float], dict[str, mlp.Operation]]:
        """Seconds of all steps, those of each operation by its id, and the operations; events are used again then."""
        import cupy

        if self._used:
            self._events[self._used - 1].synchronize()

        def seconds(first: int, behind: int) -> float:
            events = self._events
            return float(cupy.cuda.get_elapsed_time(events[first], events[behind])) / 1e3

        total = 0.0
        spent: dict[str, float] = {}
        operations: dict[str, mlp.Operation] = {}
        for first, done in self._steps:
            total += seconds(first, first + len(done) + 1)
            for at, operation in enumerate(done, start=first):
                spent[operation.id] = spent.get(operation.id, 0.0) + seconds(at, at + 1)
                operations[operation.id] = operation
        self._steps.clear()
        self._used = 0
        return total, spent, operations


class _Warm:
    """A step that is called until its time settles: an idle device's clock is a fraction of its highest."""

    step: Any
    loops: int

    def _spend(self, steps: int) -> int:
        return clock(repeat(self.step, steps))

    def _warm(self, most_s: float, each_s: float) -> None:
        batch, spent, before = max(1, ceil(BATCH_S / each_s)), 0.0, 0.0
        while spent < most_s:
            seconds = self._spend(batch) / 1e9
            spent += seconds
            if abs(seconds - before) <= SETTLED * seconds and spent >= LEAST_S:
                return
            before = seconds


class DeviceStep(_Warm, TrainingStep):
    """One training step of a model on a GPU; x and y lie there."""

    def __init__(self, kernel: str, model: dict[str, Any], seed: int) -> None:
        super().__init__(kernel, model, seed)
        self.x, self.y = (self.model.device.put(array) for array in (self.x, self.y.astype(np.int64)))
        self.step = partial(self.model.step, self.x, self.y)

    def verify(self) -> tuple[float, float]:
        """Every product of a step by all three rules: seconds of the first step, and the largest error ratio."""
        loading = self.importing_s + start_all(self.model, len(self.x))
        begin = perf_counter_ns()
        self.step()
        self.model.device.wait()
        first = loading + (self.building_ns + perf_counter_ns() - begin) / 1e9
        worst = self._verify()
        self._verify_exact()
        return first, worst

    def open(self, sample_s: float) -> dict[str, Any]:
        """Verify, warm up, then calibrate. Raises Wrong, Meddled."""
        first, worst = self.verify()
        self._warm(FIRST_S, self._spend(1) / 1e9)
        self.loops, self.seconds = loops_for(self._spend, max(sample_s, SAMPLE_S))
        operations = self.model.operations(len(self.x))
        self.manners.check(libraries=True)
        settle()
        return {
            "first_call_s": first, "error_ratio": worst, "seconds": self.seconds, "loops": self.loops,
            "flops": sum(operation.flops for operation in operations),
            "bytes": sum(operation.bytes for operation in operations),
        }  # fmt: skip

    def sample(self) -> dict[str, Any]:
        """Steps without and with the recorder, in pairs of random order; seconds per step, by operation too."""
        timeline, plain = Timeline(), Timeline()
        instrumented = partial(self.model.step, self.x, self.y)
        gc.collect()
        gc.disable()
        self._warm(MOST_S, self.seconds)
        for first in self.rng.random(self.loops) < 0.5:
            for recorded in (bool(first), not first):
                if recorded:
                    timeline.step(lambda recorder: instrumented(recorder=recorder))
                else:
                    plain.step(lambda recorder: self.step())
        seen = gpu.now()  # the device still works, most of the time
        without, _, _ = plain.read()
        total, spent, operations = timeline.read()
        gc.enable()
        self.manners.check()
        return {
            "loops": self.loops,
            "seconds": without / self.loops,
            "instrumented_seconds": total / self.loops,
            "layers": [self._row(operations[at], round(seconds * 1e9)) for at, seconds in spent.items()],
            "error_ratio": self._verify(),
        } | seen

    def _verify_exact(self) -> None:
        """Rules 2 and 3 for each distinct product of the step, at its shape and in its order; large ones there."""
        rest = []
        for operation in dict.fromkeys(self.model.operations(len(self.x))):
            if operation.kernel is None or operation.m is None or operation.n is None or operation.k is None:
                continue
            problem = Problem(operation.m, operation.n, operation.k, self.model.dtype.name, *operation.order)
            large = max(problem.m * problem.k, problem.k * problem.n, problem.m * problem.n) > LARGE
            if not (large and device_rules.exact(gemm.find(operation.kernel), problem)):
                rest.append(operation)
        self._verify_exactly(rest)

    def _verify(self) -> float:
        """Rule 1 on every product of one step, each checked when it has just been done; of large ones, some rows."""
        plan, verifier = self.model.plan(len(self.x)), _Verifier(self)
        verifier.plan = plan
        loss = float(self.model.step(self.x, self.y, recorder=verifier))
        if not np.isfinite(loss):
            raise Wrong(f"the loss became {loss}: arithmetic on NaN takes another time; try a smaller lr")
        return verifier.worst


class _Verifier(mlp.Recorder):
    """Copies what is multiplied to the host, and judges there."""

    plan: mlp.Plan

    def __init__(self, subject: DeviceStep) -> None:
        self.worst, self._rng, self._alone = 0.0, subject.rng, subject.manners.alone

    def begin(self, operation: mlp.Operation) -> None:
        self.products = self.plan.products(operation)
        self.before = [host(one.out).copy() if one.beta else None for one in self.products]

    def end(self, operation: mlp.Operation) -> None:
        if operation.kernel is None:
            return
        kernel = gemm.find(operation.kernel)
        for product, before in zip(self.products, self.before):
            rows = self._rows(product)
            out = host(product.out)[rows]
            with self._alone():
                right = reference(
                    host(product.a)[rows], host(product.b), None if before is None else before[rows],
                    alpha=product.alpha, beta=product.beta, epilogue=_of_rows(product.epilogue, rows),
                    accumulator=accumulator_of(kernel.signature(out.dtype), out.dtype.name),
                    multiplies=kernel.multiplies,
                )  # fmt: skip
            ratio = error_ratio(out, right)
            if not ratio <= kernel.error_constant:
                what = f"{operation.id} has error ratio {ratio:.3g}: off by more than rounding allows"
                raise Wrong(what, ratio)
            self.worst = max(self.worst, ratio)

    def _rows(self, product: Product) -> Any:
        """All rows of C, or of a large product the first, the last and some between."""
        count, numbers = len(product.out), product.a.size + product.b.size + product.out.size
        if numbers <= LARGE or count <= ROWS:
            return slice(None)
        return np.unique([0, count - 1, *self._rng.integers(0, count, ROWS - 2)])


def _of_rows(epilogue: Epilogue | None, rows: Any) -> Epilogue | None:
    """An epilogue on the host, for some rows of C; what it keeps is not looked at."""
    if epilogue is None:
        return None
    bias, aux_in = (None if x is None else host(x) for x in (epilogue.bias, epilogue.aux_in))
    return replace(epilogue, bias=bias, aux_in=None if aux_in is None else aux_in[rows], aux_out=None)


class DevicePeerStep(_Warm, PeerStep):
    """The same step in somebody else's library on the same card: a step returns its loss there, nobody waits for it."""

    def open(self, sample_s: float) -> dict[str, Any]:
        opened = super().open(max(sample_s, SAMPLE_S))
        self._warm(FIRST_S, opened["seconds"])
        self.loops, self.seconds = loops_for(self._spend, max(sample_s, SAMPLE_S))
        return opened | {"loops": self.loops, "seconds": self.seconds}

    def sample(self) -> dict[str, Any]:
        """Steps; seconds of one, by the device's clock."""
        gc.collect()
        gc.disable()
        self._warm(MOST_S, self.seconds)
        spent = self._spend(self.loops)
        seen = gpu.now()
        gc.enable()
        self.manners.check()
        return {"loops": self.loops, "seconds": spent / 1e9 / self.loops, "layers": []} | seen

    def _spend(self, steps: int) -> int:
        return self.peer.clock(self.step, steps)


def step_of(kernel: str, model: dict[str, Any], seed: int) -> Any:
    """The subject of a step on a device."""
    from bench.peers import is_peer

    manners()  # as they are before anything is imported
    return (DevicePeerStep if is_peer(kernel) else DeviceStep)(kernel, model, seed)
