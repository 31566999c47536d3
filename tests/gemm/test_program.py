"""Programs: native calls strung together do what they do one by one."""

import numpy as np
import pytest

import gemm
from gemm.program import Native, chain

RNG = np.random.default_rng(0)


def products(count, kernel="numba-micro"):
    """[(a, b, c, call)] of prepared products of different shapes."""
    found = []
    for at in range(count):
        m, k, n = 3 + at, 40 - at, 7 * at + 1
        a, b, c = RNG.standard_normal((m, k)), RNG.standard_normal((k, n)), np.empty((m, n))
        found.append((a, b, c, gemm.prepare(a, b, c, kernel=kernel)))
    return found


def test_neighbours_that_are_native_become_one_call():
    """And what is not native stays where it is, between them."""
    some, seen = products(5), []
    calls = [call for *_, call in some]
    one, two = (lambda: seen.append(1)), (lambda: seen.append(2))
    chained = chain([*calls[:2], one, calls[2], two, *calls[3:]])
    assert [isinstance(call, Native) for call in chained] == [True, False, True, False, True]
    for call in chained:
        call()
    assert seen == [1, 2]
    for a, b, c, _ in some:
        np.testing.assert_allclose(c, a @ b, rtol=1e-12)


def test_a_program_of_programs_is_one_program():
    some = products(4)
    calls = [call for *_, call in some]
    (both,) = chain([*chain(calls[:2]), *chain(calls[2:])])
    assert len(both.calls) == 4
    both()
    for a, b, c, _ in some:
        np.testing.assert_allclose(c, a @ b, rtol=1e-12)


def test_a_program_keeps_what_it_works_on():
    """Nobody else holds the operands any more."""
    a, b, c = RNG.standard_normal((50, 60)), RNG.standard_normal((60, 70)), np.empty((50, 70))
    right = a @ b
    (program,) = chain(
        [gemm.prepare(a, b, c, kernel="numba-micro"), gemm.prepare(a, b, c, kernel="numba-micro")]
    )
    del a, b
    junk = [np.zeros((60, 70)) for _ in range(20)]
    program()
    np.testing.assert_allclose(c, right, rtol=1e-12)
    assert len(junk) == 20


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_product_can_be_scaled_anew(dtype):
    a, b = (RNG.integers(-3, 4, (5, 5)).astype(dtype) for _ in range(2))
    c = np.ones((5, 5), dtype)
    call = gemm.prepare(a, b, c, kernel="numba-micro", alpha=-0.5, beta=1.0)
    call()
    np.testing.assert_array_equal(c, 1 - 0.5 * (a @ b))
    call.scale(2.0, 0.25)
    c[...] = 4
    call()
    np.testing.assert_array_equal(c, 1 + 2 * (a @ b))
