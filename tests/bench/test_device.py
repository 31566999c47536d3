"""A product on a device is timed by the device's clock, on operands that rotate, and nothing wrong passes; no GPU."""

import functools
import math
from pathlib import Path

import numpy as np
import pytest

from bench.host import gpu
from bench.plans import device as plans
from bench.plans.plan import Cell
from bench.timing import device, device_rules, references
from bench.timing.subjects import Wrong
from gemm.guards import OUTSIDE, laid_out
from gemm.problems import Problem, lay_out
from tests.bench import device_clock, device_kernels
from tests.stand_in import memory, modules

HERE = Path(__file__).parent


L2_BYTES = 1 << 16


@pytest.fixture
def cupy(monkeypatch):
    """The stand-in, whose events read a clock that kernels move on, with a small cache and some memory."""
    caches = (gpu.facts, gpu._nvml, device.overhead)
    monkeypatch.setattr(memory.Event, "_now", device_clock.now)
    monkeypatch.setitem(modules.PROPERTIES, "l2CacheSize", L2_BYTES)
    for cached in caches:
        cached.cache_clear()
    with modules.installed() as stand_in:
        yield stand_in
    for cached in caches:
        cached.cache_clear()


def product(kernel="RIGHT", cache="cold", **problem):
    problem = {"m": 12, "n": 10, "k": 14, "dtype": "float32"} | problem
    return device.DeviceProduct(f"{HERE / 'device_kernels.py'}:{kernel}", problem, seed=0, cache=cache)


def sampled(subject, times):
    for _ in range(times):
        subject.sample()


def test_a_call_takes_what_the_device_took(cupy):
    """By its events, not by the host's clock: 0.1 ms, whatever NumPy needs here."""
    subject = product()
    opened = subject.open(0.01)
    assert opened["seconds"] == pytest.approx(device_kernels.TAKES_S, rel=1e-3)
    assert 0 < opened["error_ratio"] <= 1
    sample = subject.sample()
    assert sample["seconds"] == pytest.approx(device_kernels.TAKES_S, rel=1e-3)
    assert sample["loops"] * sample["seconds"] >= 0.9 * device.SAMPLE_S
    assert not memory.QUEUE.waiting


def test_cold_copies_are_more_than_twice_the_cache_and_taken_in_turn(cupy):
    """Hot there is one. Copies lie apart, on lines of 256 bytes."""
    subject = product(m=16, n=16, k=16)
    opened = subject.open(0.001)
    assert opened["copies"] == plans.copies(subject.problem, L2_BYTES)
    assert opened["copies"] * subject.problem.bytes > 2 * L2_BYTES
    assert subject.loops % opened["copies"] == 0
    assert len({copy.c.data.ptr for copy in subject.copies}) == opened["copies"]
    assert product(cache="hot").open(0.001)["copies"] == 1


@pytest.mark.parametrize("op", ["n", "t"])
@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 16)])
def test_slots_hold_copies_and_know_what_was_touched(cupy, shape, op):
    """Each is the array, laid out like it; one that is written to, or beside, is not untouched any more."""
    array = lay_out(np.arange(math.prod(shape)).reshape(shape).astype("float32"), op)
    slots = device.Slots(array, 3)
    for at, copy in enumerate(slots.all):
        np.testing.assert_array_equal(copy.get(), array)
        assert copy.strides == array.strides
        assert copy.data.ptr % device.LINE == 0
        assert slots.untouched(at)
    slots.all[1][...] = 3
    assert [slots.untouched(at) for at in range(3)] == [True, False, True]
    assert slots.guarded(1)
    slots.rows[1][slots.guard - 1] = 0
    assert not slots.guarded(1)
    assert slots.guarded(0) is False, "the guard behind one is the guard before the next"
    assert slots.guarded(2)
    slots.memory[-1] = 0
    assert not slots.guarded(2)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("orders", ["nn", "tn", "nt", "tt"])
def test_orders_and_stacks_reach_the_kernel_as_strides(cupy, orders, batch):
    subject = product(op_a=orders[0], op_b=orders[1], batch=batch)
    subject.open(0.001)
    assert subject.copies[0].a.strides == subject.a.strides
    subject.sample()


def test_a_c_that_is_read_starts_anew(cupy):
    """Where beta is not 0 the loop adds up, and what is verified is a product from the start."""
    subject = product(alpha=0.5, beta=1.0)
    assert subject.open(0.001)["error_ratio"] <= 1
    assert subject.sample()["error_ratio"] <= 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("orders", ["nn", "tt"])
