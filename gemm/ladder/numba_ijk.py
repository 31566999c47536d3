"""numba-ijk: the same three loops, compiled.

The inner loop is a dot product along a row of A and a column of B. It does not vectorise: a column of B is
strided in memory, and one running sum allows one addition per floating-point latency (4 cycles here).
"""

from functools import cache

from gemm.compiled import compiled
from gemm.kernel import Kernel


def ijk(a, b, c, alpha, beta):
    m, k = a.shape
    n = b.shape[1]
    for i in range(m):
        for j in range(n):
            total = a.dtype.type(0)
            for p in range(k):
                total += a[i, p] * b[p, j]
            c[i, j] = alpha * total if beta == 0 else alpha * total + beta * c[i, j]


@cache
def variant(dtype):
    return compiled(ijk, "rrwss", dtype)


def multiply(a, b, c, *, alpha, beta, epilogue=None):
    variant(c.dtype.name)(a, b, c, alpha, beta)


def load():
    import numba  # noqa: F401 - a broken Numba makes the kernel unavailable, here and now

    return multiply


KERNEL = Kernel(
    name="numba-ijk",
    idea="the same three loops, compiled",
    load=load,
    fuses=frozenset({"beta"}),
    rung=30,
)
