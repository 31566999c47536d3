"""Machine: what this one is, and what it can do at most, measured now."""

from __future__ import annotations

import sys
from statistics import median
from typing import Any

from bench.environment import environment, last_cache
from bench.processes import Gone, Worker
from gemm.problems import DTYPES
from gemm.threads import available_cores

SAMPLES = 5


def machine() -> dict[str, Any]:
    """The environment, with `ceilings`: rows of {ceiling, dtype, threads, rate, unit}, medians of five samples."""
    return environment("", sys.argv) | {"ceilings": ceilings()}


def ceilings() -> list[dict[str, Any]]:
    """Each ceiling on one thread and on all, in workers with their threads set from the start."""
    rows = []
    for threads in sorted({1, available_cores()}):
        worker = Worker(threads)
        try:
            worker.ask(120, do="hello", ceiling=True)
            for name, dtype in [
                *(("fma", dtype) for dtype in DTYPES),
                ("dram-read", None),
                ("dram-copy", None),
            ]:
                request = {
                    "name": name,
                    "dtype": dtype or "float64",
                    "threads": threads,
                    "last_cache": last_cache(),
                }
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
    return rows
