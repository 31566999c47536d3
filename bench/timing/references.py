"""References: what a product must come to, computed once per run, in files that all its workers map into memory."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from bench.plans.plan import Cell
from gemm.correctness import reference
from gemm.problems import Problem

# Bytes that are kept from one launch to the next, and the share of what is free there; the oldest go first. That of a
# large product on a GPU, 8192 x 8192, has 1 GiB and takes the processor half a minute.
KEPT, SHARE = 8 << 30, 0.25
# Bytes of an operand from which it is kept as well: to draw it again in every worker takes longer than to read it.
DRAWN = 16 << 20


class References:
    """The references of one run, below its scratch folder."""

    def __init__(self, scratch: Path, seed: int) -> None:
        self.scratch, self.seed = scratch, seed
        self._sizes: dict[Problem, int] = {}  # in the order in which they were made
        self._made = 0
        self._names: dict[Problem, str] = {}

    def path(self, cell: Cell) -> str | None:
        """Where the reference of the cell's problem lies (`PATH-c.npy`, `PATH-bound.npy`); None for a model.

        Beside it, of a large problem on a device, A and B (`PATH-a.npy`, `PATH-b.npy`), as unsigned integers.
        """
        problem = cell.problem
        if problem is None:
            return None
        if problem not in self._sizes:
            self._make(problem, cell.device != "cpu" and cell.operands == "device")
        return self._names[problem]

    def _make(self, problem: Problem, on_device: bool) -> None:
        a, b, c0 = problem.operands(self.seed)
        right = reference(a, b, c0, alpha=problem.alpha, beta=problem.beta, epilogue=problem.make_epilogue())
        arrays = {"c": right.c, "bound": right.bound}
        if on_device and problem.strides == "contiguous" and min(a.nbytes, b.nbytes) >= DRAWN:
            bits = np.dtype(f"u{a.itemsize}")
            arrays |= {"a": a.view(bits), "b": b.view(bits)}
        size = sum(array.nbytes for array in arrays.values())
        while self._sizes and sum(self._sizes.values()) + size > self._most():
            self._drop(next(iter(self._sizes)))
        self._made += 1
        name = str(self.scratch / f"reference-{self._made}")
        for part, array in arrays.items():
            np.save(f"{name}-{part}.npy", array)
        self._sizes[problem], self._names[problem] = size, name

    def _most(self) -> float:
        """Bytes that may lie there."""
        free = shutil.disk_usage(self.scratch).free + sum(self._sizes.values())
        return min(KEPT, SHARE * free)

    def _drop(self, problem: Problem) -> None:
        name = self._names.pop(problem)
        del self._sizes[problem]
        for part in ("c", "bound", "a", "b"):
            Path(f"{name}-{part}.npy").unlink(missing_ok=True)
