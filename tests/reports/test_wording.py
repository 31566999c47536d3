"""Figures are written the same everywhere."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.verdicts.statistics import Interval
from reports import wording


@pytest.mark.parametrize(
    ("value", "text"),
    [(1240.4, "1,240"), (12.345, "12.3"), (9.996, "10.0"), (0.012345, "0.0123"), (999.6, "1,000"), (0, "0"),
     (-2.5, "-2.50"), (1e-9, "1.00e-09"), (math.nan, "–"), (None, "–"), (math.inf, "∞")],
)  # fmt: skip
def test_numbers_have_three_digits(value: float | None, text: str) -> None:
    assert wording.digits(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3e-9, "3.00 ns"), (0.9996e-6, "1.00 µs"), (1.5e-3, "1.50 ms"), (59.0, "59.0 s"), (90.0, "1.5 min"),
     (7200.0, "2.0 h"), (-1.32e-5, "-13.2 µs"), (math.nan, "–"), (None, "–")],
)  # fmt: skip
def test_times_have_a_fitting_unit(seconds: float | None, text: str) -> None:
    assert wording.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(1240.4, "1,240×"), (1.0, "1.00×"), (1 / 116, "116× slower"), (math.nan, "–")]
)
def test_a_factor_below_one_is_told_the_other_way_round(value: float, text: str) -> None:
    assert wording.factor(value) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(999, "B", "999 B"), (2e6, "B", "2.00 MB"), (999_999, "", "1.00 M"), (0, "", "0")],
)
def test_large_numbers_have_a_prefix(value: float, unit: str, text: str) -> None:
    assert wording.scaled(value, unit) == text


def test_there_are_no_bounds_without_an_interval() -> None:
    """One launch has no spread: nothing is claimed."""
    assert wording.within(Interval(2.0, math.nan, math.nan, 1)) == ""
    assert wording.within(Interval(2.0, 1.9, 2.1, 3)) == " (1.90–2.10)"


@given(st.floats(min_value=1e-5, max_value=1e11))
def test_what_is_written_is_what_was_measured(value: float) -> None:
    """Three digits are within half a per cent."""
    assert float(wording.digits(value).replace(",", "")) == pytest.approx(value, rel=0.0051)
