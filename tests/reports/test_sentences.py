"""Findings say what the statistics say, and nothing where there is nothing to say."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

import reports
from bench.records import Run
from bench.verdicts.statistics import profiles, results, speedup
from reports import wording


def result(run: Run, kernel: str, n: int) -> Any:
    return next(one for one in results(run) if one.kernel == kernel and one.problem.get("n") == n)


def test_there_are_three_findings(whole: Run) -> None:
    assert len(reports.findings(whole)) == 3


def test_the_factors_are_those_of_the_statistics(whole: Run) -> None:
    winner, table, _ = reports.findings(whole)
    gain = speedup(result(whole, "python", 128), result(whole, "blas", 128))
    assert (
        f"at n = 128 blas is {wording.factor(gain.value)} ({wording.bounds(gain)}) as fast as python"
        in winner
    )
    gap = speedup(result(whole, "numba-blocked", 1024), result(whole, "blas", 1024))
    assert (
        f"a factor of {wording.digits(gap.value)} ({wording.bounds(gap)}) is left on the table at n = 1024"
        in table
    )


def test_the_winner_is_named_with_its_share_of_the_peak(whole: Run) -> None:
    best = result(whole, "blas", 1024)
    assert f"is blas: {wording.gflops(best.rate.value)} GFLOP/s" in reports.findings(whole)[0]
    assert (
        f"{wording.percent(best.share_of_peak.value)} of the multiply-add peak" in reports.findings(whole)[0]
    )


def test_the_step_is_split_into_products_and_the_rest(whole: Run) -> None:
    (step,) = (one for one in profiles(whole) if one.result.kernel == "blas")
    products = math.fsum(row.share for row in step.rows if row.k)
    assert f"{wording.percent(products)} of it is matrix products" in reports.findings(whole)[2]
    assert wording.duration(step.step) in reports.findings(whole)[2]


def test_a_kernel_of_our_own_that_wins_is_said_to_win(synthetic: Callable[..., Any]) -> None:
    run = synthetic()
    run.product("numba-micro", 512, seconds=1e-3)
    run.product("blas", 512, seconds=2e-3)
    read = run.done()
    gain = speedup(result(read, "blas", 512), result(read, "numba-micro", 512))
    assert (
        f"No library is needed at n = 512: numba-micro is {wording.factor(gain.value)}"
        in reports.findings(read)[1]
    )


def test_where_the_interval_holds_one_no_winner_is_named(synthetic: Callable[..., Any]) -> None:
    run = synthetic()
    run.product("numba-micro", 512, seconds=1e-3)
    run.product("blas", 512, seconds=1.001e-3)
    assert "numba-micro and blas cannot be told apart" in reports.findings(run.done())[1]


def test_up_to_where_our_own_kernels_keep_up(synthetic: Callable[..., Any]) -> None:
    run = synthetic()
    for n, mine, theirs in ((16, 1e-6, 2e-6), (32, 1e-6, 2e-6), (64, 3e-6, 1e-6)):
        run.product("numba-ikj", n, seconds=mine)
        run.product("blas", n, seconds=theirs)
    assert reports.findings(run.done())[1].endswith("up to n = 32 numba-ikj keeps up with it.")


@pytest.mark.parametrize(
    ("what", "count"),
    [("empty", 0), ("only unavailable", 0), ("one cell", 1), ("only a profile", 1), ("no environment", 2)],
)
def test_missing_parts_make_fewer_sentences(degenerate: dict[str, Run], what: str, count: int) -> None:
    found = reports.findings(degenerate[what])
    assert len(found) == count


def test_findings_of_several_runs_name_their_run(whole: Run, another: Run) -> None:
    found = reports.findings([whole, another])
    assert len(found) == 6
    assert found[0].startswith("whole (difference-engine): ")
    assert found[3].startswith("another (analytical-engine): ")
    assert reports.findings([whole, another], public=True)[0].startswith("whole: ")
