"""Ceilings: every level's bandwidth and the multiply-add rate, each of them plausible on any machine."""

from statistics import median

import numpy as np
import pytest

from bench.host.environment import caches, last_cache, stream_size
from bench.plans.plan import ceiling_memory
from bench.timing import ceilings
from bench.timing.ceilings import KINDS, Ceiling, names, vector_widths
from gemm.problems import DTYPES


def rate(name, threads=1, dtype="float32"):
    """The median of three samples."""
    ceiling = Ceiling(name, dtype, threads, caches())
    return median(work / seconds for seconds, work in (ceiling.sample() for _ in range(3)))


def test_the_levels_follow_the_caches_and_memory_is_always_there():
    """A level that the system does not tell is left out."""
    assert names({}) == ("fma", "dram-read", "dram-write", "dram-copy")
    assert names({"L3": 1 << 20, "L1d": 1 << 15})[1:7] == (
        "l1-read", "l1-write", "l1-copy", "l3-read", "l3-write", "l3-copy",
    )  # fmt: skip


@pytest.mark.parametrize("name", [name for name in names(caches()) if name != "fma"])
@pytest.mark.parametrize("threads", [1, 2])
def test_every_bandwidth_is_one(name, threads):
    """Above 0.1 GB/s, below what any machine has, and timed over more than the clock's noise."""
    ceiling = Ceiling(name, "float32", threads, caches())
    seconds, work = ceiling.sample()
    assert ceiling.unit == "B"
    assert 1e-4 < seconds < 10
    assert 1e8 < work / seconds < threads * 1e12


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_multiply_adds_are_flops_of_their_dtype(dtype):
    """More than a twentieth of a FLOP per nanosecond, and finite."""
    assert Ceiling("fma", dtype, 1, caches()).unit == "FLOP"
    assert 5e8 < rate("fma", dtype=dtype) < 1e13


@pytest.mark.parametrize("kind", KINDS)
def test_no_cache_is_far_slower_than_memory(kind):
    """The nearest cache against DRAM, with room for a busy machine: a pass that is hoisted shows above."""
    known = [name for name in names(caches()) if name.endswith(kind)]
    assert rate(known[0]) > 0.1 * rate(known[-1])


@pytest.mark.parametrize("bits", vector_widths())
def test_a_pass_does_what_it_is_counted_for(bits):
    """A write reaches every byte of its part and none beside it; a copy copies; a read reads all."""
    run = ceilings._pass_runner(bits)
    step = ceilings.VECTORS * bits // 8
    size, out = 3 * step, np.zeros(1, np.intp)
    raw = np.random.default_rng(0).integers(0, 256, 4 * size + 64, np.uint8)
    memory = raw[-raw.ctypes.data % 64 :][: 4 * size]
    address = memory.ctypes.data
    before = memory.copy()
    read, write, copy = range(len(KINDS))
    run(copy, address, address + 2 * size, size, 1, out)
    assert np.array_equal(memory[2 * size : 3 * size], before[:size])
    memory[2 * size : 3 * size] = before[2 * size : 3 * size]
    assert np.array_equal(memory, before)
    run(write, address, address + size, size, 1, out)
    assert np.array_equal(memory[:size], before[:size])
    assert np.array_equal(memory[2 * size :], before[2 * size :])
    assert set(memory[size : 2 * size].view(np.int64)) == set(range(1, ceilings.VECTORS + 1))
    run(read, address, address, size, 1, out)
    # every chain begins with its number in each of an even number of lanes, which cancel
    assert out[0] == np.bitwise_xor.reduce(memory[:size].view(np.int64))


def test_a_buffer_lies_outside_the_level_before_and_within_its_own(monkeypatch):
    """For one thread and for many that share the last level."""
    levels = {"L1d": 32 << 10, "L2": 1 << 20, "L3": 32 << 20}
    monkeypatch.setattr(ceilings, "cache_instances", lambda: {"L1d": 8, "L2": 8, "L3": 1})
    for threads in (1, 2, 8):
        one, two, three = (ceilings._part(level, threads, levels) for level in ("l1", "l2", "l3"))
        assert one <= levels["L1d"] / 2
        assert 1.5 * levels["L1d"] <= two <= levels["L2"] / 2
        assert 1.5 * levels["L2"] <= three
        assert three * threads <= levels["L3"] / 2
    assert ceilings._part("l2", 16, levels) < ceilings._part("l2", 8, levels)  # two threads to a core
    monkeypatch.setattr(ceilings, "cache_instances", lambda: {"L1d": 64, "L2": 64, "L3": 1})
    assert ceilings._part("l3", 64, levels) == 1.5 * levels["L2"]  # less of L3 to each than it has of L2
    assert ceilings._part("dram", 1, levels) is None


def test_all_ceilings_of_a_process_share_one_buffer_of_the_size_that_plans_count_on():
    """Else a plan that fits would not."""
    first, second = (Ceiling(name, "float32", 1, caches()) for name in ("dram-copy", "dram-read"))
    assert first._memory is second._memory
    assert first._memory.nbytes == ceiling_memory() == stream_size(last_cache())
    assert first._memory.ctypes.data % ceilings.PAGE == 0


def test_an_unknown_ceiling_is_refused_by_name():
    """With those there are."""
    with pytest.raises(ValueError, match="unknown ceiling 'l7-read'; there are fma"):
        Ceiling("l7-read", "float32", 1, caches())
