"""Faults: whatever a kernel does, it costs one record with its reason; the sweep goes on and leaves nobody behind."""

import os
import re
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

import bench
from bench.isolation import processes, trial
from bench.isolation.processes import Gone, Worker
from bench.plans.axes import Sweep
from bench.plans.plan import Plan
from bench.timing import engine
from bench.timing.crew import Crew, Member
from gemm.problems import Problem
from gemm.threads import available_cores

FAULTY = Path(__file__).with_name("faulty.py")
QUICK = {"launches": 2, "rounds": 2, "sample_s": 0.001, "cell_s": 5.0, "more_s": 0.0}
BYSTANDERS = ("numpy-dot", "blas", f"{FAULTY}:right")
PIPE = "came through its pipe: the kernel writes into files that are not its own"

# kernel -> the status of its record, and what the reason says
FAULTS = {
    "wrong": ("wrong", "error ratio|not exact"),
    "wrong_later": ("wrong", "error ratio .* off by more than rounding allows"),
    "with_nan": ("wrong", "error ratio inf"),
    "with_infinity": ("wrong", "error ratio inf"),
    "random": ("wrong", "error ratio"),
    "view_of_a": ("wrong", "error ratio"),
    "before": ("wrong", "writes outside C"),
    "after": ("wrong", "writes outside C"),
    "far_after": ("crashed", "killed by SIGSEGV"),
    "changing_a": ("wrong", "changes its input A"),
    "changing_b": ("wrong", "changes its input B"),
    "raising": ("failed", "ArithmeticError: no products today"),
    "speechless": ("failed", "Speechless: .its message cannot be had"),
    "shouting": ("failed", r"ValueError: \?.* loud loud .*\.\.\.$"),
    "out_of_memory": ("failed", "MemoryError: Unable to allocate"),
    "exiting": ("failed", "SystemExit: 3"),
    "interrupting": ("failed", "KeyboardInterrupt"),
    "crashing": ("crashed", "killed by SIGSEGV"),
    "aborting": ("crashed", "killed by SIGABRT"),
    "leaving": ("crashed", "exit code 7"),
    "crashing_later": ("crashed", "killed by SIGALRM"),
    "crashing_beside_a_child": ("crashed", "killed by SIGSEGV"),
    "writing_everywhere": ("failed", PIPE),
    "forging": ("failed", PIPE),
    "flooding": ("failed", PIPE),
    "breaking_off": ("crashed", "exit code 0"),
    "closing": ("crashed", "closed files of its process .* the lab's pipe among them"),
    "more_blas_threads": ("failed", "changes OpenBLAS's threads from 1 to 2"),
    "another_environment": ("failed", "changes OMP_NUM_THREADS from 1 to 3"),
    "fewer_cores": ("failed" if available_cores() > 1 else "ok", "changes the cores"),
    # right, whatever else they do
    "printing": ("ok", None),
    "talkative": ("ok", None),
    "with_a_thread": ("ok", None),
    "breeding": ("ok", None),
    "breeding_elsewhere": ("ok", None),
}
HANGS = {
    "hanging": ("timeout", "no answer within 4 s$"),
    "holding_the_lock": ("timeout", "no answer within 4 s$"),
    "spinning": ("timeout", "no answer within 4 s$"),
    "deaf": ("timeout", "no answer within 4 s$"),
    "stopping": ("timeout", "no answer within 4 s .its process has stopped itself"),
    "locking": ("timeout", "no answer within 4 s$"),
    "hiding": ("crashed", "closed the pipe to the lab and went on"),
}


def name_of(cell):
    return cell["kernel"].rpartition(":")[2]


def only(run, name):
    """The one closing line of a kernel."""
    (cell,) = [cell for cell in run.of("cell") if name_of(cell) == name]
    return cell


