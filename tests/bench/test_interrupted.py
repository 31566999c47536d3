"""Interrupted: Ctrl-C, SIGTERM, SIGKILL, a full disk. What was measured is kept, and the run is finished later."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

import bench
from bench.isolation.processes import undisturbed

ROOT = Path(__file__).parents[2]
GEMMLAB = [sys.executable, "-m", "gemmlab"]
SWEEP = ["sweep", "--kernels", "numpy-dot,blas", "--sizes", "8,16", "--threads", "1", "--rounds", "2"]
CELLS = {(kernel, n) for kernel in ("numpy-dot", "blas") for n in (8, 16)}


def environment(scratch):
    return os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(scratch)}


def start(folder, *arguments, **options):
    """`gemmlab` as a process of its own, in an empty folder, its temporary files there too."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [*GEMMLAB, *map(str, arguments)]
    return subprocess.Popen(command, cwd=folder, env=environment(folder), **pipes, **options)


def lines_in(records):
    """The lines of a file of records so far; the last may be cut."""
    return records.read_bytes().split(b"\n") if records.exists() else [b""]


def wait_for(count, records, child):
    until = time.monotonic() + 60
    while len(lines_in(records)) <= count:
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < until
        time.sleep(0.005)


def closed(run):
    """Kernel and size of every cell that is closed, all of them right, none twice."""
    assert Counter(line["status"] for line in run.of("cell")) == {"ok": len(run.of("cell"))}
    found = [(line["kernel"], line["problem"]["n"]) for line in run.of("cell")]
    assert len(found) == len(set(found))
    return set(found)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupted_sweep_says_how_to_go_on_and_goes_on(tmp_path, number, times):
    """One sentence, exit code 130; asked twice, the same; the records read; what is missing is measured then."""
    child = start(tmp_path, *SWEEP, "--launches", 12, "--out", "run")
    records = tmp_path / "run" / "records.jsonl"
    wait_for(8, records, child)
    for _ in range(times):
        child.send_signal(number)
        time.sleep(0.02)  # the second comes while it is tidying up
    out, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert out == ""
    assert err == "gemmlab: interrupted; what was measured is in run: gemmlab sweep --resume run\n"
    for line in records.read_bytes().splitlines():
        json.loads(line)
    assert {path.name for path in tmp_path.iterdir()} == {"run"}  # no scratch folder is left

    before = records.read_bytes()
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())
    (tmp_path / "run" / "plan.json").write_text(
        json.dumps(plan | {"launches": 2})
    )  # no need to wait for twelve
    child = start(tmp_path, "sweep", "--resume", "run")
    out, err = child.communicate(timeout=120)
    assert (child.returncode, err) == (0, "")
    assert records.read_bytes().startswith(before)
    assert closed(bench.load(tmp_path / "run")) == CELLS


def test_what_is_being_tidied_up_is_not_disturbed():
    """Nor is anything heard of it later."""
    with undisturbed():
        os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupted_resume_says_so_too(tmp_path):
    """Also before it has done anything: what there is, is kept."""
    run = bench.sweep(["blas"], [8], threads=[1], out=tmp_path / "run", launches=1, rounds=1, sample_s=0.001)
    text = (run.path / "records.jsonl").read_text().splitlines(keepends=True)
    (run.path / "records.jsonl").write_text("".join(line for line in text if '"kind":"cell"' not in line))
    plan = json.loads((run.path / "plan.json").read_text())
    (run.path / "plan.json").write_text(json.dumps(plan | {"launches": 24, "rounds": 50}))
    child = start(tmp_path, "sweep", "--resume", "run")
    wait_for(len(text) + 1, run.path / "records.jsonl", child)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=30)
    assert (child.returncode, err.count("gemmlab sweep --resume run"), err.count("\n")) == (130, 1, 1)


