"""Charts show what the records hold, with nothing clipped and no text on other text, in every width."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import reports
from bench.records import Run
from reports import charts, palette, selection, svg
from reports.canvas import PHONE, SLIDE, WIDE, Canvas, standalone

WIDTHS = pytest.mark.parametrize("width", [WIDE, PHONE, SLIDE])


def drawn(run: Run, width: float, **options: Any) -> list[tuple[charts.Chart, Any, Canvas]]:
    """Every chart of a run with its figure, drawn."""
    selections = selection.select([run])
    styles = palette.styles(selections[0].kernels)
    found = []
    for chart in charts.charts(selections, **options):
        title, pad = (chart.title, 28) if width == SLIDE else (None, 0)
        canvas = Canvas(width, standalone(styles), styles, title, pad)
        found.append((chart, charts._drawn(chart, canvas), canvas))
    return found


def texts(figure: Any) -> list[tuple[str, Any]]:
    """Every text of a figure with the box it covers, in pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    shown = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
    return [(text.get_text(), text.get_window_extent(renderer)) for text in shown]


def assert_readable(figure: Any) -> None:
    width, height = figure.bbox.width, figure.bbox.height
    found = texts(figure)
    assert found
    for words, box in found:
        inside = min(box.x0, box.y0, width - box.x1, height - box.y1)
        assert inside >= -0.5, f"{words!r} is cut"
    for (one, a), (other, b) in itertools.combinations(found, 2):
        apart = a.x1 <= b.x0 + 1 or b.x1 <= a.x0 + 1 or a.y1 <= b.y0 + 2 or b.y1 <= a.y0 + 2
        assert apart, f"{one!r} lies on {other!r}"


@WIDTHS
def test_no_text_is_cut_or_lies_on_other_text(whole: Run, width: float) -> None:
    for _, figure, _ in drawn(whole, width):
        assert_readable(figure)


@WIDTHS
def test_lines_that_end_together_have_names_that_do_not(synthetic: Callable[..., Any], width: float) -> None:
    """Nine kernels within a few per cent of each other, two of which stop early, and many sizes."""
    run = synthetic()
    run.ceilings()
    compiled = ["numba-ikj", "numba-blocked", "numba-micro", "blas", "cblas:mkl", "cblas:blis", "torch"]
    for at, kernel in enumerate([*compiled, "a$b$ <x>", "mine.py:fn"]):
        for n in (16, 24, 32, 48, 64, 100, 128, 192, 256, 500, 512, 1024, 2048, 4096):
            if at < 7 or n <= 64:
                run.product(kernel, n, seconds=2 * n**3 / (5e10 + 2e8 * at))
    for _, figure, _ in drawn(run.done(), width):
        assert_readable(figure)


@WIDTHS
def test_shapes_that_are_not_square_have_a_chart_of_their_own(
    synthetic: Callable[..., Any], width: float
) -> None:
    run = synthetic()
    run.ceilings()
    for shape in ((128, 512, 784), (2048, 10, 512), (64, 64, 64)):
        for kernel in ("numba-blocked", "blas"):
            run.product(kernel, shape)
    found = {chart.name: figure for chart, figure, _ in drawn(run.done(), width)}
    assert {"rates", "shapes"} <= set(found)
    assert_readable(found["shapes"])
    assert "128 × 512 × 784" in [words for words, _ in texts(found["shapes"])]


def test_the_measured_peak_is_a_labelled_line(whole: Run) -> None:
    figure = drawn(whole, WIDE)[0][1]
    peak = selection.select([whole])[0].comparisons[0].peak / 1e9
    (axes,) = figure.axes
    assert any(line.get_ydata()[0] == line.get_ydata()[-1] == pytest.approx(peak) for line in axes.lines)
    assert any(words.startswith("measured peak") for words, _ in texts(figure))


def test_python_and_blas_are_both_visible(whole: Run) -> None:
    """Five orders of magnitude: every measured point lies inside the axes."""
    figure = drawn(whole, WIDE)[0][1]
    low, high = figure.axes[0].get_ylim()
    rates = [result.rate.value / 1e9 for row in selection.select([whole])[0].comparisons[0].cells.values()
             for result in row.values() if selection.measured(result)]  # fmt: skip
    assert low < min(rates) < 0.1
    assert 100 < max(rates) < high


def test_a_prediction_is_hollow_and_says_so(whole: Run) -> None:
    chart, figure, _ = next(found for found in drawn(whole, WIDE) if found[0].name == "ladder-2")
    assert "predictions, not measurements" in chart.caption
    assert "predicted, not run" in [words for words, _ in texts(figure)]
    hollow = [patch for patch in figure.axes[0].patches if patch.get_facecolor()[3] == 0]
    assert len(hollow) == 1


