"""python: three nested loops over Python floats. The definition of the product, and its price."""

from gemm.kernel import Kernel, Signature


def multiply(a, b, c, *, alpha, beta, epilogue=None):
    rows, columns = a.tolist(), b.T.tolist()  # Python floats: indexing an array would cost 3x more
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            total = 0.0
            for p in range(len(row)):
                total += row[p] * column[p]
            c[i, j] = alpha * total if beta == 0 else alpha * total + beta * float(c[i, j])


KERNEL = Kernel(
    name="python",
    idea="three nested loops over Python floats",
    load=lambda: multiply,
    # a Python float is a double, whatever the operands were
    signatures=(Signature("float32", "float64", "float32"), Signature("float64", "float64", "float64")),
    rung=10,
)
