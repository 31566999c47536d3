"""Tile sizes for a GPU: searched by the device's clock, verified, kept if they are better, and read by the kernels."""

import json

import pytest
from typer.testing import CliRunner

import gemm
import gemmlab
from bench import tune_device
from gemm.cuda import build, launch, probe, tiles
from gemm.cuda.probe import Device
from gemm.cuda.rungs import BF16, TF32, TILE1D, TILE2D, WARPTILE
from tests.bench import device_clock
from tests.stand_in import memory, modules

GPU = Device("Stand-in", (9, 0), 4)
BEST = 16  # the depth of a tile that this device likes most


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """A device that is none: products take the longer, the further a tile's depth is from BEST."""
    monkeypatch.setenv("GEMMLAB_CUDA_TUNING", str(tmp_path / "tuning.json"))
    monkeypatch.setattr(memory.Event, "_now", device_clock.now)
    monkeypatch.setattr(probe, "device", lambda: GPU)
    monkeypatch.setattr(tune_device, "SEEN", ((40, 36, 50, "nn"),))
    monkeypatch.setattr(tune_device, "UNSEEN", ((33, 35, 37, "tn"),))
    monkeypatch.setattr(tune_device, "WARM_S", 1e-4)
    monkeypatch.setattr(build, "build", lambda path, macros, architecture: None)
    monkeypatch.setattr(launch, "bind", bind)
    tiles.tuned.cache_clear()
    kernels = [gemm.find(name) for name in tune_device.autotuned()]
    with modules.installed(*kernels):
        yield tmp_path / "tuning.json"
    tiles.tuned.cache_clear()


def bind(rung, a, b, c, *, alpha, beta, epilogue=None, sizes=None):
    sizes = tiles.chosen(rung) if sizes is None else sizes
    if sizes.get("TM") == 4:
        raise RuntimeError("CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES: too many resources requested for launch")

    def call():
        depth = sizes.get("BK", BEST)
        far = max(depth / BEST, BEST / depth)
        device_clock.seconds += 1e-3 * far
        c._host[...] = a._host @ b._host
        if depth == wrong["BK"]:
            c._host[-1, -1] += 1

    return call


wrong = {"BK": None}


def test_what_is_faster_is_found_and_written_where_the_kernels_read_it(gpu):
    found = tune_device.tune(["cuda-tile2d"], 1e3)
    (one,) = found.found
    assert one.tuned["BK"] == BEST
    assert one.ladder == TILE2D.tiles
    assert one.gain.ratio.value == pytest.approx(2, rel=1e-2)
    assert any("OUT_OF_RESOURCES" in sentence for sentence in one.refused), "what cannot be launched is told"
    assert found.written == gpu
    tiles.tuned.cache_clear()
    assert tiles.chosen(TILE2D)["BK"] == BEST
    assert tiles.chosen(TILE1D) == TILE1D.tiles
    assert tiles.origin(TILE2D) != "model"
    assert len(json.loads(gpu.read_text())["entries"]) == 1


def test_problems_that_need_the_same_variant_have_it_compiled_once(gpu, monkeypatch):
    made = []
    monkeypatch.setattr(build, "build", lambda path, macros, architecture: made.append(tuple(macros.items())))
    candidates = tune_device.Candidates(TILE2D, [(40, 36, 50, "nn"), (30, 36, 50, "nn"), (40, 36, 50, "tn")])
    candidates.prepare([tuple(TILE2D.tiles.items())] * 2)
    assert len(made) == len(set(made)) == 2


def test_other_rungs_and_other_gpus_keep_theirs(gpu, monkeypatch):
    tune_device.tune(["cuda-tile2d"], 1e3)
    monkeypatch.setattr(probe, "device", lambda: Device("Another", (8, 0), 4))
    tiles.tuned.cache_clear()
    tune_device.tune(["cuda-tile1d"], 1e3)
    entries = json.loads(gpu.read_text())["entries"]
    assert [sorted(entry["tiles"]) for entry in entries] == [["cuda-tile2d"], ["cuda-tile1d"]]
    assert tune_device.forget()
    assert not tune_device.forget()
    assert [entry["cpu"]["device"] for entry in json.loads(gpu.read_text())["entries"]] == ["Stand-in"]


