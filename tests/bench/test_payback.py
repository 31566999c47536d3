"""Payback: when a kernel that compiles has earned its first call."""

from math import nan

from bench.verdicts.payback import payback


def test_the_calls_after_which_the_faster_kernel_has_caught_up():
    """Two seconds of compiling, a millisecond saved in every call: two thousand calls."""
    assert payback(2.0, 0.001, {"blas": (0.0, 0.002)}) == {"blas": 2001}
    assert payback(2.0, 0.001, {"blas": (1.0, 0.0014)}) == {"blas": 2501}
    assert payback(1.0, 1.0, {"python": (0.5, 1.75)}) == {"python": 2}  # a part of a call is a call


def test_never_where_the_other_starts_faster_and_is_no_slower():
    """Nothing is saved."""
    assert payback(2.0, 0.001, {"blas": (0.1, 0.0005), "equal": (0.1, 0.001)}) == {
        "blas": None,
        "equal": None,
    }


def test_who_starts_no_faster_is_left_out():
    """There is nothing to pay back; nor is there where a time is unknown."""
    others = {"slower": (3.0, 5.0), "same": (2.0, 5.0), "unknown": (nan, 5.0), "untimed": (0.1, nan)}
    assert payback(2.0, 0.001, others) == {}