def test_the_ladder_climbs_from_the_chosen_baseline(whole: Run) -> None:
    titles = [
        chart.title for chart, _, _ in drawn(whole, WIDE, baseline="python") if chart.section == "ladder"
    ]
    assert titles == ["The speed-up ladder at n = 128: float32, 2 threads"]
    (first, *_) = [chart for chart, _, _ in drawn(whole, WIDE, baseline="blas") if chart.section == "ladder"]
    assert first.caption == "Nothing here is faster than blas by more than the noise."


def test_the_bars_of_a_step_add_up_to_the_step(whole: Run) -> None:
    (training,) = selection.select([whole])[0].trainings
    figure = next(figure for chart, figure, _ in drawn(whole, WIDE) if chart.name == "shares")
    bars = [patch for patch in figure.axes[0].patches if patch.get_transform() != figure.axes[0].transAxes]
    for at in range(len(training.profiles)):
        widths = [bar.get_width() for bar in bars if int(bar.get_y() // 60) == at and bar.get_height() == 28]
        assert sum(widths) == pytest.approx(100)


def test_the_phone_has_letters_as_large_as_the_desktop(whole: Run) -> None:
    """Another shape, not smaller type; and it fits 360 pixels less the page's margins."""
    for chart, figure, _ in drawn(whole, PHONE):
        assert figure.bbox.width <= 360 - 16, chart.name
        assert (
            min(text.get_fontsize() for text in figure.findobj(lambda one: hasattr(one, "get_fontsize")))
            >= 11
        )


def test_a_wrong_size_is_not_bridged_by_a_solid_line(whole: Run) -> None:
    """numpy-dot was wrong at 512: the stretch from 256 to 1024 is dotted."""
    figure = drawn(whole, WIDE)[0][1]
    spans = {
        tuple(line.get_xdata()): line.get_linestyle()
        for line in figure.axes[0].lines
        if len(line.get_xdata()) == 2
    }
    assert spans[256, 1024] != "-"
    assert spans[128, 256] == "-"


def inline(run: Run) -> tuple[list[str], svg.Variables]:
    selections = selection.select([run])
    styles, colour = palette.styles(selections[0].kernels), svg.Variables()
    return [
        text for chart in charts.charts(selections) for text in charts.inline(chart, styles, colour).values()
    ], colour


@pytest.fixture(scope="module")
def figures(whole: Run) -> list[str]:
    return inline(whole)[0]


def test_inline_figures_take_every_colour_from_a_variable(figures: list[str]) -> None:
    """So that one drawing serves light and dark."""
    for text in figures:
        assert not re.findall(r"#[0-9a-f]{6}\b", text)
        assert "var(--muted)" in text
    assert any("var(--k-blas)" in text for text in figures)


def test_inline_figures_reach_for_nothing_outside(figures: list[str]) -> None:
    for text in figures:
        assert not re.search(r"https?:|<!DOCTYPE|<\?xml|xlink|<metadata|<style|DejaVu", text)
        root = ElementTree.fromstring(text)
        ids = [node.attrib["id"] for node in root.iter() if "id" in node.attrib]
        links = re.findall(r"(?:url\(|href=\")#([^)\"]+)", text)
        assert len(ids) == len(set(ids))
        assert set(links) <= set(ids)


def test_inline_figures_speak_to_screen_readers_and_to_the_pointer(figures: list[str]) -> None:
    root = ElementTree.fromstring(figures[0])
    assert root.attrib["role"] == "img"
    named = {node.attrib.get("id"): node for node in root}
    title, description = (named[name] for name in root.attrib["aria-labelledby"].split())
    assert title.tag == "title"
    assert "GFLOP/s against size" in (title.text or "")
    assert description.tag == "desc"
    assert "blas is the fastest" in (description.text or "")
    assert any(
        re.match(r"blas, n = 1024: .* GFLOP/s .* of peak", node.text or "") for node in root.iter("title")
    )


def test_a_kernel_may_be_called_anything(synthetic: Callable[..., Any]) -> None:
    """Names are text: no formula, no markup, no two kernels with one variable."""
    run = synthetic()
    for name in ("a$b$", "<script>", "a:b", "a-b", "a_3ab", "[red]"):
        run.product(name, 64, seconds=1e-3)
    figures, colour = inline(run.done())
    assert ">a$b$</text>" in figures[0]
    assert "<script>" not in figures[0]
    names = [svg.variable(role) for role in colour.roles]
    assert len(names) == len(set(names))


def test_slides_get_png_and_svg_files_with_colours_of_their_own(whole: Run, tmp_path: Path) -> None:
    from PIL import Image

    paths = reports.figures(whole, tmp_path / "figures")
    assert {path.suffix for path in paths} == {".png", ".svg"}
    assert [path.stem for path in paths[::2]] == ["rates", "roofline", "ladder", "ladder-2", "step", "shares"]
    for path in paths:
        if path.suffix == ".svg":
            text = path.read_text(encoding="utf-8")
            assert "var(" not in text
            assert ElementTree.fromstring(text) is not None
        else:
            with Image.open(path) as image:
                assert image.size[0] == 2 * SLIDE
                assert image.getpixel((0, 0))[:3] == (255, 255, 255)
                assert len(image.getcolors(1 << 24) or []) > 20


def test_the_same_records_give_the_same_figure(whole: Run, figures: list[str]) -> None:
    assert inline(whole)[0] == figures


def test_two_versions_of_a_kernel_are_two_lines(synthetic: Callable[..., Any]) -> None:
    """A student edits a kernel between sweep and resume: the cells are told apart by their source."""
    run = synthetic()
    run.product("mine.py:fn", 64, seconds=2e-3, source="aaaaaaaaaaaa")
    run.product("mine.py:fn", 64, seconds=1e-3, source="bbbbbbbbbbbb")
    (comparison,) = selection.select([run.done()])[0].comparisons
    assert list(comparison.cells) == ["mine.py:fn aaaaaa", "mine.py:fn bbbbbb"]


def test_a_time_that_cannot_be_is_neither_drawn_nor_compared(synthetic: Callable[..., Any]) -> None:
    """Faster than the measured ceiling: the samples are there, and nothing is made of them."""
    run = synthetic()
    run.product("blas", 64)
    run.product("numba-ijk", 64)
    run.product("mine.py:fn", 64, "impossible", seconds=1e-9, reason="faster than the peak")
    read = run.done()
    (comparison,) = selection.select([read])[0].comparisons
    assert list(comparison.at((64, 64, 64))) == ["numba-ijk", "blas"]
    assert not any("mine.py:fn" in finding for finding in reports.findings(read))


def test_only_what_differs_in_kernel_and_shape_is_compared(synthetic: Callable[..., Any]) -> None:
    run = synthetic()
    for change in ({}, {"dtype": "float64"}, {"op_a": "t"}, {"beta": 1.0}):
        run.product("blas", 64, problem=change)
    run.product("blas", 64, cache="cold", problem={"data": "zeros", "batch": 8})
    found = [comparison.name for comparison in selection.select([run.done()])[0].comparisons]
    assert found == ["float32, 2 threads", "float64, 2 threads", "float32, 2 threads, Aᵀ B",
                     "float32, 2 threads, beta 1",
                     "float32, 2 threads, batch of 8, cold cache, zeros data"]  # fmt: skip


@WIDTHS
def test_a_roofline_has_every_roof_that_was_measured_and_every_cell(
    synthetic: Callable[..., Any], width: float
) -> None:
    run = synthetic()
    run.ceilings()
    run.bandwidths()
    for shape in (16, 64, 1024, (2048, 10, 512)):
        for kernel in ("python", "numba-blocked", "blas"):
            run.product(kernel, shape)
    read = run.done()
    _, figure, canvas = next(found for found in drawn(read, width) if found[0].name == "roofline")
    assert_readable(figure)
    words = [text for text, _ in texts(figure)]
    for level, rate in (("L1", "400"), ("L2", "200"), ("L3", "100"), ("DRAM", "21.0")):
        assert any(text.startswith(level) and (width == PHONE or rate in text) for text in words), level
    assert sum(" FLOP/B" in tip for tip in canvas.tips.values()) == 12
    assert "blas, n = 1024: " in " ".join(canvas.tips.values())
    assert any("at 171 FLOP/B" in tip for tip in canvas.tips.values())  # 2 n^3 / 12 n^2
    (axes,) = figure.axes
    slopes = [line.get_xydata() for line in axes.lines if len(line.get_xydata()) == 2]
    ridge = selection.select([read])[0].comparisons[0].peak / 21e9
    assert any(end[1][0] == pytest.approx(ridge) for end in slopes)  # where DRAM feeds the peak


def test_without_bandwidths_there_is_no_roofline(synthetic: Callable[..., Any]) -> None:
    run = synthetic()
    run.product("blas", 64)
    assert [chart.name for chart, _, _ in drawn(run.done(), WIDE)] == ["rates"]


def test_one_roofline_stands_for_all_under_the_same_roofs(synthetic: Callable[..., Any]) -> None:
    run = synthetic()
    run.ceilings()
    run.bandwidths()
    for cache in ("cold", "hot"):
        run.product("blas", 64, cache=cache)
    run.product("python", 64)
    found = [chart.title for chart, _, _ in drawn(run.done(), WIDE) if chart.name.startswith("roofline")]
    assert found == ["The roofline: float32, 2 threads"]


def test_a_bar_within_the_noise_is_not_called_faster(synthetic: Callable[..., Any]) -> None:
    """Two kernels two per cent apart, and a kernel against itself three."""
    run = synthetic()
    run.product("numba-blocked", 512, seconds=1.02e-3, steady=True)
    run.product("blas", 512, seconds=1.00e-3, steady=True, twin=1.03)
    chart, figure, _ = next(found for found in drawn(run.done(), WIDE) if found[0].name == "ladder")
    assert chart.caption == "Nothing here is faster than numba-blocked by more than the noise."
    assert "within the noise" in [words for words, _ in texts(figure)]
