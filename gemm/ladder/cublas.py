"""cublas: NVIDIA's library, through CuPy. Asynchronous on the current stream; float32 stays float32.

C- and F-ordered operands go to the library as they are; other strides are copied by CuPy inside the call.
Written against CuPy's documentation and not yet run on a GPU.
"""

import ctypes
from importlib import metadata

from gemm.kernel import Kernel

WHEELS = ("cupy-cuda13x", "cupy-cuda12x", "cupy")


def probe():
    """Metadata and the driver's library only: CuPy's own message blames the driver's version, always."""
    installed = [wheel for wheel in WHEELS if _version(wheel)]
    if not installed:
        return "CuPy is not installed; pip install 'gemmlab[cuda13]' (or [cuda12] for CUDA 12 drivers)"
    if len(installed) > 1:
        return f"{' and '.join(installed)} are installed over each other; keep one of them"
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return f"{installed[0]} is installed and there is no NVIDIA driver (libcuda.so.1 was not found)"
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        return "there is an NVIDIA driver and no CUDA device that this process can use"
    return None


def _version(wheel):
    try:
        return metadata.version(wheel)
    except metadata.PackageNotFoundError:
        return None


def load():
    import cupy

    def multiply(a, b, c, *, alpha, beta, epilogue=None):
        if alpha == 1 and beta == 0:
            cupy.matmul(a, b, out=c)
            return
        product = cupy.matmul(a, b)
        c[...] = alpha * product if beta == 0 else alpha * product + beta * c

    return multiply


KERNEL = Kernel(
    name="cublas",
    idea="NVIDIA's library, through CuPy",
    load=load,
    device="cuda",
    probe=probe,
    rung=90,
)
