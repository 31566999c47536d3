"""The engine: every planned cell gets its record, whatever the kernels do; a killed run is finished."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

import bench
from bench.host.environment import caches
from bench.host.witness import FIGURES
from bench.isolation.processes import Gone, Worker
from bench.plans.axes import Sweep
from bench.plans.plan import Cell, Plan
from bench.timing import ceilings, engine
from bench.timing.crew import Crew, Member
from bench.timing.subjects import Product, Wrong
from bench.verdicts import statistics
from gemm.problems import Problem

FAULTY = Path(__file__).with_name("faulty.py")
QUICK = {"launches": 2, "rounds": 2, "sample_s": 0.001, "cell_s": 5.0, "more_s": 0.0}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small real sweep: three kernels, two sizes, two launches of two rounds."""
    out = tmp_path_factory.mktemp("sweep") / "run"
    return bench.sweep(["python", "numba-ikj", "blas"], [4, 24], threads=[1], out=out, **QUICK)


def test_every_planned_cell_is_closed_once_and_verified(run):
    """Six cells, six closing lines, all right, with their error ratio and first call."""
    assert Counter(line["status"] for line in run.of("cell")) == {"ok": 6}
    assert len({line["cell"] for line in run.of("cell")}) == 6
    for cell in run.cells:
        assert 0 < cell["error_ratio"] < 1
        assert cell["first_call_s"] > 0
        assert cell["flops"] == 2 * cell["problem"]["m"] ** 3


def test_raw_samples_are_kept_for_every_launch_and_round(run):
    """Two launches of two rounds: four samples a cell, and the ceiling sampled in the rounds."""
    samples = Counter(line["cell"] for line in run.of("sample"))
    assert set(samples.values()) == {4}
    for line in run.of("sample"):
        assert {"launch", "round", "order", "loops", "seconds", "error_ratio"} <= line.keys()
        assert line["seconds"] > 0
    rounds = {(line["launch"], line["round"]) for line in run.of("sample")}
    assert rounds == {(launch, number) for launch in (0, 1) for number in (0, 1)}
    assert {line["ceiling"] for line in run.of("ceiling")} == set(ceilings.names(caches()))


def test_one_kernel_of_every_group_runs_in_a_second_process_too(run):
    """BLAS, where it is there: as many samples as its cell, in the same rounds, and the floor that they give."""
    ids = {cell["cell"] for cell in run.cells if cell["kernel"] == "blas"}
    assert {line["cell"] for line in run.of("twin")} == ids
    assert len(run.of("twin")) == 4 * len(ids)
    (floor,) = statistics.floors(run)
    assert (floor.size_class, floor.threads, floor.kernel, floor.ratio.n) == ("small", 1, "blas", 2)
    assert floor.value > 0


def test_a_group_without_the_twins_kernel_has_its_fastest_in_two_processes(tmp_path):
    """So every run says what a difference means on it; and none where none is asked for."""
    cells = Sweep(kernels=(f"{FAULTY}:slow", "python"), sizes=(8,), threads=(1,)).cells()
    run = engine.start(Plan(cells=cells, **QUICK), tmp_path / "run")
    (twin,) = {line["cell"] for line in run.of("twin")}
    assert next(cell["kernel"] for cell in run.cells if cell["cell"] == twin) == "python"
    run = engine.start(Plan(cells=cells, twin=None, **QUICK), tmp_path / "without")
    assert not run.of("twin")
    assert not statistics.floors(run)


def test_a_closing_line_says_what_its_figures_mean(run):
    """What ended it, what bounds it, what a call costs at least, what compiling cost and when that is paid back."""
    for cell in run.cells:
        assert cell["ended"] == "launches"
        assert cell["bound"]["by"] in ("arithmetic", "bandwidth", "overhead", "itself")
        assert 0 < cell["overhead_s"] < 0.01
        assert cell["first_call_s"] > 0
        assert cell["first_call_cached_s"] > 0
        assert isinstance(cell["doubts"], list)
    by = {(cell["kernel"], cell["problem"]["n"]): cell for cell in run.cells}
    assert by["python", 24]["bound"]["by"] == "itself"
    compiled = by["numba-ikj", 24]
    assert compiled["payback"]["python"] > 100
    assert by["blas", 24]["payback"].get("numba-ikj") is None


def test_the_first_launch_finds_nothing_compiled_and_later_ones_do(tmp_path):
    """Code is compiled into a folder of the run: empty at first, then shared by the kernel's later workers."""
    request = {"do": "open", "what": "problem", "kernel": "numba-ikj", "problem": Problem(4, 4, 4).record()}
    crew = Crew(Plan(), tmp_path)
    member = Member("numba-ikj", 1)
    try:
        assert not list(tmp_path.rglob("*.nbc"))
        assert crew.ask(member, **request, seed=0, sample_s=0.001)["status"] == "ok"
        compiled = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")}
        assert compiled
        crew.bury(member)
        assert crew.ask(member, **request, seed=0, sample_s=0.001)["status"] == "ok"
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")} == compiled
    finally:
        crew.close()


