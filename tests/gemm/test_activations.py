"""Activations: each against PyTorch's, forward and backward, and their place in an epilogue."""

import numpy as np
import pytest
from scipy.special import erfcx

import gemm
from gemm.epilogue import ACTIVATIONS, Epilogue

THEIRS = {
    "relu": "relu",
    "leaky-relu": "leaky_relu",
    "gelu": "gelu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
}


@pytest.mark.parametrize("kernel", ["blas", "numba-micro"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", THEIRS)
def test_an_activation_is_pytorchs(name, dtype, kernel):
    """The function and its derivative, from Y or from Z as it says, through a product's epilogue."""
    torch = pytest.importorskip("torch")
    f, eps = ACTIVATIONS[name], np.finfo(dtype).eps
    z = np.concatenate([np.linspace(-6, 6, 601), [0.0, 1e-6, -1e-6]]).astype(dtype)[:, None]
    theirs = torch.from_numpy(z.copy()).requires_grad_()
    right = getattr(torch.nn.functional, THEIRS[name])(theirs)
    right.sum().backward()
    one, y, kept = np.ones((1, 1), dtype), np.empty_like(z), np.empty_like(z)
    gemm.matmul(z, one, y, kernel=kernel, epilogue=Epilogue(activation=name, aux_out=kept))
    np.testing.assert_array_equal(kept, z)
    np.testing.assert_allclose(y, right.detach().numpy(), rtol=64 * eps, atol=8 * eps)
    given = kept if f.from_z else y
    slopes = gemm.matmul(
        np.ones_like(z), one, np.empty_like(z), kernel=kernel, epilogue=Epilogue(grad_of=name, aux_in=given)
    )
    np.testing.assert_allclose(slopes, theirs.grad.numpy(), rtol=64 * eps, atol=16 * eps)


@pytest.mark.parametrize(("dtype", "far"), [("float32", 13), ("float64", 37)])
def test_gelu_keeps_its_digits_where_it_is_tiny(dtype, far):
    """numba-micro's own, to a few units in the last place; erfc of a rounded argument loses hundreds of them there."""
    z = np.concatenate([np.linspace(-far, far, 4001), -np.logspace(-20, 0, 100)]).astype(dtype)[:, None]
    wide = z.astype(np.longdouble)
    bell = np.exp(wide * wide / -2)
    beyond = bell * erfcx(np.abs(wide / np.sqrt(np.longdouble(2))).astype(float)) / 2
    share = np.where(z < 0, beyond, 1 - beyond)
    one, eps, tiny = np.ones((1, 1), dtype), np.finfo(dtype).eps, np.finfo(dtype).tiny
    y = gemm.matmul(z, one, kernel="numba-micro", epilogue=Epilogue(activation="gelu"))
    off = np.abs(y - wide * share) / np.maximum(np.abs(wide * share), tiny)
    assert off.max() < 8 * eps
    slopes = gemm.matmul(
        np.ones_like(z), one, kernel="numba-micro", epilogue=Epilogue(grad_of="gelu", aux_in=z)
    )
    expected = share + wide * bell / np.sqrt(2 * np.pi * np.longdouble(1))
    assert np.abs(slopes - expected).max() < 8 * eps


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gelu_of_what_is_no_number(dtype):
    z = np.array([[np.nan], [np.inf], [-1e30], [0.0]], dtype)
    y = gemm.matmul(z, np.ones((1, 1), dtype), kernel="numba-micro", epilogue=Epilogue(activation="gelu"))
    np.testing.assert_array_equal(y, np.array([[np.nan], [np.inf], [0.0], [0.0]], dtype))


def gapped(x, gap):
    """The same numbers in rows that are so many numbers apart; what is between is NaN."""
    wide = np.full((len(x), x.shape[1] + gap), np.nan, x.dtype)
    wide[:, : x.shape[1]] = x
    return wide[:, : x.shape[1]]


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 23), (29, 1), (29, 7), (31, 23), (15, 300)])
def test_rows_with_and_without_gaps_come_out_the_same(name, m, n):
    """numba-micro takes rows without gaps as one; bit for bit as row by row, and nothing between rows is touched."""
    rng = np.random.default_rng(7)
    a, b, bias, seen = (
        rng.standard_normal(shape, dtype=np.float32) for shape in ((m, 5), (5, n), (n,), (m, n))
    )
    empty = np.zeros((m, n), np.float32)
    outs = []
    for gaps in ((0, 0), (3, 0), (0, 2), (3, 2)):
        c, aux = (gapped(empty, gap) for gap in gaps)
        gemm.matmul(a, b, c, kernel="numba-micro", epilogue=Epilogue(bias=bias, activation=name, aux_out=aux))
        slopes, given = (gapped(x, gap) for x, gap in zip((empty, seen), gaps))
        gemm.matmul(a, b, slopes, kernel="numba-micro", epilogue=Epilogue(grad_of=name, aux_in=given))
        outs.append((c.copy(), aux.copy(), slopes.copy()))
        for x, gap in zip((c, aux, slopes, given), (*gaps, *gaps)):
            assert gap == 0 or np.isnan(x.base[:, n:]).all()
    for others in outs[1:]:
        for first, other in zip(outs[0], others):
            np.testing.assert_array_equal(first, other)
    right = gemm.matmul(
        a.astype(float),
        b.astype(float),
        kernel="blas",
        epilogue=Epilogue(bias=bias.astype(float), activation=name),
    )
    np.testing.assert_allclose(outs[0][0], right, rtol=1e-4, atol=1e-5)
