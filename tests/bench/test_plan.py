"""The plan: cells, their JSON, and the memory that they need."""

import pytest

import gemm
from bench.plans import cold, plan
from bench.plans.axes import Sweep, make_sweep
from bench.plans.plan import Cell, Plan, memory
from bench.records import RunError
from gemm.problems import Problem


def test_a_damaged_plan_is_refused_in_one_sentence():
    """Not with a KeyError."""
    for record in ({}, {"cells": [{}]}, {"cells": 3}):
        with pytest.raises(RunError, match=r"plan\.json is damaged"):
            Plan.from_record(record)


def test_a_plan_survives_its_json(tmp_path):
    """What resume reads is what start wrote."""
    cells = Sweep(kernels=("blas",), sizes=(8, 16), threads=(1,)).cells()
    model = plan.frozen({"arch": [4, 3], "batch": 2, "dtype": "float32"})
    before = Plan(cells=[*cells, Cell("blas,1=python", 1, model=model, source=plan.source("blas,1=python"))])
    before.groups = {"squares": ["8x8x8 nn"]}
    after = Plan.from_record(before.record())
    assert after.groups == before.groups
    assert [cell.id for cell in after.cells] == [cell.id for cell in before.cells]
    assert after.record() == before.record()


def test_memory_is_that_of_the_largest_group_over_all_its_workers():
    """More kernels at once need more; more sizes do not."""
    one = memory(Sweep(kernels=("blas",), sizes=(512,), threads=(1,)).cells())
    two = memory(Sweep(kernels=("blas", "numba-ikj"), sizes=(512,), threads=(1,)).cells())
    many = memory(Sweep(kernels=("blas",), sizes=(64, 512), threads=(1,)).cells())
    assert one >= 6 * 512 * 512 * 4 + plan.ceiling_memory()
    assert one < two <= 2 * one
    assert many == one


def test_memory_knows_stacks_and_cold_copies():
    """A stack is as many products; cold cells hold copies of more than twice the last cache."""
    one = memory(Sweep(kernels=("blas",), sizes=(256,), threads=(1,)).cells()) - plan.ceiling_memory()
    stack = Sweep(kernels=("blas",), sizes=(256,), threads=(1,), batch=(10,)).cells()
    assert memory(stack) - plan.ceiling_memory() == 10 * one
    cells = Sweep(kernels=("blas",), sizes=(256,), threads=(1,), cache=("cold",)).cells()
    least = min(2 * cold.last_cache(), cold.MOST)
    assert memory(cells) - plan.ceiling_memory() - one >= least


def test_hot_and_cold_are_different_cells_of_different_groups():
    """Never timed in turn, never taken for the other when a run is resumed."""
    sweep = make_sweep({"kernels": ["blas"], "sizes": [8], "cache": ["hot", "cold"], "threads": [1]}, "test")
    hot, chilled = sweep.cells()
    assert (hot.cache, chilled.cache) == ("hot", "cold")
    assert hot.id != chilled.id
    assert hot.group != chilled.group
    assert [Cell.from_identity(cell.identity) for cell in (hot, chilled)] == [hot, chilled]


def test_the_source_of_a_mapping_covers_all_its_kernels():
    """blas,1=numba-ikj is another subject when either changes."""
    assert plan.source("blas,1=numba-ikj") not in (plan.source("blas"), plan.source("numba-ikj"))
    assert plan.source("blas") == gemm.find("blas").source


@pytest.mark.parametrize(
    "damage",
    [
        {"launches": "many"},
        {"rounds": -1},
        {"looks": [0.5]},
        {"sample_s": None},
        {"trees": {"a": 3}},
        {"trees": 3},
        {"groups": 3},
        {"groups": {"a": 3}},
        {"cells": [{"kernel": "blas", "threads": "x", "model": {"arch": [1, 1], "batch": 1}}]},
    ],
)
def test_a_plan_with_a_field_that_cannot_be_is_refused_too(damage):
    """Whatever somebody has done to plan.json."""
    record = Plan(cells=[Cell("blas", 1, Problem(1, 2, 3), source=plan.source("blas"))]).record()
    with pytest.raises(RunError, match=r"plan\.json is damaged"):
        Plan.from_record(record | damage)
