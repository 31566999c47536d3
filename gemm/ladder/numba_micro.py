"""numba-micro: packed panels around a register-resident vector micro-kernel. The lab's own GEMM, in Python.

It is a wing of its own, `gemm/micro/`, to be read from its first page on. It calls no BLAS, ever.
"""

import sys
from functools import cache
from pathlib import Path

from gemm.kernel import Kernel

FOLDER = Path(__file__).parent.parent / "micro"
ACTIVATIONS = ("relu", "leaky-relu", "gelu", "tanh", "sigmoid", "identity")


def probe():
    if sys.platform == "win32":
        return "its threads and its workspaces are the C library's of Linux and macOS, which Windows lacks"
    return None


@cache
def product():
    from gemm.micro import product

    return product


def load():
    return product().load()


def bind(a, b, c, *, alpha, beta, epilogue=None):
    return product().bind(a, b, c, alpha=alpha, beta=beta, epilogue=epilogue)


def plain():
    return product().plain


def set_threads(count):
    product().set_threads(count)


def tuning(dtype):
    from gemm.micro import blocking

    return blocking.origin(dtype)


KERNEL = Kernel(
    name="numba-micro",
    idea="packed panels, a vector micro-kernel in registers: our own GEMM",
    load=load,
    probe=probe,
    bind=bind,
    plain=plain,
    set_threads=set_threads,
    tuning=tuning,
    fuses=frozenset({"beta", "bias", "aux_out", *ACTIVATIONS, *(f"grad:{name}" for name in ACTIVATIONS)}),
    pool="numba-micro",
    rung=60,
    file=str(FOLDER),
)
