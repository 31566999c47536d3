"""Tune: block sizes of numba-micro for this machine, searched from the model's and written where `gemm` reads them.

For each dtype the sizes of blocks on one thread, then what is worth a second thread on all: coordinate descent
(`bench.verdicts.descent`) over candidates that are timed in turn in this process (`bench.timing.candidates`). What the
search ends with is then held against the model once more, on shapes that the search has not seen as well: the gain of
that comparison is the one that is told, and the one that decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter

import gemm
from bench import config_files
from bench.records import Line, now
from bench.timing.candidates import Candidates
from bench.timing.progress import Progress, Silent
from bench.timing.subjects import Wrong
from bench.verdicts.descent import SIGNIFICANT, Gain, descend, race
from gemm.configuration import Unusable
from gemm.micro import blocking, tuning
from gemm.micro.blocking import Blocks
from gemm.micro.host import tile
from gemm.problems import DTYPES, Problem
from gemm.threads import available_cores

BUDGET_S = 120.0
LONGEST_S = 86400.0
# Of the budget, what searching may take; confirming takes the rest.
SEARCHING = 0.7
CONFIRMING = 13  # rounds
# Where more of the samples than this had to wait for a core, what was found is what suits a machine that is shared.
MOST_DISTURBED = 0.2

Shape = tuple[int, int, int, str]  # m n k, and the order of A and B


def _squares(*sizes: int) -> tuple[Shape, ...]:
    return tuple((n, n, n, "nn") for n in sizes)


@dataclass(frozen=True)
class Stage:
    """Fields of Blocks that are searched together, on what they make a difference for.

    unseen  shapes of the confirmation alone
    share   of the time, roughly
    """

    fields: tuple[str, ...]
    every_core: bool
    shapes: tuple[Shape, ...]
    unseen: tuple[Shape, ...]
    share: float


WAKING = ("worth_a_thread",)
# Blocks: squares larger than a block in each direction, or whose B is about as large as L2; few rows for a large B; and
# the three products of a layer with 784 inputs and 512 outputs at batch 128. Threads: what takes as long as waking, or
# so many times as long that it is cut into more parts than threads.
STAGES = (
    Stage(
        tuple(name for name in Blocks._fields if name not in WAKING), False,
        (*_squares(192, 256, 352, 432, 560, 768, 1024, 1280), (512, 512, 512, "tt"), (128, 512, 784, "nn"),
         (784, 512, 128, "tn"), (128, 784, 512, "nt"), (32, 1024, 512, "nn"), (48, 768, 1024, "nn"),
         (72, 1024, 768, "nn"), (96, 1024, 1024, "nn")),
        (*_squares(320, 480, 600, 1000, 2048), (40, 1024, 1024, "nn"), (64, 2048, 1024, "nn")), 0.8,
    ),
    Stage(
        WAKING, True,
        (*_squares(32, 48, 64, 88, 96, 128, 160, 320, 400, 480), (128, 10, 64, "nn"), (16, 256, 256, "nn"),
         (32, 128, 64, "tn")),
        (*_squares(80, 104, 144, 360, 440), (64, 32, 128, "nn"), (128, 64, 10, "nt")), 0.2,
    ),
)  # fmt: skip

# Next to a size are these multiples of it ...
FACTORS = (1 / 2, 2 / 3, 3 / 2, 2)
# ... and what is given to one may be taken from others, so that a packed block of B keeps its bytes.
TRADES = {"depth": ("columns",)}


@dataclass(frozen=True)
class Found:
    """What a stage found for a dtype.

    tuned     the fields that it changes; {} if it kept the model's
    gain      of what the search ended with over the model; None if that was the model
    disturbed the share of its samples that waited for a core that something else used
    finished  whether the search came to its end before the budget did
    """

    threads: int
    fields: tuple[str, ...]
    tuned: Line
    gain: Gain | None
    disturbed: float
    finished: bool

    def record(self) -> Line:
        gain = None if self.gain is None else asdict(self.gain)
        return {**asdict(self), "fields": list(self.fields), "gain": gain}


@dataclass
class Tuning:
    """What a tuning found, by dtype, and where it was written (None: nothing was)."""

    model: dict[str, Blocks] = field(default_factory=dict)
    blocks: dict[str, Blocks] = field(default_factory=dict)
    stages: dict[str, list[Found]] = field(default_factory=dict)
    seconds: float = 0.0
    written: Path | None = None

    @property
    def better(self) -> dict[str, Blocks]:
        """The dtypes with other block sizes than the model's."""
        return {dtype: blocks for dtype, blocks in self.blocks.items() if blocks != self.model[dtype]}

    @property
    def undecided(self) -> list[str]:
        """The dtypes of which nothing can be said, because something else had the cores too often."""
        return [d for d, stages in self.stages.items() if any(x.disturbed > MOST_DISTURBED for x in stages)]

    def record(self) -> Line:
        dtypes = {
            dtype: {
                "model": self.model[dtype]._asdict(), "tuned": blocks._asdict(),
                "stages": [stage.record() for stage in self.stages[dtype]],
            }
            for dtype, blocks in self.blocks.items()
        }  # fmt: skip
        return {
            "cpu": tuning.cpu(), "seconds": self.seconds, "dtypes": dtypes,
            "written": str(self.written) if self.written else None,
        }  # fmt: skip


