"""Machine: what this one is, and what it can do at most, measured now."""

from __future__ import annotations

import sys
from statistics import median
from typing import Any

import gemm
from bench.host.environment import caches, environment
from bench.isolation.processes import Gone, Worker
from gemm.problems import DTYPES
from gemm.threads import available_cores

SAMPLES = 5
KINDS = ("read", "write", "copy")


def machine() -> dict[str, Any]:
    """The environment, with `ceilings`: rows of {ceiling, dtype, threads, rate, unit}, medians of five samples."""
    return environment("", sys.argv) | {"ceilings": ceilings()}


def ceilings() -> list[dict[str, Any]]:
    """Each ceiling on one thread and on all, in workers with their threads set from the start.

    A bandwidth's dtype is None. ValueError where a ceiling cannot be measured.
    """
    from bench.timing.ceilings import names

    found = caches()
    wanted = [("fma", dtype) for dtype in DTYPES] + [(name, None) for name in names(found) if name != "fma"]
    rows = []
    for threads in sorted({1, available_cores()}):
        worker = Worker(threads)
        try:
            worker.ask(120, do="hello", ceiling=True)
            for name, dtype in wanted:
                request = {"name": name, "dtype": dtype or "float64", "threads": threads, "caches": found}
                answers = [worker.ask(120, do="ceiling", **request) for _ in range(SAMPLES)]
                failed = next((answer["reason"] for answer in answers if answer["status"] != "ok"), None)
                if failed:
                    raise ValueError(f"the ceiling {name} could not be measured: {failed}")
                rate = median(answer["work"] / answer["seconds"] for answer in answers)
                unit = f"{answers[0]['unit']}/s"
                rows.append({"ceiling": name, "dtype": dtype, "threads": threads, "rate": rate, "unit": unit})
        except Gone as gone:
            raise ValueError(f"the ceilings could not be measured: {gone}") from gone
        finally:
            worker.kill()
    return rows + of_gpu()


def of_gpu() -> list[dict[str, Any]]:
    """The ceilings of the GPU that CuPy multiplies on, as rows with no threads; [] where there is none.

    One that cannot be measured is left out: not every GPU has every kind of arithmetic.
    """
    from bench.plans.device import BANDWIDTHS, NO_THREADS, ceiling_of
    from gemm.dtypes import DIGITS

    if not any(kernel.device == "cuda" and kernel.available for kernel in gemm.kernels()):
        return []
    rows, worker = [], Worker(available_cores())
    try:
        worker.ask(120, do="hello", ceiling=True)
        for name in (*map(ceiling_of, DIGITS), *BANDWIDTHS):
            request = {"name": name, "dtype": "float32", "threads": NO_THREADS, "caches": {}}
            answers = [worker.ask(120, do="ceiling", **request) for _ in range(SAMPLES)]
            if all(answer["status"] == "ok" for answer in answers):
                rate = median(answer["work"] / answer["seconds"] for answer in answers)
                unit = f"{answers[0]['unit']}/s"
                rows.append(
                    {"ceiling": name, "dtype": None, "threads": NO_THREADS, "rate": rate, "unit": unit}
                )
    except Gone as gone:
        raise ValueError(f"the GPU's ceilings could not be measured: {gone}") from gone
    finally:
        worker.kill()
    return rows


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Ceilings as lines of text: a block of columns for each thread count, a row for each dtype and level."""
    gpu, rows = [row for row in rows if not row["threads"]], [row for row in rows if row["threads"]]
    counts = sorted({row["threads"] for row in rows})
    rates = {(row["dtype"] or row["ceiling"], row["threads"]): row["rate"] / 1e9 for row in rows}
    cells = {key: f"{rate:8.1f}" for key, rate in rates.items()}
    width = 8 * len(KINDS)
    heads = "".join(f"{count:>{width - 8}} thread{'s' if count > 1 else ' '}" for count in counts)
    lines = [f"{'':10}{heads}", "GFLOP/s"]
    for dtype in dict.fromkeys(row["dtype"] for row in rows if row["dtype"]):
        lines.append(f"  {dtype:8}" + "".join(f"{cells.get((dtype, n), '-'):>{width}}" for n in counts))
    lines.append(f"{'GB/s':10}" + "".join(f"{kind:>8}" for kind in KINDS) * len(counts))
    levels = dict.fromkeys(row["ceiling"].partition("-")[0] for row in rows if not row["dtype"])
    for level in levels:
        found = (cells.get((f"{level}-{kind}", n), "-") for n in counts for kind in KINDS)
        lines.append(f"  {level.upper():8}" + "".join(f"{cell:>8}" for cell in found))
    if gpu:
        lines += ["", "GPU"]
        lines += [f"  {row['ceiling']:18}{row['rate'] / 1e9:12,.0f} G{row['unit']}" for row in gpu]
    return lines
