"""Processes: the parent's end of a worker. Start it, ask it, stop it while others are timed, bury it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from time import monotonic
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS", "NUMBA_NUM_THREADS", "GEMMLAB_NUM_THREADS",
)  # fmt: skip


def signal_name(returncode: int) -> str:
    """The name of the signal that a negative return code stands for, such as SIGSEGV."""
    return signal.Signals(-returncode).name


def environment(**more: str) -> dict[str, str]:
    """The environment of a child: it finds these rooms wherever they lie, nothing where the user stands."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"} | more


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads its own group, and whatever the kernel in it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


class Gone(Exception):
    """The worker died or was killed: `status` is crashed or timeout, the message is the reason."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Worker:
    """A worker process with its threads set from the start; stopped (SIGSTOP) whenever nobody asks it."""

    def __init__(self, threads: int) -> None:
        down_read, down_write = os.pipe()
        up_read, up_write = os.pipe()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", str(down_read), str(up_write)],
            pass_fds=(down_read, up_write), env=environment(**dict.fromkeys(THREAD_VARIABLES, str(threads))),
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, process_group=0,
        )  # fmt: skip
        os.close(down_read)
        os.close(up_write)
        self._to, self._from, self._rest = down_write, up_read, b""

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    def ask(self, timeout: float, **request: Any) -> dict[str, Any]:
        """Send a request, wait for the answer, stop the worker again. Raises Gone."""
        self.tell(**request)
        return self.hear(timeout)

    def tell(self, **request: Any) -> None:
        """Wake the worker and send a request without waiting."""
        self._signal(signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):  # dead already: `hear` will say so
            os.write(self._to, json.dumps(request).encode() + b"\n")

    def hear(self, timeout: float) -> dict[str, Any]:
        """The answer to the last request; then the worker is stopped. Raises Gone."""
        until = monotonic() + timeout
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self._from], [], [], max(0.0, until - monotonic()))
            if not ready:
                self.kill()
                raise Gone("timeout", f"no answer within {timeout:.0f} s")
            more = os.read(self._from, 1 << 16)
            if not more:
                raise Gone("crashed", self._obituary())
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        self._stop()
        return json.loads(line)

    def _stop(self) -> None:
        """SIGSTOP, confirmed: a pool that spins beside the one being timed would halve its speed."""
        self._signal(signal.SIGSTOP)
        if self.alive:
            _, status = os.waitpid(self._process.pid, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                self._process.returncode = os.waitstatus_to_exitcode(status)

    def _signal(self, number: int) -> None:
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def kill(self) -> None:
        """End the process whatever it is doing; its memory is back when this returns."""
        if self._to == -1:
            return  # done already
        end_group(self._process)
        if self.alive:
            self._process.wait()
        for end in (self._to, self._from):
            with contextlib.suppress(OSError):
                os.close(end)
        self._to = self._from = -1
        self._log.close()

    def _obituary(self) -> str:
        """Why it died: the signal, or the exit code with the last line that it wrote."""
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.kill()
            return "its process closed the pipe to the lab and went on"
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        if code < 0:
            name = signal_name(code)
            hint = " (out of memory?)" if name == "SIGKILL" else ""
            return f"its process was killed by {name}{hint}"
        return f"its process ended with exit code {code}" + (f": {lines[-1][:200]}" if lines else "")
