"""Interchange: a run in forms that other tools read. pytest-benchmark's JSON, CSV, Parquet.

    bench.export(run, "mine.json")             what `pytest-benchmark compare mine.json` prints
    bench.export(run, "cells.csv")             one line per cell, flat columns
    bench.export(run, "samples.parquet", samples=True)       one line per sample

The JSON holds the cells that are `ok` (bench.exchange.benchmark_json says how its figures relate to gemmlab's own); the
tables hold every cell, with its status and reason. Their columns are IDENTITY and then FIGURES or SAMPLE below.
"""

from __future__ import annotations

import csv
import io
import json
import math
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.exchange.benchmark_json import document
from bench.records import Line, Run, RunError, finite, load, not_over_records, number
from bench.verdicts.statistics import Interval, Result, floor_for, floors, results

if TYPE_CHECKING:
    import pyarrow

FORMS = {"pytest-benchmark": ".json", "csv": ".csv", "parquet": ".parquet"}

# Columns: name -> type and what stands in it. Empty (null) where it does not apply or is not known.
Columns = dict[str, tuple[type, str]]
IDENTITY: Columns = {
    "run": (str, "the run"),
    "cell": (str, "the cell's id: the hash of all that it is"),
    "kernel": (str, "name, or path/to/file.py:function"),
    "source": (str, "hash of the kernel's code"),
    "revision": (str, "git revision, of a run that holds two"),
    "what": (str, "product or step (a training step)"),
    "m": (int, "rows of A and C"),
    "n": (int, "columns of B and C"),
    "k": (int, "terms of each sum"),
    "arch": (str, "widths of the network, inputs first"),
    "batch": (int, "products in a batch, or examples in a step"),
    "dtype": (str, "of the operands"),
    "order": (str, "nn, tn, nt, tt: operands stored transposed"),
    "strides": (str, "how the operands lie in memory"),
    "alpha": (float, "of C <- alpha A B + beta C"),
    "beta": (float, "of C <- alpha A B + beta C"),
    "epilogue": (str, "what is done to C afterwards"),
    "activation": (str, "of the network"),
    "loss": (str, "of the network"),
    "optimizer": (str, "of the network"),
    "lr": (float, "learning rate of the network"),
    "data": (str, "what the operands are drawn from"),
    "threads": (int, "of the process"),
    "cache": (str, "hot or cold"),
    "device": (str, "cpu or cuda"),
    "operands": (str, "where a GPU's kernel has its operands: device or host"),
    "arithmetic": (str, "what a GPU's kernel multiplies: float32, tfloat32, ..."),
    "status": (str, "ok wrong failed crashed timeout skipped unavailable impossible"),
}
FIGURES: Columns = {
    "reason": (str, "why the status is not ok"),
    "launches": (int, "fresh processes that the figures are over"),
    "seconds": (float, "per call: geometric mean of the launches' medians"),
    "seconds_low": (float, "low end of its 95 % interval"),
    "seconds_high": (float, "high end of its 95 % interval"),
    "gflops": (float, "10^9 floating-point operations per second"),
    "gflops_low": (float, "low end of its 95 % interval"),
    "gflops_high": (float, "high end of its 95 % interval"),
    "percent_of_peak": (float, "of the FMA rate measured in the same launches"),
    "percent_of_peak_low": (float, "low end of its 95 % interval"),
    "percent_of_peak_high": (float, "high end of its 95 % interval"),
    "floor": (float, "A/A: the difference (0.01 is 1 %) below which no verdict is given"),
    "error_ratio": (float, "largest error of an element over what rounding allows it"),
    "flops": (int, "floating-point operations of a call"),
    "bytes": (int, "compulsory traffic of a call"),
    "first_call_s": (float, "seconds from nothing to the first product"),
    "first_call_cached_s": (float, "the same with compiled code on disk"),
    "overhead_s": (float, "seconds of a call on a 1 x 1 x 1 product"),
    "bound_by": (str, "arithmetic, bandwidth, overhead or itself"),
    "bound_level": (str, "the level of memory whose bandwidth it is"),
    "ended": (str, "what ended the sampling: launches, narrow or budget"),
    "doubts": (str, "what disturbed the samples, in sentences"),
}
SAMPLE: Columns = {
    "launch": (int, "from 0"),
    "round": (int, "of the launch, from 0"),
    "position": (int, "place among the kernels of the round"),
    "loops": (int, "calls in the sample"),
    "seconds": (float, "per call, as the clock said"),
    "counted": (bool, "its launch is whole, so that statistics use it"),
    "waited_s": (float, "core-seconds ready to run and without a core"),
    "cpu_s": (float, "core-seconds of the process"),
    "switches": (int, "involuntary context switches"),
    "steal_s": (float, "core-seconds that the hypervisor took"),
    "throttled_s": (float, "core-seconds that the quota took"),
    "other_s": (float, "core-seconds that other processes used"),
    "pace_s": (float, "seconds of a short loop in the first cache, just before and after"),
    "sm_mhz": (float, "clock of a GPU's multiprocessors while it worked"),
    "memory_mhz": (float, "clock of its memory"),
    "power_w": (float, "its power"),
    "temperature_c": (float, "its temperature"),
    "transfer_s": (float, "of host data handed to a GPU: seconds of the copies, timed apart"),
    "product_s": (float, "and of the product alone"),
}


