"""The training steps of five networks beside those of PyTorch, scikit-learn and plain NumPy, in turn, a run for each.

Run as `python -m bench.evidence.steps [--threads 1] [--launches 2] [--out FOLDER]`, or over runs that there are,
`--from FOLDER...`. Beside each ratio stand the shares of the multiply-add peak that the peer's usual and its fastest
sample reach. A network counts where the fastest sample of each peer of which something is known (KNOWN: measured
elsewhere, on one thread) reaches 0.9 of that; a peer that does not is shown in brackets, and so is the last figure.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import bench
from bench import peers
from bench.records import Run
from bench.timing.progress import live
from bench.verdicts.statistics import Result, results, speedup

OURS = "numba-micro"
# Architecture -> batch, and the share of the peak of one core that a step of theirs reaches when written well.
BATCHES = {
    "64-64-64-10": 32,
    "784-128-64-10": 32,
    "784-512-512-10": 128,
    "784-1024-1024-10": 256,
    "1024-4096-1024": 64,
}
KNOWN = {
    "peer:torch": (0.043, 0.267, 0.62, 0.74, 0.56),
    "peer:numpy": (0.198, 0.517, 0.73, 0.79, 0.56),
}
ENOUGH = 0.9
PEERS = [name for name, peer in peers.PEERS.items() if peer.device == "cpu"]


def known(peer: str, arch: str) -> float:
    """The share that the peer is known to reach on that network; 0 where nothing is."""
    return dict(zip(BATCHES, KNOWN.get(peer, ()))).get(arch, 0.0)


def row(run: Run) -> tuple[str, float]:
    """A line of the table, and the time of the fastest peer over ours (NaN: no time)."""
    found = {one.kernel: one for one in results(run) if one.model and one.samples}
    ours = found.pop(OURS, None)
    if ours is None or not found:
        return f"{run.path}: no times of {OURS} and its peers\n", math.nan
    arch = "-".join(map(str, ours.model["arch"]))
    slow = {name for name, one in found.items() if not _enough(one, arch)}
    cells = [f"{arch:17} {ours.model['batch']:5} {1e6 * ours.seconds.value:9.1f} us {_shares(ours)}"]
    for name in PEERS:
        if name not in found:
            cells.append(f"{'-':>15}")
            continue
        text = f"{speedup(found[name], ours).value:.2f} {_shares(found[name])}"
        cells.append(f"{f'({text})' if name in slow else text:>15}")
    ratio = speedup(min(found.values(), key=lambda one: one.seconds.value), ours)
    spread = f" ({ratio.low:.2f}-{ratio.high:.2f})" if ratio.n > 1 else ""
    last = f"({ratio.value:.2f})" if slow else f"{ratio.value:.2f}"
    return "  ".join(cells) + f"   {last}{spread}\n", ratio.value


def _shares(one: Result) -> str:
    return f"{100 * one.share_of_peak.value:3.0f}-{100 * fastest(one):.0f} %"


def fastest(one: Result) -> float:
    """The share of the peak that the fastest sample reached."""
    return max(
        one.cell["flops"] / min(samples) / one.peaks[launch]
        for launch, samples in one.samples.items()
        if launch in one.peaks
    )


def _enough(one: Result, arch: str) -> bool:
    return one.threads > 1 or fastest(one) >= ENOUGH * known(one.kernel, arch)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.evidence.steps")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--launches", type=int, default=2)
    parser.add_argument("--out", type=Path, help="a new folder for the runs (default: a temporary one)")
    parser.add_argument(
        "--from", dest="runs", type=Path, nargs="+", help="folders of runs, in place of measuring"
    )
    given = parser.parse_args(arguments)
    runs = [bench.load(folder) for folder in given.runs or ()]
    if not runs:
        out = given.out or Path(tempfile.mkdtemp(prefix="gemmlab-steps-"))
        there = [name for name in PEERS if peers.PEERS[name].reason is None]
        for arch, batch in BATCHES.items():
            folder = out / f"{arch}-{given.threads}"
            runs.append(
                bench.profile(
                    arch, batch, [OURS, *there], threads=given.threads, out=folder, progress=live(),
                    settings={"launches": given.launches},
                )
            )  # fmt: skip
        sys.stdout.write(f"runs: {out}\n")
    heads = "  ".join(f"{name.removeprefix(peers.PREFIX):>15}" for name in PEERS)
    sys.stdout.write(f"{'network':17} batch  {OURS:>22}  {heads}   fastest over ours\n")
    ratios = []
    for run in runs:
        text, ratio = row(run)
        ratios.append(ratio)
        sys.stdout.write(text)
    if ratios and not any(map(math.isnan, ratios)):
        mean = math.exp(math.fsum(map(math.log, ratios)) / len(ratios))
        sys.stdout.write(f"geometric mean {mean:.2f}, least {min(ratios):.2f}\n")


if __name__ == "__main__":
    main()
