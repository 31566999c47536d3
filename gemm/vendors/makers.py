"""Makers: the CBLAS libraries that are known; by what one knows them, where they lie, and how to get them.

What a library is, its own symbols say and not its name: Debian's libblas.so.3 is a link to whichever of them the
administrator has chosen, and two of them may well be called libcblas.so.3.
"""

from __future__ import annotations

import site
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gemm.vendors import elf

# How the names of symbols differ: SciPy's builds of OpenBLAS, and 64-bit integers.
PREFIXES = ("", "scipy_")
SUFFIXES = ("", "64_", "_64")


@dataclass(frozen=True)
class Maker:
    """A known library.

    name     in `cblas:name`
    title    as one says it
    install  what to do to have it
    files    where it lies below a folder of libraries, the best first
    marks    symbols that only it exports, any of which is enough
    needs    how the soname of its main part begins: what is linked to that is its as well
    """

    name: str
    title: str
    install: str
    files: tuple[str, ...]
    marks: tuple[str, ...]
    needs: str | None = None


OPENBLAS = Maker(
    "openblas", "OpenBLAS", "apt install libopenblas0-pthread",
    # Debian's builds by their threads, then Fedora's with threads, then whatever bears the name
    ("openblas-pthread/libopenblas.so.0", "openblas-openmp/libopenblas.so.0", "openblas-serial/libopenblas.so.0",
     "libopenblasp.so.0", "libopenblas.so.0", "libopenblas.so"),
    ("openblas_get_config",), "libopenblas",
)  # fmt: skip
MKL = Maker(
    "mkl", "MKL", "pip install mkl",
    ("libmkl_rt.so", "libmkl_rt.so.*", "intel64/libmkl_rt.so*"),
    ("MKL_Get_Version_String",), "libmkl_",
)  # fmt: skip
BLIS = Maker(
    "blis", "BLIS", "apt install libblis4-pthread",
    ("blis-pthread/libblis.so.*", "blis-openmp/libblis.so.*", "blis-serial/libblis.so.*", "libblis-mt.so*",
     "libblis.so*"),
    ("bli_info_get_version_str",), "libblis",
)  # fmt: skip
ATLAS = Maker(
    "atlas", "ATLAS", "apt install libatlas3-base",
    ("atlas/libtatlas.so.3", "atlas/libsatlas.so.3", "libcblas.so.3", "atlas/libblas.so.3"),
    ("ATL_buildinfo",), "libatlas",
)  # fmt: skip
REFERENCE = Maker(
    "reference", "the reference BLAS", "apt install libblas3",
    ("blas/libblas.so.3", "libcblas.so.3", "libblas.so.3", "libcblas.so"),
    ("CBLAS_CallFromC",), "librefblas",
)  # fmt: skip
MAKERS = (OPENBLAS, MKL, BLIS, ATLAS, REFERENCE)


def maker_of(path: Path, library: elf.Library) -> Maker | None:
    """Whose library this is, by what it exports and is linked to; None for none that is known."""
    for maker in MAKERS:
        names = (f"{p}{mark}{s}" for mark in maker.marks for p in PREFIXES for s in SUFFIXES)
        if any(map(library.exports, names)):
            # BLIS and others carry the reference's CBLAS; what is linked to another library is that one's
            return next((m for m in MAKERS if _linked(m, library)), maker)
    if linked := next((maker for maker in MAKERS if _linked(maker, library)), None):
        return linked
    # Debian's BLIS as libblas.so.3 hides its own symbols
    return BLIS if elf.mentions(path, b"BLIS_NUM_THREADS") else None


def _linked(maker: Maker, library: elf.Library) -> bool:
    return maker.needs is not None and any(name.startswith(maker.needs) for name in library.needs)


def candidates(maker: Maker) -> Iterator[Path]:
    """Files that may be the maker's library, the best first; which of them are, `maker_of` says."""
    for pattern in maker.files:
        for folder in folders():
            yield from sorted(folder.glob(pattern))


def folders() -> list[Path]:
    """Where libraries lie: this Python's own, then the system's."""
    multiarch = sysconfig.get_config_var("MULTIARCH")
    own = [Path(sys.prefix), Path(site.getuserbase()), Path(sys.base_prefix)]
    found = [
        *(prefix / "lib" for prefix in own),
        Path("/opt/intel/oneapi/mkl/latest/lib"),
        Path("/usr/local/lib"),
        *([Path("/usr/lib", multiarch)] if multiarch else []),
        Path("/usr/lib64"),
        Path("/usr/lib"),
    ]
    return list(dict.fromkeys(found))


def inside_numpy() -> list[Path]:
    """The OpenBLAS that NumPy's wheels for Linux bring along."""
    return sorted(Path(np.__file__).parent.parent.glob("numpy.libs/libscipy_openblas*.so*"))
