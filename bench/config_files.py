"""Config files: what this room has decided is put where `gemm` reads it, whole or not at all, other machines' kept.

Which files there are, and how they are read, is `gemm.configuration`'s.
"""

from __future__ import annotations

from pathlib import Path

from bench.records import Line, not_over_records, write_json
from gemm.configuration import OFF, Kept, Unusable


def writable(kept: Kept, out: str | Path | None = None) -> Path:
    """The file to write: `out`, or where it is looked for.

    Raises ValueError where there is another file, a folder, or nothing that would be read.
    """
    file = Path(out).absolute() if out else kept.path()
    if file is None:
        raise ValueError(
            f"{kept.variable}={OFF} switches the {kept.name} file off; unset it, or give a file with --out"
        )
    not_over_records(file)
    if out and not file.parent.is_dir():
        raise ValueError(f"{out}: its folder does not exist; make it or give another file with --out")
    if file.is_dir():
        raise ValueError(f"{file}: is a folder; give a file with --out")
    try:
        entries(kept, file, {})
    except Unusable as error:
        raise ValueError(f"{error}; remove it or give another with --out") from error
    return file


def entries(kept: Kept, file: Path, cpu: Line) -> tuple[list[Line], Line | None]:
    """The file's entries of other machines, and that of this one. Raises Unusable."""
    try:
        found = kept.entries(file)
    except FileNotFoundError:
        return [], None
    mine = [entry for entry in found if entry.get("cpu") == cpu]
    return [entry for entry in found if entry.get("cpu") != cpu], mine[-1] if mine else None


def put(kept: Kept, file: Path, entries: list[Line]) -> None:
    """Write the file with these entries; without any, there is none."""
    if not entries:
        file.unlink(missing_ok=True)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {"gemmlab": kept.name, "schema": kept.schema, "entries": entries})


def remove(kept: Kept, out: str | Path | None, cpu: Line) -> bool:
    """Take this machine's entry out of the file; False if there was none. Raises ValueError as `writable` does."""
    file = writable(kept, out)
    others, mine = entries(kept, file, cpu)
    if mine is not None:
        put(kept, file, others)
    return mine is not None
