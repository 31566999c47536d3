"""Symbols: the thread_local variables of an object file or library, which is what shared arrays are compiled to.

The full symbol table (.symtab) of a 64-bit little-endian ELF file; System V ABI, chapter 4. `gemm.vendors.elf` reads
what a library exports, and these are not exported.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

SYMTAB = 2  # a section type
TLS = 6  # a symbol type


class Variable(NamedTuple):
    """A thread_local variable.

    symbol   as the linker knows it
    offset   from the start of the library's thread_local memory (in a library), and
    size     in bytes
    defined  or else only used
    """

    symbol: str
    offset: int
    size: int
    defined: bool

    @property
    def name(self) -> str:
        """As the source has it: of a mangled symbol the last identifier, each of which follows its length."""
        name, at = self.symbol, 0
        while self.symbol.startswith("_Z") and at < len(self.symbol):
            end = at
            while self.symbol[end : end + 1].isdigit():
                end += 1
            length = int(self.symbol[at:end] or 0)
            found = self.symbol[end : end + length]
            if found.isidentifier():
                name = found
            at = max(end + length, at + 1)
        return name


def thread_locals(path: Path) -> list[Variable]:
    """All of them, in order of their offsets. Raises ValueError for what is no 64-bit little-endian ELF file."""
    data = path.read_bytes()
    if data[:6] != b"\x7fELF\x02\x01":
        raise ValueError(f"{path}: not a 64-bit little-endian ELF file")
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, table + size * at) for at in range(count)]
    found = []
    for section in sections:
        if section[1] != SYMTAB:
            continue
        names = sections[section[6]][4]
        for name, info, _, home, value, length in struct.iter_unpack(
            "<IBBHQQ", data[section[4] : section[4] + section[5]]
        ):
            if info & 15 == TLS:
                end = data.index(b"\0", names + name)
                found.append(Variable(data[names + name : end].decode(), value, length, home != 0))
    return sorted(found, key=lambda variable: variable.offset)
