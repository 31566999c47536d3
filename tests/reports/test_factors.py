"""What affects the cost, in words and in pictures: no more than the intervals carry, and nothing cut or overlaid."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import reports
from bench.records import Run, load
from reports import charts, selection, wording
from tests.reports.conftest import ENVIRONMENT, Synthetic
from tests.reports.explored import BASE, MODEL, explored
from tests.reports.test_charts import WIDTHS, assert_readable, drawn, texts

Explored = Callable[..., Run]


@pytest.fixture
def made(synthetic: Callable[..., Synthetic]) -> Explored:
    return lambda *arguments, **options: explored(synthetic(), *arguments, **options)


@pytest.fixture(scope="module")
def whole_exploration(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Every factor, with a kernel that was too slow to be run."""
    return explored(Synthetic(tmp_path_factory.mktemp("explored") / "run", ENVIRONMENT))


def printed(run: Run, capsys: pytest.CaptureFixture[str]) -> str:
    reports.show(run)
    return capsys.readouterr().out


def test_the_answer_is_three_sentences(whole_exploration: Run) -> None:
    most, turning, hardly = reports.findings(whole_exploration)
    assert re.match(
        r"Of what was varied, width matters most: an example costs 1\d\d× \(\S+\) as much at 2,048", most
    )
    assert most.endswith("python, too slow to be run, is predicted at 2,260× the base.")
    assert turning.startswith("GEMV turning into GEMM: an example costs ")
    assert "from batch 32 on it costs at most 25 % more than there" in turning
    assert hardly.startswith("What hardly matters: activation (within ")
    assert "but for gelu, 1.40×" in hardly
    assert "and loss (within " in hardly
    assert "optimizer" not in hardly


def test_two_factors_that_cannot_be_told_apart_are_named_together(made: Explored) -> None:
    """Both double the cost; whichever comes out ahead has not won."""
    run = made({"dtype": ["float32", "float64"], "batch": [64, 128]}, seconds=_both_double)
    (most, *_) = reports.findings(run)
    assert re.search(r"(dtype and batch|batch and dtype) matter most, and cannot be told apart: ", most)


def _both_double(what: dict[str, Any]) -> float:
    """A step of 64 examples takes as long as one of 128, and one in float64 twice as long."""
    return 2e-3 if what["model"]["dtype"] == "float64" else 1e-3


def test_where_nothing_differs_nothing_matters(made: Explored) -> None:
    run = made({"loss": ["softmax-cross-entropy", "hinge", "logistic"]}, seconds=lambda what: 1e-3)
    most, hardly = reports.findings(run)
    assert most == "Nothing that was varied can be told from the noise."
    assert hardly.startswith("What hardly matters: loss (within ")


def test_where_intervals_are_wide_no_sentence_says_more_than_they_do(made: Explored) -> None:
    """Launches that differ by a third: neither that something matters nor that it does not."""
    values = {"loss": ["softmax-cross-entropy", "hinge"], "batch": [64, 128, 256]}
    run = made(values, noise=0.3, seconds=lambda what: what["model"]["batch"] * 1e-5)
    assert reports.findings(run) == [
        "Nothing that was varied can be told from the noise.",
        "Larger batches make an example no cheaper that could be told from the noise.",
        "Nothing that was varied is sure to stay within 10 % of the base.",
    ]


def test_one_launch_says_that_it_says_nothing(made: Explored) -> None:
    (said,) = reports.findings(made({"batch": [1, 128]}, launches=1))
    assert said.startswith(
        "One launch of 784-512-512-10, batch 128, float32, numba-micro, 2 threads has no spread"
    )


