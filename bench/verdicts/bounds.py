"""Bounds: what a cell's time is made of at least, and which rates no honest kernel can have.

The model is the roofline (Williams, Waterman, Patterson, Roofline, 2009) with a call's overhead beside it:
each of arithmetic, bandwidth and overhead would alone need some time, measured in the same run, and its
share is that time over the time taken. The shares overlap: a good kernel computes while it loads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# A rate this far above a ceiling is a mistake somewhere, not a result.
TOLERANCE = 1.05
# A share that reaches this names the bound.
TELLING = 1 / 3
# The part of cold operands that surely comes from DRAM: a cache may keep some of what rotates through it.
COLD = 0.5
DRAM = "DRAM"

# level ("L1", "L2", "L3", "DRAM") -> kind ("read", "write", "copy") -> bytes per second
Bandwidths = Mapping[str, Mapping[str, float]]


def bandwidths(rates: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Rates by the ceilings' names ("l1-read": B/s, ...) as {"L1": {"read": B/s, ...}, ..., "DRAM": ...}.

    What is no bandwidth (fma) is left out.
    """
    found: dict[str, dict[str, float]] = {}
    for name, rate in rates.items():
        level, _, kind = name.partition("-")
        if kind and rate > 0:
            found.setdefault(level.upper(), {})[kind] = rate
    return found


