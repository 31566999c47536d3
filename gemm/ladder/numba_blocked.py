"""numba-blocked: tiles of A, B and C that stay in cache; all cores.

    B is cut into KC x NC tiles, each copied once into a contiguous buffer (it stays in L2)
        A is cut into MC x KC tiles, copied and scaled by alpha (so strides and transposes end here)
            for each pair of rows i of the tile, two rows of NC sums are kept in L1:
                sums[:] += a[i, p] B[p, :] + a[i, p+1] B[p+1, :] + ...       four p at a time
            C[i, :] += sums

Four rows of B times two rows of A: eight multiply-adds for four loads of B and two loads and stores of
sums, where numba-ikj pays two loads and a store for each one. Each thread does its own rows (or columns,
if there are more of them) of C.
"""

from functools import cache

import numpy as np

from gemm.compiled import compiled
from gemm.kernel import Kernel
from gemm.threads import each, get_threads

# Elements. B's tile: 256 x 256 float32 is 256 KiB, a quarter of a 1 MiB L2; the four rows in use and
# the two rows of sums are 6 KiB of L1.
MC, KC, NC = 64, 256, 256
# FLOPs below which a second thread costs more than it brings (handing over work takes about 30 us).
WORTH_A_THREAD = 4_000_000


def blocked(a, b, c, alpha, beta, mc, kc, nc):
    m, k = a.shape
    n = b.shape[1]
    scale, keep, zero = a.dtype.type(alpha), a.dtype.type(beta), a.dtype.type(0)
    a_tile = np.zeros((min(mc, m + m % 2), min(kc, k)), a.dtype)
    b_tile = np.empty((min(kc, k), min(nc, n)), a.dtype)
    sums = np.empty((2, min(nc, n)), a.dtype)
    for i in range(m):
        for j in range(n):
            c[i, j] = zero if keep == 0 else keep * c[i, j]
    for j0 in range(0, n, nc):
        columns = min(nc, n - j0)
        for p0 in range(0, k, kc):
            depth = min(kc, k - p0)
            for p in range(depth):
                for j in range(columns):
                    b_tile[p, j] = b[p0 + p, j0 + j]
            for i0 in range(0, m, mc):
                rows = min(mc, m - i0)
                for i in range(rows):
                    for p in range(depth):
                        a_tile[i, p] = scale * a[i0 + i, p0 + p]
                for i in range(0, rows, 2):  # of an odd last pair, the second row's sums are not used
                    upper, lower = sums[0], sums[1]
                    for j in range(columns):
                        upper[j] = lower[j] = zero
                    fours = depth // 4 * 4
                    for p in range(0, fours, 4):
                        u0, u1, u2, u3 = a_tile[i, p], a_tile[i, p + 1], a_tile[i, p + 2], a_tile[i, p + 3]
                        l0, l1, l2, l3 = (
                            a_tile[i + 1, p],
                            a_tile[i + 1, p + 1],
                            a_tile[i + 1, p + 2],
                            a_tile[i + 1, p + 3],
                        )
                        for j in range(columns):
                            b0, b1, b2, b3 = (
                                b_tile[p, j],
                                b_tile[p + 1, j],
                                b_tile[p + 2, j],
                                b_tile[p + 3, j],
                            )
                            upper[j] += u0 * b0 + u1 * b1 + u2 * b2 + u3 * b3
                            lower[j] += l0 * b0 + l1 * b1 + l2 * b2 + l3 * b3
                    for p in range(fours, depth):
                        u0, l0 = a_tile[i, p], a_tile[i + 1, p]
                        for j in range(columns):
                            upper[j] += u0 * b_tile[p, j]
                            lower[j] += l0 * b_tile[p, j]
                    for j in range(columns):
                        c[i0 + i, j0 + j] += upper[j]
                    if i + 1 < rows:
                        for j in range(columns):
                            c[i0 + i + 1, j0 + j] += lower[j]


@cache
def variant(dtype):
    return compiled(blocked, "rrwssiii", dtype, fastmath={"contract"})


def multiply(a, b, c, *, alpha, beta, epilogue=None):
    run = variant(c.dtype.name)
    (m, n), k = c.shape, a.shape[1]
    parts = min(get_threads(), 2 * m * n * k // WORTH_A_THREAD, max(m, n))
    if parts <= 1:
        run(a, b, c, alpha, beta, MC, KC, NC)
        return
    edges = [max(m, n) * part // parts for part in range(parts + 1)]
    slabs = [slice(low, high) for low, high in zip(edges, edges[1:])]
    by_rows = [(a[s], b, c[s], alpha, beta, MC, KC, NC) for s in slabs]
    by_columns = [(a, b[:, s], c[:, s], alpha, beta, MC, KC, NC) for s in slabs]
    each(run, by_rows if m >= n else by_columns)


def load():
    import numba  # noqa: F401 - a broken Numba makes the kernel unavailable, here and now

    return multiply


KERNEL = Kernel(
    name="numba-blocked",
    idea="cache blocking: tiles of A, B and C stay in cache; all cores",
    load=load,
    fuses=frozenset({"beta"}),
    pool="python",
    rung=50,
)
