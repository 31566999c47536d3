"""The GPU's climb in the registry, without a GPU: why it is not available, how it is launched, its tile sizes."""

import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import gemm
from gemm.cuda import build, launch, probe, product, rungs, tiles

WITHOUT_CUPY = "CuPy is not installed; pip install 'gemmlab"
H200 = probe.Device("NVIDIA H200", (9, 0), 132)


def driver(devices, capability=(9, 0)):
    """A libcuda that has so many devices."""

    class Driver:
        def cuInit(self, flags):
            return 0 if devices else 100

        def cuDeviceGetCount(self, count):
            count._obj.value = devices
            return 0

        def cuDeviceGet(self, handle, number):
            return 0

        def cuDeviceGetName(self, name, length, handle):
            name.value = b"NVIDIA Test"
            return 0

        def cuDeviceGetAttribute(self, value, attribute, handle):
            known = {probe.MAJOR: capability[0], probe.MINOR: capability[1], probe.PROCESSORS: 7}
            value._obj.value = known[attribute]
            return 0

    return Driver()


@pytest.fixture
def machine(monkeypatch):
    """Sets what is installed and which driver there is; None: no driver."""

    def there_is(installed, found, nvrtc=("libnvrtc.so.13",)):
        def library(name):
            if found is None:
                raise OSError(name)
            return found

        monkeypatch.setattr(probe, "version_of", lambda wheel: "13.6" if wheel in installed else None)
        monkeypatch.setattr(probe.ctypes, "CDLL", library)
        monkeypatch.setattr(build, "libraries", lambda: nvrtc)

    return there_is


CUPY = ["cupy-cuda13x"]


@pytest.mark.parametrize(
    ("installed", "found", "reason"),
    [
        ([], None, WITHOUT_CUPY),
        ([], driver(1), WITHOUT_CUPY),
        (["cupy-cuda12x"], None, "cupy-cuda12x is installed and there is no NVIDIA driver"),
        (["cupy-cuda12x", "cupy-cuda13x"], None, "installed over each other"),
        (CUPY, driver(0), "no CUDA device that this process can use"),
        (CUPY, driver(1), None),
    ],
)
@pytest.mark.parametrize("name", ["cublas", "cuda-naive", "cuda-warptile"])
def test_a_kernel_of_the_gpu_gives_the_true_reason(machine, installed, found, reason, name):
    """No CuPy, no driver, no device: each is said as what it is, by all of them alike."""
    machine(installed, found)
    said = gemm.find(name).probe()
    assert said is None if reason is None else reason in said


@pytest.mark.parametrize(
    ("since", "capability", "reason"),
    [
        ("sm_80", (7, 5), "NVIDIA Test has compute capability 7.5, and this kernel needs 8.0 or later"),
        ("sm_80", (8, 6), None),
        ("sm_80", (12, 0), None),
        ("sm_90a", (8, 9), "has compute capability 8.9, and this kernel needs 9.0 and no other"),
        ("sm_90a", (9, 0), None),
        ("sm_90a", (10, 0), "has compute capability 10.0, and this kernel needs 9.0 and no other"),
    ],
)
def test_a_device_that_lacks_what_a_kernel_needs_is_said(machine, since, capability, reason):
    """cp.async came with 8.0; Hopper's own instructions are Hopper's."""
    machine(CUPY, driver(1, capability))
    said = probe.unavailable(since)
    assert said is None if reason is None else reason in said


def test_without_nvrtc_there_is_no_kernel(machine):
    """It is what compiles them; cuBLAS needs none."""
    machine(CUPY, driver(1), nvrtc=())
    assert "NVRTC, which compiles it, was not found; pip install" in gemm.find("cuda-naive").probe()
    assert gemm.find("cublas").probe() is None


def test_cupys_major_version_decides_which_nvrtc_is_first(monkeypatch, tmp_path):
    """Both wheels may be there; a driver of CUDA 12 refuses the code of 13."""
    for folder, name in (("cu13", "libnvrtc.so.13"), ("cuda_nvrtc", "libnvrtc.so.12")):
        (tmp_path / folder / "lib").mkdir(parents=True)
        (tmp_path / folder / "lib" / name).touch()
        (tmp_path / folder / "lib" / f"{name.replace('nvrtc', 'nvrtc-builtins')}").touch()
    spec = types.SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: spec)
    for wheel, number in (("cupy-cuda12x", "12"), ("cupy-cuda13x", "13")):
        monkeypatch.setattr(probe, "version_of", lambda name, wheel=wheel: "1" if name == wheel else None)
        first = build.libraries.__wrapped__()[0]
        assert str(first).endswith(f"libnvrtc.so.{number}")


