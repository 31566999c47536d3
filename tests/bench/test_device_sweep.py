"""A sweep over kernels of a device and of the CPU: planned, timed, concluded and compared. Without a GPU."""

from pathlib import Path

import pytest

import bench
from bench.host import gpu
from bench.plans import device
from bench.plans.axes import Sweep, make_sweep
from bench.plans.plan import Cell, Plan, check_memory
from bench.records import RunError
from bench.verdicts.device_bounds import PER_CYCLE, UNKNOWN, most_flops
from bench.verdicts.doubts import of_device
from bench.verdicts.statistics import results, speedup
from gemm.problems import Problem
from tests.bench import device_kernels

FILE = Path(device_kernels.__file__)
RIGHT, TWICE, SHORT, SINGLE = (f"{FILE}:{name}" for name in ("RIGHT", "TWICE", "SHORT", "SINGLE"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two launches of kernels on a device that is none, one of them wrong, and BLAS beside them."""
    return bench.sweep(
        kernels=["blas", RIGHT, TWICE, SHORT], sizes=[16, 40], threads=[1], launches=2, rounds=2, sample_s=0.002,
        out=tmp_path_factory.mktemp("device") / "run",
    )  # fmt: skip


def of(run, kernel):
    return [result for result in results(run) if result.kernel == kernel]


def test_a_device_kernel_has_one_cell_for_each_problem(run):
    """Its record says where it multiplied, on what and what; a CPU's kernel is as it was."""
    first, second = of(run, RIGHT)
    assert {first.problem["n"], second.problem["n"]} == {16, 40}
    cell = first.cell
    assert (cell["threads"], cell["device"], cell["operands"], cell["cache"]) == (0, "cuda", "device", "cold")
    assert cell["arithmetic"] == "float32"
    blas = of(run, "blas")[0].cell
    assert not {"device", "operands", "arithmetic"} & blas.keys()
    assert blas["cache"] == "hot"


def test_its_time_is_the_devices(run):
    """0.1 ms and 0.2 ms by its clock, whatever Python did meanwhile; their ratio is 2."""
    for result in of(run, RIGHT):
        assert result.status == "ok"
        assert result.seconds.value == pytest.approx(device_kernels.TAKES_S, rel=1e-3)
    for right, twice in zip(of(run, RIGHT), of(run, TWICE)):
        assert speedup(twice, right).value == pytest.approx(2, rel=1e-3)


def test_what_the_host_did_meanwhile_is_not_taken_off(run):
    """A device's samples have no account of waiting for cores."""
    (cell,) = [r.cell["cell"] for r in of(run, RIGHT) if r.problem["n"] == 16]
    samples = [line for line in run.of("sample") if line["cell"] == cell]
    assert len(samples) == 4
    assert all(line["waited_s"] is None for line in samples)


def test_a_wrong_one_has_no_time(run):
    assert {result.status for result in of(run, SHORT)} == {"wrong"}


def test_ceilings_of_the_device_bear_its_names(run):
    """Here they cannot be measured, and the run goes on; the CPU's are beside them."""
    named = {(line["ceiling"], line["threads"]) for line in run.of("ceiling")}
    assert {(name, 0) for name in (*device.BANDWIDTHS, "cuda-float32")} <= named
    assert ("fma", 1) in named
    assert ("fma", 0) not in named
    assert all(name.startswith("cuda-") == (threads == 0) for name, threads in named)


def test_workers_tell_what_the_gpu_is(run):
    told = [line["gpu"] for line in run.of("worker") if line["threads"] == 0 and line["kernel"] == RIGHT]
    assert told[0]["name"] == "NVIDIA H200"
    assert told[0]["sms"] == 132
    assert not any("gpu" in line for line in run.of("worker") if line["kernel"] == "blas")


def test_a_gpus_kernel_is_compared_with_a_cpus(run):
    """Whose cells have another thread count and another cache: by problem."""
    found = bench.compare("blas", RIGHT, run)
    assert [pair.verdict for pair in found.pairs] == ["slower", "slower"]
    both = bench.compare(TWICE, RIGHT, run)
    assert [pair.ratio.value for pair in both.pairs] == pytest.approx([2, 2], rel=1e-3)


def test_a_device_run_is_resumed_as_it_was_planned(run):
    """A plan's file says device and operands."""
    again = Plan.from_record({"cells": [c for c in run.plan["cells"] if c["kernel"] == RIGHT], "rounds": 2})
    assert {(c.device, c.operands, c.threads) for c in again.cells} == {("cuda", "device", 0)}
    with pytest.raises(RunError):
        Plan.from_record({"cells": [], "rounds": 0})


def test_threads_multiply_the_cpus_cells_only():
    cells = make_sweep({"kernels": ["blas", RIGHT], "sizes": [8], "threads": [1, "all"]}, "flags").cells()
    assert [cell.threads for cell in cells if cell.kernel == RIGHT] == [0]
    assert next(cell.threads for cell in cells if cell.kernel == "blas") == 1


def test_sizes_cache_and_operands_have_defaults_of_their_own_on_a_device():
    cells = make_sweep({"kernels": [RIGHT]}, "flags").cells()
    assert [cell.problem.n for cell in cells] == list(device.SIZES)
    assert {cell.cache for cell in cells} == {"cold"}
    both = make_sweep({"kernels": [RIGHT], "sizes": [8], "operands": ["device", "host"]}, "flags").cells()
    assert [(cell.operands, cell.cache) for cell in both] == [("device", "cold"), ("host", "hot")]
    hot = make_sweep({"kernels": [RIGHT], "sizes": [8], "cache": ["hot"]}, "flags").cells()
    assert [cell.cache for cell in hot] == ["hot"]
    with pytest.raises(ValueError, match="unknown place of operands 'hosts'; did you mean 'host'"):
        make_sweep({"operands": ["hosts"]}, "flags")


def test_a_dtype_that_a_kernel_does_not_take_has_no_cell_if_it_takes_another():
    """And where it takes none, its record will say what it takes."""
    cells = make_sweep(
        {"kernels": [RIGHT, SINGLE], "sizes": [8], "dtypes": ["float32", "float64"]}, "flags"
    ).cells()
    assert [(c.kernel, c.problem.dtype) for c in cells if c.kernel == SINGLE] == [(SINGLE, "float32")]
    assert len(cells) == 3
    (cell,) = make_sweep({"kernels": [SINGLE], "sizes": [8], "dtypes": ["float64"]}, "flags").cells()
    assert cell.problem.dtype == "float64"


def test_a_gpu_that_is_not_here_is_no_part_of_the_ladder():
    """A sweep that names no kernel has none of those that cannot run."""
    assert not any(cell.device == "cuda" for cell in Sweep(sizes=(8,)).cells() if not gpu.facts())


def test_what_the_device_has_no_room_for_is_refused_before_anything_is_allocated(monkeypatch):
    cells = make_sweep({"kernels": [RIGHT, TWICE], "sizes": [4096]}, "flags").cells()
    monkeypatch.setattr(gpu, "l2_bytes", lambda: 50 << 20)
    monkeypatch.setattr(gpu, "free_memory", lambda: 2 << 30)
    with pytest.raises(
        ValueError, match=r"about \d+\.\d GiB on the GPU over all its workers and 2.0 GiB are free"
    ):
        check_memory(cells)
    monkeypatch.setattr(gpu, "free_memory", lambda: 100 << 30)
    device.check_memory(cells)


def test_more_copies_the_smaller_the_problem():
    l2 = 50 << 20
    assert device.copies(Problem(8192, 8192, 8192), l2) == 2
    several = device.copies(Problem(512, 512, 512), l2)
    assert several * 3 * 512**2 * 4 > 2 * l2 >= (several - 1) * 3 * 512**2 * 4
    assert device.copies(Problem(1, 1, 1), l2) == device.MOST_COPIES


def test_cells_of_the_cpu_keep_their_identity():
    """So that runs of before can be resumed."""
    identity = Cell("blas", 1, Problem(8, 8, 8)).identity
    assert not {"device", "operands", "arithmetic"} & identity.keys()


def test_a_library_may_be_beaten_and_the_chip_not():
    """Tensor cores are held against the chip's limit, multiply-adds against what was measured."""
    h200 = {"capability": "9.0", "sms": 132, "clock_mhz": 1980.0}
    assert most_flops(60e12, "float32", h200) == 60e12
    assert most_flops(750e12, "bfloat16", h200) == pytest.approx(PER_CYCLE["9.0"]["bfloat16"] * 132 * 1.98e9)
    assert most_flops(750e12, "bfloat16", {}) == UNKNOWN * 750e12
    assert most_flops(2000e12, "bfloat16", h200) == 2000e12, "measured is measured"


def test_clocks_that_were_held_down_or_varied_are_told():
    steady = [{"sm_mhz": 1980, "throttled": []}] * 4
    assert of_device(steady, {}) == []
    capped = [{"sm_mhz": 1700, "throttled": ["power cap"]}] * 3 + [{"sm_mhz": 1980, "throttled": []}]
    throttled, varied = of_device(capped, {"max_mhz": 1980})
    assert throttled["kind"] == "gpu-throttled"
    assert "75 % of the samples (power cap): 1700 to 1980 MHz of at most 1980" in throttled["sentence"]
    assert varied["kind"] == "gpu-clock"
    assert of_device([{}] * 4, {}) == []
