"""The stand-in's cupy_backends.cuda.libs.cublas: GEMM on addresses, by columns, with cuBLAS's own checks.

Arithmetic that cuBLAS may do where it is allowed to shows in the result: TF32 where the compute type or the handle's
math mode say so, and reductions in 16 bits unless the math mode forbids them.
"""

import ctypes
import itertools
import threading

import numpy as np

from gemm.diagnosis import rounded
from gemm.dtypes import low, named
from tests.stand_in.memory import QUEUE, IllegalAddress, Memory, at, get_current_stream

CUBLAS_OP_N, CUBLAS_OP_T, CUBLAS_OP_C = 0, 1, 2
CUBLAS_POINTER_MODE_HOST, CUBLAS_POINTER_MODE_DEVICE = 0, 1
CUBLAS_GEMM_DEFAULT, CUBLAS_GEMM_DEFAULT_TENSOR_OP = -1, 99
CUBLAS_DEFAULT_MATH, CUBLAS_TENSOR_OP_MATH = 0, 1
CUBLAS_COMPUTE_16F, CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_PEDANTIC = 64, 68, 69
CUBLAS_COMPUTE_32F_FAST_16F, CUBLAS_COMPUTE_32F_FAST_16BF, CUBLAS_COMPUTE_32F_FAST_TF32 = 74, 75, 77
CUBLAS_COMPUTE_64F, CUBLAS_COMPUTE_64F_PEDANTIC = 70, 71
TF32_MATH, WHOLE_REDUCTIONS = 3, 16  # of cublasMath_t; CuPy has no names for them
CUDA = {0: "float32", 1: "float64", 2: "float16", 14: "bfloat16"}  # cudaDataType
STATUS = {
    7: "CUBLAS_STATUS_INVALID_VALUE",
    15: "CUBLAS_STATUS_NOT_SUPPORTED",
    1: "CUBLAS_STATUS_NOT_INITIALIZED",
}


class CUBLASError(RuntimeError):
    def __init__(self, status):
        self.status = status
        super().__init__(STATUS[status])


class _Handle:
    def __init__(self):
        self.pointers, self.math, self.stream, self.thread = 0, 0, 0, threading.get_ident()


_handles, _numbers = {}, itertools.count(0xCB1A5)
capturing = set()  # streams on which CuPy refuses to call cuBLAS
calls = []  # of every product: (name, transa, transb, m, n, k, lda, ldb, ldc), for a test that wants to know


def create():
    handle = next(_numbers)
    _handles[handle] = _Handle()
    return handle


def destroy(handle):
    del _handles[handle]


def _of(handle):
    found = _handles.get(handle)
    if found is None:
        raise CUBLASError(1)
    assert found.thread == threading.get_ident(), (
        "a cuBLAS handle of another thread is not to be used at the same time"
    )
    return found


def getVersion(handle):
    return 130000


def getPointerMode(handle):
    return _of(handle).pointers


def setPointerMode(handle, mode):
    _of(handle).pointers = mode


def getMathMode(handle):
    return _of(handle).math


def setMathMode(handle, mode):
    if mode & ~WHOLE_REDUCTIONS not in (0, 1, 2, 3):
        raise CUBLASError(7)
    _of(handle).math = mode


def getStream(handle):
    return _of(handle).stream


def setStream(handle, stream):
    if stream in capturing:
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
    _of(handle).stream = stream


class Library:
    """libcublas itself, by ctypes: it does not know which stream is CuPy's current one."""

    cublasSetStream_v2 = staticmethod(lambda handle, stream: setattr(_of(handle), "stream", stream) or 0)

    @staticmethod
    def cublasGemmEx(handle, *arguments):
        assert _of(handle).stream == get_current_stream().ptr, "this product goes to another stream"
        _gemm_ex(handle, *arguments)
        return 0


def sgemm(handle, transa, transb, m, n, k, alpha, A, lda, B, ldb, beta, C, ldc):
    setStream(handle, get_current_stream().ptr)
    types = ("float32",) * 3
    _gemm(
        "sgemm", handle, transa, transb, m, n, k, alpha, A, lda, B, ldb, beta, C, ldc, types, "float32", False
    )


def dgemm(handle, transa, transb, m, n, k, alpha, A, lda, B, ldb, beta, C, ldc):
    setStream(handle, get_current_stream().ptr)
    types = ("float64",) * 3
    _gemm(
        "dgemm", handle, transa, transb, m, n, k, alpha, A, lda, B, ldb, beta, C, ldc, types, "float64", False
    )


def gemmEx(handle, *arguments):
    setStream(handle, get_current_stream().ptr)  # as CuPy's bindings do before every call
    _gemm_ex(handle, *arguments)


