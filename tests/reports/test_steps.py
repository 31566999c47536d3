"""Steps: the table of what each kernel of a row brought."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

import bench
import gemmlab
import reports


def test_the_table_has_a_line_for_each_kernel_in_the_readers_order(
    synthetic: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """The first has no gain; of one size its name is in the title; the command shows the same."""
    made = synthetic()
    made.ceilings()
    for kernel, seconds in (("numba-ikj", 8e-3), ("numba-blocked", 4e-3), ("blas", 2e-3)):
        made.product(kernel, 512, seconds=seconds, steady=True, twin=1.01 if kernel == "blas" else 0.0)
    run = made.done()
    reports.show_comparison(bench.steps(["numba-ikj", "blas", "numba-blocked"], run))
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "What each step brought: float32, n = 512"
    first, second, third = (line.split() for line in out.splitlines()[3:6])
    assert (first[0], second[0], third[0]) == ("numba-ikj", "blas", "numba-blocked")
    assert len(first) == 4
    assert second[4].startswith("4.0") or second[4].startswith("3.9")
    assert (second[-1], third[-1]) == ("faster", "slower")
    command = ["compare", "numba-ikj", "blas", "numba-blocked", "--run", str(run.path)]
    assert CliRunner().invoke(gemmlab.app, command).stdout == out
    text = json.loads(CliRunner().invoke(gemmlab.app, [*command, "--json"]).stdout)
    assert [step["kernel"] for step in text["rows"][0]["steps"]] == ["numba-ikj", "blas", "numba-blocked"]


def test_several_shapes_are_a_geometric_mean(
    synthetic: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """And the title says of how many."""
    made = synthetic()
    for n in (64, 128):
        for kernel in ("numba-ikj", "blas"):
            made.product(kernel, n)
    reports.show_comparison(bench.steps(["numba-ikj", "blas"], made.done()))
    assert "What each step brought: float32, geometric means of 2 shapes" in capsys.readouterr().out
