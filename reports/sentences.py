"""Findings: at most three sentences for each run, which say what was found on this machine."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.statistics import Interval, Profile, Result, speedup
from reports import palette, wording
from reports.selection import Comparison, Selection, Training, ladders

LIBRARIES = ("blas", "cblas", "torch", "cublas", "dask")  # someone else's GEMM inside


def findings(selections: Sequence[Selection]) -> list[str]:
    """What wins and how near the peak, what is lost without a library, what a training step is spent on."""
    found = []
    for selection in selections:
        sentences: list[str] = []
        if selection.comparisons:
            comparison = selection.comparisons[0]
            sentences += [text for text in (_winner(comparison), _left_on_the_table(comparison)) if text]
        sentences += [_step(training) for training in selection.trainings[:1]]
        beside = f"{selection.name}: " if len(selections) > 1 else ""
        found += [beside + sentence for sentence in sentences]
    return found


def _setting(comparison: Comparison) -> str:
    return f"{comparison.dtype} on {wording.plural(comparison.threads, 'thread')}"


def _largest(comparison: Comparison) -> tuple[str, dict[str, Result]]:
    """The largest shape (square if there is one) that a kernel was measured at: its wording, its results."""
    shapes = [(n, n, n) for n in comparison.sizes] or comparison.shapes
    at = next((at for at in reversed(shapes) if comparison.at(at)), None)
    return (wording.shape(*at), comparison.at(at)) if at else ("", {})


def _fastest(results: dict[str, Result]) -> Result:
    return min(results.values(), key=lambda result: result.seconds.value)


def _winner(comparison: Comparison) -> str:
    """blas is the fastest at n = 1024, and how far that is from the measured peak and from the slowest."""
    where, there = _largest(comparison)
    if not there:
        return ""
    best = _fastest(there)
    rate, share = best.rate, best.share_of_peak
    reach = (
        f", {wording.percent(share.value)} of the multiply-add peak measured on this machine"
        if math.isfinite(share.value)
        else ""
    )
    sentence = (
        f"At {where} ({_setting(comparison)}) the fastest of {len(there)} kernels is {best.kernel}: "
        f"{wording.gflops(rate.value)} GFLOP/s{wording.within(rate, 1e-9)}{reach}"
        if len(there) > 1
        else f"At {where} ({_setting(comparison)}) {best.kernel} reaches {wording.gflops(rate.value)} GFLOP/s"
        f"{wording.within(rate, 1e-9)}{reach}"
    )
    climbs = ladders(comparison)
    if not climbs:
        return sentence + "."
    climb = climbs[0]
    top, at = climb.rungs[-1], wording.shape(*climb.shape)
    place = "there" if at == where else f"at {at}"
    gain = f"{wording.factor(top.speedup.value)}{wording.within(top.speedup)}"
    return f"{sentence}; {place} {top.kernel} is {gain} as fast as {climb.baseline}."


def _left_on_the_table(comparison: Comparison) -> str:
    """What the best kernel without a library lacks at the largest size, and up to where it keeps up."""
    where, there = _largest(comparison)
    gap = _gap(there)
    if gap is None or not math.isfinite(gap.value):
        return ""
    mine, theirs = _fastest(_own(there)), _fastest(_library(there))
    if gap.n > 1 and not gap.excludes(1.0):
        return (
            f"At {where} {mine.kernel} and {theirs.kernel} cannot be told apart: "
            f"a factor of {wording.digits(gap.value)}{wording.within(gap)}."
        )
    if gap.value < 1:
        ahead = speedup(theirs, mine)
        return (
            f"No library is needed at {where}: {mine.kernel} is {wording.factor(ahead.value)}"
            f"{wording.within(ahead)} as fast as {theirs.kernel}."
        )
    sentence = (
        f"Without a library a factor of {wording.digits(gap.value)}{wording.within(gap)} is left on the "
        f"table at {where} (the best kernel of our own is {mine.kernel})"
    )
    gaps = {n: gap for n in comparison.sizes if (gap := _gap(comparison.at((n, n, n))))}
    level = [n for n, gap in gaps.items() if gap.value <= 1]
    if level:
        last = max(level)
        still = _fastest(_own(comparison.at((last, last, last))))
        return f"{sentence}; up to n = {last} {still.kernel} keeps up with it."
    won = [n for n, gap in gaps.items() if not gap.low <= 1]
    return f"{sentence}, and {theirs.kernel} already wins at n = {won[0]}." if won else f"{sentence}."


def _gap(there: dict[str, Result]) -> Interval | None:
    """How many times faster the best library is than the best kernel of our own; None: not compared."""
    own, library = _own(there), _library(there)
    return speedup(_fastest(own), _fastest(library)) if own and library else None


def _own(there: dict[str, Result]) -> dict[str, Result]:
    return {name: result for name, result in there.items() if not name.startswith(LIBRARIES)}


def _library(there: dict[str, Result]) -> dict[str, Result]:
    return {name: result for name, result in there.items() if name.startswith(LIBRARIES)}


def _step(training: Training) -> str:
    """How long a step takes with the fastest kernel, how much of it is products, what costs most."""
    fast, slow = training.profiles[-1], training.profiles[0]
    products = math.fsum(
        row.share for row in fast.rows if palette.kind(row.op, row.parts) in palette.PRODUCTS
    )
    sentence = (
        f"A training step of {training.name} takes {wording.duration(fast.step)} with {fast.result.kernel}"
    )
    if slow is not fast:
        gain = speedup(slow.result, fast.result)
        if math.isfinite(gain.value):
            sentence += (
                f", {wording.factor(gain.value)}{wording.within(gain)} as fast as with {slow.result.kernel}"
            )
    if not fast.rows:
        return sentence + "."
    return (
        f"{sentence}: {wording.percent(products)} of it is matrix products, "
        f"and the costliest operation is {_costliest(fast)}."
    )


def _costliest(profile: Profile) -> str:
    row = max(profile.rows, key=lambda row: row.seconds)
    layer = f" of layer {row.layer}" if row.layer else ""
    return f"{row.op}{layer} ({wording.percent(row.share)})"
