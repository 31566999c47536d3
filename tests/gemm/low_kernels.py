"""Kernels of 16 bits and of TF32, right ones and wrong ones, in NumPy: what tensor cores do, on a CPU.

`gemm.conformance` must pass the right ones and find out the others, by what stands in WRONG.
"""

import numpy as np

from gemm.diagnosis import rounded
from gemm.dtypes import named
from gemm.kernel import FLOATS, HALVES, Kernel


def _into(c, sums, alpha, beta):
    """float32 sums, scaled and rounded once into c."""
    z = np.float32(alpha) * sums
    c[...] = z if beta == 0 else z + np.float32(beta) * c.astype(np.float32)


def right(a, b, c, *, alpha, beta, epilogue=None):
    _into(c, a.astype(np.float32) @ b.astype(np.float32), alpha, beta)


def tf32(a, b, c, *, alpha, beta, epilogue=None):
    _into(c, rounded(a, 11).astype("f4") @ rounded(b, 11).astype("f4"), alpha, beta)


def tf32_cut_off(a, b, c, *, alpha, beta, epilogue=None):
    """As tensor cores do to a float32 that nobody rounded for them."""
    cut = [(np.ascontiguousarray(x).view("u4") & np.uint32(0xFFFFE000)).view("f4") for x in (a, b)]
    _into(c, cut[0] @ cut[1], alpha, beta)


def bfloat16_inputs(a, b, c, *, alpha, beta, epilogue=None):
    _into(c, rounded(a, 8).astype("f4") @ rounded(b, 8).astype("f4"), alpha, beta)


def sums_in_16_bits(a, b, c, *, alpha, beta, epilogue=None):
    sums = np.zeros(c.shape, c.dtype)
    for p in range(a.shape[1]):
        product = np.outer(a[:, p].astype("f4"), b[p].astype("f4"))
        sums = (sums.astype("f4") + product).astype(c.dtype)
    _into(c, sums.astype("f4"), alpha, beta)


def scalars_in_16_bits(a, b, c, *, alpha, beta, epilogue=None):
    alpha, beta = (float(np.asarray(x).astype(c.dtype)) for x in (alpha, beta))
    _into(c, a.astype("f4") @ b.astype("f4"), alpha, beta)


def beta_ignored(a, b, c, *, alpha, beta, epilogue=None):
    right(a, b, c, alpha=alpha, beta=0.0)


def last_term_dropped(a, b, c, *, alpha, beta, epilogue=None):
    k = a.shape[1]
    end = k - 1 if k > 16 and k % 16 == 1 else k
    right(a[:, :end], b[:end], c, alpha=alpha, beta=beta)


def rounded_before_it_is_added(a, b, c, *, alpha, beta, epilogue=None):
    """The product is rounded into 16 bits, and then beta C is added."""
    product = (np.float32(alpha) * (a.astype("f4") @ b.astype("f4"))).astype(c.dtype)
    c[...] = product if beta == 0 else product.astype("f4") + np.float32(beta) * c.astype("f4")


def made(function, signatures=HALVES, **more):
    return Kernel(function.__name__, "a test's", load=lambda: function, signatures=signatures, **more)


def only(dtype):
    return tuple(signature for signature in HALVES if signature.input == dtype)


SINGLE = FLOATS[:1]
TF32 = {"signatures": SINGLE, "multiplies": "tfloat32"}
BFLOAT16 = named("bfloat16")
