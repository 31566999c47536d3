"""Exploration: what a factor does to the cost of a network's step, told from a run that varied one at a time.

Every ratio is of times per example, over the base's in the same launch: above 1 is dearer. The base and all its
variants are sampled in turn, so that a launch is a pair (or a row) for each of them; intervals are Student's t
over launches, and the floor is the base's own A/A, as everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any

from bench.plans import factors
from bench.plans.factors import NUMBERS
from bench.records import Line, Run, number
from bench.verdicts.compare import FASTER, UNKNOWN, verdict
from bench.verdicts.statistics import (
    Interval,
    Profile,
    Result,
    as_figures,
    floor_for,
    floors,
    geometric,
    profiles,
    results,
)

# Within this part of the base's cost, a choice hardly matters.
HARDLY = 0.10
# GEMV has become GEMM where a batch reaches this part of the best rate that any batch has.
GEMM = 0.8


@dataclass(frozen=True)
class Variant:
    """The base, or the base with one thing changed.

    value     what the factor is; the base's own marks the base
    result    its cell; `profile` is None for a peer's step, of which the parts are not known, and without samples
    ratio     its time per example over the base's
    verdict   of the step against the base's by its time per example: slower, faster, same or cannot say
    """

    value: Any
    result: Result
    profile: Profile | None
    ratio: Interval
    verdict: str
    is_base: bool

    @property
    def batch(self) -> int:
        return int(self.result.model["batch"])

    @property
    def measured(self) -> bool:
        return self.result.status == "ok" and self.result.seconds.n > 0

    @property
    def predicted(self) -> float | None:
        """Seconds of a step that was skipped, as they were predicted."""
        return number(self.result.cell.get("predicted_s")) if self.result.status == "skipped" else None

    @property
    def example(self) -> Interval:
        """Seconds per example."""
        one = self.result.seconds
        return Interval(one.value / self.batch, one.low / self.batch, one.high / self.batch, one.n)

    @property
    def flops(self) -> float:
        """Floating-point operations per example."""
        return float(self.result.cell.get("flops") or math.nan) / self.batch

    @property
    def products(self) -> Interval:
        """The share of the step that is matrix products, with whatever is fused into them."""
        return self.profile.products if self.profile else Interval(math.nan, math.nan, math.nan, 0)

    def record(self) -> Line:
        """For --json."""
        cell = self.result.cell
        return {
            "value": self.value, "base": self.is_base, "status": self.result.status,
            "reason": cell.get("reason"), "predicted_s": self.predicted, "cell": cell["cell"],
            "step_s": as_figures(self.result.seconds), "example_s": as_figures(self.example),
            "flops_per_example": self.flops, "flop_per_s": as_figures(self.result.rate),
            "products": as_figures(self.products), "ratio": as_figures(self.ratio), "verdict": self.verdict,
        }  # fmt: skip


@dataclass(frozen=True)
class Factor:
    """One factor and its variants, in the order of the plan (numbers rising); the base is among them."""

    name: str
    variants: tuple[Variant, ...]

    @property
    def measured(self) -> tuple[Variant, ...]:
        return tuple(variant for variant in self.variants if variant.measured)

    @property
    def ends(self) -> tuple[Variant, Variant]:
        """The variants with the least and the most time per example. The least of noisy times is below the least of
        the true ones: where nothing differs, these ends still do, by about the noise."""
        ordered = sorted(self.measured, key=lambda variant: variant.example.value)
        return ordered[0], ordered[-1]

    @property
    def span(self) -> Interval:
        """The most time per example over the least: what this factor came to over the values that were tried."""
        return per_example(*self.ends)

    def within(self, variants: Sequence[Variant] | None = None) -> float:
        """What no variant is further from the base than, for sure: the far end of all intervals, as a fraction.

        NaN where a variant has no interval (or none is given).
        """
        own = [
            variant for variant in (self.measured if variants is None else variants) if not variant.is_base
        ]
        bounds = [abs(math.log(end)) for variant in own for end in (variant.ratio.low, variant.ratio.high)]
        return math.expm1(max(bounds)) if bounds and all(map(math.isfinite, bounds)) else math.nan

    def record(self) -> Line:
        """For --json."""
        return {
            "factor": self.name, "span": as_figures(self.span) if self.measured else None,
            "values": [variant.record() for variant in self.variants],
        }  # fmt: skip


@dataclass(frozen=True)
class Exploration:
    """A base, and what each factor does to it.

    floor     the part by which equal things differ here (A/A of the base); NaN: not measured
    left_out  sentences on the factors that cannot be varied around this base
    """

    base: Variant
    factors: tuple[Factor, ...]
    floor: float
    left_out: tuple[str, ...]

    def factor(self, name: str) -> Factor | None:
        return next((factor for factor in self.factors if factor.name == name), None)

    @property
    def profiles(self) -> list[Profile]:
        """The base's step in its parts, and the same step's on every other kernel."""
        kernels = self.factor("kernel")
        variants = [self.base, *(one for one in (kernels.variants if kernels else ()) if not one.is_base)]
        return [variant.profile for variant in variants if variant.profile]

    def ranked(self) -> list[Factor]:
        """The factors with two times or more, the one with the largest span first."""
        several = [factor for factor in self.factors if len(factor.measured) > 1]
        return sorted(several, key=lambda factor: -factor.span.value)

    def record(self) -> Line:
        """For --json."""
        return {
            "base": factors.base_of(self.base.result.cell), "floor": number(self.floor),
            "step_s": as_figures(self.base.result.seconds), "example_s": as_figures(self.base.example),
            "factors": [factor.record() for factor in self.factors], "left_out": list(self.left_out),
        }  # fmt: skip


def exploration(run: Run, found: Sequence[Result] | None = None) -> Exploration | None:
    """What a run that varied factors has found; None for any other run, and where the base has no cell yet."""
    named, cells = run.plan.get("factors"), run.plan.get("cells")
    if not isinstance(named, dict) or not named or not isinstance(cells, list) or not cells:
        return None
    if not cells[0].get("model") or not all(isinstance(values, list) for values in named.values()):
        return None  # a plan is a file that anybody may have edited
    found = results(run) if found is None else found
    steps = [result for result in found if result.model]
    start = factors.base_of(cells[0])
    own = next((result for result in steps if factors.same(result.cell, start)), None)
    if own is None:
        return None
    floor = floor_for(floors(steps), own)

    parts = {one.result.cell["cell"]: one for one in profiles(run, steps)}

    def variant(value: Any, result: Result) -> Variant:
        ratio = geometric(_ratios(own, result).values())
        timed = result.status == "ok" and result.samples
        said = verdict(_inverse(ratio), floor) if timed else UNKNOWN  # it speaks of speed-ups
        return Variant(value, result, parts.get(result.cell["cell"]), ratio, said, result is own)

    made = []
    for name, values in named.items():
        wanted = [(value, factors.varied(start, name, value)) for value in values]
        pairs = [
            (value, next((one for one in steps if factors.same(one.cell, what)), None))
            for value, what in wanted
        ]
        # of an interrupted run some have no closing line yet
        made.append(Factor(name, tuple(variant(value, one) for value, one in pairs if one is not None)))
    reasons = (factors.refused(start, name) for name in factors.FACTORS if name not in named)
    return Exploration(variant(None, own), tuple(made), floor, tuple(filter(None, reasons)))


def per_example(one: Variant, other: Variant) -> Interval:
    """The time per example of `other` over that of `one`: a ratio for each launch that both have."""
    return geometric(_ratios(one.result, other.result).values())


def _ratios(base: Result, other: Result) -> dict[int, float]:
    before, after = base.medians, other.medians
    scale = base.model["batch"] / other.model["batch"]
    return {launch: after[launch] / before[launch] * scale for launch in before if launch in after}


def apart(more: Factor, less: Factor) -> Interval:
    """The span of one factor over that of another, a ratio for each launch."""
    spans = [_ratios(*(variant.result for variant in factor.ends)) for factor in (more, less)]
    return geometric(spans[0][launch] / spans[1][launch] for launch in spans[0] if launch in spans[1])


@dataclass(frozen=True)
class Turn:
    """GEMV turning into GEMM: along the batch size.

    least    the smallest batch that has a time
    best     the one with the least time per example
    at       the first from which on every one is sure to reach GEMM of the best rate; None if the largest is not
    """

    least: Variant
    best: Variant
    at: Variant | None

    @property
    def gain(self) -> Interval:
        """How many times less an example costs in the best batch than in the smallest."""
        return per_example(self.best, self.least)


def turn(found: Exploration) -> Turn | None:
    """Where GEMV has become GEMM; None without a batch below the best, or where they cannot be told apart."""
    batches = found.factor("batch")
    own = batches.measured if batches else ()
    if len(own) < 2:
        return None
    best = min(own, key=lambda variant: variant.example.value)
    gain = per_example(best, own[0])
    if verdict(gain, found.floor) != FASTER:
        return None
    reaching = list(takewhile(partial(_reaches, best), reversed(own)))
    return Turn(own[0], best, reaching[-1] if reaching else None)


def _reaches(best: Variant, other: Variant) -> bool:
    return other is best or per_example(best, other).high <= 1 / GEMM


def hardly(factor: Factor) -> tuple[list[Variant], list[Variant]] | None:
    """The variants that are sure to lie within HARDLY of the base, and those that are not; None where most are not.

    Of a number all must, in which case the second list is empty: a curve has no exceptions.
    """
    others = [variant for variant in factor.measured if not variant.is_base]
    sure = [variant for variant in others if factor.within([variant]) <= HARDLY]
    rest = [variant for variant in others if variant not in sure]
    most = len(sure) > len(rest) if factor.name not in NUMBERS else not rest
    return (sure, rest) if sure and most else None


def _inverse(ratio: Interval) -> Interval:
    """A ratio of times as a speed-up."""
    return Interval(1 / ratio.value, 1 / ratio.high, 1 / ratio.low, ratio.n)
