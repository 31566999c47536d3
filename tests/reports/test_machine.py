"""What is on record about a machine becomes words, and what is not known is left out."""

from __future__ import annotations

from typing import Any

from reports.machine import machine

ENVIRONMENT: dict[str, Any] = {
    "cpu": {
        "model": "EPYC", "cores": 2, "logical": 4, "family": "25", "model_number": "17", "stepping": "1",
        "microcode": "0x10", "hypervisor": "KVM", "caches": {"L1d": 32768, "L3": 2**25},
        "caches_shared_by": {"L1d": ["0", "1"], "L3": ["0-1"]},
    },
    "frequency": {"driver": "acpi", "boost": False, "min_mhz": 1500.0, "max_mhz": 3700.0, "preference": None},
    "governor": "performance",
    "memory_bytes": 2**33, "memory_limit_bytes": 2**32, "swap_bytes": 0, "numa": [{"node": 0}, {"node": 1}],
    "transparent_huge_pages": "always [madvise] never", "transparent_huge_pages_defrag": None, "aslr": 0,
    "clock_source": "tsc", "numa_balancing": "1", "kernel_options": ["nohz_full=1"], "libc": "glibc 2.36",
    "mitigations": {"spectre_v2": "Mitigation: Retpolines"},
    "numba_threading": {"layer": "tbb", "priority": ["tbb", "omp"], "available": ["omp"]},
    "gpu": [
        {"name": "H200", "driver": "570", "memory_bytes": 2**37, "power_limit_w": "700", "compute_capability": "9.0"}
    ],
    "git": {"commit": "0123", "dirty": True},
    "blas": [{"name": "mkl", "version": "2025"}],
}  # fmt: skip


def test_every_field_has_its_words() -> None:
    assert dict(machine(ENVIRONMENT)) == {
        "processor": "EPYC, 2 cores, 4 threads",
        "stepping": "family 25, model 17, stepping 1, microcode 0x10",
        "hypervisor": "KVM",
        "caches": "L1d 32 KiB, L3 32 MiB shared by cores 0-1",
        "memory": "8 GiB, limited to 4 GiB, 2 nodes",
        "clock": "governor performance, driver acpi, does not boost, 1.50 to 3.70 GHz",
        "system": "glibc 2.36",
        "pages": "transparent huge pages madvise, NUMA balancing, address randomisation 0, clock source tsc",
        "kernel options": "nohz_full=1",
        "mitigations": "spectre_v2: Mitigation: Retpolines",
        "BLAS": "mkl 2025",
        "threads of Numba": "layer tbb, available omp",
        "GPU": "H200, 128 GiB, driver 570, compute capability 9.0, at most 700 W",
        "git": "0123, with changes that are not in it",
    }


def test_what_the_workers_had_loaded_stands_instead_of_the_parents() -> None:
    """Each library once, with the kernels that had it."""
    openblas = {"name": "openblas", "version": "0.3.31", "core_type": "Zen", "path": "/lib/x.so"}
    workers = [
        {"kernel": "python", "libraries": [openblas | {"threads": 1}], "threading_layer": None},
        {"kernel": "blas", "libraries": [openblas | {"threads": 2}], "threading_layer": None},
        {"kernel": "numba-blocked", "libraries": [{"name": "openmp"}], "threading_layer": "omp"},
        {"kernel": "blas", "libraries": "none"},
    ]
    lines = machine(ENVIRONMENT, workers)
    assert [text for label, text in lines if label == "loaded"] == [
        "openblas 0.3.31, Zen, /lib/x.so (by python, blas)",
        "openmp (by numba-blocked)",
        "Numba's threads from omp (by numba-blocked)",
    ]
    assert "BLAS" not in dict(lines)
