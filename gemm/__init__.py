"""gemm: the room that multiplies. One contract, many kernels.

    gemm.matmul(a, b, out=None, *, kernel="blas", alpha=1.0, beta=0.0, epilogue=None)
    gemm.prepare(a, b, out, *, kernel, alpha, beta, epilogue) -> call
    gemm.kernels(), gemm.get(name), gemm.set_threads(n)

C <- alpha * A @ B + beta * C, then an optional epilogue. m, n, k as in BLAS: A is m x k, B is k x n.
"""

from gemm.contract import matmul, prepare
from gemm.epilogue import ACTIVATIONS, Epilogue
from gemm.kernel import Kernel, KernelUnavailable, Signature, UnknownKernel
from gemm.registry import find, get, kernels
from gemm.threads import get_threads, set_threads

__all__ = [
    "ACTIVATIONS",
    "Epilogue",
    "Kernel",
    "KernelUnavailable",
    "Signature",
    "UnknownKernel",
    "find",
    "get",
    "get_threads",
    "kernels",
    "matmul",
    "prepare",
    "set_threads",
]
