"""Factors: one thing at a time is changed around a base, and what cannot be varied is said in a sentence."""

import pytest

import bench
from bench.plans import factors, network
from bench.plans.plan import Plan

MODEL = {
    "arch": [784, 512, 256, 10], "batch": 32, "activation": "relu", "loss": "softmax-cross-entropy",
    "optimizer": "sgd", "dtype": "float32",
}  # fmt: skip
BASE = {"kernel": "blas", "threads": 1, "model": MODEL}
SOME = {"batch": [1, 8], "loss": ["hinge"], "kernel": ["numba-ikj", "blas"], "depth": [1, "3:5:+2"]}


def small(**model):
    (cell,) = network.cells("20-8-4-10", 8, ["blas"], 1, **model)
    return cell


def arch(factor, value, base=BASE):
    return factors.varied(base, factor, value)["model"]["arch"]


def test_the_width_is_that_of_the_widest_hidden_layer():
    """The others keep their proportion, inputs and outputs their number, and none vanishes."""
    assert arch("width", 64) == [784, 64, 32, 10]
    assert arch("width", 1024) == [784, 1024, 512, 10]
    assert arch("width", 1) == [784, 1, 1, 10]
    assert factors.value_of(BASE, "width") == 512


def test_the_depth_leaves_the_last_hidden_layers_out_or_repeats_the_last():
    assert arch("depth", 0) == [784, 10]
    assert arch("depth", 1) == [784, 512, 10]
    assert arch("depth", 4) == [784, 512, 256, 256, 256, 10]
    assert factors.value_of(BASE, "depth") == 2


@pytest.mark.parametrize("factor", factors.FACTORS)
def test_the_base_has_its_own_value_of_every_factor(factor):
    """Where it is put back, nothing has changed; and nothing of the base is written to."""
    assert factors.varied(BASE, factor, factors.value_of(BASE, factor)) == BASE
    factors.varied(BASE, factor, {"kernel": "python"}.get(factor, 3))
    assert BASE["model"] is MODEL
    assert MODEL["arch"] == [784, 512, 256, 10]


def test_each_cell_differs_from_the_base_in_one_factor():
    """The base comes first and once; its own value is on every axis; numbers rise, names come as they were given."""
    planned = factors.plan(small(), values=SOME)
    assert planned["factors"] == {
        "batch": [1, 8], "loss": ["softmax-cross-entropy", "hinge"], "kernel": ["blas", "numba-ikj"],
        "depth": [1, 2, 3, 5],
    }  # fmt: skip
    base, *others = planned["cells"]
    assert base == small()
    assert planned["twin"] == "blas"
    wanted = [
        factors.varied(factors.base_of(base.identity), factor, value)
        for factor, values in planned["factors"].items()
        for value in values
        if value != factors.value_of(factors.base_of(base.identity), factor)
    ]
    assert [factors.base_of(cell.identity) for cell in others] == wanted
    assert len({cell.id for cell in planned["cells"]}) == 1 + 1 + 1 + 1 + 3


def test_all_cells_of_a_plan_that_varies_factors_are_timed_in_turn():
    """Whatever their threads, networks and dtypes; of any other plan, those with the same problem and threads."""
    planned = factors.plan(small(), values=SOME)
    assert len({Plan(**planned).group(cell) for cell in planned["cells"]}) == 1
    assert len({Plan(cells=planned["cells"]).group(cell) for cell in planned["cells"]}) > 1
    again = Plan.from_record(Plan(**planned).record())
    assert again.factors == planned["factors"]


def test_what_cannot_be_varied_is_left_out_unless_it_was_asked_for():
    """A linear model has no hidden layers; other layers than dense ones have no width in a word."""
    (linear,) = network.cells("20-10", 8, ["blas"], 1)
    assert not {"width", "depth"} & factors.plan(linear)["factors"].keys()
    with pytest.raises(ValueError, match=r"width is not varied: 20-10 has no hidden layer$"):
        factors.plan(linear, ["width"])
    convolution = BASE | {"model": MODEL | {"arch": ["8x8x1", "conv3x16", 10]}}
    assert "8x8x1-conv3x16-10 has other layers" in factors.refused(convolution, "depth")
    assert factors.refused(convolution, "batch") == ""


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"only": ["widht"]}, "unknown factor 'widht'; did you mean 'width'"),
        ({"values": {"batch": []}}, "batch: no value is given"),
        ({"values": {"batch": [8]}}, "batch: 8 is the base's own, and there is no other"),
        ({"values": {"batch": [0]}}, "batch: '?0'? is no size"),
        ({"values": {"width": ["wide"]}}, "width: 'wide' is no size"),
        ({"values": {"loss": ["hing"]}}, "did you mean 'hinge'"),
        ({"values": {"kernel": ["blass"]}}, "blas"),
        ({"values": {"threads": [10_000]}}, "may use 1 to"),
        ({"only": ["batch"], "values": {"loss": ["hinge"]}}, "loss has values and is not varied"),
    ],
)
def test_a_mistake_is_one_sentence_before_anything_is_timed(asked, match, tmp_path):
    with pytest.raises(ValueError, match=match) as raised:
        bench.explore("20-8-4-10", 8, "blas", threads=1, out=tmp_path / "run", **asked)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()
