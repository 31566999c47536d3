"""Tune on a GPU: tile sizes of the autotuned rungs, searched from the ladder's and written where `gemm.cuda` reads.

For each rung coordinate descent (`bench.verdicts.descent`): every tile size halved and doubled, alone and paid for by
another; each candidate compiled, verified at every shape, and timed in turn with the one that it would replace, by the
device's clock. What the search ends with is held against the ladder's sizes once more, on shapes that the search has
not seen as well, and that comparison decides. In one process and on the same operands: for the choice alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from math import ceil
from pathlib import Path
from time import perf_counter
from typing import Any

import gemm
from bench import config_files
from bench.records import Line, now
from bench.timing import device, device_rules
from bench.timing.progress import Progress, Silent
from bench.verdicts.descent import SIGNIFICANT, Gain, descend, race
from gemm.configuration import Unusable
from gemm.cuda import build, launch, probe, tiles
from gemm.cuda.product import pack
from gemm.cuda.rungs import LADDER, Macros, Rung, runs
from gemm.kernel import Kernel
from gemm.problems import Problem
from gemm.threads import available_cores

BUDGET_S = 300.0
LONGEST_S = 86400.0
# Of a rung's time, what searching may take; confirming takes the rest.
SEARCHING = 0.75
CONFIRMING = 9  # rounds
# Seconds of a sample on the device, and of the warming up before the first of a problem.
SAMPLE_S, WARM_S = 0.01, 0.3
# Next to a size are these multiples of it ...
FACTORS = (0.5, 2.0)
# ... and what is given to one may be taken from another.
TRADES = {
    "BM": ("BN", "BK", "STAGES"), "BN": ("BM", "BK", "STAGES"),
    "WM": ("WN",), "WN": ("WM",), "TM": ("TN",), "TN": ("TM",),
}  # fmt: skip
SEEN = ((4096, 4096, 4096, "nn"), (2048, 2048, 2048, "nn"))
UNSEEN = (
    (8192, 4096, 4096, "nn"),
    (4096, 4096, 4096, "tn"),
    (4096, 4096, 4096, "nt"),
    (3000, 3000, 3000, "nn"),
)

Tiles = tuple[tuple[str, int], ...]  # in the rung's order: hashable


@dataclass(frozen=True)
class Found:
    """What was found for a rung: `tuned` are the sizes that were kept; `gain` is over the ladder's."""

    kernel: str
    ladder: dict[str, int]
    tuned: dict[str, int]
    gain: Gain | None
    tried: int
    refused: tuple[str, ...]
    finished: bool

    def record(self) -> Line:
        gain = None if self.gain is None else asdict(self.gain)
        return {**asdict(self), "gain": gain, "refused": list(self.refused)}


@dataclass
class Tuning:
    """What a tuning found, by rung, and where it was written (None: nothing was)."""

    device: Line = field(default_factory=dict)
    found: list[Found] = field(default_factory=list)
    seconds: float = 0.0
    written: Path | None = None

    @property
    def better(self) -> dict[str, dict[str, int]]:
        return {one.kernel: one.tuned for one in self.found if one.tuned != one.ladder}

    def record(self) -> Line:
        return {
            "device": self.device, "seconds": self.seconds, "kernels": [one.record() for one in self.found],
            "written": str(self.written) if self.written else None,
        }  # fmt: skip


def autotuned() -> dict[str, tuple[Rung, ...]]:
    """The kernels that have tile sizes to choose: all whose block does more than one element a thread. Some are two
    rungs, of which a newer GPU takes the faster one where it can."""
    return {
        rung.name: (rung, rung.faster) if rung.faster else (rung,) for rung in LADDER if len(rung.tiles) > 1
    }


def tune(
    kernels: Sequence[str] = (),
    budget_s: float = BUDGET_S,
    out: str | Path | None = None,
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
    clock: Callable[[], float] = perf_counter,
) -> Tuning:
    """Search tile sizes for this GPU and write those that beat the ladder's by more than noise.

    kernels   of the ladder (default: all that are autotuned); of each, every rung that this GPU can run is tuned
    budget_s  seconds, about, for all of them
    out       the file (default: where `gemm.cuda.tiles` reads it); other GPUs' entries, and other rungs' sizes, stay

    Raises ValueError for what is no such rung, budget or file, where there is no GPU, and for a rung that is wrong.
    """
    ladder = autotuned()
    if unknown := next((name for name in kernels if name not in ladder), None):
        raise ValueError(f"{unknown} has no tile sizes to tune; there are {', '.join(ladder)}")
    if not 0 < budget_s <= LONGEST_S:
        raise ValueError(f"budget = {budget_s:g} must be a number of seconds up to {LONGEST_S:g}")
    kernels = kernels or list(ladder)
    for name in kernels:
        if reason := gemm.find(name).reason:
            raise ValueError(f"{name} cannot be tuned here: {reason}")
    capability = _device().capability
    rungs = [rung for name in kernels for rung in ladder[name] if runs(rung.since, capability)]
    file = None if dry_run else config_files.writable(tiles.FILE, out)
    before = _before(Path(out).absolute() if out else tiles.FILE.path())
    tuning, progress, began, shown = Tuning(tiles.device()), progress or Silent(), clock(), 0

    def told(text: str) -> None:
        nonlocal shown
        elapsed = int(clock() - began)
        progress.advance(elapsed - shown)
        progress.note(text)
        shown = elapsed

    progress.begin(round(budget_s))
    try:
        for number, rung in enumerate(rungs):
            share = budget_s / len(rungs)
            limits = began + share * (number + SEARCHING), began + share * (number + 1)
            tuning.found.append(_rung(rung, before.get(rung.name), limits, clock, told))
    finally:
        progress.end()
    tuning.seconds = clock() - began
    if file is not None and _write(file, tuning):
        tuning.written = file
    return tuning


