"""Bounds: what names a cell's bound, and that only the impossible is called so."""

import math
from time import perf_counter

import numpy as np
import pytest

import gemm
from bench.host.environment import cache_instances, caches
from bench.timing.ceilings import Ceiling, names
from bench.verdicts.bounds import TOLERANCE, bandwidths, bound, home, impossible, sentence
from gemm.threads import get_threads, set_threads

KiB, MiB = 1 << 10, 1 << 20
CACHES = {"L1d": 32 * KiB, "L2": MiB, "L3": 32 * MiB}
RATES = bandwidths(
    {
        "fma": 1e11,
        **{f"l1-{kind}": rate for kind, rate in (("read", 2e11), ("write", 1e11), ("copy", 2e11))},
        **{f"{level}-{kind}": rate for level, rate in (("l2", 1e11), ("l3", 8e10), ("dram", 2e10))
           for kind in ("read", "write", "copy")},
    }
)  # fmt: skip
PEAK = 1e11


def of(flops, size, seconds, overhead_s=1e-7, threads=1, **more):
    """The bound of a call that moves its working set once."""
    return bound(flops, size, size, seconds, overhead_s, PEAK, RATES, CACHES, threads, **more)


def refused(flops, size, seconds, threads=1, **more):
    """The reason, or None, for a call that moves its working set once."""
    return impossible(flops, size, size, seconds, PEAK, RATES, CACHES, threads, **more)


def test_ceilings_become_levels_and_kinds():
    """What is no bandwidth is left out."""
    assert set(RATES) == {"L1", "L2", "L3", "DRAM"}
    assert RATES["L1"] == {"read": 2e11, "write": 1e11, "copy": 2e11}


def test_the_largest_share_names_the_bound():
    """Arithmetic, bandwidth and overhead, each where it alone takes most of the time."""
    assert of(2e9, 12 * MiB, 0.024) == {
        "by": "arithmetic",
        "level": "L3",
        "shares": {"arithmetic": pytest.approx(0.8333, rel=1e-3), "bandwidth": pytest.approx(0.00655, rel=1e-2),
                   "overhead": pytest.approx(1e-7 / 0.024)},
    }  # fmt: skip
    assert of(2e6, 64 * MiB, 64 * MiB / 1.6e10)["by"] == "bandwidth"
    assert of(2e3, 600, 2e-7)["by"] == "overhead"


def test_below_a_third_of_everything_the_kernel_itself_is_what_it_costs():
    """Python's loops: neither the machine nor the call is what they wait for."""
    assert of(2e6, 12 * KiB, 1.0)["by"] == "itself"
    assert of(1e9, 12 * KiB, 0.03)["by"] == "arithmetic"  # a third, exactly
    assert of(0.99e9, 12 * KiB, 0.03)["by"] == "itself"


def test_the_level_is_the_fastest_that_holds_the_working_set():
    """Private caches count once for each thread; cold operands lie in memory, whatever their size."""
    sizes = {20 * KiB: "L1", 40 * KiB: "L2", 2 * MiB: "L3", 34 * MiB: "DRAM"}
    assert {size: home(size, CACHES, 1) for size in sizes} == sizes
    assert home(32 * MiB + 8 * KiB, CACHES, 1) == "L3"  # with L2's help
    assert home(40 * KiB, CACHES, 2) == "L1"
    assert home(2 * MiB, CACHES, 2) == "L2"
    assert home(50 * MiB, CACHES, 8) == "DRAM"  # one last cache, unless somebody says more
    assert home(50 * MiB, CACHES, 8, {"L3": 2}) == "L3"
    assert home(50 * MiB, CACHES, 1, {"L3": 2}) == "DRAM"  # one thread uses one of them
    assert home(1, {}, 1) is None
    assert of(1e6, 20 * KiB, 1e-5, cold=True)["level"] == "DRAM"


def test_stores_count_at_the_rates_of_stores():
    """As much as can be is a copy, the rest is read or written."""
    read, written = of(0, 20 * KiB, 1.0), of(0, 20 * KiB, 1.0, written=20 * KiB)
    assert written["shares"]["bandwidth"] == pytest.approx(2 * read["shares"]["bandwidth"])
    mixed = of(0, 30 * KiB, 1.0, written=10 * KiB)["shares"]["bandwidth"]
    assert mixed == pytest.approx(20 * KiB / 2e11 + 10 * KiB / 2e11)


def test_what_was_not_measured_has_no_share():
    """And does not name the bound."""
    found = bound(2e9, MiB, MiB, 0.02, None, math.nan, {}, CACHES, 1)
    assert found == {
        "by": "itself",
        "level": "L2",
        "shares": {"arithmetic": None, "bandwidth": None, "overhead": None},
    }
    assert sentence(found) == "its own instructions"


def test_every_bound_is_said_in_words():
    """With the figure; never more than all of the time."""
    assert sentence(of(2e9, MiB, 0.024)) == (
        "arithmetic: 83 % of its time is what the multiply-adds alone need"
    )
    assert sentence(of(2e6, 64 * MiB, 1e-4)).startswith("bandwidth of DRAM: 100 % of its time")
    assert sentence(of(2e3, 600, 2e-7)).startswith("call overhead: 50 % of its time")
    assert "more than 0 % of its time" in sentence(of(2e3, 600, 1.0))


