"""Tables in a terminal: everything in 80 columns, and nothing missing without a reason."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

import reports
from bench.records import Run
from bench.verdicts.statistics import profiles
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
    from bench.verdicts.statistics import Row

    row = Row("1.Z", 1, "Z", "forward", ("Z", "bias", "activation"), "blas", 2, 3, 4, 48, 100, 1e-6, 0.5)
    assert tables.operation(row) == "1.Z (bias+activation)"
    several = replace(row, id="1.H", op="H", parts=("H", "activation"), times=15)
    assert tables.operation(several) == "15 × 1.H (activation)"


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


def test_a_revision_beside_the_working_tree_is_told_from_it(synthetic: Callable[..., Any]) -> None:
    """Otherwise it would be the same kernel twice, and the last one told."""
    making = synthetic()
    making.product("blas", 64, seconds=1e-3)
    making.product("blas", 64, seconds=9.0, revision="0123456789abcdef")
    cells = comparison(making.done()).cells
    times = {kernel: row[64, 64, 64].seconds.value for kernel, row in cells.items()}
    assert list(times) == ["blas", "blas 0123456789ab"]
    assert times == pytest.approx({"blas": 1e-3, "blas 0123456789ab": 9.0}, rel=0.1)


BOUND = {
    "by": "bandwidth",
    "level": "DRAM",
    "shares": {"arithmetic": 0.1, "bandwidth": 0.61, "overhead": 0.1},
}


def test_the_ladder_says_what_bounds_a_kernel_and_what_its_start_costs_in_80_columns(
    synthetic: Callable[..., Any],
) -> None:
    run = synthetic()
    run.product("python", 1024, "skipped", predicted_s=1000.0)
    run.product("numba-blocked", 1024, seconds=12.34e-3, bound=BOUND | {"by": "arithmetic"}, payback={"blas": 1240},
                first_call_s=2.1, first_call_cached_s=0.4)  # fmt: skip
    run.product("blas", 1024, seconds=10.34e-3, bound=BOUND, payback={}, twin=1.01)
    (found,) = selection.ladders(comparison(run.done()))
    text = printed(tables.ladder(found))
    rows = {line.split()[0]: line.rstrip() for line in text.splitlines() if line.strip()}
    assert rows["numba-blocked"].startswith(
        "numba-blocked compiles: 2.10 s to its first call (400 ms from disk)"
    )
    assert any(
        line.split()[:2] == ["numba-blocked", "12.4"] or "arith. 10 %" in line for line in text.splitlines()
    )
    assert rows["blas"].endswith("DRAM 61 %")
    assert rows["python"].split()[-1] == "predicted"
    assert "…" not in text
    assert "after 1,240 calls against blas" in " ".join(text.split())
    assert "A/A: blas against itself differs by up to 1.0 % at n ≥ 256 on 2 threads" in " ".join(text.split())
    assert not any(line.startswith(("ed ", "locked")) for line in text.splitlines())  # no name is folded


def test_a_difference_within_the_noise_is_not_told_with_an_interval(synthetic: Callable[..., Any]) -> None:
    run = synthetic()
    run.product("numba-blocked", 512, seconds=1.02e-3, steady=True)
    run.product("blas", 512, seconds=1.00e-3, steady=True, twin=1.05)
    (found,) = selection.ladders(comparison(run.done()))
    (blas,) = (line for line in printed(tables.ladder(found)).splitlines() if line.startswith("blas"))
    assert blas.split()[-3:] == ["1.02×", "within", "noise"]


def test_doubts_come_last_and_only_a_handful_of_them(
    synthetic: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run = synthetic()
    kinds = ("foreign-load", "drift", "steal", "prints", "two-humped", "oversubscribed")
    for at, kind in enumerate(kinds):
        run.product("blas", 16 * (at + 1), doubts=[{"kind": kind, "sentence": f"because of {kind}"}])
    run.product("blas", 512)
    reports.show(run.done())
    text = capsys.readouterr().out
    lines = text[text.index("In doubt") :].split("\n")
    assert lines[0] == "In doubt: 6 of 7 measured cells"
    assert lines[1] == "blas at n = 96 on 2 threads: because of oversubscribed"
    assert lines[2] == "blas at n = 80 on 2 threads: because of two-humped"
    assert lines[5] == "and 2 more in the report"
    assert text.index("In doubt") > text.index("GFLOP/s:")


def test_reasons_that_differ_in_figures_alone_are_one_line(synthetic: Callable[..., Any]) -> None:
    run = synthetic()
    run.product("blas", 64)
    for n, seconds in ((256, 0.5), (512, 4), (1024, 32)):
        run.product("python", n, "skipped", reason=f"predicted: {seconds} s a call")
    assert "python at 256, 512, 1024: skipped (predicted: 0.5–32 s a call)" in printed(
        tables.sweep(comparison(run.done()))
    )


def test_what_is_said_of_the_noise_is_said_once(
    synthetic: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Two orders have ladders of their own, and one floor; cold ones have another."""
    run = synthetic()
    for order, cache in (("n", "hot"), ("t", "hot"), ("n", "cold")):
        what = {"cache": cache, "problem": {"op_a": order}}
        run.product("python", 512, seconds=1.0, **what)
        run.product("blas", 512, seconds=1e-3, twin=1.02, **what)
    reports.show(run.done())
    text = capsys.readouterr().out
    assert text.count(": against python") == 3
    assert text.count("A/A: blas against itself") == 2
    assert text.count("n ≥ 256, cold") == 1
