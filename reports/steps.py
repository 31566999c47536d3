"""Steps: what each of a row of kernels brought, as a table: rate, gain over the one before, and over the first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.records import Line
from bench.verdicts.compare import Mean
from bench.verdicts.steps import Row, Step, Steps
from reports import verdicts, wording
from reports.tables import add_row, new_table, titled

if TYPE_CHECKING:
    from rich.console import Group

COLUMNS = ("threads", "GFLOP/s", "% peak", "gain", "interval", "in all", "it is")


def show(found: Steps) -> None:
    """Print it; plain text where there is no terminal."""
    from rich.console import Console

    console = Console()
    for row in found.rows:
        console.print(table(row))


def table(row: Row) -> Group:
    """A line for each kernel, in the order in which they were named."""
    made = new_table("kernel", *COLUMNS, gap=2)
    for step in row.steps:
        add_row(made, step.kernel, *figures(step))
    return titled(f"What each step brought: {row.dtype}, {shapes(row.problems)}", made)


def figures(step: Step) -> tuple[str, ...]:
    """The columns COLUMNS."""
    gain = step.gain
    return (
        str(step.threads),
        wording.gflops(step.rate),
        wording.share(step.share),
        _factor(gain),
        verdicts.bounds(gain.ratio) if gain else "",
        _factor(step.total),
        gain.verdict if gain else "",
    )


def shapes(problems: Sequence[Line]) -> str:
    """n = 1024, or the geometric mean of 12 shapes."""
    if len(problems) > 1:
        return f"geometric means of {len(problems)} shapes"
    (problem,) = problems
    return wording.shape(*(problem[axis] for axis in "mnk"))


def _factor(mean: Mean | None) -> str:
    return f"{verdicts.factor(mean.ratio.value)}×" if mean else ""
