"""Device bounds: the rate that a GPU's arithmetic cannot exceed, whatever kernel runs on it.

What was measured in the run (`bench.timing.device_ceilings`) is a limit where it is multiply-adds out of registers.
For tensor cores it is what the best kernel at hand reached, and a better one is no mistake: there the limit is the
chip's own, from its number of multiprocessors, its highest clock, and what one of them does in a cycle.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# FLOP per cycle of one multiprocessor, dense, by compute capability. NVIDIA's architecture white papers (A100, GA102,
# AD102, H100): their peak rates over multiprocessors and boost clock. float64: on tensor cores where there are such.
PER_CYCLE: dict[str, dict[str, int]] = {
    "8.0": {"float32": 128, "float64": 128, "tfloat32": 1024, "float16": 2048, "bfloat16": 2048},
    "8.6": {"float32": 256, "float64": 4, "tfloat32": 512, "float16": 1024, "bfloat16": 1024},
    "8.9": {"float32": 256, "float64": 4, "tfloat32": 512, "float16": 1024, "bfloat16": 1024},
    "9.0": {"float32": 256, "float64": 256, "tfloat32": 2048, "float16": 4096, "bfloat16": 4096},
}
# Of another chip's tensor cores nobody here knows the limit: the best kernel at hand reaches two thirds of it at least.
UNKNOWN = 1.5
TENSOR = ("tfloat32", "float16", "bfloat16", "float64")


def most_flops(measured: float, arithmetic: str, gpu: Mapping[str, Any]) -> float:
    """FLOP/s that nothing exceeds: the chip's limit where that is known and above what was measured.

    gpu  as `bench.host.gpu.facts` tells; {} where nobody did
    """
    if arithmetic not in TENSOR:
        return measured
    per_cycle = PER_CYCLE.get(str(gpu.get("capability")), {}).get(arithmetic)
    sms, clock = gpu.get("sms"), gpu.get("clock_mhz") or gpu.get("max_mhz")
    if not (per_cycle and sms and clock):
        return UNKNOWN * measured
    limit = float(per_cycle * sms * clock * 1e6)
    return limit if not limit < measured else measured
