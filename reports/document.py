"""Page: one HTML file that holds everything: no network, no script; light, dark, desktop, phone."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.records import Line, Run, number
from bench.verdicts import statistics
from bench.verdicts.best import Best
from bench.verdicts.statistics import Floor, Profile, Result
from reports import charts, costs, factors, libraries, palette, remarks, svg, tables, wording
from reports.curves import Course
from reports.machine import machine
from reports.selection import Ladder, Selection, label, ladders, measured, of_vendor, unusual
from reports.sentences import claims, findings

STATUS = {"ok": "✓", "skipped": "↷", "unavailable": "○"}  # everything else is trouble
TROUBLE, DOUBT = "✗", "?"
ENDED = {"narrow": "stopped: narrow enough", "budget": "stopped: no time left"}
KINDS = ("read", "write", "copy")
# Columns of the table of trainings.
LEARNING = (
    "epochs", "loss", "validation", "right", "test", "in steps", "each", "first call", "memory",
)  # fmt: skip


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
        library_columns=libraries.COLUMNS,
        learning_columns=LEARNING,
        factor_columns=(*factors.COLUMNS, factors.FURTHER),
        factors_say=factors.SAYS,
        favoured=libraries.FAVOURED,
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
    """A row of the table of every cell, as words; `rate` is GFLOP/s.

    launches, ended  how many there were, and what ended the sampling where it was not the plan
    bound, why       what bounds it, in short and at length
    doubts           sentences, the most serious first
    """

    kernel: str
    problem: str
    setting: str
    status: str
    mark: str
    trouble: bool
    reason: str
    launches: str
    ended: str
    time: str
    interval: str
    rate: str
    bound: str
    why: str
    error_ratio: str
    doubts: list[str]


def _run(selection: Selection, baseline: str | None, several: bool) -> dict[str, Any]:
    environment = selection.run.environment
    cells = [_cell(result) for result in selection.results]
    counts = {
        status: sum(cell.status == status for cell in cells)
        for status in dict.fromkeys(c.status for c in cells)
    }
    command = environment.get("command")
    learners = [line | (line.get("worker") or {}) for line in selection.run.of("training")]
    return {
        "name": selection.name,
        "several": several,
        "time": str(environment.get("time") or "")[:16].replace("T", " "),
        "command": shlex.join(map(str, command)) if isinstance(command, list) else command,
        "machine": machine(environment, [*selection.run.of("worker"), *learners]),
        "ceilings": _ceilings(selection),
        "floors": [_floor(one) for one in selection.floors],
        "doubts": _doubts(selection),
        "doubted": sum(bool(cell.doubts) for cell in cells),
        "libraries": _libraries(selection.libraries),
        "explored": _explored(selection),
        "ladders": [_ladder(one) for group in selection.comparisons for one in ladders(group, baseline)],
        "profiles": [
            _profile(one) for training in selection.trainings for one in reversed(training.profiles)
        ],
        "courses": [_learnt(course) for course in selection.courses],
        "cells": cells,
        "counts": ", ".join(f"{count} {status}" for status, count in counts.items()),
        "troubles": [cell for cell in cells if cell.trouble],
        "warnings": selection.run.warnings,
        "synthetic": bool(environment.get("synthetic")),
    }


def _cell(result: Result) -> Cell:
    problem, cell = result.problem, result.cell
    if problem:
        what = wording.shape(problem["m"], problem["n"], problem["k"])
        what = ", ".join([f"{what} {problem.get('dtype', '')}".strip(), *unusual(problem)])
    else:
        what = f"step of {wording.architecture(result.model)}"
    setting = [
        f"{cell['cache']} cache" if cell.get("cache") not in (None, "hot") else "",
        f"via {cell['via']}" if cell.get("via") not in (None, "prepared") else "",
    ]
    doubted = [sentence for _, sentence in remarks.doubts(result)]
    status = "ok" if measured(result) else "no whole launch" if result.status == "ok" else result.status
    predicted = number(cell.get("predicted_s"))
    seconds = result.seconds
    time = wording.duration(seconds.value)
    if predicted and not seconds.n:
        time = f"{wording.duration(predicted)} predicted"
    return Cell(
        kernel=label(result),
        problem=what,
        status=status,
        mark=DOUBT if doubted else STATUS.get(status, TROUBLE),
        setting=", ".join(part for part in (wording.threads(result.threads), *setting) if part),
        trouble=status not in STATUS,
        reason=str(cell.get("reason") or ""),
        launches=str(seconds.n or wording.NOTHING),
        ended=ENDED.get(str(cell.get("ended")), ""),
        time=time,
        interval=wording.durations(seconds),
        rate=wording.gflops(result.rate.value),
        bound=costs.bound(result),
        why=costs.why(result),
        error_ratio=wording.digits(number(cell.get("error_ratio"))),
        doubts=doubted,
    )


def _learnt(course: Course) -> dict[str, Any]:
    """The table of a network's trainings, kernel by kernel."""
    rows = []
    for kernel, line in course.lines.items():
        last = line["epochs"][-1] if line["epochs"] else {}
        best = line.get("best_epoch")
        figures = (
            f"{len(line['epochs'])}{f' (best {best})' if best else ''}",
            *(wording.digits(number(last.get(name))) for name in ("train_loss", "validation_loss")),
            *(wording.percent(number(last.get(name))) for name in ("validation_accuracy", "test_accuracy")),
            wording.duration(number(line.get("seconds")) if line["epochs"] else None),
            wording.duration(number(line.get("step_s"))),
            wording.duration(number(line.get("first_call_s"))),
            wording.scaled(number((line.get("memory") or {}).get("total")), "B"),
        )
        status = str(line["status"])
        rows.append(
            {"kernel": kernel, "figures": figures, "status": status, "reason": str(line.get("reason") or ""),
             "trouble": status not in STATUS}
        )  # fmt: skip
    return {"title": course.name, "rows": rows}


