"""A kernel compiled: NVRTC, called by ctypes, makes machine code of a .cu file; no GPU and no driver are needed.

    build(file, {"BM": 128, ...}, "sm_90a") -> Built(cubin=<path>, resources=Resources(registers=168, ...))

What was compiled is kept in the user's cache folder, under a hash of everything that it came from: the file and what it
includes, macros, architecture, compiler. NVRTC is looked for in the wheels (nvidia-cuda-nvrtc, which CuPy and PyTorch
bring too), where the system's loader finds it, and in a CUDA toolkit.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib.util
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from ctypes.util import find_library
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gemm.cuda import probe

OPTIONS = ("--std=c++17", "--ptxas-options=-v")
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


class Uncompilable(RuntimeError):
    """NVRTC is missing, does not know the architecture, or refuses the source; the message says which, with its log."""


@dataclass(frozen=True)
class Resources:
    """What the assembler says that a thread (registers, bytes of stack and of spills) and a block (shared bytes) take.

    Spills are registers that did not fit and went to memory: the rungs from tile2d on live by having none.
    """

    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int

    @property
    def spills(self) -> int:
        return self.spill_stores + self.spill_loads


@dataclass(frozen=True)
class Built:
    """A compiled kernel: where its machine code is, and what it takes."""

    cubin: Path
    resources: Resources


def build(file: Path, macros: Mapping[str, int | str], architecture: str, function: str = "gemm") -> Built:
    """Compile a .cu file for an architecture ("sm_90a"), or find it compiled.

    Raises Uncompilable.
    """
    nvrtc = compiler()
    options = [f"-D{name}={value}" for name, value in sorted(macros.items())]
    options += [f"--gpu-architecture={architecture}", *OPTIONS]
    digest = hashlib.sha256(repr((file.name, function, options, nvrtc.version)).encode())
    for source in sources(file):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    cubin = folder() / f"{file.stem}-{architecture}-{digest.hexdigest()[:16]}.cubin"
    report = cubin.with_suffix(".json")
    with contextlib.suppress(OSError, ValueError, TypeError):
        if cubin.stat().st_size:
            return Built(cubin, Resources(**json.loads(report.read_text())))
    code, log = nvrtc.compile(file, [*options, f"--include-path={file.parent}"], architecture)
    resources = report_of(log, function)
    _write(report, json.dumps(asdict(resources)).encode())
    _write(cubin, code)  # last: where it is, its report is
    return Built(cubin, resources)


def sources(file: Path) -> list[Path]:
    """A file and all that it includes of its own folder, and so on, each once."""
    found = [file]
    for one in found:  # grows meanwhile
        for name in INCLUDE.findall(one.read_text()):
            included = one.parent / name
            if included.is_file() and included not in found:
                found.append(included)
    return found


def report_of(log: str, function: str) -> Resources:
    """The resources of a function, from what `ptxas -v` says. Raises Uncompilable where it says nothing of it."""
    _, _, about = log.partition(f"Compiling entry function '{function}'")

    def number(pattern: str, default: int | None = None) -> int:
        found = re.search(pattern, about)
        if found is None and default is None:
            raise Uncompilable(f"the assembler does not say what {function} takes:\n{log}")
        return int(found[1]) if found else int(default or 0)

    return Resources(
        registers=number(r"Used (\d+) registers"),
        stack=number(r"(\d+) bytes stack frame"),
        spill_stores=number(r"(\d+) bytes spill stores"),
        spill_loads=number(r"(\d+) bytes spill loads"),
        shared=number(r"(\d+) bytes smem", 0),  # not said where there is none
    )


def architecture_of(capability: tuple[int, int]) -> str:
    """What to compile for: all that a device has. Hopper's own instructions (wgmma, TMA) are those of sm_90a."""
    major, minor = capability
    return "sm_90a" if (major, minor) == (9, 0) else f"sm_{major}{minor}"


@cache
def folder() -> Path:
    """Where compiled kernels are kept: in the user's cache folder, else for this process only."""
    with contextlib.suppress(OSError, RuntimeError):  # no home, or one that cannot be written
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        kept = Path(home) / "gemmlab" / "cuda"
        kept.mkdir(parents=True, exist_ok=True)
        if os.access(kept, os.W_OK):
            return kept
    return Path(tempfile.mkdtemp(prefix="gemmlab-cuda-"))


