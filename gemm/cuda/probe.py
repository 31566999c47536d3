"""Why CUDA kernels cannot run here, where they cannot: cheap looks, without importing CuPy."""

from __future__ import annotations

import ctypes
from importlib import metadata
from typing import NamedTuple

WHEELS = ("cupy-cuda13x", "cupy-cuda12x", "cupy")
# Of cuDeviceGetAttribute.
PROCESSORS, MAJOR, MINOR = 16, 75, 76


class Device(NamedTuple):
    """The first CUDA device: its name, its compute capability (9, 0), its multiprocessors."""

    name: str
    capability: tuple[int, int]
    processors: int


def cupy_or_device_missing() -> str | None:
    """CuPy, driver, device, in this order; None: all there. CuPy's own message blames the driver's version, always."""
    installed = [wheel for wheel in WHEELS if version_of(wheel)]
    if not installed:
        return "CuPy is not installed; pip install 'gemmlab[cuda13]' (or [cuda12] for CUDA 12 drivers)"
    if len(installed) > 1:
        return f"{' and '.join(installed)} are installed over each other; keep one of them"
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return f"{installed[0]} is installed and there is no NVIDIA driver (libcuda.so.1 was not found)"
    if _devices(driver) == 0:
        return "there is an NVIDIA driver and no CUDA device that this process can use"
    return None


def unavailable(since: str) -> str | None:
    """Why a kernel of ours that needs an architecture (sm_80 or later; sm_90a: no other) cannot run here, or None."""
    if reason := cupy_or_device_missing():
        return reason
    found = device()
    if found is not None and not runs(since, found.capability):
        has, needs = (".".join(map(str, number)) for number in (found.capability, _capability(since)))
        only = " and no other" if since.endswith("a") else " or later"
        return f"{found.name} has compute capability {has}, and this kernel needs {needs}{only}"
    from gemm.cuda import build

    if not build.libraries():
        wheel = "nvidia-cuda-nvrtc (nvidia-cuda-nvrtc-cu12 for CUDA 12)"
        return f"NVRTC, which compiles it, was not found; pip install {wheel}"
    return None


def runs(since: str, capability: tuple[int, int]) -> bool:
    """Whether code that needs `since` runs on a device: sm_80 on it and on later ones, sm_90a on 9.0 alone."""
    needs = _capability(since)
    return capability == needs if since.endswith("a") else capability >= needs


def _capability(architecture: str) -> tuple[int, int]:
    """Of "sm_90a": 9, 0."""
    number = architecture.removeprefix("sm_").rstrip("a")
    return int(number[:-1]), int(number[-1])


def device() -> Device | None:
    """The first device, by the driver's library alone; None where there is none."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    if _devices(driver) == 0:
        return None
    name, handle = ctypes.create_string_buffer(256), ctypes.c_int(0)
    driver.cuDeviceGet(ctypes.byref(handle), 0)
    driver.cuDeviceGetName(name, len(name), handle)
    values = []
    for attribute in (MAJOR, MINOR, PROCESSORS):
        value = ctypes.c_int(0)
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, handle)
        values.append(value.value)
    return Device(name.value.decode(errors="replace"), (values[0], values[1]), values[2])


def _devices(driver: ctypes.CDLL) -> int:
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def version_of(wheel: str) -> str | None:
    try:
        return metadata.version(wheel)
    except metadata.PackageNotFoundError:
        return None