def test_operands_that_the_parent_has_kept_are_the_drawn_ones(cupy, monkeypatch, tmp_path, dtype, orders):
    """Laid out alike, with guards around them; nobody draws."""
    monkeypatch.setattr(references, "DRAWN", 1)
    problem = Problem(12, 10, 14, dtype, *orders)
    cell = Cell("cublas", 0, problem, device="cuda", operands="device")
    at = references.References(tmp_path, seed=3).path(cell)
    a, b, _ = problem.operands(3)
    monkeypatch.setattr(Problem, "operands", None)
    subject = device.DeviceProduct.__new__(device.DeviceProduct)
    subject.problem, subject.reference_at = problem, at
    for kept, drawn in zip(subject._operands(3), (a, b)):
        np.testing.assert_array_equal(kept, drawn)
        assert (kept.dtype, kept.strides) == (drawn.dtype, drawn.strides)
        assert laid_out(kept)


def test_references_stay_for_the_next_launch_as_long_as_there_is_room(monkeypatch, tmp_path):
    kept = references.References(tmp_path, seed=0)
    cells = [Cell("blas", 1, Problem(8, 8, size)) for size in (1, 2, 3)]
    first = [kept.path(cell) for cell in cells]
    assert [kept.path(cell) for cell in cells] == first
    monkeypatch.setattr(references, "KEPT", 2500)  # two of 1 KiB
    assert kept.path(Cell("blas", 1, Problem(8, 8, 4))) not in first
    assert sorted(path.name for path in tmp_path.glob("*-c.npy")) == [
        "reference-3-c.npy",
        "reference-4-c.npy",
    ]


def test_a_row_that_another_way_of_rounding_changed_is_judged_by_the_known_reference(cupy, monkeypatch):
    """The turned row may differ in its last bits; the host does not multiply for it."""
    subject = product()
    subject.open(0.001)
    subject._negate(0, (2,))
    subject.copies[0].call()
    c = subject.slots["c"].all[0]
    c[2] = c[2] * np.float32(1 + 2**-23)
    monkeypatch.setattr(subject, "_reference", None)
    assert 0 < subject._verify_row(0, (2,)) <= 1
    c[2] = c[2] * np.float32(1.01)
    with pytest.raises(Wrong, match="error ratio"):
        subject._verify_row(0, (2,))


def test_what_an_epilogue_needs_is_on_the_device(cupy):
    subject = product(epilogue="bias+relu")
    subject.open(0.001)
    assert subject.sample()["error_ratio"] <= 1


@pytest.mark.parametrize(
    ("kernel", "said"),
    [
        ("OUTSIDE", OUTSIDE),
        ("CHANGED", "changes its input B"),
        ("SHORT", "rounding|exact"),
        ("ROUNDED", "rounding|inputs rounded|exact"),
    ],
)
@pytest.mark.parametrize("large", [False, True])
def test_a_wrong_kernel_has_no_time(cupy, monkeypatch, kernel, said, large):
    """Whether the device or the host looks at it first."""
    monkeypatch.setattr(device, "LARGE", 10 if large else 1 << 20)
    with pytest.raises(Wrong, match=said.replace("(", r"\(").replace(")", r"\)")):
        product(kernel, m=40, n=44, k=48).open(0.001)


def test_a_kernel_that_remembers_is_found_in_its_samples(cupy):
    """A row of A is another one in each."""
    subject = product("REMEMBERS", cache="hot")
    subject.open(0.001)
    with pytest.raises(Wrong, match="in a timed result"):
        sampled(subject, 3)


def test_a_kernel_that_stops_writing_is_found(cupy):
    """C is full of NaN before every sample."""
    subject = product()
    subject.open(0.001)

    def nothing():
        device_clock.seconds += 1e-4

    subject.copies = [device.Operands(copy.a, copy.b, copy.c, nothing) for copy in subject.copies]
    with pytest.raises(Wrong, match="error ratio inf"):
        subject.sample()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("orders", ["nn", "tt"])
def test_the_rules_on_the_device_pass_what_is_right(cupy, dtype, orders):
    """So a large product needs no host; and they refuse what is a bit off."""
    problem = Problem(40, 36, 130, dtype, *orders)
    assert device_rules.exact(device_kernels.RIGHT, problem)
    assert not device_rules.exact(device_kernels.SHORT, problem)
    if dtype == "float32":
        assert not device_rules.exact(device_kernels.ROUNDED, problem)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize(("kernel", "dtype"), [("HALF", "float16"), ("SAYS_SO", "float32")])