def test_the_table_has_a_line_for_every_value_and_fits_80_columns(
    whole_exploration: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    out = printed(whole_exploration, capsys)
    lines = out.splitlines()
    for value in ("2,048", "softmax-cross-entropy", "numba-ikj", "float64", "adamw"):
        assert sum(line.startswith(f" {value} ") for line in lines) == 1
    table = [line for line in lines if line.startswith(" ")]
    assert max(map(len, table)) <= 80
    assert "kernel python: skipped (predicted from smaller sizes: 9 s a call)" in out
    assert "Of what was varied, width matters most" in out
    assert "a training step of" not in out  # not a profile for each variant


def test_what_was_not_varied_for_a_reason_is_told(made: Explored, capsys: pytest.CaptureFixture[str]) -> None:
    base = BASE | {"model": MODEL | {"arch": [784, 10]}}
    out = printed(made({"batch": [1, 128]}, base=base), capsys)
    assert "width is not varied: 784-10 has no hidden layer" in out


@WIDTHS
def test_no_text_of_the_panels_is_cut_or_lies_on_other_text(whole_exploration: Run, width: float) -> None:
    (figure,) = (figure for chart, figure, _ in drawn(whole_exploration, width) if chart.name == "explored")
    assert_readable(figure)


@WIDTHS
@pytest.mark.parametrize(
    "values",
    [
        {"loss": ["softmax-cross-entropy", "hinge"]},
        {"depth": [0, 1, 2]},
        {"batch": [1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 128, 144, 233, 377, 610, 987, 1597, 2584]},
    ],
    ids=["one choice", "no hidden layer", "many batches"],
)
def test_few_and_many_values_are_readable_too(
    made: Explored, values: dict[str, list[Any]], width: float
) -> None:
    ((_, figure, _), *_) = drawn(made(values), width)
    assert_readable(figure)


@WIDTHS
@pytest.mark.parametrize("best", [4, 512, 1024])
def test_where_gemv_becomes_gemm_is_marked_wherever_that_is(made: Explored, best: int, width: float) -> None:
    """Near an end of the curve as well; at its very end nothing is."""
    run = made(
        {"batch": [1, 2, 4, 64, 512, 1024]},
        seconds=lambda what: 1e-5 * (b := what["model"]["batch"]) * (1 if b >= best else 2),
    )
    ((_, figure, _), *_) = drawn(run, width)
    assert_readable(figure)
    assert ("GEMV" in [words for words, _ in texts(figure)]) == (best < 1024)


def test_every_factor_has_a_panel_that_marks_the_base(whole_exploration: Run) -> None:
    """A ring in each, at the base's time: on the dashed line."""
    ((chart, figure, _), *_) = drawn(whole_exploration, charts.WIDE)
    assert chart.name == "explored"
    explored = selection.select([whole_exploration])[0].explored
    assert explored is not None
    base = explored.base.example.value
    _, *panels = figure.axes
    assert len(panels) == len(explored.factors) == 9
    for axes in panels:
        rings = [line for line in axes.lines if line.get_markersize() == 13]
        assert len(rings) == 1
        place = [float(at[0]) for at in rings[0].get_data()]
        assert base in [pytest.approx(at) for at in place]
    words = [words for words, _ in texts(figure)]
    assert "GEMM from 32" in words
    assert "predicted" in words
    assert chart.caption.endswith("hollow marks are predictions, not measurements.")


def test_the_page_has_the_figure_the_tables_and_the_base_s_step_alone(
    whole_exploration: Run, tmp_path: Path
) -> None:
    page = reports.page(whole_exploration, tmp_path / "page.html").read_text(encoding="utf-8")
    section = page.partition('<section id="explored">')[2].partition("</section>")[0]
    assert section.count("<svg") >= 2
    assert section.count('scope="rowgroup"') == 9
    assert "softmax-cross-entropy" in section
    assert "A/A: numba-micro against itself differs by up to" in section
    assert page.count("A training step by layer") == page.count(
        "A training step by layer: 784-512-512-10, batch 128, float32, 2 "
    )


def test_an_interrupted_exploration_has_a_page(
    made: Explored, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Some cells are not closed, the base among them."""
    run = made({"batch": [1, 128], "loss": ["softmax-cross-entropy", "hinge"]})
    records = run.path / "records.jsonl"
    lines = records.read_text().splitlines()
    closing = [line for line in lines if '"kind":"cell"' in line]
    for gone in (closing[1:], closing):
        records.write_text("\n".join(line for line in lines if line not in gone) + "\n")
        cut = load(run.path)
        printed(cut, capsys)
        assert reports.page(cut, tmp_path / "page.html").exists()


def test_a_network_s_name_says_what_is_unusual_of_it() -> None:
    model = {"arch": [784, 10], "batch": 8, "dtype": "float32", "activation": "relu", "optimizer": "adam"}
    assert wording.architecture(model) == "784-10, batch 8, float32, adam"