def bound(
    flops: float, bytes: float, working_set: float, seconds: float, overhead_s: float | None,
    peak_flops: float, bandwidths: Bandwidths, caches: Mapping[str, int], threads: int, *, written: float = 0,
    cold: bool = False, instances: Mapping[str, int] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What bounds a cell: {"by": ..., "level": ..., "shares": {"arithmetic", "bandwidth", "overhead"}}.

    bytes        compulsory traffic of a call; `written` of them are stores
    working_set  bytes that a call touches; the level is the fastest that holds them (`home`)
    seconds      per call; overhead_s is the same for a product of 1 x 1 x 1
    peak_flops   FLOP/s, and `bandwidths` B/s by level and kind, on as many threads
    caches       bytes of each level, {"L1d": ..., "L2": ..., "L3": ...}; each thread has its own L1 and L2
                 unless `instances` ({"L3": how many}) says how many there are
    cold         the operands come from DRAM, whatever their size

    `by` is the largest share if that reaches a third, else "itself": the kernel's own instructions are what
    it costs. A share whose figures are missing is None. A share above 1 says that a ceiling was measured in a
    worse moment than the call, or that operands just beyond a level were mostly held by it.
    """
    level = DRAM if cold else home(working_set, caches, threads, instances)
    moving = _seconds_to_move(bytes - written, written, bandwidths.get(level or "", {}))
    needed = {
        "arithmetic": flops / peak_flops if peak_flops > 0 else None,
        "bandwidth": moving,
        "overhead": overhead_s,
    }
    shares = {
        name: time / seconds if time is not None and seconds > 0 else None for name, time in needed.items()
    }
    known = {name: share for name, share in shares.items() if share is not None and share == share}
    by = max(known, key=lambda name: known[name], default="itself")
    if by == "itself" or known[by] < TELLING:
        by = "itself"
    return {"by": by, "level": level, "shares": shares}


def roofline(bound: Mapping[str, Any]) -> float | None:
    """The share of a cell's time that arithmetic or moving its operands alone would need; None if neither is known."""
    shares = (bound.get("shares") or {}).get
    known = [float(share) for name in ("arithmetic", "bandwidth") if (share := shares(name)) is not None]
    return max((share for share in known if share == share), default=None)


def sentence(bound: Mapping[str, Any]) -> str:
    """A bound in plain words: "arithmetic: 84 % of its time is what the multiply-adds alone need"."""
    by, level, shares = bound["by"], bound["level"], bound["shares"]
    if by == "itself":
        known = [share for share in shares.values() if share is not None]
        if not known:
            return "its own instructions"
        return (
            "its own instructions: neither arithmetic, memory nor the call needs more than "
            f"{_percent(max(known))} of its time"
        )
    what = {
        "arithmetic": "arithmetic: {} of its time is what the multiply-adds alone need",
        "bandwidth": f"bandwidth of {level}: {{}} of its time is what moving its operands alone needs",
        "overhead": "call overhead: {} of its time is what a call on 1 x 1 x 1 takes as well",
    }[by]
    return what.format(_percent(min(shares[by], 1)))


def impossible(
    flops: float, bytes: float, working_set: float, seconds: float, peak_flops: float, bandwidths: Bandwidths,
    caches: Mapping[str, int], threads: int, *, cold: bool = False, instances: Mapping[str, int] | None = None,
) -> str | None:  # fmt: skip
    """Why no honest kernel takes only `seconds`, in one sentence, or None. Arguments as of `bound`.

    Of a working set of S bytes at most C lie in the caches up to a level, so S - C of them come from beyond in
    every call, at no more than that level's fastest rate: bytes/s <= BW * S / (S - C) for every level, and
    no more than L1's in any case. All caches count, nearer ones included, whether or not they hold the same
    lines twice, and the fastest of read, write and copy from there on counts: too generous rather than unjust.
    Of cold operands, at least half come from DRAM. A level that was not measured is not held against
    anybody, and where no caches are known only the peak is. Rates may lie above a ceiling by a twentieth.
    """
    rate = flops / seconds
    if peak_flops > 0 and rate > TOLERANCE * peak_flops:
        return (
            f"its rate of {rate / 1e9:.4g} GFLOP/s is {rate / peak_flops:.2f} times the measured multiply-add peak "
            f"of {peak_flops / 1e9:.4g} GFLOP/s"
        )
    moved = bytes / seconds
    held, worst = 0.0, None
    for level in [*_levels(caches), DRAM] if caches else []:
        beyond = max(1 - held / working_set, 0.0) if working_set > 0 else 0.0
        if cold and level == DRAM:
            beyond = max(beyond, COLD)
        if level in bandwidths and beyond > 0:
            farther = [bandwidths[at] for at in _from(level, caches) if at in bandwidths]
            allowed = max(max(rates.values()) for rates in farther) / beyond
            if moved > TOLERANCE * allowed and (worst is None or moved / allowed > worst[0]):
                worst = moved / allowed, level, allowed, beyond
        if level != DRAM:
            held += _capacity(level, caches, threads, instances, generous=True)
    if worst is None:
        return None
    factor, level, allowed, beyond = worst
    part = "all" if beyond == 1 else _percent(beyond)
    return (
        f"its {moved / 1e9:.4g} GB/s are {factor:.2f} times the {allowed / 1e9:.4g} GB/s that the measured "
        f"bandwidth of {level} allows, from where {part} of its bytes must come"
    )


def home(
    working_set: float, caches: Mapping[str, int], threads: int, instances: Mapping[str, int] | None = None
) -> str | None:
    """The fastest level that, with those before it, holds so many bytes: "L1", "L2", "L3" or "DRAM".

    Together, because a last level often holds what the nearer ones do not: 32 MiB of operands and a vector do not
    go out of 32 MiB of L3 to DRAM. None if no caches are known.
    """
    held = 0
    for level in _levels(caches):
        held += _capacity(level, caches, threads, instances)
        if working_set <= held:
            return level
    return DRAM if caches else None


def _levels(caches: Mapping[str, int]) -> list[str]:
    return sorted(key.removesuffix("d") for key in caches)


def _from(level: str, caches: Mapping[str, int]) -> list[str]:
    """This level and all that are farther away."""
    levels = [*_levels(caches), DRAM]
    return levels[levels.index(level) :]


def _capacity(
    level: str, caches: Mapping[str, int], threads: int, instances: Mapping[str, int] | None,
    generous: bool = False,
) -> int:  # fmt: skip
    """Bytes of a level that so many threads have; where nobody tells, L3 is one (generously: each has its own)."""
    key = level if level in caches else f"{level}d"
    alone = level >= "L3" and not generous
    count = (instances or {}).get(key, 1 if alone else threads)
    # Threads may wander over all cores while a sample is taken: generously, they have used them all.
    return caches[key] * (count if generous else min(count, threads))


def _seconds_to_move(read: float, written: float, rates: Mapping[str, float]) -> float | None:
    """Seconds for these bytes at a level's rates: as much as can be is a copy, the rest a read or a write.

    A rate that is missing is the best of the others; None if all are.
    """
    if not rates:
        return None
    best = max(rates.values())
    paired = min(read, written)
    rest = read - paired, written - paired
    kinds = zip(("copy", "read", "write"), (2 * paired, *rest))
    return sum(amount / rates.get(kind, best) for kind, amount in kinds)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
