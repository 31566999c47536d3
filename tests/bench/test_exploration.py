"""What an exploration says, on made times: ratios per example, who matters more, and where GEMV becomes GEMM."""

import math

import pytest

import bench
from bench.verdicts.exploration import apart, hardly, turn
from tests.reports.conftest import Synthetic
from tests.reports.explored import BASE, LONGER, MODEL, explored, law


@pytest.fixture
def made(tmp_path):
    """`made(values, ...)`: the exploration of a made run."""
    number = iter(range(10))

    def make(*arguments, **options):
        return bench.exploration(explored(Synthetic(tmp_path / str(next(number))), *arguments, **options))

    return make


def test_ratios_are_of_times_per_example(made):
    """A batch of four that takes as long as one of 128 is 32 times dearer for each example."""
    found = made({"batch": [4, 128]}, seconds=lambda what: 1e-3, noise=0.0)
    small, base = found.factor("batch").variants
    assert small.ratio.value == pytest.approx(32)
    assert small.verdict == "slower"
    assert (base.is_base, base.verdict) == (True, "same")
    assert found.base.example.value == pytest.approx(1e-3 / 128)


def test_a_factor_spans_from_its_cheapest_value_to_its_dearest(made):
    """The base need not be either."""
    times = {"hinge": 2e-3, "logistic": 0.5e-3}
    found = made(
        {"loss": ["softmax-cross-entropy", "hinge", "logistic"]},
        seconds=lambda what: times.get(what["model"]["loss"], 1e-3),
    )
    (loss,) = found.ranked()
    assert [variant.value for variant in loss.ends] == ["logistic", "hinge"]
    assert loss.span.value == pytest.approx(4, rel=0.01)
    assert [variant.verdict for variant in loss.variants] == ["same", "slower", "faster"]


def test_factors_are_ranked_by_their_spans_and_told_apart_by_launches(made):
    """gelu costs 1.4 times, float64 twice as much: the ratio of spans is known launch by launch."""
    found = made({"activation": ["relu", "gelu"], "dtype": ["float32", "float64"]})
    first, second = found.ranked()
    assert (first.name, second.name) == ("dtype", "activation")
    ratio = apart(first, second)
    assert ratio.low < LONGER["float64"] / LONGER["gelu"] < ratio.high
    assert ratio.excludes(1.0)


def test_gemv_has_become_gemm_where_all_larger_batches_are_near_the_best(made):
    """Times by a law: the first batch from which on an example costs at most a quarter more than in the best."""
    found = made({"batch": [1, 4, 16, 64, 256, 1024]})
    turned = turn(found)

    def example(batch):
        return law(BASE | {"model": MODEL | {"batch": batch}}) / batch

    near = [batch for batch in (1, 4, 16, 64, 128, 256, 1024) if example(batch) <= 1.25 * example(1024)]
    assert (turned.least.value, turned.best.value) == (1, 1024)
    assert turned.at.value == near[0]
    assert turned.gain.low < example(1) / example(1024) < turned.gain.high


def test_where_the_largest_batches_cost_more_again_there_is_no_such_batch(made):
    times = {1: 10.0, 16: 1.0, 128: 1.1, 1024: 2.0}
    found = made({"batch": [1, 16, 1024]}, seconds=lambda what: 1e-5 * times[b := what["model"]["batch"]] * b)
    turned = turn(found)
    assert (turned.best.value, turned.at) == (16, None)


def test_batches_that_cannot_be_told_apart_turn_into_nothing(made):
    found = made({"batch": [1, 16]}, seconds=lambda what: 1e-5 * what["model"]["batch"])
    assert turn(found) is None


def test_what_hardly_matters_lies_near_the_base_with_its_whole_interval(made):
    """Most values of a choice must; those that do not are named. Of numbers, all must."""
    names = ["relu", "leaky-relu", "tanh", "gelu", "identity"]
    found = made({"activation": names, "batch": [64, 128, 256]}, seconds=lambda what: law(what))
    sure, rest = hardly(found.factor("activation"))
    assert [variant.value for variant in sure] == ["leaky-relu", "tanh", "identity"]
    assert [variant.value for variant in rest] == ["gelu"]
    assert 0.03 < found.factor("activation").within(sure) < 0.06
    found = made({"batch": [1, 64, 128, 256]}, seconds=law)
    assert hardly(found.factor("batch")) is None


@pytest.mark.parametrize(("launches", "noise"), [(1, 0.002), (3, 0.1)])
def test_without_a_narrow_interval_nothing_is_said_to_matter_little(made, launches, noise):
    """From one launch, or from three that differ by a tenth."""
    names = ["relu", "leaky-relu", "tanh", "identity"]
    found = made({"activation": names}, launches=launches, noise=noise, seconds=lambda what: 1e-3)
    assert hardly(found.factor("activation")) is None
    assert all(v.verdict == "cannot say" for v in found.factor("activation").variants if not v.is_base)


def test_a_variant_without_a_time_is_there_with_its_reason(made):
    """It is in no span; what was predicted for it is known."""
    found = made({"kernel": ["numba-micro", "python", "blas"]})
    kernels = found.factor("kernel")
    python = kernels.variants[1]
    assert (python.measured, python.predicted) == (False, 9.0)
    assert [variant.value for variant in kernels.ends] == ["numba-micro", "blas"]
    record = found.record()["factors"][0]["values"][1]
    assert (record["status"], record["predicted_s"]) == ("skipped", 9.0)
    assert math.isnan(python.ratio.value)


def test_a_base_without_a_time_leaves_nothing_to_compare_with(made):
    wrong = {"numba-micro": {"status": "wrong", "reason": "1.Z has error ratio 7"}}
    found = made({"kernel": ["numba-micro", "blas"]}, not_run=wrong)
    assert not found.base.measured
    assert [variant.verdict for variant in found.factor("kernel").variants] == ["cannot say"] * 2