def _doubts(selection: Selection) -> list[str]:
    """What disturbed the cells that the findings rest on, one sentence for alike ones."""
    rests = {id(result): result for claim in claims(selection) for result in claim.rests_on}.values()
    return [
        f"{remarks.places(remark.cells, len(rests), 'all that the findings rest on')}: {remark.sentence}"
        for remark in remarks.remarks(rests)
    ]


def _floor(floor: Floor) -> dict[str, str]:
    return {
        "class": remarks.CLASSES.get(floor.size_class, floor.size_class),
        "threads": str(floor.threads),
        "kernel": floor.kernel,
        "ratio": wording.digits(floor.ratio.value),
        "interval": wording.bounds(floor.ratio),
        "floor": remarks.bound(floor.value),
    }


def _libraries(best: Best | None) -> dict[str, Any] | None:
    """The tables of a kernel against the best of the libraries."""
    if best is None:
        return None
    return {
        "title": libraries.title(best),
        "sentences": libraries.sentences(best),
        "warning": libraries.warning(best),
        "kernels": libraries.kernels(best),
        "settings": [
            (
                libraries.named(setting),
                [
                    (
                        group.name,
                        libraries.figures(group),
                        libraries.least(group.worst),
                        libraries.each(best, group),
                    )
                    for group in libraries.rows(best, setting)
                ],
            )
            for setting in best.settings
        ],
        "left_out": [*libraries.left_out(best), *libraries.doubts(best)],
    }


def _explored(selection: Selection) -> dict[str, Any] | None:
    """What affects the cost of a network: a table for each factor."""
    found = selection.explored
    if found is None:
        return None
    known = [
        one
        for one in selection.floors
        if (one.size_class, one.threads) == ("step", found.base.result.threads)
    ]
    return {
        "factors": [
            (
                factors.title(factor),
                [
                    (
                        factors.shown(variant.value),
                        factors.figures(variant),
                        factors.verdict(variant),
                        variant.is_base,
                        "; ".join(sentence for _, sentence in remarks.doubts(variant.result)),
                    )
                    for variant in factor.variants
                ],
            )
            for factor in found.factors
        ],
        "floors": [f"{remarks.floor(one)}." for one in known],
        "left_out": found.left_out,
    }


