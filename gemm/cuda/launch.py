"""A rung put on the GPU: compiled for the operands' device, loaded through CuPy once, put on the current stream."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from gemm.cuda import build, tiles
from gemm.cuda.product import pack
from gemm.cuda.rungs import Rung
from gemm.epilogue import Epilogue


def bind(
    rung: Rung, a: Any, b: Any, c: Any, *, alpha: float, beta: float, epilogue: Epilogue | None = None
) -> Callable[[], None]:
    """The product of these CuPy arrays as a call without arguments, which launches and does not wait.

    Raises build.Uncompilable; ValueError for sizes that kernels cannot count.
    """
    import cupy

    product = pack(a, b, c, alpha, beta, epilogue)
    sizes = tiles.chosen(rung)
    device = a.device
    kernel = _kernel(rung, tuple(rung.macros(product, sizes).items()), device)
    grid, block = rung.grid(int(product["m"]), int(product["n"]), sizes), rung.block(sizes)
    shared = rung.shared_bytes(sizes)

    def call(operands: Any = (a, b, c, epilogue)) -> None:  # kept alive: `product` has only their addresses
        kernel(grid, block, (product,), shared_mem=shared)

    def on_its_device() -> None:
        with device:
            call()

    return call if cupy.cuda.runtime.getDeviceCount() == 1 else on_its_device


def _kernel(rung: Rung, macros: tuple[tuple[str, int], ...], device: Any) -> Any:
    """CuPy's kernel of this variant, loaded on this device."""
    return _loaded(rung, macros, device.id, device.compute_capability)


@cache
def _loaded(rung: Rung, macros: tuple[tuple[str, int], ...], device: int, capability: str) -> Any:
    import cupy

    # CuPy says "90" for 9.0
    architecture = build.architecture_of((int(capability[:-1]), int(capability[-1])))
    built = build.build(rung.path, dict(macros), architecture)
    with cupy.cuda.Device(device):
        kernel = cupy.RawModule(path=str(built.cubin)).get_function("gemm")
        dynamic = rung.shared_bytes(dict(macros))
        if dynamic:  # more than 48 KiB must be asked for
            kernel.max_dynamic_shared_size_bytes = dynamic
        return kernel
