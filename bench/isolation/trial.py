"""Trial: can a user's file be imported at all? Tried in a process of its own, before anything is planned.

Python files do what they like when they are imported: end the process, crash it, never come back. So the lab's
own process imports none for a sweep; it takes the hash of the file's bytes, and lets a child try.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

import gemm
from bench import peers
from bench.isolation.guardian import end_all
from bench.isolation.processes import Gone, Worker

# Seconds that an import may take, compilation of what it does at once included.
IMPORT_S = 60.0


class Outcome(NamedTuple):
    """ok; or the status and the reason that the records of this kernel have, without another try.

    device, inputs, multiplies  of its Kernel: where it multiplies, the dtypes that it takes, what it rounds them to
    """

    status: str
    reason: str | None = None
    device: str = "cpu"
    inputs: tuple[str, ...] = ()
    multiplies: str | None = None


def file_of(kernel: str) -> tuple[Path, str] | None:
    """The file and the function of `path/to/file.py:function`; None for a registered name."""
    file, colon, function = kernel.rpartition(":")
    return (Path(file).resolve(), function) if colon and file.endswith(".py") else None


def outcome(kernel: str) -> Outcome:
    """Whether the kernel can be used, as far as it can be known without a call. Raises UnknownKernel.

    A file is tried once in a process of its own, however many cells it has: `crashed` and `timeout` are what
    came of that, `failed` a file that cannot be imported or has no such function.
    """
    if found := file_of(kernel):
        return _tried(*found, source(kernel))
    if peers.is_peer(kernel):
        peer = peers.get(kernel)
        return Outcome("unavailable", f"{peer.name}: {peer.reason}") if peer.reason else Outcome("ok")
    registered = gemm.find(kernel)
    what = about(registered)
    if registered.available:
        return Outcome("ok", None, *what)
    return Outcome("unavailable", f"{registered.name}: {registered.reason}", *what)


def about(kernel: gemm.Kernel) -> tuple[str, tuple[str, ...], str | None]:
    """What of a kernel an Outcome tells beside whether it can be used."""
    inputs = tuple(signature.input for signature in kernel.signatures)
    return kernel.device, inputs, getattr(kernel, "multiplies", None)


def name(kernel: str) -> str:
    """The name under which any process finds the kernel. Raises UnknownKernel where there is none of it."""
    found = file_of(kernel)
    if found is None:
        return peers.get(kernel).name if peers.is_peer(kernel) else gemm.find(kernel).name
    tried = outcome(kernel)
    if tried.status == "failed":  # a mistake of the user's: said now, before anything is measured
        raise gemm.UnknownKernel(tried.reason)
    return f"{found[0]}:{found[1]}"


def source(kernel: str) -> str:
    """The hash of the file that the kernel, or the peer, is written in (`Kernel.source`). Raises UnknownKernel."""
    file = peers.get(kernel).file if peers.is_peer(kernel) else (file_of(kernel) or (None,))[0]
    if file is not None and file.is_file():
        return hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    return gemm.find(kernel).source  # of a file that is not there, says so


def spare_this_process(kernel: str) -> None:
    """Before this process imports a kernel itself: ValueError for a file that would take the process along."""
    if file_of(kernel) and (tried := outcome(kernel)).status in ("crashed", "timeout"):
        raise ValueError(tried.reason)


@cache
def _tried(path: Path, function: str, source: str) -> Outcome:
    worker = Worker(1)
    try:
        answer = worker.ask(IMPORT_S, do="find", kernel=f"{path}:{function}")
    except Gone as gone:
        return Outcome(gone.status, f"{path.name} cannot be imported: {gone}")
    finally:
        worker.kill()
        end_all(worker.entry)
    device, inputs, multiplies = answer.get("about") or ("cpu", (), None)
    return Outcome(answer["status"], answer.get("reason"), device, tuple(inputs), multiplies)
