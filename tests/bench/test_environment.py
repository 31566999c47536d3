"""Environment: what is on record of a machine, also of machines that are not this one."""

import json
import os
import subprocess
import sys

import pytest

from bench.host import cgroups, environment, hardware
from bench.records import finite
from gemm import processor

KNOWN = (
    "cpu", "frequency", "governor", "numa", "memory_bytes", "swap_bytes", "kernel", "libc", "kernel_options",
    "mitigations", "transparent_huge_pages", "clock_source", "aslr", "affinity", "quota_cores",
    "memory_limit_bytes", "load", "python", "versions", "blas", "libraries", "numba_threading", "variables", "git",
    "gpu",
)  # fmt: skip


def machine(tmp_path, cgroup, mounts, files):
    """A fake /proc/self and fake control groups: `files` by their path below the mounts."""
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / "cgroup").write_text("\n".join(cgroup) + "\n")
    lines = [
        f"30 24 0:26 {root} {tmp_path}{mount} rw,nosuid - {kind} none rw,{options}"
        for root, mount, kind, options in mounts
    ]
    (proc / "mountinfo").write_text("22 1 254:0 / / rw - ext4 /dev/vda rw\n" + "\n".join(lines) + "\n")
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return proc


def test_version_2_limits_of_the_own_group_and_of_those_above_it(tmp_path):
    """The tightest holds; "max" is no limit."""
    proc = machine(
        tmp_path,
        ["0::/user.slice/job"],
        [("/", "/cg", "cgroup2", "nsdelegate")],
        {
            "cg/cgroup.controllers": "cpuset cpu io memory pids\n",
            "cg/user.slice/cpu.max": "150000 100000\n",
            "cg/user.slice/memory.max": "2000000\n",
            "cg/user.slice/memory.current": "1100000\n",
            "cg/memory.max": "max\n",
            "cg/user.slice/job/cpu.max": "max 100000\n",
            "cg/user.slice/job/memory.max": "1000000\n",
            "cg/user.slice/job/memory.current": "700000\n",
            "cg/user.slice/job/memory.stat": "anon 1\ninactive_file 200000\n",
        },
    )
    assert cgroups.quota_cores(proc) == 1.5
    assert cgroups.memory_limit(proc) == 1_000_000
    assert cgroups.memory_left(proc) == 500_000
    assert cgroups.version(proc) == 2
    assert cgroups.folders("cpu", proc) == [
        tmp_path / "cg" / path for path in ("user.slice/job", "user.slice", "")
    ]


