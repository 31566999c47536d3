"""Opening: a library loaded; what it really is, asked of the library itself, and its threads.

Each is loaded with its symbols to itself (RTLD_LOCAL), so that several live side by side. Their names come with a
prefix and a suffix that differ from build to build: NumPy's OpenBLAS has `scipy_cblas_sgemm64_`, in which 64_
stands for 64-bit integers.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from gemm.vendors import elf
from gemm.vendors.libraries import Choice
from gemm.vendors.makers import (
    ATLAS,
    BLIS,
    MAKERS,
    MKL,
    OPENBLAS,
    PREFIXES,
    REFERENCE,
    SUFFIXES,
    Maker,
    maker_of,
)

Identity = dict[str, Any]

_identities: list[Callable[[], Identity]] = []


@dataclass(frozen=True, eq=False)
class Library:
    """A CBLAS that this process has loaded.

    prefix, suffix  what stands around the names of its functions
    path            the file that its cblas_sgemm lies in, links resolved
    maker           whose it is, as far as anybody can tell
    """

    name: str
    handle: ctypes.CDLL
    prefix: str
    suffix: str
    path: str
    maker: Maker | None

    def function(self, name: str, result: Any = None, *arguments: Any) -> Callable[..., Any] | None:
        """One of its own functions, under whatever name this build gives it; None if there is none."""
        for full in dict.fromkeys((f"{self.prefix}{name}{self.suffix}", f"{self.prefix}{name}", name)):
            if (found := getattr(self.handle, full, None)) is not None:
                found.restype, found.argtypes = result, arguments
                return found
        return None

    def address(self, name: str) -> int:
        """Where sgemm or dgemm begins."""
        function = getattr(self.handle, f"{self.prefix}cblas_{name}{self.suffix}")
        return int(ctypes.cast(function, ctypes.c_void_p).value or 0)

    @cached_property
    def integer_bits(self) -> int:
        """Of its sizes and leading dimensions: what the names say, or the library itself; else 32."""
        if self.suffix:
            return 64
        if self.maker is OPENBLAS:
            return 64 if "USE64BITINT" in self.asked("openblas_get_config") else 32
        if self.maker is BLIS and (size := self.function("bli_info_get_blas_int_type_size", ctypes.c_int64)):
            return 64 if size() == 64 else 32
        if self.maker is MKL and (layer := self.function("MKL_Set_Interface_Layer", ctypes.c_int)):
            return 64 if layer(int("ILP64" in os.environ.get("MKL_INTERFACE_LAYER", ""))) & 1 else 32
        return 32

    def asked(self, name: str) -> str:
        """What one of its functions that return a text says; "" where there is none."""
        function = self.function(name, ctypes.c_char_p)
        return (function() or b"").decode(errors="replace").strip() if function else ""

    def set_threads(self, n: int) -> None:
        """Tell the library; one that is serial, or that asks nobody, stays as it is."""
        for maker, name in SETTERS:
            if self.maker is maker and (setter := self.function(name, None, ctypes.c_int64)):
                setter(n)

    def identity(self) -> Identity:
        """api, name, version, core_type, threads, path, integer_bits, kernel; None for what nobody can tell."""
        tell = TELLERS.get(self.maker.name if self.maker else "", _by_its_file)
        version, core_type, threads = tell(self)
        return {
            "api": "blas", "name": self.maker.name if self.maker else None, "version": version or None,
            "core_type": core_type or None, "threads": threads, "path": self.path,
            "integer_bits": self.integer_bits, "kernel": f"cblas:{self.name}",
        }  # fmt: skip


# C's ints are handed over as 64 bits here: the lower half of a register is what an int is read from.
SETTERS = (
    (OPENBLAS, "openblas_set_num_threads"),
    (BLIS, "bli_thread_set_num_threads"),
    (MKL, "MKL_Set_Num_Threads"),
)


@cache
def opened(choice: Choice) -> Library:
    """The library, loaded once. Raises ImportError where that fails, or where it is not what it is said to be."""
    path = str(choice.path)
    try:
        handle = ctypes.CDLL(path, mode=os.RTLD_NOW | os.RTLD_LOCAL)
    except OSError as error:
        raise ImportError(str(error)) from error
    names = [(p, s) for s in SUFFIXES for p in PREFIXES if hasattr(handle, f"{p}cblas_sgemm{s}")]
    if not names:
        raise ImportError(f"{path} is a library without CBLAS: it exports no cblas_sgemm")
    prefix, suffix = names[0]
    lies_in = provider(handle, f"{prefix}cblas_sgemm{suffix}") or os.path.realpath(path)
    multiplies_in = provider(handle, f"{prefix}sgemm_{suffix}") or lies_in
    maker = _made(lies_in)
    if (other := _made(multiplies_in)) is not maker and multiplies_in != lies_in:
        maker, lies_in = other, multiplies_in  # the reference's CBLAS, say, over somebody else's BLAS
    if choice.maker is not None and maker is not choice.maker:
        title = maker.title if maker else "none that is known"
        raise ImportError(f"{path} multiplies with {lies_in}, which is {title}, not {choice.maker.title}")
    library = Library(choice.name, handle, prefix, suffix, lies_in, maker)
    loaded(library.identity)
    return library


def loaded(identity: Callable[[], Identity]) -> None:
    """A library is in this process now, which says itself what it is, as `Library.identity` does."""
    _identities.append(identity)


def identities() -> list[Identity]:
    """What every library is that a kernel has loaded here."""
    return [identity() for identity in _identities]


def provider(handle: ctypes.CDLL, name: str) -> str | None:
    """The file that a function of a loaded library lies in, links resolved; None where the system does not tell."""
    function, locate = getattr(handle, name, None), getattr(ctypes.CDLL(None), "dladdr", None)
    place = _Place()
    if function is None or locate is None:
        return None
    if not locate(ctypes.cast(function, ctypes.c_void_p), ctypes.byref(place)) or not place.file:
        return None
    return os.path.realpath(os.fsdecode(place.file))


class _Place(ctypes.Structure):
    """dladdr's Dl_info."""

    _fields_ = (
        ("file", ctypes.c_char_p), ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p), ("address", ctypes.c_void_p),
    )  # fmt: skip