def _write(file: Path, content: bytes) -> None:
    """Whole or not at all: another process may read it meanwhile."""
    number, name = tempfile.mkstemp(dir=file.parent, prefix=file.name)
    with open(number, "wb") as opened:
        opened.write(content)
    os.replace(name, file)


# NVRTC itself


@cache
def libraries() -> tuple[Path | str, ...]:
    """NVRTC's libraries on this machine, the one to use first; nothing is loaded."""
    found: list[Path | str] = [*_installed()]
    if not found:  # the system's loader is asked last: it may start a program to answer
        named = find_library("nvrtc")
        return (named,) if named else ()
    wanted = next((wheel[9:11] for wheel in probe.WHEELS[:2] if probe.version_of(wheel)), None)
    if wanted:  # CuPy's major version: a driver that is too old for the other one would refuse its code
        found.sort(key=lambda path: f".so.{wanted}" not in str(path))
    return tuple(found)


def _installed() -> Iterator[Path]:
    """Those of wheels, then those of toolkits."""
    spec = importlib.util.find_spec("nvidia")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        yield from _newest(Path(place).glob("*/lib/libnvrtc.so.*"))
    for home in (os.environ.get("CUDA_PATH"), os.environ.get("CUDA_HOME"), "/usr/local/cuda"):
        if home:
            yield from _newest(Path(home).glob("lib64/libnvrtc.so.*"))


def _newest(paths: Iterator[Path]) -> list[Path]:
    versions = (path for path in paths if re.fullmatch(r"libnvrtc\.so\.\d+", path.name))
    return sorted(versions, key=lambda path: int(path.name.rpartition(".")[2]), reverse=True)


@cache
def compiler() -> Nvrtc:
    """The first NVRTC that can be loaded. Raises Uncompilable."""
    reasons = []
    for library in libraries():
        try:
            return Nvrtc(library)
        except OSError as error:
            reasons.append(str(error))
    raise Uncompilable(f"NVRTC was not found ({'; '.join(reasons)})" if reasons else "NVRTC was not found")


class Nvrtc:
    """NVIDIA's run-time compiler: the C interface of nvrtc.h, as far as it is needed here."""

    def __init__(self, library: Path | str) -> None:
        if isinstance(library, Path):  # a wheel's is not always found by the library that asks for it
            for builtins in library.parent.glob("libnvrtc-builtins.so.*"):
                with contextlib.suppress(OSError):
                    ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
        self._nvrtc = ctypes.CDLL(str(library))
        self._nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        self.version = f"{major.value}.{minor.value}"

    def architectures(self) -> list[int]:
        """The compute capabilities that it knows: 80, 90, ..."""
        count = ctypes.c_int()
        self._call("nvrtcGetNumSupportedArchs", ctypes.byref(count))
        found = (ctypes.c_int * count.value)()
        self._call("nvrtcGetSupportedArchs", found)
        return list(found)

    def compile(self, file: Path, options: list[str], architecture: str) -> tuple[bytes, str]:
        """Machine code and log. Raises Uncompilable with the compiler's errors."""
        known = self.architectures()
        if int(re.sub(r"\D", "", architecture)) not in known:
            raise Uncompilable(f"NVRTC {self.version} does not know {architecture}; it knows {known}")
        program = ctypes.c_void_p()
        self._call(
            "nvrtcCreateProgram", ctypes.byref(program), file.read_bytes(), file.name.encode(), 0, None, None
        )
        try:
            words = [option.encode() for option in options]
            status = self._nvrtc.nvrtcCompileProgram(
                program, len(words), (ctypes.c_char_p * len(words))(*words)
            )
            log = self._text(program, "nvrtcGetProgramLog").decode(errors="replace").rstrip("\0")
            if status != 0:
                raise Uncompilable(f"{file.name} does not compile for {architecture}:\n{log}")
            return self._text(program, "nvrtcGetCUBIN"), log
        finally:
            self._nvrtc.nvrtcDestroyProgram(ctypes.byref(program))

    def _text(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"{what}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self._call(what, program, buffer)
        return buffer.raw

    def _call(self, function: str, *arguments: Any) -> None:
        status = getattr(self._nvrtc, function)(*arguments)
        if status != 0:
            raise Uncompilable(f"{function}: {self._nvrtc.nvrtcGetErrorString(status).decode()}")