def tune(
    dtypes: Sequence[str] = DTYPES,
    budget_s: float = BUDGET_S,
    out: str | Path | None = None,
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
    clock: Callable[[], float] = perf_counter,
) -> Tuning:
    """Search block sizes for this machine and write those that beat the model by more than noise.

    budget_s  seconds, about
    out       the tuning file (default: where gemm reads it, `gemm.micro.tuning.FILE`); other machines' entries, and
              those of other dtypes, stay. A dtype for which nothing beats the model has no entry afterwards, unless
              that is only because the machine was too busy to say.
    dry_run   write nothing

    Raises ValueError for what is no dtype, budget or tuning file, and where numba-micro computes something wrong.
    """
    for dtype in dtypes:
        if dtype not in DTYPES:
            raise ValueError(f"unknown dtype {dtype!r}; there are {', '.join(DTYPES)}")
    if not 0 < budget_s <= LONGEST_S:
        raise ValueError(f"budget = {budget_s:g} must be a number of seconds up to {LONGEST_S:g}")
    file = None if dry_run else config_files.writable(tuning.FILE, out)
    before = _before(out)
    progress, threads = progress or Silent(), gemm.get_threads()
    found, began = Tuning(), clock()
    stages = [stage for stage in STAGES if not stage.every_core or available_cores() > 1]
    weights = {(d, stage): stage.share * tile(d).lanes ** -1 for d in dtypes for stage in stages}
    shown = 0

    def told(text: str) -> None:
        nonlocal shown
        elapsed = int(clock() - began)
        progress.advance(elapsed - shown)
        progress.note(text)
        shown = elapsed

    progress.begin(round(budget_s))
    try:
        spent = 0.0
        for dtype in dtypes:
            found.model[dtype] = found.blocks[dtype] = blocking.model(tile(dtype))
            found.stages[dtype] = []
            for stage in stages:
                share = weights[dtype, stage] / sum(weights.values())
                limits = began + budget_s * (spent + SEARCHING * share), began + budget_s * (spent + share)
                spent += share
                one = _stage(stage, dtype, found.blocks[dtype], before.get(dtype), limits, clock, told)
                found.stages[dtype].append(one)
                found.blocks[dtype] = found.blocks[dtype]._replace(**one.tuned)
    except Wrong as wrong:
        raise ValueError(f"numba-micro is wrong: {wrong}; `gemmlab check numba-micro` says more") from wrong
    finally:
        progress.end()
        gemm.set_threads(threads)
        for dtype, blocks in found.blocks.items():
            blocking.use(dtype, blocks)
    found.seconds = clock() - began
    if file is not None and _write(file, found):
        found.written = file
    return found


def forget(out: str | Path | None = None) -> bool:
    """Remove this processor's entry from the tuning file; False if there was none. Raises ValueError as `tune` does."""
    return config_files.remove(tuning.FILE, out, tuning.cpu())


