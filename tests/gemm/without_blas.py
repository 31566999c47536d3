"""A process without BLAS: every BLAS function that is loaded begins with an instruction that does not exist.

Run as `python -m tests.gemm.without_blas`: shows that NumPy's and SciPy's products die of it, then multiplies with
numba-micro on all of its paths, and checks against NumPy's products of whole numbers (which use no BLAS).
"""

import ctypes
import itertools
import mmap
import os
import platform
import re
import resource
import signal
import sys
from functools import cache
from pathlib import Path

import numpy as np
import scipy.linalg.blas

import gemm
from gemm.epilogue import Epilogue
from gemm.vendors import elf

ROUTINE = re.compile(
    r"(^|_)([sdcz]|sd|ds|is|id)?"
    r"(gemm|gemm3m|gemmt|gemv|gbmv|ger|geru|gerc|dot|dotu|dotc|sdot|syrk|herk|syr2k|syr|symm|hemm|symv|trmm|trsm|trmv|trsv"
    r"|axpy|axpby|scal|copy|swap|nrm2|asum|amax)(_|$|\d|_batch|_sub)"
)
TRAP = {"x86_64": b"\x0f\x0b", "aarch64": b"\0\0\0\0"}  # ud2, udf
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def libraries():
    """Shared libraries of this process, by their files."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    found = {
        line.split(maxsplit=5)[5] for line in lines if line.count("/") and ".so" in line and " r-xp " in line
    }
    return sorted(path for path in found if Path(path).is_file())


def spoil(path):
    """Trap a library's BLAS functions, where it has products at all; returns how many."""
    library = elf.read(Path(path))
    names = {name.decode() for name in library._strings.split(b"\0") if ROUTINE.search(name.decode())}
    names = [name for name in names if library.exports(name)]
    if not any(re.search(r"[sd]gemm", name) for name in names):
        return 0
    loaded, trap = ctypes.CDLL(path), TRAP[platform.machine()]
    for name in names:
        address = ctypes.cast(getattr(loaded, name), ctypes.c_void_p).value
        page = address // mmap.PAGESIZE * mmap.PAGESIZE
        assert LIBC.mprotect(page, 2 * mmap.PAGESIZE, 7) == 0, os.strerror(ctypes.get_errno())
        ctypes.memmove(address, trap, len(trap))
    return len(names)


def dies_of(action):
    """The signal that ends a child process doing it; 0 if none."""
    child = os.fork()
    if child == 0:
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            action()
        finally:
            os._exit(0)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


SHAPES = [
    (1, 1, 1), (5, 7, 9), (32, 32, 32), (100, 90, 80), (1, 500, 400), (500, 1, 400), (4, 10, 3000),
    (600, 30, 20), (30, 700, 64), (2, 3, 50000), (300, 400, 500), (150, 2100, 520),
]  # fmt: skip


@cache
def problem(m, n, k):
    rng = np.random.default_rng([m, n, k])
    a, b = rng.integers(-3, 4, (m, k)), rng.integers(-3, 4, (k, n))
    return a, b, rng.integers(-3, 4, n), a @ b  # of int64: loops of NumPy's own


def multiply(m, n, k, dtype):
    a, b, bias, expected = problem(m, n, k)
    for order_a, order_b, order_c in itertools.product("CF", "CF", "CF"):
        x, y = a.astype(dtype, order=order_a), b.astype(dtype, order=order_b)
        c = np.full((m, n), np.nan, dtype, order=order_c)
        gemm.matmul(x, y, c, kernel="numba-micro")
        assert np.array_equal(c, expected)
        gemm.matmul(x, y, c, kernel="numba-micro", alpha=2.0, beta=-1.0)
        assert np.array_equal(c, expected)
        forward = Epilogue(bias=bias.astype(dtype), activation="relu", aux_out=np.empty_like(c))
        gemm.matmul(x, y, c, kernel="numba-micro", epilogue=forward)
        assert np.array_equal(c, np.maximum(expected + bias, 0))
        gemm.matmul(x, y, c, kernel="numba-micro", epilogue=Epilogue(activation="tanh"))
        assert np.allclose(c, np.tanh(expected), rtol=1e-6, atol=0)
        backward = Epilogue(grad_of="sigmoid", aux_in=np.full((m, n), 0.5, dtype))
        gemm.matmul(x, y, c, kernel="numba-micro", epilogue=backward)
        assert np.array_equal(c, expected / 4)


def main():
    x = np.ones((50, 50))
    whole = {path: count for path in libraries() if (count := spoil(path))}
    assert len(whole) >= 1, "no BLAS is loaded"
    scipys = lambda: scipy.linalg.blas.dgemm(1.0, x, x)  # noqa: E731
    for name, action in {
        "np.dot": lambda: np.dot(x, x),
        "np.matmul": lambda: x @ x,
        "np.dot of vectors": lambda: np.dot(x[0], x[0]),
        "np.matmul of vectors": lambda: x @ x[0],
        "scipy": scipys,
        "kernel blas": lambda: gemm.matmul(x, x, kernel="blas"),
    }.items():
        assert dies_of(action) == signal.SIGILL, name
    assert dies_of(lambda: multiply(5, 6, 7, "float32")) == 0
    for threads, dtype, shape in itertools.product((1, 2), ("float32", "float64"), SHAPES):
        gemm.set_threads(threads)
        multiply(*shape, dtype)
    sys.stdout.write(f"{len(SHAPES)} shapes without BLAS; {sum(whole.values())} functions trapped\n")


if __name__ == "__main__":
    main()