def test_a_rate_above_the_peak_is_impossible():
    """Beyond the tolerance; the sentence says which ceiling and by how much."""
    assert refused(1e9, KiB, 1e9 / (TOLERANCE * PEAK)) is None
    reason = refused(1e9, KiB, 1e9 / (1.2 * PEAK))
    assert reason == ("its rate of 120 GFLOP/s is 1.20 times the measured multiply-add peak of 100 GFLOP/s")


def test_bytes_that_no_level_could_have_brought_are_impossible():
    """Above L1's rate in any case; above a farther level's by what the nearer ones cannot hold."""
    assert refused(1, 20 * KiB, 20 * KiB / (1.04 * 2e11)) is None
    assert "bandwidth of L1" in refused(1, 20 * KiB, 20 * KiB / (1.1 * 2e11))
    # 128 MiB: all caches hold 33.03 MiB, so at least 94.97 of 128 come from memory
    allowed = 2e10 * 128 / (128 - 33 - 1 / 32)
    assert refused(1, 128 * MiB, 128 * MiB / (1.04 * allowed)) is None
    reason = refused(1, 128 * MiB, 128 * MiB / (1.5 * allowed))
    assert "1.50 times" in reason
    assert "bandwidth of DRAM" in reason
    assert "74 % of its bytes" in reason


def test_the_bound_is_generous_where_caches_could_have_helped():
    """A little more than the caches hold may come almost all from them."""
    assert refused(1, 34 * MiB, 34 * MiB / 7.9e10) is None
    assert refused(1, 34 * MiB, 34 * MiB / 7.9e10, threads=2) is None
    assert refused(1, 128 * MiB, 128 * MiB / 7e10) is not None
    assert refused(1, 128 * MiB, 128 * MiB / 7e10, threads=4) is None  # perhaps four last caches
    assert refused(1, 128 * MiB, 128 * MiB / 7e10, threads=4, instances={"L3": 1}) is not None
    assert refused(1, 128 * MiB, 128 * MiB / 7e10, instances={"L3": 4}) is None  # a thread may wander


def test_a_level_measured_slower_than_a_farther_one_was_measured_badly():
    """The faster figure holds for both."""
    disturbed = RATES | {"L2": {"read": 1e9}}
    seconds = 512 * KiB / 7e10
    assert impossible(1, 512 * KiB, 512 * KiB, seconds, PEAK, disturbed, CACHES, 1) is None


def test_cold_operands_come_from_memory():
    """At least half of them: a cache may keep some of what rotates through it."""
    assert refused(1, 100 * KiB, 100 * KiB / 3.9e10, cold=True) is None
    assert "bandwidth of DRAM" in refused(1, 100 * KiB, 100 * KiB / 5e10, cold=True)
    assert refused(1, 100 * KiB, 100 * KiB / 5e10) is None


def test_what_is_unknown_is_not_held_against_anybody():
    """No caches known, or a level that was not measured."""
    fast = 20 * KiB / 1.9e11
    assert impossible(1, 20 * KiB, 20 * KiB, fast, PEAK, {"DRAM": {"read": 2e10}}, {}, 1) is None
    without = {level: rates for level, rates in RATES.items() if level != "L1"}
    assert impossible(1, 20 * KiB, 20 * KiB, fast, PEAK, without, CACHES, 1) is None
    assert impossible(1e9, 1, 1, 1e-5, math.nan, {}, CACHES, 1) is None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nothing_honest_is_impossible(dtype):
    """BLAS on one thread, where it is fastest: squares, matrix times vector, dot products, thin operands."""
    before, size = get_threads(), np.dtype(dtype).itemsize
    squares = [(n, n, n) for n in (8, 16, 32, 64, 96, 128, 256, 512)]
    thin = [(2048, 1, 2048), (1, 2048, 2048), (2048, 2048, 1), (1, 1, 10**6), (1, 1, 4000), (4096, 8, 4096)]
    best: dict = {}
    set_threads(1)
    try:
        ceilings = {name: Ceiling(name, dtype, 1, caches()) for name in names(caches())}
        rates = dict.fromkeys(ceilings, 0.0)
        for _ in range(3):  # in turn: a machine that others share is not always as fast
            for name, ceiling in ceilings.items():
                samples = [ceiling.sample() for _ in range(3)]
                rates[name] = max(rates[name], *(work / seconds for seconds, work in samples))
            for m, n, k in squares + thin:
                a, b, c = (np.ones(shape, dtype) for shape in ((m, k), (k, n), (m, n)))
                call = gemm.prepare(a, b, c, kernel="blas")
                call()
                loops = max(1, 10**7 // (2 * m * n * k))
                start = perf_counter()
                for _ in range(loops):
                    call()
                seconds = (perf_counter() - start) / loops
                best[m, n, k] = min(best.get((m, n, k), math.inf), seconds)
    finally:
        set_threads(before)
    for (m, n, k), seconds in best.items():
        moved = (m * k + k * n + m * n) * size
        reason = impossible(
            2 * m * n * k, moved, moved, seconds, rates["fma"], bandwidths(rates), caches(), 1,
            instances=cache_instances(),
        )  # fmt: skip
        assert reason is None, (m, n, k, reason)
