"""Graphs: a step's launches captured once and then launched together, which saves a small network most of its time.

A launch costs the host some 5 us, a step of a small network has twenty; a CUDA graph of them is one launch. What is
captured are addresses and numbers by value: when a step is bound anew (another x, another learning rate in a product)
its graph is forgotten, and a new one is captured once a step has been the same WARM times. What an optimizer reads in
device memory (mlp.optimizers) may change. A step that cannot be captured is launched call by call, and a warning says
why. Not yet run on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from warnings import warn

from gemm.program import Call

# Steps of the same calls before they are captured: libraries have then allocated what they need.
WARM = 3


class Replayed:
    """The graph of one plan's step."""

    def __init__(self) -> None:
        self._graph: Any = None
        self._stream: Any = None  # that was captured on: what was allocated meanwhile is its own
        self._possible = True
        self.forget()

    def forget(self) -> None:
        """The calls are others now."""
        self._ran, self._graph = 0, None

    def calls(self, step: Sequence[Call]) -> Sequence[Call]:
        """What does the step: its calls, or the launch of their graph."""
        if self._graph is None:
            self._ran += 1
            if self._ran <= WARM or not self._possible:
                return step
            try:
                self._graph = self._captured(step)
            except Exception as error:  # noqa: BLE001 - CuPy's, a kernel's or another library's; nothing has run
                self._possible = False
                warn(f"this step cannot be captured as a graph: {error}", RuntimeWarning, stacklevel=4)
                return step
        return (self._graph.launch,)

    def _captured(self, step: Sequence[Call]) -> Any:
        import cupy

        if self._stream is None:
            self._stream = cupy.cuda.Stream(non_blocking=True)
        with self._stream:
            self._stream.begin_capture()
            try:
                for call in step:
                    call()
            except BaseException:
                with suppress(Exception):  # of a capture that failed nothing can be made
                    self._stream.end_capture()
                raise
            return self._stream.end_capture()
