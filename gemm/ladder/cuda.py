"""cuda-*: the climb on a GPU, hand-written CUDA from one thread per element up. A wing of its own: `gemm/cuda/`.

float32 is multiplied in float32, never in TF32. Asynchronous on CuPy's current stream. Not yet run on a GPU.
"""

from functools import partial
from pathlib import Path

from gemm.cuda import probe, tiles
from gemm.cuda.product import FUSES
from gemm.cuda.rungs import RUNGS
from gemm.kernel import Kernel

FOLDER = Path(__file__).parent.parent / "cuda"
# What of the wing decides about the code that runs and how it is called.
PYTHON = ("product.py", "rungs.py", "build.py", "launch.py")


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

    return [*build.sources(rung.path), *(FOLDER / name for name in PYTHON)]


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
            file=__file__,
            files=partial(files, rung),
        )
        for rung in RUNGS
    ]
