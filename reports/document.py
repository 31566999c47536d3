"""Page: one HTML file that holds everything: no network, no script; light, dark, desktop, phone."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import statistics
from bench.records import number
from bench.statistics import Profile, Result
from reports import charts, palette, svg, tables, wording
from reports.machine import machine
from reports.selection import Ladder, Selection, label, ladders, measured
from reports.sentences import findings

STATUS = {"ok": "✓", "skipped": "↷", "unavailable": "○"}  # everything else is trouble
TROUBLE = "✗"
CEILINGS = {"fma": "multiply-adds", "dram-read": "memory read", "dram-copy": "memory copy"}


def render(selections: Sequence[Selection], baseline: str | None = None) -> str:
    """The whole page as text."""
    import jinja2

    styles = palette.styles(kernel for selection in selections for kernel in selection.kernels)
    colour = svg.Variables()
    for role in palette.INKS:
        colour(role)
    drawn = []
    for chart in charts.charts(selections, baseline):
        drawn.append({"chart": chart, **charts.inline(chart, styles, colour)})
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    runs = [_run(selection, baseline, several=len(selections) > 1) for selection in selections]
    marks = {
        name: {"d": marker(style.marker), "colour": f"var({svg.variable(f'kernel:{name}')})"}
        for name, style in styles.items()
    }
    for name in styles:
        colour(f"kernel:{name}")
    return environment.get_template("page.html.j2").render(
        title=_title(selections),
        findings=findings(selections),
        charts=drawn,
        runs=runs,
        marks=marks,
        light=colour.rules(styles, dark=False),
        dark=colour.rules(styles, dark=True),
        font=svg.STACK,
        profile_columns=tables.PROFILE,
    )


def marker(name: str) -> str:
    """Matplotlib's marker as the path data of a 12 x 12 SVG."""
    from matplotlib.markers import MarkerStyle

    style = MarkerStyle(name)
    path = style.get_path().transformed(style.get_transform()).transformed(_flip())
    words: list[str] = []
    for points, code in path.iter_segments():
        words.append({1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}[int(code)])
        words += [] if code == 79 else [f"{value:.2f}" for value in points]
    return " ".join(words)


def _flip() -> Any:
    from matplotlib.transforms import Affine2D

    return Affine2D().scale(10, -10).translate(6, 6)


def _title(selections: Sequence[Selection]) -> str:
    models = dict.fromkeys(str((s.run.environment.get("cpu") or {}).get("model") or "") for s in selections)
    known = [model for model in models if model]
    return f"What a matrix multiply costs on {' and '.join(known) or 'this machine'}"


@dataclass(frozen=True)
class Cell:
    """A row of the table of every cell, as words; `rate` is GFLOP/s."""

    kernel: str
    problem: str
    setting: str
    status: str
    mark: str
    trouble: bool
    reason: str
    launches: str
    time: str
    interval: str
    rate: str
    error_ratio: str


def _run(selection: Selection, baseline: str | None, several: bool) -> dict[str, Any]:
    environment = selection.run.environment
    cells = [_cell(result) for result in selection.results]
    counts = {
        status: sum(cell.status == status for cell in cells)
        for status in dict.fromkeys(c.status for c in cells)
    }
    command = environment.get("command")
    return {
        "name": selection.name,
        "several": several,
        "time": str(environment.get("time") or "")[:16].replace("T", " "),
        "command": shlex.join(map(str, command)) if isinstance(command, list) else command,
        "machine": machine(environment),
        "ceilings": _ceilings(selection),
        "ladders": [_ladder(one) for group in selection.comparisons for one in ladders(group, baseline)],
        "profiles": [
            _profile(one) for training in selection.trainings for one in reversed(training.profiles)
        ],
        "cells": cells,
        "counts": ", ".join(f"{count} {status}" for status, count in counts.items()),
        "troubles": [cell for cell in cells if cell.trouble],
        "warnings": selection.run.warnings,
        "synthetic": bool(environment.get("synthetic")),
    }


def _cell(result: Result) -> Cell:
    problem, cell = result.problem, result.cell
    if problem:
        order = f"{problem.get('op_a') or 'n'}{problem.get('op_b') or 'n'}"
        what = " ".join(
            [
                wording.shape(problem["m"], problem["n"], problem["k"]),
                str(problem.get("dtype", "")),
                "" if order == "nn" else order,
            ]
        )
    else:
        what = f"step of {wording.architecture(result.model)}"
    setting = [str(cell[key]) for key in ("cache", "via") if cell.get(key)]
    status = "ok" if measured(result) else "no whole launch" if result.status == "ok" else result.status
    predicted = number(cell.get("predicted_s"))
    seconds = result.seconds
    time = wording.duration(seconds.value)
    if predicted and not seconds.n:
        time = f"{wording.duration(predicted)} predicted"
    return Cell(
        kernel=label(result),
        problem=what.strip(),
        status=status,
        mark=STATUS.get(status, TROUBLE),
        setting=", ".join([wording.plural(result.threads, "thread"), *setting]),
        trouble=status not in STATUS,
        reason=str(cell.get("reason") or ""),
        launches=str(seconds.n or wording.NOTHING),
        time=time,
        interval=wording.durations(seconds),
        rate=wording.gflops(result.rate.value),
        error_ratio=wording.digits(number(cell.get("error_ratio"))),
    )


def _ceilings(selection: Selection) -> list[tuple[str, str]]:
    """Every ceiling of a run, per dtype and threads."""
    kinds = {
        (line["ceiling"], line["dtype"], line["threads"], line.get("unit")): None
        for line in selection.run.of("ceiling")
    }
    found = []
    for ceiling, dtype, threads, unit in sorted(kinds, key=lambda kind: kind[0] != "fma"):
        best = statistics.peak(selection.run, ceiling, dtype, threads)
        of = ", ".join(str(part) for part in (dtype, wording.plural(threads, "thread")) if part)
        found.append((f"{CEILINGS.get(ceiling, ceiling)}, {of}", wording.scaled(best, f"{unit or ''}/s")))
    return found


def _ladder(ladder: Ladder) -> dict[str, Any]:
    known = ideas()
    rows = []
    for rung in ladder.rungs:
        result, predicted = rung.result, rung.predicted
        sure = (
            "predicted"
            if predicted
            else "baseline"
            if rung.kernel == ladder.baseline
            else wording.bounds(rung.speedup)
        )
        rows.append(
            {
                "kernel": rung.kernel,
                "idea": known.get(result.kernel, ""),
                "predicted": bool(predicted),
                "time": wording.duration(predicted or result.seconds.value),
                "rate": wording.gflops(result.rate.value),
                "share": wording.share(result.share_of_peak.value),
                "speedup": wording.factor(rung.speedup.value),
                "interval": sure,
            }
        )
    return {
        "title": f"{wording.shape(*ladder.shape)}, {ladder.comparison.name}",
        "baseline": ladder.baseline,
        "rows": rows,
    }


def ideas() -> dict[str, str]:
    """Kernel name -> what its rung adds, of the kernels that this gemmlab knows."""
    import gemm

    return {kernel.name: kernel.idea for kernel in gemm.kernels()}


def _profile(profile: Profile) -> dict[str, Any]:
    return {
        "kernel": label(profile.result),
        "model": wording.architecture(profile.result.model),
        "step": wording.duration(profile.step),
        "rows": [
            (tables.operation(row), palette.kind(row.op, row.parts), tables.figures(row, profile.peak))
            for row in profile.rows
        ],
        "sums": tables.sums(profile),
        "accounted": tables.accounted(profile),
    }
