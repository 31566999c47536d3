"""The engine: runs a plan, launch by launch, and writes down what it sees.

    for each launch:                            fresh workers, one per kernel: the unit of the statistics
        for each thread count, each problem:    one kernel has a second worker, its twin, for A/A
                                                (where factors are varied around a base: all cells together)
            each kernel opens it: verified by the three rules, first call timed, loops calibrated
            for each round:                     kernels in random order, within about 10x of each other,
                one sample of each              the machine's ceilings among them
        at a declared number of launches: close what is narrow enough
    then one closing line per cell

Only one worker runs at a time; the others are stopped. Nothing of the parent's runs while a sample is
taken. Every line is in the file before the next sample begins: a killed run loses nothing, and `resume`
does what is missing.
"""

from __future__ import annotations

import math
import random
import sys
import tempfile
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

from bench.host.environment import caches, environment
from bench.host.witness import FIGURES, SUMS
from bench.isolation import trial
from bench.isolation.processes import Gone, Worker, undisturbed
from bench.peers import is_peer
from bench.plans.device import BANDWIDTHS, ceiling_of
from bench.plans.plan import DECLARED, Cell, Plan, check_memory, names_in, unfrozen
from bench.records import (
    Interrupted,
    Line,
    Run,
    RunError,
    Writer,
    load,
    new_folder,
    read_json,
    write_json,
)
from bench.timing import ceilings
from bench.timing.crew import CEILING, Crew, Member
from bench.timing.ledger import ONCE, Group, Ledger
from bench.timing.progress import Progress, Silent
from bench.timing.references import References
from bench.timing.revisions import restored
from bench.verdicts.statistics import CROWDED, ENOUGH, UNDISTURBED, crowding, least_pace, waited_share

# Only kernels within this factor of each other share rounds: a slow one would put the others' samples far
# apart in time.
ALIKE = 10.0
# Seconds of a call from which its rate says something about larger problems.
TELLING_S = 0.01
# Where rounds were disturbed there are more, until in as many nobody waited as were planned, and until every cell has
# enough samples with a core of their own: up to so many times as many, and for the plan's `more_s`.
MOST = 3
# What is done in a turn of a round beside sampling a ceiling, which goes by the ceiling's name.
SAMPLE, TWIN = "sample", "twin"
Turn = tuple[str, Cell]
# What a sample on a device has of the device, beside the figures of the witness (`bench.host.gpu.now`); and where host
# data are handed to one, the parts of its time.
DEVICE_FIGURES = ("sm_mhz", "memory_mhz", "power_w", "temperature_c", "throttled", "transfer_s", "product_s")
# Calls on a problem before the first sample: verification, first call, calibration.
CALLS_TO_OPEN = 5
# The same of a training step (rules 2 and 3 multiply each of its products three times), and the steps of a sample that
# holds but one: one that is not counted, one without and one with the recorder, one that is verified.
STEPS_TO_OPEN, STEPS_IN_SAMPLE = 8, 4


def start(
    plan: Plan, out: str | Path | None = None, *, stem: str = "sweep", command: list[str] | None = None,
    progress: Progress | None = None,
) -> Run:  # fmt: skip
    """Run a plan into a new folder. ValueError where memory does not suffice, RunError for the folder."""
    check_memory(plan.cells, plan.group)
    folder = new_folder(out, stem)
    try:
        writer = Writer(folder, folder.name)  # first: it refuses a run that somebody else is writing
        write_json(folder / "environment.json", environment(folder.name, command or sys.argv))
        write_json(folder / "plan.json", plan.record())
    except OSError as error:
        raise RunError(f"{folder}: cannot be written ({error.strerror}); give another folder") from error
    return _go(plan, folder, progress, writer)


def resume(folder: str | Path, progress: Progress | None = None) -> Run:
    """Finish a run that was killed: only what is missing. Raises RunError if it holds no plan."""
    path = Path(folder)
    if not (path / "plan.json").exists():
        raise RunError(f"{folder}: holds no plan.json, so there is nothing to resume")
    before = load(path) if (path / "records.jsonl").exists() else None
    plan = Plan.from_record(read_json(path / "plan.json"))
    check_memory(plan.cells, plan.group)
    with restored(plan.trees) as plan.trees:  # their folders went with the process that made them
        return _go(plan, path, progress, Writer(path, path.name), before)


def _go(
    plan: Plan, folder: Path, progress: Progress | None, writer: Writer, before: Run | None = None
) -> Run:
    """Run what is missing. Raises Interrupted: from here on, what there is can be resumed."""
    try:
        return _Engine(plan, folder, progress or Silent(), writer, before).run()
    except KeyboardInterrupt:
        raise Interrupted(f"what was measured is in {folder}: gemmlab sweep --resume {folder}") from None


