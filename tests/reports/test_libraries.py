"""Libraries: the table, the sentences and the figure of a kernel against the best of several."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

import bench
import gemmlab
import reports
from bench.records import Run
from reports import charts, libraries, palette, selection
from reports.canvas import PHONE, SLIDE, WIDE, Canvas, standalone
from tests.reports.conftest import ENVIRONMENT, Synthetic
from tests.reports.rivals import GROUPS, rivals
from tests.reports.test_charts import assert_readable, texts
from tests.reports.test_page import Elements, assert_offline

THREE = "cblas:openblas,cblas:blis,cblas:mkl"
FEW = {"squares": [(64, 64, 64), (512, 512, 512)], "skinny": [(2048, 8, 2048), (1, 2048, 2048)]}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The whole suite's groups: two dtypes, one and two threads; skinny ones are slower than the best."""
    made = Synthetic(tmp_path_factory.mktemp("runs") / "rivals", ENVIRONMENT)
    return rivals(made, ahead=lambda name: 0.97 if name == "skinny" else 1.08)


@pytest.fixture(scope="module")
def best(run: Run) -> Any:
    return bench.compare(THREE, "numba-micro", run)


def figure_of(run: Run, width: float) -> tuple[charts.Chart, Any, Canvas]:
    """The one chart of this section, drawn."""
    selections = selection.select([run])
    styles = palette.styles(selections[0].kernels)
    (chart,) = (one for one in charts.charts(selections) if one.section == "libraries")
    title, pad = (chart.title, 28) if width == SLIDE else (None, 0)
    canvas = Canvas(width, standalone(styles), styles, title, pad)
    return chart, charts._drawn(chart, canvas), canvas


