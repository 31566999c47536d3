"""Witness: what else happened to this process while a sample was taken.

    with Witness() as seen:
        spent = clock(call, loops)
    seen.figures

waited_s     core-seconds that threads of this process were ready to run and had no core: something else ran
             there (the scheduler's own account, /proc/self/task/*/schedstat, in nanoseconds)
caller_waited_s  the same of the thread that made the calls alone
cpu_s        core-seconds that this process used
switches     times that a thread of it was taken off its core although it wanted to go on
other_s      core-seconds that others used on this machine (clock ticks of 10 ms: small values are noise)
steal_s      core-seconds that the hypervisor gave to somebody else (clock ticks too)
throttled_s  seconds that the control group's CPU quota held this process back
pace_s       seconds that a short loop took on this core, in the mean of just before and just after
             (`bench.host.pace`): against the least of a run it tells of a neighbour that nothing else shows

None where the system does not tell. The reading costs some tenths of a millisecond, outside the sample.
"""

from __future__ import annotations

import os
import threading
from functools import cache
from pathlib import Path
from time import process_time
from typing import Any

from bench.host.cgroups import folders
from bench.host.pace import pace

# What adds up over a sample, and what does not.
SUMS = ("waited_s", "caller_waited_s", "cpu_s", "switches", "other_s", "steal_s", "throttled_s")
FIGURES = (*SUMS, "pace_s")


class Witness:
    """A context: `figures` says what happened between its beginning and its end."""

    figures: dict[str, Any]

    def __enter__(self) -> Witness:
        self._pace = pace()
        self._before = _read()
        self._waited = (
            _waited()
        )  # last, and first at the end: a wait between the two and the sample is not its own
        return self

    def __exit__(self, *_: object) -> None:
        own, after = _waited(), _read()
        before = self._before | {
            "waited_s": _sum(self._before["waited_s"], self._waited), "caller_waited_s": self._waited,
        }  # fmt: skip
        after |= {"waited_s": _sum(after["waited_s"], own), "caller_waited_s": own}
        found = {
            key: None if before[key] is None or after[key] is None else max(0, after[key] - before[key])
            for key in before
        }
        busy = found.pop("busy_s")
        cpu = found["cpu_s"]
        self.figures = found | {
            "other_s": None if busy is None else max(0.0, busy - cpu), "pace_s": (self._pace + pace()) / 2,
        }  # fmt: skip


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


def _read() -> dict[str, Any]:
    busy, steal = _machine()
    return {
        "waited_s": _others_waited(), "cpu_s": process_time(), "switches": _switches(), "busy_s": busy,
        "steal_s": steal, "throttled_s": _throttled(),
    }  # fmt: skip


def _waited() -> float | None:
    """Seconds that this very thread has waited for a core: one read of an open file, some microseconds."""
    try:
        return int(os.pread(_account(threading.get_native_id()), 64, 0).split()[1]) / 1e9
    except (
        OSError,
        IndexError,
        ValueError,
    ):  # no such account, or a kernel that closes files that are not its own
        return None


@cache
def _account(thread: int) -> int:
    return os.open(f"/proc/self/task/{thread}/schedstat", os.O_RDONLY | os.O_CLOEXEC)


def _others_waited() -> float | None:
    """The same of all other threads of this process together."""
    total, own = 0, str(threading.get_native_id())
    try:
        for task in os.listdir("/proc/self/task"):
            if task != own:
                try:
                    with open(f"/proc/self/task/{task}/schedstat", "rb") as file:
                        total += int(file.read().split()[1])
                except (FileNotFoundError, ProcessLookupError):
                    continue  # the thread has ended meanwhile
    except (OSError, IndexError):
        return None
    return total / 1e9


def _switches() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _machine() -> tuple[float | None, float | None]:
    """Core-seconds busy and stolen since the machine started, over all its cores."""
    try:
        with open("/proc/stat", "rb") as file:
            user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
    except (OSError, ValueError):
        return None, None
    tick = _tick()
    return (user + nice + system + irq + softirq) * tick, steal * tick


@cache
def _tick() -> float:
    return 1 / os.sysconf("SC_CLK_TCK")


def _throttled() -> float | None:
    """Seconds that a CPU quota held this process back: version 2 in microseconds, version 1 in nanoseconds."""
    total = None
    for file in _accounts():
        try:
            with open(file) as open_file:
                lines = dict(line.split() for line in open_file)
        except (OSError, ValueError):
            continue
        spent = int(lines.get("throttled_usec", 0)) / 1e6 + int(lines.get("throttled_time", 0)) / 1e9
        total = max(spent, total or 0.0)
    return total


@cache
def _accounts() -> tuple[Path, ...]:
    """The CPU accounts of this process's control groups, its own and those above it."""
    return tuple(folder / "cpu.stat" for folder in folders("cpu"))
