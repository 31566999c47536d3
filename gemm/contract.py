"""The contract: C <- alpha A B + beta C, then an optional epilogue, the same for every kernel.

Everything that is not the product itself happens here, once, for all kernels: operands of one or of many
dimensions, dtypes, `out`, overlap, sizes of zero, alpha = 0, and the epilogues that a kernel cannot fuse.
What reaches a kernel is what `gemm.kernel` promises it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

import numpy as np

from gemm import epilogue as epilogues
from gemm.dtypes import accumulator, low, named
from gemm.epilogue import Epilogue
from gemm.kernel import Kernel
from gemm.registry import get, kernels

ndarray = np.ndarray
# There is one object of each, for arrays whose bytes are in this machine's order.
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
Call = Callable[[], Any]

# Kernel name -> its `plain`: the one path that must cost less than np.matmul does at n = 32.
_plain: dict[Any, Any] = {}


def matmul(
    a: Any,
    b: Any,
    out: Any = None,
    *,
    kernel: str | Kernel = "blas",
    alpha: float = 1.0,
    beta: float = 0.0,
    epilogue: Epilogue | None = None,
) -> Any:
    """C <- alpha A @ B + beta C with any kernel; np.matmul's rules for shapes, stacks and `out`.

    a         (..., m, k), or (k,)
    b         (..., k, n), or (k,); the leading dimensions broadcast against a's
    out       (..., m, n): C, of the result's dtype or one that the result casts to; needed where beta != 0
    kernel    a name of `gemm.kernels()`, a path `file.py:function`, or a Kernel
    alpha, beta  are rounded to the operands' dtype, as BLAS takes them (of 16 bits, to that of the sums: float32)
    epilogue  what is done to C afterwards (2-D operands only)

    float32 and float64 promote as in NumPy; float16 and bfloat16 (ml_dtypes') where the kernel takes them.
    Returns C (a scalar for two vectors), on the operands' device.

    Raises ValueError for shapes that do not fit, TypeError for dtypes that the kernel does not take, for a
    mix of host and device arrays and for an `out` that cannot hold the result; UnknownKernel;
    KernelUnavailable.
    """
    if kernel in _plain and alpha == 1.0 and beta == 0.0 and epilogue is None:
        if type(a) is type(b) is ndarray and a.ndim == b.ndim == 2:
            dtype = a.dtype
            if dtype is b.dtype and (dtype is FLOAT32 or dtype is FLOAT64):
                try:
                    return _plain[kernel](a, b, out)
                except (ValueError, TypeError):
                    pass  # a shape or an `out` that it does not take: the long way knows what to do or say
    found = get(kernel)
    result = _matmul(a, b, out, found, float(alpha), float(beta), epilogue)
    if found.plain is not None and kernel not in _plain:
        _plain[kernel] = found.plain()
    return result


def prepare(
    a: Any,
    b: Any,
    out: Any,
    *,
    kernel: str | Kernel = "blas",
    alpha: float = 1.0,
    beta: float = 0.0,
    epilogue: Epilogue | None = None,
) -> Call:
    """Validate and dispatch once; the returned `call()` does the product into `out` each time.

    The arrays are bound, not copied: `call` sees what they hold then. Shapes, dtypes and errors are
    `matmul`'s; a, b and out must be arrays.
    """
    for name, array in (("a", a), ("b", b), ("out", out)):
        if not _is_array(array):
            raise TypeError(f"prepare binds arrays; {name} is a {type(array).__name__}")
    return _bind(a, b, out, get(kernel), float(alpha), float(beta), epilogue)


def _matmul(
    a: Any, b: Any, out: Any, kernel: Kernel, alpha: float, beta: float, epilogue: Epilogue | None
) -> Any:
    a, b = (x if _is_array(x) else np.asarray(x) for x in (a, b))
    if out is None and beta != 0:
        raise ValueError(f"beta is {beta}: beta * C needs a C, give it as out")
    if out is None:
        shape = _result_shape(a.shape, b.shape)
        result = _result_dtype(a, b, kernel)
        out = _empty_like(a, result, shape)
        _bind(a, b, out, kernel, alpha, beta, epilogue)()
        return out if out.ndim else out[()]
    if isinstance(out, tuple) and len(out) == 1:  # np.matmul takes it so
        (out,) = out
    if not _is_array(out):
        raise TypeError(f"out must be an array, not a {type(out).__name__}")
    _bind(a, b, out, kernel, alpha, beta, epilogue)()
    return out


def _bind(
    a: Any, b: Any, out: Any, kernel: Kernel, alpha: float, beta: float, epilogue: Epilogue | None
) -> Call:
    """What has to be done for these operands, as one callable."""
    for name, array in (("a", a), ("b", b), ("out", out)):
        if isinstance(array, np.ma.MaskedArray):
            raise TypeError(f"{name} is a masked array, whose mask a product would lose; use .filled(value)")
    shape = _result_shape(a.shape, b.shape)
    kernel = resolved(kernel, a, b)
    dtype = _result_dtype(a, b, kernel)
    on_device = _on_device(a)
    places = {"a": a, "b": b, "out": out}
    if epilogue is not None:
        own = {"bias": epilogue.bias, "aux_out": epilogue.aux_out, "aux_in": epilogue.aux_in}
        places |= {f"the epilogue's {name}": x for name, x in own.items() if x is not None}
    if any(_on_device(x) != on_device for x in places.values()):
        where = ", ".join(f"{name} on the {'GPU' if _on_device(x) else 'host'}" for name, x in places.items())
        raise TypeError(f"operands must live in one place: {where}")
    if on_device and kernel.device == "cpu":
        raise TypeError(f"kernel {kernel.name!r} multiplies on the CPU and the operands are on the GPU")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}, the product of {a.shape} and {b.shape} has {shape}")
    if not np.can_cast(dtype, out.dtype, "same_kind"):
        raise TypeError(f"out is {out.dtype} and cannot hold a result of {dtype}")
    if not getattr(out.flags, "writeable", True):  # CuPy's flags do not say; its arrays all are
        raise ValueError("out is read-only")
    if epilogue is not None:
        if len(shape) != 2:
            raise ValueError(f"an epilogue needs 2-D operands, these have shapes {a.shape} and {b.shape}")
        epilogue.check(*shape, dtype)
        if any(x is not None and _may_share(x, out) for x in own.values()):
            raise ValueError("an array of the epilogue shares memory with out; give it memory of its own")
        kept = epilogue.aux_out
        if kept is not None and not getattr(kept.flags, "writeable", True):
            raise ValueError("epilogue aux_out is read-only; give an array that can be written")
        if kept is not None and any(_may_share(kept, x) for x in (a, b, epilogue.bias) if x is not None):
            raise ValueError(
                "epilogue aux_out shares memory with a, b or the bias; give it memory of its own"
            )

    scalar = _scalar(kernel, dtype)  # as sgemm, dgemm and gemmEx take them
    alpha, beta = (float(scalar(x)) for x in (alpha, beta))
    if kernel.device == "cuda" and not on_device:
        return _through_device(a, b, out, kernel, alpha, beta, epilogue)

    before: list[Call] = []
    a_in, b_in = (_ready(x, dtype, before) for x in (a, b))
    c, after = out, []
    buffered = out.dtype != dtype or not _native(out) or _overlaps(out, a) or _overlaps(out, b)
    if buffered:  # computed beside, then cast or copied, as NumPy does
        c = _empty_like(out, dtype, out.shape)
        after.append(partial(np.copyto, out, c, casting="same_kind"))
        if beta != 0:
            before.append(partial(np.copyto, c, out, casting="same_kind"))

    calls = before + _products(a_in, b_in, c, kernel, alpha, beta, epilogue) + after
    if len(calls) == 1:
        return calls[0]

    def call() -> None:
        for step in calls:
            step()

    return call


def _products(
    a: Any, b: Any, c: Any, kernel: Kernel, alpha: float, beta: float, epilogue: Epilogue | None
) -> list[Call]:
    """The 2-D products that make up this one, each a call; then the epilogue if the kernel cannot fuse it."""
    vector_a, vector_b = a.ndim == 1, b.ndim == 1
    a = a[None, :] if vector_a else a
    b = b[:, None] if vector_b else b
    if vector_a or vector_b:
        c = (
            c[..., None, :]
            if vector_a and not vector_b
            else c[..., None]
            if not vector_a
            else c[..., None, None]
        )
    stack = c.shape[:-2]
    a = np.broadcast_to(a, stack + a.shape[-2:]) if a.shape[:-2] != stack else a
    b = np.broadcast_to(b, stack + b.shape[-2:]) if b.shape[:-2] != stack else b
    if prod(c.shape) == 0:
        return []
    fused = epilogue is not None and epilogue.names <= kernel.fuses
    if alpha == 0 or a.shape[-1] == 0:  # A and B are not read
        calls: list[Call] = [partial(_scale, c, beta)]
        fused = False
    elif kernel.bind is not None:
        own = epilogue if fused else None
        calls = [
            kernel.bind(a[at], b[at], c[at], alpha=alpha, beta=beta, epilogue=own)
            for at in np.ndindex(*stack)
        ]
    elif kernel.plain is not None and not fused and not stack and (alpha, beta) == (1, 0) and _in_rows(c):
        calls = [partial(kernel.plain(), a, b, c)]  # nothing between the caller and the library
    else:
        function, own = kernel.function, epilogue if fused else None
        calls = [
            partial(function, a[at], b[at], c[at], alpha=alpha, beta=beta, epilogue=own)
            for at in np.ndindex(*stack)
        ]
    if epilogue is not None and not fused:
        calls.append(partial(epilogues.apply, epilogue, c))
    return calls


def _in_rows(c: Any) -> bool:
    return type(c) is ndarray and c.flags.c_contiguous


def _scale(c: Any, beta: float) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        if beta == 0:
            c[...] = 0
        elif low(c.dtype):
            c[...] = c.astype(np.float32) * np.float32(beta)
        else:
            np.multiply(c, beta, out=c)


def _through_device(
    a: Any, b: Any, out: Any, kernel: Kernel, alpha: float, beta: float, epilogue: Epilogue | None
) -> Call:
    """Host operands for a device kernel: there and back, inside the call."""
    import cupy

    kernel.function  # noqa: B018 - unavailable is said now, not at the call

    def call() -> None:
        c = cupy.asarray(out) if beta != 0 else cupy.empty(out.shape, _result_dtype(a, b, kernel))
        _bind(cupy.asarray(a), cupy.asarray(b), c, kernel, alpha, beta, None)()
        np.copyto(out, cupy.asnumpy(c), casting="same_kind")
        if epilogue is not None:
            epilogues.apply(epilogue, out)

    return call


def resolved(kernel: Kernel, a: Any, b: Any) -> Kernel:
    """The kernel that does a product of these arrays: itself, or the one that it chooses for them (`auto`), loaded.

    Raises KernelUnavailable where that has nothing to choose from; ValueError for shapes that do not fit.
    """
    if kernel.choose is None:
        return kernel
    _result_shape(a.shape, b.shape)
    m, n = (a.shape[-2] if a.ndim > 1 else 1), (b.shape[-1] if b.ndim > 1 else 1)
    dtype = _result_dtype(a, b, kernel)
    return get(kernel.choose(m, n, a.shape[-1], dtype.name, order=_order(a) + _order(b)))


def _order(x: Any) -> str:
    """t where x is a transposed view: its columns are contiguous, and its rows are not."""
    return "t" if x.ndim > 1 and x.strides[-2] == x.itemsize < x.strides[-1] else "n"


def _result_shape(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """np.matmul's rule. ValueError for scalars, for inner sizes that differ, for stacks that do not broadcast."""
    for name, shape in (("a", a), ("b", b)):
        if not shape:
            raise ValueError(f"{name} is a scalar; a product of matrices needs at least one dimension")
    inner = b[-2] if len(b) > 1 else b[0]
    if a[-1] != inner:
        raise ValueError(f"shapes {a} and {b} do not fit: a has {a[-1]} columns and b has {inner} rows")
    try:
        stack = np.broadcast_shapes(a[:-2], b[:-2])
    except ValueError:
        raise ValueError(f"shapes {a} and {b} do not fit: their stacks do not broadcast") from None
    return stack + (a[-2:-1] if len(a) > 1 else ()) + (b[-1:] if len(b) > 1 else ())


def _result_dtype(a: Any, b: Any, kernel: Kernel) -> np.dtype:
    """The dtype of the result; TypeError if the kernel has no signature for the operands'."""
    try:
        dtype = np.result_type(a.dtype, b.dtype)
    except TypeError:  # float16 and bfloat16 have no dtype in common
        dtype = None
    signature = kernel.signature(dtype) if dtype is not None and _kind(a) == _kind(b) else None
    if signature is None:
        others = [other.name for other in kernels() if dtype is not None and other.signature(dtype)]
        takes = f"kernels that take it: {', '.join(others)}" if others else "no kernel here takes it"
        own = ", ".join(s.input for s in kernel.signatures)
        raise TypeError(f"kernel {kernel.name!r} takes {own}, not {a.dtype} and {b.dtype}; {takes}")
    return named(signature.output)


def _scalar(kernel: Kernel, dtype: np.dtype) -> Any:
    """The type that alpha and beta are rounded to: the operands', for 16 bits the accumulator's."""
    if not low(dtype):
        return dtype.type
    signature = kernel.signature(dtype)
    return named(signature.accumulator if signature else accumulator(dtype)).type


def _kind(x: Any) -> str:
    """bfloat16 is a float, though NumPy knows it as bytes."""
    return "f" if low(x.dtype) else x.dtype.kind


def _ready(x: Any, dtype: np.dtype, before: list[Call]) -> Any:
    """x as kernels take it; where that needs a copy, the copy is one of the call's steps."""
    if x.dtype == dtype and _native(x):
        return x
    copy = _empty_like(x, dtype, x.shape)
    before.append(partial(np.copyto, copy, x))
    return copy


def _empty_like(x: Any, dtype: np.dtype, shape: tuple[int, ...]) -> Any:
    """A plain new array where x lives, rows contiguous."""
    if isinstance(x, ndarray):
        return np.empty(shape, dtype)
    return np.empty_like(x, dtype=dtype, shape=shape, order="C")  # CuPy's, by NumPy's dispatch


def _native(x: Any) -> bool:
    return x.dtype.isnative and getattr(x.flags, "aligned", True)


def _overlaps(out: Any, x: Any) -> bool:
    if not _may_share(out, x):
        return False
    try:
        return bool(np.shares_memory(_shadow(out), _shadow(x), max_work=1000))  # type: ignore[arg-type]  # stubs lag
    except np.exceptions.TooHardError:  # interleaved in a way that is dear to tell apart: buffer
        return True


def _may_share(x: Any, y: Any) -> bool:
    """Do their first and last bytes leave it possible that they share memory? Arrays of one place."""
    return bool(x.size and y.size and np.may_share_memory(_shadow(x), _shadow(y)))


class _Addresses:
    """What NumPy needs to know of an array on a device to tell where it lies."""

    def __init__(self, x: Any) -> None:
        said = x.__cuda_array_interface__
        self.__array_interface__ = {
            "version": 3, "data": (said["data"][0], True), "typestr": f"|V{x.dtype.itemsize}",
            "shape": tuple(said["shape"]), "strides": said.get("strides"),
        }  # fmt: skip


def _shadow(x: Any) -> ndarray:
    """x, or a NumPy array with the addresses of one on a device: to be asked where it lies, never to be read."""
    return x if isinstance(x, ndarray) else np.asarray(_Addresses(x))


def _is_array(x: Any) -> bool:
    return isinstance(x, ndarray) or _on_device(x)


def _on_device(x: Any) -> bool:
    return hasattr(x, "__cuda_array_interface__")