def _stage(
    stage: Stage, dtype: str, start: Blocks, before: Blocks | None, limits: tuple[float, float],
    clock: Callable[[], float], told: Callable[[str], None],
) -> Found:  # fmt: skip
    """Search a stage's fields until the first of the limits, and confirm what was found until the second."""
    search_until, confirm_until = limits
    threads = available_cores() if stage.every_core else 1
    told(f"{dtype}: getting ready")
    seen = Candidates(_problems(stage.shapes, dtype), threads)

    def sample(candidates: Sequence[Blocks]) -> list[dict[str, float]]:
        rivals = ", ".join(changes(candidates[0], rival) for rival in candidates[2:])
        told(f"{dtype}, {threads} thread{'s' * (threads > 1)}: {rivals}")
        return seen.sample(candidates)

    first = (
        [] if before is None else [start._replace(**{name: getattr(before, name) for name in stage.fields})]
    )
    moves = [partial(neighbours, dtype, name) for name in stage.fields]
    best, finished = descend(sample, start, moves, lambda: clock() < search_until, first)
    if best == start:
        return Found(threads, stage.fields, {}, None, _disturbed(seen), finished)
    unseen = Candidates(_problems(stage.unseen, dtype), threads)

    def confirm(candidates: Sequence[Blocks]) -> list[dict[str, float]]:
        told(f"{dtype}: {changes(start, best)}?")
        return [one | other for one, other in zip(seen.sample(candidates), unseen.sample(candidates))]

    gain = race(confirm, start, [best], CONFIRMING, lambda: clock() < confirm_until, SIGNIFICANT).get(best)
    fields = {
        name: getattr(best, name) for name in stage.fields if getattr(best, name) != getattr(start, name)
    }
    share = _disturbed(seen, unseen)
    kept = gain is not None and gain.real and share <= MOST_DISTURBED
    return Found(threads, stage.fields, fields if kept else {}, gain, share, finished)


def _disturbed(*timed: Candidates) -> float:
    return sum(one.disturbed for one in timed) / max(1, sum(one.taken for one in timed))


def neighbours(dtype: str, name: str, blocks: Blocks) -> list[Blocks]:
    """The block sizes next to these along one field, those that are not refused."""
    shape = tile(dtype)
    grains = {"columns": shape.columns, "depth": 8}
    sizes = blocks._asdict()

    def scaled(field_: str, factor: float) -> int:
        grain = grains.get(field_, 1)
        return max(grain, round(sizes[field_] * factor / grain) * grain)

    found = []
    for factor in FACTORS:
        found.append(blocks._replace(**{name: scaled(name, factor)}))
        paid = {other: scaled(other, 1 / factor) for other in TRADES.get(name, ())}
        found.append(found[-1]._replace(**paid))
    return [
        one for one in dict.fromkeys(found) if one != blocks and not blocking.refused(one._asdict(), dtype)
    ]


def changes(before: Blocks, after: Blocks) -> str:
    """In words: "depth 512 -> 256"."""
    pairs = zip(Blocks._fields, before, after)
    return " ".join(f"{name} {one} -> {other}" for name, one, other in pairs if one != other)


def _problems(shapes: Sequence[Shape], dtype: str) -> list[Problem]:
    return [Problem(m, n, k, dtype, *order) for m, n, k, order in shapes]


def _before(out: str | Path | None) -> dict[str, Blocks]:
    """What an earlier tuning found for this processor: the first that is tried. {} where that cannot be had."""
    file = Path(out).absolute() if out else tuning.FILE.path()
    try:
        mine = config_files.entries(tuning.FILE, file, tuning.cpu())[1] if file else None
        return tuning.blocks_of(mine, file) if file and mine else {}
    except Unusable:
        return {}


def _write(file: Path, found: Tuning) -> bool:
    """Put what was found into the file, whole or not at all; whether anything had to be written."""
    # now: another machine may have written meanwhile
    kept, mine = config_files.entries(tuning.FILE, file, tuning.cpu())
    before = (mine or {}).get("blocks")
    before = before if isinstance(before, dict) else {}
    decided = found.blocks.keys() - found.undecided
    blocks = {dtype: sizes for dtype, sizes in before.items() if dtype not in decided}
    blocks |= {dtype: sizes._asdict() for dtype, sizes in found.better.items()}
    if blocks == before:
        return False
    if blocks:
        gains = {dtype: [stage.record() for stage in found.stages[dtype]] for dtype in found.better}
        kept.append(
            {
                "cpu": tuning.cpu(), "date": now(), "source": gemm.get("numba-micro").source,
                "blocks": blocks, "gains": gains,
            }
        )  # fmt: skip
    config_files.put(tuning.FILE, file, kept)
    return True
