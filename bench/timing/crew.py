"""Crew: the workers of a run, each the process of one kernel, all but the one that is asked stopped."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from bench.isolation.guardian import Guardian, end_all
from bench.isolation.processes import ROOT, Gone, Worker
from bench.plans.plan import Plan
from bench.records import Line
from gemm.threads import available_cores

CEILING = "(ceiling)"


class Member(NamedTuple):
    """Which worker: of a kernel (or CEILING) with a number of threads, of a revision; its twin for A/A."""

    kernel: str
    threads: int
    revision: str = ""
    twin: bool = False


class Crew:
    """Starts workers when they are needed, asks them, buries them."""

    def __init__(self, plan: Plan, scratch: Path) -> None:
        self.plan, self.scratch = plan, scratch
        self.workers: dict[Member, Worker] = {}
        self.gone: dict[Member, Gone] = {}  # how each ended that is not there any more
        self.anew: set[Member] = set()  # those whose worker has found nothing compiled
        self.marker = secrets.token_hex(8)
        self.guardian = Guardian(f"GEMMLAB_RUN={self.marker}", scratch)

    def start(self, members: Iterable[Member]) -> None:
        """Start all at once, so that they import at the same time; then each is stopped."""
        fresh = list(members)
        for member in fresh:
            self.workers[member] = self._begin(member)
        for member in fresh:
            try:
                self.workers[member].hear(self.plan.timeout_s)
            except Gone:
                self.bury(member)  # the next request starts another, and says what becomes of that

    def ask(self, member: Member, **request: Any) -> Line:
        """What the member answers; a worker that died before is replaced. Raises Gone, and buries it."""
        if member not in self.workers and request["do"] in ("sample", "close") and member in self.gone:
            raise self.gone[member]  # what it had open went with it
        try:
            if member not in self.workers:
                self.workers[member] = self._begin(member)
                self.workers[member].hear(self.plan.timeout_s)
            return self.workers[member].ask(self.plan.timeout_s, **request)
        except Gone as gone:
            self.gone[member] = gone
            self.bury(member)
            raise

    def printed(self, member: Member) -> int:
        """Bytes that the member has written to stdout and stderr."""
        return self.workers[member].printed if member in self.workers else 0

    def bury(self, member: Member) -> None:
        """End a worker and whatever its kernel has started."""
        if worker := self.workers.pop(member, None):
            worker.kill()
            end_all(worker.entry)

    def dismiss(self) -> None:
        """End them all."""
        for worker in self.workers.values():
            worker.kill()
        if self.workers:
            end_all(f"GEMMLAB_RUN={self.marker}")
        self.workers.clear()

    def close(self) -> None:
        """The run is over."""
        self.dismiss()
        self.guardian.dismiss()

    def _begin(self, member: Member) -> Worker:
        tree = self.plan.trees.get(member.revision, {}) if member.revision else {}
        worker = Worker(
            member.threads or available_cores(), tree.get("root") or ROOT, **self._python(tree),
            **self._compiled_anew(member), GEMMLAB_RUN=self.marker,
        )  # fmt: skip
        worker.tell(do="hello", ceiling=member.kernel == CEILING)
        return worker

    @staticmethod
    def _python(tree: dict[str, str]) -> dict[str, str]:
        return {"python": tree["python"]} if tree.get("python") else {}

    def _compiled_anew(self, member: Member) -> dict[str, str]:
        """A folder of this run for the code that the kernel compiles: empty in the first launch.

        So the first call says what compiling costs, and that of later launches what is left of it.
        """
        if member.kernel == CEILING:
            return {}
        compiled = self.scratch / "compiled"
        # Where threads are but one factor of many, nobody waits for the same code to be compiled for each of them.
        threads = None if self.plan.factors else member.threads
        what = repr((member.kernel, threads, member.revision))
        folder = compiled / hashlib.sha256(what.encode()).hexdigest()[:12]
        if folder.exists():
            self.anew.discard(member)
        else:
            folder.mkdir(parents=True)
            self.anew.add(member)
        # What CuPy compiles for comparing and filling arrays all have in common; with the user's other runs as well,
        # where the user has named a folder for it: that is half a minute of each run.
        common = os.environ.get("CUPY_CACHE_DIR") or str(compiled / "cupy")
        found = {"NUMBA_CACHE_DIR": str(folder), "CUPY_CACHE_DIR": common}
        return found if member.threads else found | {"XDG_CACHE_HOME": str(folder)}  # (gemm.cuda.build)
