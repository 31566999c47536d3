"""Payback: after how many calls a kernel that compiles has paid for its first call."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, isnan


def payback(
    first_call_s: float, seconds: float, others: Mapping[str, tuple[float, float]]
) -> dict[str, int | None]:
    """For each kernel that starts faster: the calls after which this one's total is no longer the larger.

    first_call_s  from nothing to the first product; seconds is a call's after that
    others        the same two of each other kernel on the same problem

    None: never, for the other one starts faster and is no slower per call. Kernels that start no faster are
    left out (there is nothing to pay back), and so are unknown times (NaN).
    """
    found: dict[str, int | None] = {}
    for name, (first_other, seconds_other) in others.items():
        owed, saved = first_call_s - first_other, seconds_other - seconds
        if owed > 0 and not isnan(saved):
            found[name] = 1 + ceil(owed / saved) if saved > 0 else None  # the first call is one of them
    return found