def test_the_kernels_fuse_every_epilogue():
    """All that gemm/epilogue.py knows, forward and backward."""
    whole = {"beta", "bias", "aux_out"} | set(gemm.epilogue.ACTIVATIONS)
    whole |= {f"grad:{name}" for name in gemm.epilogue.ACTIVATIONS}
    for kernel in gemm.kernels():
        if kernel.name.startswith("cuda-"):
            assert kernel.fuses == whole
            (signature,) = kernel.signatures
            assert signature.accumulator == "float32"
            own = {"cuda-bf16": "bfloat16", "cuda-fp16": "float16"}.get(kernel.name, "float32")
            assert signature.input == signature.output == own
            assert kernel.multiplies == ("tfloat32" if kernel.name == "cuda-tf32" else None)


# The launch, through something that stands in for CuPy.


class OnDevice(np.ndarray):
    """An array of the host that says that it lives on the device."""

    @property
    def __cuda_array_interface__(self):
        return {"data": (self.ctypes.data, False), "shape": self.shape, "typestr": "<f4", "version": 3}

    @property
    def device(self):
        return Device(0)


class Device:
    entered = 0

    def __init__(self, number):
        self.id, self.compute_capability = number, "90"

    def __enter__(self):
        Device.entered += 1

    def __exit__(self, *error):
        pass


@pytest.fixture
def cupy(monkeypatch):
    """Records what is loaded and launched."""
    said = types.SimpleNamespace(loaded=[], launched=[])

    class RawModule:
        def __init__(self, path):
            said.loaded.append(Path(path).name)

        def get_function(self, name):
            assert name == "gemm"
            return lambda grid, block, arguments, shared_mem: said.launched.append((grid, block, *arguments))

    module = types.ModuleType("cupy")
    module.RawModule = RawModule
    module.cuda = types.SimpleNamespace(
        Device=Device, runtime=types.SimpleNamespace(getDeviceCount=lambda: said.devices)
    )
    said.devices = 1
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setattr(
        launch.build, "build", lambda file, macros, arch: build.Built(Path(f"{file.stem}-{arch}"), None)
    )
    monkeypatch.setattr(tiles, "tuned", dict)
    launch._loaded.cache_clear()
    yield said
    launch._loaded.cache_clear()


def operands(m, n, k):
    return [np.zeros(shape, np.float32).view(OnDevice) for shape in ((m, k), (k, n), (m, n))]


def test_a_product_is_one_launch_of_a_kernel_that_is_loaded_once(cupy):
    """Grid and block of the rung, one argument of 160 bytes; each variant is loaded when it is first asked for."""
    a, b, c = operands(300, 200, 64)
    multiply = launch.bind(rungs.WARPTILE, a, b, c, alpha=2.0, beta=0.0)
    assert cupy.launched == []
    multiply()
    multiply()
    (grid, block, packed), again = cupy.launched
    assert (grid, block) == ((6, 1, 1), (128, 1, 1))
    assert packed.nbytes == 160
    assert packed.dtype.names is None  # which CuPy would ask for in each launch
    assert packed.view(product.PRODUCT)["a"] == a.ctypes.data
    assert packed.view(product.PRODUCT)["alpha"] == 2
    assert again[2] is packed
    launch.bind(rungs.WARPTILE, a, b, c, alpha=1.0, beta=0.0)()
    assert cupy.loaded == ["warptile-sm_90a"]
    launch.bind(rungs.WARPTILE, np.zeros((64, 300), np.float32).view(OnDevice).T, b, c, alpha=1.0, beta=0.0)()
    assert cupy.loaded == ["warptile-sm_90a"] * 2