class _Engine:
    def __init__(
        self, plan: Plan, folder: Path, progress: Progress, writer: Writer, before: Run | None = None
    ) -> None:
        self.plan, self.folder, self.progress = plan, folder, progress
        self.random = random.Random()
        self.rates: dict[tuple[str, int], list[tuple[int, float]]] = defaultdict(list)  # -> (flops, seconds)
        self.told: dict[Member, Line] = {}  # what the records say already of a member's libraries
        self.described: set[tuple[int, Member]] = set()  # (launch, member) that were asked for them
        self.bandwidths_of: set[tuple[int, int]] = set()  # (launch, threads) whose bandwidths are measured
        self.caches = caches()
        self.ledger = Ledger(plan, folder, writer, progress, self.caches, before)
        self.writer = writer
        self.scratch = tempfile.TemporaryDirectory(prefix="gemmlab-")
        self.crew = Crew(plan, Path(self.scratch.name))
        self.hosts: dict[str, Worker | None] = {}  # cell id -> the worker that it is open in
        self.references = References(Path(self.scratch.name), plan.seed)
        self.least_pace = math.inf if before is None else least_pace(before) or math.inf

    def run(self) -> Run:
        began = monotonic()
        try:
            self._close_unavailable()
            total = sum(self.ledger.missing(cell) for cell in self.plan.cells)
            self.progress.begin(total * self.plan.rounds)
            while groups := self.ledger.groups():
                launch_began = monotonic()
                self._launch(self.ledger.next_launch, groups)
                self.ledger.next_launch += 1
                self.ledger.close_narrow()
                now = monotonic()
                if self._out_of_budget(now - began, now - launch_began):
                    break
            self.ledger.close_sampled(self.ledger.open_cells())
        except OSError as error:  # a full disk, most likely
            raise RunError(
                f"{error.filename or self.folder}: {error.strerror or error}; what was measured is kept: "
                f"gemmlab sweep --resume {self.folder} goes on"
            ) from error
        finally:
            with undisturbed():
                self.crew.close()
                self.progress.end()
                self.scratch.cleanup()
                with suppress(OSError):  # every line is written; on a full disk the last flush fails again
                    self.writer.close()
        return load(self.folder)

    def _out_of_budget(self, spent: float, launch_s: float) -> bool:
        """True if there is no time to get to the next number of launches at which sampling may stop."""
        if self.plan.budget_s is None:
            return False
        done = max((len(self.ledger.complete[cell.id]) for cell in self.ledger.open_cells()), default=0)
        at_a_look = done in DECLARED
        following = next((k for k in DECLARED if k > done), done + 1) if at_a_look else done + 1
        following = min(following, self.plan.launches)
        return spent + (following - done) * launch_s > self.plan.budget_s

    def _close_unavailable(self) -> None:
        for cell in self.ledger.open_cells():
            if cell.revision:
                continue  # its own workers know
            for name in names_in(cell.kernel):
                found = trial.outcome(name)
                if found.status != "ok":
                    self.ledger.close(cell, found.status, reason=found.reason)
                    break

    # One launch

    def _launch(self, launch: int, groups: list[Group]) -> None:
        for counts in dict.fromkeys(_threads(cells) for _, cells in groups):
            chosen = [(key, cells) for key, cells in groups if _threads(cells) == counts]
            members = {_member(cell): None for _, cells in chosen for cell in cells}
            members |= {
                _member(cell, twin=True): None for _, cells in chosen for cell in self._twins(cells)[:1]
            }
            self.crew.start([*members, *(Member(CEILING, count) for count in counts)])
            for key, cells in chosen:
                self._group(launch, key, cells)
            self.crew.dismiss()

    def _twins(self, cells: list[Cell]) -> list[Cell]:
        """The cells of the kernel that is to have a twin: the first of a group has it."""
        return [cell for cell in cells if cell.kernel == self.plan.twin and not cell.revision]

    def _group(self, launch: int, key: Any, cells: list[Cell]) -> None:
        at = self.references.path(cells[0])
        ready = [cell for cell in cells if self._open(launch, cell, at)]
        twin = self._open_twin(key, ready, at)
        clusters = [ready] if self.plan.factors else _alike(ready, self.ledger.opened)
        for cluster in clusters:
            self._rounds(launch, cluster, twin if twin in cluster else None)
        for cell in ready:
            if cell.id not in self.ledger.closed and self._hosted(cell):
                self._ask(cell, do="close", cell=cell.id)
        if twin:
            with suppress(Gone):
                self.crew.ask(_member(twin, twin=True), do="close", cell=twin.id)

    def _open(self, launch: int, cell: Cell, reference_at: str | None) -> bool:
        """Have the cell's worker verify and calibrate; False if the cell is closed instead."""
        skip = self._hopeless(cell)
        if cell.id in self.ledger.closed:
            return False
        if skip:
            self.ledger.close(cell, "skipped", **skip)
            return False
        self.progress.note(f"{_short(cell.kernel)} {cell.problem or _model_name(cell)}: verifying")
        answer = self._ask(cell, **self._to_open(cell, reference_at))
        if answer is None:
            return False
        self.hosts[cell.id] = self.crew.workers.get(_member(cell))
        self.ledger.note(cell, answer, compiled_anew=_member(cell) in self.crew.anew)
        if cell.problem:
            self.rates[cell.kernel, cell.threads].append((answer["flops"], answer["seconds"]))
        self._describe(_member(cell), launch)
        return True

    def _hosted(self, cell: Cell) -> bool:
        """False once its process has ended: another of its kernel's cells, open in it as well, may have done that."""
        return self.crew.workers.get(_member(cell)) is self.hosts.get(cell.id)

    def _to_open(self, cell: Cell, reference_at: str | None) -> Line:
        what: Line
        if cell.problem:
            problem = cell.problem.record()
            what = {"what": "problem", "problem": problem, "cache": cell.cache, "reference_at": reference_at}
            what |= _of_device(cell)
        else:
            what = {"what": "model", "model": unfrozen(cell.model)}
        common = {"cell": cell.id, "kernel": cell.kernel, "seed": self.plan.seed}
        return {"do": "open", "sample_s": self.plan.sample_s, **common, **what}

    def _open_twin(self, group: Any, ready: list[Cell], reference_at: str | None) -> Cell | None:
        """The cell whose kernel runs in a second process beside its first; None where there is none."""
        if self.plan.twin is None or not ready:
            return None
        fastest = min(ready, key=lambda cell: self.ledger.opened[cell.id]["seconds"])
        known = [cell for cell in ready if cell.id == self.ledger.twins.get(group)]
        cell = (known or self._twins(ready) or [fastest])[0]
        try:
            answer = self.crew.ask(_member(cell, twin=True), **self._to_open(cell, reference_at))
        except Gone:
            return None
        if answer["status"] != "ok":  # its first process will say so too, or the floor is missing
            return None
        self.ledger.twins[group] = cell.id
        return cell

    def _describe(self, member: Member, launch: int) -> None:
        """A line on what a worker has loaded, where the records do not say so yet."""
        if (launch, member) in self.described:
            return
        self.described.add((launch, member))
        try:
            answer = self.crew.ask(member, do="describe")
        except Gone:
            return
        if answer["status"] == "ok" and answer != self.told.get(member):
            self.told[member] = answer
            what = {key: value for key, value in answer.items() if key != "status"}
            self.writer.append("worker", "", launch=launch, **member._asdict(), **what)

    def _hopeless(self, cell: Cell) -> Line | None:
        """A prediction and a reason, where a cell would take longer than a cell may."""
        if "seconds" in self.ledger.opened.get(cell.id, {}) or self.ledger.complete[cell.id]:
            return None
        if is_peer(cell.kernel):  # what it multiplies, and with what, is its own affair
            return None
        plan, predicted = self.plan, math.inf
        small: Line
        if cell.problem:
            calls = plan.launches * (CALLS_TO_OPEN + plan.rounds)
            small = {"do": "pilot", "problem": cell.problem.record(), **_of_device(cell)}
            rates = self.rates[cell.kernel, cell.threads]
            known = [(flops, s) for flops, s in rates if flops <= cell.problem.flops]
            if any(s >= TELLING_S for _, s in known):  # shorter calls alone are overhead more than rate
                predicted = cell.problem.flops / max(flops / s for flops, s in known)
        else:
            calls = plan.launches * (STEPS_TO_OPEN + STEPS_IN_SAMPLE * plan.rounds)
            small = {"do": "pilot_step", "model": unfrozen(cell.model)}
        if predicted * calls > plan.cell_s:  # or unknown: a busy moment must not decide it
            answer = self._ask(cell, kernel=cell.kernel, **small)
            if answer is None:
                return None  # it is closed
            predicted = min(predicted, answer["seconds"])
        if predicted * calls <= plan.cell_s:
            return None
        return {
            "predicted_s": predicted,
            "reason": f"predicted from smaller sizes: {_span(predicted)} a call, {_span(predicted * calls)} in all "
            f"(a cell may take {_span(plan.cell_s)}: --cell-seconds)",
        }

    def _rounds(self, launch: int, cluster: list[Cell], twin: Cell | None) -> None:
        """R rounds of one sample each, in an order drawn anew for every round; more where some were disturbed."""
        peaks = {(cell.threads, cell.arithmetic or cell.dtype): (_peak(cell), cell) for cell in cluster}
        bandwidths: list[Turn] = []
        for cell in {cell.threads: cell for cell in cluster}.values():
            if (launch, cell.threads) not in self.bandwidths_of:
                bandwidths += [(name, cell) for name in self._bandwidths(cell)]
                self.bandwidths_of.add((launch, cell.threads))
        quiet, number, planned = 0, 0, self.plan.rounds
        alone: Counter[str] = Counter()  # cell id -> samples with a core of their own
        until = math.inf
        while True:
            cells = [cell for cell in cluster if cell.id not in self.ledger.closed]
            if not cells:
                return
            enough = quiet >= planned and min(alone[cell.id] for cell in cells) >= min(ENOUGH, planned)
            if number >= planned and (enough or number >= MOST * planned or monotonic() >= until):
                return
            turns: list[Turn] = [(SAMPLE, cell) for cell in cells]
            turns += [(TWIN, twin)] if twin in cells else []
            turns += [*peaks.values(), *(bandwidths if number == 0 else ())]
            self.random.shuffle(turns)
            waited = [0.0]
            for order, (what, cell) in enumerate(turns):
                at = {"launch": launch, "round": number, "order": order}
                if what == TWIN:
                    waited.append(self._sample_twin(cell, at))
                elif what != SAMPLE:
                    self._sample_ceiling(what, cell, at)
                elif cell.id not in self.ledger.closed:
                    share, crowd = self._sample(cell, at)
                    waited.append(share)
                    alone[cell.id] += crowd <= CROWDED
            quiet += max(waited) <= UNDISTURBED
            number += 1
            if number == planned:
                until = monotonic() + self.plan.more_s

    def _bandwidths(self, cell: Cell) -> list[str]:
        """The ceilings of moving bytes where the cell's kernel multiplies."""
        if cell.device != "cpu":
            return list(BANDWIDTHS)
        return [name for name in ceilings.names(self.caches) if name != "fma"]

    def _sample(self, cell: Cell, at: Line) -> tuple[float, float]:
        """Take one sample and write it down; the share of its time that it waited for a core, and `crowding`."""
        self.progress.note(
            f"launch {at['launch'] + 1}  {_short(cell.kernel)}  {cell.problem or _model_name(cell)}"
        )
        if not self._hosted(cell):
            if self._ask(cell, **self._to_open(cell, self.references.path(cell))) is None:
                return 0.0, 0.0
            self.hosts[cell.id] = self.crew.workers.get(_member(cell))
        printed = self.crew.printed(_member(cell))
        answer = self._ask(cell, do="sample", cell=cell.id)
        if at["round"] < self.plan.rounds:
            self.progress.advance()
        if answer is None:
            return 0.0, 0.0
        opened = self.ledger.opened[cell.id]
        opened["printed"] += self.crew.printed(_member(cell)) - printed
        opened["error_ratio"] = max(opened["error_ratio"], answer.get("error_ratio", 0.0))
        verified = {"error_ratio": opened["error_ratio"]}
        if at["round"] == 0:  # here too, so that a killed run still knows it
            verified |= {key: opened[key] for key in ONCE}
        if cell.problem:
            self.writer.append("sample", cell.id, **at, **_kept(answer), **verified)
        else:
            self._write_step(cell, at, answer, verified)
        if at["round"] == self.plan.rounds - 1:
            self.ledger.complete[cell.id].add(at["launch"])
        if pace := answer.get("pace_s"):
            self.least_pace = min(self.least_pace, pace)
        return waited_share(answer | {"seconds": _whole(answer)}, cell.threads), crowding(
            answer, self.least_pace
        )

    def _sample_twin(self, cell: Cell, at: Line) -> float:
        try:
            answer = self.crew.ask(_member(cell, twin=True), do="sample", cell=cell.id)
        except Gone:
            return 0.0
        if answer["status"] != "ok":
            return 0.0
        share = waited_share(answer | {"seconds": _whole(answer)}, cell.threads)
        self.writer.append("twin", cell.id, **at, **_kept(answer | _part(answer, answer["seconds"])))
        return share

    def _write_step(self, cell: Cell, at: Line, answer: Line, verified: Line) -> None:
        model, steps = unfrozen(cell.model), answer["loops"]
        for layer in answer["layers"]:
            self.writer.append("layer", cell.id, model=model, **at, steps=steps, **layer)
        both = ((True, answer.get("instrumented_seconds")), (False, answer["seconds"]))
        for instrumented, seconds in ((which, spent) for which, spent in both if spent is not None):
            figures = _part(answer, seconds)
            self.writer.append(
                "step", cell.id, model=model, **at, steps=steps, instrumented=instrumented, seconds=seconds,
                **figures, **verified,
            )  # fmt: skip

    def _sample_ceiling(self, name: str, cell: Cell, at: Line) -> None:
        request = {"name": name, "dtype": cell.dtype, "threads": cell.threads, "caches": self.caches}
        try:
            answer = self.crew.ask(Member(CEILING, cell.threads), do="ceiling", **request)
        except Gone:
            return
        dtype = cell.dtype if name == "fma" else None  # the names of a device's say what they are of
        what = {"ceiling": name, "dtype": dtype, "threads": cell.threads, **at}
        if answer["status"] == "ok":
            kept = {key: answer[key] for key in ("seconds", "work", "unit")}
            self.writer.append("ceiling", "", status="ok", **what, **kept)
        else:
            self.writer.append("ceiling", "", status="failed", reason=answer["reason"], **what)

    def _ask(self, cell: Cell, /, **request: Any) -> Line | None:
        """Ask the cell's worker; where it fails or dies, close the cell with the reason and return None."""
        try:
            answer = self.crew.ask(_member(cell), **request)
        except Gone as gone:
            self.ledger.close(cell, gone.status, reason=str(gone))
            return None
        if answer["status"] != "ok":
            if answer.get("error_ratio") is not None:
                self.ledger.opened[cell.id] = self.ledger.opened.get(cell.id, {}) | {
                    "error_ratio": answer["error_ratio"]
                }
            self.ledger.close(cell, answer["status"], reason=answer["reason"])
            return None
        return answer


