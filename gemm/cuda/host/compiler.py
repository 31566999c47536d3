"""The compiler: any of a C++17 compiler's names that is here, and libraries made of a rung, kept on disk.

They lie where compiled kernels are (`gemm.cuda.build.folder`), under the hash of everything that they are made from.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from gemm.cuda.build import folder
from gemm.cuda.host.symbols import Variable, thread_locals
from gemm.cuda.rungs import SOURCE

HERE = Path(__file__).parent
NAMES = ("c++", "g++", "clang++")
END = "gemmlab_end"  # executor.cpp's
DYNAMIC_BYTES = 227 << 10  # dynamic.cpp's
# No -march: the same code on every machine. Casts to float4 are everywhere in CUDA, which has no strict aliasing.
FLAGS = ("-std=c++17", "-O2", "-g1", "-gdwarf-4", "-fPIC", "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti",
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
    flags = [*FLAGS, *gnu, *(WATCHED if watched else CHECKED)]
    defined = "".join(f"#define {name} {value}\n" for name, value in sorted(macros.items()))
    digest = _digest((source, *_headers(source.parent), *_headers(SOURCE), *_own()), version, defined, *flags)
    made = folder() / f"{source.stem}-host-{digest}.so"
    if not made.exists():
        with tempfile.TemporaryDirectory(dir=made.parent) as where:
            Path(where, "macros.hpp").write_text(defined)
            os.replace(_build(path, source, flags, gnu, Path(where)), made)  # at once: others build it too
    return made


def shared_arrays(library: Path) -> list[Variable]:
    """Where a library has its shared arrays."""
    return [variable for variable in thread_locals(library) if variable.symbol != END]


def _build(compiler: str, source: Path, flags: list[str], gnu: tuple[str, ...], where: Path) -> Path:
    rung, made = where / "rung.o", where / "rung.so"
    found = [f"-I{where}", f"-I{source.parent}", f"-I{SOURCE}", f'-DGEMMLAB_RUNG="{source.name}"']
    _run(compiler, source, "-c", HERE / "rung.cpp", *found, *flags, "-o", rung)
    more: list[str | Path] = []
    wanted = [variable for variable in thread_locals(rung) if not variable.defined]
    if len(wanted) > 1:
        names = " and ".join(variable.name for variable in wanted)
        raise NotCompiled(
            f"{source.name}: has {names} as extern __shared__ arrays, which would be one memory"
        )
    for variable in wanted:
        more = [HERE / "dynamic.cpp", f"-DGEMMLAB_DYNAMIC={variable.symbol}"]
    # (linked without -fsanitize: what it calls is in executor.cpp, and the sanitizers' own libraries stay out)
    executor = _executor(compiler, (*FLAGS, *gnu))
    _run(compiler, source, "-shared", rung, *more, executor, *FLAGS, *gnu, "-Wl,-z,defs", "-o", made)
    return made


@cache
def _executor(compiler: str, flags: tuple[str, ...]) -> Path:
    """The part that all rungs have in common."""
    source, version = HERE / "executor.cpp", str(_compiler())
    made = folder() / f"executor-{_digest(_own(), version, *flags)}.o"
    if not made.exists():
        with tempfile.TemporaryDirectory(dir=made.parent) as where:
            _run(compiler, source, "-c", source, *flags, "-o", Path(where) / "executor.o")
            os.replace(Path(where) / "executor.o", made)
    return made


def _digest(files: Iterable[Path], *words: str) -> str:
    digest = hashlib.sha256("\0".join(words).encode())
    for file in files:
        digest.update(b"\0" + file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def _run(compiler: str, source: Path, *arguments: str | Path) -> None:
    done = subprocess.run([compiler, *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.splitlines()
        first = next((line for line in lines if "error" in line or "undefined" in line), (lines or ["?"])[0])
        first = re.sub(r"^(\S*/)?([^/:\s]+:)", r"\2", first.strip())  # (the folder says nothing)
        raise NotCompiled(f"{Path(compiler).name} cannot compile {source.name}: {first}")


def _headers(of: Path) -> list[Path]:
    return sorted(of.glob("*.cuh"))


@cache
def _own() -> tuple[Path, ...]:
    return tuple(sorted(path for path in HERE.iterdir() if path.suffix in (".cpp", ".hpp", ".py")))


def line_of(library: Path, code: int) -> str:
    """Where in the source an address of a library comes from: "line 33 of shared.cu", or that it is not known."""
    tool = shutil.which("addr2line") or shutil.which("llvm-addr2line")
    if tool:
        # the call lies before the address that it returns to
        told = subprocess.run(
            [tool, "-e", str(library), hex(code - 1)], capture_output=True, text=True, check=False
        )
        found = re.match(r"(.*/)?([^/]+):(\d+)", told.stdout)
        if found:
            return f"line {found[3]} of {found[2]}"
    return "a line that is not known"