def test_a_kernel_of_two_rungs_has_both_tuned_where_they_run(gpu, monkeypatch):
    both = tune_device.tune(["cuda-bf16"], 0.2, dry_run=True)
    assert [one.kernel for one in both.found] == ["cuda-bf16", "cuda-bf16-hopper"]
    monkeypatch.setattr(probe, "device", lambda: Device("Another", (8, 0), 4))
    assert [one.kernel for one in tune_device.tune(["cuda-bf16"], 0.1, dry_run=True).found] == ["cuda-bf16"]


def test_where_tile_sizes_are_from_counts_both_rungs_of_a_kernel(monkeypatch):
    monkeypatch.setattr(tiles, "tuned", dict)
    assert tiles.origin(BF16) == "model"
    found = set()
    for rung in (BF16, BF16.faster):
        monkeypatch.setattr(tiles, "tuned", lambda rung=rung: {rung.name: rung.tiles})
        found.add(tiles.origin(BF16))
    assert len(found | {"model"}) == 3


def test_a_dry_run_writes_nothing(gpu):
    assert tune_device.tune(["cuda-tile2d"], 1e3, dry_run=True).better
    assert not gpu.exists()


def test_a_wrong_candidate_ends_it_with_the_command_that_says_more(gpu, monkeypatch):
    monkeypatch.setitem(wrong, "BK", BEST)
    with pytest.raises(
        ValueError, match=r"cuda-tile2d with BM=.* is wrong at 40x36x50 .*gemmlab check cuda-tile2d"
    ):
        tune_device.tune(["cuda-tile2d"], 1e3)
    assert not gpu.exists()


@pytest.mark.parametrize(
    "rung", [TILE1D, TILE2D, WARPTILE, TF32, BF16, BF16.faster], ids=lambda rung: rung.name
)
def test_neighbours_are_no_absurd_sizes_and_each_tile_has_some(rung):
    start = tuple(rung.tiles.items())
    every = {name: tune_device.neighbours(rung, name, start) for name in rung.tiles}
    for found in every.values():
        assert start not in found
        assert not any(rung.refused(dict(sizes)) for sizes in found)
    assert sum(map(bool, every.values())) >= len(rung.tiles) - 1, every


def test_the_command_says_what_was_found(gpu):
    run = CliRunner().invoke(
        gemmlab.app, ["tune", "--device", "cuda", "--kernels", "cuda-tile2d", "--budget", "1000"]
    )
    assert run.exit_code == 0, run.output
    assert "BK=16" in run.output
    assert f"written to {gpu}" in run.output
    again = CliRunner().invoke(gemmlab.app, ["tune", "--device", "cuda", "--forget", "--json"])
    assert json.loads(again.stdout) == {"removed": True}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--device", "gpu"], "tuned are cpu"),
        (["--device", "cuda", "--kernels", "cuda-naive"], "no tile sizes to tune"),
        (["--device", "cuda", "--dtypes", "float32"], "--dtypes is of the CPU's"),
        (["--kernels", "cuda-tile2d"], "--kernels is of --device cuda"),
    ],
)
def test_wrong_usage_gets_a_sentence(arguments, said):
    with pytest.raises(ValueError, match=said):
        CliRunner().invoke(gemmlab.app, ["tune", *arguments], catch_exceptions=False)


def test_without_a_gpu_the_reason_is_the_kernels_own(monkeypatch):
    kernel = gemm.find("cuda-tile2d")
    if kernel.available:
        pytest.skip("there is one here")
    with pytest.raises(ValueError, match="cuda-tile2d cannot be tuned here: "):
        tune_device.tune(["cuda-tile2d"], 10)
