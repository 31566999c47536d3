"""A compiled rung, launched on NumPy arrays: what goes wrong on the way is an exception with a sentence."""

from __future__ import annotations

import ctypes
import itertools
import re
import threading
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gemm.cuda import build
from gemm.cuda.host import compiler
from gemm.cuda.product import FUSES, pack
from gemm.cuda.rungs import SHARED_BYTES, Macros, Rung
from gemm.cuda.tensor_map import MAP_BYTES, Box, Matrix, why_not
from gemm.epilogue import Epilogue
from gemm.kernel import Function, Kernel

# What a launch may ask for (CUDA's programming guide, compute capability 8.0 to 9.0).
MOST_BLOCKS = (2**31 - 1, 65535, 65535)
MOST_THREADS = (1024, 1024, 64)
MOST_IN_A_BLOCK = 1024
MOST_SHARED = {"sm_80": 163 << 10, "sm_90a": 227 << 10}

# Multiprocessors: a persistent kernel's blocks have several tiles each.
PROCESSORS = 3
# cluster.hpp's
CLUSTER_SHARED = 113 << 10

Size = tuple[int, int, int]
# One at a time: the fibers of a launch have the library's memory to themselves.
_launching = threading.Lock()


class DeviceFault(RuntimeError):
    """What a GPU would not survive, or might do differently each time; the message is a sentence."""


class Memory(NamedTuple):
    """What a launch may touch: from the first byte to the last of an array, and its name in sentences."""

    name: str
    array: np.ndarray
    writable: bool = False


class _Array(ctypes.Structure):
    _fields_ = [
        ("offset", ctypes.c_size_t),
        ("size", ctypes.c_size_t),
        ("name", ctypes.c_char_p),
        ("dynamic", ctypes.c_int),
    ]


class _Range(ctypes.Structure):
    _fields_ = [
        ("low", ctypes.c_size_t),
        ("high", ctypes.c_size_t),
        ("writable", ctypes.c_int),
        ("name", ctypes.c_char_p),
    ]


class Emulated:
    """A .cu file that defines `gemm(const T p)`, compiled with these macros for this machine's processor.

    watched   each access to memory is looked at: races and strays are found as such, at a quarter of the speed

    shared    the bytes of each static shared array, by name
    argument_bytes  sizeof(T)

    Raises compiler.NotCompiled.
    """

    def __init__(
        self, source: Path, macros: Mapping[str, int] | None = None, *, watched: bool = True
    ) -> None:
        self.source = source
        self.path = compiler.library(source, macros or {}, watched)
        self._library = ctypes.CDLL(str(self.path))
        self.argument_bytes = ctypes.c_size_t.in_dll(self._library, "gemmlab_argument_bytes").value
        found = compiler.shared_arrays(self.path)
        dynamic = [variable.size == compiler.DYNAMIC_BYTES for variable in found]
        self.shared = {variable.name: variable.size for variable, d in zip(found, dynamic) if not d}
        self._arrays = (_Array * len(found))(
            *(_Array(v.offset, v.size, v.name.encode(), d) for v, d in zip(found, dynamic))
        )
        self._library.gemmlab_describe(self._arrays, len(found))

    def launch(
        self,
        argument: Any,
        grid: Size,
        block: Size,
        shared_bytes: int = 0,
        *,
        memory: Iterable[Memory] | None = None,
        seed: int = 0,
        since: str = "sm_90a",
    ) -> None:
        """Run the kernel: `gemm<<<grid, block, shared_bytes>>>(argument)`.

        argument   the bytes of T, whatever has them (a record of `product.pack`)
        memory     all that it may touch; None: anything
        seed       of the order in which threads and blocks have their turns
        since      the architecture whose shared memory counts

        Raises DeviceFault for what goes wrong, ValueError for what cannot be launched.
        """
        self._possible(grid, block, shared_bytes, since)
        given = np.ascontiguousarray(argument).tobytes()
        if len(given) != self.argument_bytes:
            raise ValueError(f"{self.source.name} takes {self.argument_bytes} bytes, not {len(given)}")
        told = [_range(one) for one in memory or ()]
        ranges, count = (_Range * len(told))(*told), -1 if memory is None else len(told)
        text = ctypes.create_string_buffer(1000)
        with _launching:
            failed = self._library.gemmlab_launch(
                given, (ctypes.c_uint * 3)(*grid), (ctypes.c_uint * 3)(*block), ctypes.c_size_t(shared_bytes),
                ctypes.c_uint64(seed % 2**64), ranges, count, text, ctypes.c_size_t(len(text)),
            )  # fmt: skip
        if failed:
            raise DeviceFault(self._sentence(text.value.decode(errors="replace")))

    def _possible(self, grid: Size, block: Size, shared_bytes: int, since: str) -> None:
        for what, sizes, most in (("grid", grid, MOST_BLOCKS), ("block", block, MOST_THREADS)):
            for direction, size, largest in zip("xyz", sizes, most):
                if not 1 <= size <= largest:
                    raise ValueError(f"{what}.{direction} is {size}; a GPU takes 1 to {largest}")
        if block[0] * block[1] * block[2] > MOST_IN_A_BLOCK:
            raise ValueError(f"a block of {block} has more than {MOST_IN_A_BLOCK} threads")
        static = sum(self.shared.values())
        if static > SHARED_BYTES:
            raise ValueError(
                f"{self.source.name} has {static} bytes of static shared memory, more than 48 KiB"
            )
        if static + shared_bytes > MOST_SHARED[since]:
            raise ValueError(
                f"{static + shared_bytes} bytes of shared memory for a block; {since} has {MOST_SHARED[since]}"
            )
        if shared_bytes and not any(array.dynamic for array in self._arrays):
            raise ValueError(
                f"{shared_bytes} bytes of dynamic shared memory, and {self.source.name} uses none"
            )

    def _sentence(self, text: str) -> str:
        """With lines of the source in place of addresses."""
        return re.sub("@([0-9a-f]+)@", lambda found: compiler.line_of(self.path, int(found[1], 16)), text)


