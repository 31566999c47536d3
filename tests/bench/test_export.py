"""Export: what pytest-benchmark, pandas and pyarrow read, and that their figures are the lab's."""

import csv
import io
import json
import math
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_benchmark.stats import Stats

import bench
from bench.exchange import benchmark_json, interchange
from bench.records import Run, RunError
from bench.verdicts import compare
from bench.verdicts.statistics import floors, results

ROUNDS, LAUNCHES = 3, 5
PROBLEM = {
    "m": 64, "n": 64, "k": 64, "dtype": "float32", "op_a": "n", "op_b": "n", "strides": "contiguous",
    "alpha": 1.0, "beta": 0.0, "epilogue": None, "data": "normal", "batch": 1,
}  # fmt: skip
MODEL = {
    "arch": [64, 64, 10], "batch": 32, "dtype": "float32", "activation": "relu", "data": "random",
    "loss": "softmax-cross-entropy", "lr": 0.01, "optimizer": "sgd",
}  # fmt: skip
ENVIRONMENT = {
    "host": "difference-engine", "user": "ada", "cwd": "/home/ada/lab", "git": "0123456789ab+",
    "time": "2026-01-01T12:00:00.000Z", "python": "CPython 3.11.7", "cpu": {"model": "EPYC", "logical": 2},
}  # fmt: skip


def cell(name, kernel, status="ok", **fields):
    what = {} if "model" in fields else {"problem": PROBLEM}
    return {
        "kind": "cell", "cell": name, "kernel": kernel, "source": "feed", "threads": 1, "cache": "hot",
        "via": "prepared", "status": status, "reason": None, "time": "now", "flops": 2 * 64**3, "bytes": 49152,
        "error_ratio": 0.25, "first_call_s": 0.5, **what, **fields,
    }  # fmt: skip


def taken(name, times, kind="sample"):
    """ROUNDS lines per launch around each launch's time, the middle one exact: medians are `times`."""
    own = {"model": MODEL, "steps": 7, "instrumented": False} if kind == "step" else {"loops": 7}
    return [
        {
            "kind": kind, "cell": name, "launch": launch, "round": number, "order": 0,
            "seconds": seconds * (1 + (number - 1) / 10), **own,
        }
        for launch, seconds in enumerate(times)
        for number in range(ROUNDS)
    ]  # fmt: skip


def made(*lines, path="runs/made"):
    return Run(Path(path), dict(ENVIRONMENT), {"rounds": ROUNDS}, [ln for part in lines for ln in part])


def random_times(seed, centre):
    """Launch medians with an effect of the launch that all kernels share, and one of their own."""
    shared, own = random.Random(1), random.Random(seed)
    return [centre * math.exp(shared.gauss(0, 0.3) + own.gauss(0, 0.02)) for _ in range(LAUNCHES)]


@pytest.fixture
def run():
    """Two products that compare, one that has failed, a training step, an impossible cell."""
    return made(
        [cell("a", "slow"), cell("b", "fast", first_call_cached_s=0.1)],
        taken("a", random_times(2, 3e-5)),
        taken("b", random_times(3, 2e-5)),
        [cell("c", "crashes", "crashed", reason="SIGSEGV"), cell("d", "fast", model=MODEL)],
        taken("d", random_times(4, 1e-3), "step"),
        [cell("e", "liar", "impossible", reason="its rate is 900% of the measured FMA peak")],
        taken("e", random_times(5, 1e-9)),
    )


