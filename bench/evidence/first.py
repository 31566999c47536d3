"""The first product of a process: compiled, loaded from the cache, and the calls after it.

Run as `python -m bench.evidence.first [KERNEL]`. Seconds are counted from when Numba has been imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

CHILD = """
import sys, time
begin = time.perf_counter()
import numba
imported = time.perf_counter()
import numpy as np
import gemm
a = np.ones((64, 64), sys.argv[2])
gemm.matmul(a, a, kernel=sys.argv[1])
first = time.perf_counter()
gemm.matmul(a, a, kernel=sys.argv[1])
print(imported - begin, first - imported, time.perf_counter() - first)
"""


def launch(kernel: str, dtype: str, cache: str) -> tuple[float, float, float]:
    """Seconds of importing Numba, from there to the end of the first product, and of the second."""
    found = subprocess.run(
        [sys.executable, "-c", CHILD, kernel, dtype],
        capture_output=True, text=True, check=True, env=os.environ | {"NUMBA_CACHE_DIR": cache},
    )  # fmt: skip
    numba, first, second = map(float, found.stdout.split())
    return numba, first, second


def main() -> None:
    kernel = (sys.argv[1:] or ["numba-micro"])[0]
    for dtype in ("float32", "float64"):
        with tempfile.TemporaryDirectory(prefix="gemmlab-first-") as cache:
            for what in ("nothing cached", *["cached"] * 4):
                numba, first, second = launch(kernel, dtype, cache)
                sys.stdout.write(
                    f"{kernel} {dtype}, {what}: import numba {numba:.2f} s, "
                    f"first product {first:.3f} s more, the next {1e6 * second:.0f} us\n"
                )


if __name__ == "__main__":
    main()
