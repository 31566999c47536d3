"""The registry: every kernel by name, found where it lies and loaded when it is first used.

Kernels come from three places: the ladder (files of `gemm/ladder/`), the entry-point group `gemm.kernels`
of installed packages (each entry a Kernel), and `path/to/file.py:function` given by the user.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib
import importlib.util
import pkgutil
import sys
import warnings
from dataclasses import replace
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path

from gemm import ladder
from gemm.forms import adapt
from gemm.kernel import Kernel, UnknownKernel


def kernels() -> list[Kernel]:
    """Every registered kernel in ladder order, available or not (`available`, `reason` say which)."""
    return list(_registered().values())


def get(name: str | Kernel) -> Kernel:
    """The kernel of that name, loaded.

    name  a registered name, `path/to/file.py:function`, or a Kernel (returned as it is)

    Raises UnknownKernel (with the nearest spelling), or KernelUnavailable (with the reason and the remedy).
    """
    kernel = find(name)
    kernel.function  # noqa: B018 - loads it, or raises KernelUnavailable
    return kernel


def find(name: str | Kernel) -> Kernel:
    """As `get`, without loading: the kernel may be unavailable. Raises UnknownKernel."""
    if isinstance(name, Kernel):
        return name
    registered = _registered()
    if name in registered:
        return registered[name]
    file, colon, function = str(name).rpartition(":")
    if colon and file.endswith(".py"):
        return _from_file(str(Path(file).resolve()), function)
    if str(name).endswith(".py"):
        raise UnknownKernel(f"{name} is a file; say which function of it: {name}:function")
    near = difflib.get_close_matches(str(name), registered, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(registered)}"
    if str(name).startswith("cblas:"):
        hint += f"; other libraries are named by --cblas {str(name)[6:]}=/path/to/it.so, or GEMMLAB_CBLAS"
    raise UnknownKernel(f"unknown kernel {name!r}; {hint}")


def refresh() -> None:
    """Look for kernels anew: after GEMMLAB_CBLAS has changed."""
    _registered.cache_clear()


@cache
def _registered() -> dict[str, Kernel]:
    found: list[Kernel] = []
    for file in pkgutil.iter_modules(ladder.__path__):
        rung = importlib.import_module(f"gemm.ladder.{file.name}")
        found += rung.KERNELS() if hasattr(rung, "KERNELS") else [rung.KERNEL]
    for entry in metadata.entry_points(group="gemm.kernels"):
        try:
            kernel = entry.load()
        except Exception as error:  # noqa: BLE001 - someone else's package must not break the lab
            warnings.warn(f"kernel {entry.name!r} of {entry.value}: {error}; left out", stacklevel=2)
            continue
        if isinstance(kernel, Kernel):
            found.append(kernel)
        else:
            warnings.warn(f"{entry.value} is no gemm.Kernel; left out", stacklevel=2)
    return {kernel.name: kernel for kernel in sorted(found, key=lambda kernel: kernel.rung)}


@lru_cache
def _from_file(path: str, function: str) -> Kernel:
    if not Path(path).is_file():
        raise UnknownKernel(
            f"{path}: no such file; a kernel of your own is given as path/to/file.py:function"
        )
    name = f"_kernel_{hashlib.sha256(path.encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UnknownKernel(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for results
            spec.loader.exec_module(module)
    except (Exception, SystemExit, GeneratorExit) as error:  # a student's file may raise anything
        raise UnknownKernel(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    value = getattr(module, function, None)
    if isinstance(value, Kernel):
        return replace(value, name=f"{path}:{function}", file=path)  # the name by which it is found again
    if callable(value):
        return adapt(value, path, function)
    names = [name for name, item in vars(module).items() if callable(item) and not name.startswith("_")]
    near = difflib.get_close_matches(function, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names) or 'no function'}"
    raise UnknownKernel(f"{path} has no function {function!r}; {hint}")
