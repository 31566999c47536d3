"""Guards: what a kernel must leave alone (A, B, and all that lies around C), and whether it did.

Operands from `gemm.problems.lay_out` lie in a buffer of their own, which ends well before and after them: a
stray write lands there, where it hurts nothing and can be seen.
"""

from __future__ import annotations

from zlib import crc32

import numpy as np

OUTSIDE = "writes outside C (into memory just before, after or between its rows)"


def changed_input(name: str) -> str:
    """The sentence for a kernel that writes to A or B."""
    return f"changes its input {name}; A and B are only to be read"


class Guards:
    """Remembers A, B and what lies around C, as checksums: 0.4 ms a MiB, whatever the kernel did to them."""

    def __init__(self, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
        self.inputs, self.c = {"A": a, "B": b}, c
        self.before = {name: _checksum(array) for name, array in self.inputs.items()}
        self.around = outside(c)

    def broken(self) -> str | None:
        """What has been changed since, in a sentence; None if nothing has."""
        for name, array in self.inputs.items():
            if _checksum(array) != self.before[name]:
                return changed_input(name)
        return OUTSIDE if outside(self.c) != self.around else None


def outside(c: np.ndarray) -> bytes:
    """The bytes of c's buffer that are not c's; b"" if c has no buffer around it (see `lay_out`)."""
    buffer = _buffer(c)
    if buffer is None:
        return b""
    low, high = (end - buffer.__array_interface__["data"][0] for end in np.lib.array_utils.byte_bounds(c))
    first, last = low // c.itemsize, high // c.itemsize
    parts = [buffer[:first], buffer[last:]]
    if last - first > c.size:  # gaps within: between rows, or between elements
        gaps = np.ones(last - first, bool)
        start = (
            c.__array_interface__["data"][0] - buffer.__array_interface__["data"][0]
        ) // c.itemsize - first
        steps = [stride // c.itemsize for stride in c.strides]
        at = start + sum(
            np.arange(size).reshape(-1, *[1] * (c.ndim - 1 - axis)) * step
            for axis, (size, step) in enumerate(zip(c.shape, steps))
        )
        gaps[at] = False
        parts.append(buffer[first:last][gaps])
    return b"".join(part.tobytes() for part in parts)


def _checksum(array: np.ndarray) -> int:
    buffer = _buffer(array)
    return crc32(array.tobytes() if buffer is None else buffer.data)


def _buffer(array: np.ndarray) -> np.ndarray | None:
    """The whole of the memory in which `lay_out` put an array."""
    buffer = array.base
    whole = isinstance(buffer, np.ndarray) and buffer.ndim == 1 and buffer.flags.c_contiguous
    return buffer if whole else None