def _range(memory: Memory) -> _Range:
    low, high = np.lib.array_utils.byte_bounds(memory.array)
    return _Range(low, high, memory.writable, memory.name.encode())


@lru_cache(maxsize=256)
def _emulated(source: Path, macros: tuple[tuple[str, int], ...], watched: bool) -> Emulated:
    return Emulated(source, dict(macros), watched=watched)


def tensor_map(matrix: Matrix, box: Box, dtype: int) -> np.ndarray:
    """What tensor.hpp has in the place of a tensor map (`gemm.cuda.tensor_map.encode`): struct Map."""
    if reason := why_not(matrix, box):
        raise ValueError(f"no tensor map of this matrix: {reason}")
    given = np.zeros(MAP_BYTES // 8, np.uint64)
    given[:6] = [matrix.address, matrix.inner, matrix.outer, matrix.stride, *box]
    return given.view(np.uint8)


def launch(
    rung: Rung, product: Any, sizes: Macros, *, memory: Iterable[Memory] | None = None, seed: int = 0,
    watched: bool = True, processors: int = PROCESSORS,
) -> None:  # fmt: skip
    """Run a rung with these tile sizes on a packed product. Raises DeviceFault."""
    grid, block = rung.grid(int(product["m"]), int(product["n"]), sizes, processors), rung.block(sizes)
    shared = rung.shared_bytes(sizes)
    cluster = sizes.get("CLUSTER", 1)
    if cluster > 1:  # cluster.hpp: its blocks are one
        if shared > CLUSTER_SHARED:
            raise ValueError(
                f"{shared} bytes of shared memory; a block of a cluster has {CLUSTER_SHARED} here"
            )
        grid, block, shared = (grid[0] // cluster, 1, 1), (block[0] * cluster, 1, 1), CLUSTER_SHARED * cluster
    _emulated(rung.path, tuple(sorted(rung.macros(product, sizes).items())), watched).launch(
        rung.argument(product, sizes, tensor_map), grid, block, shared,
        memory=memory, seed=seed, since=rung.since,
    )  # fmt: skip


def kernel(
    rung: Rung, tiles: Macros | None = None, *, seed: int = 0, watched: bool = True,
    capability: tuple[int, int] = (8, 0),
) -> Kernel:  # fmt: skip
    """A rung as a kernel of the CPU: `cuda-naive@host`, for `gemm.conformance`, `gemm.matmul` or any other use.

    tiles       other tile sizes than the rung's own
    seed        of the order of threads and blocks, another one in each call
    watched     as for Emulated
    capability  of the device whose place this takes: what decides between a rung's kernels
    """

    def load() -> Function:
        numbers = itertools.count(seed << 32)

        def multiply(
            a: np.ndarray, b: np.ndarray, c: np.ndarray,
            *, alpha: float, beta: float, epilogue: Epilogue | None = None,
        ) -> None:  # fmt: skip
            product = pack(a, b, c, alpha, beta, epilogue)
            chosen = rung.fitting(product, capability)
            sizes = chosen.tiles if tiles is None else tiles
            memory = [Memory("A", a), Memory("B", b), Memory("C", c, writable=True)]
            if epilogue is not None:
                own = (("bias", epilogue.bias), ("aux_out", epilogue.aux_out), ("aux_in", epilogue.aux_in))
                memory += [Memory(name, x, name == "aux_out") for name, x in own if x is not None]
            launch(chosen, product, sizes, memory=memory, seed=next(numbers), watched=watched)

        return multiply

    return Kernel(
        name=f"{rung.name}@host",
        idea=f"{rung.idea} (its source, on the CPU)",
        load=load,
        signatures=rung.signatures,
        fuses=FUSES,
        multiplies=rung.multiplies,
        probe=compiler.reason,
        rung=rung.rung,
        file=str(rung.path),
        files=lambda: build.sources(rung.path),
        peer=True,
    )
