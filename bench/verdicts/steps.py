"""Steps: what each of a row of kernels brought over the one before, on the shapes that all of them have.

    steps(run, ["numba-ikj", "numba-blocked", "numba-micro", "numba-micro@2"])

`@2` is a kernel on two threads; without it, on the fewest that the run has. Ratios are speed-ups, geometric means over
the shapes in each launch, with Student's t over launches; one table for each dtype. Nothing here is chosen or
sorted: the row is the reader's, and a step backwards is shown as one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from bench.records import Line, Run, canonical
from bench.verdicts.compare import (
    SAME_WITHIN,
    Mean,
    judged,
    log_ratios,
    mean_of,
    named,
    pair_of,
    regressions,
    why_not,
)
from bench.verdicts.statistics import Floor, Result, floor_for, floors, results, speedup

Shapes = dict[str, Result]  # what a problem is, but for its kernel and threads -> its result


@dataclass(frozen=True)
class Step:
    """One kernel of the row.

    rate    FLOP/s, and `share` of the multiply-add peak on as many threads (0 to 1): geometric means over the shapes
    gain    over the one before, and `total` over the first; None for the first
    """

    kernel: str
    threads: int
    rate: float
    share: float
    gain: Mean | None
    total: Mean | None

    def record(self) -> Line:
        """For --json."""
        means = {key: mean.record() if (mean := getattr(self, key)) else None for key in ("gain", "total")}
        return dict(vars(self)) | means


@dataclass(frozen=True)
class Row:
    """The steps on one dtype, and the problems that they are means over."""

    dtype: str
    problems: tuple[Line, ...]
    steps: tuple[Step, ...]

    def record(self) -> Line:
        """For --json."""
        return dict(vars(self)) | {"steps": [step.record() for step in self.steps]}


@dataclass(frozen=True)
class Steps:
    """A row for each dtype."""

    rows: tuple[Row, ...]

    def regressions(self, percent: float) -> list[Mean]:
        """Steps backwards, above their floor, that take more than `percent` % longer."""
        gains = [step.gain for row in self.rows for step in row.steps if step.gain]
        return [mean for mean in regressions((), gains, percent) if isinstance(mean, Mean)]

    def record(self) -> Line:
        """For --json."""
        return {"form": "steps", "rows": [row.record() for row in self.rows]}


def steps(run: Run, kernels: Sequence[str], same_within: float = SAME_WITHIN) -> Steps:
    """What each kernel brought over the one before. Raises ValueError where no shape has a time with all of them."""
    found = [result for result in results(run) if result.problem and not result.cell.get("revision")]
    fewest = min((result.threads for result in found), default=1)
    row = [_side(kernel, fewest, found, run) for kernel in kernels]
    cells = [
        {
            _place(result): result
            for result in found
            if (result.kernel, result.threads) == side and why_not(result, "") is None
        }
        for side in row
    ]
    shared = [at for at in cells[0] if all(at in one for one in cells)]
    if not shared:
        raise ValueError(
            f"{run.path}: of no shape have all of {', '.join(kernels)} a time; sweep them together"
        )
    measured = floors(found)
    made = []
    for dtype in dict.fromkeys(cells[0][at].problem["dtype"] for at in shared):
        places = [at for at in shared if cells[0][at].problem["dtype"] == dtype]
        sides = [{at: one[at] for at in places} for one in cells]
        own = tuple(_step(sides, index, measured, same_within) for index in range(len(sides)))
        made.append(Row(dtype, tuple(sides[0][at].problem for at in places), own))
    return Steps(tuple(made))


def on_threads(text: str) -> tuple[str, int] | None:
    """The kernel and the threads of `numba-micro@2`; None of a name without."""
    found = re.fullmatch(r"(.+)@(\d+)", text)
    return (found[1], int(found[2])) if found else None


def _side(text: str, fewest: int, found: Sequence[Result], run: Run) -> tuple[str, int]:
    """The kernel and threads that `numba-micro@2` names."""
    given = on_threads(text)
    if given is None:
        return named(text, found, run), fewest
    name, count = given
    threads = {result.threads for result in found}
    if count not in threads:
        there = ", ".join(map(str, sorted(threads)))
        raise ValueError(f"{text!r}: nothing was run on {count} threads in {run.path}; there are {there}")
    return named(name, found, run), count


def _place(result: Result) -> str:
    cell = result.cell
    return canonical([result.problem, cell.get("cache", "hot"), cell.get("via", "prepared")])


def _step(sides: Sequence[Shapes], index: int, measured: Sequence[Floor], same_within: float) -> Step:
    own = list(sides[index].values())
    rate = math.exp(fmean(math.log(result.rate.value) for result in own))
    share = math.exp(fmean(math.log(result.share_of_peak.value) for result in own))
    gain, total = (
        _mean(sides[before], sides[index], measured, same_within) if index else None
        for before in (index - 1, 0)
    )
    return Step(own[0].kernel, own[0].threads, rate, share, gain, total)


def _mean(before: Shapes, after: Shapes, measured: Sequence[Floor], same_within: float) -> Mean:
    """Of one side against another; the floor is the larger of theirs, where threads differ."""
    pairs, logs = [], []
    for at, new in after.items():
        old = before[at]
        known = [floor_for(measured, side) for side in (old, new)]
        floor = math.nan if any(map(math.isnan, known)) else max(known)
        pair = pair_of(new, (old, new), floor, None, (old.kernel, new.kernel))
        pairs.append(judged(pair, speedup(old, new), same_within))
        logs.append(log_ratios(new, old))
    return mean_of(next(iter(after.values())).kernel, pairs, logs, same_within)
