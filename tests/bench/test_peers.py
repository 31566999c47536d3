"""Peers in the lab: swept when named, recorded for what they are, and nobody's crash but their worker's."""

import json

import pytest

import bench
import gemm
from bench.check import check
from bench.plans.axes import Sweep
from gemm import registry
from tests.gemm.shared_objects import shared_object
from tests.gemm.test_vendors import CBLAS, MACHINE


@pytest.fixture
def crashing(tmp_path, monkeypatch):
    """`cblas:crashing`: its file looks well, and loading it crashes."""
    path = shared_object(tmp_path / "crashing.so", CBLAS, machine=MACHINE, crashes=True)
    monkeypatch.setenv("GEMMLAB_CBLAS", f"crashing={path}")
    registry.refresh()
    yield "cblas:crashing"
    monkeypatch.undo()
    registry.refresh()


def test_a_sweep_that_names_no_kernel_takes_the_ladder_without_its_peers():
    """The tour's time does not depend on what is installed; a GPU's kernels are part of it where there is one."""
    swept = {cell.kernel for cell in Sweep(sizes=(8,)).cells()}
    ladder = {kernel for kernel in gemm.kernels() if not kernel.peer}
    assert swept == {kernel.name for kernel in ladder if kernel.device == "cpu" or kernel.available}
    assert "torch" not in swept
    assert "blas" in swept


def test_a_library_that_crashes_when_it_is_loaded_ends_its_worker_only(crashing, tmp_path):
    """The listing does not load it; a check says what happened, a sweep goes on."""
    assert gemm.find(crashing).available
    verdict = check(crashing)
    assert not verdict.passed
    assert "crashed the process (SIGSEGV)" in verdict.faults[0].sentence
    run = bench.sweep([crashing, "blas"], sizes=[8], launches=1, rounds=1, out=tmp_path / "run")
    assert {cell["kernel"]: cell["status"] for cell in run.of("cell")} == {crashing: "crashed", "blas": "ok"}


def test_a_record_says_which_library_a_worker_multiplied_with(tmp_path):
    """First among those it had loaded: by name, version, core type, threads in effect, and its file."""
    if reason := gemm.find("cblas:reference").reason:
        pytest.skip(reason)
    run = bench.sweep(["cblas:reference"], sizes=[8], threads=[1], launches=1, rounds=1, out=tmp_path / "run")
    assert [cell["status"] for cell in run.of("cell")] == ["ok"]
    (worker,) = run.of("worker")
    own = worker["libraries"][0]
    assert (own["kernel"], own["name"], own["threads"]) == ("cblas:reference", "reference", 1)
    assert own["path"].endswith(own["version"])
    paths = [library["path"] for library in worker["libraries"]]
    assert len(set(paths)) == len(paths)
    assert json.dumps(own)
