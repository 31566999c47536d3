"""torch: PyTorch's mm and addmm on the CPU; what a user of PyTorch multiplies with.

The operands become tensors of the same memory, once, when they are bound. Strides that PyTorch does not know
(negative ones) are copied, inside the call. Nothing asks for a gradient, so none is tracked. The OpenMP that
PyTorch's wheels bring does not survive a fork (a child hangs in its first parallel product): a child has one thread.
"""

import os
import warnings
from functools import partial
from importlib import metadata
from typing import Any

import numpy as np

from gemm.kernel import Kernel
from gemm.vendors.opening import loaded


def probe():
    try:
        metadata.version("torch")
    except metadata.PackageNotFoundError:
        return "torch is not installed; pip install 'gemmlab[peers]'"
    return None


def load():
    import torch

    with warnings.catch_warnings():  # of a read-only array torch warns, once in a process: now
        warnings.simplefilter("ignore")
        read_only = np.zeros(1)
        read_only.flags.writeable = False
        torch.from_numpy(read_only)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))
    loaded(identity)
    return multiply


def multiply(a, b, c, *, alpha, beta, epilogue=None):
    bind(a, b, c, alpha=alpha, beta=beta)()


def bind(a, b, c, *, alpha, beta, epilogue=None):
    import torch

    steps = calls(a, b, c, alpha, beta, np, torch.from_numpy)
    if len(steps) == 1:
        return steps[0]

    def call():
        for step in steps:
            step()

    return call


def calls(a, b, c, alpha, beta, arrays, tensor):
    """The product as calls one after the other, with copies of what PyTorch cannot share.

    arrays  NumPy, or CuPy: whose arrays these are
    tensor  makes a tensor of an array's memory
    """
    import torch

    steps: list[Any] = []
    left, right, into = a, b, c
    if not shared(a):
        left = arrays.empty(a.shape, a.dtype)
        steps.append(partial(arrays.copyto, left, a))
    if not shared(b):
        right = arrays.empty(b.shape, b.dtype)
        steps.append(partial(arrays.copyto, right, b))
    if not shared(c):
        into = arrays.empty(c.shape, c.dtype)
        steps += [partial(arrays.copyto, into, c)] if beta != 0 else []
    x, y, z = (tensor(array) for array in (left, right, into))
    if alpha == 1 and beta == 0:
        steps.append(partial(torch.mm, x, y, out=z))
    else:
        steps.append(partial(torch.addmm, z, x, y, alpha=alpha, beta=beta, out=z))
    if into is not c:
        steps.append(partial(arrays.copyto, c, into))
    return steps


def shared(x):
    """Can a tensor have this memory, strides and all?"""
    return all(stride >= 0 and stride % x.itemsize == 0 for stride in x.strides)


def set_threads(n):
    import torch

    torch.set_num_threads(n)


def identity():
    import torch

    return {
        "api": "blas", "name": "torch", "version": torch.__version__,
        "core_type": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads(),
        "path": torch.__file__, "inside": inside(torch.__config__.show()), "kernel": "torch",
    }  # fmt: skip


def inside(configuration):
    """What torch says it multiplies with: its lines on MKL, oneDNN and other BLAS."""
    lines = (line.strip(" -") for line in configuration.splitlines())
    wanted = ("Intel(R) oneAPI Math Kernel", "Intel(R) Math Kernel", "Intel(R) MKL-DNN", "OpenBLAS", "BLAS")
    return [line for line in lines if line.startswith(wanted)]


KERNEL = Kernel(
    name="torch",
    idea="PyTorch's mm and addmm on the CPU",
    load=load,
    set_threads=set_threads,
    probe=probe,
    bind=bind,
    pool="torch",
    rung=80,
    peer=True,
)