def test_less_precision_is_right_where_it_is_said(cupy, monkeypatch, kernel, dtype, large):
    """16 bits, or operands that are rounded to TF32 by a kernel that says so: judged by what they hold."""
    monkeypatch.setattr(device, "LARGE", 10 if large else 1 << 20)
    refused = []
    monkeypatch.setattr(device.DeviceProduct, "verify_exact", lambda self: refused.append(self))
    subject = product(kernel, m=40, n=44, k=300, dtype=dtype)
    assert subject.open(0.001)["error_ratio"] <= subject.kernel.error_constant
    assert len(refused) == (not large), "the host has not to be asked where the device is content"
    assert subject.sample()["error_ratio"] == 0


def test_the_error_ratio_on_the_device_is_the_hosts(cupy, monkeypatch):
    """In pieces, whatever their number; not a number where anything is none."""
    from gemm.correctness import error_ratio, reference

    a, b, _ = Problem(30, 20, 40).operands()
    right, c = reference(a, b), cupy.asarray(a @ b)
    for block in (1, 100, 1 << 20):
        monkeypatch.setattr(device_rules, "BLOCK", block)
        assert device_rules.error_ratio(c, right) == error_ratio(c.get(), right)
    c[3, 4] = np.nan
    assert math.isnan(device_rules.error_ratio(c, right))


@pytest.mark.parametrize(
    ("dtype", "multiplied"), [("float32", "tfloat32"), ("bfloat16", "bfloat16"), ("float16", "float16")]
)
def test_full_significands_use_every_bit_and_no_other(cupy, dtype, multiplied):
    bits = device_rules._full((64, 64), 0, dtype, multiplied)
    size, kept = device_rules.SIGNIFICAND[dtype], device_rules.SIGNIFICAND[multiplied]
    numbers = device_rules.wide(bits, dtype).get()
    assert (np.abs(numbers) >= 1).all()
    assert (np.abs(numbers) < 2).all()
    assert {-1.0, 1.0} == set(np.sign(numbers).ravel())
    significands = bits.get() & ((1 << size) - 1)
    assert (significands >> (size - kept) & 1).all()
    assert not (significands & ((1 << size - kept) - 1)).any()
    assert len(np.unique(significands)) > 60


def test_too_large_for_the_device_is_skipped_with_a_sentence(cupy, monkeypatch):
    monkeypatch.setattr(modules.runtime, "memGetInfo", lambda: (1 << 16, 1 << 16))
    with pytest.raises(device.TooLarge, match=r"GiB are free there; use smaller sizes"):
        product().open(0.001)


def test_warming_up_ends_when_the_time_settles(cupy, monkeypatch):
    """A clock that rises is waited for, and one that never settles not for ever."""
    subject = product()
    subject.open(0.001)
    times = iter([4.0, 2.0, 1.3, 1.0, 1.0])
    taken = []

    def spend(calls, gauge=None):
        taken.append(calls)
        return int(next(times) * calls * 1e6)

    subject.call_ns = 1e6
    monkeypatch.setattr(subject, "_spend", spend)
    subject._warm(10.0)
    assert len(taken) == 5
    assert subject.call_ns == pytest.approx(1e6)
    factor = iter(range(1, 10_000))
    spent = []

    def never(calls, gauge=None):
        spent.append(calls * next(factor) * 1e6)
        return int(spent[-1])

    monkeypatch.setattr(subject, "_spend", never)
    subject._warm(0.5)
    assert 0.5e9 <= sum(spent) < 1.5e9


def test_host_data_are_timed_with_their_transfer_and_its_parts_apart(cupy):
    subject = device.HostDataProduct(
        f"{HERE / 'device_kernels.py'}:RIGHT", {"m": 12, "n": 10, "k": 14}, seed=0
    )
    subject.open(0.001)
    sample = subject.sample()
    assert sample["product_s"] == pytest.approx(device_kernels.TAKES_S, rel=1e-3)
    assert sample["transfer_s"] > 0
    assert sample["seconds"] > 0
    assert "waited_s" in sample


def test_clocks_and_reasons_of_a_sample_are_those_of_nvml(cupy, monkeypatch):
    """Without it these fields are absent."""
    subject = product()
    subject.open(0.001)
    assert not {"sm_mhz", "throttled"} & subject.sample().keys()
    monkeypatch.setattr(gpu, "_nvml", functools.cache(lambda: (Nvml(), "the device")))
    sample = subject.sample()
    assert (sample["sm_mhz"], sample["power_w"], sample["throttled"]) == (1980, 650.0, ["power cap"])
    assert "temperature_c" not in sample, "what a card does not tell is left out"


class Nvml:
    """As much of pynvml as is asked."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM = 1, 2

    def nvmlDeviceGetClockInfo(self, device, which):
        return {1: 1980, 2: 3201}[which]

    def nvmlDeviceGetPowerUsage(self, device):
        return 650_000

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, device):
        return 0x4 | 0x1

    def nvmlDeviceGetMemoryInfo(self, device):
        raise RuntimeError("not supported")
