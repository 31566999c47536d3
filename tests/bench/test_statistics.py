"""Statistics: figures with intervals over launches, checked against values worked out by hand."""

import math
import random

import numpy as np
import pytest

from bench.evidence import simulated
from bench.plans.plan import PRECISIONS
from bench.records import Run
from bench.verdicts.doubts import doubts
from bench.verdicts.statistics import (
    Interval,
    Result,
    floor_for,
    floors,
    geometric,
    own_seconds,
    peak,
    price_of_crowding,
    profile,
    results,
    size_class,
    slowed,
    speedup,
)


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


def test_a_profile_takes_rows_and_steps_from_the_same_undisturbed_rounds(tmp_path):
    """Three undisturbed rounds of five: the other two are in neither."""
    lines = [CELL | {"problem": None, "model": {"arch": [4, 2], "dtype": "float32"}}]
    fields = {
        "layer": 1, "phase": "forward", "parts": [], "kernel": None, "m": None, "n": None, "k": None,
        "flops": 10, "bytes": 5, "op": "Z", "id": "1.Z",
    }  # fmt: skip
    for number in range(5):
        slow, waited = (9.0, 5.0) if number > 2 else (1.0, 0.0)
        for instrumented in (True, False):
            step = sample(0, number, slow, "step", instrumented=instrumented)
            lines.append(step | {"steps": 1, "waited_s": waited})
        lines.append(sample(0, number, 0.9 * slow, "layer", **fields))
    opened = run(tmp_path, lines, rounds=5)
    whole = profile(opened, results(opened)[0])
    assert whole.step == whole.instrumented == 1.0
    assert [row.seconds for row in whole.rows] == [pytest.approx(0.9)]
    assert whole.accounted.value == pytest.approx(0.9)


SIMULATED = [(name, precision) for name in simulated.SCENARIOS for precision in PRECISIONS]


@pytest.mark.parametrize(("name", "precision"), SIMULATED)
def test_intervals_cover_the_truth_whatever_disturbs_the_samples(name, precision):
    """1,000 simulated runs through the lab's own statistics and stopping rule: at least 927 hold the truth."""
    assert simulated.covered(name, precision, 1000) >= 927


def test_precise_sampling_goes_on_only_where_intervals_are_wide():
    """Both endings happen on a quiet machine, and wide ones always go on."""
    rng = np.random.default_rng(0)
    quiet = {simulated.run(rng, simulated.steady, PRECISIONS["precise"]).n for _ in range(50)}
    assert quiet == {12, 24}
    assert {simulated.run(rng, simulated.everything, PRECISIONS["precise"]).n for _ in range(50)} == {24}


def aa(launch_ratios, n=300, threads=1, cell="x"):
    """A run whose twin took 1 / ratio of the time in each launch."""
    lines = [
        CELL | {"cell": cell, "threads": threads, "problem": {"m": n, "n": n, "k": n, "dtype": "float32"}}
    ]
    for launch, ratio in enumerate(launch_ratios):
        for number in (0, 1):
            lines.append(sample(launch, number, 1.0) | {"cell": cell})
            lines.append(sample(launch, number, 1.0 / ratio, "twin") | {"cell": cell})
    return lines


def test_the_floor_bounds_what_a_kernel_against_itself_comes_to(tmp_path):
    """1 % apart in every launch: 1 %. Scattered: the interval's far end."""
    (floor,) = floors(run(tmp_path, aa([1.01, 1.01, 1.01])))
    assert (floor.size_class, floor.threads, floor.kernel) == ("large", 1, "k")
    assert floor.value == pytest.approx(0.01)
    (floor,) = floors(run(tmp_path, aa([0.97, 0.99, 1.01])))
    assert floor.ratio.excludes(1.0) is False
    assert floor.value == pytest.approx(1 / floor.ratio.low - 1)
    assert floor.value > 0.03


def test_a_single_launch_gives_no_floor(tmp_path):
    """Nothing is known of how launches differ, so no verdict can be given."""
    opened = run(tmp_path, aa([1.0]))
    assert math.isnan(floors(opened)[0].value)
    assert math.isnan(floor_for(opened, results(opened)[0]))


