"""Compare: known effects in, the right verdict out, and `cannot say` wherever it cannot be said."""

import math
import random

import pytest

from bench.verdicts import compare
from bench.verdicts.compare import verdict, welch
from bench.verdicts.statistics import Interval
from tests.bench.made import ENVIRONMENT, Made

NAN = math.nan


@pytest.fixture
def made(tmp_path):
    return lambda name="a", **settings: Made(tmp_path / name, **settings)


@pytest.mark.parametrize(
    ("value", "low", "high", "floor", "says"),
    [
        (1.03, 1.02, 1.04, 0.01, "faster"),
        (0.97, 0.96, 0.98, 0.01, "slower"),
        (1.03, 1.02, 1.04, 0.05, "same"),  # a floor larger than the effect
        (1.03, 1.02, 1.04, 0.035, "cannot say"),  # below the floor, and reaching beyond it
        (1.005, 0.99, 1.015, 0.01, "same"),
        (1.005, 0.97, 1.04, 0.01, "cannot say"),
        (1.2, 0.9, 1.6, 0.01, "cannot say"),
        (1.02, 0.95, 1.08, 0.5, "cannot say"),  # a floor in which everything would be the same
        (1.002, 0.99, 1.01, 0.5, "same"),
        (3.0, 2.8, 3.3, 0.5, "faster"),
        (1.005, 1.004, 1.006, 0.001, "faster"),  # small, and sure
        (1.5, 1.4, 1.6, NAN, "cannot say"),  # no A/A
        (1.5, NAN, NAN, 0.01, "cannot say"),  # one launch
        (NAN, NAN, NAN, NAN, "cannot say"),
        (1.0, 0.0, math.inf, 0.01, "cannot say"),
    ],
)
def test_a_verdict_needs_the_interval_and_the_floor(value, low, high, floor, says):
    """Of NEW against BASE."""
    assert verdict(Interval(value, low, high, 6), floor) == says


def test_what_is_the_same_is_for_the_user_to_say():
    """Within 5 %, if he says so."""
    interval = Interval(1.01, 0.97, 1.04, 6)
    assert verdict(interval, 0.01) == "cannot say"
    assert verdict(interval, 0.01, same_within=0.05) == "same"


def test_a_planted_difference_is_called_above_the_floor(made):
    """3 % with a floor of about 1 %; launches 5 % apart do not hide it, because they are pairs."""
    run = made().cell("old", 1e-3, twin=1.01).cell("new", 1.03e-3).run
    (pair,) = compare.kernels(run, "old", "new").pairs
    assert pair.verdict == "slower"
    assert pair.ratio.value == pytest.approx(1 / 1.03, rel=0.003)
    assert 0.009 < pair.floor < 0.013
    assert pair.base.value < pair.new.value
    (pair,) = compare.kernels(run, "new", "old").pairs
    assert pair.verdict == "faster"


def test_no_difference_is_called_below_the_floor(made):
    """The same 3 %, on a machine whose A/A is off by 5 %."""
    run = made().cell("old", 1e-3, twin=1.05).cell("new", 1.03e-3).run
    (pair,) = compare.kernels(run, "old", "new").pairs
    assert pair.verdict in ("same", "cannot say")


def test_without_a_floor_or_with_one_launch_nothing_can_be_said(made):
    """And it says why."""
    (pair,) = compare.kernels(made().cell("old").cell("new", 2e-3).run, "old", "new").pairs
    assert (pair.verdict, pair.reason[:8]) == ("cannot say", "no floor")
    once = made(launches=1).cell("old", twin=1.01).cell("new", 2e-3).run
    (pair,) = compare.kernels(once, "old", "new").pairs
    assert (pair.verdict, pair.reason) == ("cannot say", "it takes two launches on each side")
    assert compare.kernels(once, "old", "new").means[0].verdict == "cannot say"


def test_what_only_one_has_or_what_failed_is_listed_with_the_reason(made):
    """Nothing drops out in silence."""
    run = (
        made()
        .cell("old", n=256, twin=1.0).cell("new", n=256)
        .cell("old", n=300).cell("new", n=300, status="crashed", reason="its process was killed by SIGSEGV")
        .cell("old", n=400)
        .run
    )  # fmt: skip
    found = compare.kernels(run, "old", "new")
    reasons = {pair.problem["n"]: pair.reason for pair in found.pairs}
    assert reasons[256] is None
    assert reasons[300] == "new: crashed (its process was killed by SIGSEGV)"
    assert reasons[400] == "new: not in the run"
    assert {pair.verdict for pair in found.pairs if pair.reason} == {"cannot say"}
    assert found.means[0].cells == 1