def _ceilings(selection: Selection) -> dict[str, Any]:
    """The run's ceilings: rows of GFLOP/s by dtype, and of GB/s by level, a column (or three) for each thread count."""
    every = selection.run.of("ceiling")
    lines = [line for line in every if not line["ceiling"].startswith(statistics.GPU)]
    counts = sorted({line["threads"] for line in lines})

    def rate(ceiling: str, dtype: str | None, threads: int) -> str:
        return wording.gflops(statistics.peak(selection.run, ceiling, dtype, threads))

    dtypes = dict.fromkeys(line["dtype"] for line in lines if line["ceiling"] == "fma")
    bandwidths = {line["ceiling"] for line in lines if line["ceiling"] != "fma"}
    levels = sorted(
        {name.partition("-")[0] for name in bandwidths}, key=lambda level: (level == "dram", level)
    )
    kinds = [kind for kind in KINDS if any(name.endswith(kind) for name in bandwidths)]
    return {
        "threads": [wording.threads(count) for count in counts],
        "kinds": kinds,
        "flops": [(dtype, [rate("fma", dtype, count) for count in counts]) for dtype in dtypes],
        "bytes": [
            (level.upper(), [rate(f"{level}-{kind}", None, count) for count in counts for kind in kinds])
            for level in levels
        ],
        "gpu": _of_gpu(selection.run, every),
    }


def _of_gpu(run: Run, lines: Sequence[Line]) -> list[tuple[str, str]]:
    """What the GPU did at most: a name and a rate for each ceiling that was measured."""
    found = []
    for name in sorted({line["ceiling"] for line in lines if line["ceiling"].startswith(statistics.GPU)}):
        rate = statistics.peak(run, name, None, 0)
        if math.isfinite(rate):
            level, _, kind = name.removeprefix(statistics.GPU).partition("-")
            what = f"{level.upper()} {kind}" if kind else f"{level} ({wording.arithmetic(name)})"
            found.append((what, f"{wording.gflops(rate)} {'GB/s' if kind else 'GFLOP/s'}"))
    return found


def _ladder(ladder: Ladder) -> dict[str, Any]:
    known = ideas()
    rows, best = [], ladder.rungs[-1]
    vendor = of_vendor(ladder.comparison.at(ladder.shape))
    for rung in ladder.rungs:
        result, predicted = rung.result, rung.predicted
        rows.append(
            {
                "kernel": rung.kernel,
                "idea": known.get(result.kernel, ""),
                "predicted": bool(predicted),
                "time": wording.duration(predicted or result.seconds.value),
                "doubts": "; ".join(sentence for _, sentence in remarks.doubts(result)),
                "rate": wording.gflops(result.rate.value),
                "share": wording.share(result.share_of_peak.value),
                "speedup": wording.factor(rung.speedup.value),
                "interval": ladder.sure(rung),
                "bound": costs.bound(result),
                "why": costs.why(result),
                "vendor": wording.share(vendor[rung.kernel][1].value)
                if rung.kernel in vendor
                else wording.NOTHING,
            }
        )
    return {
        "vendor": bool(vendor),
        "title": f"{wording.shape(*ladder.shape)}, {ladder.comparison.name}",
        "baseline": ladder.baseline,
        "rows": rows,
        "why": f"{best.kernel} is bound by {costs.why(best.result)}." if costs.why(best.result) else "",
        "floor": f"{remarks.floor_under(ladder)}.",
        "starts": _starts(ladder),
    }


def _starts(ladder: Ladder) -> list[tuple[str, tuple[str, ...]]]:
    """Kernel, and what its first call costs; [] where no run of later days has it on record."""
    found = costs.starts(ladder)
    if not any(start.payback or start.compiles for start in found):
        return []
    return [
        (
            start.kernel,
            (
                *(wording.duration(seconds) for seconds in (start.anew, start.cached, start.call)),
                costs.pays(start) or "starts first",
            ),
        )
        for start in found
    ]


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
