"""ELF: what a shared library's file says of itself, read without loading it.

Loading runs the library's own code, which may crash or print; listing kernels must not. So here are only the
machine that it was built for, the names that it exports and the libraries that it needs (System V ABI, chapters
4 and 5: ELF header, section headers, .dynsym, .dynamic).
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MACHINES = {3: "i386", 21: "ppc64", 22: "s390x", 40: "ARM", 62: "x86-64", 183: "AArch64", 243: "RISC-V"}
DYNAMIC, DYNSYM = 6, 11  # section types
NEEDED = 1  # a tag in .dynamic
SHARED = 3  # a file type; also that of position-independent programs
# Of a symbol: where its name begins, and the section that it is in (0: it is wanted, not offered).
SYMBOL = {"names": ["name", "section"], "offsets": [0, 6], "itemsize": 24}


class NoLibrary(ValueError):
    """The file is no shared library for this interpreter; the message says what it is."""


@dataclass(frozen=True)
class Library:
    """A shared library's file.

    machine  word size, byte order and processor, as in MACHINES
    needs    the sonames of the libraries that it is linked to
    """

    machine: str
    needs: tuple[str, ...]
    _strings: bytes
    _offered: frozenset[int]

    def exports(self, name: str) -> bool:
        """Does it define this symbol?"""
        return any(at in self._offered for at in _places(self._strings, name.encode() + b"\0"))


def read(path: Path) -> Library:
    """Raises NoLibrary for what cannot be loaded here, OSError for what cannot be read."""
    if not path.is_file():
        raise NoLibrary("is no file" if path.exists() else "does not exist")
    with path.open("rb") as file:
        head = file.read(64)
        machine = _machine(head)
        if machine is None:
            raise NoLibrary("is no shared library (no ELF file)")
        if machine != (own := _own_machine()):
            raise NoLibrary(f"is built for {machine}, this Python for {own}")
        order = "<" if head[5] == 1 else ">"
        if struct.unpack_from(order + "H", head, 16) != (SHARED,):
            raise NoLibrary("is an ELF file and no shared library")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _read(data, order, machine)
            except (struct.error, ValueError, IndexError, OverflowError):
                raise NoLibrary("is a damaged library") from None


def mentions(path: Path, text: bytes) -> bool:
    """Is this text anywhere in the file?"""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.find(text) >= 0


def _read(data: mmap.mmap, order: str, machine: str) -> Library:
    (table,) = struct.unpack_from(order + "Q", data, 40)
    size, count = struct.unpack_from(order + "HH", data, 58)
    sections = [struct.unpack_from(order + "IIQQQQIIQQ", data, table + size * at) for at in range(count)]

    def content(section: tuple[int, ...]) -> bytes:
        at, length = section[4:6]
        if at + length > len(data):
            raise ValueError("beyond the end of the file")
        return data[at : at + length]

    strings, offered, needs = b"", frozenset[int](), []
    for section in sections:
        if section[1] == DYNSYM:
            strings = content(sections[section[6]])
            layout: Any = SYMBOL | {"formats": [order + "u4", order + "u2"]}
            symbols: Any = np.frombuffer(content(section), np.dtype(layout))
            offered = frozenset(symbols["name"][symbols["section"] != 0].tolist())
        elif section[1] == DYNAMIC:
            names = content(sections[section[6]])
            for tag, value in struct.iter_unpack(order + "qQ", content(section)):
                if tag == NEEDED:
                    needs.append(names[value : names.index(b"\0", value)].decode(errors="replace"))
    return Library(machine, tuple(needs), strings, offered)


def _machine(head: bytes) -> str | None:
    if len(head) < 64 or head[:4] != b"\x7fELF" or head[4] not in (1, 2) or head[5] not in (1, 2):
        return None
    (number,) = struct.unpack_from("<H" if head[5] == 1 else ">H", head, 18)
    order = "" if head[5] == 1 else " big-endian"
    return f"{32 * head[4]}-bit {MACHINES.get(number, f'machine {number}')}{order}"


def _own_machine() -> str | None:
    with Path("/proc/self/exe").open("rb") as file:
        return _machine(file.read(64))


def _places(text: bytes, what: bytes) -> Iterator[int]:
    """Where it begins, each time: names share their ends, so that one may lie within a longer one."""
    at = text.find(what)
    while at >= 0:
        yield at
        at = text.find(what, at + 1)