def test_cells_pair_only_where_all_else_is_equal(made):
    """Threads, cache, dtype, order, batch: another of any is another cell."""
    run = made().cell("old", twin=1.0).cell("new", threads=2).cell("new", cache="cold").run
    found = compare.kernels(run, "old", "new")
    assert len(found.pairs) == 3
    assert all(pair.verdict == "cannot say" for pair in found.pairs)
    assert not found.means


def test_the_doubts_of_either_side_stand_beside_the_verdict(made):
    """With the name of the one they are about."""
    doubt = [{"kind": "steal", "sentence": "the hypervisor took 9 %"}]
    run = made().cell("old", twin=1.0).cell("new", doubts=doubt).run
    assert compare.kernels(run, "old", "new").pairs[0].doubts == ("new: the hypervisor took 9 %",)


def test_the_mean_takes_the_launch_as_its_unit(made):
    """Cells of one launch share its luck: ten cells are not ten times the evidence."""
    run = made(noise=0.02)
    for n in range(256, 266):
        run.cell("old", n=n, twin=1.0).cell("new", 1e-3, n=n)
    found = compare.kernels(run.run, "old", "new")
    (mean,) = found.means
    assert (mean.cells, mean.ratio.n, mean.kernel) == (10, 6, "new")
    assert mean.floor == max(pair.floor for pair in found.pairs)
    assert mean.ratio.value == pytest.approx(math.prod(pair.ratio.value for pair in found.pairs) ** 0.1)
    widths = [math.log(pair.ratio.high / pair.ratio.low) for pair in found.pairs]
    width = math.log(mean.ratio.high / mean.ratio.low)
    assert width < 0.75 * math.fsum(widths) / 10  # what noise each has of its own averages out


def test_cells_without_shared_launches_are_averaged_as_if_all_erred_together(made):
    """The bounds of the mean are the means of the bounds."""
    run = (
        made()
        .cell("old", n=256, twin=1.0, launches=(0, 1, 2)).cell("new", n=256, launches=(0, 1, 2))
        .cell("old", n=300, launches=(3, 4, 5)).cell("new", 1.1e-3, n=300, launches=(3, 4, 5))
        .run
    )  # fmt: skip
    found = compare.kernels(run, "old", "new")
    lows = [pair.ratio.low for pair in found.pairs]
    assert found.means[0].ratio.low == pytest.approx(math.sqrt(lows[0] * lows[1]))
    assert found.means[0].ratio.n == 3


def test_a_mean_with_a_cell_that_has_no_floor_has_none(made):
    """Small cells without A/A: what is not known is not below anything."""
    run = made().cell("old", n=256, twin=1.0).cell("new", n=256).cell("old", n=32).cell("new", n=32).run
    (mean,) = compare.kernels(run, "old", "new").means
    assert math.isnan(mean.floor)
    assert mean.verdict == "cannot say"


def test_a_file_kernel_is_named_by_its_end(made):
    """If only one ends like that."""
    run = made().cell("/a/mine.py:f", twin=1.0).cell("/b/mine.py:f").cell("/a/other.py:f").run
    assert compare.kernels(run, "/a/mine.py:f", "other.py:f").new == "/a/other.py:f"
    with pytest.raises(
        ValueError, match=r"may be any of /a/mine.py:f, /b/mine.py:f .* give more of its path"
    ):
        compare.kernels(run, "other.py:f", "mine.py:f")
    with pytest.raises(ValueError, match=r"'ther.py:f' was not run in .*; there are /a/mine"):
        compare.kernels(run, "ther.py:f", "b/mine.py:f")
    with pytest.raises(ValueError, match="the same kernel"):
        compare.kernels(run, "other.py:f", "a/other.py:f")


def two_runs(made, drift=1.3, change=1.0, noise=0.001, **second):
    """A run and a later one on the same machine, all of it `drift` slower, `mine` another `change`."""
    before = made("a", seed=1, noise=noise).cell("blas", 1e-3, twin=1.01).cell("mine", 2e-3)
    after = made("b", seed=2, drift=drift, noise=noise, **second).cell("blas", 1e-3, twin=1.01)
    return before.run, after.cell("mine", 2e-3 * change, source="edited").run


def by_kernel(found):
    return {pair.kernel: pair for pair in found.pairs}


