"""Revisions: the kernels of a git revision beside those of the working tree, timed in one run.

What is compared is `gemm` and `mlp`, the kernels and the contract. The instrument must be one and the same:
`git archive` unpacks those two rooms into a folder of their own, a link to this `bench` lies beside them, and
the workers of that side import from there. Before anything is timed, a process of that side says what code its
kernels are, and shows that it makes the same operands: where its `gemm` does not fit this `bench`, the comparison
is refused.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.isolation.processes import ROOT, environment
from bench.records import Line

if TYPE_CHECKING:
    from bench.plans.plan import Cell
    from bench.records import Run
    from bench.timing.progress import Progress

ROOMS = ("gemm", "mlp")
# Seconds that the other side may take to import and to name its kernels.
PATIENCE_S = 120


@dataclass(frozen=True)
class Tree:
    """A revision (the whole hash of its commit), the folder that it is unpacked in, and its interpreter."""

    revision: str
    root: str
    python: str

    @property
    def short(self) -> str:
        return self.revision[:12]


def sweep(
    revision: str, cells: Iterable[Cell], settings: Line | None = None, *, python: str | None = None,
    shared: bool = False, out: str | Path | None = None, progress: Progress | None = None,
) -> Run:  # fmt: skip
    """Time cells of the working tree and the same of a git revision, in turn, in one run.

    python  the interpreter of the revision's side; default: this one
    shared  leave out kernels that the revision lacks; default: refuse

    Raises ValueError for a revision that cannot be had or does not fit, and as `bench.sweep` does.
    """
    from bench.plans.plan import Plan
    from bench.timing import engine

    with unpacked(revision, python) as tree:
        both = beside(list(cells), tree, shared)
        trees = {tree.revision: {"root": tree.root, "python": tree.python}}
        plan = Plan(cells=both, trees=trees, **(settings or {}))
        return engine.start(plan, out, stem="against", progress=progress)


@contextmanager
def unpacked(revision: str, python: str | None = None) -> Iterator[Tree]:
    """A revision in a temporary folder. Raises ValueError where git does not have it."""
    commit = _commit(revision)
    with tempfile.TemporaryDirectory(prefix="gemmlab-revision-") as folder:
        _unpack(revision, commit, Path(folder))
        yield Tree(commit, folder, python or sys.executable)


@contextmanager
def restored(trees: dict[str, dict[str, str]]) -> Iterator[dict[str, dict[str, str]]]:
    """The trees of a plan whose folders went with the process that made them, unpacked anew."""
    with ExitStack() as stack:
        again = [stack.enter_context(unpacked(revision, tree["python"])) for revision, tree in trees.items()]
        yield {tree.revision: {"root": tree.root, "python": tree.python} for tree in again}


def beside(cells: list[Cell], tree: Tree, shared: bool = False) -> list[Cell]:
    """Each cell, and after it the same cell of the revision.

    shared  leave out kernels that the revision lacks; default: refuse

    Raises ValueError for a kernel of a file, for one that is not there, and for a revision that does not fit.
    """
    from bench.plans.plan import names_in

    for cell in cells:
        if any(".py:" in name for name in names_in(cell.kernel)):
            raise ValueError(
                f"{cell.kernel}: a kernel of a file is no part of a revision; "
                "sweep two files and compare them by name"
            )
    problems = list(dict.fromkeys(cell.problem for cell in cells if cell.problem))
    request: Line = {
        "kernels": list(dict.fromkeys(cell.kernel for cell in cells)),
        "problems": [problem.record() for problem in problems],
    }
    there, here = _asked(tree, request), answer(request)
    if not Path(there["gemm"]).is_relative_to(Path(tree.root).resolve()):
        raise ValueError(f"{tree.python} does not import gemm of revision {tree.short} but {there['gemm']}")
    if there["operands"] != here["operands"]:
        raise ValueError(
            f"revision {tree.short} makes other operands than the working tree (gemm/problems.py), "
            "so that they cannot be timed side by side; compare with a later one"
        )
    lacking = [name for name, found in there["kernels"].items() if "source" not in found]
    if lacking and not shared:
        why = there["kernels"][lacking[0]]["reason"]
        raise ValueError(f"revision {tree.short} has no kernel {lacking[0]!r} ({why})")
    return [
        side
        for cell in cells
        if cell.kernel not in lacking
        for side in (
            cell,
            replace(
                cell, revision=tree.revision, source=there["kernels"][cell.kernel]["source"],
                tuning=there["kernels"][cell.kernel]["tuning"][cell.dtype],
            ),
        )
    ]  # fmt: skip


def answer(request: Line) -> Line:
    """What this process would time: the hash of each kernel's code, and of operands for each problem."""
    import gemm
    from bench.plans import plan
    from bench.timing import subjects  # noqa: F401
    from gemm.problems import DTYPES, Problem

    kernels: dict[str, Line] = {}
    for name in request["kernels"]:
        try:
            kernels[name] = {"source": plan.source(name), "tuning": {d: plan.tuning(name, d) for d in DTYPES}}
        except gemm.UnknownKernel as error:
            kernels[name] = {"reason": str(error)}
    operands = [_fingerprint(Problem.from_record(record)) for record in request["problems"]]
    return {"kernels": kernels, "operands": operands, "gemm": str(Path(gemm.__file__).resolve())}


