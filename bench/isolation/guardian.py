"""Guardian: ends what a killed lab leaves behind, and clears its scratch folder.

A worker dies with the lab; what a kernel has started in it does not. Such a process is known by an entry of the
environment that it was started with, which its own children inherit: no group or session of their own hides
them. Started as `python guardian.py ENTRY FOLDER`; stdin is a pipe that closes when the lab is gone.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

# Seconds that a killed process may take to disappear: it gives back its memory first.
PATIENCE_S = 5.0


class Guardian:
    """Watches over one run: over its processes (`end_all`) and its scratch folder."""

    def __init__(self, entry: str, folder: Path) -> None:
        # A session of its own: what ends the lab's does not end it. It imports nothing of ours or of anybody's.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, entry, str(folder)], cwd="/", start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    def dismiss(self) -> None:
        """The run is over: have it look once more, and end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def end_all(entry: str) -> None:
    """Kill every process that was started with this entry (`NAME=value`) in its environment. Linux only."""
    until = time.monotonic() + PATIENCE_S
    while found := _started_with(entry.encode()):  # again: one that was just being forked is found then
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > until:
            return
        time.sleep(0.002)


def _started_with(entry: bytes) -> list[int]:
    found = []
    with suppress(FileNotFoundError):  # a system without /proc
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != os.getpid():
                with suppress(OSError):  # gone meanwhile, or somebody else's
                    if entry in Path("/proc", name, "environ").read_bytes().split(b"\0"):
                        found.append(int(name))
    return found


def main() -> None:
    """Wait for the end of the lab, whatever it is, then tidy up."""
    sys.stdin.buffer.read()
    end_all(sys.argv[1])
    shutil.rmtree(sys.argv[2], ignore_errors=True)


if __name__ == "__main__":
    main()
