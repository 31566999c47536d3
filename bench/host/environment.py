"""Environment: what a reader needs to know of this machine to understand a number a year later.

The hardware is in bench/host/hardware.py, the limits set on this process in bench/host/cgroups.py; here the system,
the software, and everything together.
"""

from __future__ import annotations

import getpass
import os
import platform
import socket
import subprocess
import sys
from importlib import metadata, util
from pathlib import Path
from typing import Any

from bench.host import cgroups
from bench.host.cgroups import quota_cores
from bench.host.hardware import (
    cache_instances,
    caches,
    cpu,
    frequency,
    gpus,
    last_cache,
    numa,
    or_none,
    read,
    stream_size,
)
from bench.records import SCHEMA, Line, now

__all__ = [
    "available_memory",
    "blas",
    "cache_instances",
    "caches",
    "cpu",
    "environment",
    "last_cache",
    "libraries",
    "quota_cores",
    "stream_size",
    "threading_layer",
]

PACKAGES = (
    "gemmlab", "numpy", "numba", "llvmlite", "scipy", "scikit-learn", "threadpoolctl", "psutil", "ml_dtypes",
    "mkl", "tbb", "intel-openmp", "blis", "cupy-cuda12x", "cupy-cuda13x", "nvidia-ml-py",
    "nvidia-cuda-nvrtc", "nvidia-cublas", "torch", "tensorflow", "jax", "jaxlib",
    "dask",
)  # fmt: skip
# Variables whose value changes what is measured, by prefix.
VARIABLES = (
    "OMP_", "GOMP_", "KMP_", "OPENBLAS_", "GOTO_", "MKL_", "BLIS_", "BLAS_", "VECLIB_", "ATLAS_", "NUMBA_",
    "NPY_", "GEMMLAB_", "CUDA_", "CUPY_", "NVIDIA_TF32_OVERRIDE", "TORCH_", "PYTORCH_", "DASK_",
    "MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_BIND_NOW", "JE_MALLOC", "_RJEM_", "MIMALLOC_",
    "TCMALLOC_", "PYTHONMALLOC", "PYTHONHASHSEED", "PYTHONOPTIMIZE", "PYTHONDEVMODE", "PYTHON_GIL", "PYTHON_JIT",
)  # fmt: skip
# Words of the kernel's command line that change what is measured, by prefix; the rest is nobody's business.
KERNEL_OPTIONS = (
    "mitigations", "spectre", "spec_", "pti", "nopti", "nospectre", "nospec", "retbleed", "l1tf", "mds", "tsx",
    "srbds", "mmio_stale", "gather_data", "kvm.", "nosmt", "maxcpus", "nr_cpus", "isolcpus", "nohz", "rcu_nocb",
    "irqaffinity", "idle", "processor.", "intel_idle.", "intel_pstate", "amd_pstate", "cpufreq.", "cpuidle",
    "transparent_hugepage", "hugepages", "default_hugepagesz", "numa_balancing", "numa", "clocksource", "tsc",
    "preempt", "norandmaps", "nokaslr", "init_on_",
)  # fmt: skip


def environment(run: str, command: list[str]) -> Line:
    """Everything about the machine and the software that the run records; unknown things are None."""
    import psutil

    clocks = frequency()
    return {
        "schema": SCHEMA,
        "run": run,
        "time": now(),
        "command": command,
        "host": or_none(socket.gethostname),
        "user": or_none(getpass.getuser),
        "cwd": or_none(lambda: str(Path.cwd())),
        "cpu": cpu(),
        "frequency_mhz": clocks["current_mhz"],
        "governor": clocks["governor"],
        "frequency": clocks,
        "numa": numa(),
        "memory_bytes": psutil.virtual_memory().total,
        "swap_bytes": or_none(lambda: psutil.swap_memory().total),
        "os": _os_name(),
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()).strip() or None,
        **_system(),
        "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "quota_cores": quota_cores(),
        "memory_limit_bytes": cgroups.memory_limit(),
        "cgroup_version": cgroups.version(),
        "load": or_none(lambda: list(os.getloadavg())),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "executable": sys.executable,
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "blas": blas(),
        "libraries": libraries(),
        "numba_threading": _numba_threading(),
        "variables": {key: value for key, value in sorted(os.environ.items()) if key.startswith(VARIABLES)},
        "git": _revision(),
        "gpu": gpus(),
    }


