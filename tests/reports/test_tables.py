"""Tables in a terminal: everything in 80 columns, and nothing missing without a reason."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

import reports
from bench.records import Run
from bench.statistics import profiles
from reports import selection, tables


def printed(table: Any, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined]


def comparison(run: Run) -> selection.Comparison:
    return selection.select([run])[0].comparisons[0]


def test_a_sweep_of_seven_sizes_fits_80_columns(whole: Run) -> None:
    text = printed(tables.sweep(comparison(whole)))
    assert "…" not in text
    rows = {line.split()[0]: line.split() for line in text.splitlines()[2:10]}
    assert rows["python"][4:] == ["0.0136", "skipped", "skipped", "skipped"]
    assert rows["numpy-dot"][6] == "wrong"
    assert rows["cublas"][1:] == ["n/a"] * 7
    assert "numpy-dot at 512: wrong (row 511 of C is not written)" in text
    assert "measured peak: 152 GFLOP/s" in text


def test_more_sizes_make_more_tables(synthetic: Callable[..., Any]) -> None:
    run = synthetic()
    for n in range(16, 16 * 13, 16):
        run.product("blas", n)
    text = printed(tables.sweep(comparison(run.done())))
    assert text.count("kernel \\ n") == 2
    assert all(f" {n}" in text for n in range(16, 16 * 13, 16))


def test_shapes_that_are_not_square_are_rows(synthetic: Callable[..., Any]) -> None:
    run = synthetic()
    run.product("blas", (128, 512, 784))
    run.product("python", (128, 512, 784), "skipped")
    text = printed(tables.sweep(comparison(run.done())))
    assert any(line.split()[:6] == ["128", "×", "512", "×", "784", "blas"] for line in text.splitlines())
    assert "python at 128 × 512 × 784: skipped" in text


def test_the_ladder_fits_80_columns_and_marks_predictions(whole: Run) -> None:
    first, last = selection.ladders(comparison(whole))
    assert "against python" in printed(tables.ladder(first))
    text = printed(tables.ladder(last))
    assert "…" not in text
    assert "numba-blocked " in text
    (python,) = (line for line in text.splitlines() if line.startswith("python"))
    assert python.split()[-3:] == ["116×", "slower", "predicted"]


def test_a_profile_has_the_columns_of_the_field_and_sums(whole: Run) -> None:
    step = profiles(whole)[-1]
    text = printed(tables.profile(step))
    assert "…" not in text
    heading = next(line for line in text.splitlines() if line.startswith("op"))
    assert heading.split() == [
        "op",
        "m",
        "n",
        "k",
        "FLOPs",
        "bytes",
        "FLOP/B",
        "time",
        "GFLOP/s",
        "%",
        "peak",
        "%",
        "step",
    ]
    (product,) = (line.split() for line in text.splitlines() if line.startswith("1.dW"))
    assert product[1:6] == ["64", "128", "128", "2.10M", "131k"]
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    shares = [float(rows[row.id][-1]) for row in step.rows]
    assert float(rows["total"][-1]) == pytest.approx(sum(shares), abs=1)
    assert float(rows["total"][-1]) + float(rows["remainder"][-1]) == pytest.approx(100, abs=0.6)
    assert "The rows account for 97." in text
    assert "of the uninstrumented step" in text


def test_a_fused_operation_names_its_parts() -> None:
    from bench.statistics import Row

    row = Row("1.Z", 1, "Z", "forward", ("Z", "bias", "activation"), "blas", 2, 3, 4, 48, 100, 1e-6, 0.5)
    assert tables.operation(row) == "1.Z (bias+activation)"


def test_names_are_not_markup(synthetic: Callable[..., Any]) -> None:
    run = synthetic()
    run.product("[red]", 64, seconds=1e-3)
    assert "[red]" in printed(tables.sweep(comparison(run.done())))


def test_a_pipe_gets_plain_text(whole: Run, capsys: pytest.CaptureFixture[str]) -> None:
    reports.show(whole)
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert "numba-blocked: a training step of 64-128-64-10" in text
    assert "GFLOP/s: float32" in text


def test_brief_shows_one_step_of_each_network_the_fastest(
    whole: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    reports.show(whole)
    everything = capsys.readouterr().out
    reports.show(whole, brief=True)
    brief = capsys.readouterr().out
    fastest = min(profiles(whole), key=lambda profile: profile.step).result.kernel
    assert everything.count("a training step of") == 3
    assert brief.count("a training step of") == 1
    assert f"{fastest}: a training step of" in brief


def test_a_revision_beside_the_working_tree_is_left_to_compare(synthetic: Callable[..., Any]) -> None:
    """In a sweep's table it would be the same kernel twice, and the last one told."""
    making = synthetic()
    making.product("blas", 64, seconds=1e-3)
    making.product("blas", 64, seconds=9.0, revision="0" * 40)
    table = comparison(making.done())
    assert [round(result.seconds.value, 3) for result in table.cells["blas"].values()] == [0.001]
