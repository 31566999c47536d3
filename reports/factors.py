"""Factors: what affects the cost of a network, as tables and in three sentences."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bench.plans.factors import NUMBERS
from bench.verdicts.compare import SAME, UNKNOWN
from bench.verdicts.exploration import (
    GEMM,
    HARDLY,
    Exploration,
    Factor,
    Variant,
    apart,
    hardly,
    turn,
)
from bench.verdicts.statistics import Result
from reports import wording
from reports.selection import told_apart

if TYPE_CHECKING:
    from rich.console import Group

COLUMNS = ("step", "example", "± %", "GFLOP/s", "% GEMM", "× base", "95 %")
FURTHER = "it is"  # a column that a terminal has no room for
SAYS = (
    "Time per training step and per example in it; ± is the half of its 95 % interval; % GEMM is the share of the "
    "step in matrix products, with whatever is fused into them; × base is the time per example over the base's."
)
TITLES = {
    "width": "width of the hidden layers",
    "depth": "hidden layers",
    "batch": "batch size",
    "threads": "threads",
}
# How many factors the first sentence names after those that matter most.
FURTHER_ONES = 2

Claim = tuple[str, tuple[Result, ...]]  # a sentence, and the results that it rests on


def title(factor: Factor) -> str:
    return TITLES.get(factor.name, factor.name)


def shown(value: Any) -> str:
    """A factor's value in a label."""
    return f"{value:,}" if isinstance(value, int) else str(value)


def base(found: Exploration) -> str:
    """The base in words: its network, kernel and threads."""
    one = found.base.result
    return f"{wording.architecture(one.model)}, {one.kernel}, {wording.threads(one.threads)}"


def figures(variant: Variant) -> tuple[str, ...]:
    """The columns COLUMNS of one variant; of one that was skipped, what was predicted."""
    if not variant.measured:
        predicted = variant.predicted
        mark = variant.result.status if variant.result.status != "ok" else "no launch"
        if predicted is None:
            return (mark, *[""] * (len(COLUMNS) - 1))
        seconds = (wording.duration(predicted), wording.duration(predicted / variant.batch))
        return (*seconds, *[""] * (len(COLUMNS) - 3), "predicted")
    example = variant.example
    half = math.log(example.high / example.low) / 2 if example.n > 1 else math.nan
    return (
        wording.duration(variant.result.seconds.value),
        wording.duration(example.value),
        wording.share(half),
        wording.gflops(variant.result.rate.value),
        wording.share(min(variant.products.value, 1.0)),
        "base" if variant.is_base else wording.digits(variant.ratio.value),
        "" if variant.is_base else wording.bounds(variant.ratio),
    )


def verdict(variant: Variant) -> str:
    """slower, faster, same or cannot say, of an example's time; why there is none."""
    if variant.is_base:
        return ""
    return (
        variant.verdict if variant.measured else str(variant.result.cell.get("reason") or "no whole launch")
    )


def table(found: Exploration) -> Group:
    """Every factor, one below the other."""
    from reports.tables import add_row, new_table, titled

    made = new_table("", *COLUMNS, gap=1)
    for factor in found.factors:
        made.add_section()
        add_row(made, factor.name, *[""] * len(COLUMNS))
        for variant in factor.variants:
            add_row(made, f" {shown(variant.value)}", *figures(variant))
    return titled(f"What affects the cost of {base(found)}", made, *notes(found))


def notes(found: Exploration) -> list[str]:
    """The lines under the tables: why something has no time, and what could not be varied."""
    without = [
        f"{factor.name} {shown(variant.value)}: {variant.result.status} ({verdict(variant)})"
        for factor in found.factors
        for variant in factor.variants
        if not variant.measured and not variant.is_base
    ]
    return [*without, *found.left_out]


def claims(found: Exploration) -> list[Claim]:
    """What matters most, where GEMV becomes GEMM, what hardly matters; each only as far as its interval carries it."""
    if not found.base.measured:
        return []
    if found.base.result.seconds.n < 2:
        return [
            (
                f"One launch of {base(found)} has no spread: nothing can be said of what affects the cost",
                (found.base.result,),
            )
        ]
    made = (_most(found), _turning(found), _hardly(found))
    return [claim for claim in made if claim is not None]


