"""cblas: any CBLAS library as a kernel: OpenBLAS, MKL, BLIS, ATLAS, the reference, and what the user names.

How they are found, told apart and called is in `gemm/vendors/`. They are peers: a sweep takes them when they are
named. A kernel's source is the library's own file together with those that call it.
"""

from functools import partial
from pathlib import Path

from gemm import vendors
from gemm.kernel import Kernel
from gemm.vendors.calling import bind
from gemm.vendors.libraries import NUMPY, Choice, choices
from gemm.vendors.opening import opened


def multiply(choice, a, b, c, *, alpha, beta, epilogue=None):
    bind(opened(choice), a, b, c, alpha=alpha, beta=beta)()


def load(choice):
    from gemm.vendors import trampoline  # noqa: F401 - a broken Numba makes the kernel unavailable, here and now

    opened(choice)
    return partial(multiply, choice)


def bound(choice, a, b, c, *, alpha, beta, epilogue=None):
    return bind(opened(choice), a, b, c, alpha=alpha, beta=beta)


def idea(choice):
    if choice.name == NUMPY:
        return "the BLAS inside NumPy again, without NumPy"
    return choice.maker.title if choice.maker else f"{choice.given[0].name}, through CBLAS"


def kernel(choice: Choice) -> Kernel:
    return Kernel(
        name=f"cblas:{choice.name}",
        idea=idea(choice),
        load=partial(load, choice),
        probe=lambda: choice.reason,
        bind=partial(bound, choice),
        set_threads=lambda n: opened(choice).set_threads(n),
        fuses=frozenset({"beta"}),
        pool="numpy" if choice.name == NUMPY else f"cblas:{choice.name}",
        rung=75,
        peer=True,
        file=str(Path(vendors.__file__).parent),
        files=lambda: [choice.path] if choice.path else [],
    )


def KERNELS():
    return [kernel(choice) for choice in choices()]
