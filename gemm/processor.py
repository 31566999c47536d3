"""The processor as the system describes it: which one it is, and its caches.

Block sizes follow from these (`gemm/micro/blocking.py`), and `bench` records them. What the system does not tell is
None or left out: nothing here raises on another machine.
"""

from __future__ import annotations

import platform
from pathlib import Path

SYSTEM = Path("/sys/devices/system")
PROC = Path("/proc")
# What x86 calls vendor, family, model and stepping, and what ARM calls them in /proc/cpuinfo.
NAMES = {
    "vendor": ("vendor_id", "CPU implementer"),
    "family": ("cpu family", "CPU architecture"),
    "model": ("model", "CPU part"),
    "stepping": ("stepping", "CPU variant"),
}


def identity() -> dict[str, str | None]:
    """architecture, vendor, family, model, stepping: what tells one kind of processor from another."""
    fields = cpuinfo()
    found = {ours: next((fields[key] for key in keys if key in fields), None) for ours, keys in NAMES.items()}
    return {"architecture": platform.machine() or None, **found}


def caches() -> dict[str, int]:
    """Bytes of each cache of core 0, {"L1d": ..., "L2": ..., "L3": ...}; {} where the system does not tell."""
    return {name: size for name, size, _ in caches_of(0)}


def caches_of(number: int) -> list[tuple[str, int, str]]:
    """Name, bytes and the CPUs that share it of each data cache of a CPU."""
    found = []
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    for folder in sorted((SYSTEM / f"cpu/cpu{number}/cache").glob("index*")):
        level, kind, size = (read(folder / name) for name in ("level", "type", "size"))
        if level and kind and size and kind != "Instruction" and size.rstrip("KMG").isdecimal():
            name = f"L{level}{'d' if kind == 'Data' else ''}"
            size_bytes = int(size.rstrip("KMG")) * units.get(size[-1], 1)
            found.append((name, size_bytes, read(folder / "shared_cpu_list") or str(number)))
    return found


def cpuinfo() -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo."""
    lines = (read(PROC / "cpuinfo") or "").split("\n\n")[0].splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def read(path: str | Path) -> str | None:
    """A file's text without the white space around it; None where it cannot be read."""
    try:
        return Path(path).read_text(errors="replace").strip()
    except (OSError, ValueError):
        return None
