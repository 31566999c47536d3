"""Compiling with Numba, cached on disk under the hash of this room's source.

Numba keys its cache by the function's own file and does not notice an edit of a jitted function that was
*imported* (numba#1833): a wrong result waiting. So the cache folder here is named by the hash of every
Python file in `gemm/`; an edit anywhere starts a new one. Signatures are given explicitly, so that one
variant per dtype is compiled, not one per combination of memory orders.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

_changing_the_folder = threading.Lock()


def compiled(function: Callable[..., Any], arguments: str, dtype: str, **options: Any) -> Callable[..., Any]:
    """Compile `function` for one dtype; it runs without the GIL.

    arguments  one letter each: "r" a 2-D operand that is only read, of any strides; "R" the same, rows
               contiguous in memory (C order); "w" and "W" the same, written; "s" a scalar (passed as
               float64); "i" an integer
    options    Numba's (fastmath, ...)

    The cache lies in `NUMBA_CACHE_DIR` if that is set, else in the user's cache folder; where neither can be
    written, in a folder of this process.
    """
    from numba import types

    element = getattr(types, dtype)

    def array(letter: str) -> Any:
        return types.Array(element, 2, "C" if letter.isupper() else "A", readonly=letter in "rR")

    kinds = {letter: array(letter) for letter in "rRwW"} | {"s": types.float64, "i": types.intp}
    signature = types.void(*(kinds[letter] for letter in arguments))
    return cached(function, signature, **options)


def cached(function: Callable[..., Any], signature: Any, **options: Any) -> Any:
    """`numba.njit` for one signature, without the GIL (unless told otherwise), cached in this room's folder."""
    import numba

    with _folder():
        return numba.njit(signature, cache=True, **{"nogil": True, **options})(function)


def cfunction(function: Callable[..., Any], signature: Any) -> Any:
    """`numba.cfunc`: as `cached`, with the C calling convention; its `address` is for native code."""
    import numba

    with _folder():
        return numba.cfunc(signature, nopython=True, cache=True, error_model="numpy")(function)


@contextmanager
def _folder() -> Iterator[None]:
    """Numba caches in this room's folder meanwhile."""
    import numba

    config: Any = numba.config
    with _changing_the_folder:  # it is one setting for the whole process
        before = config.CACHE_DIR
        config.CACHE_DIR = str(_cache_folder(before))
        try:
            yield
        finally:
            config.CACHE_DIR = before


@lru_cache
def _cache_folder(base: str) -> Path:
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(base or Path(home) / "gemmlab" / "numba") / f"gemm-{room_hash()}"
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):  # no home, or one that cannot be written
        pass
    return Path(tempfile.mkdtemp(prefix="gemmlab-numba-"))  # for this process: compiled code is not shared


@lru_cache
def room_hash() -> str:
    """Twelve hex digits over every Python file of `gemm/`, names and contents."""
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]
