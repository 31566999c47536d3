"""Files of the user's config folder: what `bench` has measured on request and decided, an entry for each processor.

    {"gemmlab": "tuning", "schema": 1, "entries": [{"cpu": {...}, "date": "2026-01-31T12:00:00Z", ...}, ...]}

One file may serve several machines (a home folder on a cluster): the entry whose `cpu` is this machine's counts. A file
is read once in a process, when it is first asked for; what cannot be used is said in one warning, and ignored.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

Entry = dict[str, Any]
Read = TypeVar("Read")
OFF = "off"


class Unusable(ValueError):
    """A file that is none of this kind and version; the message is one sentence that names it."""


@dataclass(frozen=True)
class Kept:
    """A kind of these files.

    name      what it calls itself: `tuning` is tuning.json, and "no tuning file" in a sentence
    schema    the version that is read
    variable  of the environment: another file's path, or "off"
    holds     what an entry has, and
    command   what writes it, for the sentence that there is none
    longest   bytes: a file for a thousand machines has less
    """

    name: str
    schema: int
    variable: str
    holds: str
    command: str
    longest: int = 4 << 20

    def path(self) -> Path | None:
        """Where the file is: what the variable names, else in the user's config folder; None: switched off."""
        asked = os.environ.get(self.variable)
        if asked:
            return None if asked == OFF else Path(asked).absolute()
        try:
            home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
        except RuntimeError:  # nobody's home
            return None
        return Path(home) / "gemmlab" / f"{self.name}.json"

    def entries(self, file: Path) -> list[Entry]:
        """All entries of a file, unread beyond their form. Raises Unusable; FileNotFoundError where there is none."""
        try:
            with open(file, "rb") as opened:
                text = opened.read(self.longest + 1)
            if len(text) > self.longest:
                raise Unusable(f"{file}: is longer than any {self.name} file")
            found = json.loads(text)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise Unusable(f"{file}: cannot be read ({error.strerror})") from error
        except (ValueError, RecursionError) as error:
            if isinstance(error, Unusable):
                raise
            raise Unusable(f"{file}: damaged, not JSON") from error
        if not isinstance(found, dict) or found.get("gemmlab") != self.name:
            raise Unusable(f"{file}: no {self.name} file of gemmlab's")
        if found.get("schema") != self.schema:
            raise Unusable(
                f"{file}: of schema {found.get('schema')!r:.40}, and this gemmlab reads {self.schema}"
            )
        members = found.get("entries")
        if not isinstance(members, list) or not all(isinstance(entry, dict) for entry in members):
            raise Unusable(f"{file}: damaged, without a list of entries")
        return members

    def mine(self, cpu: Callable[[], Entry], read: Callable[[Entry, Path], Read], without: Read) -> Read:
        """What `read` makes of this machine's entry; `without` where there is none, said once if there is a file.

        cpu   tells which machine this is; not asked where there is no file
        read  may raise Unusable
        """
        file = self.path()
        if file is None:
            return without
        try:
            this = cpu() if file.exists() else {}
            mine = [entry for entry in self.entries(file) if entry.get("cpu") == this]
            if mine:
                return read(mine[-1], file)
            why = f"{file}: has no {self.holds} for this processor; `{self.command}` finds them"
        except FileNotFoundError:
            if not os.environ.get(self.variable):
                return without
            why = f"{file}: does not exist ({self.variable} names it)"
        except Unusable as error:
            why = str(error)
        warnings.warn(f"{self.name} file ignored: {why}", stacklevel=2)
        return without
