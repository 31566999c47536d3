"""Steps: what each of a row of kernels brought over the one before."""

import json
import math

import pytest

import bench
from bench.records import finite
from bench.verdicts.steps import steps
from tests.bench.made import Made


@pytest.fixture
def run(tmp_path):
    """Three kernels, each twice as fast as the one before, and the last on two threads; a peak for each."""
    made = Made(tmp_path / "a").peak(1e11).peak(2e11, threads=2)
    for n in (256, 512):
        for kernel, seconds in (("loops", 8.0), ("blocked", 4.0), ("micro", 2.0)):
            made.cell(kernel, seconds * n**3 / 1e11, n, twin=1.01 if kernel == "loops" else None)
        made.cell("micro", 1.1 * n**3 / 1e11, n, threads=2, twin=1.01)
    made.cell("loops", 1e-6, 64)  # nobody else has this one
    return made.run


def test_each_kernel_is_held_against_the_one_before_and_against_the_first(run):
    """Geometric means over the shapes that all have, intervals over launches."""
    (row,) = steps(run, ["loops", "blocked", "micro"]).rows
    assert [problem["n"] for problem in row.problems] == [256, 512]
    first, blocked, micro = row.steps
    assert first.gain is None
    assert first.total is None
    assert (blocked.gain.ratio.value, micro.gain.ratio.value) == pytest.approx((2, 2), rel=0.003)
    assert micro.total.ratio.value == pytest.approx(4, rel=0.003)
    assert (micro.gain.cells, micro.gain.ratio.n, micro.gain.verdict) == (2, 6, "faster")
    assert micro.rate == pytest.approx(1e11, rel=0.1)
    assert micro.share == pytest.approx(1.0, rel=0.1)


def test_threads_are_a_step_too(run):
    """The same kernel on two: its share is of the peak on two."""
    (row,) = steps(run, ["micro", "micro@2"]).rows
    one, two = row.steps
    assert (one.threads, two.threads) == (1, 2)
    assert two.gain.ratio.value == pytest.approx(2 / 1.1, rel=0.003)
    assert two.share / one.share == pytest.approx(2 / 1.1 / 2, rel=0.01)


def test_a_step_backwards_is_shown_as_one(run):
    """And is a regression, if it takes that much longer."""
    found = steps(run, ["micro", "loops", "blocked"])
    assert [step.gain.verdict for step in found.rows[0].steps[1:]] == ["slower", "faster"]
    assert len(found.regressions(5)) == 1
    assert found.regressions(400) == []


def test_the_floor_is_the_larger_of_two_thread_counts(run):
    """What is not known of one of them is not known."""
    assert steps(run, ["micro", "micro@2"]).rows[0].steps[1].gain.floor > 0.009
    for line in [line for line in run.lines if line["kind"] == "twin"]:
        if run.cells and line["cell"] in {c["cell"] for c in run.cells if c["threads"] == 2}:
            run.lines.remove(line)
    assert math.isnan(steps(run, ["micro", "micro@2"]).rows[0].steps[1].gain.floor)


def test_each_dtype_has_a_row_of_its_own(run, tmp_path):
    """Their rates are not to be mixed."""
    made = Made(tmp_path / "b")
    for dtype in ("float32", "float64"):
        for kernel in ("loops", "micro"):
            made.cell(kernel, problem={"dtype": dtype})
    rows = steps(made.run, ["loops", "micro"]).rows
    assert [(row.dtype, len(row.problems)) for row in rows] == [("float32", 1), ("float64", 1)]


def test_mistakes_are_told_in_a_sentence(run):
    """A kernel or threads that there are not, and kernels that share no shape."""
    with pytest.raises(ValueError, match=r"'macro' was not run in .*; there are loops, blocked, micro"):
        steps(run, ["loops", "macro"])
    with pytest.raises(ValueError, match=r"'micro@3': nothing was run on 3 threads in .*; there are 1, 2"):
        steps(run, ["loops", "micro@3"])
    with pytest.raises(
        ValueError, match=r"of no shape have all of loops, blocked@2 a time; sweep them together"
    ):
        steps(run, ["loops", "blocked@2"])


def test_steps_are_data_too(run):
    """All of it goes through JSON."""
    text = json.loads(json.dumps(finite(bench.steps(["loops", "micro"], run).record()), allow_nan=False))
    assert text["form"] == "steps"
    assert text["rows"][0]["steps"][1]["gain"]["ratio"].keys() == {"value", "low", "high", "n"}
