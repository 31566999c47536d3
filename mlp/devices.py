"""Devices: where a network's arrays live, on the host (NumPy's) or on a GPU (CuPy's), and the way between the two.

    cpu     NumPy; what is handed over is used where it lies
    cuda    CuPy, on the current device and stream; nothing waits for the GPU but what brings a number back

CuPy is imported when the first network is made on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from gemm.dtypes import low
from mlp import aligned
from mlp.mistakes import unknown

Array = np.ndarray  # or CuPy's
DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class Device:
    """What differs from device to device.

    empty, zeros   as NumPy's, of (shape, dtype[, beside, quarters]): see mlp.aligned; on a GPU they lie where they may
    put            a copy of a NumPy array on the device (on the host: itself)
    take_in        take_in(array, x): array <- x, another array from anywhere, cast where it has to be
    read           the value of a 0-d array: on the host a float; on a GPU a 0-d copy, whose float() waits
    wait           until everything is done that was asked for
    kernel         who multiplies unless somebody else is named
    """

    name: str
    kernel: str
    empty: Callable[..., Array]
    zeros: Callable[..., Array]
    put: Callable[[Array], Array]
    take_in: Callable[[Array, Any], None]
    read: Callable[[Array], Any]
    wait: Callable[[], None]

    def __reduce__(self) -> tuple[Any, ...]:
        return device, (self.name,)


def device(name: str) -> Device:
    """The device of that name; ValueError names the nearest spelling, or says why it cannot be had."""
    if not isinstance(name, str) or name not in DEVICES:
        raise unknown("device", name, DEVICES)
    return CPU if name == "cpu" else _cuda()


def on_gpu(x: Any) -> bool:
    return hasattr(x, "__cuda_array_interface__")


def of(array: Array) -> Device:
    """Where an array lives."""
    return _cuda() if on_gpu(array) else CPU


def address(array: Array) -> int:
    """Of its first element, there."""
    if on_gpu(array):
        return int(array.__cuda_array_interface__["data"][0])  # type: ignore[attr-defined]
    return array.ctypes.data


def host(array: Any) -> np.ndarray:
    """What an array holds, in NumPy's: itself, or a copy that was waited for."""
    if isinstance(array, np.ndarray) and not on_gpu(array):
        return array
    import cupy

    if low(
        array.dtype
    ):  # a view of other strides is copied by a function, and for bfloat16 that wants CUDA's headers
        return cupy.asnumpy(array.view(np.uint16)).view(array.dtype)
    return cupy.asnumpy(array)


def computed(dtype: np.dtype) -> np.dtype:
    """What is computed with where numbers are stored in `dtype`: sums and losses are of it."""
    return np.dtype(np.float32) if dtype.itemsize < 4 else dtype


def _cast(array: np.ndarray, x: Any) -> None:
    """array <- x, within a kind. (bfloat16 is a float, of which NumPy does not know that floats are cast to it.)"""
    x = np.asarray(x)
    to_low = low(array.dtype) and (x.dtype.kind in "fiub" or low(x.dtype))
    np.copyto(array, x, casting="unsafe" if to_low else "same_kind")


def write(array: Array, values: Any) -> None:
    """array <- values of its shape, from anywhere; cast within a kind, as np.copyto."""
    of(array).take_in(array, values)


def _copy_on_host(array: Array, x: Any) -> None:
    if on_gpu(x):
        raise ValueError("the array given is on the GPU and this network lives on the CPU; see device='cuda'")
    np.copyto(array, x, casting="same_kind")


CPU = Device(
    "cpu", "blas", aligned.empty, aligned.zeros, lambda array: array, _copy_on_host, float, lambda: None
)


@cache
def _cuda() -> Device:
    """The GPU. Raises gemm.KernelUnavailable with the reason where there is none."""
    import gemm

    found = gemm.find("cublas")
    if not found.available:
        raise gemm.KernelUnavailable(f"device 'cuda' cannot be had here: {found.reason}")
    import cupy

    bridge = _Bridge(cupy)

    def put(array: Array) -> Array:
        there = cupy.empty(array.shape, array.dtype)
        there.set(np.ascontiguousarray(array).reshape(array.shape))  # 0-d stays 0-d
        return there

    def zeros(shape: tuple[int, ...], dtype: Any, beside: Any = None, quarters: int = 0) -> Array:
        return cupy.zeros(shape, dtype)

    def empty(shape: tuple[int, ...], dtype: Any, beside: Any = None, quarters: int = 0) -> Array:
        return cupy.empty(shape, dtype)

    def read(value: Array) -> Any:
        return value.copy()

    def wait() -> None:
        cupy.cuda.get_current_stream().synchronize()

    return Device("cuda", "cublas", empty, zeros, put, bridge.take_in, read, wait)


class _Bridge:
    """Arrays on their way to the GPU, by pinned memory: copied there (and cast) by the host, fetched by the GPU.

    What the user gave may be changed as soon as the call returns, and the host does not wait for the GPU: the next
    array goes by another piece of pinned memory, and only the one after that waits for the first to be fetched.
    """

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._pieces: list[tuple[Any, Any]] = []  # pinned memory (bytes), the event of its last fetch
        self._turn = 0

    def take_in(self, array: Array, x: Any) -> None:
        """array <- x, which may be NumPy's, CuPy's, or anybody's on the GPU."""
        if on_gpu(x):
            self._cupy.copyto(array, self._cupy.asarray(x), casting="same_kind")
            return
        x = np.asarray(x)
        if array.flags.c_contiguous and array.size:
            pinned, event = self._piece(array.nbytes)
            through = pinned[: array.nbytes].view(array.dtype).reshape(array.shape)
            _cast(through, x)
            array.set(through)  # type: ignore[attr-defined]  # asynchronous from pinned memory
            event.record()
        elif array.size:
            there = np.empty(array.shape, array.dtype)
            _cast(there, x)
            array[...] = self._cupy.asarray(there)

    def _piece(self, nbytes: int) -> tuple[Any, Any]:
        """Pinned memory that nobody fetches from any more."""
        import cupyx

        if len(self._pieces) < 2:
            event = self._cupy.cuda.Event(disable_timing=True)
            self._pieces.append((cupyx.empty_pinned((max(nbytes, 1 << 16),), np.uint8), event))
            self._turn = len(self._pieces) - 1
            return self._pieces[-1]
        self._turn = 1 - self._turn
        pinned, event = self._pieces[self._turn]
        event.synchronize()
        if pinned.nbytes < nbytes:
            self._pieces[self._turn] = (cupyx.empty_pinned((nbytes,), np.uint8), event)
        return self._pieces[self._turn]
