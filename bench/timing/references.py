"""References: what a product must come to, computed once per run, in files that all its workers map into memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.plans.plan import Cell
from gemm.correctness import reference
from gemm.problems import Problem

# Bytes of references that are kept from one launch to the next; the oldest go first.
KEPT = 512 << 20


class References:
    """The references of one run, below its scratch folder."""

    def __init__(self, scratch: Path, seed: int) -> None:
        self.scratch, self.seed = scratch, seed
        self._sizes: dict[Problem, int] = {}  # in the order in which they were made
        self._made = 0
        self._names: dict[Problem, str] = {}

    def path(self, cell: Cell) -> str | None:
        """Where the reference of the cell's problem lies (`PATH-c.npy`, `PATH-bound.npy`); None for a model."""
        problem = cell.problem
        if problem is None:
            return None
        if problem not in self._sizes:
            self._make(problem)
        return self._names[problem]

    def _make(self, problem: Problem) -> None:
        a, b, c0 = problem.operands(self.seed)
        right = reference(a, b, c0, alpha=problem.alpha, beta=problem.beta, epilogue=problem.make_epilogue())
        size = right.c.nbytes + right.bound.nbytes
        while self._sizes and sum(self._sizes.values()) + size > KEPT:
            self._drop(next(iter(self._sizes)))
        self._made += 1
        name = str(self.scratch / f"reference-{self._made}")
        np.save(f"{name}-c.npy", right.c)
        np.save(f"{name}-bound.npy", right.bound)
        self._sizes[problem], self._names[problem] = size, name

    def _drop(self, problem: Problem) -> None:
        name = self._names.pop(problem)
        del self._sizes[problem]
        for part in ("c", "bound"):
            Path(f"{name}-{part}.npy").unlink(missing_ok=True)
