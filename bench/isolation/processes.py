"""Processes: the parent's end of a worker. Start it, ask it, stop it while others are timed, bury it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[2]
THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS", "NUMBA_NUM_THREADS", "GEMMLAB_NUM_THREADS",
)  # fmt: skip
# The exit code of a worker that finds its pipe to the lab closed (EX_IOERR).
PIPE_CLOSED = 74
# Bytes of an answer, and of what a worker prints, that are kept: more is a kernel gone wild.
LONGEST_ANSWER, LONGEST_LOG = 64 << 20, 16 << 20


def signal_name(returncode: int) -> str:
    """The name of the signal that a negative return code stands for, such as SIGSEGV."""
    try:
        return signal.Signals(-returncode).name
    except ValueError:  # a real-time signal has none
        return f"signal {-returncode}"


def one_line(text: str, limit: int = 300) -> str:
    """What somebody else wrote, as part of a sentence: on one line, without what cannot be printed, cut."""
    text = " ".join(text[: 10 * limit].split())
    text = "".join(sign if sign.isprintable() else "?" for sign in text)
    return text if len(text) <= limit else text[:limit] + " ..."


def environment(root: str | Path = ROOT, **more: str) -> dict[str, str]:
    """The environment of a child: it finds the rooms below `root`, nothing where the user stands."""
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"} | more


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C and SIGTERM are not heard: what is being tidied up stays tidy when somebody asks twice."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals go to the main thread
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


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
    """The worker died or was killed: `status` is crashed, timeout or failed, the message is the reason."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Worker:
    """A worker process with its threads set from the start; stopped (SIGSTOP) whenever nobody asks it.

    root       the folder that it imports the rooms from
    python     its interpreter
    variables  more of its environment
    entry      the entry in its environment that nobody else's has: whatever its kernel starts inherits it
    """

    def __init__(
        self, threads: int, root: str | Path = ROOT, python: str = sys.executable, **variables: str
    ) -> None:
        down_read, down_write = os.pipe()
        up_read, up_write = os.pipe()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._killed_before = killed_for_memory()
        marker = secrets.token_hex(8)
        self.entry = f"GEMMLAB_WORKER={marker}"
        variables = dict.fromkeys(THREAD_VARIABLES, str(threads)) | variables | {"GEMMLAB_WORKER": marker}
        self._process = subprocess.Popen(
            [python, "-m", "bench.timing.worker", str(down_read), str(up_write)],
            pass_fds=(down_read, up_write), env=environment(root, **variables),
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, process_group=0,
        )  # fmt: skip
        os.close(down_read)
        os.close(up_write)
        self._to, self._from, self._rest, self._token = down_write, up_read, b"", ""
        # Ready when the process has ended: a child of the kernel's may hold the pipe open.
        self._end = os.pidfd_open(self._process.pid) if hasattr(os, "pidfd_open") else None

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
        self._token = secrets.token_hex(
            4
        )  # the answer repeats it: what a kernel writes into the pipe does not
        self._signal(signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):  # dead already: `hear` will say so
            os.write(self._to, json.dumps(request | {"token": self._token}).encode() + b"\n")

    def hear(self, timeout: float) -> dict[str, Any]:
        """The answer to the last request; then the worker is stopped. Raises Gone."""
        until = monotonic() + timeout
        while b"\n" not in self._rest:
            watched = [self._from] if self._end is None else [self._from, self._end]
            ready, _, _ = select.select(watched, [], [], max(0.0, until - monotonic()))
            if not ready:
                how = " (its process has stopped itself)" if self._stopped() else ""
                self.kill()
                raise Gone("timeout", f"no answer within {timeout:.0f} s{how}")
            more = os.read(self._from, 1 << 16) if self._from in ready else b""
            if not more:
                raise Gone("crashed", self._obituary())
            self._rest += more
            if len(self._rest) > LONGEST_ANSWER:
                self._refuse()
        line, _, self._rest = self._rest.partition(b"\n")
        self._stop()
        self._empty_log()
        return self._answer(line)

    def _answer(self, line: bytes) -> dict[str, Any]:
        """The answer in a line of the pipe. Raises Gone for what somebody else wrote there."""
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict) or answer.pop("token", "") != self._token:
            self._refuse()
        return answer

    def _refuse(self) -> NoReturn:
        self.kill()
        raise Gone(
            "failed", "something else than the lab's answer came through its pipe: the kernel writes into files "
            "that are not its own"
        )  # fmt: skip

    def _stopped(self) -> bool:
        """True if the process has been stopped, and not by us: our own stops are waited for."""
        try:
            return os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOHANG) is not None
        except (OSError, AttributeError):  # macOS has no waitid before Python 3.13
            return False

    def _empty_log(self) -> None:
        """Give back the disk that a talkative kernel's log takes; its length goes on counting."""
        size = self.printed
        if os.fstat(self._log.fileno()).st_blocks * 512 > LONGEST_LOG:
            os.ftruncate(self._log.fileno(), 0)
            os.ftruncate(self._log.fileno(), size)

    def _stop(self) -> None:
        """SIGSTOP, confirmed: a pool that spins beside the one being timed would halve its speed."""
        self._signal(signal.SIGSTOP)
        if self.alive:
            _, status = os.waitpid(self._process.pid, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                self._process.returncode = os.waitstatus_to_exitcode(status)

    def _signal(self, number: int) -> None:
        """To all of its group: a pool of processes that a kernel has started would spin just as well."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """End the process whatever it is doing; its memory is back when this returns."""
        if self._to == -1:
            return  # done already
        end_group(self._process)
        if self.alive:
            self._process.wait()
        for end in (self._to, self._from, self._end):
            if end is not None:
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
        size = self.printed
        self._log.seek(max(0, size - (1 << 16)))
        lines = self._log.read().decode(errors="replace").strip("\0 \n").splitlines()
        if code < 0:
            name = signal_name(code)
            if name == "SIGKILL" and killed_for_memory() > self._killed_before:
                return "its process was killed by the system because memory ran out (SIGKILL)"
            return f"its process was killed by {name}"
        if code == PIPE_CLOSED:
            return "it closed files of its process that are not its own, the lab's pipe among them"
        return f"its process ended with exit code {code}" + (f": {one_line(lines[-1], 200)}" if lines else "")
