"""Libraries: which CBLAS kernels there are, the known ones and those that the user names, and why one cannot be had.

    GEMMLAB_CBLAS=mine=/path/to/libblas.so:/path/to/libother.so       (or --cblas, which adds to it)

are `cblas:mine` and `cblas:other`. Whoever names `openblas`, `mkl`, ... gives the place of that one. Nothing is
loaded here: `elf` reads the file.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gemm.vendors import elf
from gemm.vendors.makers import (
    MAKERS,
    OPENBLAS,
    PREFIXES,
    SUFFIXES,
    Maker,
    candidates,
    inside_numpy,
    maker_of,
)

VARIABLE = "GEMMLAB_CBLAS"


@dataclass(frozen=True, eq=False)
class Choice:
    """A library to choose: of a known maker, or a file that the user names.

    name   in `cblas:name`
    maker  whose it must be; None: anybody's
    given  the files that the user names (one, if it was not a mistake); else it is looked for
    """

    name: str
    maker: Maker | None
    given: tuple[Path, ...] = ()

    @property
    def path(self) -> Path | None:
        """The file, where there is one that can be used."""
        return None if isinstance(self._outcome, str) else self._outcome

    @property
    def reason(self) -> str | None:
        """Why it cannot be used, one sentence with the remedy; None if it can, as far as its file tells."""
        return self._outcome if isinstance(self._outcome, str) else None

    @cached_property
    def _outcome(self) -> Path | str:
        if len(self.given) > 1:
            names = " and ".join(map(str, self.given))
            return f"{VARIABLE} gives {self.name!r} twice, as {names}; name each: other=/path"
        if self.given:
            return fault(self.given[0], self.maker) or self.given[0]
        faults = []
        for path in inside_numpy() if self.name == NUMPY else candidates(self.maker) if self.maker else ():
            faults.append(fault(path, self.maker))
            if faults[-1] is None:
                return path
        if self.name == NUMPY:
            missing = (
                "this NumPy brings no OpenBLAS of its own along; pip install numpy (its wheels for Linux do)"
            )
            return faults[0] or missing if faults else missing
        assert self.maker is not None
        remedy = f"{self.maker.install}, or say where it is with {VARIABLE}={self.name}=/path/to/it"
        return f"{faults[0] if faults else f'{self.maker.title} was not found'}; {remedy}"


NUMPY = "numpy"


def choices() -> list[Choice]:
    """The known libraries, then those that GEMMLAB_CBLAS names beside them."""
    given = named(os.environ.get(VARIABLE, ""))
    known: dict[str, Maker] = {maker.name: maker for maker in MAKERS} | {NUMPY: OPENBLAS}
    return [
        Choice(name, known.get(name), tuple(given.get(name, ()))) for name in dict.fromkeys([*known, *given])
    ]


def named(text: str) -> dict[str, list[Path]]:
    """Name -> files, of `name=path` or `path` entries with the system's path separator between."""
    found: dict[str, list[Path]] = {}
    for entry in filter(None, (part.strip() for part in text.split(os.pathsep))):
        name, equals, path = entry.partition("=")
        if not equals or os.sep in name:
            name, path = "", entry
        file = Path(path).expanduser().absolute()
        files = found.setdefault(_plain(name or _stem(file)), [])
        if file not in files:
            files.append(file)
    return found


def add(entries: list[str]) -> None:
    """Add to GEMMLAB_CBLAS, for this process and those that it starts; before anybody lists the kernels.

    Raises ValueError for an entry that is not one library.
    """
    for entry in entries:
        if len(found := named(entry)) != 1 or os.pathsep in entry:
            raise ValueError(f"--cblas {entry!r}: give one library, as name=/path/to/it.so or /path/to/it.so")
        ((name, (path,)),) = found.items()
        before = os.environ.get(VARIABLE)
        os.environ[VARIABLE] = os.pathsep.join([*([before] if before else []), f"{name}={path}"])


def fault(path: Path, maker: Maker | None) -> str | None:
    """Why this file is not a CBLAS library of the maker's (None: anybody's) that could be loaded; None if it is."""
    if sys.platform != "linux":  # other systems' libraries are looked at when they are loaded
        return None if path.is_file() else f"{path} is no file"
    try:
        library = elf.read(path)
        if not any(library.exports(f"{p}cblas_sgemm{s}") for p in PREFIXES for s in SUFFIXES):
            return f"{path} is a library without CBLAS: it exports no cblas_sgemm"
        found = maker_of(path, library) if maker else None
    except elf.NoLibrary as error:
        return f"{path} {error}"
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
    if maker is not None and found is not maker:
        return f"{path} is {found.title if found else 'none that is known'}, not {maker.title}"
    return None


def _stem(file: Path) -> str:
    """libblis-mt.so.4 -> blis-mt."""
    return re.sub(r"^lib|(\.\d+)*\.(so|dylib|dll)(\.\d+)*$", "", file.name)


def _plain(name: str) -> str:
    """A name that can stand in a list of kernels."""
    return re.sub(r"[^\w.+-]", "-", name.strip())
