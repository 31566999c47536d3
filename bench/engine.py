"""The engine: runs a plan, launch by launch, and writes down what it sees.

    for each launch:                            fresh workers, one per kernel: the unit of the statistics
        for each thread count, each problem:
            each kernel opens it: verified by the three rules, first call timed, loops calibrated
            for each round:                     kernels in random order, within about 10x of each other,
                one sample of each              the machine's ceiling among them
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
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

import gemm
from bench.environment import environment, last_cache
from bench.plan import Cell, Plan, check_memory, names_in, unfrozen
from bench.processes import Gone, Worker
from bench.progress import Progress, Silent
from bench.records import (
    Interrupted,
    Line,
    Run,
    RunError,
    Writer,
    load,
    new_folder,
    read_json,
    whole_launches,
    write_json,
)
from bench.statistics import results
from gemm.correctness import reference

# Only kernels within this factor of each other share rounds: a slow one would put the others' samples far
# apart in time.
ALIKE = 10.0
# A rate this far above the ceiling of its launches is a mistake somewhere, not a result.
IMPOSSIBLE = 1.05
CEILING = "(ceiling)"
# Seconds of a call from which its rate says something about larger problems.
TELLING_S = 0.01
# Calls on a problem before the first sample: verification, first call, calibration.
CALLS_TO_OPEN = 5

Group = tuple[Any, list[Cell]]


def start(
    plan: Plan, out: str | Path | None = None, *, stem: str = "sweep", command: list[str] | None = None,
    progress: Progress | None = None,
) -> Run:  # fmt: skip
    """Run a plan into a new folder. ValueError where memory does not suffice, RunError for the folder."""
    check_memory(plan.cells)
    folder = new_folder(out, stem)
    try:
        write_json(folder / "environment.json", environment(folder.name, command or sys.argv))
        write_json(folder / "plan.json", plan.record())
    except OSError as error:
        raise RunError(f"{folder}: cannot be written ({error.strerror}); give another folder") from error
    return _Engine(plan, folder, progress or Silent()).run()


def resume(folder: str | Path, progress: Progress | None = None) -> Run:
    """Finish a run that was killed: only what is missing. Raises RunError if it holds no plan."""
    path = Path(folder)
    if not (path / "plan.json").exists():
        raise RunError(f"{folder}: holds no plan.json, so there is nothing to resume")
    before = load(path) if (path / "records.jsonl").exists() else None
    plan = Plan.from_record(read_json(path / "plan.json"))
    check_memory(plan.cells)
    return _Engine(plan, path, progress or Silent(), before).run()


class _Engine:
    def __init__(self, plan: Plan, folder: Path, progress: Progress, before: Run | None = None) -> None:
        self.plan, self.folder, self.progress = plan, folder, progress
        self.random = random.Random()
        self.workers: dict[tuple[str, int], Worker] = {}
        self.opened: dict[str, Line] = {}  # cell id -> the answer to its last `open`
        self.rates: dict[tuple[str, int], list[tuple[int, float]]] = defaultdict(list)  # -> (flops, seconds)
        self.closed: set[str] = set()
        self.complete: dict[str, set[int]] = defaultdict(set)  # cell id -> launches with all their rounds
        self.next_launch = 0
        if before:
            self._recall(before)
        self.writer = Writer(folder, folder.name)  # first: it refuses a run that somebody else is writing
        self.scratch = tempfile.TemporaryDirectory(prefix="gemmlab-")

    def _recall(self, before: Run) -> None:
        """What an earlier, killed process of this run has done already."""
        self.closed = {line["cell"] for line in before.cells}
        self.next_launch = 1 + max((line["launch"] for line in before.lines if "launch" in line), default=-1)
        by_cell = defaultdict(list)
        for line in (*before.of("sample"), *before.of("step")):
            if not line.get("instrumented", False):
                by_cell[line["cell"]].append(line)
        sizes: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
        for line in before.of("layer"):
            sizes[line["cell"]][line["id"]] = (line["flops"], line["bytes"])
        for cell, lines in by_cell.items():
            self.complete[cell] = {launch for launch, _ in whole_launches(lines, self.plan.rounds)}
            first = next((line["first_call_s"] for line in lines if "first_call_s" in line), None)
            worst = max(float(line.get("error_ratio", math.nan)) for line in lines)
            self.opened[cell] = {"first_call_s": first, "error_ratio": worst}
            if sizes[cell]:
                flops, moved = map(sum, zip(*sizes[cell].values()))
                self.opened[cell] |= {"flops": flops, "bytes": moved}

    def run(self) -> Run:
        began = monotonic()
        try:
            self._close_unavailable()
            total = sum(self._missing(cell) for cell in self.plan.cells)
            self.progress.begin(total * self.plan.rounds)
            while groups := self._groups():
                launch_began = monotonic()
                self._launch(self.next_launch, groups)
                self.next_launch += 1
                now = monotonic()
                budget = self.plan.budget_s
                if budget is not None and now - began + (now - launch_began) > budget:
                    break
            self._close_all()
        except KeyboardInterrupt:
            raise Interrupted(self.folder) from None
        except OSError as error:  # a full disk, most likely
            raise RunError(
                f"{error.filename or self.folder}: {error.strerror}; what was measured is kept: "
                f"gemmlab sweep --resume {self.folder} goes on"
            ) from error
        finally:
            for worker in self.workers.values():
                worker.kill()
            self.progress.end()
            self.scratch.cleanup()
            with suppress(OSError):  # every line is written; on a full disk the last flush fails again
                self.writer.close()
        return load(self.folder)

    # What is left to do

    def _open_cells(self) -> list[Cell]:
        return [cell for cell in self.plan.cells if cell.id not in self.closed]

    def _missing(self, cell: Cell) -> int:
        return 0 if cell.id in self.closed else max(0, self.plan.launches - len(self.complete[cell.id]))

    def _groups(self) -> list[Group]:
        """Groups in which a cell lacks launches, with all their open cells: pairs need the same launch."""
        groups: dict[Any, list[Cell]] = {}
        for cell in self._open_cells():
            groups.setdefault(cell.group, []).append(cell)
        return [(key, cells) for key, cells in groups.items() if any(self._missing(cell) for cell in cells)]

    def _close_unavailable(self) -> None:
        for cell in self._open_cells():
            for name in names_in(cell.kernel):
                kernel = gemm.find(name)
                if not kernel.available:
                    self._close(cell, "unavailable", reason=f"{kernel.name}: {kernel.reason}")
                    break

    # One launch

    def _launch(self, launch: int, groups: list[Group]) -> None:
        for threads in dict.fromkeys(cells[0].threads for _, cells in groups):
            chosen = [(key, cells) for key, cells in groups if cells[0].threads == threads]
            self._start_workers({cell.kernel for _, cells in chosen for cell in cells}, threads)
            for _, cells in chosen:
                self._group(launch, cells)
            for key in [key for key in self.workers if key[1] == threads]:
                self.workers.pop(key).kill()

    def _start_workers(self, kernels: set[str], threads: int) -> None:
        """Start all at once (they import at the same time), then stop each."""
        names = [*sorted(kernels), CEILING]
        for name in names:
            self.workers[name, threads] = worker = Worker(threads)
            worker.tell(do="hello", ceiling=name == CEILING)
        for name in names:
            try:
                self.workers[name, threads].hear(self.plan.timeout_s)
            except Gone:
                self._bury(name, threads)

    def _worker(self, name: str, threads: int) -> Worker:
        """The worker of a kernel; a new one if the last died. Raises Gone."""
        if (name, threads) not in self.workers:
            self.workers[name, threads] = worker = Worker(threads)
            worker.ask(self.plan.timeout_s, do="hello", ceiling=name == CEILING)
        return self.workers[name, threads]

    def _bury(self, name: str, threads: int) -> None:
        worker = self.workers.pop((name, threads), None)
        if worker:
            worker.kill()

    def _group(self, launch: int, cells: list[Cell]) -> None:
        with self._shared_reference(cells[0]) as at:
            ready = [cell for cell in cells if self._open(launch, cell, at)]
            for cluster in _alike(ready, self.opened):
                self._rounds(launch, cluster)
        for cell in ready:
            if cell.id not in self.closed:
                self._ask(cell, do="close")

    @contextmanager
    def _shared_reference(self, cell: Cell) -> Iterator[str | None]:
        """The reference of a group's problem, computed once, in files that its workers map into memory."""
        problem = cell.problem
        if problem is None:
            yield None
            return
        a, b, c0 = problem.operands(self.plan.seed)
        right = reference(a, b, c0, alpha=problem.alpha, beta=problem.beta, epilogue=problem.make_epilogue())
        del a, b, c0
        at = str(Path(self.scratch.name) / "reference")
        np.save(f"{at}-c.npy", right.c)
        np.save(f"{at}-bound.npy", right.bound)
        del right
        try:
            yield at
        finally:
            for part in ("c", "bound"):
                Path(f"{at}-{part}.npy").unlink(missing_ok=True)

    def _open(self, launch: int, cell: Cell, reference_at: str | None) -> bool:
        """Have the cell's worker verify and calibrate; False if the cell is closed instead."""
        skip = self._hopeless(cell)
        if cell.id in self.closed:
            return False
        if skip:
            self._close(cell, "skipped", **skip)
            return False
        what: Line
        if cell.problem:
            problem = cell.problem.record()
            what = {"what": "problem", "problem": problem, "cache": cell.cache, "reference_at": reference_at}
        else:
            what = {"what": "model", "model": unfrozen(cell.model)}
        self.progress.note(f"{_short(cell.kernel)} {cell.problem or _model_name(cell)}: verifying")
        answer = self._ask(
            cell, do="open", kernel=cell.kernel, seed=self.plan.seed, sample_s=self.plan.sample_s, **what
        )
        if answer is None:
            return False
        before = self.opened.get(cell.id, answer)
        worst = max(before["error_ratio"], answer["error_ratio"])
        self.opened[cell.id] = answer | {"first_call_s": before["first_call_s"], "error_ratio": worst}
        self.rates[cell.kernel, cell.threads].append((answer["flops"], answer["seconds"]))
        return True

    def _hopeless(self, cell: Cell) -> Line | None:
        """A prediction and a reason, where a cell would take longer than a cell may."""
        if "seconds" in self.opened.get(cell.id, {}) or self.complete[cell.id] or cell.problem is None:
            return None
        plan = self.plan
        calls = plan.launches * (CALLS_TO_OPEN + plan.rounds)
        rates = self.rates[cell.kernel, cell.threads]
        known = [(flops, s) for flops, s in rates if flops <= cell.problem.flops]
        predicted = math.inf
        if any(s >= TELLING_S for _, s in known):  # shorter calls alone are overhead more than rate
            predicted = cell.problem.flops / max(flops / s for flops, s in known)
        if predicted * calls > plan.cell_s:  # or unknown: a busy moment must not decide it
            answer = self._ask(cell, do="pilot", kernel=cell.kernel, problem=cell.problem.record())
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

    def _rounds(self, launch: int, cluster: list[Cell]) -> None:
        """R rounds of one sample each, in an order drawn anew for every round."""
        for number in range(self.plan.rounds):
            members: list[Cell | str] = [*(cell for cell in cluster if cell.id not in self.closed)]
            if not members:
                return
            ceilings = ["fma"] + (["dram-read", "dram-copy"] if number == 0 else [])
            members += ceilings
            self.random.shuffle(members)
            for order, member in enumerate(members):
                at = {"launch": launch, "round": number, "order": order}
                if isinstance(member, Cell):
                    self._sample(member, at)
                else:
                    self._sample_ceiling(member, cluster[0], at)

    def _sample(self, cell: Cell, at: Line) -> None:
        self.progress.note(
            f"launch {at['launch'] + 1}  {_short(cell.kernel)}  {cell.problem or _model_name(cell)}"
        )
        answer = self._ask(cell, do="sample")
        self.progress.advance()
        if answer is None:
            return
        opened = self.opened[cell.id]
        opened["error_ratio"] = max(opened["error_ratio"], answer.get("error_ratio", 0.0))
        verified = {"error_ratio": opened["error_ratio"]}
        if at["round"] == 0:  # here too, so that a killed run still knows it
            verified["first_call_s"] = opened["first_call_s"]
        if cell.problem:
            kept = {key: answer[key] for key in ("loops", "seconds")}
            self.writer.append("sample", cell.id, **at, **kept, **verified)
        else:
            self._write_step(cell, at, answer, verified)
        if at["round"] == self.plan.rounds - 1:
            self.complete[cell.id].add(at["launch"])

    def _write_step(self, cell: Cell, at: Line, answer: Line, verified: Line) -> None:
        model, steps = unfrozen(cell.model), answer["loops"]
        for layer in answer["layers"]:
            self.writer.append("layer", cell.id, model=model, **at, steps=steps, **layer)
        for instrumented, seconds in ((True, answer["instrumented_seconds"]), (False, answer["seconds"])):
            self.writer.append(
                "step",
                cell.id,
                model=model,
                **at,
                steps=steps,
                instrumented=instrumented,
                seconds=seconds,
                **verified,
            )

    def _sample_ceiling(self, name: str, cell: Cell, at: Line) -> None:
        try:
            answer = self._worker(CEILING, cell.threads).ask(
                self.plan.timeout_s, do="ceiling", name=name, dtype=cell.dtype, threads=cell.threads,
                last_cache=last_cache(),
            )  # fmt: skip
        except Gone:
            self._bury(CEILING, cell.threads)
            return
        dtype = cell.dtype if name == "fma" else None
        what = {"ceiling": name, "dtype": dtype, "threads": cell.threads, **at}
        if answer["status"] == "ok":
            kept = {key: answer[key] for key in ("seconds", "work", "unit")}
            self.writer.append("ceiling", "", status="ok", **what, **kept)
        else:
            self.writer.append("ceiling", "", status="failed", reason=answer["reason"], **what)

    def _ask(self, cell: Cell, **request: Any) -> Line | None:
        """Ask the cell's worker; where it fails or dies, close the cell with the reason and return None."""
        try:
            answer = self._worker(cell.kernel, cell.threads).ask(self.plan.timeout_s, **request)
        except Gone as gone:
            self._bury(cell.kernel, cell.threads)
            self._close(cell, gone.status, reason=str(gone))
            return None
        if answer["status"] != "ok":
            if answer.get("error_ratio") is not None:
                self.opened[cell.id] = self.opened.get(cell.id, {}) | {"error_ratio": answer["error_ratio"]}
            self._close(cell, answer["status"], reason=answer["reason"])
            return None
        return answer

    # The closing lines

    def _close_all(self) -> None:
        """Close what has been sampled; `impossible` where a rate lies above the ceiling of its launches."""
        sampled = self._sampled()
        for cell in self._open_cells():
            if not self.complete[cell.id]:
                self._close(cell, "failed", reason="no launch was completed within the budget")
                continue
            share = sampled.get(cell.id, float("nan"))
            if share > IMPOSSIBLE:
                self._close(cell, "impossible", reason=f"its rate is {share:.0%} of the measured FMA peak")
            else:
                self._close(cell, "ok", reason=None)

    def _sampled(self) -> dict[str, float]:
        """Cell id -> share of the measured peak, for the cells that are still open."""
        run = load(self.folder)
        stand_ins = [
            {"kind": "cell", "cell": cell.id, "status": "ok", "flops": self._flops(cell), **cell.identity}
            for cell in self._open_cells()
        ]
        run.lines.extend(stand_ins)
        ids = {line["cell"] for line in stand_ins}
        return {r.cell["cell"]: r.share_of_peak.value for r in results(run) if r.cell["cell"] in ids}

    def _flops(self, cell: Cell) -> int | None:
        return cell.problem.flops if cell.problem else self.opened.get(cell.id, {}).get("flops")

    def _close(self, cell: Cell, status: str, **fields: Any) -> None:
        opened = self.opened.get(cell.id, {})
        flops = opened.get("flops", cell.problem.flops if cell.problem else None)
        moved = opened.get("bytes", cell.problem.bytes if cell.problem else None)
        self.progress.advance(self._missing(cell) * self.plan.rounds)
        self.writer.append(
            "cell", cell.id, **cell.identity, status=status, **fields,
            first_call_s=opened.get("first_call_s"), error_ratio=opened.get("error_ratio"),
            flops=flops, bytes=moved,
        )  # fmt: skip
        self.closed.add(cell.id)


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
