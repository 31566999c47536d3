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


def environment(root: str | Path = ROOT, **more: str) -> dict[str, str]:
    """The environment of a child: it finds the rooms below `root`, nothing where the user stands."""
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"} | more


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads its own group, and whatever the kernel in it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def killed_for_memory() -> int:
    """How many processes this system has killed so far because memory ran out; 0 where it does not tell."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


class Gone(Exception):
    """The worker died or was killed: `status` is crashed or timeout, the message is the reason."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Worker:
    """A worker process with its threads set from the start; stopped (SIGSTOP) whenever nobody asks it.

    root       the folder that it imports the rooms from
    python     its interpreter
    variables  more of its environment
    """

    def __init__(
        self, threads: int, root: str | Path = ROOT, python: str = sys.executable, **variables: str
    ) -> None:
        down_read, down_write = os.pipe()
        up_read, up_write = os.pipe()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._killed_before = killed_for_memory()
        variables = dict.fromkeys(THREAD_VARIABLES, str(threads)) | variables
        self._process = subprocess.Popen(
            [python, "-m", "bench.worker", str(down_read), str(up_write)],
            pass_fds=(down_read, up_write), env=environment(root, **variables),
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, process_group=0,
        )  # fmt: skip
        os.close(down_read)
        os.close(up_write)
        self._to, self._from, self._rest = down_write, up_read, b""

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    @property
    def printed(self) -> int:
        """Bytes that it has written to stdout and stderr so far."""
        return 0 if self._log.closed else os.fstat(self._log.fileno()).st_size

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
            if name == "SIGKILL" and killed_for_memory() > self._killed_before:
                return "its process was killed by the system because memory ran out (SIGKILL)"
            return f"its process was killed by {name}"
        return f"its process ended with exit code {code}" + (f": {lines[-1][:200]}" if lines else "")
