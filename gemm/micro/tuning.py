"""The tuning file: block sizes that `gemmlab tune` found for this kind of processor, read and never written here.

    {"gemmlab": "tuning", "schema": 1, "entries": [
        {"cpu": {...}, "date": "2026-01-31T12:00:00Z", "blocks": {"float32": {"depth": 1024, ...}, ...}}, ...]}

One file may serve several machines (a home folder on a cluster): the entry whose `cpu` is this machine's counts. It
is read once, at the first product; what cannot be used is said in one warning, and the model's block sizes are used.
"""

from __future__ import annotations

import json
import os
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from gemm import processor
from gemm.micro import blocking
from gemm.micro.host import BYTES, vectors

VARIABLE = "GEMMLAB_TUNING"
OFF = "off"
SCHEMA = 1
# A file for a thousand machines has less.
LONGEST = 4 << 20

Entry = dict[str, Any]


class NoTuning(ValueError):
    """A file that is no tuning file of this version; the message is one sentence that names it."""


def path() -> Path | None:
    """Where the file is: GEMMLAB_TUNING, else in the user's config folder; None where it is switched off."""
    asked = os.environ.get(VARIABLE)
    if asked:
        return None if asked == OFF else Path(asked).absolute()
    try:
        home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    except RuntimeError:  # nobody's home
        return None
    return Path(home) / "gemmlab" / "tuning.json"


def cpu() -> Entry:
    """What an entry is for: processor, vector unit as code is compiled for it, and caches in bytes."""
    return {**processor.identity(), "vectors": vectors()._asdict(), "caches": processor.caches()}


def entries(file: Path) -> list[Entry]:
    """All entries of a file, unread beyond their form. Raises NoTuning, and FileNotFoundError where there is none."""
    try:
        with open(file, "rb") as opened:
            text = opened.read(LONGEST + 1)
        if len(text) > LONGEST:
            raise NoTuning(f"{file}: is longer than any tuning file")
        found = json.loads(text)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise NoTuning(f"{file}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, NoTuning):
            raise
        raise NoTuning(f"{file}: damaged, not JSON") from error
    if not isinstance(found, dict) or found.get("gemmlab") != "tuning":
        raise NoTuning(f"{file}: no tuning file of gemmlab's")
    if found.get("schema") != SCHEMA:
        raise NoTuning(f"{file}: of schema {found.get('schema')!r:.40}, and this gemmlab reads {SCHEMA}")
    members = found.get("entries")
    if not isinstance(members, list) or not all(isinstance(entry, dict) for entry in members):
        raise NoTuning(f"{file}: damaged, without a list of entries")
    return members


def blocks_of(entry: Entry, file: Path) -> dict[str, blocking.Blocks]:
    """An entry's block sizes. Raises NoTuning for any that are absurd."""
    sizes = entry.get("blocks")
    if not isinstance(sizes, dict):
        raise NoTuning(f"{file}: damaged, an entry without block sizes")
    found = {}
    for dtype, members in sizes.items():
        if dtype not in BYTES or not isinstance(members, dict):
            raise NoTuning(f"{file}: block sizes for {dtype!r:.40}, not for {' or '.join(BYTES)}")
        if why := blocking.refused(members, dtype):
            raise NoTuning(f"{file}: block sizes of {dtype} refused: {why}")
        found[dtype] = blocking.Blocks(**members)
    return found


@cache
def tuned() -> dict[str, blocking.Blocks]:
    """The file's block sizes for this machine, by dtype; {} if there are none, and one warning if there is a file."""
    file = path()
    if file is None:
        return {}
    try:
        this = cpu() if file.exists() else {}  # which loads LLVM: not without a file
        mine = [entry for entry in entries(file) if entry.get("cpu") == this]
        if mine:
            return blocks_of(mine[-1], file)
        why = f"{file}: has no block sizes for this processor; `gemmlab tune` finds them"
    except FileNotFoundError:
        if not os.environ.get(VARIABLE):
            return {}
        why = f"{file}: does not exist ({VARIABLE} names it)"
    except NoTuning as error:
        why = str(error)
    _warn(f"tuning file ignored: {why}")
    return {}


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=2)
