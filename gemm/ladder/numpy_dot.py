"""numpy-dot: the innermost loop becomes a vector dot product; two Python loops remain."""

import numpy as np

from gemm.kernel import Kernel


def multiply(a, b, c, *, alpha, beta, epilogue=None):
    row = np.empty(c.shape[1], c.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        for i in range(c.shape[0]):
            for j in range(c.shape[1]):
                row[j] = np.dot(a[i], b[:, j])
            c[i] = alpha * row if beta == 0 else alpha * row + beta * c[i]


KERNEL = Kernel(
    name="numpy-dot",
    idea="the innermost loop becomes a vector dot product",
    load=lambda: multiply,
    pool="numpy",
    rung=20,
)
