"""cublas: NVIDIA's library, through CuPy. Asynchronous on the current stream; float32 stays float32.

C- and F-ordered operands go to the library as they are; other strides are copied by CuPy inside the call.
Written against CuPy's documentation and not yet run on a GPU.
"""

from gemm.cuda import probe
from gemm.kernel import Kernel


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
    probe=probe.cupy_or_device_missing,
    rung=90,
)
