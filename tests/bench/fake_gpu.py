"""A GPU without one: a plugin for pytest (`-p tests.bench.fake_gpu`) that puts a device behind the name `cupy`.

It queues products and does them when it is waited for, each in BUSY_S at least, as a device does. The kernel
`cublas` then runs as it is written.
"""

import sys
import time
from types import ModuleType, SimpleNamespace

import numpy as np

import gemm

BUSY_S = 0.002
queue = []


class DeviceArray(np.ndarray):
    """An array that says it lives on a device."""

    __cuda_array_interface__ = {"version": 3}  # noqa: RUF012 - as CuPy has it


def matmul(a, b, out):
    assert len(queue) < 20_000, "the device is given work and nobody waits for it"
    queue.append((a, b, out))


def synchronize():
    while queue:
        a, b, out = queue.pop(0)
        time.sleep(BUSY_S)
        np.matmul(a.view(np.ndarray), b.view(np.ndarray), out=out.view(np.ndarray))


def asnumpy(x):
    synchronize()
    return np.array(x)


def pytest_configure():
    """Only where it is loaded as a plugin: importing this file changes nothing."""
    cupy = ModuleType("cupy")
    cupy.matmul = matmul
    cupy.asnumpy = asnumpy
    cupy.asarray = lambda x: np.array(x).view(DeviceArray)
    cupy.cuda = SimpleNamespace(get_current_stream=lambda: SimpleNamespace(synchronize=synchronize))
    sys.modules["cupy"] = cupy
    gemm.find("cublas").__dict__["reason"] = None  # what its probe would have found
