"""pytest-benchmark's JSON from a run: what `pytest-benchmark compare` prints, with the lab's own figures beside.

A benchmark is a cell, and its `data` are the medians of its launches: the lab's unit (bench.verdicts.statistics), so
that Rounds counts launches and StdDev is the spread between them. Samples of one launch are no independent
draws, and a table of all of them would look surer than it is.

The two tools then agree as far as they can. gemmlab's ratio of two kernels is the geometric mean of one ratio
per launch; the columns that pytest-benchmark prints are taken of each kernel alone, so the ratio of two
Medians is another figure. `extra_info.speedup_over` holds gemmlab's, with its interval and verdict, against every
other kernel of the group, the digits of `gemmlab compare`; `extra_info.floor` is what no verdict is given below. And
the two cannot be far apart: a median lies within one standard deviation of its mean, also in logarithms, so for
two kernels that took part in the same launches the ratio of Medians is within a factor exp(spread of one +
spread of the other) of the paired ratio, `extra_info.spread` being the standard deviation of the logarithms.
What pytest-benchmark cannot know is the pairing: where a slow launch slows both kernels, its columns spread and
the paired interval does not.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from typing import Any

from bench.records import Line, Run, canonical, number
from bench.verdicts.compare import verdict
from bench.verdicts.statistics import Floor, Interval, Result, floor_for, floors, results, speedup

# The version of pytest-benchmark whose layout this is.
LAYOUT = "5.3.1"
# What a problem is unless it says otherwise: left out of names, as long as it is so.
PLAIN = {"strides": "contiguous", "alpha": 1, "beta": 0, "epilogue": None, "data": "normal", "batch": 1}
# What a cell's closing line may say beyond its figures, taken over as it stands.
TOLD = ("bound", "doubts", "ended", "payback", "overhead_s", "first_call_s", "first_call_cached_s")


def document(run: Run) -> Line:
    """The JSON document of a run: its cells that are `ok`, products and training steps.

    Raises ValueError where no cell has figures.
    """
    measured = [result for result in results(run) if result.status == "ok" and result.medians]
    if not measured:
        raise ValueError(f"{run.path}: holds no figures to export{_because(run)}")
    calls, known = _calls(run), floors(run)
    names: set[str] = set()
    return {
        "machine_info": _machine(run.environment),
        "commit_info": _commit(run.environment.get("git")),
        "benchmarks": [
            _benchmark(result, measured, known, calls[result.cell["cell"]], names) for result in measured
        ],
        "datetime": run.environment.get("time") or measured[0].cell["time"],
        "version": LAYOUT,
    }


def left_out(run: Run) -> str | None:
    """One sentence on the cells that `document` leaves out, or None."""
    exported = sum(result.status == "ok" and bool(result.medians) for result in results(run))
    missing = len(run.cells) - exported
    if not missing:
        return None
    return f"{missing} of {len(run.cells)} cells have no figures and are left out{_because(run)}"


def stats(data: Sequence[float], iterations: int) -> Line:
    """pytest-benchmark's figures of some durations, digit for digit; quartiles by its choice of methods."""
    ordered, n = sorted(data), len(data)
    mean, total = statistics.mean(data), sum(data)
    deviation = statistics.stdev(data) if n > 1 else 0
    q1, q3 = _quartile(ordered), _quartile(ordered[::-1])
    reach = 1.5 * (q3 - q1)
    beyond = [sum(not low <= x <= high for x in data) for low, high in (
        (mean - deviation, mean + deviation), (q1 - reach, q3 + reach),
    )]  # fmt: skip
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": mean,
        "stddev": deviation,
        "rounds": n,
        "median": statistics.median(data),
        "iqr": q3 - q1,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": beyond[1],
        "stddev_outliers": beyond[0],
        "outliers": f"{beyond[0]};{beyond[1]}",
        "ld15iqr": ordered[0] if n == 1 else ordered[bisect_left(ordered, q1 - reach)],
        "hd15iqr": ordered[bisect_right(ordered, q3 + reach) - 1],
        "ops": n / total,
        "total": total,
        "data": list(data),
        "iterations": iterations,
    }


def label(result: Result) -> str:
    """What a cell and those it is compared with are: "256x256x256 float32 nn, 2 threads, hot"."""
    if result.problem:
        rest = dict(result.problem)
        what = f"{rest.pop('m')}x{rest.pop('n')}x{rest.pop('k')} {rest.pop('dtype')} "
        what += rest.pop("op_a", "n") + rest.pop("op_b", "n")
        others = [f"{key}={_short(value)}" for key, value in rest.items() if value != PLAIN.get(key, "")]
    else:
        from bench.plans.network import DEFAULTS

        rest = dict(result.model)
        widths = "-".join(map(str, rest.pop("arch")))
        what = f"step {widths} batch {rest.pop('batch')} {rest.pop('dtype')}"
        others = [f"{key}={_short(value)}" for key, value in rest.items() if value != DEFAULTS.get(key, "")]
    threads = f"{result.threads} thread{'s' if result.threads > 1 else ''}"
    return ", ".join([" ".join([what, *others]), threads, result.cell.get("cache") or "hot"])


