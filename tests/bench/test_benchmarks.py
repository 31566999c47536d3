"""The pytest-benchmark suite: run as the README says, on a fake GPU too, against baselines that it must not pass."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import fake_gpu

ROOT = Path(__file__).parent.parent.parent
# pytest-benchmark does not measure where pytest-xdist says that it is one of several processes.
ALONE = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


def suite(*arguments):
    """`pytest bench/benchmarks --benchmark-enable ...` in a process of its own: (exit code, all it said)."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "bench/benchmarks", "--benchmark-enable", *map(str, arguments)],
        cwd=ROOT, env=ALONE, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def baseline(tmp_path_factory):
    """A storage folder with one saved session of one small benchmark."""
    storage = tmp_path_factory.mktemp("storage")
    code, said = suite(
        "-k", "blas-64-1-thread-float32", f"--benchmark-storage={storage}", "--benchmark-autosave"
    )
    assert code == 0, said
    (saved,) = storage.rglob("*.json")
    return saved


def against(baseline, tmp_path, factor):
    """The suite compared with the baseline, all its times multiplied."""
    planted = json.loads(baseline.read_text())
    for stats in (benchmark["stats"] for benchmark in planted["benchmarks"]):
        stats |= {name: stats[name] * factor for name in ("min", "max", "mean", "median", "iqr", "stddev")}
    copy = tmp_path / baseline.parent.name / baseline.name
    copy.parent.mkdir()
    copy.write_text(json.dumps(planted))
    return suite(
        "-k", "blas-64-1-thread-float32", f"--benchmark-storage={tmp_path}", "--benchmark-compare",
        "--benchmark-compare-fail=median:10%",
    )  # fmt: skip


def test_a_regression_fails_the_session(baseline, tmp_path):
    """The baseline was 20 times faster than what is measured now."""
    code, said = against(baseline, tmp_path, 1 / 20)
    assert code != 0, said
    assert "Performance has regressed" in said


def test_what_is_not_slower_passes(baseline, tmp_path):
    """The baseline was 20 times slower; a machine that differs from its own is a warning, no failure."""
    code, said = against(baseline, tmp_path, 20)
    assert code == 0, said
    assert "1 passed" in said


def test_the_figures_stand_in_extra_info(baseline):
    """GFLOP/s of the median, the share of a ceiling of this session, the error ratio; who and how many threads."""
    (benchmark,) = json.loads(baseline.read_text())["benchmarks"]
    extra = benchmark["extra_info"]
    assert (extra["kernel"], extra["dtype"], extra["threads"]) == ("blas", "float32", 1)
    assert extra["gflops"] == pytest.approx(2 * 64**3 / benchmark["stats"]["median"] / 1e9)
    assert extra["percent_of_peak"] is None or 0 < extra["percent_of_peak"] <= 105
    assert 0 < extra["error_ratio"] <= 1
    assert benchmark["group"] == "n = 64, float32, 1 thread"
    assert benchmark["params"]["kernel"] == "blas"


def test_a_kernel_on_a_device_is_timed_until_the_device_is_done(tmp_path):
    """Its calls return at once; what is timed is the work, on a device that sleeps 2 ms for each product."""
    out = tmp_path / "gpu.json"
    code, said = suite(
        "-p", "tests.bench.fake_gpu", "-k", "cublas-512-1-thread-float32", f"--benchmark-json={out}"
    )
    assert code == 0, said
    (benchmark,) = json.loads(out.read_text())["benchmarks"]
    assert benchmark["stats"]["min"] >= fake_gpu.BUSY_S
    assert benchmark["group"] == "n = 512, float32, GPU"
    assert benchmark["options"]["timer"].endswith("device_clock")
    assert benchmark["extra_info"]["percent_of_peak"] is None


def test_the_suite_is_not_among_the_tests():
    """Plain `pytest` collects tests/ only."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-k", "test_kernel or test_the_contract_is_cheap"],
        cwd=ROOT, env=ALONE, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "bench/benchmarks" not in done.stdout, done.stdout
