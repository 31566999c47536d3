"""blas: the BLAS inside NumPy. What you get from `a @ b`, and what the other rungs are held against.

NumPy offers no alpha and beta; where they are asked for, the product goes through a temporary and two
more passes over C. Transposes and padded rows reach the library as strides; any other stride is copied by
NumPy, inside the call.
"""

import numpy as np

from gemm.kernel import Kernel


def multiply(a, b, c, *, alpha, beta, epilogue=None):
    if alpha == 1 and beta == 0:
        if c.flags.c_contiguous:
            np.dot(a, b, out=c)
        elif c.flags.f_contiguous:
            np.dot(b.T, a.T, out=c.T)
        else:
            c[...] = np.dot(a, b)
        return
    product = np.dot(a, b)
    with np.errstate(over="ignore", invalid="ignore"):
        if alpha != 1:
            product *= alpha
        if beta == 0:
            c[...] = product
            return
        if beta != 1:
            c *= beta
        c += product


KERNEL = Kernel(
    name="blas",
    idea="the BLAS inside NumPy",
    load=lambda: multiply,
    plain=lambda: np.dot,  # the same BLAS as np.matmul with half the overhead of its call
    pool="numpy",
    rung=70,
)
