"""GPU: what the device is that CuPy multiplies on, what memory it has left, and its clocks at this moment.

What it is, the CUDA runtime tells through CuPy; what it is doing, NVIDIA's management library (NVML) through
nvidia-ml-py, if that is installed. What neither tells is None, or left out: nothing here raises.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

# NVML's reasons for a lower clock that are no fault: nothing to do, a clock that somebody has set, a clock that follows
# another GPU's.
HARMLESS = ("gpu idle", "applications clocks", "sync boost", "display clock")
# Bits of nvmlDeviceGetCurrentClocksEventReasons (nvml.h), in its words.
REASONS = {
    0x1: "gpu idle", 0x2: "applications clocks", 0x4: "power cap", 0x8: "hardware slowdown", 0x10: "sync boost",
    0x20: "temperature (software)", 0x40: "temperature (hardware)", 0x80: "power brake", 0x100: "display clock",
}  # fmt: skip
# Beyond this many bytes of L2 twice, nobody's cache reaches; where the device does not tell.
L2_BYTES = 64 << 20


@cache
def facts() -> dict[str, Any] | None:
    """name, capability ("9.0"), sms, l2_bytes, memory_bytes, clock_mhz (the highest) of the current device, or None."""
    try:
        import cupy

        number = int(cupy.cuda.Device().id)
        known = cupy.cuda.runtime.getDeviceProperties(number)
    except Exception:  # noqa: BLE001 - no CuPy, no driver, no device: each its own kind of error
        return None
    name = known.get("name")
    clock = known.get("clockRate")
    major, minor = known.get("major"), known.get("minor")
    return {
        "name": name.decode() if isinstance(name, bytes) else name,
        "capability": None if major is None else f"{major}.{minor}",
        "sms": known.get("multiProcessorCount"),
        "l2_bytes": known.get("l2CacheSize"),
        "memory_bytes": known.get("totalGlobalMem"),
        "clock_mhz": clock / 1e3 if clock else None,
        "cuda": _versions(cupy),
    }


def l2_bytes() -> int:
    """Of the device's last cache."""
    return int((facts() or {}).get("l2_bytes") or L2_BYTES)


def free_memory() -> int | None:
    """Bytes that can still be had on the device; None where nobody tells."""
    if (
        seen := _through_nvml(lambda nvml, device: int(nvml.nvmlDeviceGetMemoryInfo(device).free))
    ) is not None:
        return int(seen)
    try:
        import cupy

        return int(cupy.cuda.Device().mem_info[0])
    except Exception:  # noqa: BLE001 - as in `facts`
        return None


def now() -> dict[str, Any]:
    """sm_mhz, memory_mhz, power_w, temperature_c, throttled (reasons) at this moment; {} without NVML."""
    found = {name: _through_nvml(ask) for name, ask in ASKED.items()}
    return {name: value for name, value in found.items() if value is not None}


def limits() -> dict[str, Any]:
    """What NVML says of the device that stays as it is: name, driver, power limit, highest clocks; {} without it."""
    found = {name: _through_nvml(ask) for name, ask in KEPT.items()}
    return {name: value for name, value in found.items() if value is not None}


def _reasons(nvml: Any, device: Any) -> list[str]:
    """Why the clock is lower than it could be, where the reason is one that spoils a measurement."""
    ask = getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None)
    bits = int((ask or nvml.nvmlDeviceGetCurrentClocksThrottleReasons)(device))
    return [said for bit, said in REASONS.items() if bits & bit and said not in HARMLESS]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


ASKED = {
    "sm_mhz": lambda nvml, device: nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_SM),
    "memory_mhz": lambda nvml, device: nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_MEM),
    "power_w": lambda nvml, device: nvml.nvmlDeviceGetPowerUsage(device) / 1e3,
    "temperature_c": lambda nvml, device: nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU),
    "throttled": _reasons,
}
KEPT = {
    "name": lambda nvml, device: _text(nvml.nvmlDeviceGetName(device)),
    "driver": lambda nvml, device: _text(nvml.nvmlSystemGetDriverVersion()),
    "memory_bytes": lambda nvml, device: int(nvml.nvmlDeviceGetMemoryInfo(device).total),
    "power_limit_w": lambda nvml, device: nvml.nvmlDeviceGetEnforcedPowerLimit(device) / 1e3,
    "max_mhz": lambda nvml, device: nvml.nvmlDeviceGetMaxClockInfo(device, nvml.NVML_CLOCK_SM),
    "max_memory_mhz": lambda nvml, device: nvml.nvmlDeviceGetMaxClockInfo(device, nvml.NVML_CLOCK_MEM),
}


def _through_nvml(ask: Any) -> Any:
    """What NVML answers; None where it is not there, or not for this device."""
    opened = _nvml()
    if opened is None:
        return None
    try:
        return ask(*opened)
    except Exception:  # noqa: BLE001 - what a card or a driver does not support is an error of NVML's own kinds
        return None


@cache
def _nvml() -> tuple[Any, Any] | None:
    """The module and the device's handle: CUDA and NVML number devices differently, so by its place on the bus."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # noqa: BLE001 - not installed, no driver, no permission
        return None
    try:
        import cupy

        return pynvml, pynvml.nvmlDeviceGetHandleByPciBusId(cupy.cuda.Device().pci_bus_id)
    except Exception:  # noqa: BLE001 - no CuPy: the first device, which is the only one most of the time
        try:
            return pynvml, pynvml.nvmlDeviceGetHandleByIndex(0)
        except Exception:  # noqa: BLE001 - and not even that
            return None


def _versions(cupy: Any) -> str | None:
    """ "13.0, driver 13.0": the CUDA that CuPy was built for, and the newest that the driver knows."""
    try:
        runtime = cupy.cuda.runtime
        built, driver = runtime.runtimeGetVersion(), runtime.driverGetVersion()
    except Exception:  # noqa: BLE001 - as in `facts`
        return None
    return f"{built // 1000}.{built % 1000 // 10}, driver {driver // 1000}.{driver % 1000 // 10}"


def loaded() -> bool:
    """Whether this process has imported CuPy: only then there may be something to say of a device."""
    return "cupy" in sys.modules
