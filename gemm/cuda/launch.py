"""A rung put on the GPU: compiled for the operands' device, loaded through CuPy once, put on the current stream."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from gemm.cuda import build, tensor_map, tiles
from gemm.cuda.product import pack
from gemm.cuda.rungs import Macros, Rung
from gemm.epilogue import Epilogue


def bind(
    rung: Rung, a: Any, b: Any, c: Any, *, alpha: float, beta: float, epilogue: Epilogue | None = None,
    sizes: Macros | None = None,
) -> Callable[[], None]:  # fmt: skip
    """The product of these CuPy arrays as a call without arguments, which launches and does not wait.

    sizes  tile sizes of this rung; default: those of this machine (`tiles.chosen`), of the rung that fits best

    Raises build.Uncompilable; ValueError for sizes that kernels cannot count.
    """
    import cupy

    product = pack(a, b, c, alpha, beta, epilogue)
    device = a.device
    if sizes is None:
        rung = rung.fitting(product, _capability(device))
        sizes = tiles.chosen(rung)
    kernel = _kernel(rung, tuple(rung.macros(product, sizes).items()), device)
    processors = device.attributes["MultiProcessorCount"] if rung.persistent else 1
    grid, block = rung.grid(int(product["m"]), int(product["n"]), sizes, processors), rung.block(sizes)
    shared, argument = rung.shared_bytes(sizes), rung.argument(product, sizes, tensor_map.encode)
    # as bytes without names: CuPy asks for the array's description in each launch, and fields take 40 us to describe
    argument = argument.view(f"V{argument.nbytes}")

    def call(operands: Any = (a, b, c, epilogue)) -> None:  # kept alive: `product` has only their addresses
        kernel(grid, block, (argument,), shared_mem=shared)

    def on_its_device() -> None:
        with device:
            call()

    return call if cupy.cuda.runtime.getDeviceCount() == 1 else on_its_device


def _capability(device: Any) -> tuple[int, int]:
    said = device.compute_capability  # "90" for 9.0
    return int(said[:-1]), int(said[-1])


def _kernel(rung: Rung, macros: tuple[tuple[str, int], ...], device: Any) -> Any:
    """CuPy's kernel of this variant, loaded on this device."""
    return _loaded(rung, macros, device.id, _capability(device))


@cache
def _loaded(rung: Rung, macros: tuple[tuple[str, int], ...], device: int, capability: tuple[int, int]) -> Any:
    import cupy

    architecture = build.architecture_of(capability)
    built = build.build(rung.path, dict(macros), architecture)
    with cupy.cuda.Device(device):
        kernel = cupy.RawModule(path=str(built.cubin)).get_function("gemm")
        dynamic = rung.shared_bytes(dict(macros))
        if dynamic:  # more than 48 KiB must be asked for
            kernel.max_dynamic_shared_size_bytes = dynamic
        return kernel