def test_the_contract_hands_epilogues_to_the_kernel(cupy):
    """Through gemm.matmul: bias and relu are the kernel's own, in the one launch."""
    kernel = gemm.find("cuda-tile2d")
    kernel.__dict__["reason"] = None  # what its probe would have found
    try:
        a, b, c = operands(8, 4, 4)
        bias = np.zeros(4, np.float32).view(OnDevice)
        gemm.matmul(a, b, c, kernel=kernel, epilogue=gemm.Epilogue(bias=bias, activation="relu"))
    finally:
        del kernel.__dict__["reason"]
        kernel.__dict__.pop("function", None)
    ((_, _, packed),) = cupy.launched
    packed = packed.view(product.PRODUCT)
    assert packed["bias"] == bias.ctypes.data
    assert packed["function"] == product.FUNCTIONS["relu"]


def test_of_several_devices_the_operands_own_is_used(cupy):
    """Whatever the current one is."""
    cupy.devices = 2
    call = launch.bind(rungs.NAIVE, *operands(4, 4, 4), alpha=1.0, beta=0.0)
    before = Device.entered
    call()
    assert Device.entered == before + 1


# Tile sizes from the user's file.


@pytest.fixture
def tuning_file(tmp_path, monkeypatch):
    """Writes a file of tile sizes for an H200, which this machine then has."""
    monkeypatch.setattr(probe, "device", lambda: H200)
    monkeypatch.setenv("GEMMLAB_CUDA_TUNING", str(tmp_path / "cuda-tuning.json"))

    def write(found, cpu=None):
        entry = {"cpu": cpu or tiles.device(), "tiles": found}
        content = {"gemmlab": "cuda-tuning", "schema": 1, "entries": [entry]}
        (tmp_path / "cuda-tuning.json").write_text(json.dumps(content))
        tiles.tuned.cache_clear()

    yield write
    tiles.tuned.cache_clear()


def test_the_files_tile_sizes_stand_before_the_ladders(tuning_file):
    """For the kernel that they are for; `tuning` says where they are from."""
    tuning_file({"cuda-warptile": {**rungs.WARPTILE.tiles, "BAND": 8}})
    assert tiles.chosen(rungs.WARPTILE)["BAND"] == 8
    assert tiles.chosen(rungs.TILE2D) is rungs.TILE2D.tiles
    assert gemm.find("cuda-tile2d").tuning("float32") == "model"
    assert len(gemm.find("cuda-warptile").tuning("float32")) == 12


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ({"cuda-warptile": {"BM": 128}}, "tile sizes of cuda-warptile refused: cuda-warptile has BM, BN"),
        ({"cuda-naive": {"BLOCK": 64}}, "tile sizes of cuda-naive refused: .*4096 threads"),
        ({"cuda-other": {}}, "tile sizes for 'cuda-other', not for one of cuda-naive"),
        (None, "without tile sizes"),
    ],
)
def test_a_file_of_absurd_tile_sizes_is_ignored_with_a_sentence(tuning_file, found, sentence):
    """The ladder's own are used."""
    tuning_file(found)
    with pytest.warns(UserWarning, match=sentence):
        assert tiles.chosen(rungs.WARPTILE) == rungs.WARPTILE.tiles


def test_another_gpus_tile_sizes_are_not_used(tuning_file):
    """The file says for which device they were found."""
    tuning_file({}, cpu={"device": "NVIDIA A100"})
    with pytest.warns(
        UserWarning, match="has no tile sizes for this processor; `gemmlab tune --device cuda`"
    ):
        assert tiles.tuned() == {}


@pytest.mark.gpu
@pytest.mark.skipif(not gemm.find("cuda-naive").available, reason="needs CuPy and a CUDA device")
@pytest.mark.parametrize("rung", rungs.RUNGS, ids=lambda rung: rung.name)
@pytest.mark.parametrize("shape", [(1, 1, 1), (129, 127, 33), (256, 384, 128)])
def test_a_rung_multiplies_on_the_gpu(rung, shape):
    """Siblings that run anywhere: the variants' compilation, and the kernels on the CPU's emulator."""
    import cupy

    m, n, k = shape
    a = cupy.random.randint(-4, 5, (m, k)).astype(cupy.float32)
    b = cupy.random.randint(-4, 5, (n, k)).astype(cupy.float32).T
    c = gemm.matmul(a, b, kernel=rung.name)
    cupy.testing.assert_array_equal(c, a @ b)
