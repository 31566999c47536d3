"""numba-micro alone: it calls no BLAS, and a second process compiles nothing."""

import os
import platform
import re
import subprocess
import sys

import pytest

COUNTED = """
import sys
import numpy as np
from numba.core import event
import gemm
with event.install_recorder("numba:run_pass") as passes:
    a = np.ones((300, 300), sys.argv[1])
    bias = gemm.Epilogue(bias=a[0], activation="tanh")
    assert (gemm.matmul(a, a, kernel="numba-micro") == 300).all()
    gemm.prepare(a, a, np.empty_like(a), kernel="numba-micro", epilogue=bias)()
print(len(passes.buffer))
"""


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"),
    reason="Linux on x86-64 or ARM",
)
def test_no_blas_is_called_on_any_path():
    """In a process where every BLAS function is a trap: np.dot dies, numba-micro multiplies."""
    found = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "tests.gemm.without_blas"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (found.returncode, found.stderr) == (0, "")
    count = re.match(r"12 shapes without BLAS; (\d+) functions trapped\n", found.stdout)
    assert int(count.group(1)) > 100


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_second_process_compiles_nothing(tmp_path, dtype):
    """The first runs the compiler and fills the cache; the second takes what is there and leaves it as it is."""

    def passes():
        found = subprocess.run(
            [sys.executable, "-c", COUNTED, dtype],
            capture_output=True, text=True, check=False, env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
        )  # fmt: skip
        assert found.stderr == ""
        return int(found.stdout)

    def files():
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}

    assert passes() > 100
    kept = files()
    assert len(kept) > 10
    assert passes() == 0
    assert files() == kept