def test_what_every_worker_has_loaded_is_on_record(run):
    """NumPy's BLAS with its version, one of it, and on how many threads."""
    workers = {line["kernel"]: line for line in run.of("worker")}
    assert set(workers) == {"python", "numba-ikj", "blas"}
    (library,) = workers["blas"]["libraries"]
    assert library["threads"] == 1
    assert library["version"]
    assert workers["blas"]["affinity"] is None or workers["blas"]["affinity"]


def test_a_sample_says_what_else_happened_meanwhile(run):
    """Own time, waits and switches, as far as this system tells."""
    for line in (*run.of("sample"), *run.of("twin")):
        assert set(FIGURES) <= line.keys()
        assert line["cpu_s"] > 0


def test_sampling_stops_at_a_look_where_everything_is_narrow(tmp_path, monkeypatch):
    """And goes on to the last where it is not; either way the record says which."""
    cells = Sweep(kernels=("blas",), sizes=(16,), threads=(1,)).cells()
    plan = Plan(cells=cells, **(QUICK | {"launches": 4}), looks=(2,))
    monkeypatch.setattr(statistics, "NARROW", 1e3)
    run = engine.start(plan, tmp_path / "narrow")
    assert [cell["ended"] for cell in run.cells] == ["narrow"]
    assert {line["launch"] for line in run.of("sample")} == {0, 1}
    monkeypatch.setattr(statistics, "NARROW", 0.0)
    run = engine.start(plan, tmp_path / "wide")
    assert [cell["ended"] for cell in run.cells] == ["launches"]
    assert {line["launch"] for line in run.of("sample")} == {0, 1, 2, 3}


def test_a_budget_ends_sampling_at_a_declared_number_of_launches(tmp_path, monkeypatch):
    """Three launches fit into what six would need; the record says that the budget ended it."""
    seconds = iter(range(10, 1000, 10))
    clock, launch = [0.0], engine._Engine._launch

    def ten_seconds(self, *which):
        launch(self, *which)
        clock[0] = float(next(seconds))

    monkeypatch.setattr(engine._Engine, "_launch", ten_seconds)
    monkeypatch.setattr(engine, "monotonic", lambda: clock[0])
    cells = Sweep(kernels=("blas",), sizes=(16,), threads=(1,)).cells()
    plan = Plan(cells=cells, **(QUICK | {"launches": 6}), budget_s=50.0)
    run = engine.start(plan, tmp_path / "run")
    assert [cell["ended"] for cell in run.cells] == ["budget"]
    assert {line["launch"] for line in run.of("sample")} == {0, 1, 2}


@pytest.mark.parametrize(("disturbed", "rounds"), [(0, 3), (1, 4), (4, 7), (99, 9)])
def test_rounds_that_were_disturbed_are_taken_again(tmp_path, monkeypatch, disturbed, rounds):
    """Until as many are undisturbed as were planned, and at most three times as many in all."""
    ask, seen = Crew.ask, Counter()

    def waiting(self, member, **request):
        answer = ask(self, member, **request)
        if request["do"] == "sample" and not member.twin:
            wall = answer["seconds"] * answer["loops"]
            answer["caller_waited_s"] = 0.3 * wall if seen["samples"] < disturbed else 0.0
            seen["samples"] += 1
        elif request["do"] == "sample":
            answer["caller_waited_s"] = 0.0
        return answer | ({"pace_s": 1e-4} if request["do"] == "sample" else {})

    monkeypatch.setattr(Crew, "ask", waiting)
    cells = Sweep(kernels=("blas",), sizes=(16,), threads=(1,)).cells()
    run = engine.start(
        Plan(cells=cells, **(QUICK | {"launches": 1, "rounds": 3, "more_s": 1e9})), tmp_path / "run"
    )
    assert Counter(line["kind"] for line in run.lines)["sample"] == rounds
    (found,) = bench.results(run)
    assert found.status == "ok"
    assert len(found.samples[0]) == (rounds - disturbed if disturbed < 99 else 9)


