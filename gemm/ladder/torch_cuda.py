"""torch-cuda: PyTorch's mm and addmm on the GPU, on CuPy's arrays and on CuPy's current stream.

An array becomes a tensor of the same memory by DLPack, once, when it is bound (16-bit ones as integers, which PyTorch
then takes for what they are: CuPy knows bfloat16 only together with ml_dtypes). Strides that PyTorch does not know
(negative ones) are copied, inside the call. TF32 and reductions in 16 bits are switched off, in this whole process.
Not yet run on a GPU.
"""

import numpy as np

from gemm.cuda.probe import cupy_or_device_missing, version_of
from gemm.kernel import FLOATS, HALVES, Kernel
from gemm.ladder import torch_mm


def probe():
    """PyTorch's wheel says in its version whether it was built for CUDA; the rest is CuPy's and the driver's."""
    reason = torch_mm.probe()
    if reason:
        return reason
    version = version_of("torch") or ""
    if version.endswith("+cpu"):
        return f"torch {version} is built without CUDA; install PyTorch's wheel for CUDA"
    return cupy_or_device_missing()


def load():
    import cupy  # noqa: F401 - the arrays are its
    import torch

    if not torch.cuda.is_available():
        raise ImportError(f"torch {torch.__version__} finds no CUDA device")
    settle()
    return multiply


def settle():
    """float32 is float32, and sums of 16-bit products are kept in float32."""
    import torch

    matmul = torch.backends.cuda.matmul
    if hasattr(matmul, "fp32_precision"):  # since 2.9, which warns of the other name
        matmul.fp32_precision = "ieee"
    else:
        matmul.allow_tf32 = False
    matmul.allow_fp16_reduced_precision_reduction = False
    matmul.allow_bf16_reduced_precision_reduction = False


def multiply(a, b, c, *, alpha, beta, epilogue=None):
    bind(a, b, c, alpha=alpha, beta=beta)()


def bind(a, b, c, *, alpha, beta, epilogue=None):
    import cupy
    import torch

    steps = torch_mm.calls(a, b, c, alpha, beta, cupy, tensor)

    def call():
        ours = cupy.cuda.get_current_stream().ptr
        if ours == torch.cuda.current_stream().cuda_stream:
            for step in steps:
                step()
            return
        theirs = torch.cuda.ExternalStream(ours) if ours else torch.cuda.default_stream()
        with torch.cuda.stream(theirs):  # PyTorch launches where CuPy does
            for step in steps:
                step()

    return call


def tensor(x):
    """A tensor of the same memory."""
    import torch

    if x.dtype.itemsize != 2:
        return torch.from_dlpack(x)
    return torch.from_dlpack(x.view(np.int16)).view(getattr(torch, x.dtype.name))


KERNEL = Kernel(
    name="torch-cuda",
    idea="PyTorch's mm and addmm on the GPU",
    load=load,
    device="cuda",
    signatures=FLOATS + HALVES,
    fuses=frozenset({"beta"}),
    probe=probe,
    bind=bind,
    rung=92,
    peer=True,
)