def test_what_slows_a_whole_run_cancels_between_runs(made):
    """30 % slower all over: the same. 5 % more in one kernel: slower."""
    found = compare.runs(*two_runs(made))
    assert found.reference == "blas"
    assert by_kernel(found)["mine"].verdict == "same"
    assert by_kernel(found)["blas"].verdict is None
    assert not found.warnings
    slower = compare.runs(*two_runs(made, change=1.05))
    assert by_kernel(slower)["mine"].verdict == "slower"
    assert by_kernel(slower)["mine"].ratio.value == pytest.approx(1 / 1.05, rel=0.005)
    assert [(mean.kernel, mean.verdict) for mean in slower.means] == [("mine", "slower")]


def test_without_a_kernel_that_is_the_same_in_both_nothing_can_be_said(made):
    """However large the difference looks."""
    before = made("a").cell("mine", twin=1.0).run
    after = made("b").cell("mine", 2e-3, twin=1.0, source="edited").run
    found = compare.runs(before, after)
    assert found.reference is None
    assert [(pair.verdict, pair.reason) for pair in found.pairs] == [
        ("cannot say", "no kernel is the same in both runs")
    ]
    assert not found.means
    assert "no kernel is the same" in found.warnings[0]


def test_a_blas_of_another_version_is_no_reference_of_its_own_accord(made):
    """The source of the kernel `blas` is one line; what is fast lies in the library."""
    other = ENVIRONMENT | {"blas": [{"name": "openblas", "version": "0.3.29", "core_type": "SkylakeX"}]}
    before, after = two_runs(made, environment=other)
    found = compare.runs(before, after)
    assert found.reference is None
    assert "BLAS (openblas 0.3.31 SkylakeX, openblas 0.3.29 SkylakeX)" in " ".join(found.warnings)
    loaded = [{"name": "openblas", "version": "0.3.31", "core_type": "SkylakeX"}]
    for run in (before, after):  # what its worker had loaded counts for more than what the parent had
        run.lines.append({"kind": "worker", "kernel": "blas", "libraries": loaded})
    assert compare.runs(before, after).reference == "blas"


def test_another_kernel_of_the_same_source_and_compiler_is_a_reference_too(made):
    """Not the one that is looked at."""
    before = made("a").cell("numba-ijk", twin=1.0).cell("mine").run
    after = made("b").cell("numba-ijk", twin=1.0).cell("mine", source="edited").run
    assert compare.runs(before, after).reference == "numba-ijk"
    assert compare.runs(before, after, kernel="numba-ijk").reference is None
    after.environment = ENVIRONMENT | {"versions": {"numpy": "2.3.0", "numba": "0.63.0"}}
    assert compare.runs(before, after).reference is None
    assert compare.runs(before, after, "numba-ijk").reference == "numba-ijk"  # who asks for it gets it
    with pytest.raises(ValueError, match="'mine' is not the same code in both runs"):
        compare.runs(before, after, "mine")
    with pytest.raises(ValueError, match="'blas' was not run in"):
        compare.runs(before, after, "blas")
    with pytest.raises(ValueError, match="cannot be its own reference"):
        compare.runs(before, after, "numba-ijk", kernel="numba-ijk")


def test_one_kernel_can_be_looked_at_alone(made):
    """The others are left out, and so is what a run holds of another revision."""
    before, after = two_runs(made)
    after.lines += made("c").cell("mine", 9e-3, source="old", revision="0" * 40).run.lines
    assert by_kernel(compare.runs(before, after))["mine"].verdict == "same"
    assert [pair.kernel for pair in compare.runs(before, after, kernel="mine").pairs] == ["mine"]


def test_the_floor_between_runs_is_the_larger_of_the_two(made):
    """The noisier run decides."""
    before = made("a").cell("blas", twin=1.01).cell("mine").run
    after = made("b").cell("blas", twin=1.08).cell("mine", 1.05e-3).run
    pair = by_kernel(compare.runs(before, after))["mine"]
    assert pair.floor > 0.07
    assert pair.verdict != "slower"


def test_where_the_reference_has_no_time_nothing_can_be_said_of_that_cell(made):
    """Of the other cells it can."""
    before, after = two_runs(made)
    more = made("c").cell("mine", n=64).run.lines
    before.lines += more
    after.lines += [line | {"source": "edited"} for line in more]
    reasons = {pair.problem["n"]: pair.reason for pair in compare.runs(before, after, kernel="mine").pairs}
    assert reasons == {64: "the reference blas in a: not in the run", 256: None}


def test_other_machines_are_a_warning_that_names_what_differs(made):
    """With both values."""
    other = ENVIRONMENT | {
        "cpu": {"model": "Another", "cores": 2}, "governor": "powersave", "variables": {},
        "versions": ENVIRONMENT["versions"] | {"gemmlab": "0.2.0"},
    }  # fmt: skip
    (warning,) = compare.runs(*two_runs(made, environment=other)).warnings
    assert warning == (
        "the runs were not made alike: cpu (Synthetic 2-Core, Another); OMP_NUM_THREADS (2, none); "
        "governor (none, powersave)"
    )


