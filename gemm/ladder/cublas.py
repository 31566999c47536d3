"""cublas: NVIDIA's library, through CuPy's bindings, straight into C. Asynchronous on CuPy's current stream.

cuBLAS counts by columns. A C whose rows are contiguous is C^T to it, and C^T = B^T A^T: the operands change places and
nobody is copied. An operand or C goes as it is, with its stride between rows (or columns) as the leading dimension,
where the numbers of a row (or of a column) lie side by side; any other is copied, inside the call.

float32 stays float32: the compute type is CUBLAS_COMPUTE_32F, which CUPY_TF32 does not reach, and the handle's math
mode, which might allow TF32, is the default's during the call. NVIDIA_TF32_OVERRIDE is read by the library itself:
where it is set to anything but 0, the compute type is the pedantic one, which allows nothing but float32 (and may be
slower). No setting of this file is above that variable; where it won all the same, rule 3 would say so.
float16 and bfloat16 are summed in float32, also where the library splits k (by default it adds such parts in 16 bits).

Written from CuPy 14.2's sources and cuBLAS's documentation, and not yet run on a GPU.
"""

import ctypes
import os
from functools import cache, partial

import numpy as np

from gemm.cuda.probe import cupy_or_device_missing as probe
from gemm.kernel import FLOATS, HALVES, Kernel

# cublasMath_t: the default, and reductions in the compute type (CuPy 14.2 has no name for the second).
DEFAULT_MATH, WHOLE_REDUCTIONS = 0, 16
# cudaDataType (CuPy 13 has no name for bfloat16's).
TYPES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}
LARGEST = 2**31 - 1  # of a leading dimension


def load():
    import cupy  # noqa: F401 - broken installations are found here
    from cupy_backends.cuda.libs import cublas  # noqa: F401

    return multiply


def multiply(a, b, c, *, alpha, beta, epilogue=None):
    bind(a, b, c, alpha=alpha, beta=beta)()


def bind(a, b, c, *, alpha, beta, epilogue=None, tf32=False):
    """The call: what has to be copied, the product, and C's way back."""
    import cupy

    kinds = _types(a.dtype.name, tf32)
    scalars = np.array([alpha, beta], kinds[2])  # on the host: the library reads them when it is called
    if all(leading(x) for x in (a, b, c)):
        return partial(_launch, _arguments(a, b, c, scalars, kinds), (a, b, c, scalars))

    def call():
        left, right = (x if leading(x) else cupy.ascontiguousarray(x) for x in (a, b))
        into = c
        if not leading(c):
            into = cupy.ascontiguousarray(c) if beta != 0 else cupy.empty(c.shape, c.dtype)
        _launch(_arguments(left, right, into, scalars, kinds))
        if into is not c:
            c[...] = into

    return call


def leading(x):
    """Whether x lies by rows or by columns, and its leading dimension; None where it does neither."""
    (rows, columns), (down, along), item = x.shape, x.strides, x.dtype.itemsize
    for by, length, count, step, stride in (
        ("rows", columns, rows, along, down),
        ("columns", rows, columns, down, along),
    ):
        if step != item and length > 1:
            continue
        if count == 1:
            return by, length
        if stride >= length * item and stride % item == 0 and stride // item <= LARGEST:
            return by, stride // item
    return None


def _types(dtype, tf32):
    """cudaDataType and cublasComputeType_t of a dtype, and the dtype of alpha and beta."""
    from cupy_backends.cuda.libs import cublas

    single = cublas.CUBLAS_COMPUTE_32F
    if tf32:
        single = cublas.CUBLAS_COMPUTE_32F_FAST_TF32
    elif dtype == "float32" and os.environ.get("NVIDIA_TF32_OVERRIDE", "0") != "0":
        single = cublas.CUBLAS_COMPUTE_32F_PEDANTIC
    if dtype == "float64":
        return TYPES[dtype], cublas.CUBLAS_COMPUTE_64F, np.float64
    return TYPES[dtype], single, np.float32


def _arguments(a, b, c, scalars, kinds):
    """Of cublasGemmEx, but for the handle."""
    from cupy_backends.cuda.libs import cublas

    (m, n), k = c.shape, a.shape[1]
    by, ldc = leading(c)
    if by == "rows":  # C^T = B^T A^T, by columns
        a, b, m, n = b, a, n, m
    (by_a, lda), (by_b, ldb) = leading(a), leading(b)
    op_a, op_b = (cublas.CUBLAS_OP_N if x == by else cublas.CUBLAS_OP_T for x in (by_a, by_b))
    kind, compute, _ = kinds
    alpha, beta = scalars.ctypes.data, scalars.ctypes.data + scalars.itemsize
    return (
        op_a, op_b, m, n, k, alpha, a.data.ptr, kind, lda, b.data.ptr, kind, ldb, beta, c.data.ptr, kind, ldc,
        compute, cublas.CUBLAS_GEMM_DEFAULT,
    )  # fmt: skip


def _launch(arguments, kept=()):
    """gemmEx on CuPy's handle, of which each thread has its own; CuPy's binding binds it to the current stream.

    kept  what the addresses among the arguments belong to
    """
    from cupy.cuda.device import get_cublas_handle
    from cupy_backends.cuda.libs import cublas

    handle = get_cublas_handle()
    math, pointers = cublas.getMathMode(handle), cublas.getPointerMode(handle)
    wanted = DEFAULT_MATH | WHOLE_REDUCTIONS
    try:
        if math != wanted:
            cublas.setMathMode(handle, wanted)
        if pointers != cublas.CUBLAS_POINTER_MODE_HOST:
            cublas.setPointerMode(handle, cublas.CUBLAS_POINTER_MODE_HOST)
        try:
            cublas.gemmEx(handle, *arguments)
        except NotImplementedError:  # the stream is being captured: CuPy calls no cuBLAS then
            _capture(handle, arguments)
    finally:  # the handle is also that of the caller's own CuPy
        if math != wanted:
            cublas.setMathMode(handle, math)
        if pointers != cublas.CUBLAS_POINTER_MODE_HOST:
            cublas.setPointerMode(handle, pointers)


def _capture(handle, arguments):
    """gemmEx on a stream that is being captured as a graph, which cuBLAS takes: into the library without CuPy."""
    import cupy
    from cupy_backends.cuda.libs import cublas

    library = _library(cublas.getVersion(handle) // 10_000)
    status = library.cublasSetStream_v2(handle, cupy.cuda.get_current_stream().ptr)
    status = status or library.cublasGemmEx(handle, *arguments)
    if status != 0:
        raise RuntimeError(f"cuBLAS refuses a product on a stream that is being captured: status {status}")


@cache
def _library(major):
    """The library that CuPy has loaded, by its name."""
    library = ctypes.CDLL(f"libcublas.so.{major}")
    i, p = ctypes.c_int, ctypes.c_void_p
    library.cublasSetStream_v2.argtypes = [p, p]
    library.cublasGemmEx.argtypes = [p, i, i, i, i, i, p, p, i, i, p, i, i, p, p, i, i, i, i]
    return library


KERNEL = Kernel(
    name="cublas",
    idea="NVIDIA's library, through CuPy",
    load=load,
    device="cuda",
    signatures=FLOATS + HALVES,
    fuses=frozenset({"beta"}),
    probe=probe,
    bind=bind,
    rung=90,
)