def _made(path: str) -> Maker | None:
    """Whose library a file is. On systems whose files cannot be read here, by its name."""
    if sys.platform != "linux":
        return next((maker for maker in MAKERS if maker.name in Path(path).name), None)
    return maker_of(Path(path), elf.read(Path(path)))


# What each maker's library tells of itself: version, core type, threads in effect.

Told = tuple[str | None, str | None, int | None]


def _openblas(library: Library) -> Told:
    version = re.search(r"OpenBLAS (\S+)", library.asked("openblas_get_config"))
    threads = library.function("openblas_get_num_threads", ctypes.c_int)
    return version and version[1], library.asked("openblas_get_corename"), threads() if threads else None


def _blis(library: Library) -> Told:
    which = library.function("bli_arch_query_id", ctypes.c_int)
    say = library.function("bli_arch_string", ctypes.c_char_p, ctypes.c_int)
    threads = library.function("bli_thread_get_num_threads", ctypes.c_int64)
    core_type = (say(which()) or b"").decode() if which and say else None
    return library.asked("bli_info_get_version_str"), core_type, max(threads(), 1) if threads else None


def _mkl(library: Library) -> Told:
    """The core type is the part of MKL that was loaded for this processor: avx512, avx2, def, ..."""
    say = library.function("MKL_Get_Version_String", None, ctypes.c_char_p, ctypes.c_int)
    threads = library.function("MKL_Get_Max_Threads", ctypes.c_int)
    text = ctypes.create_string_buffer(256)
    if say:
        say(text, len(text) - 1)
    version = re.search(r"Version ([\d.]+)", text.value.decode(errors="replace"))
    known = Path("/proc/self/maps")
    part = re.search(
        rf"{re.escape(os.path.dirname(library.path))}/libmkl_(def|mc3|avx\w*)\.so", known.read_text()
    )
    return version and version[1], part and part[1], threads() if threads else None


def _atlas(library: Library) -> Told:
    """ATLAS prints what it is, on C's stdout: in a process of its own, that is ours to read."""
    ask = "import ctypes, sys; ctypes.CDLL(sys.argv[1]).ATL_buildinfo()"
    command = [sys.executable, "-I", "-S", "-c", ask, library.path]
    said = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60).stdout
    version, core_type = re.search(r"ATLAS version (\S+)", said), re.search(r"-DATL_ARCH_(\w+)", said)
    serial = library.function("ATL_thread_start") is None  # fixed when it was built
    return version and version[1], core_type and core_type[1], 1 if serial else None


def _reference(library: Library) -> Told:
    return _by_its_file(library)[0], None, 1


def _by_its_file(library: Library) -> Told:
    """Nobody to ask: libblas.so.3.11.0 is 3.11.0."""
    version = re.search(r"\.so\.(\d+(\.\d+)+)$", library.path)
    return version and version[1], None, None


TELLERS: dict[str, Callable[[Library], Told]] = {
    OPENBLAS.name: _openblas, BLIS.name: _blis, MKL.name: _mkl, ATLAS.name: _atlas, REFERENCE.name: _reference,
}  # fmt: skip
