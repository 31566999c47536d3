"""Activations: each against PyTorch's, forward and backward, and their place in an epilogue."""

import numpy as np
import pytest

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
