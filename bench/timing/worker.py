"""A worker: one process that hosts one kernel (or one ceiling) and times what it is told to.

The parent speaks one JSON object a line over a pipe and gets one back. Whatever the kernel prints goes to
a log; whatever it breaks, it breaks here. Started as `python -m bench.timing.worker READ WRITE`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import IO, Any

from bench.isolation.processes import PIPE_CLOSED, one_line
from bench.plans.device import PREFIX


def main() -> None:
    """Answer requests until the pipe closes."""
    _die_with_parent()
    _die_first()
    pipe = Pipe(*(os.fdopen(int(at), mode) for at, mode in zip(sys.argv[1:3], ("r", "w"))))
    # Ctrl-C goes to the whole terminal; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    host = Host(pipe)
    try:
        while (request := pipe.hear()) is not None:
            try:
                answer = host.answer(request)
            except BaseException as error:  # noqa: BLE001 - whatever a kernel raises becomes its record
                answer = _failure(error)
            pipe.tell(answer)
    except (OSError, ValueError):  # no pipe any more, or somebody else's file in its place
        os._exit(PIPE_CLOSED)


class Pipe:
    """To the parent: a request, an answer, and so on in turn."""

    def __init__(self, requests: IO[str], answers: IO[str]) -> None:
        self._requests, self._answers, self._token = requests, answers, ""

    def hear(self) -> dict[str, Any] | None:
        """The next request; None when there will be none."""
        line = self._requests.readline()
        if not line:
            return None
        request: dict[str, Any] = json.loads(line)
        self._token = request.pop("token")
        return request

    def tell(self, answer: dict[str, Any]) -> None:
        self._answers.write(json.dumps(answer | {"token": self._token}) + "\n")
        self._answers.flush()


class Host:
    """Holds the subjects that are open, by their cells: more than one where cells of one kernel are timed in turn."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self.subjects: dict[str, Any] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do one request: {"do": hello | find | pilot | pilot_step | open | sample | close | train, ...}."""
        return {"status": "ok"} | getattr(self, "_" + request.pop("do"))(**request)

    def _hello(self, ceiling: bool) -> dict[str, Any]:
        """Import what will be needed, so that it is not in anybody's first call but the kernel's own."""
        import bench.timing.subjects

        if ceiling:
            import bench.timing.ceilings  # noqa: F401
        return {"pid": os.getpid()}

    def _find(self, kernel: str) -> dict[str, Any]:
        """Import a kernel's file and see what is in it."""
        import gemm
        from bench.isolation.trial import about

        try:
            found = gemm.find(kernel)
        except gemm.UnknownKernel as error:
            return {"status": "failed", "reason": one_line(str(error), 600)}
        what = {"about": about(found)}
        if found.available:
            return what
        return {"status": "unavailable", "reason": one_line(f"{found.name}: {found.reason}"), **what}

    def _describe(self) -> dict[str, Any]:
        """What this process has loaded, now that its kernel has run."""
        from bench.host import gpu
        from bench.host.environment import libraries, threading_layer

        affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
        blocking = sys.modules.get("gemm.micro.blocking")  # another revision's may have no such function
        used = blocking.used() if blocking and hasattr(blocking, "used") else {}
        return {
            "libraries": libraries(),
            "threading_layer": threading_layer(),
            "affinity": affinity,
            "blocks": {dtype: blocks._asdict() for dtype, blocks in used.items()},
            **({"gpu": {**gpu.limits(), **(gpu.facts() or {})}} if gpu.loaded() else {}),
        }

    def _pilot(self, kernel: str, problem: dict[str, Any], operands: str = "host") -> dict[str, Any]:
        from bench.timing import device, subjects
        from gemm.problems import Problem

        pilot = device.pilot if operands == "device" else subjects.pilot
        return {"seconds": pilot(kernel, Problem.from_record(problem))}

    def _pilot_step(self, kernel: str, model: dict[str, Any]) -> dict[str, Any]:
        from bench.timing.subjects import pilot_step

        return {"seconds": pilot_step(kernel, model)}

    def _open(
        self, what: str, sample_s: float, cell: str = "", operands: str = "", **arguments: Any
    ) -> dict[str, Any]:
        """`operands`: of a kernel on a device, where they live."""
        from bench.peers import is_peer
        from bench.timing.device import DeviceProduct, HostDataProduct
        from bench.timing.subjects import PeerStep, Product, TrainingStep

        product = {"": Product, "host": HostDataProduct, "device": DeviceProduct}[operands]
        step: Any = PeerStep if is_peer(arguments["kernel"]) else TrainingStep
        if arguments.get("model", {}).get("device", "cpu") != "cpu":
            from bench.timing.device_steps import step_of as step
        self.subjects.pop(
            cell, None
        )  # of an earlier launch's that was not closed: its memory, before more is taken
        subject = self.subjects[cell] = {"problem": product, "model": step}[what](**arguments)
        return subject.open(sample_s)

    def _ceiling(self, name: str, dtype: str, threads: int, caches: dict[str, int]) -> dict[str, Any]:
        from bench.timing.ceilings import Ceiling
        from bench.timing.device_ceilings import DeviceCeiling

        key = (name, dtype if name == "fma" else None, threads)
        self.ceilings = getattr(self, "ceilings", {})
        if key not in self.ceilings:
            of_device = name.startswith(PREFIX)
            made = DeviceCeiling(name) if of_device else Ceiling(name, dtype, threads, caches)
            self.ceilings[key] = made
        seconds, work = self.ceilings[key].sample()
        return {"seconds": seconds, "work": work, "unit": self.ceilings[key].unit}

    def _sample(self, cell: str = "") -> dict[str, Any]:
        return self.subjects[cell].sample()

    def _train(self, **what: Any) -> dict[str, Any]:
        """One request of many answers: each but the last says `more`, and any request has it go on."""
        from bench.timing.training import learn

        return {"more": False} | learn(pause=self._pause, **what)

    def _pause(self, answer: dict[str, Any]) -> None:
        self._pipe.tell({"status": "ok", "more": True} | answer)
        if self._pipe.hear() is None:
            os._exit(PIPE_CLOSED)

    def _close(self, cell: str = "") -> dict[str, Any]:
        self.subjects.pop(cell, None)
        return {}


def _failure(error: BaseException) -> dict[str, Any]:
    import gemm
    from bench.timing.device import TooLarge
    from bench.timing.manners import Meddled
    from bench.timing.subjects import Wrong

    if isinstance(error, TooLarge):
        return {"status": "skipped", "reason": str(error)}
    if isinstance(error, Meddled):
        return {"status": "failed", "reason": str(error)}
    if isinstance(error, Wrong):
        return {"status": "wrong", "reason": str(error), "error_ratio": error.error_ratio}
    with contextlib.suppress(Exception):  # into the worker's log, where the kernel has left that open
        traceback.print_exc()
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an exception of the kernel's own making
        text = "(its message cannot be had)"
    if isinstance(error, gemm.KernelUnavailable):
        return {"status": "unavailable", "reason": one_line(text)}
    return {"status": "failed", "reason": one_line(f"{type(error).__name__}: {text}")}


def _die_with_parent() -> None:
    """Ask Linux to kill this process when its parent goes: a stopped orphan would keep its memory."""
    if sys.platform == "linux":
        import ctypes

        set_death_signal = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None, use_errno=True).prctl(set_death_signal, signal.SIGKILL)


def _die_first() -> None:
    """Where memory runs out, this process is the one to be killed, not the lab or somebody else's work."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    main()