def _benchmark(
    result: Result, measured: Sequence[Result], known: Sequence[Floor], calls: int, names: set[str]
) -> Line:
    group = label(result)
    kernel = _named(result)
    identifier = group.replace(", ", "-").replace(" ", "-")
    name = f"{kernel}[{identifier}]"
    if name in names:  # another version of the same kernel, or of the same name in another folder
        name = f"{kernel}[{identifier}-{result.cell['cell']}]"
    names.add(name)
    what = {"problem": result.problem, "model": result.model}
    params = {"kernel": kernel, "threads": result.threads, "cache": result.cell.get("cache") or "hot"}
    params |= {key: value for described in what.values() for key, value in described.items()}
    return {
        "group": group,
        "name": name,
        "fullname": f"gemmlab::{name}",
        "params": params,
        "param": name.removeprefix(kernel)[1:-1],
        "extra_info": _extra(result, measured, floor_for(known, result)),
        "options": {"unit": "launch", "timer": "perf_counter_ns"},
        "stats": stats(list(result.medians.values()), calls),
    }


def _extra(result: Result, measured: Sequence[Result], floor: float) -> Line:
    seconds, rate, share = result.seconds, result.rate, result.share_of_peak
    logs = [math.log(value) for value in result.medians.values()]
    return {
        "kernel": result.kernel,
        "cell": result.cell["cell"],
        "source": result.cell.get("source"),
        "gflops": _or_null(rate.value / 1e9),
        "gflops_low": _or_null(rate.low / 1e9),
        "gflops_high": _or_null(rate.high / 1e9),
        "percent_of_peak": _or_null(100 * share.value),
        "percent_of_peak_low": _or_null(100 * share.low),
        "percent_of_peak_high": _or_null(100 * share.high),
        "error_ratio": _or_null(number(result.cell.get("error_ratio"))),
        "launches": seconds.n,
        "seconds": seconds.value,
        "seconds_low": _or_null(seconds.low),
        "seconds_high": _or_null(seconds.high),
        "spread": statistics.pstdev(logs),
        "speedup_over": {
            _named(other): _judged(speedup(other, result), floor)
            for other in measured
            if other is not result and _grouped(other) == _grouped(result)
        },
        "floor": _or_null(floor),
        **{key: result.cell.get(key) for key in TOLD},
    }


def _grouped(result: Result) -> str:
    """What cells have in common that may be compared: everything but the kernel."""
    shared = {key: result.cell.get(key) for key in ("problem", "model", "threads", "cache", "via")}
    return canonical(shared)


def _named(result: Result) -> str:
    """The kernel, with the revision that it is of where a run holds two."""
    revision = result.cell.get("revision")
    return f"{result.kernel}@{revision[:12]}" if revision else result.kernel


def _quartile(ordered: Sequence[float]) -> float:
    """The first quartile of values in rising order; of values in falling order the third.

    https://en.wikipedia.org/wiki/Quartile#Computing_methods: method 3 for odd numbers, 2 for even ones.
    """
    n, (at, rest) = len(ordered), divmod(len(ordered), 4)
    if n == 1:
        return ordered[0]
    if n % 2 == 0:
        return statistics.median(ordered[: n // 2])
    if rest == 1:
        return 0.25 * ordered[at - 1] + 0.75 * ordered[at]
    return 0.75 * ordered[at] + 0.25 * ordered[at + 1]


def _calls(run: Run) -> dict[str, int]:
    """Cell -> calls in one of its samples (the median over launches)."""
    taken: dict[str, list[int]] = {}
    for line in (*run.of("sample"), *run.of("step")):
        taken.setdefault(line["cell"], []).append(line["steps" if line["kind"] == "step" else "loops"])
    return {cell: round(statistics.median(loops)) for cell, loops in taken.items()}


def _machine(environment: Line) -> Line:
    """pytest-benchmark's names for what the run knows; everything that the run knows under `gemmlab`."""
    cpu = environment.get("cpu") or {}
    implementation, _, version = (environment.get("python") or "").partition(" ")
    return {
        "node": environment.get("host"),
        "processor": cpu.get("model"),
        "system": environment.get("os"),
        "release": environment.get("kernel"),
        "python_implementation": implementation or None,
        "python_version": version or None,
        "cpu": {"brand_raw": cpu.get("model"), "count": cpu.get("logical")},
        "gemmlab": environment,
    }


def _commit(git: Line | str | None) -> Line:
    """The revision, and whether files were changed since; older runs have `1234abcd+`."""
    if isinstance(git, str):
        git = {"commit": git.rstrip("+"), "dirty": git.endswith("+")}
    return {
        "id": git["commit"] if git else "unversioned",
        "time": None,
        "author_time": None,
        "dirty": bool(git and git["dirty"]),
        "project": "gemmlab",
        "branch": "(unknown)",
    }


def _because(run: Run) -> str:
    found = Counter(line["status"] for line in run.cells if line["status"] != "ok")
    return f" ({', '.join(f'{count} {status}' for status, count in found.most_common())})" if found else ""


def _judged(interval: Interval, floor: float) -> Line:
    return {
        "verdict": verdict(interval, floor),
        "value": _or_null(interval.value),
        "low": _or_null(interval.low),
        "high": _or_null(interval.high),
        "launches": interval.n,
    }


def _or_null(value: float | None) -> float | None:
    """JSON has no NaN: what is not known is null."""
    return value if value is not None and math.isfinite(value) else None


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