def test_floors_are_kept_apart_by_size_class_and_threads_and_pooled_within(tmp_path):
    """Two sizes of a class: their mean in each launch, so that the interval is over launches."""
    lines = aa([1.02, 1.02], cell="a") + aa([1.04, 1.04], n=500, cell="b")
    lines += aa([1.5, 1.5], n=32, cell="c") + aa([1.1, 1.1], threads=2, cell="d")
    opened = run(tmp_path, lines)
    found = {(f.size_class, f.threads): f for f in floors(opened)}
    assert set(found) == {("large", 1), ("small", 1), ("large", 2)}
    assert found["large", 1].ratio.value == pytest.approx(math.sqrt(1.02 * 1.04))
    assert found["large", 1].ratio.n == 2
    by = {result.cell["cell"]: floor_for(opened, result) for result in results(opened)}
    assert by["c"] == pytest.approx(0.5)
    assert by["d"] == pytest.approx(0.1)


def test_the_twin_is_no_sample_of_the_cell(tmp_path):
    """Its samples are beside the cell's, never among them."""
    (found,) = results(run(tmp_path, aa([2.0, 2.0])))
    assert found.samples == {0: [1.0, 1.0], 1: [1.0, 1.0]}
    assert found.twin == {0: [0.5, 0.5], 1: [0.5, 0.5]}


def test_size_classes_go_by_the_cube_root_of_the_work():
    """64 and 256 begin the next; a step is a class of its own, and so are cold ones."""

    def of(m, n, k):
        return size_class(result({}, problem={"m": m, "n": n, "k": k}))

    assert [of(n, n, n) for n in (8, 63, 64, 255, 256, 4096)] == [
        "small", "small", "medium", "medium", "large", "large",
    ]  # fmt: skip
    assert of(1, 4096, 64) == "medium"
    assert size_class(result({}, problem=None, model={"arch": [1]})) == "step"
    assert size_class(result({}, problem={"m": 8, "n": 8, "k": 8}, cache="cold")) == "small, cold"


def test_one_thread_is_not_charged_for_what_it_waited():
    """Of 10 calls of 1 s it waited 4 s: 0.6 s each. Of two threads nobody knows."""
    line = {"seconds": 1.0, "loops": 10, "waited_s": 4.0}
    assert own_seconds(line, 1) == pytest.approx(0.6)
    assert own_seconds(line, 2) == 1.0
    assert own_seconds({"seconds": 1.0, "loops": 10, "waited_s": None}, 1) == 1.0
    assert own_seconds({"seconds": 1.0, "loops": 10}, 1) == 1.0
    assert 0 < own_seconds({"seconds": 1.0, "loops": 1, "waited_s": 1.1}, 1) < 0.1


def test_disturbed_samples_do_not_count_where_a_launch_has_enough_others(tmp_path):
    """Three undisturbed of five: their median. Two: all count, without what they waited."""

    def line(launch, number, seconds, waited):
        return sample(launch, number, seconds) | {"loops": 1, "waited_s": waited}

    enough = [line(0, number, 1.0, 0.0) for number in range(3)] + [
        line(0, number, 2.0, 0.8) for number in (3, 4)
    ]
    few = [line(1, number, 1.0, 0.0) for number in range(2)] + [
        line(1, number, 2.0, 0.8) for number in (2, 3, 4)
    ]
    (found,) = results(run(tmp_path, [CELL, *enough, *few], rounds=5))
    assert found.samples[0] == [1.0, 1.0, 1.0]
    assert found.samples[1] == pytest.approx([1.0, 1.0, 1.2, 1.2, 1.2])
    (found,) = results(run(tmp_path, [CELL | {"threads": 2}, *enough, *few], rounds=5))
    assert found.samples[0] == [2.0 / 2] * 3
    assert found.samples[1] == [1.0, 1.0, 2.0, 2.0, 2.0]


def test_of_crowded_samples_the_least_crowded_count(tmp_path):
    """Three with a core of their own, or the three nearest to it; against the least of the whole run."""

    def line(launch, number, seconds, pace):
        return sample(launch, number, seconds) | {"loops": 1, "waited_s": 0.0, "pace_s": pace}

    paces = {0: (1.0, 1.04, 1.2, 1.03, 1.3), 1: (1.5, 1.06, 1.2, 1.03, 1.3), 2: (1.2,) * 5}
    lines = [line(launch, i, 1 + i, pace) for launch, each in paces.items() for i, pace in enumerate(each)]
    (found,) = results(run(tmp_path, [CELL, *lines], rounds=5))
    assert found.samples == {
        0: [1.0, 2.0, 4.0], 1: [2.0, 3.0, 4.0], 2: [1.0, 2.0, 3.0, 4.0, 5.0],
    }  # fmt: skip
    unknown = [sample(0, number, 1.0) | {"loops": 1, "waited_s": 0.0, "pace_s": None} for number in range(5)]
    (found,) = results(run(tmp_path, [CELL, *unknown], rounds=5))
    assert found.samples == {0: [1.0] * 5}


