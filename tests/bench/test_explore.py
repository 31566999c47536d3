"""Explore under the clock: a base and its variants in turn, each verified, measured or skipped by itself."""

import json
from collections import Counter

import pytest

import bench
from bench.records import read_json, write_json

QUICK = {"launches": 2, "rounds": 2, "sample_s": 0.002}
VALUES = {"batch": [1, 4], "depth": [1], "dtype": ["float64"], "kernel": ["numpy-dot"]}


def values_of(found, name):
    return {variant.value: variant for variant in found.factor(name).variants}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Five variants of a small network, on BLAS and on NumPy's dot products."""
    out = tmp_path_factory.mktemp("explore") / "run"
    return bench.explore("12-6-6-3", 8, "blas", threads=1, values=VALUES, out=out, settings=QUICK)


def test_every_round_holds_a_sample_of_every_variant(run):
    """In an order of its own: nobody's samples lie together, or before all others'."""
    steps = [line for line in run.of("step") if not line["instrumented"]]
    rounds = Counter((line["launch"], line["round"]) for line in steps)
    assert rounds == {(launch, round_): 6 for launch in range(2) for round_ in range(2)}
    orders = {tuple(line["cell"] for line in steps if (line["launch"], line["round"]) == at) for at in rounds}
    assert len(orders) > 1


def test_every_variant_is_right_and_has_its_share_of_products(run):
    found = bench.exploration(run)
    assert [factor.name for factor in found.factors] == list(VALUES)
    assert {cell["status"] for cell in run.cells} == {"ok"}
    assert all(0 < cell["error_ratio"] < 1 for cell in run.cells)
    for factor in found.factors:
        for variant in factor.variants:
            assert variant.result.seconds.n == 2
            assert (variant.products.n, variant.products.value > 0) == (2, True)
            assert variant.example.value == pytest.approx(variant.result.seconds.value / variant.batch)


def test_the_base_is_the_same_cell_on_every_axis(run):
    found = bench.exploration(run)
    bases = [variant for factor in found.factors for variant in factor.variants if variant.is_base]
    assert len(bases) == len(VALUES)
    assert {variant.result.cell["cell"] for variant in bases} == {found.base.result.cell["cell"]}
    assert all(variant.ratio.low == variant.ratio.high == 1 for variant in bases)


def test_the_base_alone_has_a_twin_and_every_dtype_its_peak(run):
    """A/A is what the floor is made of; the rate of float64 is held against the peak of float64."""
    found = bench.exploration(run)
    assert {line["cell"] for line in run.of("twin")} == {found.base.result.cell["cell"]}
    assert found.floor > 0
    peaks = {(line["dtype"], line["launch"]) for line in run.of("ceiling") if line["ceiling"] == "fma"}
    assert peaks == {(dtype, launch) for dtype in ("float32", "float64") for launch in range(2)}


def test_an_exploration_that_was_cut_short_is_finished(run, tmp_path):
    """Whole launches are kept; one that lacks a variant is done again; the plan is the same."""
    cut = tmp_path / "cut"
    cut.mkdir()
    lines = [json.loads(line) for line in (run.path / "records.jsonl").read_text().splitlines()]
    kept = [line for line in lines if line["kind"] != "cell" and line.get("launch", 0) == 0]
    assert 0 < len(kept) < len(lines)
    (cut / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    for name in ("plan", "environment"):
        write_json(cut / f"{name}.json", read_json(run.path / f"{name}.json"))
    assert bench.exploration(bench.load(cut)) is None  # no cell is closed yet
    whole = bench.resume(cut)
    found = bench.exploration(whole)
    assert {variant.result.seconds.n for factor in found.factors for variant in factor.variants} == {2}
    assert [len(factor.variants) for factor in found.factors] == [3, 2, 2, 2]
    assert whole.plan["factors"] == run.plan["factors"]


def test_a_kernel_that_would_take_hopelessly_long_is_predicted_and_skipped(tmp_path):
    """Python loops on a network of some size: a step is predicted from a small product, and never run."""
    found = bench.exploration(
        bench.explore(
            "200-200-10",
            64,
            "blas",
            threads=1,
            values={"kernel": ["python"]},
            out=tmp_path / "run",
            settings=QUICK | {"cell_s": 2.0},
        )
    )
    python = values_of(found, "kernel")["python"]
    assert python.result.status == "skipped"
    assert not python.measured
    assert python.predicted > 10 * found.base.result.seconds.value
    assert "a cell may take 2 s: --cell-seconds" in python.result.cell["reason"]


def test_a_variant_that_ends_its_process_leaves_the_others_of_its_kernel_alone(tmp_path):
    """They were open in the same process: they are opened anew in the next, and have all their launches."""
    file = tmp_path / "mine.py"
    file.write_text(
        "import os\n"
        "calls = 0\n"
        "def f(a, b):\n"
        "    global calls\n"
        "    calls += 3 in a.shape\n"
        "    if calls > 40:\n"
        "        os._exit(7)\n"
        "    return a @ b\n"
    )
    found = bench.exploration(
        bench.explore(
            "12-6-2",
            8,
            f"{file}:f",
            threads=1,
            values={"batch": [1, 3]},
            out=tmp_path / "run",
            settings=QUICK,
        )
    )
    batches = values_of(found, "batch")
    assert batches[3].result.status == "crashed"
    assert "exit code 7" in batches[3].result.cell["reason"]
    for batch in (1, 8):
        assert batches[batch].result.status == "ok"
        assert batches[batch].result.seconds.n == 2


def test_a_sweep_is_no_exploration(tmp_path):
    assert bench.exploration(bench.sweep(["blas"], [8], out=tmp_path / "run", launches=1, rounds=1)) is None