def compared(*files, options=()):
    """What `pytest-benchmark compare` prints."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", *map(str, files), *options],
        capture_output=True, text=True, timeout=120, cwd=Path(files[0]).parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_pytest_benchmark_compare_prints_it(run, tmp_path):
    """Names, groups and the medians of launches, in its own units; a second export stands beside the first."""
    first = bench.export(run, tmp_path / "first.json")
    said = compared(first, options=["--columns=median,rounds,iterations", "--sort=mean"])
    groups = ["64x64x64 float32 nn, 1 thread, hot", "step 64-64-10 batch 32 float32, 1 thread, hot"]
    for group in groups:
        assert f"benchmark '{group}'" in said
    lines = [line for line in said.splitlines() if "[64x64x64-float32-nn-1-thread-hot]" in line]
    assert [line.partition("[")[0] for line in lines] == ["fast", "slow"]
    slow = {result.cell["cell"]: result for result in results(run)}["a"]
    median = sorted(slow.medians.values())[LAUNCHES // 2]
    assert f"{median * 1e6:,.4f}" in lines[1]
    assert lines[1].split()[-2:] == [str(LAUNCHES), "7"]
    assert "crashes" not in said
    assert "liar" not in said
    second = bench.export(run, tmp_path / "second.json")
    between = compared(first, second, options=["--between=median"])
    assert between.count("+0.0%") == 3


def test_its_ratios_are_those_of_gemmlab_compare(run):
    """The paired ratio with its interval, floor and verdict, digit for digit, both ways round; within the group."""
    run.lines += taken("a", random_times(2, 3e-5), kind="twin")  # A/A with no difference at all
    extra = {b["extra_info"]["cell"]: b["extra_info"] for b in benchmark_json.document(run)["benchmarks"]}
    for this, base, new in (("a", "fast", "slow"), ("b", "slow", "fast")):
        (pair,) = (pair for pair in compare.kernels(run, base, new).pairs if pair.problem)
        assert extra[this]["speedup_over"] == {
            base: {
                "value": pair.ratio.value, "low": pair.ratio.low, "high": pair.ratio.high,
                "launches": LAUNCHES, "verdict": pair.verdict,
            }
        }  # fmt: skip
        assert extra[this]["floor"] == pair.floor == 0.0
        assert extra[this]["seconds"] == pair.new.value
    assert [extra[this]["speedup_over"][base]["verdict"] for this, base in (("a", "fast"), ("b", "slow"))] == [
        "slower", "faster",
    ]  # fmt: skip
    assert extra["d"]["speedup_over"] == {}


@given(st.lists(st.tuples(st.floats(1e-7, 10), st.floats(1e-7, 10)), min_size=1, max_size=13))
def test_the_printed_medians_are_as_near_to_the_paired_ratio_as_their_spreads_say(pairs):
    """Whatever the launches were: |log (ratio of medians) - log (paired ratio)| <= the sum of the spreads."""
    base, other = zip(*pairs)
    run = made([cell("a", "base"), cell("b", "other")], taken("a", base), taken("b", other))
    a, b = benchmark_json.document(run)["benchmarks"]
    plain = math.log(a["stats"]["median"] / b["stats"]["median"])
    paired = math.log(b["extra_info"]["speedup_over"]["base"]["value"])
    assert abs(plain - paired) <= a["extra_info"]["spread"] + b["extra_info"]["spread"] + 1e-9


@given(st.lists(st.floats(1e-7, 10), min_size=1, max_size=25))
def test_the_figures_are_those_of_pytest_benchmarks_own_class(data):
    """Every one of them, quartiles and outliers too."""
    theirs = Stats()
    for seconds in data:
        theirs.update(seconds)
    ours = benchmark_json.stats(data, 7)
    expected = theirs.as_dict()
    assert {name: ours[name] for name in expected} == expected
    assert (ours["data"], ours["iterations"]) == (data, 7)


def test_the_data_are_the_medians_of_launches(run):
    """Not the samples: a launch is what repeats."""
    document = benchmark_json.document(run)
    (slow,) = [b for b in document["benchmarks"] if b["name"].startswith("slow[")]
    assert slow["stats"]["data"] == list(results(run)[0].medians.values())
    extra = slow["extra_info"]
    assert extra["seconds"] == pytest.approx(
        math.exp(math.fsum(map(math.log, slow["stats"]["data"])) / LAUNCHES)
    )
    assert extra["gflops"] == pytest.approx(2 * 64**3 / extra["seconds"] / 1e9)
    assert (extra["kernel"], extra["launches"], extra["error_ratio"]) == ("slow", LAUNCHES, 0.25)
    assert extra["percent_of_peak"] is None  # no ceiling was measured
    assert document["machine_info"]["cpu"] == {"brand_raw": "EPYC", "count": 2}


def test_the_floor_stands_beside_the_ratios(run):
    """In JSON and in the tables; null where no A/A was measured."""
    (fast,) = [result for result in results(run) if result.cell["cell"] == "b"]
    twin = [seconds * 1.01**at for at, seconds in enumerate(fast.medians.values())]
    run.lines += taken("b", twin, "twin")
    (found,) = floors(run)
    extra = {b["extra_info"]["cell"]: b["extra_info"] for b in benchmark_json.document(run)["benchmarks"]}
    assert (extra["a"]["floor"], extra["b"]["floor"], extra["d"]["floor"]) == (found.value, found.value, None)
    rows = {row["cell"]: row["floor"] for row in interchange.rows(run)}
    assert (rows["a"], rows["d"]) == (found.value, None)


@pytest.mark.parametrize("git", ["0123456789ab+", {"commit": "0123456789ab", "dirty": True}])
def test_the_commit_is_named_by_new_runs_and_old(run, git):
    """As an object, or as a text with a plus."""
    run.environment["git"] = git
    commit = benchmark_json.document(run)["commit_info"]
    assert (commit["id"], commit["dirty"]) == ("0123456789ab", True)


def test_cells_of_one_name_are_kept_apart():
    """Two versions of a kernel in one run, and a revision against another."""
    times = [1e-5, 2e-5]
    run = made(
        [cell("a", "mine"), cell("b", "mine", source="beef"), cell("c", "mine", revision="v1")],
        *(taken(name, times) for name in "abc"),
    )
    names = [benchmark["fullname"] for benchmark in benchmark_json.document(run)["benchmarks"]]
    assert len(set(names)) == 3
    assert names[2].startswith("gemmlab::mine@v1[")


def test_problems_that_differ_are_in_different_groups():
    """Whatever field it is in, also in one that this version does not know."""
    others = [{}, {"beta": 1.0}, {"op_b": "t"}, {"data": "zeros"}, {"batch": 8}, {"twist": 1}]
    cells = [cell(str(at), "blas", problem=PROBLEM | other) for at, other in enumerate(others)]
    cells += [cell("t", "blas", threads=2), cell("c", "blas", cache="cold"), cell("m", "blas", model=MODEL)]
    cells.append(cell("n", "blas", model=MODEL | {"lr": 0.5}))
    run = made(cells, *(taken(line["cell"], [1e-5]) for line in cells))
    groups = [benchmark["group"] for benchmark in benchmark_json.document(run)["benchmarks"]]
    assert len(set(groups)) == len(cells)
    assert "64x64x64 float32 nt, 1 thread, hot" in groups
    assert "64x64x64 float32 nn beta=1, 1 thread, hot" in groups


def test_cells_without_figures_are_counted_in_a_sentence(run):
    """And a run that has nothing else is no export."""
    assert benchmark_json.left_out(run) == (
        "2 of 5 cells have no figures and are left out (1 crashed, 1 impossible)"
    )
    assert benchmark_json.left_out(made([cell("a", "k")], taken("a", [1.0]))) is None
    with pytest.raises(ValueError, match="holds no figures to export \\(1 crashed\\)"):
        benchmark_json.document(made([cell("c", "k", "crashed")]))


def test_csv_reads_back(run):
    """Every cell with its status; a figure that does not exist is empty."""
    read = list(csv.DictReader(io.StringIO(interchange.text(run, "csv"))))
    assert list(read[0]) == list(interchange.IDENTITY | interchange.FIGURES)
    assert [row["status"] for row in read] == ["ok", "ok", "crashed", "ok", "impossible"]
    for row, result in zip(read, results(run)):
        if result.status == "ok":
            assert float(row["seconds"]) == result.seconds.value
            assert float(row["gflops_low"]) == pytest.approx(result.rate.low / 1e9, rel=1e-15)
    assert (read[2]["seconds"], read[2]["reason"]) == ("", "SIGSEGV")
    assert (read[3]["what"], read[3]["arch"], read[3]["m"]) == ("step", "64-64-10", "")


@pytest.mark.parametrize("samples", [False, True])
def test_parquet_holds_the_rows_of_the_csv(run, tmp_path, samples):
    """Read with pandas: the same values, whole numbers whole, truth true, absent values absent."""
    import pandas
    from pyarrow import parquet

    path = bench.export(run, tmp_path / "cells.parquet", samples=samples)
    assert parquet.read_table(path).to_pylist() == interchange.rows(run, samples)
    frame = pandas.read_parquet(path)
    csv_frame = pandas.read_csv(io.StringIO(interchange.text(run, "csv", samples)))
    assert list(frame.columns) == list(csv_frame.columns)
    assert frame["seconds"].dropna().tolist() == csv_frame["seconds"].dropna().tolist()
    field = parquet.read_schema(path).field("threads")
    assert (str(field.type), field.metadata[b"meaning"]) == ("int64", b"of the process")


def test_samples_are_every_raw_sample_of_every_cell(run):
    """One line each, with the kernel and the problem; those of a cut launch are not counted, twins not listed."""
    run.lines += [
        taken("a", [5.0] * 6)[-3],  # one round of a sixth launch
        {**taken("a", [9.0])[0], "kind": "twin"},
        {**taken("d", [9.0], "step")[0], "instrumented": True},
    ]
    rows = interchange.rows(run, samples=True)
    assert list(rows[0]) == list(interchange.IDENTITY | interchange.SAMPLE)
    assert len(rows) == 4 * LAUNCHES * ROUNDS + 1
    assert [row["launch"] for row in rows if not row["counted"]] == [5]
    raw = [line["seconds"] for line in run.lines if line["kind"] == "sample" and line["cell"] == "b"]
    assert [row["seconds"] for row in rows if row["cell"] == "b"] == raw
    assert {(row["kernel"], row["m"], row["loops"]) for row in rows if row["cell"] == "b"} == {
        ("fast", 64, 7)
    }


def test_a_public_export_does_not_tell_who_or_where(run, tmp_path):
    """Nor whose kernel's file it was."""
    run.lines += [cell("f", "/home/ada/secret/mine.py:fn"), *taken("f", [1e-5, 1e-5])]
    made_public = [
        bench.export(run, tmp_path / f"public{ending}", public=True).read_bytes().decode(errors="replace")
        for ending in (".json", ".csv", ".parquet")
    ]
    for text in made_public:
        assert "mine.py:fn" in text
        for secret in ("ada", "difference-engine", "/home", "secret"):
            assert secret not in text
    assert "difference-engine" in interchange.text(run)


