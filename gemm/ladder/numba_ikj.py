"""numba-ikj: loop order. The inner loop runs along rows of B and C in memory, and vectorises.

    for i, p:   C[i, :] += (alpha A[i, p]) * B[p, :]

Nothing is summed into one variable, so no reassociation is needed: the compiler may use vectors of
whatever width the machine has. What remains is a load and a store of C for every multiply-add, and B
read from whichever cache still holds it.
"""

from functools import cache

from gemm.compiled import compiled
from gemm.kernel import Kernel


def ikj(a, b, c, alpha, beta):
    m, k = a.shape
    n = b.shape[1]
    scale, keep = a.dtype.type(alpha), a.dtype.type(beta)
    for i in range(m):
        for j in range(n):
            c[i, j] = 0 if keep == 0 else keep * c[i, j]
        for p in range(k):
            factor = scale * a[i, p]
            for j in range(n):
                c[i, j] += factor * b[p, j]


@cache
def variant(dtype, rows_contiguous):
    # `contract` lets a multiply and an add become one FMA, which rounds once instead of twice
    return compiled(ikj, "rRWss" if rows_contiguous else "rrwss", dtype, fastmath={"contract"})


def multiply(a, b, c, *, alpha, beta, epilogue=None):
    rows_contiguous = b.flags.c_contiguous and c.flags.c_contiguous
    variant(c.dtype.name, rows_contiguous)(a, b, c, alpha, beta)


def load():
    import numba  # noqa: F401 - a broken Numba makes the kernel unavailable, here and now

    return multiply


KERNEL = Kernel(
    name="numba-ikj",
    idea="loop order: the inner loop runs along memory and vectorises",
    load=load,
    fuses=frozenset({"beta"}),
    rung=40,
)