def test_welchs_interval_is_that_of_the_textbook():
    """Two and three logarithms: difference 0.5, variances 0.02 and 0.01, degrees worked out by hand."""
    found = welch([0.9, 1.1], [0.4, 0.5, 0.6])
    spread = 0.02 / 2 + 0.01 / 3
    degrees = spread**2 / (0.01**2 / 1 + (0.01 / 3) ** 2 / 2)
    from scipy.stats import t

    half = t.ppf(0.975, degrees) * math.sqrt(spread)
    assert (found.value, found.n) == (pytest.approx(math.exp(0.5)), 2)
    assert found.low == pytest.approx(math.exp(0.5 - half))
    assert found.high == pytest.approx(math.exp(0.5 + half))
    assert math.isnan(welch([1.0], [1.0, 2.0]).low)
    assert welch([1.0, 1.0], [1.0, 1.0]) == Interval(1.0, 1.0, 1.0, 2)


def test_welchs_intervals_cover_the_truth_about_as_often_as_they_say():
    """2,000 pairs of runs, 6 launches against 3, one three times as noisy as the other."""
    draw = random.Random(5)
    covered = 0
    for _ in range(2000):
        one, other = [draw.gauss(0.05, 0.01) for _ in range(6)], [draw.gauss(0, 0.03) for _ in range(3)]
        covered += not welch(one, other).excludes(math.exp(0.05))
    assert 0.93 < covered / 2000 < 0.975


def test_a_revision_and_the_working_tree_are_pairs_of_one_run(made):
    """The revision is the base."""
    revision = "0123456789abcdef" * 2
    run = (
        made()
        .cell("mine", 1e-3, twin=1.0).cell("mine", 1.25e-3, revision=revision)
        .cell("other").cell("other", revision=revision)
        .cell("fresh").cell("fresh", revision=revision, status="unavailable", reason="no such kernel")
        .run
    )  # fmt: skip
    found = compare.against(run)
    assert (found.form, found.base, found.new) == ("revisions", revision, "working tree")
    assert {pair.kernel: pair.verdict for pair in found.pairs} == {
        "mine": "faster", "other": "same", "fresh": "cannot say"
    }  # fmt: skip
    assert {mean.kernel: mean.verdict for mean in found.means} == {"mine": "faster", "other": "same"}
    assert by_kernel(found)["fresh"].reason == "revision 0123456789ab: unavailable (no such kernel)"
    alone = compare.kernels(run, "other", "mine")  # like with like, on each side
    assert {pair.verdict for pair in alone.pairs} == {"same", "slower"}
    with pytest.raises(ValueError, match="holds no second revision"):
        compare.against(made().cell("mine").run)


def test_what_is_slower_than_allowed_needs_both_the_percent_and_the_floor(made):
    """5 % slower: more than 3 %, not more than 8 %; and nothing counts that the floor hides."""
    found = compare.kernels(made().cell("old", twin=1.01).cell("new", 1.05e-3).run, "old", "new")
    assert len(found.regressions(3)) == 2  # the cell, and the mean
    assert found.regressions(8) == []
    hidden = compare.kernels(made().cell("old", twin=1.08).cell("new", 1.05e-3).run, "old", "new")
    assert hidden.regressions(0) == []


def test_a_comparison_is_data(made):
    """All of it goes through JSON."""
    import json

    from bench.records import finite

    record = compare.runs(*two_runs(made)).record()
    text = json.loads(json.dumps(finite(record), allow_nan=False))
    assert text["reference"] == "blas"
    assert {"kernel", "problem", "base", "new", "ratio", "floor", "verdict", "reason"} <= text["pairs"][
        1
    ].keys()
    assert text["means"][0]["ratio"].keys() == {"value", "low", "high", "n"}


@pytest.mark.parametrize("status", ["wrong", "failed", "crashed", "timeout"])
def test_what_was_right_and_is_broken_now_is_a_regression_whatever_its_time(made, status):
    """A gate for CI must not let it through for want of a time; what was never right, or is skipped, is none."""
    run = made().cell("old", n=256, twin=1.0).cell("new", n=256).cell("old", n=300)
    found = compare.kernels(run.cell("new", n=300, status=status).run, "old", "new")
    assert [pair.problem["n"] for pair in found.regressions(50)] == [300]
    assert compare.kernels(run.run, "new", "old").regressions(50) == []
    skipped = made().cell("old").cell("new", status="skipped").run
    assert compare.kernels(skipped, "old", "new").regressions(50) == []
