"""Remarks: what spoils a result, and below what a difference means nothing, in sentences."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.verdicts.statistics import Floor, Result, size_class
from reports import alike, wording
from reports.selection import UNKNOWN_FLOOR, Ladder, label, measured, unusual

# The kinds of doubts, the most serious first, in the few words that a finding has room for. On one thread a wait is
# taken off: that disturbs the least.
KINDS = {
    "oversubscribed": "threads waited for cores",
    "throttled": "a CPU quota",
    "two-humped": "samples in two groups",
    "gpu-clock": "the GPU's clock varied",
    "gpu-throttled": "the GPU held its clock down",
    "crowded": "a core not its own",
    "launches": "launches differ",
    "drift": "the machine changed speed",
    "steal": "the hypervisor took time",
    "foreign-load": "other load",
    "prints": "it prints",
}
FEW = 3
CLASSES = {
    "small": "n < 64",
    "medium": "64 ≤ n < 256",
    "large": "n ≥ 256",
    "step": "training steps",
}
CLASSES |= {f"{name}, host data": f"{words}, host data" for name, words in CLASSES.items() if name != "step"}
CLASSES |= {f"{name}, cold": f"{words}, cold" for name, words in CLASSES.items() if name != "step"}
# Of several cells, where the figures of one say nothing of the others.
IN_GENERAL = {"two-humped": "their samples fall into two groups, with nothing between"}


def doubts(result: Result) -> list[tuple[str, str]]:
    """Kind and sentence of each doubt about a measured cell, the most serious first."""
    known = result.cell.get("doubts")
    if not isinstance(known, list) or not measured(result):
        return []
    found = [
        (str(doubt.get("kind")), _units(str(doubt["sentence"])))
        for doubt in known
        if isinstance(doubt, dict) and doubt.get("sentence")
    ]
    return sorted(found, key=lambda doubt: _rank(doubt[0]))


@dataclass(frozen=True)
class Remark:
    """A doubt, told once for all cells that it concerns."""

    kind: str
    sentence: str
    cells: list[Result]


def remarks(results: Iterable[Result]) -> list[Remark]:
    """The doubts about some cells, alike ones together, the most serious first.

    Alike are sentences whose first clauses differ in figures alone; the remark has the range of each figure.
    """
    told: dict[tuple[str, str], list[tuple[str, Result]]] = {}
    for result in results:
        for kind, sentence in doubts(result):
            key = kind, alike.template(sentence.partition("; ")[0])
            told.setdefault(key, []).append((sentence, result))
    found = [
        Remark(
            kind, _told_once(kind, [sentence for sentence, _ in members]), [result for _, result in members]
        )
        for (kind, _), members in told.items()
    ]
    return sorted(found, key=lambda remark: (_rank(remark.kind), -len(remark.cells)))


def _told_once(kind: str, sentences: Sequence[str]) -> str:
    if len(sentences) > 1 and kind in IN_GENERAL:
        return IN_GENERAL[kind]
    clauses = [sentence.partition("; ") for sentence in sentences]
    ends = [end for _, _, end in clauses if end]
    ends = [end for end in ends if alike.template(end) == alike.template(ends[0])]
    first = alike.together([clause for clause, _, _ in clauses])
    return f"{first}; {alike.together(ends)}" if ends else first


def in_doubt(results: Iterable[Result]) -> str:
    """The kinds of doubts about some cells, in a few words; "" if there are none."""
    kinds = {kind for result in results for kind, _ in doubts(result)}
    return ", ".join(KINDS.get(kind, kind) for kind in sorted(kinds, key=_rank))


def place(result: Result) -> str:
    """blas at n = 512 on 2 threads; what of its setting is not plain as well."""
    problem = result.problem
    if problem:
        what = wording.shape(problem["m"], problem["n"], problem["k"])
        odd = unusual(problem | {"cache": result.cell.get("cache")})
        what = ", ".join([what, *([problem["dtype"]] if problem.get("dtype") != "float32" else []), *odd])
    else:
        what = f"the step of {wording.architecture(result.model)}"
    return f"{label(result)}{' at' if problem else ','} {what} {wording.on(result.threads)}"


def places(results: Sequence[Result], of: int, every: str = "all cells") -> str:
    """The cells, or of many how many of all, and `every` for all."""
    if len(results) <= FEW:
        return "; ".join(place(result) for result in results)
    return every if len(results) == of else f"{len(results)} of {of} cells"


def floor(floor: Floor) -> str:
    """What a floor means, in one sentence."""
    where = f"{CLASSES.get(floor.size_class, floor.size_class)} {wording.on(floor.threads)}"
    where = f"in {where}" if floor.size_class == "step" else f"at {where}"
    if not math.isfinite(floor.value):
        return f"A/A: {floor.kernel} ran against itself in one launch alone {where}: that gives no floor"
    return (
        f"A/A: {floor.kernel} against itself differs by up to {bound(floor.value)} {where}: "
        "no smaller difference means anything"
    )


def bound(value: float) -> str:
    """A floor as a percentage; one beyond 100 % by its factor."""
    return wording.percent(value) if not value >= 1 else f"a factor of {wording.digits(1 + value)}"


def floor_under(ladder: Ladder) -> str:
    """The sentence that stands under a ladder."""
    wanted = size_class(ladder.rungs[-1].result), ladder.comparison.threads
    for one in ladder.comparison.floors:
        if (one.size_class, one.threads) == wanted:
            return floor(one)
    return f"A/A was not measured here: a difference below {wording.percent(UNKNOWN_FLOOR)} is not called one"


def _rank(kind: str) -> int:
    return list(KINDS).index(kind) if kind in KINDS else len(KINDS)


def _units(sentence: str) -> str:
    """Records are plain ASCII; a page says µs."""
    return re.sub(r"(?<=\d) us\b", " µs", sentence)
