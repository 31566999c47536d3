"""`gemmlab report`: results on stdout, progress on stderr, one sentence for a mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import reports
from bench.records import Run
from reports.commands import register


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer()
    made.callback()(lambda: None)
    register(made)
    return made


def test_report_writes_page_and_figures_and_says_where(app: typer.Typer, whole: Run, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    done = CliRunner().invoke(app, ["report", str(whole.path), "--out", str(out), "--baseline", "numba-ijk"])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [*reports.findings(whole), str(out)]
    assert "against numba-ijk" in out.read_text(encoding="utf-8")
    assert (tmp_path / "figures" / "rates.png").exists()


def test_report_speaks_json(app: typer.Typer, whole: Run, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    done = CliRunner().invoke(
        app, ["report", str(whole.path), "--out", str(out), "--no-figures", "--public", "--json"]
    )
    said = json.loads(done.stdout)
    assert said == {"page": str(out), "figures": [], "findings": reports.findings(whole), "warnings": []}
    assert "difference-engine" not in out.read_text(encoding="utf-8")


def test_report_takes_the_newest_run_where_none_is_named(
    app: typer.Typer, degenerate: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    degenerate["one cell"].path.rename("runs/newest")
    done = CliRunner().invoke(app, ["report", "--no-figures"])
    assert done.exit_code == 0, done.output
    assert Path("runs/newest/report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(["nowhere"], "nowhere: no records.jsonl there"), ([], "holds no run yet"),
     (["{run}", "--baseline", "blass"], "baseline 'blass' was not measured")],
)  # fmt: skip
def test_a_mistake_is_a_value_error_of_one_sentence(
    app: typer.Typer,
    whole: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    sentence: str,
) -> None:
    """The front door turns it into exit code 2."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["report", *(one.format(run=whole.path) for one in arguments)])
    assert isinstance(done.exception, ValueError)
    assert sentence in str(done.exception)
    assert "\n" not in str(done.exception)


def test_the_room_is_cheap_to_enter() -> None:
    """Neither matplotlib nor jinja2 nor the clockwork of bench until something is drawn."""
    heavy = {"matplotlib", "jinja2", "numpy", "scipy"}
    code = f"import sys, reports, reports.commands; print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
