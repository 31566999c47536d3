"""cublas-tf32: NVIDIA's library on tensor cores: float32 in and out, the operands rounded to TF32 in between.

A kernel of its own name, so that nobody multiplies 11 bits of significand without having asked for it. Written from
cuBLAS's documentation and not yet run on a GPU.
"""

import os
from functools import partial
from pathlib import Path

from gemm.kernel import FLOATS, Kernel
from gemm.ladder import cublas


def probe():
    if os.environ.get("NVIDIA_TF32_OVERRIDE") == "0":
        return cublas.probe() or "NVIDIA_TF32_OVERRIDE=0 takes TF32 from all of NVIDIA's libraries; unset it"
    return cublas.probe()


def load():
    cublas.load()
    return multiply


def multiply(a, b, c, *, alpha, beta, epilogue=None):
    bind(a, b, c, alpha=alpha, beta=beta)()


bind = partial(cublas.bind, tf32=True)

KERNEL = Kernel(
    name="cublas-tf32",
    idea="NVIDIA's library on tensor cores, float32 rounded to TF32",
    load=load,
    device="cuda",
    signatures=FLOATS[:1],
    fuses=frozenset({"beta"}),
    probe=probe,
    bind=bind,
    rung=91,
    error_constant=2.0,  # tensor cores cut off what does not fit, operands and sums alike
    multiplies="tfloat32",
    files=lambda: [Path(cublas.__file__)],
)
