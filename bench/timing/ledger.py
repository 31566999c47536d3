"""Ledger: what a run knows of its cells while it goes on, and their closing lines.

A cell is open until it has its closing line. What an earlier, killed process of the run has written is read back
first: only what is missing is left to do.
"""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

from bench.host.environment import cache_instances
from bench.plans.plan import Cell, Plan
from bench.records import Line, Run, Writer, load, whole_launches
from bench.timing.progress import Progress
from bench.verdicts.conclusions import conclude
from bench.verdicts.statistics import narrow, results

# What is measured once for a cell, not in every sample; written with the first of each launch as well.
ONCE = ("first_call_s", "first_call_cached_s", "overhead_s")

Group = tuple[Any, list[Cell]]


class Ledger:
    """Which cells are open, how many launches each has, and what is known of it.

    opened    cell id -> the answer to its last `open`, and what it came to
    complete  cell id -> launches with all their rounds
    twins     group -> the cell that has a twin
    """

    def __init__(
        self, plan: Plan, folder: Path, writer: Writer, progress: Progress, caches: dict[str, int],
        before: Run | None,
    ) -> None:  # fmt: skip
        self.plan, self.folder, self.caches = plan, folder, caches
        self.writer, self.progress = writer, progress
        self.opened: dict[str, Line] = {}
        self.closed: set[str] = set()
        self.complete: dict[str, set[int]] = defaultdict(set)
        self.twins: dict[Any, str] = {}
        self.next_launch = 0
        if before:
            self._recall(before)

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
            worst = max(float(line.get("error_ratio", math.nan)) for line in lines)
            self.opened[cell] = {"error_ratio": worst}
            for line in lines:
                for key in ONCE:
                    self.opened[cell].setdefault(key, line.get(key))
                    self.opened[cell][key] = self.opened[cell][key] or line.get(key)
            if sizes[cell]:
                flops, moved = map(sum, zip(*sizes[cell].values()))
                self.opened[cell] |= {"flops": flops, "bytes": moved}
        twins = {line["cell"] for line in before.of("twin")}
        self.twins = {self.plan.group(cell): cell.id for cell in self.plan.cells if cell.id in twins}

    def open_cells(self) -> list[Cell]:
        return [cell for cell in self.plan.cells if cell.id not in self.closed]

    def missing(self, cell: Cell) -> int:
        return 0 if cell.id in self.closed else max(0, self.plan.launches - len(self.complete[cell.id]))

    def groups(self) -> list[Group]:
        """Groups in which a cell lacks launches, with all their open cells: pairs need the same launch."""
        groups: dict[Any, list[Cell]] = {}
        for cell in self.open_cells():
            groups.setdefault(self.plan.group(cell), []).append(cell)
        return [(key, cells) for key, cells in groups.items() if any(self.missing(cell) for cell in cells)]

    def note(self, cell: Cell, answer: Line, compiled_anew: bool) -> None:
        """Keep the answer to `open`: the first times that are known, the least overhead, the worst error ratio."""
        before = self.opened.get(cell.id, {})
        first = "first_call_s" if compiled_anew else "first_call_cached_s"
        kept = {key: before.get(key) for key in ONCE}
        kept[first] = kept[first] or answer["first_call_s"]
        kept["overhead_s"] = _least(before.get("overhead_s"), answer.get("overhead_s"))
        worst = max(before.get("error_ratio") or 0.0, answer["error_ratio"])
        printed = before.get("printed", 0)
        self.opened[cell.id] = answer | kept | {"error_ratio": worst, "printed": printed}

    def close_narrow(self) -> None:
        """At a look before the last: close the groups whose intervals are narrow enough."""
        for _, cells in self.groups():
            if all(len(self.complete[cell.id]) in self.plan.looks for cell in cells):
                ids = {cell.id for cell in cells}
                found = results(self._with_stand_ins(cells))
                if narrow([result for result in found if result.cell["cell"] in ids]):
                    self.close_sampled(cells, ended="narrow")

    def close_sampled(self, cells: list[Cell], ended: str | None = None) -> None:
        """Close what has been sampled, with what its figures say about it."""
        conclusions = conclude(
            self._with_stand_ins(cells), {cell.id for cell in cells}, self.caches, cache_instances()
        )
        for cell in cells:
            fields = conclusions[cell.id]
            why = ended or ("budget" if len(self.complete[cell.id]) < self.plan.launches else "launches")
            self.close(cell, fields.pop("status"), reason=fields.pop("reason"), ended=why, **fields)

    def _with_stand_ins(self, cells: list[Cell]) -> Run:
        """The run as it is now, with closing lines for cells that are still open, to be read as it will be."""
        run = load(self.folder)
        for cell in cells:
            known = {**self._known(cell), "printed": self.opened.get(cell.id, {}).get("printed", 0)}
            run.lines.append(
                {"kind": "cell", "cell": cell.id, "status": "ok", "reason": None, **cell.identity, **known}
            )
        return run

    def _known(self, cell: Cell) -> Line:
        opened = self.opened.get(cell.id, {})
        chosen = {"chosen": opened["chosen"]} if "chosen" in opened else {}
        return (
            {key: opened.get(key) for key in (*ONCE, "error_ratio")}
            | chosen
            | {
                "flops": opened.get("flops", cell.problem.flops if cell.problem else None),
                "bytes": opened.get("bytes", cell.problem.bytes if cell.problem else None),
            }
        )

    def close(self, cell: Cell, status: str, **fields: Any) -> None:
        self.progress.advance(self.missing(cell) * self.plan.rounds)
        known = {"ended": None} | fields | self._known(cell)
        self.writer.append("cell", cell.id, **cell.identity, status=status, **known)
        self.closed.add(cell.id)


def _least(*values: float | None) -> float | None:
    return min((value for value in values if value is not None), default=None)