def started_with(entry):
    """Every process alive that was started with this variable in its environment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if entry in process.environ().items() and process.pid != os.getpid():
                found.append(process)
    return found


@pytest.fixture(scope="module")
def marked():
    """An entry in the environment of everything that these tests start."""
    entry = ("FAULTS_OF", str(os.getpid()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(*entry)
        yield entry


def swept(out, names, timeout_s=60.0):
    """A sweep over faulty kernels among right ones."""
    kernels = (BYSTANDERS[0], *(f"{FAULTY}:{name}" for name in names), *BYSTANDERS[1:])
    cells = Sweep(kernels=kernels, sizes=(9,), threads=(1,)).cells()
    return engine.start(Plan(cells=cells, timeout_s=timeout_s, **QUICK), out)


@pytest.fixture(scope="module")
def faults(tmp_path_factory, marked):
    """Everything that does not hang."""
    return swept(tmp_path_factory.mktemp("faults") / "run", FAULTS)


@pytest.fixture(scope="module")
def hangs(tmp_path_factory, marked):
    """Everything that does, with little patience."""
    return swept(tmp_path_factory.mktemp("hangs") / "run", HANGS, timeout_s=4.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS | HANGS)
def test_a_fault_is_one_record_with_its_reason(name, request):
    """A crash, a hang or a wrong result belongs to its own cell, in one line that can be shown."""
    status, reason = (FAULTS | HANGS)[name]
    cell = only(request.getfixturevalue("faults" if name in FAULTS else "hangs"), name)
    assert cell["status"] == status, cell["reason"]
    if status == "ok":
        assert cell["reason"] is None
        return
    assert re.search(reason, cell["reason"]), cell["reason"]
    assert cell["reason"].isprintable()
    assert len(cell["reason"]) < 400


@pytest.mark.slow
def test_all_other_cells_have_the_records_that_they_have_without_faults(faults, hangs, tmp_path):
    """Same cells, same status, same end, as many samples."""

    def records(run):
        samples = Counter(line["cell"] for line in run.of("sample"))
        found = {
            (cell["cell"], cell["status"], cell.get("ended"), samples[cell["cell"]])
            for cell in run.of("cell")
        }
        known = {cell["cell"] for cell in run.of("cell") if cell["kernel"] in BYSTANDERS}
        return {record for record in found if record[0] in known}

    alone = records(swept(tmp_path / "run", ()))
    assert len(alone) == len(BYSTANDERS)
    assert {record[1:] for record in alone} == {("ok", "launches", 4)}
    assert records(faults) == records(hangs) == alone


@pytest.mark.slow
def test_nobody_is_left_behind(faults, hangs, marked):
    """No worker, nor what a kernel has started: not in its group, not in a session of its own."""
    assert not started_with(marked)


@pytest.mark.slow
def test_a_kernel_that_prints_is_right_and_doubted(faults):
    """What it prints takes time, and goes nowhere."""
    for name in ("printing", "talkative"):
        assert "prints" in {doubt["kind"] for doubt in only(faults, name)["doubts"]}
    assert not only(faults, "right")["doubts"] or "prints" not in str(only(faults, "right")["doubts"])


@pytest.mark.slow
def test_a_wrong_kernel_gets_no_time(faults):
    """Nothing is timed that was not verified; its record has its own error ratio, not that of the last right one."""
    by = {result.kernel.rpartition(":")[2]: result for result in bench.results(faults)}
    assert not by["wrong"].samples
    for name in ("wrong", "wrong_later"):
        assert by[name].status == "wrong"
        assert only(faults, name)["error_ratio"] > 1


def test_a_kernel_that_is_wrong_in_one_shape_or_order_loses_that_cell_only(tmp_path):
    """The others are timed."""
    kernels = tuple(f"{FAULTY}:{name}" for name in ("wrong_above_eight", "wrong_when_transposed"))
    cells = Sweep(kernels=kernels, sizes=(8, 9), orders=("nn", "nt"), threads=(1,)).cells()
    run = engine.start(Plan(cells=cells, **(QUICK | {"launches": 1})), tmp_path / "run")
    found = {
        (name_of(cell), cell["problem"]["n"], cell["problem"]["op_b"]): cell["status"]
        for cell in run.of("cell")
    }
    assert found == {
        ("wrong_above_eight", 8, "n"): "ok", ("wrong_above_eight", 9, "n"): "wrong",
        ("wrong_above_eight", 8, "t"): "ok", ("wrong_above_eight", 9, "t"): "wrong",
        ("wrong_when_transposed", 8, "n"): "ok", ("wrong_when_transposed", 9, "n"): "ok",
        ("wrong_when_transposed", 8, "t"): "wrong", ("wrong_when_transposed", 9, "t"): "wrong",
    }  # fmt: skip


# Memory


@pytest.fixture
def memory_group():
    """A control group of 256 MiB below this process's own, version 1 or 2; None where none may be made."""
    groups = dict(line.split(":")[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    if "memory" in groups:
        group, limit = Path(f"/sys/fs/cgroup/memory{groups['memory']}"), "memory.limit_in_bytes"
    else:
        group, limit = Path(f"/sys/fs/cgroup{groups.get('', '')}"), "memory.max"
    group = group / f"gemmlab-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(256 << 20))
    except OSError:
        with suppress(OSError):
            group.rmdir()
        yield None
        return
    yield group
    for _ in range(100):  # the killed are counted until their memory is back
        with suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.05)


def test_a_kernel_that_is_killed_for_memory_says_so(tmp_path, memory_group, monkeypatch):
    """For real, where a control group can be made; its sibling below says the rest."""
    if memory_group is None:
        pytest.skip("needs to make a memory control group")
    monkeypatch.setenv("FAULTY_GROUP", str(memory_group))
    run = bench.sweep([f"{FAULTY}:starving"], [9], threads=[1], out=tmp_path / "run", **QUICK)
    assert [(cell["status"], cell["reason"]) for cell in run.of("cell")] == [
        ("crashed", "its process was killed by the system because memory ran out (SIGKILL)")
    ]


@pytest.mark.parametrize(("killed", "says"), [(1, "because memory ran out"), (0, "killed by SIGKILL$")])
def test_a_kill_is_put_down_to_memory_where_the_system_counted_one(monkeypatch, killed, says):
    """And where it did not, to whoever it was."""
    worker = Worker(1)
    pid = worker.ask(60, do="close")
    pid = worker._process.pid
    now = processes.killed_for_memory()
    monkeypatch.setattr(processes, "killed_for_memory", lambda: now + killed)
    os.kill(pid, 9)
    with pytest.raises(Gone, match=says) as gone:
        worker.ask(60, do="close")
    assert gone.value.status == "crashed"
    worker.kill()


# Files that misbehave as soon as they are imported

BODIES = {
    "segfaults": ("import ctypes\nctypes.string_at(0)", "crashed", "killed by SIGSEGV"),
    "leaves": ("import os\nos._exit(0)", "crashed", "exit code 0"),
    "hangs": ("import time\ntime.sleep(60)", "timeout", "no answer within 3 s"),
    "interrupts": ("raise KeyboardInterrupt", "failed", "KeyboardInterrupt"),
    "exits": ("raise SystemExit(3)", "failed", "cannot be imported: SystemExit: 3"),
    "raises": ("1 / 0", "failed", "cannot be imported: ZeroDivisionError"),
    "prints": ("print('{}' * 100_000)", "ok", None),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One file for each of BODIES, with a right kernel at its end."""
    folder = tmp_path_factory.mktemp("files")
    for name, (body, *_) in BODIES.items():
        (folder / f"{name}.py").write_text(f"{body}\ndef f(a, b):\n    return a @ b\n")
    return folder


@pytest.fixture(autouse=True)
def little_patience(monkeypatch):
    """An import may take three seconds here."""
    monkeypatch.setattr(trial, "IMPORT_S", 3.0)


@pytest.mark.parametrize("name", BODIES)
def test_a_file_is_tried_in_a_process_of_its_own(files, name):
    """What becomes of it there is known here; nothing of it has been imported."""
    _, status, reason = BODIES[name]
    found = trial.outcome(f"{files}/{name}.py:f")
    assert found.status == status
    assert reason is None or re.search(reason, found.reason), found.reason
    assert not [
        module for module in sys.modules.values() if getattr(module, "__file__", None) == f"{files}/{name}.py"
    ]


def test_files_that_take_their_process_along_are_records_of_a_sweep_that_goes_on(files, tmp_path):
    """One for every cell of theirs, at once: no cell waits for the same import again."""
    kernels = [f"{files}/{name}.py:f" for name in ("segfaults", "leaves", "hangs", "prints")]
    begin = time.monotonic()
    run = bench.sweep([*kernels, "blas"], [8, 9, 10], threads=[1], out=tmp_path / "run", **QUICK)
    assert time.monotonic() - begin < 60
    found = Counter((Path(cell["kernel"]).name, cell["status"]) for cell in run.of("cell"))
    assert found == {
        ("segfaults.py:f", "crashed"): 3, ("leaves.py:f", "crashed"): 3, ("hangs.py:f", "timeout"): 3,
        ("prints.py:f", "ok"): 3, ("blas", "ok"): 3,
    }  # fmt: skip
    reason = next(cell["reason"] for cell in run.cells if "hangs" in cell["kernel"])
    assert reason == "hangs.py cannot be imported: no answer within 3 s"


@pytest.mark.parametrize("name", ["segfaults", "leaves", "hangs", "exits"])
def test_a_training_on_such_a_file_is_refused_in_a_sentence(files, name):
    """One that is no kernel is a mistake, said at once; one that crashes costs the kernel beside it nothing."""
    from bench.train import train

    kernels = [f"blas,1={files}/{name}.py:f", "blas"]
    if BODIES[name][1] == "failed":
        with pytest.raises(ValueError, match=rf"{name}\.py cannot be imported: "):
            train("digits", kernels=kernels, epochs=1)
        return
    lost, good = train("digits", kernels=kernels, epochs=1)
    assert lost.status in ("crashed", "timeout")
    assert f"{name}.py cannot be imported: " in lost.reason
    assert (good.status, len(good.epochs)) == ("ok", 1)


def test_a_profile_says_of_such_a_file_what_a_sweep_says(files, tmp_path):
    """One record, beside that of the other kernel."""
    spec = f"blas,1={files}/segfaults.py:f"
    run = bench.profile([4, 4, 4], 4, ["blas", spec], threads=1, out=tmp_path / "run", settings=QUICK)
    assert sorted(cell["status"] for cell in run.of("cell")) == ["crashed", "ok"]


# After the end of a launch, and of the lab


def test_nobody_is_left_behind_when_a_launch_ends(tmp_path, marked):
    """What a kernel has started in one launch does not run beside the next."""
    crew = Crew(Plan(timeout_s=60.0), tmp_path)
    try:
        request = {"what": "problem", "problem": Problem(8, 8, 8).record(), "seed": 0, "sample_s": 0.001}
        kernel = f"{FAULTY}:breeding_elsewhere"
        assert crew.ask(Member(kernel, 1), do="open", kernel=kernel, **request)["status"] == "ok"
        assert {process.name() for process in started_with(marked)} >= {"sleep"}
        crew.dismiss()
        assert not [process for process in started_with(marked) if process.pid != crew.guardian.pid]
    finally:
        crew.close()
    assert not started_with(marked)


def test_nobody_is_left_behind_when_the_lab_is_killed(tmp_path, marked):
    """SIGKILL: workers, what their kernels have started, and the scratch folder are gone all the same."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    code = f"""
import sys, bench
bench.sweep([{f"{FAULTY}:breeding"!r}, {f"{FAULTY}:breeding_elsewhere"!r}, "blas"], [8], threads=[1],
            out={str(tmp_path / "run")!r}, launches=24, rounds=50, sample_s=0.02)
"""
    lab = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"TMPDIR": str(scratch)})
    records = tmp_path / "run" / "records.jsonl"
    until = time.monotonic() + 60
    while (records.read_bytes().count(b'"kind":"sample"') if records.exists() else 0) < 6:
        assert lab.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    bred = [process for process in started_with(marked) if process.name() == "sleep"]
    assert len(bred) >= 2
    assert list(scratch.iterdir())
    lab.kill()
    lab.wait()
    until = time.monotonic() + 20
    while (left := started_with(marked)) or list(scratch.iterdir()):
        assert time.monotonic() < until, (left, list(scratch.iterdir()))
        time.sleep(0.05)