def export(
    run: str | Path | Run,
    out: str | Path | None = None,
    form: str | None = None,
    *,
    samples: bool = False,
    public: bool = False,
) -> Path:
    """Write a run in another tool's form and return the file.

    out      default: beside the records, named after what it holds
    form     pytest-benchmark, csv or parquet; default: by the ending of `out`, else pytest-benchmark
    samples  of the tables: one line per sample in place of one per cell
    public   leave out host, user and paths

    Raises ValueError for a form that cannot be had (Parquet needs the extra `parquet`) or a run without
    figures, RunError for a run that cannot be read or a file that cannot be written.
    """
    opened = run if isinstance(run, Run) else load(run)
    form = chosen_form(out, form, samples)
    stem = "pytest-benchmark" if form == "pytest-benchmark" else "samples" if samples else "cells"
    path = not_over_records(Path(out) if out is not None else opened.path / (stem + FORMS[form]))
    made = table(opened, samples, public) if form == "parquet" else text(opened, form, samples, public)
    part = path.with_name(f"{path.name}.part")
    try:
        if isinstance(made, str):
            part.write_text(made, encoding="utf-8")
        else:
            from pyarrow import parquet

            parquet.write_table(made, part)
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        why = error.strerror or "it is no file"
        raise RunError(f"{path}: cannot be written ({why}); give another file with --out") from error
    return path


def chosen_form(out: str | Path | None, form: str | None = None, samples: bool = False) -> str:
    """The form that is meant; ValueError where there is none, or `out` says another than `form`."""
    known = {ending: name for name, ending in FORMS.items()}
    ending = Path(out).suffix.lower() if out is not None else ""
    if form is not None and form not in FORMS:
        raise ValueError(f"unknown form {form!r}; there are {', '.join(FORMS)}")
    if form is None and out is not None and ending not in known:
        raise ValueError(f"{out}: its ending says no form; let it end in {', '.join(known)} or name the form")
    if form is not None and known.get(ending, form) != form:
        raise ValueError(f"{out}: the ending is that of {known[ending]} and {form} is asked for; change one")
    form = form or known.get(ending, "pytest-benchmark")
    if samples and form == "pytest-benchmark":
        raise ValueError(
            "samples go into CSV or Parquet; pytest-benchmark's rounds are the launches' medians"
        )
    return form


def text(run: Run, form: str = "pytest-benchmark", samples: bool = False, public: bool = False) -> str:
    """A run as pytest-benchmark's JSON or as CSV."""
    run = _shown(run, public)
    if form == "pytest-benchmark":
        return json.dumps(finite(document(run)), indent=2, allow_nan=False) + "\n"
    lines = io.StringIO()
    writer = csv.DictWriter(lines, _columns(samples), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows(run, samples))
    return lines.getvalue()


