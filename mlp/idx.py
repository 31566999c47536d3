"""IDX files, the format of MNIST and Fashion-MNIST: read and written.

    0, 0, type, ndim      one byte each
    ndim sizes            big-endian 32-bit unsigned
    the data              C order, big-endian

Either may be compressed with gzip; which, the first bytes say.
"""

from __future__ import annotations

import gzip
import zlib
from math import prod
from pathlib import Path

import numpy as np

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read(path: str | Path) -> np.ndarray:
    """The array in an IDX file, in native byte order.

    Raises ValueError, in one sentence that names the file, for one that is missing, is no IDX file, is cut
    short or holds more than its header says.
    """
    content = _content(Path(path))
    if len(content) < 4:
        raise ValueError(f"{path} is cut short: an IDX file begins with 4 bytes, it holds {len(content)}")
    zeros, code, ndim = content[:2], content[2], content[3]
    if zeros != b"\0\0" or code not in TYPES:
        wanted = "an IDX file begins with 00 00 and a type from 08 to 0e"
        raise ValueError(f"{path} is no IDX file: it begins with {content[:4].hex(' ')}, {wanted}")
    if ndim > 4:
        raise ValueError(f"{path} is no IDX file of images or labels: it announces {ndim} dimensions")
    start = 4 + 4 * ndim
    sizes = [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
    dtype = np.dtype(TYPES[code])
    expected = start + prod(sizes) * dtype.itemsize
    if len(content) < max(start, expected):
        raise ValueError(
            f"{path} is cut short: its header announces {expected} bytes, it holds {len(content)}"
        )
    if len(content) > expected:
        raise ValueError(
            f"{path} is too long: its header announces {expected} bytes, it holds {len(content)}"
        )
    return np.frombuffer(content, dtype, offset=start).reshape(sizes).astype(dtype.newbyteorder("="))


def write(path: str | Path, array: np.ndarray) -> None:
    """Write an array as an IDX file, compressed if the name ends in .gz; TypeError for other dtypes."""
    codes = {np.dtype(name).newbyteorder("="): code for code, name in TYPES.items()}
    code = codes.get(array.dtype.newbyteorder("="))
    if code is None:
        raise TypeError(f"an IDX file holds {', '.join(map(str, codes))}, not {array.dtype}")
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    content = bytes([0, 0, code, array.ndim]) + sizes + array.astype(TYPES[code]).tobytes()
    Path(path).write_bytes(gzip.compress(content, mtime=0) if str(path).endswith(".gz") else content)


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is cut short or damaged: gzip cannot unpack it ({error})") from error
