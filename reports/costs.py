"""Costs: what bounds a cell, and what its first call costs, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.records import number
from bench.verdicts import bounds
from bench.verdicts.statistics import Result
from reports import wording
from reports.selection import Ladder, measured

# A kernel compiles if its first call takes this much longer where no code lies on disk, and not just because a
# call takes so long: three calls. What Python imports makes less of a difference.
COMPILES_S = 0.1
CALLS = 3


def bound(result: Result, brief: bool = False) -> str:
    """arithmetic 84 %, bandwidth L2 61 %, call overhead 72 %, or itself; "" where it is not on record.

    brief  for a narrow column: arith. 84 %, L2 61 %, call 72 %, itself
    """
    known = _bound(result)
    if not known:
        return ""
    by, level = known["by"], known["level"]
    if by == "itself":
        return "itself"
    words = {"bandwidth": f"bandwidth {level}", "overhead": "call overhead"}
    if brief:
        words = {"arithmetic": "arith.", "bandwidth": str(level), "overhead": "call"}
    return f"{words.get(by, by)} {wording.percent(min(known['shares'][by], 1.0))}"


def why(result: Result) -> str:
    """What bounds a cell, as `bench.verdicts.bounds` says it at length; "" where it is not on record."""
    known = _bound(result)
    return bounds.sentence(known) if known else ""


def _bound(result: Result) -> dict[str, Any]:
    known = result.cell.get("bound")
    if not isinstance(known, Mapping) or not measured(result):
        return {}
    shares = {name: number(share) for name, share in (known.get("shares") or {}).items()}
    by = known.get("by")
    if by != "itself" and shares.get(str(by)) is None:
        return {}
    return {"by": by, "level": known.get("level"), "shares": shares}


@dataclass(frozen=True)
class Start:
    """What it costs to get a kernel going, in seconds (NaN: not on record), and what that pays.

    anew, cached  the first call, compiled anew and with compiled code on disk
    payback       the kernels that start faster -> calls until this one has made up for its start; None: never
    """

    kernel: str
    anew: float
    cached: float
    call: float
    payback: Mapping[str, int | None]

    @property
    def compiles(self) -> bool:
        return self.anew - self.cached > max(COMPILES_S, CALLS * self.call)


def starts(ladder: Ladder) -> list[Start]:
    """The start of each measured kernel of a ladder that has one on record."""
    found = []
    for rung in ladder.rungs:
        cell = rung.result.cell
        first, cached = number(cell.get("first_call_s")), number(cell.get("first_call_cached_s"))
        if measured(rung.result) and first is not None:
            payback = cell.get("payback")
            there = {other.kernel for other in ladder.rungs if measured(other.result)}
            known = payback if isinstance(payback, Mapping) else {}
            faster = {other: calls for other, calls in known.items() if other in there}
            cached = math.nan if cached is None else cached
            found.append(Start(rung.kernel, first, cached, rung.result.seconds.value, faster))
    return found


def pays(start: Start, brief: bool = False) -> str:
    """after 63 calls against python, after 308 against numpy-dot, never against blas

    brief  only where it pays soonest and where it pays last
    """
    told: dict[str, list[str]] = {}
    order = sorted(start.payback.items(), key=lambda item: math.inf if item[1] is None else item[1])
    for other, calls in order:
        when = "never" if calls is None else "at once" if calls <= 1 else f"after {calls:,} calls"
        told.setdefault(when, []).append(other)
    parts = [f"{when} against {wording.listed(others)}" for when, others in told.items()]
    if brief and len(parts) > 2:
        parts = [parts[0], parts[-1]]
    return ", ".join(parts)


def compiling(ladder: Ladder) -> list[str]:
    """A line for each kernel of a ladder that compiles."""
    lines = []
    for start in starts(ladder):
        if start.compiles:
            when = pays(start, brief=True)
            paid = f", never pays for itself{when.removeprefix('never')}" if when.startswith("never") else ""
            paid = paid or (f", pays for itself {when}" if when else "")
            took = f"{wording.duration(start.anew)} to its first call ({wording.duration(start.cached)} from disk)"
            lines.append(f"{start.kernel} compiles: {took}{paid}")
    return lines
