"""Verdicts: what a comparison looks like in a terminal, and what it says in sentences."""

import math

import pytest

import reports
from bench.verdicts.compare import Comparison, Mean, Pair, verdict
from bench.verdicts.statistics import Interval
from reports import verdicts


def pair(kernel="new", value=0.55, floor=0.013, spread=1.1, n=256, **fields):
    ratio = Interval(value, value / spread, value * spread, 6)
    times = [Interval(seconds, seconds, seconds, 6) for seconds in (1e-3, 1e-3 / value)]
    problem = {"m": n, "n": n, "k": n, "dtype": "float32", "op_a": "n", "op_b": "n", "batch": 1} | fields.pop(
        "problem", {}
    )
    fields = {"threads": 1, "cache": "hot", "model": {}, "verdict": verdict(ratio, floor)} | fields
    return Pair(
        kernel=kernel, problem=problem, base=times[0], new=times[1], ratio=ratio, floor=floor, **fields
    )


def mean(of, cells=1, reason=None):
    return Mean(of.kernel, cells, of.ratio, of.floor, of.verdict, reason)


def compared(*pairs, form="kernels", base="old", new="new", **fields):
    return Comparison(form, base, new, pairs, tuple(map(mean, pairs)), **fields)


def test_a_slower_kernel_is_said_with_how_much_slower_and_its_floor():
    """Turned round: 0.55 times as fast is 1.82 times slower, and its bounds change places."""
    assert verdicts.sentences(compared(pair())) == [
        "new is slower than old: 1.818× (1.653–2.000), floor 1.3 %."
    ]
    assert verdicts.sentences(compared(pair(value=1.5))) == [
        "new is faster than old: 1.500× (1.364–1.650), floor 1.3 %."
    ]
    same = verdicts.sentences(compared(pair(value=1.004, spread=1.002)))
    assert same == ["new and old: the same within 0.6 %, 1.004× (1.002–1.006), floor 1.3 %."]


def test_what_cannot_be_said_is_said_with_the_reason():
    """Never a number alone."""
    one = pair(floor=math.nan, reason="no floor")
    found = Comparison("kernels", "old", "new", (one,), (mean(one, 3, "no floor"),))
    assert verdicts.sentences(found) == [
        "Whether new is faster or slower than old cannot be said: "
        "0.550× (0.500–0.605) in the geometric mean of 3 cells; no floor."
    ]
    assert verdicts.remarks(found) == ["n = 256: no floor"]
    nothing = Comparison("runs", "a", "b", (one,), ())
    assert "cannot be said" in verdicts.sentences(nothing)[0]


def test_revisions_and_runs_are_named_for_what_they_are():
    """A kernel is slower in the working tree than at a commit, or in one run than in another."""
    (revised,) = verdicts.sentences(compared(pair("k"), form="revisions", base="0123456789abcdef", new=""))
    assert revised.startswith("k is slower in the working tree than at 0123456789ab: 1.818×")
    (later,) = verdicts.sentences(compared(pair("k"), form="runs", base="runs/a", new="runs/b"))
    assert later.startswith("k is slower in runs/b than in runs/a: 1.818×")


def test_a_row_leaves_out_what_all_rows_share():
    """It stands in the title: a terminal has 80 columns."""
    first, second = pair(), pair(n=64, threads=2, cache="cold", problem={"op_a": "t", "batch": 8})
    assert verdicts.place(second) == "n = 64, float32, tn batch 8, cold, 2 threads"
    assert verdicts.place(first) == "n = 256, float32, 1 thread"
    assert verdicts.place(second, [verdicts._dtype]) == "n = 64, tn batch 8, cold, 2 threads"
    step = pair(problem={}, model={"arch": [784, 10], "batch": 32, "dtype": "float32"})
    assert verdicts.place(step).startswith("784-10, batch 32, float32")


def test_the_table_has_a_row_for_each_cell_and_one_for_the_mean(capsys, monkeypatch):
    """And the first doubt of each cell below it, alike ones together; plain text, no wider than the terminal."""
    monkeypatch.setenv("COLUMNS", "80")
    doubts = ("new: the hypervisor gave 9 % away", "new: something else")
    pairs = [pair(n=n, doubts=doubts) for n in (64, 256, 1024, 2048)] + [pair("[red]", reason="new: crashed")]
    found = Comparison(
        "kernels", "old", "new", tuple(pairs), (mean(pairs[0], 5),), warnings=("not made alike",)
    )
    reports.show_comparison(found)
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0] == "warning: not made alike"
    assert lines[1] == "new: new, base: old, float32, 1 thread"
    assert next(line for line in lines if line.startswith("n = 1024 ")).split() == (
        ["n", "=", "1024", "1.00", "ms", "1.82", "ms", "0.550", "0.500–0.605", "1.3", "%", "slower"]
    )
    assert any(line.startswith("geom. mean") for line in lines)
    assert "n = 64; n = 256 and 2 more: new: the hypervisor" in out
    assert "something else" not in out
    assert max(map(len, (line for line in lines if line.startswith("n = 1024")))) <= 80


def test_runs_have_a_table_for_each_kernel_and_mark_the_reference(capsys):
    """It is not judged."""
    found = compared(
        pair("k"), pair("blas", verdict=None), form="runs", base="a", new="b", reference="blas"
    )  # fmt: skip
    reports.show_comparison(found)
    out = capsys.readouterr().out
    assert "times are over those of blas" in out
    assert "(reference)" in out


@pytest.mark.parametrize(
    ("value", "text"), [(1.004, "1.004"), (0.5, "0.500"), (37.12, "37.1"), (0.0312, "0.0312")]
)
def test_near_1_a_factor_has_three_decimals(value, text):
    """1.004 is not 1.00."""
    assert verdicts.factor(value) == text