def table(run: Run, samples: bool = False, public: bool = False) -> pyarrow.Table:
    """The rows as an Arrow table, each column of its type. ValueError without the extra `parquet`."""
    try:
        import pyarrow
    except ImportError as error:
        raise ValueError(
            f"Parquet needs pyarrow, which cannot be imported ({error}); pip install 'gemmlab[parquet]'"
        ) from error
    types = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    schema = pyarrow.schema(
        [
            pyarrow.field(name, types[kind], metadata={"meaning": meaning})
            for name, (kind, meaning) in _columns(samples).items()
        ]
    )
    return pyarrow.Table.from_pylist(rows(_shown(run, public), samples), schema=schema)


def rows(run: Run, samples: bool = False) -> list[Line]:
    """One flat row per cell, or per sample, in the order of the records.

    Training steps as they were timed without the recorder; the A/A twins' samples are not a cell's.
    """
    found = results(run)
    if not samples:
        known = floors(found)
        floor = {result.cell["cell"]: floor_for(known, result) for result in found}
        return [
            _typed(_identity(run, result) | _figures(result) | {"floor": floor[result.cell["cell"]]}, False)
            for result in found
        ]
    by_cell = {result.cell["cell"]: (_identity(run, result), result) for result in found}
    lines = [line for line in run.lines if line["kind"] in ("sample", "step") and line["cell"] in by_cell]
    flat = []
    for line in lines:
        if line.get("instrumented"):
            continue
        identity, result = by_cell[line["cell"]]
        own = {name: line.get(name) for name in SAMPLE} | {
            "position": line["order"],
            "loops": line["steps" if line["kind"] == "step" else "loops"],
            "counted": line["launch"] in result.samples,
        }
        flat.append(_typed(identity | own, True))
    return flat


def _shown(run: Run, public: bool) -> Run:
    if not public:
        return run
    from bench.exchange.public import without_places

    return without_places(run)


def _columns(samples: bool) -> Columns:
    return IDENTITY | (SAMPLE if samples else FIGURES)


def _identity(run: Run, result: Result) -> Line:
    problem, model = result.problem, result.model
    return (
        {name: result.cell.get(name) for name in IDENTITY}
        | {name: described[name] for described in (problem, model) for name in described if name in IDENTITY}
        | {
            "run": run.path.name,
            "what": "product" if problem else "step",
            "order": problem.get("op_a", "n") + problem.get("op_b", "n") if problem else None,
            "arch": "-".join(map(str, model["arch"])) if model else None,
            "device": result.cell.get("device", "cpu"),
        }
    )


def _figures(result: Result) -> Line:
    cell, bound = result.cell, result.cell.get("bound") or {}
    row = {name: cell.get(name) for name in FIGURES}
    row |= {
        "launches": len(result.medians),
        "bound_by": bound.get("by"),
        "bound_level": bound.get("level"),
        "doubts": " ".join(doubt["sentence"] for doubt in cell.get("doubts") or ()) or None,
    }
    if result.medians:
        row |= _spread("seconds", result.seconds, 1)
        row |= _spread("gflops", result.rate, 1e-9)
        row |= _spread("percent_of_peak", result.share_of_peak, 100)
    return row


def _spread(name: str, interval: Interval, unit: float) -> Line:
    return {
        name: interval.value * unit,
        f"{name}_low": interval.low * unit,
        f"{name}_high": interval.high * unit,
    }


def _typed(row: Line, samples: bool) -> Line:
    """The row in the columns' order, each value of its column's type; NaN is no value."""
    return {name: _value(row[name], kind) for name, (kind, _) in _columns(samples).items()}


def _value(value: Any, kind: type) -> Any:
    if value is None or (kind is float and math.isnan(number(value) or 0)):
        return None
    return kind(value)
