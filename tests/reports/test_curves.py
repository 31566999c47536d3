"""Curves: every epoch on both clocks, whatever the kernels, with nothing cut and no text on other text."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import bench
import reports
from bench.records import Run
from reports import curves, selection
from reports.canvas import PHONE, SLIDE, WIDE
from reports.commands import register
from tests.reports.test_charts import assert_readable, drawn, texts

WIDTHS = pytest.mark.parametrize("width", [WIDE, PHONE, SLIDE])
STEP_S = {"python": 3e-2, "numpy-dot": 8e-4, "numba-ikj": 9e-5, "numba-micro": 2.1e-5, "blas": 2.2e-5}


def training(kernel: str, step_s: float, epochs: int, **changes: Any) -> dict[str, Any]:
    """A line as bench writes it: loss and accuracy by a law, 45 steps an epoch."""
    told = []
    for epoch in range(1, epochs + 1):
        told.append(
            {
                "epoch": epoch, "lr": 0.1, "train_loss": 2.2 / epoch, "validation_loss": 2.4 / epoch + 0.002 * epoch,
                "validation_accuracy": 1 - 0.5 / (epoch + 1), "test_accuracy": 1 - 0.4 / (epoch + 1),
                "seconds": 45 * step_s, "cumulative_s": 45 * step_s * epoch,
            }
        )  # fmt: skip
    model = {
        "arch": [64, 64, 10], "batch": 32, "dtype": "float32", "data": "digits", "optimizer": "sgd",
        "validation": 0.1, "epochs": epochs,
    }  # fmt: skip
    return {
        "schema": 1, "kind": "training", "run": "x", "cell": kernel, "time": "", "kernel": kernel, "threads": 2,
        "source": "x", "status": "ok", "reason": None, "model": model, "epochs": told,
        "losses": [2.0] * (45 * epochs), "steps": 45 * epochs, "seconds": 45 * step_s * epochs, "step_s": step_s,
        "first_call_s": 0.1, "error_ratio": 0.1, "memory": {"parameters": 19240, "total": 80_000},
        "best_epoch": max(1, epochs - 2), "stopped": False, "worker": {}, **changes,
    }  # fmt: skip


def written(folder: Path, *lines: dict[str, Any]) -> Run:
    whole = {
        "gemmlab": "trainings", "schema": 1, "environment": {"cpu": {"model": "Synthetic"}, "host": "engine"},
        "trainings": list(lines),
    }  # fmt: skip
    (folder / "digits.json").write_text(json.dumps(whole))
    return bench.load(folder / "digits.json")


@pytest.fixture
def several(tmp_path: Path) -> Run:
    return written(tmp_path, *(training(kernel, step_s, 25) for kernel, step_s in STEP_S.items()))


@WIDTHS
@pytest.mark.parametrize("epochs", [1, 2, 9, 25, 300])
@pytest.mark.parametrize("kernels", [["blas"], ["numba-micro", "blas"], [*STEP_S]])
def test_no_text_is_cut_or_lies_on_other_text(
    tmp_path: Path, width: float, epochs: int, kernels: list[str]
) -> None:
    run = written(tmp_path, *(training(kernel, STEP_S[kernel], epochs) for kernel in kernels))
    found = {chart.name: figure for chart, figure, _ in drawn(run, width)}
    assert list(found) == ["loss", "accuracy"]
    for figure in found.values():
        assert_readable(figure)


def test_both_clocks_show_every_epoch_of_every_kernel(several: Run) -> None:
    """The same values over epochs and over seconds, within the axes."""
    for chart, figure, _ in drawn(several, WIDE):
        by_epoch, by_second = figure.axes
        for line in several.lines:
            fields = {
                "loss": ("train_loss", "validation_loss"),
                "accuracy": ("test_accuracy", "validation_accuracy"),
            }
            for name in fields[chart.name]:
                values = [epoch[name] for epoch in line["epochs"]]
                for axes, clock in ((by_epoch, "epoch"), (by_second, "cumulative_s")):
                    at = [epoch[clock] for epoch in line["epochs"]]
                    assert any(
                        list(one.get_xdata()) == at and list(one.get_ydata()) == values for one in axes.lines
                    ), (chart.name, name, clock)
                    low, high = axes.get_xlim()
                    assert all(low <= x <= high for x in at)
                    low, high = axes.get_ylim()
                    assert all(low <= y <= high for y in values)


def test_kernels_far_apart_are_a_shift_on_a_logarithmic_clock_and_near_ones_are_not(tmp_path: Path) -> None:
    for kernels, scale in (
        (["python", "blas"], "log"),
        (["numba-micro", "blas"], "linear"),
        (["blas"], "linear"),
    ):
        run = written(tmp_path, *(training(kernel, STEP_S[kernel], 5) for kernel in kernels))
        (_, figure, _), *_ = drawn(run, WIDE)
        assert figure.axes[1].get_xscale() == scale
        assert figure.axes[0].get_xscale() == "linear"


def test_the_caption_says_what_the_clocks_and_the_curves_do(several: Run, tmp_path: Path) -> None:
    loss, accuracy = (chart.caption for chart, _, _ in drawn(several, WIDE))
    assert loss == (
        "Against epochs the curves lie on each other; 25 epochs take 23.6 ms with numba-micro and 33.8 s with python, "
        "in one process each: these seconds have no interval."
    )
    assert accuracy == (
        "After 25 epochs 98 % of the test examples and 98 % of the validation examples are labelled right, "
        "whatever the kernel."
    )
    other = training("numba-micro", 1e-5, 25)
    for epoch in other["epochs"]:
        epoch["train_loss"] += 0.3
    drifted = written(tmp_path, training("blas", 2e-5, 25), other)
    assert "drift apart by rounding" in drawn(drifted, WIDE)[0][0].caption


def test_what_is_missing_is_not_drawn(tmp_path: Path) -> None:
    """No validation, no classes, no early stopping: one curve, no second figure, no key for what is not there."""
    line = training("blas", 1e-5, 5, best_epoch=None)
    for epoch in line["epochs"]:
        epoch |= {"validation_loss": None, "validation_accuracy": None, "test_accuracy": None}
    ((chart, figure, _),) = drawn(written(tmp_path, line), WIDE)
    assert chart.name == "loss"
    words = [text for text, _ in texts(figure)]
    assert not {"training", "validation", "weights kept"} & set(words)


def test_a_training_without_an_epoch_is_told_and_not_drawn(tmp_path: Path) -> None:
    """Lost kernels stand in the table with their reason; where all are lost there is a page all the same."""
    none = {"epochs": [], "losses": [], "seconds": 0.0, "step_s": None, "best_epoch": None}
    lost = training("cublas", 1e-5, 5, status="unavailable", reason="cublas: no GPU <here>") | none
    wrong = training("mine.py:f", 1e-5, 5, status="wrong", reason="1.Z has error ratio 9") | none
    run = written(tmp_path, lost, training("blas", 1e-5, 5), wrong)
    page = reports.page(run).read_text()
    assert "no GPU &lt;here&gt;" in page
    assert "1.Z has error ratio 9" in page
    assert len(drawn(run, WIDE)) == 2
    assert "cublas" in reports.page(written(tmp_path, lost)).read_text()


def test_diverged_losses_do_not_reach_the_axes(tmp_path: Path) -> None:
    line = training("blas", 1e-5, 5)
    line["epochs"][3]["validation_loss"] = "inf"
    (_, figure, _), *_ = drawn(written(tmp_path, line), WIDE)
    assert all(map(math.isfinite, figure.axes[0].get_ylim()))


def test_trainings_of_other_networks_have_figures_of_their_own(tmp_path: Path) -> None:
    """Only what differs in the kernel alone shares a figure."""
    other = training("blas", 1e-5, 5)
    other["model"] = other["model"] | {"arch": [64, 10]}
    run = written(tmp_path, training("blas", 1e-5, 5), other, training("numba-ikj", 1e-5, 5))
    assert [course.name.partition(",")[0] for course in curves.courses(run)] == ["64-64-10", "64-10"]
    assert [chart.name for chart, _, _ in drawn(run, WIDE)] == ["loss", "accuracy", "loss-2", "accuracy-2"]
    assert selection.select([run])[0].kernels == ["numba-ikj", "blas"]


def test_report_takes_a_file_of_trainings(several: Run, tmp_path: Path) -> None:
    """The page beside it under its name, figures in figures/; --public leaves the host out."""
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    done = CliRunner().invoke(app, ["report", str(several.path), "--public"])
    assert done.exit_code == 0, done.output
    *findings, page = done.stdout.splitlines()
    assert findings == reports.findings(several)
    assert findings[0].startswith(
        "64-64-10, batch 32, float32 on digits, 2 threads: 25 epochs take 23.6 ms in steps"
    )
    assert page == str(tmp_path / "digits.html")
    text = Path(page).read_text()
    assert "The same learning on another clock" in text
    assert "Every cell" not in text
    assert "engine" not in text
    names = [f"{name}.{ending}" for name, ending in itertools.product(("accuracy", "loss"), ("png", "svg"))]
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == names
