"""Records: what was measured, one JSON object a line, appended and flushed as it happens.

A run is a folder: `environment.json`, `plan.json`, `records.jsonl`, and what is drawn from them
(`report.html`, `figures/`). Every line has `schema kind run cell time`; the kinds are

    ceiling      one sample of what the machine can do: ceiling(fma, or l1 l2 l3 dram with -read -write -copy)
                 dtype threads launch round order status seconds work unit(FLOP | B)
    sample       one sample of a product: launch round order loops seconds(per call) error_ratio, and what
                 else happened meanwhile (bench/host/witness.py): waited_s cpu_s switches other_s steal_s throttled_s
                 pace_s(before and after)
    twin         A/A: one sample of a cell's kernel in a second process of its own; as `sample`
    worker       what a worker has loaded: launch kernel threads revision twin libraries threading_layer affinity
                 blocks(dtype: the block sizes in use, of numba-micro)
    step         one sample of a training step: model launch round order steps seconds(per step)
                 instrumented(bool)
    layer        one operation of an instrumented step: model layer op parts phase id kernel m n k
                 flops bytes launch round order steps seconds(per step, mean)
    training     a network trained on one kernel (a file of its own, bench/train.py): kernel source tuning threads model
                 status, reason, first_call_s, error_ratio, memory(bytes by part), losses(of each step),
                 epochs[epoch lr train_loss validation_loss validation_accuracy test_accuracy seconds
                 cumulative_s], steps(of this process), step_s, seconds, best_epoch, stopped, worker
    cell         the closing line of one kernel on one problem (or one model): kernel source
                 tuning(None, "model", or the hash of block sizes from a file)
                 threads cache via problem | model revision, status, reason, error_ratio, flops, bytes,
                 first_call_s(compiled anew) first_call_cached_s overhead_s(of a 1 x 1 x 1 product),
                 ended(launches | narrow | budget) doubts[kind sentence]
                 bound(by level shares) payback(other kernel: calls), of `auto` chosen(the kernel that it was)

A `cell` id is the hash of the canonical JSON of what the cell *is* (kernel, hash of the kernel's
source, its tuning, problem or model, threads, cache, via), so that a resumed run never mixes two versions of a
kernel. Non-finite numbers are the strings "nan", "inf" and "-inf": JSON has none.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

SCHEMA = 1
AT = ("launch", "round", "order")
# Every kind of line, and the fields without which it is of no use.
REQUIRED = {
    "ceiling": (*AT, "ceiling", "dtype", "threads"),
    "sample": (*AT, "loops", "seconds"),
    "twin": (*AT, "loops", "seconds"),
    "worker": ("launch", "kernel", "threads", "libraries"),
    "step": (*AT, "model", "steps", "seconds", "instrumented"),
    "layer": (
        *AT,
        "id",
        "layer",
        "op",
        "phase",
        "parts",
        "kernel",
        "m",
        "n",
        "k",
        "flops",
        "bytes",
        "seconds",
    ),
    "training": ("kernel", "threads", "status", "model", "epochs", "losses"),
    "cell": ("kernel", "threads", "status"),
}
# What a file of trainings says that it is.
TRAININGS = "trainings"
WITHIN = {"problem": ("m", "n", "k", "dtype"), "model": ("arch", "batch", "dtype")}
CUT = "cut short"

Line = dict[str, Any]


class RunError(ValueError):
    """A run folder that cannot be read or written; the message is one sentence for the user."""


class Interrupted(Exception):
    """Ctrl-C in the middle of a run; the message says what is kept, where, and how to go on.

    No KeyboardInterrupt any more: command-line libraries make an Abort without a message of those.
    """

    def __init__(self, kept: str) -> None:
        super().__init__(f"interrupted; {kept}")


def canonical(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, non-finite numbers as strings."""
    return json.dumps(finite(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def cell_id(identity: Line) -> str:
    """Twelve hex digits that name a cell: the hash of its canonical JSON."""
    return hashlib.sha256(canonical(identity).encode()).hexdigest()[:12]


def now() -> str:
    """The time in UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def number(value: Any) -> float | None:
    """A number as records hold it (None, a number, or "nan", "inf", "-inf") as a float or None."""
    return None if value is None else float(value)


class Writer:
    """Appends lines to `records.jsonl`; each is in the file before `append` returns."""

    def __init__(self, folder: Path, run: str) -> None:
        self.run = run
        path = folder / "records.jsonl"
        self._file: IO[str] = open(path, "a", encoding="utf-8")  # noqa: SIM115 - closed in close()
        _lock(self._file, folder)
        if _ends_in_mid_line(path):  # a killed run's last line: end it, so that ours start on their own
            self._file.write("\n")

    def append(self, kind: str, cell: str, **fields: Any) -> Line:
        """Write one line and flush it to the operating system (a killed process loses nothing)."""
        assert kind in REQUIRED, kind
        line: Line = {"schema": SCHEMA, "kind": kind, "run": self.run, "cell": cell, "time": now(), **fields}
        self._file.write(canonical(line) + "\n")
        self._file.flush()
        return line

    def close(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


@dataclass
class Run:
    """A run read back: its lines by kind, its environment, and what could not be read."""

    path: Path
    environment: Line
    plan: Line
    lines: list[Line]
    warnings: list[str] = field(default_factory=list)

    def of(self, kind: str) -> list[Line]:
        """The lines of one kind, in the order in which they were written."""
        return [line for line in self.lines if line["kind"] == kind]

    @property
    def cells(self) -> list[Line]:
        """The closing lines, one per cell; of a cell closed twice (resumed), the last."""
        return list({line["cell"]: line for line in self.of("cell")}.values())

    def frame(self) -> Any:
        """All lines as one pandas DataFrame, nested fields flattened (`problem.m`). Needs pandas."""
        import pandas

        return pandas.json_normalize(self.lines)


def load(run: str | Path) -> Run:
    """Read a run folder (or its `records.jsonl`), or a file of trainings (`gemmlab train --out`).

    Lines that are cut short or are no records of ours are left out and named in `warnings`; the rest
    is used. Raises RunError where there is nothing to read.
    """
    path = Path(run)
    if path.suffix == ".json" and path.is_file():
        return _trainings(path)
    records = path if path.is_file() else path / "records.jsonl"
    folder = records.parent
    if not records.exists():
        hint = "a run is a folder that holds records.jsonl, as `gemmlab sweep` writes it"
        raise RunError(f"{run}: no records.jsonl there ({hint})")
    lines, warnings = [], []
    try:
        raw = records.read_bytes().split(b"\n")
    except OSError as error:
        raise RunError(f"{records}: cannot be read: {error.strerror}") from error
    for at, text in enumerate(raw, start=1):
        if text.strip():
            line = _parse(text)
            if isinstance(line, str):
                warnings.append(f"{records.name} line {at}: {line}; left out")
            else:
                lines.append(line)
    if not lines and any(CUT not in warning for warning in warnings):
        raise RunError(f"{records}: holds no record of gemmlab's ({warnings[0]})")
    read = {}
    for name in ("environment", "plan"):
        try:
            read[name] = read_json(folder / f"{name}.json")
        except RunError as error:
            read[name] = {}
            warnings.append(str(error))
    return Run(folder, read["environment"], read["plan"], lines, warnings)


def _trainings(path: Path) -> Run:
    """A file of trainings as a run: one line for each."""
    found = read_json(path)
    if found.get("gemmlab") != TRAININGS:
        raise RunError(f"{path}: holds no trainings; `gemmlab train --out {path.name}` writes such a file")
    if found.get("schema") != SCHEMA:
        raise RunError(f"{path}: is of schema {found.get('schema')!r}, this gemmlab reads {SCHEMA}")
    lines, warnings, members = [], [], found.get("trainings")
    for at, member in enumerate(members if isinstance(members, list) else [], start=1):
        line = _checked(member)
        if isinstance(line, str):
            warnings.append(f"{path.name} training {at}: {line}; left out")
        else:
            lines.append(line)
    environment = found.get("environment")
    return Run(path, environment if isinstance(environment, dict) else {}, {}, lines, warnings)


def opened(run: str | Path | Run) -> Run:
    """A run, read if it is not yet."""
    return run if isinstance(run, Run) else load(run)


def latest(runs: str | Path = "runs") -> Path:
    """The newest run folder below `runs`, by the time of its records; RunError if there is none."""
    found = sorted(Path(runs).glob("*/records.jsonl"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise RunError(f"{runs}: holds no run yet; `gemmlab` or `gemmlab sweep` makes one")
    return found[-1].parent


def not_over_records(path: Path) -> Path:
    """The path, unless it is where a run keeps its measurements. Raises RunError."""
    if path.name in ("records.jsonl", "plan.json", "environment.json"):
        raise RunError(f"{path}: a file of this name holds a run's measurements; give another with --out")
    return path


def new_folder(out: str | Path | None, stem: str) -> Path:
    """Make the folder of a new run: `out`, or `runs/<UTC time>-<stem>`. RunError if that cannot be."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    path = Path(out) if out else _unused(Path("runs") / f"{stamp}-{stem}")
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written ({error.strerror}); give another folder with --out"
        ) from error
    records = path / "records.jsonl"
    if records.exists() and records.stat().st_size:  # of one that was killed before its first sample, nothing
        raise RunError(f"{path}: already holds a run; finish it with --resume {path} or give another --out")
    return path


def read_json(path: Path) -> Line:
    """A JSON file of a run. RunError where it is missing, cut short or no object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: {_why(error)}") from error
    if not isinstance(value, dict):
        raise RunError(f"{path}: not an object of gemmlab's")
    return value


def write_json(path: Path, value: Line) -> None:
    """Write a JSON file for people, whole or not at all."""
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(finite(value), indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def _lock(file: IO[str], folder: Path) -> None:
    """One writer per run, for as long as the file is open; RunError where there is another."""
    try:
        import fcntl
    except ImportError:  # no such locks on Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise RunError(
            f"{folder}: another process is writing this run; wait for it, or use another folder"
        ) from error


def _unused(path: Path) -> Path:
    candidates = (path if i == 0 else path.with_name(f"{path.name}-{i}") for i in range(1000))
    return next(candidate for candidate in candidates if not candidate.exists())


def finite(value: Any) -> Any:
    """A value as JSON can hold it: NaN and infinities as strings, NumPy scalars as numbers."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, str) or value is None or isinstance(value, bool):
        return value
    if isinstance(value, Iterable):
        return [finite(item) for item in value]
    if hasattr(value, "item"):  # a NumPy scalar
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value


def _parse(text: bytes) -> Line | str:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return CUT if text.startswith(b"{") else "not JSON"
    return _checked(line)


def _checked(line: Any) -> Line | str:
    """The line, or what is wrong with it."""
    if not isinstance(line, dict) or line.get("kind") not in REQUIRED or "cell" not in line:
        return "not a record of gemmlab's"
    if line.get("schema") != SCHEMA:
        return f"of schema {line.get('schema')!r}, this gemmlab reads {SCHEMA}"
    missing = [name for name in REQUIRED[line["kind"]] if name not in line]
    if line["kind"] == "cell":
        what = "problem" if line.get("problem") else "model"
        inside = line.get(what)
        inside = inside if isinstance(inside, dict) else {}
        missing += [f"{what}.{name}" for name in WITHIN[what] if name not in inside]
    if missing:
        return f"a {line['kind']} without {missing[0]}"
    for name in ("seconds", "work") if line["kind"] != "training" else ():  # that of no step is 0
        if name in line and not (isinstance(line[name], int | float) and line[name] > 0):
            return f"a {line['kind']} whose {name} is {line[name]!r}"
    return line


def _why(error: Exception) -> str:
    return "missing" if isinstance(error, FileNotFoundError) else f"unreadable ({error})"


def _ends_in_mid_line(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:
        return False


def whole_launches(lines: Iterable[Line], rounds: int) -> Iterator[tuple[int, list[Line]]]:
    """Group lines by launch and yield those launches that hold all their rounds."""
    grouped: dict[int, list[Line]] = {}
    for line in lines:
        grouped.setdefault(line["launch"], []).append(line)
    for launch, members in sorted(grouped.items()):
        if len({line["round"] for line in members}) >= rounds:
            yield launch, members