def test_the_ending_says_the_form(run, tmp_path):
    """And where neither says anything, it is JSON beside the records."""
    assert json.loads(bench.export(run, tmp_path / "a.JSON").read_text())["benchmarks"]
    assert bench.export(run, tmp_path / "b.csv").read_text().startswith("run,cell,kernel")
    assert bench.export(run, tmp_path / "c.txt", "csv").read_text().startswith("run,cell,kernel")
    assert bench.export(run, tmp_path / "d.parquet").read_bytes().startswith(b"PAR1")
    here = made(run.lines, path=tmp_path)
    assert bench.export(here) == tmp_path / "pytest-benchmark.json"
    assert bench.export(here, form="csv", samples=True) == tmp_path / "samples.csv"


@pytest.mark.parametrize(
    ("out", "options", "sentence"),
    [
        (
            "a.xlsx",
            {},
            "a.xlsx: its ending says no form; let it end in .json, .csv, .parquet or name the form",
        ),
        ("a.json", {"form": "csv"}, "the ending is that of pytest-benchmark and csv is asked for"),
        ("a.json", {"samples": True}, "samples go into CSV or Parquet"),
        ("a.csv", {"form": "excel"}, "unknown form 'excel'; there are pytest-benchmark, csv, parquet"),
        ("plan.json", {}, "plan.json: a file of this name holds a run's measurements"),
        ("none/a.json", {}, "a.json: cannot be written \\(No such file or directory\\)"),
        ("folder.csv", {}, "folder.csv: cannot be written"),
        ("file/a.csv", {}, "a.csv: cannot be written \\(Not a directory\\)"),
    ],
)
def test_what_cannot_be_written_is_said_in_a_sentence(run, tmp_path, out, options, sentence):
    """And leaves no part of a file."""
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=sentence):
        bench.export(run, tmp_path / out, **options)
    assert {path.name for path in tmp_path.iterdir()} == {"folder.csv", "file"}


