"""Symbols: the thread_local variables of an object file or library, which is what shared arrays are compiled to.

The full symbol table (.symtab) of a 64-bit little-endian ELF file; System V ABI, chapter 4. `gemm.vendors.elf` reads
what a library exports, and these are not exported.
"""

from __future__ import annotations

import re
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
        """As the source has it: the end of a mangled symbol, where an identifier follows its length."""
        if not self.symbol.startswith("_Z"):
            return self.symbol
        text = re.sub(r"(_\d+|E)$", "", self.symbol)
        ends = (text[at:] for at in range(len(text)))
        return next((x for x in ends if x.isidentifier() and text.endswith(f"{len(x)}{x}")), text)


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
