"""auto: for each product the kernel that this machine's records show to be the fastest for its shape.

Nothing is measured when it multiplies, nor is anything guessed: `gemmlab select` writes from a sweep's records what
`gemm.selection` reads, and without that it is unavailable. The contract resolves it when a product is bound, so that
what runs is the chosen kernel itself, with what that fuses.
"""

from gemm import selection
from gemm.kernel import Kernel


def multiply(a, b, c, *, alpha, beta, epilogue=None):
    from gemm.contract import resolved
    from gemm.registry import find

    resolved(find(selection.AUTO), a, b).function(a, b, c, alpha=alpha, beta=beta, epilogue=epilogue)


def load():
    return multiply


def KERNELS():
    """Made anew when the registry is: whether it is available changes with the file."""
    return [
        Kernel(
            name=selection.AUTO,
            idea="for each shape the kernel that was the fastest in this machine's records",
            load=load,
            probe=selection.probe,
            choose=selection.choose,
            tuning=selection.origin,
            rung=95,
            peer=True,  # a sweep takes it when it is named
        )
    ]
