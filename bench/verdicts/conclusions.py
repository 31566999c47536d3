"""Conclusions: what the closing line of a cell says of it, once all its samples are there."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection
from statistics import median
from typing import Any

from bench.records import Line, Run, canonical, number
from bench.verdicts import bounds
from bench.verdicts.device_bounds import most_flops
from bench.verdicts.doubts import doubts, of_device, pools
from bench.verdicts.payback import payback
from bench.verdicts.statistics import Result, bandwidths_on, least_pace, results, rounds_of
from gemm.dtypes import itemsize


def conclude(
    run: Run, ids: Collection[str], caches: dict[str, int], instances: dict[str, int]
) -> dict[str, Line]:
    """For each cell of `ids`: status and reason, doubts, bound, payback; its closing line must be in the run.

    caches     bytes of each level, {"L1d": ..., "L2": ..., "L3": ...}
    instances  how many there are of each
    """
    lines: dict[str, list[Line]] = defaultdict(list)
    for line in (*run.of("sample"), *run.of("step")):
        if line["cell"] in ids and not line.get("instrumented", False):
            lines[line["cell"]].append(line)
    found = [result for result in results(run) if result.cell["cell"] in ids]
    groups: dict[str, list[Result]] = defaultdict(list)
    for result in found:
        groups[_group(result.cell)].append(result)
    counts = {result.threads for result in found}
    rates = {threads: bandwidths_on(run, threads, median) for threads in counts}
    best = {threads: bandwidths_on(run, threads, max) for threads in counts}
    gpu = gpu_of(run)
    cores = (run.environment.get("cpu") or {}).get("cores") or 1
    multiply: dict[str, dict[str, None]] = defaultdict(dict)
    for line in run.of("layer"):
        if line["cell"] in ids and line["kernel"]:
            multiply[line["cell"]][line["kernel"]] = None
    made, least = {}, least_pace(run)
    for result in found:
        cell, threads = result.cell, result.threads
        figures = _figures(result) | {
            "bandwidths": rates[threads], "caches": caches, "threads": threads, "instances": instances,
            "cold": cell.get("cache") == "cold",
        }  # fmt: skip
        # Against the best that was seen: a ceiling may have had a bad moment, and must not accuse anybody.
        most: dict[str, Any] = {
            "bandwidths": best[threads],
            "peak_flops": max(result.peaks.values(), default=math.nan),
        }
        if on_device := cell.get("device", "cpu") != "cpu":
            l2 = {"L2": gpu["l2_bytes"]} if gpu.get("l2_bytes") else {}
            figures |= {"caches": l2, "threads": 1, "instances": dict.fromkeys(l2, 1)}
            most["peak_flops"] = most_flops(most["peak_flops"], str(cell.get("arithmetic")), gpu)
            if cell.get("operands") == "host":  # they come over the bus, whose speed nobody measures
                figures["bandwidths"] = most["bandwidths"] = {}
        if not result.problem:  # of a step bytes are summed over operations that pass them on in a cache
            most |= {"bytes": 0, "working_set": 1}
        reason = bounds.impossible(**figures | most)
        bound = bounds.bound(**figures, written=_written(result), overhead_s=number(cell.get("overhead_s")))
        disturbed = doubts(
            threads, cores, lines[cell["cell"]], result.peaks, cell.get("printed") or 0, rounds_of(run), least
        )
        if on_device:
            disturbed += of_device(lines[cell["cell"]], gpu)
        mixed = pools(threads, multiply[cell["cell"]])
        made[cell["cell"]] = {
            "status": "impossible" if reason else "ok",
            "reason": reason,
            "doubts": [*disturbed, *([mixed] if mixed else [])],
            "bound": bound,
            "payback": _payback(result, groups[_group(cell)]),
            **(_seen(lines[cell["cell"]]) if on_device else {}),
        }
    return made


def _seen(samples: list[Line]) -> Line:
    """Medians of what samples on a device say of it, and of the parts of a time that has a transfer in it."""
    names = ("sm_mhz", "memory_mhz", "power_w", "temperature_c", "transfer_s", "product_s")
    known = {
        name: [value for line in samples if (value := number(line.get(name))) is not None] for name in names
    }
    return {name: median(values) for name, values in known.items() if values}


def gpu_of(run: Run) -> Line:
    """What the workers of a run told of the GPU; {} where none has used one."""
    return next((line["gpu"] for line in run.of("worker") if line.get("gpu")), {})


def _figures(result: Result) -> dict[str, Any]:
    cell, seconds = result.cell, result.seconds.value
    flops, moved = cell.get("flops") or math.nan, cell.get("bytes") or math.nan
    peak_flops = flops / seconds / result.share_of_peak.value
    return {
        "flops": flops, "bytes": moved, "working_set": moved, "seconds": seconds, "peak_flops": peak_flops,
    }  # fmt: skip


def _written(result: Result) -> float:
    """Bytes of C; of a training step nobody has counted them apart."""
    p = result.problem
    return p["m"] * p["n"] * p.get("batch", 1) * itemsize(p["dtype"]) if p else 0


def _group(cell: Line) -> str:
    """The same for cells that were timed in turn."""
    return canonical([cell.get(key) for key in ("threads", "problem", "model", "cache", "operands")])


def _payback(result: Result, group: list[Result]) -> dict[str, int | None]:
    first = number(result.cell.get("first_call_s"))
    if first is None:
        return {}
    others = {}
    for other in group:
        start = number(other.cell.get("first_call_s"))
        if other is not result and start is not None:
            others[_name(other.cell)] = (start, other.seconds.value)
    return payback(first, result.seconds.value, others)


def _name(cell: Line) -> str:
    return f"{cell['kernel']} {cell['revision'][:12]}" if cell.get("revision") else cell["kernel"]
