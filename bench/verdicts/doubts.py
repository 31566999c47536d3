"""Doubts: what disturbed a cell, in one sentence each, from the samples' own records.

A doubt does not change a figure; it stands beside it. What each kind means, and from where it is said:

    oversubscribed  several threads waited for cores: one that waits holds up all the others
    foreign-load    the one thread waited for its core, or others kept cores busy meanwhile
    crowded         its core was slower at loads and stores than at best in the run: a neighbour that this system does
                    not see on the other half of the core, or a lower clock
    steal           the hypervisor gave the machine's cores to somebody else
    throttled       the control group's CPU quota held the process back
    two-humped      the samples fall into two groups far apart: their median may be of either
    drift           the machine's own speed (the multiply-add peak) changed between the launches
    launches        the launches differ although that peak did not: where memory lies, or a neighbour in a cache
    prints          the kernel writes to the terminal while it multiplies, and that takes time
    gpu-throttled   the GPU ran at a lower clock than it can: power, temperature, a brake
    gpu-clock       its clock varied between the samples
    pools           a step's products use several thread pools in turn, one of which may hold cores while another works
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import gemm
from bench.isolation import trial
from bench.peers import is_peer
from bench.records import Line, number
from bench.verdicts.statistics import CROWDED, counted_launches, crowding, own_seconds, waited

Doubt = dict[str, str]

# Shares of the cores' time from which a sentence is worth saying. Of others' work a tenth: the system's own
# services are never quite silent, and it need not have cost the sample anything.
WAITED = 0.02
STOLEN = 0.02
THROTTLED = 0.01
OTHERS = 0.10
# Ticks of 10 ms tell nothing of a shorter time than this.
TICKED_S = 0.5
# Humps: centres this far apart, each with this share of the samples, and nearer to themselves than to
# each other by this factor. Of a single normal distribution the best split has centres 2.6 own deviations apart.
APART, EACH, CLEAR, FEWEST = 1.15, 0.1, 6.0, 8
# Launches whose medians, or peaks, spread by more than this factor.
SPREAD = 1.10
# A GPU's clock may vary by this factor between samples before anybody is told.
CLOCK_SPREAD = 1.03


@dataclass(frozen=True)
class Humps:
    """Two groups of samples: their centres (geometric means, seconds) and the share of the slower one."""

    fast: float
    slow: float
    share: float


def doubts(
    threads: int,
    cores: int,
    samples: Sequence[Line],
    peaks: dict[int, float] | None = None,
    printed: int = 0,
    rounds: int = 5,
    least: float | None = None,
) -> list[Doubt]:
    """The doubts about a cell, the worst first; [] if there is nothing to say.

    samples  its `sample` or uninstrumented `step` lines
    peaks    launch -> FMA rate
    printed  bytes that its kernel wrote to stdout and stderr
    rounds   planned in each launch; a disturbed one has had more
    least    seconds that the short loop beside samples took at best in the run (`statistics.least_pace`)
    """
    launches = counted_launches(samples, threads, rounds, least)
    kept = [line for members in launches.values() for line in members]
    times = [own_seconds(line, threads) for line in kept]
    crowded = _crowded(threads, kept, least)
    found = [
        _waiting(threads, samples) or _others(cores, samples),
        crowded,
        _share(
            samples, "steal_s", cores, "steal", STOLEN, "the hypervisor gave {share} of the cores' time away"
        ),
        _share(
            samples, "throttled_s", 1, "throttled", THROTTLED,
            "the control group's CPU quota held it back for {share} of its time",
        ),
        _two_humped(times),
        _launches(kept, times, peaks or {}, crowded is not None),
        _printing(printed),
    ]  # fmt: skip
    return [doubt for doubt in found if doubt]


def humps(seconds: Sequence[float]) -> Humps | None:
    """The two groups that samples fall into, or None if they are one.

    The split of the sorted logarithms that leaves the least variance within (Otsu's, Fisher's in one dimension).
    """
    logs = sorted(math.log(value) for value in seconds)
    n = len(logs)
    if n < FEWEST:
        return None
    least = max(1, math.ceil(EACH * n))
    best, at = math.inf, 0
    for cut in range(least, n - least + 1):
        within = sum(_squares(part) for part in (logs[:cut], logs[cut:]))
        if within < best:
            best, at = within, cut
    fast, slow = fmean(logs[:at]), fmean(logs[at:])
    own = math.sqrt(best / n)
    if slow - fast < math.log(APART) or slow - fast < CLEAR * own:
        return None
    return Humps(math.exp(fast), math.exp(slow), (n - at) / n)


def _squares(values: Sequence[float]) -> float:
    mean = fmean(values)
    return math.fsum((value - mean) ** 2 for value in values)


def _wall(line: Line) -> float:
    """Seconds that the witness looked on."""
    return float(line["seconds"]) * (line.get("loops") or line.get("steps") or 1)


def _total(samples: Iterable[Line], figure: str) -> tuple[float, float]:
    """A figure and the wall time, summed over the samples that know it."""
    known = [(number(line.get(figure)), _wall(line)) for line in samples]
    told = [(value, wall) for value, wall in known if value is not None]
    return math.fsum(value for value, _ in told), math.fsum(wall for _, wall in told)


def _waiting(threads: int, samples: Sequence[Line]) -> Doubt | None:
    if threads == 0:
        return None  # on a device
    wall = math.fsum(map(_wall, samples))
    total = math.fsum(waited(line, threads) for line in samples)
    if not wall or total / (wall * threads) < WAITED:
        return None
    share = _percent(total / (wall * threads))
    if threads == 1:
        return _doubt(
            "foreign-load", f"something else ran on its core: it waited {share} of the time (not counted)"
        )
    times = [float(line["seconds"]) for line in samples]
    middle, worst = median(times), max(times)
    rest = f"; the slowest sample took {worst / middle:.1f} times the median" if worst > 1.5 * middle else ""
    return _doubt(
        "oversubscribed",
        f"its {threads} threads waited for cores {share} of the time, and one that waits holds up the others{rest}",
    )


def _others(cores: int, samples: Sequence[Line]) -> Doubt | None:
    others, wall = _total(samples, "other_s")
    if wall < TICKED_S or others / (wall * cores) < OTHERS:
        return None
    busy = others / wall
    return _doubt("foreign-load", f"other processes kept {busy:.1f} of {cores} cores busy while it was timed")


def _crowded(threads: int, kept: Sequence[Line], least: float | None) -> Doubt | None:
    """Of samples that count: there were no better ones."""
    if threads == 0 or not kept:
        return None
    found = sorted(crowding(line, least) for line in kept)
    usual, worst = median(found), found[-1]
    if usual <= CROWDED:
        return None
    return _doubt(
        "crowded",
        f"its core was not its own, or its clock lower: beside its samples a short loop in the first cache took "
        f"usually {1 + usual:.2f}, at most {1 + worst:.2f} times as long as at best in this run",
    )


def _share(
    samples: Sequence[Line], figure: str, cores: int, kind: str, least: float, sentence: str
) -> Doubt | None:
    lost, wall = _total(samples, figure)
    if wall < TICKED_S or lost / (wall * cores) < least:
        return None
    return _doubt(kind, sentence.format(share=_percent(lost / (wall * cores))))


def _two_humped(times: Sequence[float]) -> Doubt | None:
    found = humps(times)
    if found is None:
        return None
    few, rest = (found.slow, found.fast) if found.share < 0.5 else (found.fast, found.slow)
    share = _percent(min(found.share, 1 - found.share))
    return _doubt(
        "two-humped",
        f"{share} of its samples took {_span(few)} a call, the others {_span(rest)}, with nothing between",
    )


def _launches(
    samples: Sequence[Line], times: Sequence[float], peaks: dict[int, float], crowded: bool
) -> Doubt | None:
    by_launch: dict[int, list[float]] = {}
    for line, seconds in zip(samples, times):
        by_launch.setdefault(line["launch"], []).append(seconds)
    medians = {launch: median(values) for launch, values in by_launch.items()}
    if len(medians) < 2 or max(medians.values()) < SPREAD * min(medians.values()):
        return None
    spread = max(medians.values()) / min(medians.values())
    known = [peaks[launch] for launch in medians if launch in peaks]
    if len(known) > 1 and max(known) > SPREAD * min(known):
        low, high = min(known) / 1e9, max(known) / 1e9
        return _doubt(
            "drift",
            f"the machine changed speed: its multiply-add peak ran from {low:.0f} to {high:.0f} GFLOP/s between "
            f"launches, and this differs by {spread:.3g} times",
        )
    return _doubt(
        "launches",
        f"its launches differ by {spread:.3g} times although the multiply-add peak did not: "
        + ("its core was not its own" if crowded else "memory or a cache shared with others"),
    )


def of_device(samples: Sequence[Line], gpu: Mapping[str, Any]) -> list[Doubt]:
    """What a GPU's clocks say of a cell's samples (`bench.host.gpu.now`); [] where nobody could read them.

    gpu  what is known of it (`max_mhz`)

    Under a long load of tensor cores a lower clock for power's sake is how the card is, and every kernel beside it has
    it too: it is told, because the next run's may differ.
    """
    found = []
    reasons = Counter(reason for line in samples for reason in set(line.get("throttled") or ()))
    clocks = [clock for line in samples if (clock := number(line.get("sm_mhz")))]
    most = number(gpu.get("max_mhz"))
    at = f": {min(clocks):.0f} to {max(clocks):.0f} MHz" if clocks else ""
    if reasons:
        named = ", ".join(reasons)
        of = f" of at most {most:.0f}" if most and at else ""
        share = _percent(max(reasons.values()) / len(samples))
        found.append(
            _doubt(
                "gpu-throttled", f"the GPU held its clock down in {share} of the samples ({named}){at}{of}"
            )
        )
    if clocks and max(clocks) > CLOCK_SPREAD * min(clocks):
        found.append(_doubt("gpu-clock", f"the GPU's clock varied between its samples{at}"))
    return found


def pools(threads: int, kernels: Iterable[str]) -> Doubt | None:
    """That the kernels of one process multiply with different thread pools; None where they do not.

    A pool that has finished looks out for more work for a while (OpenBLAS some 20 ms) before its threads sleep, on the
    cores that the next product's threads need (`bench.evidence.idle` measures what that costs between processes).
    """
    owners: dict[str, list[str]] = {}
    for name in dict.fromkeys(kernels):
        pool = None if trial.file_of(name) or is_peer(name) else gemm.find(name).pool
        if pool is not None:
            owners.setdefault(pool, []).append(name)
    if threads < 2 or len(owners) < 2:
        return None
    named = ", ".join(name for names in owners.values() for name in names)
    return _doubt(
        "pools",
        f"its products use {len(owners)} thread pools in turn ({named}): one that still waits for work takes cores "
        "from the next; give all products of a step to kernels of one pool, or use 1 thread",
    )


def _printing(printed: int) -> Doubt | None:
    if not printed:
        return None
    return _doubt("prints", f"it writes to the terminal while it multiplies ({printed:,} bytes)")


def _doubt(kind: str, sentence: str) -> Doubt:
    return {"kind": kind, "sentence": sentence}


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.095 else f"{100 * share:.1f} %"


def _span(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
