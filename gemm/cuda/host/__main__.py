"""The command: a rung put to every rule, on this machine's processor."""

from __future__ import annotations

import argparse
import sys

from gemm.conformance import examine
from gemm.cuda.host import NotCompiled, kernel, reason
from gemm.cuda.rungs import LADDER


def main() -> None:
    ladder = {rung.name: rung for rung in LADDER}
    asked = argparse.ArgumentParser(
        prog="python -m gemm.cuda.host", description="Check a CUDA kernel on this machine's processor."
    )
    asked.add_argument("rungs", nargs="+", choices=ladder, metavar="RUNG", help=", ".join(ladder))
    asked.add_argument("--random", type=int, default=0, metavar="N", help="so many problems drawn at random")
    asked.add_argument("--seed", type=int, default=0, help="of these, and of the order of threads and blocks")
    asked.add_argument("--plain", action="store_true", help="do not watch each access to memory: faster")
    told = asked.parse_args()
    if why := reason():
        asked.error(why)
    right = True
    for name in told.rungs:
        try:
            made = kernel(ladder[name], seed=told.seed, watched=not told.plain)
            verdict = examine(made, at_random=told.random, seed=told.seed)
        except NotCompiled as error:
            raise SystemExit(str(error)) from None
        for fault in verdict.faults:
            sys.stdout.write(f"{made.name}: {fault.problem}: {fault.sentence} ({fault.rule})\n")
        said = "passed" if verdict.passed else "failed"
        ratio = f"largest error ratio {verdict.error_ratio:.2g}"
        sys.stdout.write(f"{made.name} {said}: {verdict.problems} problems, {ratio}\n")
        right = right and verdict.passed
    raise SystemExit(0 if right else 1)


if __name__ == "__main__":
    main()
