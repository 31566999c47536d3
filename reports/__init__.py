"""reports: the only room that draws. Records in; tables, figures and pages out.

    reports.page(runs, out=None, baseline=None, public=False) -> Path    one offline HTML file
    reports.figures(runs, folder, baseline=None, public=False)           PNG and SVG files for slides
    reports.findings(runs)                                               what was found, in sentences
    reports.show(run, baseline=None)                                     the tables, in the terminal
    reports.show_comparison(comparison)                                  faster, slower, the same, cannot say

`runs` is a run, its folder, or a list of either. Everything heavy is imported when it is first used.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.records import Run
    from bench.verdicts.best import Best
    from bench.verdicts.compare import Comparison
    from bench.verdicts.steps import Steps

    Runs = str | Path | Run | Sequence[str | Path | Run]


def page(
    runs: Runs, out: str | Path | None = None, baseline: str | None = None, public: bool = False
) -> Path:
    """Write the page and return its path.

    out       default: report.html in the run's folder (of a file of trainings, beside it under its name); of several
              runs, in the current folder
    baseline  the kernel that the speed-ups are against; default: the slowest at each size
    public    leave out host, user and paths

    Raises RunError (a ValueError) for a run that cannot be read or a page that cannot be written, and
    ValueError for a baseline that was not measured.
    """
    from bench.records import RunError, not_over_records
    from reports import selection
    from reports.document import render

    opened = selection.opened(runs)
    selections = selection.select(opened, baseline, public)
    path = Path(out) if out else _place(opened)
    not_over_records(path)
    text = render(selections, baseline)
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written ({error.strerror}); give another file with --out"
        ) from error
    return path


def _place(runs: Sequence[Run]) -> Path:
    if len(runs) > 1:
        return Path("report.html")
    path = runs[0].path
    return path.with_suffix(".html") if path.is_file() else path / "report.html"


def figures(runs: Runs, folder: str | Path, baseline: str | None = None, public: bool = False) -> list[Path]:
    """Write every figure as PNG and as SVG, on white, for slides; return their paths.

    Raises as `page` does.
    """
    from bench.records import RunError
    from reports import palette, selection
    from reports.charts import charts, write

    selections = selection.select(selection.opened(runs), baseline, public)
    styles = palette.styles(kernel for selected in selections for kernel in selected.kernels)
    try:
        return write(charts(selections, baseline), styles, Path(folder))
    except OSError as error:
        raise RunError(f"{folder}: cannot be written ({error.strerror}); give another folder") from error


def findings(runs: Runs, public: bool = False) -> list[str]:
    """What was found, in at most three sentences for each run; fewer where records are missing."""
    from reports import selection
    from reports.sentences import findings

    return findings(selection.select(selection.opened(runs), public=public))


def show(run: str | Path | Run, baseline: str | None = None, brief: bool = False) -> None:
    """Print a run's tables; `brief`: of each network only the fastest kernel's. Raises as `page` does."""
    from reports import selection, tables

    tables.show(selection.opened(run)[0], baseline, brief)


def show_comparison(comparison: Comparison | Best | Steps) -> None:
    """Print what `bench.verdicts` found: a row for each cell, group of shapes or kernel, and what came of it."""
    from bench.verdicts.best import Best
    from bench.verdicts.steps import Steps
    from reports import libraries, steps, verdicts

    if isinstance(comparison, Best):
        libraries.show(comparison)
    elif isinstance(comparison, Steps):
        steps.show(comparison)
    else:
        verdicts.show(comparison)
