"""Conformance: right kernels pass, and every wrong one is found out by a sentence that names its fault."""

import re

import numpy as np
import pytest

from gemm.conformance import examine
from gemm.correctness import (
    error_ratio,
    exactly,
    integers_agree,
    reference,
    selection,
    significand_problems,
)
from gemm.diagnosis import rounded
from gemm.problems import Problem, integers, lay_out, significands
from tests.gemm import mutants

FILE = mutants.__file__


def test_every_available_kernel_conforms(kernel):
    """All rules, over a thousand problems."""
    verdict = examine(kernel)
    assert verdict.passed, verdict.faults
    assert verdict.problems > 1000
    assert 0 < verdict.error_ratio <= 1


def test_the_mutants_without_their_mutation_pass():
    """So that what finds them is the mutation."""
    assert examine(f"{FILE}:right").passed


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_wrong_kernel_is_found_out_and_its_fault_named(mutant):
    """The first sentence is the one that a student reads."""
    verdict = examine(f"{FILE}:{mutant.__name__}", most=1)
    assert not verdict.passed
    fault = verdict.faults[0]
    assert re.search(mutants.MUTANTS[mutant], f"{fault.problem}: {fault.sentence}"), fault
    assert "\n" not in fault.sentence


def test_rule_one_sees_what_is_larger_than_rounding_and_nothing_smaller():
    """An error of a few bounds is a ratio of a few; a right result has a ratio well below one."""
    a, b, _ = Problem(20, 30, 40).operands()
    right = reference(a, b)
    assert error_ratio((a @ b), right) < 0.5
    wrong = (right.c + 3 * right.bound).astype("float64")
    assert error_ratio(wrong, right) == pytest.approx(3, rel=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rule_one_judges_special_values_both_ways(value):
    """NaN or Inf that the reference lacks, or lacking where it has one, is an infinite ratio."""
    a, b, _ = Problem(3, 3, 3).operands()
    c = a @ b
    broken = c.copy()
    broken[1, 1] = value
    assert error_ratio(broken, reference(a, b)) == np.inf
    a[0, 0] = value
    with np.errstate(invalid="ignore"):
        assert error_ratio(a @ b, reference(a, b)) < 1
    assert error_ratio(c, reference(a, b)) == np.inf


def test_rule_one_knows_that_float32_overflows():
    """A result beyond float32 must be infinite there."""
    a = np.full((1, 2), 3e38, "float32")
    b = np.ones((2, 1), "float32")
    right = reference(a, b)
    assert error_ratio(np.full((1, 1), np.inf, "float32"), right) == 0
    assert error_ratio(np.full((1, 1), 3e38, "float32"), right) == np.inf


def test_large_float64_references_are_exact_on_their_edges():
    """Where long double is too dear for all, sampled rows and columns are still done in it."""
    problem = Problem(400, 300, 500, "float64")
    a, b, _ = problem.operands()
    right = reference(a, b)
    exact = (a[-1:].astype(np.longdouble) @ b.astype(np.longdouble)).astype("float64")
    assert (np.abs(right.c[-1:] - exact) <= right.bound[-1:] / 200).all()
    tight = reference(a[-1:], b).bound
    np.testing.assert_allclose(right.bound[-1:], tight)
    assert (right.bound[100, 100:140] > 1.5 * reference(a[100:101], b).bound[0, 100:140]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("k", [1, 7, 300, 5000])
def test_integers_are_drawn_so_that_sums_are_exact(dtype, k):
    """Whatever the order of summation, 3 A B + 3 C has no rounding."""
    rng = np.random.default_rng(0)
    largest = np.abs(integers(rng, (50, 50), k, dtype)).max()
    assert 3 * (k * float(largest) ** 2 + largest) <= 2.0 ** (np.finfo(dtype).nmant + 1)


def test_freivalds_finds_a_single_wrong_element():
    """Rule 2 for large products: one unit in one element is enough."""
    a, b, _ = Problem(60, 50, 70, data="integers").operands()
    c = a @ b
    assert integers_agree(a, b, c)
    for wrong in (1.0, -1.0, 2.0**20, np.nan):
        broken = c.copy()
        broken[59, 49] += wrong
        assert not integers_agree(a, b, broken)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_full_significands_use_every_bit(dtype):
    """The last bit is set, so that any rounding to fewer bits changes every value."""
    x = significands(np.random.default_rng(0), (40, 40), dtype)
    digits = np.finfo(dtype).nmant + 1
    for fewer in (8, 11, digits - 1):
        assert (rounded(x, fewer) != x).all()
    assert (rounded(x, digits) == x).all()
    assert (x > 0).any()
    assert (x < 0).any()


def test_a_selection_touches_every_term_where_it_can():
    """With as many columns as terms, each term is selected; with fewer, the last one at least."""
    rng = np.random.default_rng(1)
    matrix, rows, _ = selection(30, 40, "float32", rng)
    assert set(rows) >= set(range(30))
    assert (np.abs(matrix).sum(axis=0) == 1).all()
    assert 4999 in selection(5000, 5, "float32", rng)[1]


def test_selected_significands_come_out_exactly():
    """Rule 3's expectation is what a right product gives, from either side."""
    for _, a, b, expected in significand_problems(Problem(6, 9, 20)):
        assert exactly(a @ b, expected)


@pytest.mark.parametrize("strides", ["contiguous", "padded", "every-second", "reversed"])
@pytest.mark.parametrize("op", ["n", "t"])
def test_layouts_are_views_of_the_same_values_within_guards(op, strides):
    """Equal to the values, and with NaN all around."""
    values = np.arange(12, dtype="float32").reshape(3, 4)
    view = lay_out(values, op, strides)
    np.testing.assert_array_equal(view, values)
    buffer = view.base if view.base.ndim == 1 else view.base.base
    assert np.isnan(buffer).sum() == buffer.size - 12
