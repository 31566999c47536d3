"""cuda-*: the climb on a GPU, hand-written CUDA from one thread per element up. A wing of its own: `gemm/cuda/`.

float32 is multiplied in float32; in TF32 by cuda-tf32 alone. Asynchronous on CuPy's current stream. Not yet run on a
GPU.
"""

from functools import partial
from pathlib import Path

from gemm.cuda import probe, tiles
from gemm.cuda.product import FUSES
from gemm.cuda.rungs import LADDER, TENSOR_RUNGS
from gemm.kernel import Kernel

FOLDER = Path(__file__).parent.parent / "cuda"
# What of the wing decides about the code that runs and how it is called.
PYTHON = ("product.py", "rungs.py", "tensor_map.py", "build.py", "launch.py")


def load(rung):
    return partial(multiply, rung)


def multiply(rung, a, b, c, *, alpha, beta, epilogue=None):
    """C <- alpha A B + beta C, then the epilogue, on arrays of the GPU."""
    bind(rung, a, b, c, alpha=alpha, beta=beta, epilogue=epilogue)()


def bind(rung, a, b, c, *, alpha, beta, epilogue=None):
    from gemm.cuda import launch

    return launch.bind(rung, a, b, c, alpha=alpha, beta=beta, epilogue=epilogue)


def files(rung):
    from gemm.cuda import build

    kernels = [rung, rung.faster] if rung.faster else [rung]
    return [
        *(file for kernel in kernels for file in build.sources(kernel.path)),
        *(FOLDER / name for name in PYTHON),
    ]


def tuning(rung, dtype):
    return tiles.origin(rung)


def KERNELS():
    return [
        Kernel(
            name=rung.name,
            idea=rung.idea,
            load=partial(load, rung),
            device="cuda",
            signatures=rung.signatures,
            fuses=FUSES,
            probe=partial(probe.unavailable, rung.since),
            bind=partial(bind, rung),
            tuning=partial(tuning, rung),
            rung=rung.rung,
            error_constant=2.0
            if rung in TENSOR_RUNGS
            else 1.0,  # tensor cores cut off what does not fit in a sum
            multiplies=rung.multiplies,
            file=__file__,
            files=partial(files, rung),
        )
        for rung in LADDER
    ]
