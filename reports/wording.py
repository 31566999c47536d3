"""Wording: how figures are written, everywhere the same: three digits, units, intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bench.plans.network import DEFAULTS
from bench.verdicts.statistics import Interval

NOTHING = "–"
# What of a network goes without saying.
USUAL = {name: DEFAULTS[name] for name in ("activation", "loss", "optimizer")}


def digits(value: float | None, places: int = 3) -> str:
    """`places` significant digits, never an exponent between 1e-6 and 1e12: 1,240  12.4  0.0124."""
    if value is None or not math.isfinite(value):
        return NOTHING if value is None or math.isnan(value) else ("∞" if value > 0 else "-∞")
    if value == 0:
        return "0"
    if not 1e-6 < abs(value) < 1e12:
        return f"{value:.{places - 1}e}"
    decimals = places - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, decimals)
    decimals = places - 1 - math.floor(math.log10(abs(rounded)))  # 9.996 has become 10.0
    return f"{rounded:,.{max(0, decimals)}f}"


def scaled(value: float | None, units: str) -> str:
    """With a decimal prefix: scaled(2e6, "B") is "2.00 MB"."""
    if value is None or not math.isfinite(value):
        return NOTHING
    power = 0 if value == 0 else min(4, max(0, math.floor(math.log10(abs(float(f"{value:.2e}"))) / 3)))
    number = f"{value:.0f}" if power == 0 and value == int(value) else digits(value / 1000**power)
    return f"{number} {' kMGT'[power].strip()}{units}".strip()


def duration(seconds: float | None) -> str:
    """412 ns, 1.23 µs, 45.6 ms, 7.89 s, 3.5 min, 2.1 h."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    if seconds < 0:  # a remainder may be
        return f"-{duration(-seconds)}"
    if seconds >= 60:
        return f"{digits(seconds / 60, 2)} min" if seconds < 3600 else f"{digits(seconds / 3600, 2)} h"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size * 0.9995:
            return f"{digits(seconds / size)} {unit}"
    return f"{digits(seconds / 1e-9)} ns"


def durations(seconds: Interval) -> str:
    """39.0 µs–41.2 µs, or nothing where there is no interval."""
    if not math.isfinite(seconds.low) or not math.isfinite(seconds.high):
        return ""
    return f"{duration(seconds.low)}–{duration(seconds.high)}"


def gflops(rate: float | None) -> str:
    """FLOP/s as a bare number of GFLOP/s."""
    return NOTHING if rate is None else digits(rate / 1e9)


def factor(value: float | None) -> str:
    """1,240×, and where it is the other way round, 116× slower."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{digits(value)}×" if value > 0.995 else f"{digits(1 / value)}× slower"


def percent(share: float | None) -> str:
    """0.941 is 94 %."""
    return NOTHING if share is None or not math.isfinite(share) else f"{_hundredths(share)} %"


def share(value: float | None) -> str:
    """0.941 is 94: for a column that says %."""
    return NOTHING if value is None or not math.isfinite(value) else _hundredths(value)


def _hundredths(share: float) -> str:
    """Below a tenth one decimal, below a thousandth two digits."""
    value = 100 * share
    return f"{value:.0f}" if abs(value) >= 9.95 else f"{value:.1f}" if abs(value) >= 0.1 else digits(value, 2)


def bounds(interval: Interval, scale: float = 1.0) -> str:
    """`low–high`, or nothing where there is no interval."""
    if not math.isfinite(interval.low) or not math.isfinite(interval.high):
        return ""
    return f"{digits(interval.low * scale)}–{digits(interval.high * scale)}"


def within(interval: Interval, scale: float = 1.0) -> str:
    """The bounds in brackets after a blank, for a sentence; nothing where there is no interval."""
    text = bounds(interval, scale)
    return f" ({text})" if text else ""


def shape(m: Any, n: Any, k: Any) -> str:
    """m × n × k, or n = ... for a square product."""
    return f"n = {n}" if m == n == k else f"{m} × {n} × {k}"


def architecture(model: dict[str, Any]) -> str:
    """784-512-10, batch 128, float32; what is not as usual besides: gelu, hinge, adam."""
    arch = "-".join(str(width) for width in model.get("arch") or ())
    rest = [f"batch {model['batch']}"] if model.get("batch") else []
    rest += [model["dtype"]] if model.get("dtype") else []
    odd = (model.get(name) for name in USUAL if model.get(name) != USUAL[name])
    return ", ".join([arch or "model", *rest, *filter(None, odd)])


def plural(count: int, noun: str) -> str:
    """1 thread, 2 threads."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def threads(count: int) -> str:
    """1 thread, 2 threads; none of ours is the GPU."""
    return plural(count, "thread") if count else "GPU"


def on(count: int) -> str:
    """on 2 threads, on the GPU: where something was timed."""
    return f"on {threads(count)}" if count else "on the GPU"


ARITHMETIC = {
    "tfloat32": "TF32 tensor cores",
    "bfloat16": "bfloat16 tensor cores",
    "float16": "float16 tensor cores",
}


def arithmetic(ceiling: str) -> str:
    """What a ceiling of multiply-adds is of: fma is the CPU's, cuda-tfloat32 and the like a GPU's."""
    what = ceiling.removeprefix("cuda-")
    return ARITHMETIC.get(what, "fused multiply-add")


def listed(words: Sequence[str]) -> str:
    """a, b and c."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
