"""A GPU without one: a module `cupy` on NumPy, whose device has a clock of its own that launches move on.

For tests that put this folder on the path. Kernels call `launch(seconds, work)`; events read the device's clock, so
that what a test measures is what it has planted.
"""

import sys
from types import SimpleNamespace

import numpy as np

L2_BYTES, MEMORY_BYTES, SMS = 1 << 16, 8 << 30, 4
state = SimpleNamespace(clock_s=0.0, launches=0, synchronised=True, waits=0)


class MemoryPointer:
    """Somewhere in an array's memory."""

    def __init__(self, owner, offset):
        self.owner, self.offset = owner, offset

    def __add__(self, offset):
        return MemoryPointer(self.owner, self.offset + int(offset))


class ndarray(np.ndarray):
    """An array that says it lives on a device."""

    def __new__(cls, shape, dtype=float, memptr=None, strides=None, order="C"):
        if memptr is None:
            return np.ndarray.__new__(cls, shape, dtype, order=order)
        return np.ndarray.__new__(cls, shape, dtype, memptr.owner, memptr.offset, strides, order)

    @property
    def __cuda_array_interface__(self):
        return self.__array_interface__ | {"version": 3}

    @property
    def data(self):
        root = self
        while isinstance(root.base, np.ndarray):
            root = root.base
        start = root.__array_interface__["data"][0]
        return MemoryPointer(
            root.view(np.ndarray).reshape(-1).view(np.uint8), self.__array_interface__["data"][0] - start
        )


def _there(array):
    return np.asarray(array).view(ndarray)


def asarray(x):
    if isinstance(x, ndarray):
        return x
    state.clock_s += 1e-6
    return np.array(x, order="K").view(ndarray)


def asnumpy(x):
    wait()
    return np.array(np.asarray(x).view(np.ndarray))


def empty(shape, dtype=float):
    return ndarray(shape, dtype)


def full(shape, value, dtype=None):
    return _there(np.full(shape, value, dtype))


def zeros(shape, dtype=float):
    return _there(np.zeros(shape, dtype))


def arange(*arguments, dtype=None):
    return _there(np.arange(*arguments, dtype=dtype))


def resize(x, shape):
    return _there(np.resize(x, shape))


def where(condition, x, y):
    with np.errstate(all="ignore"):
        return _there(np.where(condition, x, y))


def take(x, indices, axis):
    return _there(np.take(x, indices, axis=axis))


def abs(x):
    return _there(np.abs(x))


def isfinite(x):
    return _there(np.isfinite(x))


def concatenate(parts):
    return _there(np.concatenate(parts))


def ascontiguousarray(x):
    return _there(np.ascontiguousarray(x))


def matmul(a, b, out=None):
    product = np.matmul(a.view(np.ndarray), b.view(np.ndarray))
    launch(1e-4, lambda: out.__setitem__(..., product))
    return out


def launch(seconds, work):
    """What a kernel does: the device is busy for so long, and nobody has waited for it."""
    state.clock_s += seconds
    state.launches += 1
    state.synchronised = False
    work()


def wait():
    state.synchronised, state.waits = True, state.waits + 1


def get_default_memory_pool():
    return SimpleNamespace(free_all_blocks=lambda: None)


class Event:
    def record(self, stream=None):
        self.at = state.clock_s

    def synchronize(self):
        wait()


class RawModule:
    """Of compiled code only that it takes its time."""

    def __init__(self, code, options=()):
        self.code = code

    def get_function(self, name):
        assert f" {name}(" in self.code
        return lambda grid, block, arguments: launch(1e-3, lambda: None)


class Device:
    id = 0
    pci_bus_id = "0000:00:00.0"
    mem_info = (MEMORY_BYTES, MEMORY_BYTES)


def _properties(number):
    return {
        "name": b"Stand-in", "major": 9, "minor": 0, "multiProcessorCount": SMS, "l2CacheSize": L2_BYTES,
        "totalGlobalMem": MEMORY_BYTES, "clockRate": 1_000_000,
    }  # fmt: skip


cuda = SimpleNamespace(
    Event=Event,
    Device=Device,
    get_elapsed_time=lambda begin, end: (end.at - begin.at) * 1e3,
    get_current_stream=lambda: SimpleNamespace(synchronize=wait),
    runtime=SimpleNamespace(
        getDeviceProperties=_properties, runtimeGetVersion=lambda: 13000, driverGetVersion=lambda: 13010
    ),
)
sys.modules.setdefault("cupy", sys.modules[__name__])
