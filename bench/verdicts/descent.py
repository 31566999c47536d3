"""Coordinate descent over settings whose times are noisy: a change is kept if it is better by more than the noise.

Rivals are timed in turn with the setting they would replace, which runs twice in every round: what it differs from
itself is the floor. A round gives each rival one number, the mean over shapes of the log-ratio of times; what counts is
the median over rounds with its distribution-free interval (order statistics: the sign test turned round). A rival is
kept if that whole interval lies above the floor and no shape pays for the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import TypeVar

from bench.verdicts.statistics import CONFIDENCE, Interval

Setting = TypeVar("Setting", bound=Hashable)
# Seconds by shape of each setting, in one round; a shape on which a setting does what the first does is left out.
Sample = Callable[[Sequence[Setting]], list[dict[str, float]]]
Times = Mapping[str, float]

# No gain below this is one, whatever the noise; and no shape may lose more than that for others to gain.
LEAST, LOSS = 0.005, 0.03
ROUNDS = 9
# Rounds without which there is no interval at all.
SIGNIFICANT = 6
# Rounds after which a rival that lost every one of them is timed no more.
EARLY = 4


@dataclass(frozen=True)
class Gain:
    """What a setting brings over another: times of the other divided by its own.

    ratio   median over rounds of the geometric mean over shapes, with its interval over rounds
    floor   the same of the other against itself
    shapes  the median of each shape that the setting changes anything for
    """

    ratio: Interval
    floor: float
    shapes: Mapping[str, float]

    @property
    def worst(self) -> tuple[str, float]:
        """The shape that gains least, and what."""
        return min(self.shapes.items(), key=lambda item: item[1])

    @property
    def real(self) -> bool:
        """Better by more than noise, on every shape no worse than LOSS."""
        above = 1 + max(LEAST, abs(self.floor - 1))
        return self.ratio.low > above and self.worst[1] > 1 - LOSS


def race(
    sample: Sample[Setting],
    base: Setting,
    rivals: Sequence[Setting],
    rounds: int,
    going: Callable[[], bool],
    least: int = 0,
) -> dict[Setting, Gain]:
    """The gain over `base` of each rival that changes anything and did not lose every one of the first rounds.

    going  asked before each round from `least` on: when it says no, what has been timed by then counts
    """
    logs: dict[Setting, list[dict[str, float]]] = {rival: [] for rival in rivals}
    twin: list[dict[str, float]] = []
    for done in range(rounds):
        if not logs or not (done < least or going()):
            break
        first, second, *others = sample([base, base, *logs])
        twin.append(_logs(first, second))
        for members, times in zip(logs.values(), others):
            members.append(_logs(first, times))
        lost = [
            rival
            for rival, members in logs.items()
            if not members[0] or (done + 1 == EARLY and all(mean(x.values()) < 0 for x in members))
        ]
        for rival in lost:
            del logs[rival]
    found = {}
    for rival, members in logs.items():
        if members:
            floor = median(mean(round_[shape] for shape in members[0]) for round_ in twin)
            shapes = {shape: math.exp(median(x[shape] for x in members)) for shape in members[0]}
            ratio = spread([mean(x.values()) for x in members])
            found[rival] = Gain(ratio, math.exp(floor), shapes)
    return found


def descend(
    sample: Sample[Setting],
    start: Setting,
    moves: Sequence[Callable[[Setting], Sequence[Setting]]],
    going: Callable[[], bool],
    first: Sequence[Setting] = (),
) -> tuple[Setting, bool]:
    """The setting that no move improves by more than noise, and whether the search came to its end.

    moves  one for each coordinate: the settings next to one along it
    first  settings that are tried before any move, even if there is no time

    No setting is tried twice.
    """
    best, tried = start, {start}

    def better(rivals: Sequence[Setting], least: int = 0) -> bool:
        nonlocal best
        fresh = [rival for rival in dict.fromkeys(rivals) if rival not in tried]
        if not fresh or not (least or going()):
            return False
        gains = race(sample, best, fresh, ROUNDS, going, least)
        tried.update(fresh)
        real = {rival: gain for rival, gain in gains.items() if gain.real}
        if real:
            best = max(real, key=lambda rival: real[rival].ratio.value)
        return bool(real)

    better(first, least=ROUNDS)
    changed = True
    while changed and going():
        changed = False
        for move in moves:
            while better(move(best)):
                changed = True
    return best, going()


def spread(logs: Sequence[float]) -> Interval:
    """exp of the median of `logs` and its interval between two order statistics; bounds NaN where they are too few."""
    n, ordered = len(logs), sorted(logs)
    chance, rank = 2.0**-n, 0  # of `rank` values or fewer below the median
    below = chance
    while 2 * below <= 1 - CONFIDENCE:
        rank += 1
        chance *= (n - rank + 1) / rank
        below += chance
    if rank == 0:
        return Interval(math.exp(median(ordered)), math.nan, math.nan, n)
    return Interval(math.exp(median(ordered)), math.exp(ordered[rank - 1]), math.exp(ordered[n - rank]), n)


def _logs(base: Times, other: Times) -> dict[str, float]:
    """log of base over other, for the shapes of `other`: above 0 the other is faster."""
    return {shape: math.log(base[shape] / seconds) for shape, seconds in other.items()}
