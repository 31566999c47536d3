"""Problems: kinds of data at the ends of a dtype's range, and stacks."""

import numpy as np
import pytest

import gemm
from gemm.correctness import error_ratio, integers_agree, reference
from gemm.guards import OUTSIDE, Guards
from gemm.problems import STRIDES, Problem, lay_out

SHAPES = ((3, 5, 4096), (40, 30, 50), (1, 1, 1))


@pytest.mark.parametrize("data", ["denormals", "wide"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (-0.7, 0.3)])
def test_kernels_are_right_at_the_ends_of_the_range(kernel, data, dtype, alpha, beta):
    """Rule 1's bound holds for subnormal and for wide-ranging operands, for every kernel."""
    for shape in SHAPES:
        problem = Problem(*shape, dtype, data=data, alpha=alpha, beta=beta)
        a, b, c0 = problem.operands()
        c = c0.copy()
        gemm.matmul(a, b, c, kernel=kernel, alpha=alpha, beta=beta)
        assert error_ratio(c, reference(a, b, c0, alpha=alpha, beta=beta)) < 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_denormals_are_subnormal_and_so_are_their_products(dtype):
    """Else the axis would time ordinary numbers."""
    smallest = np.finfo(dtype).smallest_normal
    a, b, c = Problem(30, 20, 5, dtype, data="denormals").operands()
    assert (np.abs(a) < smallest).all()
    assert (a != 0).all()
    assert (np.abs(c) < smallest).all()
    assert np.abs(b).mean() == pytest.approx(0.8, rel=0.2)
    product = a @ b
    assert (np.abs(product) < smallest).mean() > 0.5
    assert np.unique(np.abs(product)).size > 100


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_wide_data_spans_the_range_and_never_overflows(dtype):
    """Also when a long sum happens to add only its largest products."""
    a, b, _ = Problem(60, 50, 4096, dtype, data="wide").operands()
    largest = float(max(np.abs(a).max(), np.abs(b).max()))
    assert 4096 * largest**2 < np.finfo(dtype).max
    spread = np.log2(np.abs(a).max()) - np.log2(np.abs(a).min())
    assert spread > (80 if dtype == "float32" else 900)
    assert np.isfinite(a @ b).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_term_dropped_shows_on_wide_data(dtype):
    """Somewhere in C it was the largest; the relative bound sees that."""
    a, b, _ = Problem(30, 40, 100, dtype, data="wide").operands()
    right = reference(a, b)
    assert error_ratio(a @ b, right) < 1
    assert error_ratio(a[:, :-1] @ b[:-1], right) > 1e3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_flushing_subnormals_to_zero_breaks_rule_one(dtype):
    """The bound forgives gradual underflow, not sudden."""
    a, b, _ = Problem(10, 10, 4, dtype, data="denormals").operands()
    right = reference(a, b)
    assert error_ratio(a @ b, right) < 1
    assert error_ratio(np.zeros((10, 10), dtype), right) > 1e3


def test_underflow_hides_nothing_on_ordinary_data():
    """The absolute term is below a billionth of the relative one."""
    a, b, _ = Problem(20, 30, 40).operands()
    right = reference(a, b)
    relative = 2.0**-24 * 42 * (np.abs(a.astype("float64")) @ np.abs(b.astype("float64")))
    np.testing.assert_allclose(right.bound, relative, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("order", ["nn", "tn", "nt"])
@pytest.mark.parametrize("strides", STRIDES)
def test_a_stack_is_as_many_products(kernel, dtype, order, strides):
    """Operands, reference and rules 1 and 2 of each; flops and bytes of all."""
    one = Problem(4, 5, 6, dtype, *order, strides)
    stack = Problem(4, 5, 6, dtype, *order, strides, batch=3)
    assert (stack.flops, stack.bytes) == (3 * one.flops, 3 * one.bytes)
    assert [x.shape for x in stack.operands()] == [(3, 4, 6), (3, 6, 5), (3, 4, 5)]
    a, b, c = stack.operands()
    assert len({x.tobytes() for x in a}) == 3
    gemm.matmul(a, b, c, kernel=kernel)
    right = reference(a, b)
    assert error_ratio(c, right) < 1
    for j in range(3):
        single = reference(a[j], b[j])
        np.testing.assert_array_equal(right.c[j], single.c)
        np.testing.assert_array_equal(right.bound[j], single.bound)


def test_rule_two_sees_one_wrong_element_of_a_stack():
    """In the first product and in the last."""
    a, b, _ = Problem(6, 5, 7, data="integers", batch=4).operands()
    c = a @ b
    assert integers_agree(a, b, c)
    for j in (0, 3):
        broken = c.copy()
        broken[j, 5, 4] += 1
        assert not integers_agree(a, b, broken)


def test_a_record_holds_the_batch_and_old_records_are_single_products():
    """Read back as written."""
    problem = Problem(2, 3, 4, batch=5)
    assert problem.record()["batch"] == 5
    assert Problem.from_record(problem.record()) == problem
    assert str(problem) == "2x3x4 float32 *5"
    assert Problem.from_record({"m": 2, "n": 3, "k": 4}).batch == 1


@pytest.mark.parametrize(("batch", "match"), [(0, "batch = 0 is no size"), (2.5, "batch = 2.5 is no size")])
def test_a_batch_that_is_none_is_refused(batch, match):
    """In one sentence."""
    with pytest.raises(ValueError, match=match):
        Problem(2, 2, 2, batch=batch)
    with pytest.raises(ValueError, match="an epilogue is of one product"):
        Problem(2, 2, 2, batch=2, epilogue="bias")


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("strides", STRIDES)
@pytest.mark.parametrize("op", ["n", "t"])
def test_guards_see_a_write_around_c_and_into_a_and_b(strides, op, batch):
    """One element before, after or between; none that is C's own."""
    shape = (5, 4) if batch == 1 else (batch, 5, 4)
    a, b, c = (lay_out(np.ones(shape, "float32"), op, strides) for _ in "abc")
    guards = Guards(a, b, c)
    c[...] = 7
    assert guards.broken() is None
    buffer = c.base
    own = np.flatnonzero(buffer == 7)
    assert own.size == c.size
    between = [i for i in range(own[0], own[-1]) if np.isnan(buffer[i])]
    for at in (0, own[0] - 1, own[-1] + 1, buffer.size - 1, *between[:3]):
        before, buffer[at] = buffer[at].copy(), 1.0
        assert guards.broken() == OUTSIDE
        buffer[at] = before
    assert guards.broken() is None
    for name, array in (("A", a), ("B", b)):
        array[..., 1, 2] = 3
        assert f"changes its input {name}" in guards.broken()
        array[..., 1, 2] = 1
