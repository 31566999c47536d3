"""The contract: the same behaviour from every kernel, and np.matmul's manners around it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy._core.tests import test_multiarray as numpys

import gemm
from gemm.correctness import error_ratio, reference
from gemm.problems import DTYPES, STRIDES, Problem, lay_out
from tests.conftest import AVAILABLE

# 0 and 1 often, remainders by any tile up to 8 otherwise
sizes = st.one_of(st.sampled_from([0, 1]), st.integers(2, 21))
factors = st.sampled_from([0.0, 1.0, -1.0, 0.5, -2.25])


@st.composite
def products(draw):
    """Operands of any size from 0, any strides, alpha and beta, with C full of NaN where beta = 0."""
    m, n, k = draw(sizes), draw(sizes), draw(sizes)
    dtype = draw(st.sampled_from(DTYPES))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def operand(rows, columns):
        values = rng.standard_normal((rows, columns)).astype(dtype)
        return lay_out(values, draw(st.sampled_from("nt")), draw(st.sampled_from(STRIDES)))

    a, b, c = operand(m, k), operand(k, n), operand(m, n)
    alpha, beta = draw(factors), draw(factors)
    if beta == 0:
        c[...] = np.nan
    if alpha == 0:
        a[...] = np.nan
    return a, b, c, alpha, beta


@pytest.mark.parametrize("kernel", AVAILABLE)
@given(product=products())
def test_every_kernel_agrees_with_the_reference_within_rounding(kernel, product):
    """Any shape from 0, strides, alpha and beta; C is not read at beta = 0, A and B not at alpha = 0."""
    a, b, c0, alpha, beta = product
    c = lay_out(c0)
    zero_a = np.zeros_like(a) if alpha == 0 else a
    right = reference(zero_a, b, c0, alpha=alpha, beta=beta)
    returned = gemm.matmul(a, b, c, kernel=kernel, alpha=alpha, beta=beta)
    assert returned is c
    assert error_ratio(c, right) <= gemm.get(kernel).error_constant


@given(st.sampled_from(AVAILABLE), st.data())
def test_stacks_and_vectors_have_matmuls_shapes_and_values(kernel, data):
    """1-D and stacked operands broadcast as np.matmul does."""
    k = data.draw(st.integers(1, 5))
    stack_a = data.draw(st.sampled_from([(), (3,), (1,), (2, 3), (2, 1)]))
    stack_b = data.draw(st.sampled_from([(), (3,), (1,), (1, 3)]))
    a_shape = data.draw(st.sampled_from([(k,), (*stack_a, 4, k)]))
    b_shape = data.draw(st.sampled_from([(k,), (*stack_b, k, 2)]))
    a = np.arange(np.prod(a_shape), dtype="float32").reshape(a_shape)
    b = np.arange(np.prod(b_shape), dtype="float64").reshape(b_shape)
    expected = np.matmul(a, b)
    found = gemm.matmul(a, b, kernel=kernel)
    assert type(found) is type(expected)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


class TestNumPysOwnMatmulTests(numpys.MatmulCommon):
    """NumPy's tests of np.matmul, judging gemm.matmul on the dtypes of its signatures.

    They begin and end with booleans, which no kernel takes: those calls are NumPy's own. What they say of
    `out` is tested below, because they ask for the words of NumPy's messages.
    """

    types = "?fd"

    @pytest.fixture(autouse=True)
    def _with(self, kernel):
        def matmul(a, b, *args, **kwargs):
            if np.asarray(a).dtype == bool:
                return np.matmul(a, b, *args, **kwargs)
            return gemm.matmul(a, b, *args, kernel=kernel, **kwargs)

        self.matmul = matmul

    test_matmul_empty = numpys.TestMatmul.test_matmul_empty


@pytest.mark.parametrize("which", ["a", "b", "shifted"])
def test_an_out_that_overlaps_an_operand_is_buffered(kernel, which):
    """The product is right although it overwrites what it is made of."""
    memory = np.arange(60, dtype="float64")
    a, b = memory[:36].reshape(6, 6), np.arange(36, dtype="float64").reshape(6, 6)[::-1]
    out = {"a": a, "b": b, "shifted": memory[5:41].reshape(6, 6)}[which]
    expected = a.copy() @ b.copy() + 2 * out.copy()
    assert gemm.matmul(a, b, out, kernel=kernel, beta=2.0) is out
    np.testing.assert_array_equal(out, expected)


def test_prepare_binds_the_arrays_and_sees_what_they_hold_at_the_call(kernel):
    """call() may be repeated, with other contents, and always means the whole operation."""
    a, b, c = np.eye(3), np.ones((3, 2)), np.zeros((3, 2))
    call = gemm.prepare(a, b, c, kernel=kernel, alpha=2.0, beta=1.0)
    call()
    call()
    np.testing.assert_array_equal(c, 4 * np.ones((3, 2)))
    a[...] = 0
    call()
    np.testing.assert_array_equal(c, 4 * np.ones((3, 2)))


def test_mixed_floats_promote_and_out_is_cast_as_numpy_casts_it(kernel):
    """float32 times float64 is float64; a float32 out takes it, an integer out does not."""
    a, b = np.full((2, 3), 0.1, "float32"), np.full((3, 2), 0.1, "float64")
    out = np.empty((2, 2), "float32")
    assert gemm.matmul(a, b, kernel=kernel).dtype == "float64"
    np.testing.assert_allclose(gemm.matmul(a, b, out, kernel=kernel), 0.03, rtol=1e-6)
    with pytest.raises(TypeError, match="out is int64"):
        gemm.matmul(a, b, np.empty((2, 2), int), kernel=kernel)


def test_byte_swapped_and_unaligned_operands_are_copied_inside_the_call(kernel):
    """What no kernel takes as it is still gives the right product."""
    a = np.arange(6, dtype=">f8").reshape(2, 3)
    raw = np.zeros(6 * 8 + 1, np.uint8)
    b = raw[1:].view("float64").reshape(3, 2)
    b[...] = np.arange(6).reshape(3, 2)
    assert not b.flags.aligned
    np.testing.assert_array_equal(gemm.matmul(a, b, kernel=kernel), a.astype(float) @ np.array(b))


@pytest.mark.parametrize(
    ("name", "epilogue"),
    [
        ("bias", lambda bias, aux: gemm.Epilogue(bias=bias)),
        ("relu", lambda bias, aux: gemm.Epilogue(bias=bias, activation="relu", aux_out=aux)),
        ("tanh", lambda bias, aux: gemm.Epilogue(bias=bias, activation="tanh")),
        ("sigmoid", lambda bias, aux: gemm.Epilogue(activation="sigmoid")),
    ],
)
def test_forward_epilogues_follow_the_product(kernel, name, epilogue):
    """C <- f(A B + bias), with Z kept in aux_out where it is asked for."""
    a, b, c = Problem(4, 5, 6).operands()
    bias, aux = np.linspace(-3, 3, 5, dtype="float32"), np.full((4, 5), np.nan, "float32")
    what = epilogue(bias, aux)
    gemm.matmul(a, b, c, kernel=kernel, epilogue=what)
    z = a @ b + (bias if what.bias is not None else 0)
    f = {"bias": lambda z: z, "relu": lambda z: np.maximum(z, 0), "tanh": np.tanh}
    f["sigmoid"] = lambda z: 1 / (1 + np.exp(-z))
    np.testing.assert_allclose(c, f[name](z), rtol=1e-5, atol=1e-6)
    if what.aux_out is not None:
        np.testing.assert_allclose(aux, z, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid", "identity"])
def test_backward_epilogues_multiply_by_the_derivative(kernel, name):
    """C <- (A B) * f'(Z), taken from Y = f(Z); checked against a central difference."""
    f = gemm.ACTIVATIONS[name]
    z = np.array([[-1.5, -0.2, 0.3], [0.9, 2.0, -3.0]])
    y = f.forward(z, np.empty_like(z))
    a, b = np.ones((2, 1)), np.full((1, 3), 2.0)
    c = gemm.matmul(a, b, kernel=kernel, epilogue=gemm.Epilogue(grad_of=name, aux_in=y))
    step = 1e-6
    slope = (f.forward(z + step, np.empty_like(z)) - f.forward(z - step, np.empty_like(z))) / (2 * step)
    np.testing.assert_allclose(c, 2 * slope, rtol=1e-8, atol=1e-9)


