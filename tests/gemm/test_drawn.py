"""Random problems: right kernels pass, and what is wrong with others is found, shrunk and said."""

import re

import numpy as np
import pytest

from bench.check import check
from gemm.conformance import examine
from gemm.drawn import Drawn, Failure, Layout, draw, judge, shrink
from gemm.kernel import Kernel


def kernel(function):
    return Kernel("mine", "a test's", load=lambda: function)


def right(a, b, c, *, alpha, beta, epilogue):
    c[...] = alpha * (a @ b) + (beta * c if beta else 0)


def wrong_from_13_terms(a, b, c, *, alpha, beta, epilogue):
    right(a, b, c, alpha=alpha, beta=beta, epilogue=epilogue)
    if a.shape[1] > 12 and c.shape[0] > 4:
        c[4, 0] = -1e30


def stray(a, b, c, *, alpha, beta, epilogue):
    right(a, b, c, alpha=alpha, beta=beta, epilogue=epilogue)
    if b.shape[1] > 2:
        b.base[0] = 1


def a_little_off(a, b, c, *, alpha, beta, epilogue):
    right(a, b, c, alpha=alpha, beta=beta, epilogue=epilogue)
    c *= np.float32(1 + 2**-12) if not np.array_equal(c, np.rint(c)) else 1


def test_a_seed_and_a_number_are_one_problem():
    """So that a failure can be looked at again."""
    assert draw(3, 14) == draw(3, 14)
    assert len({str(draw(3, number)) for number in range(100)}) == 100


def test_everything_is_drawn():
    """Sizes of zero and of 300, every layout, every epilogue, both dtypes."""
    drawn = [draw(0, number) for number in range(2000)]
    assert {0, 1, 300} <= {size for one in drawn for size in (one.m, one.n, one.k)}
    assert len({one.a for one in drawn}) == 12
    assert len({one.c for one in drawn}) == 8
    assert len({one.epilogue for one in drawn}) == 13
    assert {one.dtype for one in drawn} == {"float32", "float64"}
    assert {one.keeps for one in drawn} == {one.exact for one in drawn} == {True, False}


def test_a_right_kernel_passes():
    """With what the contract adds around it."""
    on = kernel(right)
    ratios = [judge(on, draw(1, number)) for number in range(150)]
    assert not any(isinstance(found, Failure) for found in ratios), ratios
    assert 0 < max(ratios) <= 1


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (wrong_from_13_terms, r"5x1x13 float.., integers.* wrong in the last row \(4"),
        (stray, "changes its input B"),
        (a_little_off, "off by .* times what rounding allows|raises"),
    ],
)
def test_what_is_wrong_is_found_and_named(function, sentence):
    """By one sentence, on a problem of the size where it begins."""
    verdict = examine(kernel(function), most=99, at_random=300)
    (fault,) = (fault for fault in verdict.faults if "of seed 0" in fault.sentence)
    assert re.search(sentence, f"{fault.problem}: {fault.sentence}"), fault


def test_shrinking_keeps_what_matters():
    """The sizes at which it begins, and nothing that does not matter."""
    on = kernel(wrong_from_13_terms)
    drawn = Drawn(
        211, 87, 143, "float64", a=Layout("t", "padded"), c=Layout("t"), alpha=2.0, beta=-1.0, epilogue="bias"
    )
    least, failure = shrink(on, drawn, judge(on, drawn))
    assert (least.m, least.n, least.k) == (5, 1, 13)
    assert least == Drawn(5, 1, 13, "float64")
    assert "the last row (4" in failure.sentence


def test_check_takes_them_too():
    """In the process of the check, and a count below zero is refused."""
    assert check("blas", at_random=40, seed=5).problems == check("blas").problems + 40
    with pytest.raises(ValueError, match="at_random = -1"):
        check("blas", at_random=-1)
