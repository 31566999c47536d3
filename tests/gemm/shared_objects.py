"""Shared libraries of a few hundred bytes, made byte by byte: what they export and need is up to the test."""

import struct

SECTION, SYMBOL, DYNAMIC, SEGMENT = "<IIQQQQIIQQ", "<IBBHQQ", "<qQ", "<IIQQQQQQ"
STRTAB, SYMTAB, STRSZ, SYMENT, HASH, NEEDED, INIT, SONAME = 5, 6, 10, 11, 4, 1, 12, 14


def shared_object(path, exports=(), wants=(), needs=(), machine=62, kind=3, crashes=False, more=b""):
    """Write one that the loader takes (on x86-64), all in one read-only segment.

    exports  names it defines
    wants    names it would have from elsewhere
    needs    sonames of libraries
    crashes  it has an initialiser, in memory that cannot be executed
    more     bytes at its end
    """
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in (*exports, *wants, *needs))
    at = {name: strings.index(b"\0" + name.encode() + b"\0") + 1 for name in (*exports, *wants, *needs)}
    symbols = struct.pack(SYMBOL, 0, 0, 0, 0, 0, 0)
    for name in (*exports, *wants):
        defined = name in exports
        weak_or_global = 0x12 if defined else 0x22  # nobody has to have what is wanted
        symbols += struct.pack(SYMBOL, at[name], weak_or_global, 0, int(defined), 64 * defined, 8 * defined)
    count = len(symbols) // 24
    chain = [0, *range(2, count), 0][:count]
    table = struct.pack(f"<{3 + count}I", 1, count, 1 if count > 1 else 0, *chain)

    strings_at = 64 + 2 * 56
    symbols_at = -(-(strings_at + len(strings)) // 8) * 8
    table_at = symbols_at + len(symbols)
    dynamic_at = -(-(table_at + len(table)) // 8) * 8
    entries = [(NEEDED, at[name]) for name in needs]
    entries += [
        (STRTAB, strings_at),
        (SYMTAB, symbols_at),
        (STRSZ, len(strings)),
        (SYMENT, 24),
        (HASH, table_at),
    ]
    entries += [(INIT, 8)] if crashes else []
    dynamic = b"".join(struct.pack(DYNAMIC, *entry) for entry in [*entries, (0, 0)])
    sections_at = dynamic_at + len(dynamic)
    sections = struct.pack(SECTION, *[0] * 10)
    sections += struct.pack(SECTION, 0, 3, 2, strings_at, strings_at, len(strings), 0, 0, 1, 0)
    sections += struct.pack(SECTION, 0, 11, 2, symbols_at, symbols_at, len(symbols), 1, 1, 8, 24)
    sections += struct.pack(SECTION, 0, 6, 2, dynamic_at, dynamic_at, len(dynamic), 1, 0, 8, 16)
    size = sections_at + len(sections) + len(more)
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", kind, machine, 1, 0, 64, sections_at, 0, 64, 56, 2, 64, 4, 0)
    # readable and writable: the loader relocates .dynamic in place
    segments = struct.pack(SEGMENT, 1, 6, 0, 0, 0, size, size, 4096)
    segments += struct.pack(SEGMENT, 2, 6, dynamic_at, dynamic_at, dynamic_at, len(dynamic), len(dynamic), 8)
    parts = {
        0: head + segments,
        strings_at: strings,
        symbols_at: symbols,
        table_at: table,
        dynamic_at: dynamic,
    }
    data = bytearray(size)
    for where, part in (parts | {sections_at: sections + more}).items():
        data[where : where + len(part)] = part
    path.write_bytes(data)
    return path
