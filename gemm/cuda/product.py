"""Product: what every kernel is handed, laid out as `source/product.cuh` says, and filled from arrays.

    pack(a, b, c, alpha=1.0, beta=0.0, epilogue=None) -> a record of 160 bytes

The arrays may live on the host or on the device: what is taken of them is an address, a shape and strides.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gemm.epilogue import Epilogue

POINTERS = ("a", "b", "c")
STRIDES = ("a_row", "a_column", "b_row", "b_column", "c_row", "c_column")
EPILOGUE = ("bias", "kept", "from")
EPILOGUE_STRIDES = ("bias_step", "kept_row", "kept_column", "from_row", "from_column")
# In the order of source/product.cuh, with no gaps between.
PRODUCT = np.dtype(
    [(name, np.uint64) for name in POINTERS]
    + [(name, np.int64) for name in STRIDES]
    + [(name, np.uint64) for name in EPILOGUE]
    + [(name, np.int64) for name in EPILOGUE_STRIDES]
    + [(name, np.int32) for name in ("m", "n", "k", "function")]
    + [(name, np.float32) for name in ("alpha", "beta")]
)
# As enum Function numbers them.
FUNCTIONS = {
    name: number for number, name in enumerate(("identity", "relu", "leaky-relu", "tanh", "sigmoid", "gelu"))
}
# Kernels count rows and columns in 32 bits, and a last tile may stand over the edge by less than this.
LARGEST = 2**31 - 2**12
# What finish.cuh does.
FUSES = frozenset({"beta", "bias", "aux_out", *FUNCTIONS, *(f"grad:{name}" for name in FUNCTIONS)})


def pack(
    a: Any, b: Any, c: Any, alpha: float = 1.0, beta: float = 0.0, epilogue: Epilogue | None = None
) -> np.ndarray:
    """C <- alpha A B + beta C, then the epilogue, as an array () of PRODUCT; the arrays must outlive its use.

    a (m, k), b (k, n), c (m, n)   any strides, in whole elements

    A C that lies in columns is written as its transpose, C^T = B^T A^T, whose rows are contiguous: kernels write in
    rows. Not where there is a bias, which Product has by columns only.

    Raises ValueError for a size that is not in 1 .. LARGEST.
    """
    bias, kept, grad_from, function = None, None, None, "identity"
    if epilogue is not None:
        bias, kept, grad_from = epilogue.bias, epilogue.aux_out, epilogue.aux_in
        function = epilogue.grad_of or epilogue.activation or "identity"
    if bias is None and c.strides[1] != c.itemsize == c.strides[0]:
        a, b, c = b.T, a.T, c.T
        kept = None if kept is None else kept.T
        grad_from = None if grad_from is None else grad_from.T
    (m, k), n = a.shape, b.shape[1]
    if min(m, n, k) < 1 or max(m, n, k) > LARGEST:
        raise ValueError(f"a product of {m} x {n} x {k}: CUDA kernels take sizes from 1 to {LARGEST}")
    packed = np.zeros((), PRODUCT)
    for name, array in (("a", a), ("b", b), ("c", c), ("kept", kept), ("from", grad_from)):
        if array is not None:
            packed[name] = address(array)
            packed[f"{name}_row"], packed[f"{name}_column"] = steps(array)
    if bias is not None:
        packed["bias"] = address(bias)
        (packed["bias_step"],) = steps(bias)
    packed["m"], packed["n"], packed["k"] = m, n, k
    packed["function"] = FUNCTIONS[function]
    packed["alpha"], packed["beta"] = alpha, beta
    return packed


def address(array: Any) -> int:
    """Of an array's first element, on the host or on the device."""
    device = getattr(array, "__cuda_array_interface__", None)
    if device is not None:
        return int(device["data"][0])
    return int(array.__array_interface__["data"][0])


def steps(array: Any) -> tuple[int, ...]:
    """An array's strides in elements."""
    return tuple(stride // array.itemsize for stride in array.strides)