@pytest.mark.parametrize(
    ("paces", "rounds", "counted"),
    [
        ([1.0, 1.0, 1.0, 1.0], 4, 4),
        ([1.0, 1.3, 1.0, 1.0], 4, 3),  # three are enough
        ([1.0, 1.3, 1.2, 1.04, 1.06, 1.0], 6, 3),
        ([1.0, 1.2, 1.2, 1.2, 1.2, 1.0, 1.0], 7, 3),
        ([1.0, 1.0, *[1.3, 1.2] * 9], 12, 7),  # never: the third least crowded had 1.2, and so had others
    ],
)
def test_there_are_more_rounds_until_enough_had_a_core_of_their_own(
    tmp_path, monkeypatch, paces, rounds, counted
):
    """Up to three times as many in all; those that count are the ones that had it, or the least crowded."""
    ask, left = Crew.ask, list(paces)

    def crowded(self, member, **request):
        answer = ask(self, member, **request)
        if request["do"] != "sample":
            return answer
        return answer | {"caller_waited_s": 0.0, "pace_s": 1e-4 * (1.0 if member.twin else left.pop(0))}

    monkeypatch.setattr(Crew, "ask", crowded)
    cells = Sweep(kernels=("blas",), sizes=(16,), threads=(1,)).cells()
    plan = Plan(cells=cells, **(QUICK | {"launches": 1, "rounds": 4, "more_s": 1e9, "twin": None}))
    run = engine.start(plan, tmp_path / "run")
    assert len(run.of("sample")) == rounds
    (found,) = bench.results(run)
    assert len(found.samples[0]) == counted
    (cell,) = run.cells
    doubted = [doubt["sentence"] for doubt in cell["doubts"] if doubt["kind"] == "crowded"]
    assert bool(doubted) == (counted == 7)
    assert all("usually 1.20, at most 1.20 times as long" in sentence for sentence in doubted)


def test_a_sample_lasts_about_as_long_as_it_should(run):
    """Loops are calibrated: a call much shorter than a sample is repeated."""
    for line in run.of("sample"):
        assert line["loops"] >= 1
        if line["seconds"] < 1e-5:
            assert line["loops"] > 10


def test_results_have_a_time_a_rate_and_a_share_of_the_measured_peak(run):
    """Read back as figures with intervals over launches."""
    by = {(r.kernel, r.problem["n"]): r for r in bench.results(run)}
    assert by["blas", 24].seconds.n == 2
    assert 0 < by["blas", 24].share_of_peak.value < 1
    assert bench.speedup(by["python", 24], by["blas", 24]).value > 1


def test_the_run_folder_says_what_made_it(run):
    """environment.json and plan.json beside the records."""
    assert {path.name for path in run.path.iterdir()} == {"environment.json", "plan.json", "records.jsonl"}
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["cpu"]["cores"] >= 1
    assert environment["versions"]["numpy"]
    assert environment["command"]
    assert len(run.plan["cells"]) == 6


def test_records_load_into_a_frame_in_one_call(run):
    """Nested fields are flattened."""
    frame = run.frame()
    assert len(frame) == len(run.lines)
    assert {"problem.m", "kernel", "seconds"} <= set(frame.columns)


@pytest.mark.parametrize("order", ["nn", "nt"])
def test_inputs_rounded_in_a_long_sum_are_found_in_either_operand_and_order(order):
    """Rule 1 cannot see bfloat16 at k = 4096; rule 3, on both sides and in the cell's own order, can."""
    problem = Problem(16, 16, 4096, op_a=order[0], op_b=order[1])
    product = Product(f"{FAULTY}:rounding_b", problem.record(), seed=0)
    with pytest.raises(Wrong, match="full significands of B do not come through"):
        product.verify_exact()


def test_the_timed_c_is_laid_out_as_the_problem_says():
    """On a cache line, and with the problem's strides: where C lies decides the time of some kernels."""
    for strides in ("contiguous", "padded"):
        product = Product("blas", Problem(24, 24, 24, strides=strides).record(), seed=0)
        product.open(0.001)
        (copy,) = product.copies
        for operand in (copy.a, copy.b, copy.c):
            assert operand.ctypes.data % 64 == 0
            assert operand.flags.c_contiguous == (strides == "contiguous")


def test_an_unavailable_kernel_is_a_record_with_the_reason(tmp_path):
    """And costs no process."""
    run = bench.sweep(["cublas"], [8], out=tmp_path / "run", **QUICK)
    if run.cells[0]["status"] != "ok":  # here without a GPU
        assert run.cells[0]["status"] == "unavailable"
        assert "CuPy" in run.cells[0]["reason"] or "NVIDIA" in run.cells[0]["reason"]


def test_hopeless_cells_are_predicted_and_skipped(tmp_path):
    """The prediction is on record, from the smaller size."""
    kernel = f"{FAULTY}:slow"
    run = bench.sweep([kernel], [8, 64], threads=[1], out=tmp_path / "run", **(QUICK | {"cell_s": 1.0}))
    small, large = sorted(run.cells, key=lambda cell: cell["problem"]["n"])
    assert small["status"] == "ok"
    assert large["status"] == "skipped"
    assert large["predicted_s"] == pytest.approx(0.02 * 512, rel=0.5)
    assert "predicted from smaller sizes" in large["reason"]


