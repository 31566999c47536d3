"""Findings: at most three sentences for each run, which say what was found on this machine.

A difference below the A/A floor is none, and a finding that rests on a doubted cell says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.verdicts.statistics import Profile, Result, floor_for, speedup
from reports import factors, remarks, wording
from reports.curves import Course
from reports.selection import Comparison, Selection, Training, label, ladders, told_apart

LIBRARIES = ("blas", "cblas", "torch", "cublas", "dask")  # someone else's GEMM inside


@dataclass(frozen=True)
class Finding:
    """A sentence, and the results that it rests on."""

    sentence: str
    rests_on: tuple[Result, ...]

    def __str__(self) -> str:
        doubt = remarks.in_doubt(self.rests_on)
        return f"{self.sentence} In doubt: {doubt}." if doubt else self.sentence


def findings(selections: Sequence[Selection]) -> list[str]:
    """What wins and how near the peak, what is lost without a library, what a training step is spent on."""
    found = []
    for selection in selections:
        beside = f"{selection.name}: " if len(selections) > 1 else ""
        found += [f"{beside}{finding}" for finding in claims(selection)]
    return found


def claims(selection: Selection) -> list[Finding]:
    """The findings of one run."""
    if selection.explored:
        return [Finding(f"{sentence}.", rests) for sentence, rests in factors.claims(selection.explored)]
    found: list[Finding | None] = []
    if selection.comparisons:
        comparison = selection.comparisons[0]
        found += [_winner(comparison), _left_on_the_table(comparison)]
    found += [_step(training, selection) for training in selection.trainings[:1]]
    found += [_course(course) for course in selection.courses[:1]]
    return [finding for finding in found if finding]


def _setting(comparison: Comparison) -> str:
    return f"{comparison.dtype} {wording.on(comparison.threads)}"


def _largest(comparison: Comparison) -> tuple[str, dict[str, Result]]:
    """The largest shape (square if there is one) that a kernel was measured at: its wording, its results."""
    shapes = [(n, n, n) for n in comparison.sizes] or comparison.shapes
    at = next((at for at in reversed(shapes) if comparison.at(at)), None)
    return (wording.shape(*at), comparison.at(at)) if at else ("", {})


def _fastest(results: dict[str, Result]) -> Result:
    return min(results.values(), key=lambda result: result.seconds.value)


def level(comparison: Comparison, there: dict[str, Result]) -> list[str]:
    """The fastest kernel, and those that cannot be told from it."""
    first = _fastest(there)
    return [
        kernel
        for kernel, result in sorted(there.items(), key=lambda item: item[1].seconds.value)
        if result is first or not told_apart(speedup(first, result), comparison.floor(first))
    ]


def _winner(comparison: Comparison) -> Finding | None:
    """blas is the fastest at n = 1024, and how far that is from the measured peak and from the slowest."""
    where, there = _largest(comparison)
    if not there:
        return None
    best = _fastest(there)
    rate, share = best.rate, best.share_of_peak
    reach = (
        f", {wording.percent(share.value)} of the multiply-add peak measured on this machine"
        if math.isfinite(share.value)
        else ""
    )
    first = level(comparison, there)
    figures = f"{wording.gflops(rate.value)} GFLOP/s{wording.within(rate, 1e-9)}{reach}"
    at = f"At {where} ({_setting(comparison)})"
    if len(there) == 1:
        sentence = f"{at} {first[0]} reaches {figures}"
    elif len(first) == 1:
        sentence = f"{at} the fastest of {len(there)} kernels is {first[0]}: {figures}"
    else:
        names = wording.listed(first)
        sentence = f"{at} {names} are the fastest of {len(there)} kernels and cannot be told apart: {figures}"
    rests = [there[kernel] for kernel in first]
    climbs = ladders(comparison)
    if not climbs:
        return Finding(f"{sentence}.", tuple(rests))
    climb = climbs[0]
    top, base = climb.rungs[-1], climb.base
    rests += [result for result in (top.result, base) if result not in rests]
    place = "there" if wording.shape(*climb.shape) == where else f"at {wording.shape(*climb.shape)}"
    if not climb.differs(top):
        sentence += f"; {place} no kernel can be told from {climb.baseline}"
    else:
        gain = f"{wording.factor(top.speedup.value)}{wording.within(top.speedup)}"
        sentence += f"; {place} {top.kernel} is {gain} as fast as {climb.baseline}"
    return Finding(f"{sentence}.", tuple(rests))


def _left_on_the_table(comparison: Comparison) -> Finding | None:
    """What the best kernel without a library lacks at the largest size, and up to where it keeps up."""
    where, there = _largest(comparison)
    own, library = _own(there), _library(there)
    if not own or not library:
        return None
    mine, theirs = (
        min(own, key=lambda k: own[k].seconds.value),
        min(library, key=lambda k: library[k].seconds.value),
    )
    gap = speedup(own[mine], library[theirs])
    if not math.isfinite(gap.value):
        return None
    rests = own[mine], library[theirs]
    if not told_apart(gap, comparison.floor(rests[0])):
        floor = comparison.floor(rests[0])
        below = (
            f", and the floor is {remarks.bound(floor)}" if gap.excludes(1.0) and math.isfinite(floor) else ""
        )
        return Finding(
            f"At {where} {mine} and {theirs} cannot be told apart: "
            f"a factor of {wording.digits(gap.value)}{wording.within(gap)}{below}.",
            rests,
        )
    if gap.value < 1:
        ahead = speedup(library[theirs], own[mine])
        return Finding(
            f"No library is needed at {where}: {mine} is {wording.factor(ahead.value)}"
            f"{wording.within(ahead)} as fast as {theirs}.",
            rests,
        )
    sentence = (
        f"Without a library a factor of {wording.digits(gap.value)}{wording.within(gap)} is left on the "
        f"table at {where} (the best kernel of our own is {mine})"
    )
    lost = {n: lost for n in comparison.sizes if (lost := _lost(comparison, n)) is not None}
    if not all(lost.values()):
        last = max(n for n, behind in lost.items() if not behind)
        still = _fastest(_own(comparison.at((last, last, last))))
        return Finding(f"{sentence}; up to n = {last} {still.kernel} keeps up with it.", rests)
    return Finding(
        f"{sentence}, and {theirs} already wins at n = {min(lost)}." if lost else f"{sentence}.", rests
    )


def _lost(comparison: Comparison, n: int) -> bool | None:
    """True if the best library is faster than the best kernel of our own at this size; None: not compared."""
    there = comparison.at((n, n, n))
    own, library = _own(there), _library(there)
    if not own or not library:
        return None
    mine = _fastest(own)
    gap = speedup(mine, _fastest(library))
    return gap.value > 1 and told_apart(gap, comparison.floor(mine))


def _own(there: dict[str, Result]) -> dict[str, Result]:
    return {name: result for name, result in there.items() if not name.startswith(LIBRARIES)}


def _library(there: dict[str, Result]) -> dict[str, Result]:
    return {name: result for name, result in there.items() if name.startswith(LIBRARIES)}


def _step(training: Training, selection: Selection) -> Finding:
    """How long a step takes with the fastest kernel, how much of it is products, what costs most."""
    fast, slow = training.profiles[-1], training.profiles[0]
    rests = [fast.result]
    sentence = (
        f"A training step of {training.name} takes {wording.duration(fast.step)} with {label(fast.result)}"
    )
    gain = speedup(slow.result, fast.result)
    if slow is not fast and math.isfinite(gain.value):
        rests.append(slow.result)
        clear = gain.value > 1 and told_apart(gain, floor_for(selection.floors, fast.result))
        faster = f"{wording.factor(gain.value)}{wording.within(gain)} as fast as with {label(slow.result)}"
        alike = f"which cannot be told from {label(slow.result)}'s"
        sentence += f", {faster if clear else alike}"
    if not fast.rows:
        return Finding(f"{sentence}.", tuple(rests))
    return Finding(
        f"{sentence}: {wording.percent(fast.products.value)} of it is matrix products, "
        f"and the costliest operation is {_costliest(fast)}.",
        tuple(rests),
    )


def _course(course: Course) -> Finding | None:
    """What a network has learnt, and on which kernel in the least time."""
    if not course.learnt:
        return None
    clocks = {kernel: float(line["seconds"]) for kernel, line in course.learnt.items()}
    fast = min(clocks, key=lambda kernel: clocks[kernel])
    right = course.points(fast, "test_accuracy")
    reached = f" and labels {wording.percent(right[-1][2])} of the test examples right" if right else ""
    sentence = (
        f"{course.name}: {wording.plural(len(course.learnt[fast]['epochs']), 'epoch')} take "
        f"{wording.duration(clocks[fast])} in steps with {fast}{reached}"
    )
    others = [f"{wording.duration(clocks[kernel])} with {kernel}" for kernel in clocks if kernel != fast]
    return Finding(f"{sentence}; {wording.listed(others)}." if others else f"{sentence}.", ())


def _costliest(profile: Profile) -> str:
    row = max(profile.rows, key=lambda row: row.seconds)
    layer = f" of layer {row.layer}" if row.layer else ""
    return f"{row.op}{layer} ({wording.percent(row.share)})"