def test_the_terminal_has_a_row_for_each_group_and_fits_80_columns(
    best: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table for each dtype and number of threads, and below it the ratio to each library alone."""
    monkeypatch.setenv("COLUMNS", "80")
    reports.show_comparison(best)
    out = capsys.readouterr().out
    tables = [line for line in out.splitlines() if line.startswith("group ")]
    assert len(tables) == 4
    for name in (*GROUPS, "all"):
        own = [line for line in out.splitlines() if line.startswith(f"{name} ")]
        assert len(own) == 8, name
        assert max(map(len, own)) <= 80
    assert sum(line.startswith("ratio to") and "torch" in line for line in out.splitlines()) == 4
    (row,) = (
        group for group in best.groups if (group.name, group.setting) == ("skinny", ("float32", 1, "hot"))
    )
    assert libraries.figures(row)[:2] == ("11", f"{row.mean.ratio.value:.3f}")
    assert libraries.figures(row)[-1] == row.mean.verdict == "slower"


def test_a_sentence_says_what_came_of_each_setting(best: Any) -> None:
    """With the interval, the floor, what the ceilings allow, and the worst shape."""
    first = libraries.sentences(best)[0]
    assert first.startswith(
        "float32, 1 thread: numba-micro is faster than the best of cblas:openblas, cblas:blis "
    )
    assert "in the geometric mean of 45 shapes, floor 1.0 %; the ceilings would allow " in first
    assert "; the least is 0." in first
    assert libraries.warning(best) == libraries.left_out(best) == []


def test_a_library_that_is_missing_makes_the_figures_not_count(
    synthetic: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named, with the reason; nothing crashes."""
    made = synthetic()
    made.product("cblas:mkl", 64, "unavailable", reason="no libmkl_rt; pip install mkl")
    run = rivals(made, FEW, [("float32", 1)], ["cblas:openblas", "blas"])
    reports.show_comparison(bench.compare(THREE, "numba-micro", run))
    out = capsys.readouterr().out
    assert "against cblas:openblas: float32, 1 thread" in out
    assert (
        "These figures do not count: cblas:blis is missing (not in the run); "
        "cblas:mkl is missing (unavailable (no libmkl_rt; pip install mkl))."
    ) in out
    page = reports.page(run).read_text(encoding="utf-8")
    assert '<p class="doubtful">These figures do not count: cblas:blis is missing' in page
    assert any("do not count" in words for words, _ in texts(figure_of(run, PHONE)[1]))
    assert_readable(figure_of(run, PHONE)[1])


def test_what_is_left_out_is_said_once_for_alike_reasons(synthetic: Callable[..., Any]) -> None:
    """Predictions differ in their figures alone."""
    made = synthetic()
    for n, took in ((3000, "40 s"), (4096, "95 s")):
        for kernel in ("numba-micro", "cblas:openblas"):
            made.product(
                kernel, n, "skipped", reason=f"predicted from smaller sizes: {took} in all", threads=1
            )
    run = rivals(made, FEW, [("float32", 1)], ["cblas:openblas"])
    assert libraries.left_out(bench.compare(["cblas:openblas"], "numba-micro", run)) == [
        "left out: n = 3000, float32, 1 thread; n = 4096, float32, 1 thread: numba-micro: skipped "
        "(predicted from smaller sizes: 40–95 s in all)"
    ]


def test_no_verdict_is_a_sentence_too(synthetic: Callable[..., Any]) -> None:
    """A run without A/A, and one in which nothing is compared."""
    run = rivals(synthetic(), FEW, [("float32", 1)], ["cblas:openblas"])
    (sentence,) = libraries.sentences(bench.compare(["cblas:openblas"], "numba-micro", run))
    assert "whether numba-micro is faster or slower than cblas:openblas cannot be said: " in sentence
    assert "no floor" in sentence
    made = synthetic()
    made.product("cblas:openblas", 64, seconds=1e-3)
    made.product("numba-micro", 512, seconds=1e-3)
    assert libraries.sentences(bench.compare(["cblas:openblas"], "numba-micro", made.done())) == [
        "Of no shape do numba-micro and all of cblas:openblas have a time."
    ]


@pytest.mark.parametrize("width", [WIDE, PHONE, SLIDE])
def test_the_figure_has_a_panel_for_each_setting_and_a_mark_for_each_shape(run: Run, width: float) -> None:
    """Readable in every width; the mark's tip names the shape, the ratio, the best library and the ceiling."""
    chart, figure, canvas = figure_of(run, width)
    assert chart.title == "numba-micro against the best of cblas:openblas, cblas:blis and cblas:mkl"
    assert_readable(figure)
    words = [text for text, _ in texts(figure)]
    assert {"float32, 1 thread", "float64, 1 thread", "float32, 2 threads", "float64, 2 threads"} <= set(
        words
    )
    assert set(GROUPS) <= set(words)
    assert not any(text.isdigit() for text in words)  # slots are no figures
    assert len(canvas.tips) == 4 * sum(map(len, GROUPS.values()))
    assert any(tip.startswith("float32, 1 thread: numba-micro ") for tip in canvas.tips.values())
    assert all("against cblas:" in tip and "; the ceilings allow" in tip for tip in canvas.tips.values())
    assert len(figure.axes) == 1 + 4
    low, high = figure.axes[1].get_ylim()
    shapes = selection.select([run])[0].libraries.shapes  # type: ignore[union-attr]
    assert all(low < shape.pair.ratio.value < high for shape in shapes)


def test_marks_above_the_line_are_those_that_are_faster(run: Run) -> None:
    """In the panel of float32 on one thread, mark by mark."""
    best = selection.select([run])[0].libraries
    assert best is not None
    _, figure, _ = figure_of(run, WIDE)
    heights = sorted(
        float(line.get_ydata()[0]) for line in figure.axes[1].lines if len(line.get_xdata()) == 1
    )
    own = [shape.pair.ratio.value for shape in best.shapes if shape.setting == ("float32", 1, "hot")]
    assert heights == pytest.approx(sorted(own))


def test_the_page_has_a_section_where_there_are_libraries_to_be_held_against(
    synthetic: Callable[..., Any], page: str
) -> None:
    """And none where there are not; a CBLAS alone, or a kernel alone, is no comparison."""
    text = reports.page(rivals(synthetic(), FEW, [("float32", 1)])).read_text(encoding="utf-8")
    assert_offline(text)
    section = text[text.index('<section id="libraries">') :]
    words = Elements(section[: section.index("</section>") + 10]).text
    assert words.startswith("Against the libraries numba-micro against the best of")
    assert all(name in words for name in (*FEW, "float32, 1 thread, ratio to", "torch"))
    assert "that favours the libraries" in words
    assert '<section id="libraries">' not in page


@pytest.mark.parametrize(
    ("kernels", "new"),
    [
        (["numba-ikj", "numba-micro", "cblas:mkl", "mine.py:f"], "numba-micro"),
        (["numba-ikj", "numba-blocked", "cblas:mkl", "blas", "torch"], "numba-blocked"),
        (["python", "mine.py:f", "cblas:atlas"], "mine.py:f"),
        (["cblas:mkl", "blas"], None),
        (["numba-micro", "blas"], None),
    ],
)
def test_a_page_holds_the_flagship_or_else_the_highest_rung_against_the_libraries(
    synthetic: Callable[..., Any], kernels: list[str], new: str | None
) -> None:
    """What is a vendor's is not held against vendors."""
    made = synthetic()
    for kernel in kernels:
        made.product(kernel, 64, seconds=1e-3)
    best = selection.select([made.done()])[0].libraries
    assert (best and best.new) == new


def test_the_command_takes_a_list_of_kernels(synthetic: Callable[..., Any]) -> None:
    """As a table, as JSON, and with an exit code for what is slower than the best."""
    run = rivals(synthetic(), FEW, [("float32", 1)], ahead=lambda name: 0.8 if name == "skinny" else 1.5)
    command = ["compare", THREE, "numba-micro", "--run", str(run.path)]
    shown = CliRunner().invoke(gemmlab.app, command)
    assert shown.exit_code == 0
    assert "numba-micro against the best of" in shown.stdout
    done = CliRunner().invoke(gemmlab.app, [*command, "--json", "--fail-slower", "10"])
    text = json.loads(done.stdout)
    assert (done.exit_code, text["failed"], text["form"], text["counts"]) == (1, True, "best", True)
    assert [group["name"] for group in text["groups"]] == ["squares", "skinny"]
