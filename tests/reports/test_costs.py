"""What bounds a cell, and what its first call costs and pays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bench.verdicts.statistics import results
from reports import costs, selection


def bound(by: str, level: str | None = "L2", **shares: float | str) -> dict[str, Any]:
    return {
        "by": by,
        "level": level,
        "shares": {"arithmetic": 0.1, "bandwidth": 0.1, "overhead": None} | shares,
    }


@pytest.mark.parametrize(
    ("known", "words", "brief"),
    [
        (bound("arithmetic", arithmetic=0.84), "arithmetic 84 %", "arith. 84 %"),
        (bound("bandwidth", bandwidth=0.61), "bandwidth L2 61 %", "L2 61 %"),
        (bound("overhead", overhead=1.2), "call overhead 100 %", "call 100 %"),
        (bound("itself"), "itself", "itself"),
        (None, "", ""),
        ("word", "", ""),
        (bound("overhead"), "", ""),  # damaged: the share that names the bound is not there
        (bound("arithmetic", arithmetic="nan"), "arithmetic –", "arith. –"),
    ],
)
def test_a_bound_has_few_words_and_its_share(
    synthetic: Callable[..., Any], known: Any, words: str, brief: str
) -> None:
    run = synthetic()
    run.product("blas", 64, bound=known)
    (result,) = results(run.done())
    assert (costs.bound(result), costs.bound(result, brief=True)) == (words, brief)
    assert bool(costs.why(result)) == bool(words)


def test_a_cell_without_a_time_is_bound_by_nothing(synthetic: Callable[..., Any]) -> None:
    run = synthetic()
    run.product("blas", 64, "wrong", bound=bound("itself"))
    assert costs.bound(results(run.done())[0]) == ""


def starting(synthetic: Callable[..., Any]) -> selection.Ladder:
    run = synthetic()
    call = {"python": 0.5, "numba-ikj": 1e-3, "numba-blocked": 5e-4, "blas": 3e-4}
    first = {
        "python": (1.3, 0.7),
        "numba-ikj": (1.1, 0.35),
        "numba-blocked": (2.2, 0.4),
        "blas": (0.04, 0.01),
    }
    payback = {
        "python": {"blas": None}, "numba-ikj": {"blas": None, "python": 1},
        "numba-blocked": {"blas": None, "python": 3, "numba-ikj": 4135, "gone": 7}, "blas": {},
    }  # fmt: skip
    for kernel, seconds in call.items():
        anew, cached = first[kernel]
        run.product(
            kernel,
            256,
            seconds=seconds,
            first_call_s=anew,
            first_call_cached_s=cached,
            payback=payback[kernel],
        )
    (comparison,) = selection.select([run.done()])[0].comparisons
    return selection.ladders(comparison)[0]


def test_a_start_pays_soonest_first_and_never_last(synthetic: Callable[..., Any]) -> None:
    found = {start.kernel: costs.pays(start) for start in costs.starts(starting(synthetic))}
    assert found == {
        "python": "never against blas",
        "numba-ikj": "at once against python, never against blas",
        "numba-blocked": "after 3 calls against python, after 4,135 calls against numba-ikj, never against blas",
        "blas": "",
    }


def test_only_what_compiles_is_said_to(synthetic: Callable[..., Any]) -> None:
    """Python's first calls differ by more than a compiler takes, and by no more than its calls do."""
    lines = costs.compiling(starting(synthetic))
    assert lines == [
        "numba-ikj compiles: 1.10 s to its first call (350 ms from disk), pays for itself at once against python, "
        "never against blas",
        "numba-blocked compiles: 2.20 s to its first call (400 ms from disk), pays for itself after 3 calls against "
        "python, never against blas",
    ]


def test_what_never_pays_is_said_to_never_pay(synthetic: Callable[..., Any]) -> None:
    run = synthetic()
    run.product("blas", 64, seconds=1e-3)
    run.product(
        "numba-ikj", 64, seconds=2e-3, first_call_s=1.1, first_call_cached_s=0.35, payback={"blas": None}
    )
    (comparison,) = selection.select([run.done()])[0].comparisons
    (line,) = costs.compiling(selection.ladders(comparison)[0])
    assert line.endswith("(350 ms from disk), never pays for itself against blas")


def test_runs_of_earlier_days_have_no_starts_worth_telling(synthetic: Callable[..., Any]) -> None:
    run = synthetic()
    run.product("python", 64)
    run.product("blas", 64)
    (comparison,) = selection.select([run.done()])[0].comparisons
    ladder = selection.ladders(comparison)[0]
    assert costs.compiling(ladder) == []
    assert not any(start.payback or start.compiles for start in costs.starts(ladder))
