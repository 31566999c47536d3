"""Guards: what a kernel must leave alone (A, B, and all that lies around C), and whether it did.

Operands from `gemm.problems.lay_out` lie in a buffer of their own, which ends well before and after them: a
stray write lands there, where it hurts nothing and can be seen.
"""

from __future__ import annotations

from zlib import crc32

import numpy as np

ALIGNED = 256  # bytes: what CUDA aligns allocations to
OUTSIDE = "writes outside C (into memory just before, after or between its rows)"


def changed_input(name: str) -> str:
    """The sentence for a kernel that writes to A or B."""
    return f"changes its input {name}; A and B are only to be read"


class Guards:
    """Remembers A, B and what lies around C, as checksums: 0.4 ms a MiB, whatever the kernel did to them.

    around  the memory around c that counts, 1-D; default: all of the three buffers
    """

    def __init__(self, a: np.ndarray, b: np.ndarray, c: np.ndarray, around: np.ndarray | None = None) -> None:
        buffers = [_buffer(array) if around is None else None for array in (a, b)]
        self.inputs = {
            name: array if buffer is None else buffer for name, array, buffer in zip("AB", (a, b), buffers)
        }
        self.c, self.buffer = c, _buffer(c) if around is None else around
        self.before = self._now()

    def broken(self) -> str | None:
        """What has been changed since, in a sentence; None if nothing has."""
        now = self._now()
        for name in self.inputs:
            if now[name] != self.before[name]:
                return changed_input(name)
        return None if now == self.before else OUTSIDE

    def _now(self) -> dict[str, int]:
        found = {name: _checksum(array) for name, array in self.inputs.items()}
        if self.buffer is not None:
            for at, part in enumerate(outside(self.c, self.buffer)):
                found[f"around C {at}"] = _checksum(part)
        return found


class Twin:
    """An array of `lay_out` on the device: all of its buffer, and in it `view`, with the same strides.

    Its first number lies `shift` numbers behind an address that everything is aligned to. `back` brings what is in the
    device's buffer back into the host's, for Guards to look at.
    """

    def __init__(self, array: np.ndarray, shift: int = 0) -> None:
        import cupy

        host = _buffer(array)
        if host is None:
            raise ValueError("the array is not one of gemm.problems.lay_out: it has no buffer of its own")
        item = array.itemsize
        first = (_address(array) - _address(host)) // item
        low = (np.lib.array_utils.byte_bounds(array)[0] - _address(host)) // item
        self.host, self.lead = host, (shift - low) % (ALIGNED // item)
        whole = np.full(self.lead + host.size, np.nan, host.dtype)
        whole[self.lead :] = host
        self.buffer = cupy.asarray(whole)
        start = self.buffer[self.lead + first :]
        self.view = cupy.lib.stride_tricks.as_strided(start, array.shape, array.strides)

    def back(self) -> None:
        import cupy

        self.host[...] = cupy.asnumpy(self.buffer)[self.lead :]


def laid_out(array: np.ndarray) -> bool:
    """Whether it lies in a buffer of its own, as `lay_out` puts it."""
    return _buffer(array) is not None


def outside(c: np.ndarray, buffer: np.ndarray) -> list[np.ndarray]:
    """What of a buffer (1-D) is not c's: before it, behind it, and in gaps between its rows or elements."""
    start = _address(buffer)
    low, high = ((end - start) // c.itemsize for end in np.lib.array_utils.byte_bounds(c))
    parts = [buffer[:low], buffer[high:]]
    if high - low > c.size:
        gaps = np.ones(high - low, bool)
        at = (_address(c) - start) // c.itemsize - low
        strides = tuple(stride // c.itemsize for stride in c.strides)
        np.ndarray(c.shape, bool, gaps, at, strides)[...] = False
        parts.append(buffer[low:high][gaps])
    return parts


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def _checksum(array: np.ndarray) -> int:
    if array.dtype.kind == "V":  # bfloat16 offers no buffer
        array = array.view(np.uint16)
    return crc32(array.data if array.flags.c_contiguous else array.tobytes())


def _buffer(array: np.ndarray) -> np.ndarray | None:
    """The whole of the memory in which `lay_out` put an array."""
    buffer = array.base
    whole = isinstance(buffer, np.ndarray) and buffer.ndim == 1 and buffer.flags.c_contiguous
    return buffer if whole else None