def _gemm_ex(
    handle,
    transa,
    transb,
    m,
    n,
    k,
    alpha,
    A,
    Atype,
    lda,
    B,
    Btype,
    ldb,
    beta,
    C,
    Ctype,
    ldc,
    computeType,
    algo,
):
    types = tuple(CUDA[x] for x in (Atype, Btype, Ctype))
    if algo not in (CUBLAS_GEMM_DEFAULT, CUBLAS_GEMM_DEFAULT_TENSOR_OP):
        raise NotImplementedError(f"cublasGemmAlgo_t {algo} is not modelled")
    known = {
        CUBLAS_COMPUTE_64F: {("float64",) * 3}, CUBLAS_COMPUTE_32F_FAST_TF32: {("float32",) * 3},
        CUBLAS_COMPUTE_32F: {(x, x, y) for x, y in (
            ("float32", "float32"), ("float16", "float16"), ("float16", "float32"), ("bfloat16", "bfloat16"),
            ("bfloat16", "float32"),
        )},
    }  # fmt: skip
    known[CUBLAS_COMPUTE_32F_PEDANTIC] = known[CUBLAS_COMPUTE_32F]
    known[CUBLAS_COMPUTE_64F_PEDANTIC] = known[CUBLAS_COMPUTE_64F]
    if computeType not in known:
        raise NotImplementedError(f"cublasComputeType_t {computeType} is not modelled")
    if types not in known[computeType]:
        raise CUBLASError(15)
    scalar = "float64" if computeType in (CUBLAS_COMPUTE_64F, CUBLAS_COMPUTE_64F_PEDANTIC) else "float32"
    pedantic = computeType == CUBLAS_COMPUTE_32F_PEDANTIC
    tf32 = None if pedantic else computeType == CUBLAS_COMPUTE_32F_FAST_TF32
    _gemm("gemmEx", handle, transa, transb, m, n, k, alpha, A, lda, B, ldb, beta, C, ldc, types, scalar, tf32)


def _gemm(name, handle, transa, transb, m, n, k, alpha, A, lda, B, ldb, beta, C, ldc, types, scalar, tf32):
    """C <- alpha op(A) op(B) + beta C, by columns. tf32: asked for, left to the math mode (False), forbidden (None)."""
    found = _of(handle)
    for number in (handle, transa, transb, m, n, k, alpha, A, lda, B, ldb, beta, C, ldc):
        if type(number) is not int:
            raise TypeError(
                f"an integer is required, not {type(number).__name__}"
            )  # as Cython would, or nearly
    rows_a, rows_b = (m if transa == CUBLAS_OP_N else k), (k if transb == CUBLAS_OP_N else n)
    if min(m, n, k) < 0 or lda < max(1, rows_a) or ldb < max(1, rows_b) or ldc < max(1, m):
        raise CUBLASError(7)
    if max(m, n, k, lda, ldb, ldc) >= 2**31:
        raise OverflowError("value too large to convert to int")
    calls.append((name, transa, transb, m, n, k, lda, ldb, ldc))
    a, held_a = _matrix(A, types[0], rows_a, m + k - rows_a, lda)
    b, held_b = _matrix(B, types[1], rows_b, k + n - rows_b, ldb)
    c, held_c = _matrix(C, types[2], m, n, ldc)
    assert not any(np.shares_memory(c, x) for x in (a, b)), (
        "C overlaps an operand: what cuBLAS does then is undefined"
    )
    a, b = (x if op == CUBLAS_OP_N else x.T for x, op in ((a, transa), (b, transb)))
    scale = _read(found, alpha, scalar), _read(found, beta, scalar)
    in_tf32 = tf32 or (tf32 is False and found.math & 15 == TF32_MATH)
    halves = low(named(types[2])) and not found.math & WHOLE_REDUCTIONS and k > 1

    def product(held=(held_a, held_b, held_c)):
        with np.errstate(all="ignore"):
            x, y = (z.astype(scalar) for z in (a, b))
            if types[0] == "float32" and in_tf32:
                x, y = (rounded(z, 11).astype(scalar) for z in (x, y))
            sums = x @ y
            if halves:
                parts = (x[:, : k // 2] @ y[: k // 2]), (x[:, k // 2 :] @ y[k // 2 :])
                sums = sum(part.astype(c.dtype).astype(scalar) for part in parts)
            z = scale[0] * sums
            c[...] = z if scale[1] == 0 else z + scale[1] * c.astype(scalar)

    QUEUE.launch(product)


def _matrix(ptr, dtype, rows, columns, ld):
    dtype = named(dtype)
    return at(ptr, dtype, (rows, columns), (dtype.itemsize, ld * dtype.itemsize))


def _read(handle, ptr, dtype):
    dtype = np.dtype(dtype)
    if handle.pointers == CUBLAS_POINTER_MODE_DEVICE:
        return at(ptr, dtype, (), ())[0][()]
    try:
        Memory.around(ptr, ptr + dtype.itemsize)
    except IllegalAddress:
        return np.frombuffer((ctypes.c_char * dtype.itemsize).from_address(ptr), dtype)[0]
    raise IllegalAddress("the pointer mode is host, and alpha or beta lies on the device")