def forget(out: str | Path | None = None) -> bool:
    """Remove this GPU's entry from the file; False if there was none. Raises ValueError as `tune` does."""
    return config_files.remove(tiles.FILE, out, tiles.device())


def neighbours(rung: Rung, name: str, sizes: Tiles) -> list[Tiles]:
    """The tile sizes next to these along one of them, those that are not refused."""
    known, found = dict(sizes), []
    for factor in FACTORS:
        changed = known | {name: int(known[name] * factor)}
        found.append(changed)
        for other in TRADES.get(name, ()):
            if other in known:
                found.append(changed | {other: int(known[other] / factor)})
        if name in ("BM", "BN") and f"W{name[1]}" in known:  # a block of other size, of as many warps
            of_warps = changed | {f"W{name[1]}": int(known[f"W{name[1]}"] * factor)}
            depth = "BK" if "BK" in known else "STAGES"
            found += [of_warps, of_warps | {depth: int(known[depth] / factor)}]
    ordered = [tuple((key, one[key]) for key in rung.tiles) for one in found]
    return [one for one in dict.fromkeys(ordered) if one != sizes and not rung.refused(dict(one))]


class Candidates:
    """Problems on the device; `sample` times tile sizes of a rung on them, each verified first.

    refused  what could not be compiled or launched, in sentences: such are slower than anything
    """

    def __init__(self, rung: Rung, shapes: Iterable[tuple[int, int, int, str]]) -> None:
        self.rung = rung
        dtype = rung.signatures[0].input
        self.problems = [Problem(m, n, k, dtype, *order) for m, n, k, order in shapes]
        self.operands = {problem: device.operands(problem) for problem in self.problems}
        self.random = random.Random(0)
        self.calls: dict[tuple[Problem, Tiles, int], Callable[[], Any] | None] = {}
        self.loops: dict[Problem, int] = {}
        self.refused: dict[Tiles, str] = {}

    def sample(self, candidates: Sequence[Tiles]) -> list[dict[str, float]]:
        """One round: seconds of each candidate by problem, in random order. Raises ValueError for a wrong result."""
        self.prepare(candidates)
        if why := self.refused.get(candidates[0]):
            raise ValueError(f"{self.rung.name} cannot be tuned here: {why}")
        found: list[dict[str, float]] = [{} for _ in candidates]
        for problem in self.problems:
            turns = [at for at, sizes in enumerate(candidates) if sizes not in self.refused]
            self.random.shuffle(turns)
            for at in turns:
                call = self._bound(problem, candidates[at])
                if call is None and at == 0:
                    raise ValueError(f"{self.rung.name} cannot be tuned here: {self.refused[candidates[0]]}")
                if call is not None:
                    found[at][str(problem)] = self._time(problem, call)
        return found

    def prepare(self, candidates: Sequence[Tiles]) -> None:
        """Compile what is new, on all cores: a second for each variant."""
        architecture = build.architecture_of(_device().capability)
        wanted = {
            tuple(macros.items()): (sizes, macros)  # problems of one order have one variant
            for sizes in dict.fromkeys(candidates)
            for problem in self.problems
            if (problem, sizes, 0) not in self.calls
            for macros in (self.rung.macros(pack(*self.operands[problem]), dict(sizes)),)
        }
        with ThreadPoolExecutor(available_cores()) as pool:
            jobs = [
                (sizes, pool.submit(build.build, self.rung.path, macros, architecture))
                for sizes, macros in wanted.values()
            ]
            for sizes, job in jobs:
                try:
                    job.result()
                except build.Uncompilable as error:
                    self.refused[sizes] = f"{_named(sizes)}: {str(error).splitlines()[0]}"

    def _bound(self, problem: Problem, sizes: Tiles) -> Callable[[], Any] | None:
        key = problem, sizes, 0
        if key not in self.calls:
            self.calls[key] = self._verified(problem, sizes)
        return self.calls[key]

    def _verified(self, problem: Problem, sizes: Tiles) -> Callable[[], Any] | None:
        kernel = with_tiles(self.rung, sizes)
        try:
            right = device_rules.exact(kernel, problem)
            call = gemm.prepare(*self.operands[problem], kernel=kernel)
            device.clock([call])
        except RuntimeError as error:  # CuPy's: too many registers or too much shared memory for a launch
            self.refused[sizes] = f"{_named(sizes)}: {str(error).splitlines()[0]}"
            return None
        if not right:
            raise ValueError(
                f"{self.rung.name} with {_named(sizes)} is wrong at {problem}; "
                f"`gemmlab check {kernel.name}` says more"
            )
        if problem not in self.loops:
            spent, calls = 0.0, 1
            while spent < WARM_S:
                seconds = device.clock([call] * calls) / 1e9
                spent += seconds
                calls = max(1, ceil(SAMPLE_S * calls / seconds))
            self.loops[problem] = calls
        return call

    def _time(self, problem: Problem, call: Callable[[], Any]) -> float:
        loops = self.loops[problem]
        device.clock([call] * max(1, loops // 4))  # not counted
        return device.clock([call] * loops) / 1e9 / loops


def with_tiles(rung: Rung, sizes: Tiles) -> Kernel:
    """The rung's kernel with these tile sizes; that it can run here is known by now."""
    name = next(name for name, rungs in autotuned().items() if rung in rungs)
    return replace(gemm.find(name), bind=partial(launch.bind, rung, sizes=dict(sizes)), probe=None)


def _rung(
    rung: Rung, before: Macros | None, limits: tuple[float, float], clock: Callable[[], float],
    told: Callable[[str], None],
) -> Found:  # fmt: skip
    """Search a rung's tile sizes until the first of the limits, and confirm what was found until the second.

    before  what an earlier tuning found: tried first
    """
    search_until, confirm_until = limits
    start: Tiles = tuple(rung.tiles.items())
    told(f"{rung.name}: compiling")
    seen = Candidates(rung, SEEN)
    tried: set[Tiles] = set()

    def sample(candidates: Sequence[Tiles]) -> list[dict[str, float]]:
        tried.update(candidates)
        told(f"{rung.name}: {', '.join(changes(candidates[0], one) for one in candidates[2:])}")
        return seen.sample(candidates)

    moves = [partial(neighbours, rung, name) for name in rung.tiles]
    first = [] if before is None else [tuple((key, before[key]) for key in rung.tiles)]
    best, finished = descend(sample, start, moves, lambda: clock() < search_until, first)
    gain = None
    if best != start:
        told(f"{rung.name}: {changes(start, best)}?")
        unseen = Candidates(rung, UNSEEN)

        def confirm(candidates: Sequence[Tiles]) -> list[dict[str, float]]:
            return [one | other for one, other in zip(seen.sample(candidates), unseen.sample(candidates))]

        gain = race(confirm, start, [best], CONFIRMING, lambda: clock() < confirm_until, SIGNIFICANT).get(
            best
        )
    kept = best if gain is not None and gain.real else start
    return Found(rung.name, dict(start), dict(kept), gain, len(tried), tuple(seen.refused.values()), finished)


def _before(file: Path | None) -> dict[str, Macros]:
    """What an earlier tuning found for this GPU, by rung; {} where that cannot be had."""
    try:
        mine = config_files.entries(tiles.FILE, file, tiles.device())[1] if file else None
        return tiles.tiles_of(mine, file) if file and mine else {}
    except Unusable:
        return {}


def changes(before: Tiles, after: Tiles) -> str:
    """In words: "BM 128 -> 256"."""
    pairs = zip(before, after)
    return " ".join(f"{name} {one} -> {other}" for (name, one), (_, other) in pairs if one != other)


def _named(sizes: Tiles) -> str:
    return " ".join(f"{name}={size}" for name, size in sizes)


def _device() -> probe.Device:
    found = probe.device()
    if found is None:
        raise ValueError("there is no CUDA device here")
    return found


def _write(file: Path, tuning: Tuning) -> bool:
    """Put what was found into the file, whole or not at all; whether anything had to be written."""
    # now: another machine may have written meanwhile
    kept, _ = config_files.entries(tiles.FILE, file, tuning.device)
    before = _before(file)
    decided = {one.kernel for one in tuning.found}
    sizes = {name: known for name, known in before.items() if name not in decided} | tuning.better
    if sizes == before:
        return False
    if sizes:
        gains = {one.kernel: one.record() for one in tuning.found if one.kernel in tuning.better}
        kept.append({"cpu": tuning.device, "date": now(), "tiles": sizes, "gains": gains})
    config_files.put(tiles.FILE, file, kept)
    return True