@pytest.mark.parametrize(
    ("paces", "counted"),
    [
        ({0: 1.3, 1: 1.0, 2: 1.04, 3: 1.0}, [1, 2, 3]),
        ({0: 1.3, 1: 1.0, 2: 1.2, 3: 1.0}, [0, 1, 2, 3]),  # two are not enough
        ({0: 1.0, 1: 1.3}, [0, 1]),
        ({0: 1.0, 1: 1.0}, [0, 1]),
    ],
)
def test_launches_that_never_had_their_core_do_not_count_where_enough_others_had(tmp_path, paces, counted):
    """In a cell's time, its profile and its doubts alike."""
    lines = [CELL | {"problem": None, "model": {"arch": [4, 2], "dtype": "float32"}}]
    fields = {
        "layer": 1, "phase": "forward", "parts": [], "kernel": None, "m": None, "n": None, "k": None,
        "flops": 10, "bytes": 5, "op": "Z", "id": "1.Z",
    }  # fmt: skip
    for launch, pace in paces.items():
        for number in range(5):
            own = {"loops": 1, "steps": 1, "waited_s": 0.0, "pace_s": pace}
            for instrumented in (True, False):
                lines.append(sample(launch, number, float(pace), "step", instrumented=instrumented) | own)
            lines.append(sample(launch, number, 0.5 * pace, "layer", **fields))
    opened = run(tmp_path, lines, rounds=5)
    (found,) = results(opened)
    whole = profile(opened, found)
    mean = sum(paces[launch] for launch in counted) / len(counted)
    assert sorted(found.samples) == counted
    assert whole.step == pytest.approx(mean)
    assert [row.seconds for row in whole.rows] == [pytest.approx(mean / 2)]
    steps = [line for line in opened.of("step") if not line["instrumented"]]
    crowded = [doubt for doubt in doubts(1, 2, steps, {}, 0, 5, 1.0) if doubt["kind"] == "launches"]
    assert bool(crowded) == (max(paces[launch] for launch in counted) > 1.1)


def test_a_wait_weighs_more_than_a_crowded_core(tmp_path):
    """Of those that did not wait the least crowded; and all that wait, where they must count, by the same rule."""

    def line(number, waited, pace):
        return sample(0, number, 1.0 + number) | {"loops": 1, "waited_s": waited, "pace_s": pace}

    lines = [
        line(0, 0.5, 1.0),
        line(1, 0.0, 1.0),
        line(2, 0.0, 1.3),
        line(3, 0.0, 1.1),
        line(4, 0.0, 1.2),
    ]
    (found,) = results(run(tmp_path, [CELL | {"threads": 2}, *lines], rounds=5))
    assert found.samples == {0: [2.0, 4.0, 5.0]}
    (found,) = results(run(tmp_path, [CELL | {"threads": 0}, *lines], rounds=5))  # on a device
    assert found.samples == {0: [1.0, 2.0, 3.0, 4.0, 5.0]}


def test_what_a_neighbour_costs_is_found_from_launches_of_the_same_cells():
    """A power that is planted, whatever the cells' own times; none where nothing varies, or nobody measured it."""
    cells = []
    for own, crowds in ((1e-3, (0.0, 0.2, 0.5)), (7.0, (0.3, 0.1)), (1e-6, (0.4,)), (1.0, ())):
        one = result({at: [own * (1 + crowd) ** 0.7] * 3 for at, crowd in enumerate(crowds)})
        one.crowd = dict(enumerate(crowds))
        cells.append(one)
    assert price_of_crowding(cells) == pytest.approx(0.7)
    assert slowed(cells[1], 0.7) == pytest.approx((1.3 * 1.1) ** 0.35)
    assert slowed(cells[3], 0.7) == 1.0
    assert price_of_crowding(cells[2:]) == 0.0
    faster = result({0: [1.0], 1: [0.5]})
    faster.crowd = {0: 0.0, 1: 0.5}
    assert price_of_crowding([faster]) == 0.0


def test_a_result_says_how_crowded_its_core_was(tmp_path):
    """The mean of the samples that count, launch by launch."""
    paces = {0: (1.0, 1.04, 1.2, 1.02, 1.3), 1: (1.1, 1.2, 1.3, 1.4, 1.5)}
    lines = [
        sample(launch, i, 1.0) | {"loops": 1, "waited_s": 0.0, "pace_s": pace}
        for launch, each in paces.items()
        for i, pace in enumerate(each)
    ]
    (found,) = results(run(tmp_path, [CELL, *lines], rounds=5))
    assert found.crowd == {0: pytest.approx(0.02), 1: pytest.approx(0.2)}