def test_without_pyarrow_the_extra_is_named(run, monkeypatch, tmp_path):
    """CSV goes on working."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"Parquet needs pyarrow.*pip install 'gemmlab\[parquet\]'"):
        bench.export(run, tmp_path / "a.parquet")
    assert bench.export(run, tmp_path / "a.csv").exists()


def test_an_export_needs_neither_pytest_benchmark_nor_pandas(tmp_path):
    """They are in extras."""
    records = tmp_path / "records.jsonl"
    lines = [cell("a", "k"), *taken("a", [1e-5])]
    records.write_text("".join(json.dumps({"schema": 1, "run": "x", **line}) + "\n" for line in lines))
    (tmp_path / "plan.json").write_text(json.dumps({"rounds": ROUNDS}))
    code = (
        "import sys; sys.modules.update(pytest_benchmark=None, pandas=None, pyarrow=None); import bench; "
        f"bench.export({str(tmp_path)!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert (tmp_path / "pytest-benchmark.json").exists()


def test_a_run_that_is_none_is_said_so(tmp_path):
    """As everywhere."""
    with pytest.raises(RunError, match=r"no records\.jsonl there"):
        bench.export(tmp_path / "nowhere")


def test_no_line_of_a_public_run_names_a_folder(run):
    """Layers name their kernel, models their data, the plan both."""
    from bench.exchange.public import without_places

    where = "/home/ada/secret/mine.py:fn"
    run.lines.append(
        {"kind": "layer", "cell": "d", "kernel": where, "model": {"data": "/home/ada/secret/idx"}}
    )
    run.plan["cells"] = [{"kernel": where}]
    shown = without_places(run)
    assert "secret" not in str((shown.lines, shown.plan))
    assert shown.lines[-1]["kernel"] == "mine.py:fn"
    assert shown.lines[:-1] == run.lines[:-1]
