"""Hardware: processor, caches, memory nodes, clock rates and GPU, as the system describes them.

Which processor it is and what caches it has, `gemm` asks too: that is in gemm/processor.py. Whatever the system does
not tell is None (or left out): nothing here raises on another machine.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

from gemm import processor
from gemm.processor import caches, caches_of, cpuinfo, read
from gemm.threads import available_cores

ISA = (
    "avx512f", "avx512_bf16", "avx512_fp16", "amx_tile", "avx2", "fma", "avx", "sse4_2", "asimd", "sve", "sve2",
)  # fmt: skip
LAST_CACHE = 32 << 20  # where the system does not tell


def cpu() -> dict[str, Any]:
    """Model, family, stepping, microcode, cores, hypervisor, caches in bytes, vector instruction sets."""
    fields = cpuinfo()
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    return {
        "model": fields.get("model name") or platform.processor() or platform.machine(),
        "vendor": fields.get("vendor_id"),
        "family": fields.get("cpu family"),
        "model_number": fields.get("model"),
        "stepping": fields.get("stepping"),
        "microcode": fields.get("microcode"),
        "hypervisor": _hypervisor(flags),
        "cores": available_cores(),
        "logical": os.cpu_count(),
        "threads_per_core": _threads_per_core(),
        "smt": read(processor.SYSTEM / "cpu/smt/control"),
        "caches": caches(),
        "caches_shared_by": caches_shared_by(),
        "isa": [name for name in ISA if name in flags],
    }


def caches_shared_by() -> dict[str, list[str]]:
    """The CPUs that share each cache among those this process may use: {"L2": ["0", "1"], "L3": ["0-1"]}."""
    found: dict[str, dict[str, None]] = {}
    for number in _cpus():
        for name, _, shared in caches_of(number):
            found.setdefault(name, {})[shared] = None
    return {name: list(shared) for name, shared in found.items()}


def cache_instances() -> dict[str, int]:
    """How many caches of each level this process may use: {"L1d": 2, "L2": 2, "L3": 1}."""
    return {name: len(shared) for name, shared in caches_shared_by().items()}


def last_cache() -> int:
    """Bytes of the largest level, over all its caches that this process may use."""
    instances = cache_instances()
    return max((size * instances.get(name, 1) for name, size in caches().items()), default=LAST_CACHE)


def stream_size(last_cache: int) -> int:
    """Bytes of a buffer that no cache holds: four times the last one."""
    return max(4 * last_cache, 64 << 20)


def numa() -> list[dict[str, Any]]:
    """Memory nodes: number, CPUs ("0-7") and bytes; [] where the system does not tell."""
    nodes = []
    folders = (path for path in processor.SYSTEM.glob("node/node*") if path.name[4:].isdecimal())
    for folder in sorted(folders, key=lambda path: int(path.name[4:])):
        lines = (read(folder / "meminfo") or "").splitlines()
        total = next((line.split() for line in lines if "MemTotal:" in line), ["", "0"])
        nodes.append(
            {
                "node": int(folder.name[4:]),
                "cpus": read(folder / "cpulist"),
                "memory_bytes": int(total[-2]) * 1024 or None,
            }
        )
    return nodes


def frequency() -> dict[str, Any]:
    """Clock rates in MHz, whether the CPU may boost, and what governs it."""
    import psutil

    policy = processor.SYSTEM / "cpu/cpu0/cpufreq"
    clock = or_none(psutil.cpu_freq)
    boost, no_turbo = (
        read(processor.SYSTEM / "cpu/cpufreq/boost"),
        read(processor.SYSTEM / "cpu/intel_pstate/no_turbo"),
    )
    return {
        "current_mhz": clock.current if clock else None,
        "min_mhz": (clock.min or None) if clock else None,
        "max_mhz": (clock.max or None) if clock else None,
        "boost": boost == "1" if boost else no_turbo == "0" if no_turbo else None,
        "governor": read(policy / "scaling_governor"),
        "driver": read(policy / "scaling_driver"),
        "preference": read(policy / "energy_performance_preference"),
    }


def gpus() -> list[dict[str, Any]]:
    """NVIDIA's GPUs: name, driver, memory in bytes, clocks' limit; [] where there are none."""
    asked = ("name", "driver_version", "memory.total", "clocks.max.sm", "power.limit", "compute_cap")
    rows = _command("nvidia-smi", f"--query-gpu={','.join(asked)}", "--format=csv,noheader,nounits")
    found = []
    for row in (rows or "").splitlines():
        values = [None if value.strip("[] ") in ("N/A", "") else value.strip() for value in row.split(",")]
        if len(values) == len(asked):
            name, driver, memory, clock, power, capability = values
            size = int(memory) << 20 if memory and memory.isdecimal() else None
            found.append(
                {
                    "name": name, "driver": driver, "memory_bytes": size, "max_mhz": clock,
                    "power_limit_w": power, "compute_capability": capability,
                }
            )  # fmt: skip
    return found or _gpus_of_the_driver()


def or_none(function: Callable[[], Any]) -> Any:
    """What a system may not offer (a missing file, call or attribute) is None in the record."""
    try:
        return function()
    except (OSError, AttributeError, KeyError, NotImplementedError, RuntimeError, ValueError):
        return None


def _cpus() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _threads_per_core() -> int | None:
    siblings = read(processor.SYSTEM / "cpu/cpu0/topology/thread_siblings_list")
    if not siblings:
        return None
    spans = [part.partition("-") for part in siblings.split(",")]
    return sum(int(last or first) - int(first) + 1 for first, _, last in spans)


def _hypervisor(flags: set[str]) -> str | None:
    """What runs this machine, if it is a virtual one: "KVM", or "yes" where nothing tells the name."""
    if "hypervisor" not in flags:
        return None
    lines = (_command("lscpu") or "").splitlines()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("Hypervisor vendor:"))
    return next(named, None) or read("/sys/hypervisor/type") or read("/sys/class/dmi/id/sys_vendor") or "yes"


def _gpus_of_the_driver() -> list[dict[str, Any]]:
    """What the driver alone tells: names and its version."""
    version = (read(processor.PROC / "driver/nvidia/version") or "").splitlines()
    found = []
    for path in sorted((processor.PROC / "driver/nvidia/gpus").glob("*/information")):
        models = [line for line in (read(path) or "").splitlines() if line.startswith("Model:")]
        name = models[0].partition(":")[2].strip() if models else None
        found.append({"name": name, "driver": version[0] if version else None, "memory_bytes": None})
    return found


def _command(*words: str) -> str | None:
    """What a program prints; None where it is not there, fails, or takes longer than ten seconds."""
    if not shutil.which(words[0]):
        return None
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
            env=os.environ | {"LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None
