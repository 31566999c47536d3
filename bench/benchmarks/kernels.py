"""The kernels under pytest-benchmark, for people who live in pytest.

    pytest bench/benchmarks --benchmark-enable                             everything, a minute or two
    pytest bench/benchmarks --benchmark-enable -k "blas and 256"           a part of it

Every product is verified and then timed; kernel, dtype, threads, GFLOP/s, % of the FMA ceiling measured in this
session and error ratio stand in extra_info. All rounds are of one process and one kernel follows another: what
the lab's own sweeps do against that (kernels in turn, over launches, with intervals) is not to be had here. The
README has the commands that keep a baseline and fail on a regression.

A kernel on a GPU returns when its work is queued, and a plain clock would time the queueing. Its clock waits
for the device before it looks at the time: pytest-benchmark reads it before and after a round of calls, so a
round is the time in which the device did all of them, and the waiting costs once per round, not per call;
rounds of at least 5 ms make that less than a percent. (Events on the device would give the same between the
same two points; as a clock they would have to be read against one base event in float32 milliseconds, which
after two minutes has steps of 8 us.)
"""

from functools import cache, partial
from time import perf_counter

import numpy as np
import pytest

import gemm
from gemm.correctness import accumulator_of, error_ratio, reference
from gemm.problems import DTYPES, Problem
from gemm.threads import available_cores

# Sizes up to which a kernel is worth waiting for.
LARGEST = {"python": 32, "numpy-dot": 64, "numba-ijk": 256}
SIZES = (32, 64, 256, 512)
# On a device those at which it has something to do.
DEVICE_SIZES = (512, 2048, 4096)
THREADS = sorted({1, available_cores()})
# Above this share of the ceiling it is the ceiling that was disturbed, and no share is given.
IMPOSSIBLE = 1.05
# Seconds that a device works before it is timed: its clock rises with load.
WARM_S = 0.3


def device_clock():
    """Seconds, once the device has done all that it was given."""
    import cupy

    cupy.cuda.get_current_stream().synchronize()
    return perf_counter()


def cases():
    """Every available kernel of the ladder at the sizes and thread counts that suit it, with its clock."""
    for kernel in gemm.kernels():
        if kernel.peer or not kernel.available or kernel.device not in ("cpu", "cuda"):
            continue
        on_device = kernel.device == "cuda"
        clock = {"timer": device_clock, "min_time": 0.005} if on_device else {"min_time": 0.0005}
        for n in DEVICE_SIZES if on_device else SIZES:
            for threads in (1,) if on_device else THREADS:
                if n <= LARGEST.get(kernel.name, n):
                    name = f"{kernel.name}-{n}-{threads}-thread{'s' if threads > 1 else ''}"
                    marks = pytest.mark.benchmark(max_time=0.5, **clock)
                    for dtype in filter(kernel.signature, DTYPES):
                        yield pytest.param(kernel.name, n, threads, dtype, id=f"{name}-{dtype}", marks=marks)


@pytest.fixture
def threads(request):
    """As many threads in every pool of this process as the case says."""
    before = gemm.get_threads()
    gemm.set_threads(request.param)
    yield request.param
    gemm.set_threads(before)


@pytest.fixture(scope="session")
def peak():
    """(dtype, threads) -> FLOP/s of fused multiply-adds: the best sample so far, five more taken at each call."""
    from bench.host.environment import caches
    from bench.timing.ceilings import Ceiling

    ceiling = cache(partial(Ceiling, "fma", caches=caches()))
    best: dict = {}

    def measured(*at):
        samples = [ceiling(*at).sample() for _ in range(5)]
        best[at] = max(best.get(at, 0.0), *(work / seconds for seconds, work in samples))
        return best[at]

    return measured


@pytest.mark.parametrize(("kernel", "n", "threads", "dtype"), list(cases()), indirect=["threads"])
def test_kernel(benchmark, peak, kernel, n, threads, dtype):
    """A prepared product of two n x n matrices: verified, timed, and verified again."""
    kernel, problem = gemm.get(kernel), Problem(n, n, n, dtype)
    a, b, c = problem.operands()
    accumulator = accumulator_of(kernel.signature(dtype), dtype)
    right = reference(a, b, accumulator=accumulator, multiplies=kernel.multiplies)
    where = f"{threads} thread{'s' if threads > 1 else ''}"
    on_device = kernel.device == "cuda"
    if on_device:
        import cupy

        where = "GPU"
        a, b, c = (cupy.asarray(operand) for operand in (a, b, c))
    call = gemm.prepare(a, b, c, kernel=kernel.name)

    def wrongness():
        return error_ratio(cupy.asnumpy(c) if on_device else c, right)

    call()
    assert wrongness() <= kernel.error_constant
    c[...] = np.nan
    until = perf_counter() + WARM_S
    while on_device and benchmark.enabled and device_clock() < until:
        call()
    benchmark.group = f"n = {n}, {dtype}, {where}"
    benchmark(call)
    worst = wrongness()
    assert worst <= kernel.error_constant
    if benchmark.enabled:
        rate = problem.flops / benchmark.stats.stats.median
        # of a GPU no ceiling is measured here
        share = float("nan") if on_device else rate / peak(dtype, threads)
        benchmark.extra_info |= {
            "kernel": kernel.name,
            "dtype": dtype,
            "threads": None if on_device else threads,
            "gflops": rate / 1e9,
            "percent_of_peak": 100 * share if share <= IMPOSSIBLE else None,
            "error_ratio": worst,
        }
