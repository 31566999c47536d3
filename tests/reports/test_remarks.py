"""What spoils a result is said beside it, once for alike ones, the most serious first."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

import reports
from bench.verdicts.statistics import Floor, Interval, floors, results
from reports import remarks, selection

WAITED = "something else ran on its core: it waited {} % of the time (not counted)"
HUMPS = "20 % of its samples took {} us a call, the others 357 us, with nothing between"


def doubt(kind: str, sentence: str) -> dict[str, str]:
    return {"kind": kind, "sentence": sentence}


def test_alike_doubts_are_told_once_and_the_most_serious_first(synthetic: Callable[..., Any]) -> None:
    run = synthetic()
    for n, waited in ((64, 12), (128, 3), (256, 5)):
        run.product("blas", n, doubts=[doubt("foreign-load", WAITED.format(waited))])
    run.product(
        "blas", 512, doubts=[doubt("two-humped", HUMPS.format(7)), doubt("foreign-load", WAITED.format(8))]
    )
    found = remarks.remarks(results(run.done()))
    assert [(remark.kind, len(remark.cells)) for remark in found] == [("two-humped", 1), ("foreign-load", 4)]
    assert found[0].sentence == HUMPS.format(7).replace(" us", " µs")
    assert found[1].sentence == WAITED.format("3–12")


def test_a_tail_that_only_some_have_does_not_part_alike_doubts(synthetic: Callable[..., Any]) -> None:
    run = synthetic()
    first = "its 2 threads waited for cores {} % of the time, and one that waits holds up the others"
    run.product("blas", 64, doubts=[doubt("oversubscribed", first.format(20))])
    tail = f"{first.format(31)}; the slowest sample took 2.8 times the median"
    run.product("blas", 128, doubts=[doubt("oversubscribed", tail)])
    (remark,) = remarks.remarks(results(run.done()))
    assert remark.sentence == f"{first.format('20–31')}; the slowest sample took 2.8 times the median"


def test_figures_of_one_cell_are_not_told_of_several(synthetic: Callable[..., Any]) -> None:
    run = synthetic()
    for n in (64, 512):
        run.product("blas", n, doubts=[doubt("two-humped", HUMPS.format(n))])
    (remark,) = remarks.remarks(results(run.done()))
    assert remark.sentence == "their samples fall into two groups, with nothing between"


def test_what_has_no_time_has_no_doubt(synthetic: Callable[..., Any]) -> None:
    """And strange records make none either."""
    run = synthetic()
    run.product("blas", 64, "wrong", doubts=[doubt("drift", "it drifted")])
    run.product("blas", 128, doubts="none")
    run.product("blas", 256, doubts=["word", {"kind": "drift"}])
    assert remarks.remarks(results(run.done())) == []


def test_a_few_cells_are_named_and_many_are_counted(synthetic: Callable[..., Any]) -> None:
    run = synthetic()
    for n in (64, 128, 256, 512):
        run.product("blas", n, cache="cold", problem={"dtype": "float64"})
    found = results(run.done())
    assert (
        remarks.places(found[:2], 9)
        == "blas at n = 64, float64, cold cache on 2 threads; blas at n = 128, float64, cold cache on 2 threads"
    )
    assert remarks.places(found, 9) == "4 of 9 cells"
    assert remarks.places(found, 4) == "all cells"


@pytest.mark.parametrize(
    ("floor", "sentence"),
    [
        (Floor("large", 1, "blas", Interval(1.0, 0.99, 1.013, 3), 0.013),
         "A/A: blas against itself differs by up to 1.3 % at n ≥ 256 on 1 thread: "
         "no smaller difference means anything"),
        (Floor("step", 2, "blas", Interval(1.0, 0.99, 1.013, 3), 0.013),
         "A/A: blas against itself differs by up to 1.3 % in training steps on 2 threads: "
         "no smaller difference means anything"),
        (Floor("small", 1, "blas", Interval(1.0, 0.01, 294.0, 3), 293.0),
         "A/A: blas against itself differs by up to a factor of 294 at n < 64 on 1 thread: "
         "no smaller difference means anything"),
        (Floor("medium", 1, "blas", Interval(1.0, math.nan, math.nan, 1), math.nan),
         "A/A: blas ran against itself in one launch alone at 64 ≤ n < 256 on 1 thread: that gives no floor"),
    ],
)  # fmt: skip
def test_a_floor_says_what_it_means(floor: Floor, sentence: str) -> None:
    assert remarks.floor(floor) == sentence


def test_the_floor_under_a_ladder_is_that_of_its_size_and_threads(synthetic: Callable[..., Any]) -> None:
    run = synthetic()
    for n, twin in ((64, 1.2), (512, 1.03)):
        run.product("python", n, seconds=1.0)
        run.product("blas", n, seconds=1e-3, twin=twin)
    read = run.done()
    assert {one.size_class for one in floors(read)} == {"medium", "large"}
    (comparison,) = selection.select([read])[0].comparisons
    (last,) = selection.ladders(comparison)
    assert remarks.floor_under(last).startswith(
        "A/A: blas against itself differs by up to 3.0 % at n ≥ 256 on 2"
    )


def test_a_ladder_without_a_twin_says_that_too(synthetic: Callable[..., Any]) -> None:
    run = synthetic()
    run.product("python", 64)
    run.product("blas", 64)
    (comparison,) = selection.select([run.done()])[0].comparisons
    assert "A/A was not measured here" in remarks.floor_under(selection.ladders(comparison)[0])


def test_a_finding_that_rests_on_a_doubted_cell_says_so(synthetic: Callable[..., Any]) -> None:
    """And one that does not, does not."""
    run = synthetic()
    run.product("numba-ikj", 64, seconds=2e-3)
    run.product("blas", 64, seconds=1e-3, doubts=[doubt("drift", "d"), doubt("oversubscribed", "o")])
    run.step("blas")
    winner, table, step = reports.findings(run.done())
    assert winner.endswith(" In doubt: threads waited for cores, the machine changed speed.")
    assert "In doubt" in table
    assert "In doubt" not in step


def test_a_difference_below_the_floor_is_none(synthetic: Callable[..., Any]) -> None:
    """Steady to a hundredth of a per cent, two per cent apart, and yet within what A/A came to."""
    for twin, apart in ((1.05, False), (1.001, True)):
        run = synthetic()
        run.product("numba-micro", 512, seconds=1.00e-3, steady=True)
        run.product("blas", 512, seconds=1.02e-3, steady=True, twin=twin)
        winner, table = reports.findings(run.done())
        if apart:
            assert "the fastest of 2 kernels is numba-micro" in winner
            assert table.startswith("No library is needed at n = 512")
        else:
            assert "numba-micro and blas are the fastest of 2 kernels and cannot be told apart" in winner
            assert "no kernel can be told from blas" in winner
            assert "cannot be told apart" in table
            assert table.endswith("and the floor is 5.0 %.")