def _fingerprint(problem: Any) -> str:
    """The hash of a problem's record and of its operands, every size cut to at most 5."""
    import numpy as np

    sizes = [name for name in ("m", "n", "k", "batch") if hasattr(problem, name)]
    small = replace(problem, **{name: min(getattr(problem, name), 5) for name in sizes})
    digest = hashlib.sha256(json.dumps(problem.record(), sort_keys=True).encode())
    for operand in small.operands(0):
        digest.update(np.ascontiguousarray(operand).tobytes())
    return digest.hexdigest()[:12]


def _asked(tree: Tree, request: Line) -> Line:
    """`answer` of a process that imports from the tree."""
    try:
        done = subprocess.run(
            [tree.python, "-m", "bench.timing.revisions"], input=json.dumps(request), env=environment(tree.root),
            capture_output=True, text=True, timeout=PATIENCE_S,
        )  # fmt: skip
    except OSError as error:
        raise ValueError(
            f"--python {tree.python}: cannot be run ({error.strerror}); give a Python interpreter"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"revision {tree.short} did not import within {PATIENCE_S} s") from error
    if done.returncode == 0:
        found: Line = json.loads(done.stdout.splitlines()[-1])
        return found
    last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    raise ValueError(
        f"gemm of revision {tree.short} does not fit the working tree's bench ({last[:200]}); "
        "compare with a later one, or with another --python"
    )


def _commit(revision: str) -> str:
    """The whole hash of the commit that a revision names."""
    if _git("ls-files", "--error-unmatch", *(f"{room}/__init__.py" for room in ROOMS)).returncode:
        raise ValueError(
            f"--against {revision}: {ROOT} is not a git checkout of gemmlab; clone it and install that"
        )
    found = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if found.returncode or revision.startswith("-"):
        raise ValueError(
            f"--against {revision}: git knows no such revision here; give a commit, branch or tag"
        )
    return found.stdout.decode().strip()


def _unpack(revision: str, commit: str, folder: Path) -> None:
    packed = _git("archive", "--format=zip", commit, *ROOMS)
    if packed.returncode:
        rooms = " and ".join(ROOMS)
        raise ValueError(f"--against {revision}: it has not both rooms {rooms}; compare with a later one")
    with zipfile.ZipFile(io.BytesIO(packed.stdout)) as archive:
        archive.extractall(folder)
    (folder / "bench").symlink_to(ROOT / "bench", target_is_directory=True)


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """git, in the folder of these rooms."""
    try:
        return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True)
    except OSError as error:
        raise ValueError("git is not installed; --against needs it") from error


if __name__ == "__main__":
    with os.fdopen(os.dup(1), "w") as real:
        os.dup2(2, 1)  # what a kernel prints when it is imported is no answer
        real.write(json.dumps(answer(json.load(sys.stdin))) + "\n")
