"""The compiler: any of a C++17 compiler's names that is here, and libraries made of a rung, kept on disk.

They lie in the lab's cache folder (`XDG_CACHE_HOME`, or ~/.cache), under the hash of everything that they are made from.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from gemm.cuda.host.symbols import thread_locals
from gemm.cuda.rungs import SOURCE

HERE = Path(__file__).parent
NAMES = ("c++", "g++", "clang++")
DYNAMIC_BYTES = 227 << 10  # dynamic.cpp's
# No -march: the same code on every machine. Casts to float4 are everywhere in CUDA, which has no strict aliasing.
FLAGS = ("-std=c++17", "-O2", "-g1", "-fPIC", "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti",
         "-fno-strict-aliasing", "-w")  # fmt: skip
# Accesses made loops again of, and thread_local variables of other files looked up directly.
GNU = ("-fno-extern-tls-init", "-fno-tree-loop-distribute-patterns")
CHECKED = ("-fsanitize=bounds", "-fsanitize=alignment")
WATCHED = (*CHECKED, "-fsanitize=thread")


class NotCompiled(RuntimeError):
    """The compiler refuses a source; the message has its first complaint."""


@cache
def _compiler() -> tuple[str, str] | None:
    """The compiler's path and what it says it is."""
    for name in (os.environ.get("CXX"), *NAMES):
        path = shutil.which(name) if name else None
        if path:
            said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
            if said.returncode == 0:
                return path, said.stdout
    return None


def reason() -> str | None:
    """Why rungs cannot run on this machine's processor; None: they can."""
    if sys.platform != "linux" or sys.byteorder != "little" or sys.maxsize < 2**32:
        return "CUDA sources run on a CPU under 64-bit Linux only"
    if _compiler() is None:
        return "there is no C++ compiler to run CUDA sources with; install g++ or clang++, or name one by CXX"
    return None


def library(source: Path, macros: Mapping[str, int], watched: bool) -> Path:
    """The shared library of a .cu file with these macros; compiled if it is not there yet. Raises NotCompiled.

    watched   each access to memory is looked at (`executor.cpp`)
    """
    found = _compiler()
    if found is None:
        raise NotCompiled(str(reason()))
    path, version = found
    gnu = () if "clang" in version else GNU
    defined = [f"-D{name}={value}" for name, value in sorted(macros.items())]
    flags = [*FLAGS, *gnu, *(WATCHED if watched else CHECKED), *defined]
    digest = hashlib.sha256("\0".join([version, source.name, *flags]).encode())
    for file in (source, *_headers(source.parent), *_headers(SOURCE), *_own()):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    made = _folder() / f"{source.stem}-{digest.hexdigest()[:16]}.so"
    if not made.exists():
        with tempfile.TemporaryDirectory(dir=made.parent) as folder:
            os.replace(_build(path, source, flags, gnu, Path(folder)), made)  # at once: others build it too
    return made


def _build(compiler: str, source: Path, flags: list[str], gnu: tuple[str, ...], folder: Path) -> Path:
    rung, made = folder / "rung.o", folder / "rung.so"
    where = [f"-I{source.parent}", f"-I{SOURCE}"]
    _run(compiler, source, "-c", HERE / "rung.cpp", f'-DGEMMLAB_RUNG="{source.name}"', *where, *flags, "-o", rung)
    more: list[str | Path] = []
    wanted = [variable for variable in thread_locals(rung) if not variable.defined]
    if len(wanted) > 1:
        names = " and ".join(variable.name for variable in wanted)
        raise NotCompiled(f"{source.name}: has {names} as extern __shared__ arrays, which would be one memory")
    for variable in wanted:
        more = [HERE / "dynamic.cpp", f"-DGEMMLAB_DYNAMIC={variable.symbol}"]
    # (as an object file rung.o is linked without -fsanitize: the sanitizers' own libraries stay out)
    _run(compiler, source, "-shared", rung, HERE / "executor.cpp", *more, *FLAGS, *gnu, "-Wl,-z,defs", "-o", made)
    return made


def _run(compiler: str, source: Path, *arguments: str | Path) -> None:
    done = subprocess.run([compiler, *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.splitlines()
        first = next((line for line in lines if "error" in line or "undefined" in line), (lines or ["?"])[0])
        first = re.sub(r"^(\S*/)?([^/:\s]+:)", r"\2", first.strip())  # (the folder says nothing)
        raise NotCompiled(f"{Path(compiler).name} cannot compile {source.name}: {first}")


def _headers(folder: Path) -> Iterator[Path]:
    return iter(sorted(folder.glob("*.cuh")))


@cache
def _own() -> tuple[Path, ...]:
    return tuple(sorted(path for path in HERE.iterdir() if path.suffix in (".cpp", ".hpp", ".py")))


@cache
def _folder() -> Path:
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(home) / "gemmlab" / "cuda-host"
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):  # no home, or one that cannot be written
        pass
    return Path(tempfile.mkdtemp(prefix="gemmlab-cuda-host-"))


def line_of(library: Path, code: int) -> str:
    """Where in the source an address of a library comes from: "line 33 of shared.cu", or that it is not known."""
    tool = shutil.which("addr2line") or shutil.which("llvm-addr2line")
    if tool:
        # the call lies before the address that it returns to
        told = subprocess.run([tool, "-e", str(library), hex(code - 1)], capture_output=True, text=True, check=False)
        found = re.match(r"(.*/)?([^/]+):(\d+)", told.stdout)
        if found:
            return f"line {found[3]} of {found[2]}"
    return "a line that is not known"