def test_version_1_limits(tmp_path):
    """Each controller has a hierarchy of its own; -1 and the huge number are no limit."""
    proc = machine(
        tmp_path,
        ["4:memory:/job", "2:cpu,cpuacct:/job", "1:name=systemd:/", "0::/"],
        [
            ("/", "/cg/cpu,cpuacct", "cgroup", "cpu,cpuacct"),
            ("/", "/cg/memory", "cgroup", "memory"),
            ("/", "/cg/unified", "cgroup2", ""),
        ],
        {
            "cg/unified/cgroup.controllers": "\n",
            "cg/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "cg/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "cg/cpu,cpuacct/job/cpu.cfs_quota_us": "50000\n",
            "cg/cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
            "cg/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "cg/memory/memory.usage_in_bytes": "5\n",
            "cg/memory/job/memory.limit_in_bytes": "4096\n",
            "cg/memory/job/memory.usage_in_bytes": "5000\n",
        },
    )
    assert cgroups.quota_cores(proc) == 0.5
    assert cgroups.memory_limit(proc) == 4096
    assert cgroups.memory_left(proc) == 0  # used up, never less than nothing
    assert cgroups.version(proc) == 1
    (tmp_path / "cg/memory/job/memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert cgroups.memory_limit(proc) is None


@pytest.mark.parametrize("group", ["/docker/abc", "/", "/../..", "/elsewhere"])
def test_in_a_container_the_mount_shows_the_own_group(tmp_path, group):
    """Docker mounts the container's group as the root; the path in /proc is the host's, or a way out of it."""
    proc = machine(
        tmp_path,
        [f"2:cpu:{group}"],
        [("/docker/abc", "/cg", "cgroup", "cpu")],
        {"cg/cpu.cfs_quota_us": "200000\n", "cg/cpu.cfs_period_us": "100000\n"},
    )
    assert cgroups.quota_cores(proc) == 2.0
    assert cgroups.folders("cpu", proc) == [tmp_path / "cg"]


def test_no_control_groups_no_limits(tmp_path):
    """Nor where their files hold what nobody expects."""
    assert cgroups.quota_cores(tmp_path) is None
    assert cgroups.memory_left(tmp_path) is None
    assert cgroups.version(tmp_path) is None
    proc = machine(
        tmp_path,
        ["0::/"],
        [("/", "/cg", "cgroup2", "")],
        {"cg/cgroup.controllers": "cpu memory", "cg/cpu.max": "garbage", "cg/memory.max": "-3"},
    )
    assert cgroups.quota_cores(proc) is None
    assert cgroups.memory_limit(proc) is None


def test_available_memory_heeds_the_tightest_limit(monkeypatch):
    """The system's own figure where there is none."""
    monkeypatch.setattr(cgroups, "memory_left", lambda: 12345)
    assert environment.available_memory() == 12345
    monkeypatch.setattr(cgroups, "memory_left", lambda: None)
    assert environment.available_memory() > 1 << 20


def test_caches_are_counted_with_those_who_share_them(tmp_path, monkeypatch):
    """Four CPUs, two to a core, two last caches: a buffer that no cache holds is larger than all of them."""
    for number in range(4):
        for index, (level, kind, size, shared) in enumerate(
            [
                ("1", "Data", "48K", f"{number % 2},{number % 2 + 2}"),
                ("1", "Instruction", "32K", f"{number % 2},{number % 2 + 2}"),
                ("2", "Unified", "2M", f"{number % 2},{number % 2 + 2}"),
                ("3", "Unified", "36864K", f"{number % 2},{number % 2 + 2}"),
            ]
        ):
            folder = tmp_path / f"cpu/cpu{number}/cache/index{index}"
            folder.mkdir(parents=True)
            for name, text in (("level", level), ("type", kind), ("size", size), ("shared_cpu_list", shared)):
                (folder / name).write_text(text + "\n")
    topology = tmp_path / "cpu/cpu0/topology"
    topology.mkdir()
    (topology / "thread_siblings_list").write_text("0,2\n")
    monkeypatch.setattr(processor, "SYSTEM", tmp_path)
    monkeypatch.setattr(hardware, "_cpus", lambda: [0, 1, 2, 3])
    assert environment.caches() == {"L1d": 48 << 10, "L2": 2 << 20, "L3": 36 << 20}
    assert environment.cache_instances() == {"L1d": 2, "L2": 2, "L3": 2}
    assert hardware.caches_shared_by()["L3"] == ["0,2", "1,3"]
    assert environment.last_cache() == 72 << 20
    assert environment.cpu()["threads_per_core"] == 2
    monkeypatch.setattr(hardware, "_cpus", lambda: [0, 2])  # pinned to one of them
    assert environment.last_cache() == 36 << 20


def test_on_a_machine_that_tells_nothing_nothing_is_raised(tmp_path, monkeypatch):
    """No /sys, no /proc, no lscpu, no git: None or empty, and the record can still be written."""
    monkeypatch.setattr(processor, "SYSTEM", tmp_path)
    monkeypatch.setattr(processor, "PROC", tmp_path)
    monkeypatch.setattr(environment, "read", lambda path: None)
    monkeypatch.setenv("PATH", "")
    found = environment.environment("run", [])
    assert json.dumps(finite(found), allow_nan=False)
    assert found["cpu"]["caches"] == {}
    assert found["numa"] == []
    assert found["gpu"] == []
    assert found["git"] is None
    assert environment.last_cache() == hardware.LAST_CACHE
    assert environment.cache_instances() == {}


def test_what_explains_a_number_is_on_record():
    """Every subject of the issue's list, whether or not this machine tells it."""
    found = environment.environment("run", ["gemmlab"])
    assert not set(KNOWN) - set(found)
    assert set(found["versions"]) >= {"numpy", "numba", "scipy"}
    assert json.dumps(finite(found), allow_nan=False)


def test_the_rest_of_the_kernels_command_line_stays_out(monkeypatch):
    """It may hold addresses and keys."""
    line = "mitigations=off root=/dev/vda secret=1 isolcpus=2-3 quiet nohz_full=2-3"
    monkeypatch.setattr(environment, "read", lambda path: line if str(path) == "/proc/cmdline" else None)
    assert environment._system()["kernel_options"] == ["mitigations=off", "isolcpus=2-3", "nohz_full=2-3"]


def test_the_gpu_is_what_its_driver_says(monkeypatch):
    """One line per GPU; a field that the driver does not know is None."""
    rows = "NVIDIA H200, 570.1, 143771, 1980, 700.00, 9.0\nNVIDIA H200, 570.1, [N/A], 1980, [N/A], 9.0\n"
    monkeypatch.setattr(hardware, "_command", lambda *words: rows)
    first, second = hardware.gpus()
    assert first["name"] == "NVIDIA H200"
    assert first["memory_bytes"] == 143771 << 20
    assert second["memory_bytes"] is None
    assert second["power_limit_w"] is None


def test_a_program_that_fails_or_hangs_tells_nothing(monkeypatch):
    """A driver that does not answer must not stop a sweep."""

    def hang(*words, **settings):
        raise subprocess.TimeoutExpired(words, settings["timeout"])

    assert hardware._command("no-such-program") is None
    assert hardware._command("false") is None
    assert hardware._command("echo", "yes") == "yes\n"
    monkeypatch.setattr(subprocess, "run", hang)
    assert hardware._command("echo") is None


def test_libraries_name_the_blas_that_numpy_brought():
    """With its version and core type."""
    import numpy as np

    np.ones((2, 2)) @ np.ones((2, 2))
    loaded = environment.libraries()
    assert {"api", "name", "version", "core_type", "threads", "path"} == set(loaded[0])
    assert environment.blas() == [library for library in loaded if library["api"] == "blas"]


LAUNCHED = """
from bench.host.environment import threading_layer
assert threading_layer() is None
import numba, numpy
assert threading_layer() is None
numba.njit(lambda x: x)(1)
assert threading_layer() is None
@numba.njit(parallel=True)
def total(x):
    s = 0.0
    for i in numba.prange(x.size):
        s += x[i]
    return s
total(numpy.ones(10))
assert threading_layer() == "workqueue", threading_layer()
"""


def test_numbas_layer_is_told_and_never_launched():
    """None until some kernel has launched it."""
    command = [sys.executable, "-c", LAUNCHED]
    settings = os.environ | {"NUMBA_THREADING_LAYER": "workqueue"}
    done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_bench_and_its_environment_import_quickly():
    """Neither psutil, nor NumPy's BLAS probe, nor Numba, until somebody asks."""
    heavy = "psutil", "threadpoolctl", "numba", "matplotlib", "scipy"
    code = f"import sys, bench, bench.host.environment; sys.exit(','.join(set({heavy!r}) & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
