"""Environment: what a reader needs to know of this machine to understand a number a year later."""

from __future__ import annotations

import getpass
import os
import platform
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.records import SCHEMA, Line, now
from gemm.threads import available_cores

PACKAGES = (
    "gemmlab",
    "numpy",
    "numba",
    "llvmlite",
    "scipy",
    "scikit-learn",
    "cupy-cuda12x",
    "cupy-cuda13x",
    "torch",
)
# Variables whose value changes what is measured, by prefix.
VARIABLES = (
    "OMP_", "OPENBLAS_", "MKL_", "BLIS_", "NUMBA_", "GEMMLAB_", "GOMP_", "KMP_", "CUDA_", "CUPY_", "MALLOC_",
    "LD_PRELOAD",
)  # fmt: skip


def environment(run: str, command: list[str]) -> Line:
    """Everything about the machine and the software that the run records; unknown things are None."""
    import psutil

    return {
        "schema": SCHEMA,
        "run": run,
        "time": now(),
        "command": command,
        "host": socket.gethostname(),
        "user": _or_none(getpass.getuser),
        "cwd": str(Path.cwd()),
        "cpu": cpu(),
        "memory_bytes": psutil.virtual_memory().total,
        "os": _os_name(),
        "kernel": platform.release(),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "frequency_mhz": _or_none(lambda: psutil.cpu_freq().current),
        "transparent_huge_pages": _read("/sys/kernel/mm/transparent_hugepage/enabled"),
        "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "quota_cores": quota_cores(),
        "load": _or_none(lambda: list(os.getloadavg())),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "executable": sys.executable,
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "blas": blas(),
        "variables": {key: value for key, value in sorted(os.environ.items()) if key.startswith(VARIABLES)},
        "git": _revision(),
        "gpu": _gpu(),
    }


def cpu() -> dict[str, Any]:
    """Model, family, stepping, cores, cache sizes in bytes, vector instruction sets."""
    fields = _cpuinfo()
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    known = ("avx512f", "avx512_bf16", "amx_tile", "avx2", "fma", "avx", "sse4_2", "asimd", "sve")
    return {
        "model": fields.get("model name") or platform.processor() or platform.machine(),
        "family": fields.get("cpu family"),
        "model_number": fields.get("model"),
        "stepping": fields.get("stepping"),
        "cores": available_cores(),
        "logical": os.cpu_count(),
        "caches": caches(),
        "isa": [name for name in known if name in flags],
    }


def caches() -> dict[str, int]:
    """Bytes of each cache of core 0, {"L1d": ..., "L2": ..., "L3": ...}; {} where the system does not tell."""
    sizes: dict[str, int] = {}
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (_read(folder / name) for name in ("level", "type", "size"))
        if level and kind and size and kind != "Instruction":
            sizes[f"L{level}{'d' if kind == 'Data' else ''}"] = int(size[:-1]) * units.get(size[-1], 1)
    return sizes


def last_cache() -> int:
    """Bytes of the largest cache (32 MiB where the system does not tell)."""
    return max(caches().values(), default=32 << 20)


def stream_size(last_cache: int) -> int:
    """Bytes of a buffer that no cache holds: four times the last one."""
    return max(4 * last_cache, 64 << 20)


def quota_cores() -> float | None:
    """Cores that the control group allows, or None if it sets no limit."""
    text = _read("/sys/fs/cgroup/cpu.max")
    if text and not text.startswith("max"):
        quota, period = text.split()
        return int(quota) / int(period)
    return None


def available_memory() -> int:
    """Bytes that can still be had: what the system calls available, within the control group's limit."""
    import psutil

    free = psutil.virtual_memory().available
    limit, used = _read("/sys/fs/cgroup/memory.max"), _read("/sys/fs/cgroup/memory.current")
    if limit and used and limit.isdigit():
        free = min(free, int(limit) - int(used))
    return free


def blas() -> list[dict[str, Any]]:
    """Every BLAS and OpenMP loaded in this process."""
    from threadpoolctl import threadpool_info

    return [
        {
            "name": pool.get("internal_api"),
            "version": pool.get("version"),
            "core_type": pool.get("architecture"),
            "threads": pool.get("num_threads"),
            "path": pool.get("filepath"),
        }
        for pool in threadpool_info()
    ]


def _cpuinfo() -> dict[str, str]:
    lines = (_read("/proc/cpuinfo") or "").split("\n\n")[0].splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _os_name() -> str:
    release = _or_none(platform.freedesktop_os_release) or {}
    return release.get("PRETTY_NAME") or f"{platform.system()} {platform.release()}"


def _revision() -> str | None:
    """The git revision of the source that runs, + where files were changed; None if it is no checkout."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"],
            capture_output=True, text=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() or None


def _gpu() -> str | None:
    text = _read("/proc/driver/nvidia/version")
    names = [_read(path) for path in Path("/proc/driver/nvidia/gpus").glob("*/information")]
    models = [line.split(":", 1)[1].strip() for name in names if name for line in name.splitlines()[:1]]
    return f"{', '.join(models)} ({text.splitlines()[0]})" if text else None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _read(path: str | Path) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _or_none(function: Any) -> Any:
    """What a system may not offer (a missing file, call or attribute) is None in the record."""
    try:
        return function()
    except (OSError, AttributeError, KeyError, NotImplementedError):
        return None