def test_sigmoid_neither_overflows_nor_loses_its_tail():
    """Where exp(-z) would overflow the value is 0, and far below 0 it keeps its digits."""
    z = np.array([-1000.0, -50.0, 0.0, 50.0, 1000.0])
    y = gemm.ACTIVATIONS["sigmoid"].forward(z, np.empty_like(z))
    np.testing.assert_allclose(y, [0, np.exp(-50), 0.5, 1, 1], rtol=1e-12)


X, Y = np.ones((2, 3)), np.ones((3, 4))
MISTAKES = {
    "inner sizes": (lambda: gemm.matmul(X, X), ValueError, "3 columns and b has 2 rows"),
    "out's shape": (lambda: gemm.matmul(X, Y, np.empty((4, 2))), ValueError, r"out has shape \(4, 2\)"),
    "a scalar": (lambda: gemm.matmul(2.0, X), ValueError, "a is a scalar"),
    "stacks": (lambda: gemm.matmul(np.ones((2, 1, 1)), np.ones((3, 1, 1))), ValueError, "do not broadcast"),
    "beta without out": (lambda: gemm.matmul(X, Y, beta=1.0), ValueError, "give it as out"),
    "a list as out": (
        lambda: gemm.matmul(X, Y, [[0]]),
        TypeError,
        "'out' must be an array|out must be an array",
    ),
    "integers": (lambda: gemm.matmul(X.astype(int), Y.astype(int)), TypeError, "takes float32, float64"),
    "a list in prepare": (
        lambda: gemm.prepare([[1.0]], X, X),
        TypeError,
        "prepare binds arrays; a is a list",
    ),
    "a kernel's name": (lambda: gemm.matmul(X, Y, kernel="blass"), gemm.UnknownKernel, "did you mean 'blas'"),
    "an activation": (lambda: gemm.Epilogue(activation="rely"), ValueError, "did you mean 'relu'"),
    "half an epilogue": (lambda: gemm.Epilogue(grad_of="relu"), ValueError, "go together"),
    "both epilogues": (
        lambda: gemm.Epilogue(activation="relu", grad_of="relu", aux_in=X),
        ValueError,
        "either forward",
    ),
    "a bias's shape": (
        lambda: gemm.matmul(X, Y, epilogue=gemm.Epilogue(bias=np.ones(3))),
        ValueError,
        r"bias has shape \(3,\)",
    ),
    "a bias's dtype": (
        lambda: gemm.matmul(X, Y, epilogue=gemm.Epilogue(bias=np.ones(4, "f4"))),
        TypeError,
        "bias is float32, C is float64",
    ),
    "an epilogue on a stack": (
        lambda: gemm.matmul(X[None], Y, epilogue=gemm.Epilogue(activation="relu")),
        ValueError,
        "needs 2-D operands",
    ),
    "threads": (lambda: gemm.set_threads(0), ValueError, "positive integer"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_sentence(mistake):
    """Each names what was wrong, and most what would be right."""
    call, error, match = MISTAKES[mistake]
    with pytest.raises(error, match=match) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_out_may_be_of_a_wider_kind_and_must_have_the_very_shape(kernel):
    """As np.matmul: complex takes a real product, and nothing is broadcast into out."""
    out = np.zeros((2, 4), complex)
    assert gemm.matmul(X, Y, out=out, kernel=kernel) is out
    np.testing.assert_array_equal(out, X @ Y)
    empty = np.ones((0, 1, 1))
    with pytest.raises(ValueError, match="out has shape"):
        gemm.matmul(empty, empty, out=np.ones((1, 1, 1)), kernel=kernel)


def test_a_read_only_out_is_refused(kernel):
    """As NumPy refuses it."""
    out = np.empty((2, 4))
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        gemm.matmul(X, Y, out, kernel=kernel)


class OnDevice:
    """Something that says it lives on a GPU."""

    __cuda_array_interface__ = {"version": 3}  # noqa: RUF012 - the protocol's form
    shape, dtype, ndim = (3, 4), np.dtype("float64"), 2


def test_host_and_device_operands_do_not_mix():
    """A TypeError that says where each one lives."""
    with pytest.raises(TypeError, match="a on the host, b on the GPU, out on the host"):
        gemm.matmul(X, OnDevice(), np.empty((2, 4)))


def test_set_threads_sets_every_pool():
    """NumPy's BLAS and the lab's own kernels follow one call."""
    from threadpoolctl import threadpool_info

    before = gemm.get_threads()
    try:
        gemm.set_threads(1)
        assert gemm.get_threads() == 1
        assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}
    finally:
        gemm.set_threads(before)


def test_alpha_and_beta_are_rounded_to_the_operands_dtype(kernel):
    """As sgemm takes them: with k = 1 there is no room in the bound for another rounding."""
    problem = Problem(40, 40, 1, alpha=1 + 0.49999 * 2.0**-23, beta=-0.3)
    a, b, c0 = problem.operands()
    right = reference(a, b, c0, alpha=problem.alpha, beta=problem.beta)
    c = gemm.matmul(a, b, c0, kernel=kernel, alpha=problem.alpha, beta=problem.beta)
    assert error_ratio(c, right) <= 1


def test_short_float64_sums_with_alpha_and_beta_are_within_the_bound(kernel):
    """Where the reference's own rounding counts."""
    problem = Problem(200, 200, 1, "float64", alpha=-0.7, beta=0.3)
    a, b, c = problem.operands()
    right = reference(a, b, c, alpha=problem.alpha, beta=problem.beta)
    gemm.matmul(a, b, c, kernel=kernel, alpha=problem.alpha, beta=problem.beta)
    assert error_ratio(c, right) <= 1


def test_an_out_in_a_tuple_is_taken_every_time():
    """As np.matmul takes it, and not only at the first call."""
    for _ in range(3):
        out = np.empty((2, 4))
        assert gemm.matmul(X, Y, out=(out,)) is out


def test_using_a_kernel_of_the_same_name_does_not_change_what_the_name_means():
    """A value is not registered by being used."""

    def zeros(a, b, c, *, alpha, beta, epilogue=None):
        c[...] = 0

    def plain(a, b, out=None):
        return np.multiply(np.zeros((2, 4)), 1, out=out)

    mine = gemm.Kernel("blas", "", load=lambda: zeros, plain=lambda: plain)
    np.testing.assert_array_equal(gemm.matmul(X, Y, kernel=mine), np.zeros((2, 4)))
    np.testing.assert_array_equal(gemm.matmul(X, Y, kernel="blas"), X @ Y)


def test_masked_arrays_are_refused_because_their_mask_would_be_lost(kernel):
    """The sentence says what to do."""
    with pytest.raises(TypeError, match=r"a is a masked array.*\.filled"):
        gemm.matmul(np.ma.masked_array(X), Y, kernel=kernel)