def _member(cell: Cell, twin: bool = False) -> Member:
    return Member(cell.kernel, cell.threads, cell.revision, twin)


def _threads(cells: list[Cell]) -> tuple[int, ...]:
    """The numbers of threads of a group: one, but where they are varied."""
    return tuple(dict.fromkeys(cell.threads for cell in cells))


def _whole(answer: Line) -> float:
    """Seconds per call that the witness looked on: of a step, without and with the recorder."""
    return answer["seconds"] + answer.get("instrumented_seconds", 0.0)


def _part(answer: Line, seconds: float) -> Line:
    """What happened meanwhile, by time: steps of both kinds alternate, so it happened to both."""
    part = seconds / _whole(answer)
    seen = {key: answer.get(key) for key in SUMS}
    own = {key: None if value is None else value * part for key, value in seen.items()}
    return own | {key: answer.get(key) for key in FIGURES if key not in SUMS}


def _kept(answer: Line) -> Line:
    kept = {key: answer.get(key) for key in ("loops", "seconds", *FIGURES)}
    return kept | {key: answer[key] for key in DEVICE_FIGURES if key in answer}


def _of_device(cell: Cell) -> Line:
    """What a request has to say of a cell on a device beside what it says of all."""
    return {"operands": cell.operands} if cell.device != "cpu" else {}


def _peak(cell: Cell) -> str:
    """The ceiling of its arithmetic."""
    return ceiling_of(cell.arithmetic or cell.dtype) if cell.device != "cpu" else "fma"


def _alike(cells: list[Cell], opened: dict[str, Line]) -> list[list[Cell]]:
    """Cells split into clusters within ALIKE of their fastest member, fastest first."""
    clusters: list[list[Cell]] = []
    for cell in sorted(cells, key=lambda cell: opened[cell.id]["seconds"]):
        seconds = opened[cell.id]["seconds"]
        if clusters and seconds <= ALIKE * opened[clusters[-1][0].id]["seconds"]:
            clusters[-1].append(cell)
        else:
            clusters.append([cell])
    return clusters


def _short(kernel: str) -> str:
    """A kernel's name for a line of progress: of a file, its last part."""
    return kernel.rpartition("/")[2]


def _model_name(cell: Cell) -> str:
    model = dict(cell.model)
    return "-".join(map(str, model["arch"])) + f" batch {model['batch']}"


def _span(seconds: float) -> str:
    """A length of time in the unit that suits it."""
    for unit, size in (("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"
