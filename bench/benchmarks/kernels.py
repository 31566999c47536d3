"""The kernels and the contract under pytest-benchmark, for people who live in pytest.

    pytest bench/benchmarks/kernels.py --benchmark-enable

GFLOP/s stand in extra_info. The lab's own sweeps say more (verified, in turn, over launches): use this for a
quick look and for `--benchmark-compare-fail` in a project's CI.
"""

import numpy as np
import pytest

import gemm
from gemm.correctness import error_ratio, reference
from gemm.problems import Problem

# Sizes up to which a kernel is worth waiting for.
LARGEST = {"python": 32, "numpy-dot": 64, "numba-ijk": 256}
KERNELS = [kernel.name for kernel in gemm.kernels() if kernel.available and kernel.device == "cpu"]


@pytest.mark.parametrize("n", [32, 64, 256, 512])
@pytest.mark.parametrize("kernel", KERNELS)
def test_kernel(benchmark, kernel, n):
    """A prepared product of two n x n float32 matrices; verified, then timed."""
    if n > LARGEST.get(kernel, n):
        pytest.skip(f"{kernel} takes too long at {n}")
    problem = Problem(n, n, n)
    a, b, c = problem.operands()
    call = gemm.prepare(a, b, c, kernel=kernel)
    call()
    assert error_ratio(c, reference(a, b)) <= 1
    benchmark.group = f"n = {n}"
    benchmark(call)
    if benchmark.enabled:
        benchmark.extra_info["gflops"] = problem.flops / benchmark.stats.stats.median / 1e9


@pytest.mark.parametrize("n", [16, 32, 64])
@pytest.mark.parametrize("how", ["np.matmul", "gemm.matmul", "np.matmul out", "gemm.matmul out", "prepared"])
def test_the_contract_is_cheap(benchmark, how, n):
    """What gemm.matmul adds to a small product, beside np.matmul: at n = 32 it should add nothing."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((n, n), dtype="float32") for _ in range(2))
    c = np.empty_like(a)
    calls = {
        "np.matmul": lambda: np.matmul(a, b),
        "gemm.matmul": lambda: gemm.matmul(a, b),
        "np.matmul out": lambda: np.matmul(a, b, out=c),
        "gemm.matmul out": lambda: gemm.matmul(a, b, out=c),
        "prepared": gemm.prepare(a, b, c),
    }
    np.testing.assert_allclose(calls["gemm.matmul"](), a @ b)
    benchmark.group = f"contract, n = {n}"
    benchmark(calls[how])