def _most(found: Exploration) -> Claim | None:
    """The factor with the largest span, those that cannot be told from it, and the next ones."""
    ranked = found.ranked()
    if not ranked:
        return None
    telling = [factor for factor in ranked if told_apart(factor.span, found.floor)]
    if not telling:
        ends = [variant.result for factor in ranked for variant in factor.ends]
        return "Nothing that was varied can be told from the noise", tuple(ends)
    first, *others = telling
    level = [factor for factor in others if not told_apart(apart(first, factor), found.floor)]
    lead = [first, *level]
    then = [factor for factor in others if factor not in level][:FURTHER_ONES]
    names = wording.listed([factor.name for factor in lead])
    matter = "matters most" if len(lead) == 1 else "matter most, and cannot be told apart"
    costs = wording.listed([_span(factor) for factor in lead])
    sentence = f"Of what was varied, {names} {matter}: an example costs {costs}"
    if then:
        sentence += f"; then {', and '.join(f'{factor.name}, {_span(factor)}' for factor in then)}"
    if predicted := _predicted(found, first):
        sentence += f"; {predicted}"
    return sentence, tuple(variant.result for factor in [*lead, *then] for variant in factor.ends)


def _span(factor: Factor) -> str:
    """61× (59–63) as much at 2,048 as at 64: what an example costs at one end and at the other."""
    less, more = factor.ends
    times = f"{_times(factor.span.value)}{wording.within(factor.span)}"
    at = "at" if factor.name in NUMBERS else "with"
    return f"{times} as much {at} {shown(more.value)} as {at} {shown(less.value)}"


def _predicted(found: Exploration, first: Factor) -> str:
    """What was not run because it would take too long, if it would cost more than what was."""
    skipped = [
        (variant.predicted / variant.batch / found.base.example.value, factor, variant)
        for factor in found.factors
        for variant in factor.variants
        if variant.predicted
    ]
    if not skipped:
        return ""
    times, factor, variant = max(skipped, key=lambda one: one[0])
    told = f"{shown(variant.value)}, too slow to be run, is predicted at {_times(times)} the base"
    more = times > first.span.value and factor is not first
    return f"but {factor.name} would matter more: {told}" if more else told


def _turning(found: Exploration) -> Claim | None:
    """From which batch on the products are matrix by matrix in cost as well."""
    batches = found.factor("batch")
    if batches is None or len(batches.measured) < 2:
        return None
    rests = tuple(variant.result for variant in batches.measured)
    turned = turn(found)
    if turned is None:
        return "Larger batches make an example no cheaper that could be told from the noise", rests
    least, best = turned.least, turned.best
    gemv = "GEMV" if least.batch == 1 else "The smallest batch"
    sentence = (
        f"{gemv} turning into GEMM: an example costs {_times(turned.gain.value)}{wording.within(turned.gain)} "
        f"as much at batch {shown(least.value)} ({wording.gflops(least.result.rate.value)} GFLOP/s) as at "
        f"batch {shown(best.value)} ({wording.gflops(best.result.rate.value)})"
    )
    most = wording.percent(1 / GEMM - 1)
    if turned.at is None:
        return (
            f"{sentence}; the largest cost more than {most} more again, or are not known well enough",
            rests,
        )
    if turned.at is best and best is batches.measured[-1]:
        return f"{sentence}, and no smaller one is sure to come within {most} of that", rests
    return (
        f"{sentence}; from batch {shown(turned.at.value)} on it costs at most {most} more than there",
        rests,
    )


def _hardly(found: Exploration) -> Claim | None:
    """The factors whose values are sure to lie near the base."""
    rests: list[Result] = []
    told = []
    for factor in found.factors:
        choice = hardly(factor)
        if choice is None:
            continue
        sure, rest = choice
        rests += [variant.result for variant in (*sure, *rest)]
        text = f"{factor.name} (within {wording.percent(factor.within(sure))} of the base"
        but = wording.listed([_exception(variant) for variant in rest]) if rest else ""
        told.append(f"{text}{f', but for {but}' if but else ''})")
    if not told:
        tried = [variant.result for factor in found.factors for variant in factor.measured]
        if not tried:
            return None
        return f"Nothing that was varied is sure to stay within {wording.percent(HARDLY)} of the base", tuple(
            tried
        )
    return f"What hardly matters: {wording.listed(told)}", (found.base.result, *rests)


def _exception(variant: Variant) -> str:
    known = variant.verdict not in (SAME, UNKNOWN)
    return (
        f"{shown(variant.value)}, {_times(variant.ratio.value)}{wording.within(variant.ratio)}"
        if known
        else (f"{shown(variant.value)}, of which it cannot be said")
    )


def _times(value: float) -> str:
    return f"{wording.digits(value)}×"
