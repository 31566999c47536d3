"""A run made up in memory: what comes out of the statistics is known beforehand."""

import math
import random

from bench.records import Run, cell_id

ENVIRONMENT = {
    "cpu": {"model": "Synthetic 2-Core", "cores": 2}, "quota_cores": 2.0, "memory_bytes": 8 * 2**30,
    "governor": None, "kernel": "6.1.0", "python": "CPython 3.11.7", "variables": {"OMP_NUM_THREADS": "2"},
    "versions": {"numpy": "2.3.0", "numba": "0.62.0", "gemmlab": "0.1.0"},
    "blas": [{"name": "openblas", "version": "0.3.31", "core_type": "SkylakeX"}],
}  # fmt: skip


class Made:
    """A run made up in memory: times are a cell's own, times the launch's luck, times noise."""

    def __init__(self, folder, seed=0, launches=6, rounds=3, drift=1.0, noise=0.001, environment=ENVIRONMENT):
        self.draw, self.noise = random.Random(seed), noise
        self.launches, self.rounds = launches, rounds
        self.luck = [drift * math.exp(self.draw.gauss(0, 0.05)) for _ in range(launches)]
        self.run = Run(folder, environment, {"rounds": rounds}, [])

    def cell(self, kernel, seconds=1e-3, n=256, twin=None, launches=None, status="ok", **fields):
        """`n`: a size or (m, n, k); `twin`: the factor between the kernel and its second process, None for no A/A."""
        m, columns, k = (n, n, n) if isinstance(n, int) else n
        problem = {"m": m, "n": columns, "k": k, "dtype": "float32"} | fields.pop("problem", {})
        identity = {
            "kernel": kernel,
            "source": f"of {kernel}",
            "threads": 1,
            "cache": "hot",
            "problem": problem,
        }
        identity |= fields
        at = cell_id(identity)
        if status == "ok":
            for launch in launches if launches is not None else range(self.launches):
                for kind, factor in [("sample", 1.0)] + ([("twin", twin)] if twin else []):
                    per_launch = math.exp(self.draw.gauss(0, self.noise))
                    for number in range(self.rounds):
                        took = seconds * factor * self.luck[launch] * per_launch
                        where = {"launch": launch, "round": number, "order": 0, "loops": 1}
                        self.run.lines.append({"kind": kind, "cell": at, "seconds": took, **where})
        self.run.lines.append(
            {"kind": "cell", "cell": at, "status": status, "flops": 2 * m * columns * k, **identity}
        )
        return self

    def peak(self, rate, threads=1):
        """The multiply-add peak of each launch, FLOP/s."""
        for launch in range(self.launches):
            where = {"launch": launch, "round": 0, "order": 0, "threads": threads, "dtype": "float32"}
            self.run.lines.append(
                {"kind": "ceiling", "cell": "", "ceiling": "fma", "work": rate, "seconds": 1.0, **where}
            )
        return self
