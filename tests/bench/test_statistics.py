"""Statistics: figures with intervals over launches, checked against values worked out by hand."""

import math
import random

import pytest

from bench.records import Run
from bench.statistics import Interval, Result, geometric, peak, profile, results, speedup


def test_the_interval_is_students_over_logs():
    """Three launches at 1, 2 and 4: mean log2 is 1, deviation 1, t(2) = 4.303."""
    found = geometric([1.0, 2.0, 4.0])
    assert found.value == pytest.approx(2.0)
    assert math.log2(found.high) == pytest.approx(1 + 4.30265 / math.sqrt(3), rel=1e-5)
    assert found.low * found.high == pytest.approx(4.0)
    assert found.n == 3


def test_one_launch_has_no_interval():
    """A figure without its uncertainty says so."""
    found = geometric([3.0])
    assert (found.value, found.n) == (pytest.approx(3.0), 1)
    assert math.isnan(found.low)
    assert not found.excludes(1.0)


def test_intervals_over_launches_cover_the_truth_about_as_often_as_they_say():
    """2,000 simulated ratios of 6 launches: 95 % give or take."""
    draw = random.Random(7)
    covered = 0
    for _ in range(2000):
        found = geometric([1.05 * math.exp(draw.gauss(0, 0.03)) for _ in range(6)])
        covered += not found.excludes(1.05)
    assert 0.93 < covered / 2000 < 0.97


def result(samples, **cell):
    return Result({"cell": "x", "kernel": "k", "threads": 1, "status": "ok", **cell}, samples)


def test_a_speedup_pairs_launches_and_takes_medians_of_rounds():
    """A slow launch slows both kernels: the paired ratio does not see it. Nor does one slow round."""
    base = result({0: [2.0, 2.0, 9.0], 1: [20.0, 20.0, 20.0], 5: [7.0]})
    other = result({0: [1.0, 1.0, 1.0], 1: [10.0, 90.0, 10.0], 6: [1.0]})
    found = speedup(base, other)
    assert found == Interval(pytest.approx(2.0), pytest.approx(2.0), pytest.approx(2.0), 2)


def test_a_rate_is_flops_over_seconds_with_its_bounds_turned_round():
    """The fast end of the time is the high end of the rate."""
    found = result({0: [1.0], 1: [2.0]}, flops=8).rate
    assert found.value == pytest.approx(8 / math.sqrt(2))
    assert found.low < found.value < found.high


def sample(launch, number, seconds, kind="sample", **fields):
    return {"kind": kind, "cell": "x", "launch": launch, "round": number, "seconds": seconds, **fields}


CELL = {
    "kind": "cell", "cell": "x", "kernel": "k", "threads": 1, "status": "ok", "flops": 100,
    "problem": {"m": 1, "dtype": "float32"},
}  # fmt: skip


def fma(launch, seconds, dtype="float32", threads=1):
    return {
        "kind": "ceiling", "cell": "", "ceiling": "fma", "dtype": dtype, "threads": threads, "launch": launch,
        "seconds": seconds, "work": 1000,
    }  # fmt: skip


def run(tmp_path, lines, rounds=2):
    return Run(tmp_path, {}, {"rounds": rounds}, lines)


def test_a_launch_cut_by_a_kill_is_left_out(tmp_path):
    """Its samples stay in the records; the figures do not use them."""
    lines = [CELL, sample(0, 0, 1.0), sample(0, 1, 1.0), sample(1, 0, 50.0)]
    (found,) = results(run(tmp_path, lines))
    assert found.samples == {0: [1.0, 1.0]}


def test_share_of_peak_uses_the_ceiling_of_the_same_launch_dtype_and_threads(tmp_path):
    """Paired: a slow launch lowers the ceiling too."""
    lines = [CELL]
    for launch, slow in ((0, 1), (1, 4)):
        lines += [sample(launch, number, 1.0 * slow) for number in (0, 1)]
        lines += [
            fma(launch, 5.0 * slow),
            fma(launch, 6.0 * slow),
            fma(launch, 0.1, "float64"),
            fma(launch, 0.1, threads=2),
        ]
    opened = run(tmp_path, lines)
    (found,) = results(opened)
    assert found.share_of_peak.value == pytest.approx(100 / 200)
    assert peak(opened, "fma", "float32", 1) == pytest.approx((200 + 50) / 2)
    assert math.isnan(peak(opened, "fma", "float32", 8))


def test_a_profile_adds_up_by_means(tmp_path):
    """Rows are means over launches and rounds; what they account for is one ratio per launch."""
    cell = CELL | {"problem": None, "model": {"arch": [4, 2], "dtype": "float32"}}
    fields = {
        "layer": 1, "phase": "forward", "parts": [], "kernel": None, "m": None, "n": None, "k": None,
        "flops": 10, "bytes": 5,
    }  # fmt: skip
    lines = [cell]
    for launch in (0, 1):
        for number in (0, 1):
            lines.append(sample(launch, number, 1.0, "step", instrumented=False))
            lines.append(sample(launch, number, 1.1, "step", instrumented=True))
            lines.append(sample(launch, number, 0.6 + 0.1 * number, "layer", id="1.Z", op="Z", **fields))
            lines.append(sample(launch, number, 0.3, "layer", id="loss", op="loss", **fields))
    opened = run(tmp_path, lines)
    whole = profile(opened, results(opened)[0])
    assert [(row.id, row.seconds) for row in whole.rows] == [
        ("1.Z", pytest.approx(0.65)),
        ("loss", pytest.approx(0.3)),
    ]
    assert whole.rows[0].share == pytest.approx(0.65)
    assert whole.rows[0].intensity == 2
    assert whole.accounted.value == pytest.approx(0.95)
    assert (whole.step, whole.instrumented) == (pytest.approx(1.0), pytest.approx(1.1))
