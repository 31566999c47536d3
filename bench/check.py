"""Check: is a kernel right? The whole conformance suite, in a process of its own.

The child writes one JSON line before each problem, so that after a crash or a hang the parent knows what was
being tried, and one at the end with the verdict. Started as `python -m bench.check KERNEL`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict
from typing import Any

import gemm
from bench.isolation.processes import end_group, environment, signal_name
from gemm.conformance import Fault, Verdict, examine

TIMEOUT_S = 600.0


def check(kernel: str, timeout: float = TIMEOUT_S, *, at_random: int = 0, seed: int = 0) -> Verdict:
    """Examine a kernel in a process of its own. Raises UnknownKernel, KernelUnavailable.

    timeout          seconds; a kernel that takes longer gets a fault that says so
    at_random, seed  so many problems drawn at random as well (`gemm.drawn`)

    Raises ValueError for a timeout that is no number of seconds, for a negative count or seed.
    """
    for what, number in (("at_random", at_random), ("seed", seed)):
        if number < 0:
            raise ValueError(f"{what} = {number} must be a whole number from 0 up")
    if not 0 < timeout < threading.TIMEOUT_MAX:
        raise ValueError(f"timeout = {timeout:g} must be a number of seconds above 0")
    name = kernel
    if ".py:" not in kernel:  # a user's file is imported in the child only: it may hang or exit
        found = gemm.find(kernel)
        if not found.available:
            raise gemm.KernelUnavailable(f"kernel {name!r} is not available here: {found.reason}")
    with tempfile.TemporaryFile() as log:  # no pipe: a kernel that writes more than a pipe holds would hang
        child = subprocess.Popen(
            [sys.executable, "-m", "bench.check", name, str(at_random), str(seed)],
            stdout=subprocess.PIPE, stderr=log, env=environment(), process_group=0,
        )  # fmt: skip
        watchdog = threading.Timer(timeout, end_group, [child])
        watchdog.start()
        tried: dict[str, Any] = {"trial": "loading", "problem": "", "count": 0}
        assert child.stdout is not None
        try:
            for line in child.stdout:
                told = _told(line)
                if told and "refused" in told:
                    raise gemm.UnknownKernel(told["refused"])
                if told and "verdict" in told:
                    faults = tuple(Fault(**fault) for fault in told["verdict"].pop("faults"))
                    return Verdict(**told["verdict"], faults=faults)
                tried = told or tried
            code, overdue = child.wait(), not watchdog.is_alive()
        finally:
            watchdog.cancel()
            end_group(child)
            child.wait()
            child.stdout.close()
        log.seek(0)
        last = log.read().decode(errors="replace").strip().splitlines()[-1:]
    if overdue:
        how = f"did not finish within {timeout:g} s"
    elif code < 0:
        how = f"crashed the process ({signal_name(code)})"
    else:
        how = f"ended the process with exit code {code}" + (f": {last[0]}" if last else "")
    fault = Fault(
        "contract", tried["problem"], f"{how} during the trial '{tried['trial'].replace('_', ' ')}'"
    )
    return Verdict(name, (fault,), tried["count"], float("nan"))


MARK = "gemmlab-check "  # before each of our lines: a kernel may print what it likes


def _told(line: bytes) -> dict[str, Any] | None:
    text = line.decode(errors="replace")
    return json.loads(text.partition(MARK)[2]) if MARK in text else None


def main() -> None:
    """The child: examine the kernel named on the command line and report."""
    out, count = os.dup(1), 0  # a copy: the kernel may close or redirect its own stdout

    def tell(value: dict[str, Any]) -> None:
        os.write(out, f"\n{MARK}{json.dumps(value)}\n".encode())

    def progress(trial: str, problem: str) -> None:
        nonlocal count
        count += 1
        tell({"trial": trial, "problem": problem, "count": count})

    try:
        kernel = gemm.get(sys.argv[1])
    except (gemm.UnknownKernel, gemm.KernelUnavailable) as error:
        tell({"refused": str(error)})
        return
    at_random, seed = map(int, sys.argv[2:])
    tell({"verdict": asdict(examine(kernel, progress, at_random=at_random, seed=seed))})


if __name__ == "__main__":
    main()
