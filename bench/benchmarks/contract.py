"""What the contract costs, under pytest-benchmark: gemm.matmul on small products, beside np.matmul.

pytest bench/benchmarks/contract.py --benchmark-enable
"""

import numpy as np
import pytest

import gemm


@pytest.mark.parametrize("n", [16, 32, 64])
@pytest.mark.parametrize("how", ["np.matmul", "gemm.matmul", "np.matmul out", "gemm.matmul out", "prepared"])
def test_the_contract_is_cheap(benchmark, how, n):
    """What gemm.matmul adds to a small product: at n = 32 it should add nothing."""
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