def full_after(size):
    """As if the disk were full when a file has this many bytes: EFBIG where a real one says ENOSPC."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB; None where none may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "gemmlab-test", folder]
    with suppress(FileNotFoundError):
        if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
            yield folder
            subprocess.run(["umount", "-l", folder], check=True)
            return
    yield None


@pytest.mark.parametrize("kind", ["limit", "disk"])
def test_a_full_disk_loses_nothing_and_the_run_is_finished_when_there_is_space(tmp_path, small_disk, kind):
    """One sentence; what was written reads; after that, as ever."""
    if kind == "disk" and small_disk is None:
        pytest.skip("needs to mount a small file system")
    folder = small_disk if kind == "disk" else tmp_path
    options = {"preexec_fn": full_after(20_000)} if kind == "limit" else {}
    child = subprocess.Popen(
        [*GEMMLAB, *SWEEP, "--launches", "12", "--out", str(folder / "run")], cwd=tmp_path,
        env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip
    out, err = child.communicate(timeout=120)
    assert (child.returncode, out) == (2, "")
    assert err.count("\n") == 1
    assert "No space left on device" in err if kind == "disk" else "File too large" in err
    assert f"what was measured is kept: gemmlab sweep --resume {folder}/run goes on" in err
    assert "Traceback" not in err

    records = folder / "run" / "records.jsonl"
    before = bench.load(folder / "run")
    assert len(before.of("sample")) > 8
    assert len(before.lines) >= len(lines_in(records)) - 1
    if kind == "disk":
        subprocess.run(["mount", "-o", "remount,size=8m", folder], check=True)
    plan = json.loads((folder / "run" / "plan.json").read_text())
    (folder / "run" / "plan.json").write_text(json.dumps(plan | {"launches": 2}))
    after = bench.resume(folder / "run")
    assert closed(after) == CELLS
    assert after.lines[: len(before.lines)] == before.lines


def test_a_disk_that_is_full_from_the_start_is_a_sentence(tmp_path):
    """Before anything is measured."""
    child = start(tmp_path, *SWEEP, "--launches", 2, "--out", "run", preexec_fn=full_after(100))
    _, err = child.communicate(timeout=60)
    assert child.returncode == 2
    assert err.count("\n") == 1
    assert "run: cannot be written (File too large); give another folder" in err


def test_two_sweeps_into_one_folder_the_second_refuses(tmp_path):
    """While the first goes on, and before it has written a record; neither its plan nor its records are touched."""
    first = start(tmp_path, *SWEEP, "--launches", 12, "--out", "run")
    records, plan = tmp_path / "run" / "records.jsonl", tmp_path / "run" / "plan.json"
    while not plan.exists():
        assert first.poll() is None
        time.sleep(0.005)
    before = plan.read_bytes()
    try:
        second = start(tmp_path, *SWEEP, "--launches", 3, "--out", "run")
        _, err = second.communicate(timeout=60)
        assert second.returncode == 2
        assert "another process is writing this run" in err or "already holds a run" in err
        wait_for(3, records, first)
        third = start(tmp_path, "sweep", "--resume", "run")
        _, err = third.communicate(timeout=60)
        assert third.returncode == 2
        assert "another process is writing this run" in err
        assert plan.read_bytes() == before
    finally:
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=30)


KILLS = 50
SPELL = """
import sys, bench
from pathlib import Path
folder = Path(sys.argv[1])
if (folder / "plan.json").exists():
    bench.resume(folder)
else:
    bench.sweep(["numpy-dot", "blas"], [8, 16], threads=[1], out=folder, launches=2, rounds=2, sample_s=0.001)
"""


def finished(folder, seconds, closing=False):
    """Sweep, or resume, for so long, then SIGKILL; True if it had ended by itself before.

    closing  count from the first closing line of a cell
    """
    child = subprocess.Popen([sys.executable, "-c", SPELL, str(folder)], env=environment(folder.parent))
    try:
        while closing and child.poll() is None:
            records = folder / "records.jsonl"
            closing = not (records.exists() and b'"kind":"cell"' in records.read_bytes())
            time.sleep(0.001)
        assert child.wait(timeout=seconds) == 0
        return True
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        return False


def check_new_lines(records, seen):
    """Every line since the last kill reads, but at most the last; returns how many there are now."""
    lines = lines_in(records)
    for line in lines[seen:-1]:
        json.loads(line)
    return len(lines) if lines[-1] else len(lines) - 1  # a cut line is ended by the next resume


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fifty_kills_at_random_moments_lose_no_line_and_no_cell(tmp_path):
    """One run is killed and resumed until it is done, then the next; while starting, sampling and closing."""
    for name in ("first", "undisturbed"):  # the first finds nothing compiled and nothing in the disk's cache
        folder, begin = tmp_path / name, time.monotonic()
        assert finished(folder, 60)
        whole = time.monotonic() - begin
    cells = {line["cell"] for line in bench.load(folder).of("cell")}
    assert closed(bench.load(folder)) == CELLS
    draw = random.Random(20_260_101)
    kills = number = 0
    while kills < KILLS:
        number += 1
        folder, seen = tmp_path / f"run-{number}", 0
        while True:
            closing = kills % 5 == 4 and kills < KILLS
            seconds = draw.uniform(0.0, 0.02 if closing else whole) if kills < KILLS else 60
            if finished(folder, seconds, closing):
                break
            kills += 1
            seen = check_new_lines(folder / "records.jsonl", seen)
        run = bench.load(folder)
        assert closed(run) == CELLS
        assert {line["cell"] for line in run.of("cell")} == cells
        assert all("cut short" in warning for warning in run.warnings)
        for result in bench.results(run):
            assert sum(len(values) >= 2 for values in result.samples.values()) >= 2
    assert number > 1
    until = time.monotonic() + 20
    while left := [path for path in tmp_path.iterdir() if path.name.startswith("gemmlab-")]:
        assert time.monotonic() < until, left
        time.sleep(0.05)