def test_a_rate_above_the_ceiling_is_marked_impossible(tmp_path):
    """A kernel that takes no time at all was not verified properly, or the clock lies."""
    run = bench.sweep(["blas"], [16], threads=[1], out=tmp_path / "run", **QUICK)
    (run.path / "records.jsonl").write_text(
        "".join(
            json.dumps(line | ({"seconds": 1e-12} if line["kind"] == "sample" else {})) + "\n"
            for line in run.lines
            if line["kind"] != "cell"
        )
    )
    again = bench.resume(run.path)
    assert again.cells[0]["status"] == "impossible"
    assert "times the measured multiply-add peak" in again.cells[0]["reason"]


def test_more_memory_than_there_is_is_refused_before_anything_is_allocated(tmp_path):
    """The sentence says how much."""
    cells = [Cell("blas", 1, Problem(200_000, 200_000, 200_000), source="-")]
    with pytest.raises(ValueError, match=r"needs about \d+\.\d GiB over all its workers"):
        engine.start(Plan(cells=cells), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_waiting_worker_is_stopped_and_a_killed_one_is_gone():
    """Stopped means stopped: the kernel's pools do not spin beside the one being timed."""
    worker = Worker(1)
    try:
        pid = worker.ask(60, do="hello", ceiling=False)["pid"]
        assert psutil.Process(pid).status() == psutil.STATUS_STOPPED
        assert worker.ask(60, do="close")["status"] == "ok"
        assert psutil.Process(pid).status() == psutil.STATUS_STOPPED
    finally:
        worker.kill()
    assert not psutil.pid_exists(pid)


def test_threads_are_set_before_the_worker_starts():
    """Every pool's variable, for every kernel alike."""
    worker = Worker(1)
    try:
        pid = worker.ask(60, do="hello", ceiling=False)["pid"]
        environment = psutil.Process(pid).environ()
        assert environment["OPENBLAS_NUM_THREADS"] == environment["NUMBA_NUM_THREADS"] == "1"
    finally:
        worker.kill()


def test_a_worker_that_dies_says_why():
    """The signal by its name."""
    worker = Worker(1)
    pid = worker.ask(60, do="hello", ceiling=False)["pid"]
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(Gone, match="SIGKILL") as gone:
        worker.ask(60, do="close")
    assert gone.value.status == "crashed"
    worker.kill()


SWEEP = """
import sys, bench
bench.sweep(["numba-ikj", "blas"], [8, 16, 24, 32], threads=[1], out=sys.argv[1], launches=3, rounds=4,
            sample_s=0.02, more_s=0.0)
"""


@pytest.mark.parametrize("lines", [3, 60])
def test_a_sweep_killed_in_the_middle_is_finished_by_resume(tmp_path, lines):
    """SIGKILL: no line is lost, no worker is left behind, every planned cell is there once."""
    out = tmp_path / "run"
    child = subprocess.Popen([sys.executable, "-c", SWEEP, str(out)])
    records = out / "records.jsonl"
    until = time.monotonic() + 60
    while (records.read_bytes().count(b"\n") if records.exists() else 0) < lines:
        assert child.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    workers = psutil.Process(child.pid).children()
    child.kill()
    child.wait()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive

    before = records.read_bytes()
    run = bench.resume(out)
    assert records.read_bytes().startswith(before)
    assert not run.warnings or all("cut short" in warning for warning in run.warnings)
    assert Counter(line["status"] for line in run.of("cell")) == {"ok": 8}
    assert len({line["cell"] for line in run.of("cell")}) == 8
    for result in bench.results(run):
        assert len(result.samples) >= 3
        assert all(len(values) >= 3 for values in result.samples.values())
        assert result.cell["first_call_s"] > 0
        assert result.cell["error_ratio"] > 0


def test_resuming_a_finished_run_changes_nothing(run):
    """Nothing is missing, so nothing is measured."""
    before = (run.path / "records.jsonl").read_bytes()
    bench.resume(run.path)
    assert (run.path / "records.jsonl").read_bytes() == before


def test_a_changed_kernel_is_another_cell(tmp_path):
    """Resuming never mixes two versions of a student's kernel."""
    file = tmp_path / "mine.py"
    file.write_text("def f(a, b):\n    return a @ b\n")
    before = Sweep(kernels=(f"{file}:f",), sizes=(8,)).cells()[0].id
    same = Sweep(kernels=(f"{file}:f",), sizes=(8,)).cells()[0].id
    code = f"""
import sys
from bench.plans.axes import Sweep
from bench.timing.crew import Crew, Member
print(Sweep(kernels=({f"{file}:f"!r},), sizes=(8,)).cells()[0].id)
"""
    file.write_text("def f(a, b):\n    return b @ a\n")
    after = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert before == same != after
