"""A device's ceilings: each is work over the device's own time, of the fastest way there is. Without a GPU."""

import re

import pytest

import gemm
from bench.host import gpu
from bench.plans import device as plans
from bench.timing import device_ceilings
from bench.timing.device_ceilings import DeviceCeiling
from tests.bench import device_clock, device_kernels
from tests.stand_in import memory, modules

SPEED = 1e12  # FLOP/s and B/s of the device that is none


class Module:
    """What the source's functions would do: take their time."""

    def __init__(self, code, options=()):
        self.names = re.findall(r'extern "C" __global__ void (\w+)\(', code)

    def get_function(self, name):
        assert name in self.names

        def launch(grid, block, arguments):
            threads = grid[0] * block[0]
            if name.startswith("chains"):
                work = 2 * 8 * device_ceilings.CHAINS * int(arguments[2]) * threads
            else:
                work = int(arguments[2]) * int(arguments[3]) * (32 if name == "copy" else 16)
                assert arguments[0].nbytes >= 16 * int(arguments[2])
            device_clock.seconds += work / SPEED

        return launch


@pytest.fixture
def cupy(monkeypatch):
    monkeypatch.setattr(memory.Event, "_now", device_clock.now)
    monkeypatch.setitem(modules.PROPERTIES, "l2CacheSize", 1 << 16)
    monkeypatch.setattr(modules.runtime, "memGetInfo", lambda: (1 << 22, 1 << 22))
    monkeypatch.setattr(device_ceilings, "SIZES", (64, 32))
    caches = (gpu.facts, device_ceilings._module)
    for cached in caches:
        cached.cache_clear()
    with modules.installed() as stand_in:
        monkeypatch.setattr(stand_in, "RawModule", Module)
        yield stand_in
    for cached in caches:
        cached.cache_clear()


@pytest.mark.parametrize("name", [*plans.BANDWIDTHS, "cuda-float32"])
def test_work_over_the_devices_time(cupy, name):
    """Whatever the host needs for it."""
    ceiling = DeviceCeiling(name)
    seconds, work = ceiling.sample()
    assert work / seconds == pytest.approx(SPEED, rel=1e-3)
    assert ceiling.unit == ("FLOP" if name == "cuda-float32" else "B")


def test_a_copy_moves_every_byte_twice():
    """Loaded once and stored once."""
    assert "cuda-dram-copy" in plans.BANDWIDTHS
    assert not any(name.startswith("dram") for name in plans.BANDWIDTHS), "that is the CPU's name"


def test_tensor_cores_are_asked_by_the_best_kernel_that_is_here(cupy, monkeypatch):
    """One that is not available, unknown, or fails, is left out; if none is left that is said."""
    fast = device_kernels.kernel(
        device_kernels.by_tensor_cores, "fast", signatures=device_kernels.HALF.signatures
    )
    slow = device_kernels.kernel(
        lambda *operands: (device_kernels.by_tensor_cores(*operands), device_kernels.by_tensor_cores(*operands)),
        "slow", signatures=device_kernels.HALF.signatures,
    )  # fmt: skip
    known = {
        "fast": fast,
        "slow": slow,
        "missing": device_kernels.kernel(None, "missing", probe=lambda: "not here"),
    }
    real = gemm.find
    monkeypatch.setattr(
        device_ceilings.gemm, "find", lambda name: known[name] if name in known else real(name)
    )
    monkeypatch.setitem(device_ceilings.BEST, "float16", ("missing", "no such kernel", "slow", "fast"))
    seconds, work = DeviceCeiling("cuda-float16").sample()
    assert work / seconds == pytest.approx(2 * 64**3 / device_kernels.TAKES_S, rel=1e-2)
    monkeypatch.setitem(device_ceilings.BEST, "float16", ("missing",))
    with pytest.raises(ValueError, match="no kernel here can tell what the device does in float16"):
        DeviceCeiling("cuda-float16")


def test_every_ceiling_of_a_kernels_arithmetic_can_be_measured():
    """What a signature or `multiplies` names has a way."""
    for kernel in gemm.kernels():
        if kernel.device == "cuda":
            for signature in kernel.signatures:
                what = kernel.multiplies or signature.input
                assert what in device_ceilings.CORES or device_ceilings.BEST[what]


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90a"])
def test_the_source_compiles(architecture, tmp_path):
    """By NVRTC, without a GPU; no function keeps anything in local memory."""
    from gemm.cuda import build

    if not build.libraries():
        pytest.skip("NVRTC is not here; the tests' extra brings it")
    file = tmp_path / "ceilings.cu"
    file.write_text(device_ceilings.SOURCE)
    nvrtc = build.compiler()
    _, log = nvrtc.compile(file, [f"--gpu-architecture={architecture}", *build.OPTIONS], architecture)
    for function in ("chains_float32", "chains_float64", "copy", "read"):
        assert build.report_of(log, function).spills == 0
        assert build.report_of(log, function).stack == 0