def available_memory() -> int:
    """Bytes that can still be had: what the system calls available, within the control groups' limits."""
    import psutil

    free, left = psutil.virtual_memory().available, cgroups.memory_left()
    return free if left is None else min(free, left)


def libraries() -> list[dict[str, Any]]:
    """Every BLAS and OpenMP loaded in this process: api, name, version, core type, threads, path.

    What the libraries of the kernels `cblas:*` and `torch` say of themselves comes first: threadpoolctl knows some
    of them, by the names of their files.
    """
    from threadpoolctl import threadpool_info

    from gemm.vendors.opening import identities

    own = identities()
    known = {library["path"] for library in own}
    return own + [
        {
            "api": pool.get("user_api"),
            "name": pool.get("internal_api"),
            "version": pool.get("version"),
            "core_type": pool.get("architecture"),
            "threads": pool.get("num_threads"),
            "path": pool.get("filepath"),
        }
        for pool in threadpool_info()
        if os.path.realpath(pool.get("filepath") or "") not in known
    ]


def blas() -> list[dict[str, Any]]:
    """Every BLAS loaded in this process, as `libraries` has them."""
    return [library for library in libraries() if library["api"] == "blas"]


def threading_layer() -> str | None:
    """Numba's threading layer (omp, tbb, workqueue) if this process has launched one; never launches it."""
    numba = sys.modules.get("numba")
    return or_none(numba.threading_layer) if numba else None


def _numba_threading() -> dict[str, Any]:
    """The layer asked for, and those that Numba was built with and whose library is here; none is started."""
    spec = or_none(lambda: util.find_spec("numba"))
    folder = Path(spec.origin).parent / "np/ufunc" if spec and spec.origin else Path()
    modules = {"tbb": "tbbpool", "omp": "omppool", "workqueue": "workqueue"}
    built = [layer for layer, module in modules.items() if any(folder.glob(f"{module}.*"))]
    tbb = _version("tbb") or any(Path(sys.prefix, "lib").glob("libtbb*"))
    return {
        "layer": os.environ.get("NUMBA_THREADING_LAYER", "default"),
        "priority": os.environ.get("NUMBA_THREADING_LAYER_PRIORITY", "tbb omp workqueue").split(),
        "available": [layer for layer in built if layer != "tbb" or tbb],
    }


def _system() -> dict[str, Any]:
    """The kernel's settings that move a measurement."""
    weak = {
        path.name: read(path) for path in sorted(Path("/sys/devices/system/cpu/vulnerabilities").glob("*"))
    }
    options = [word for word in (read("/proc/cmdline") or "").split() if word.startswith(KERNEL_OPTIONS)]
    aslr = read("/proc/sys/kernel/randomize_va_space")
    return {
        "kernel_options": options,
        "mitigations": {name: text for name, text in weak.items() if text and text != "Not affected"},
        "transparent_huge_pages": read("/sys/kernel/mm/transparent_hugepage/enabled"),
        "transparent_huge_pages_defrag": read("/sys/kernel/mm/transparent_hugepage/defrag"),
        "clock_source": read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "numa_balancing": read("/proc/sys/kernel/numa_balancing"),
        "aslr": int(aslr) if aslr and aslr.isdecimal() else None,
    }


def _os_name() -> str:
    release = or_none(platform.freedesktop_os_release) or {}
    return release.get("PRETTY_NAME") or f"{platform.system()} {platform.release()}"


def _revision() -> dict[str, Any] | None:
    """The git commit of the source that runs, and whether files were changed; None if it is no checkout."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=40", "--exclude=*"],
            capture_output=True, text=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    commit = head.stdout.strip()
    return {"commit": commit.rstrip("+"), "dirty": commit.endswith("+")} if commit else None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
