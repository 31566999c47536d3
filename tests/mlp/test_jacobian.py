"""Jacobians: what they are, that the products are the same sums without the zeros, and what they cost."""

import subprocess
import sys

import numpy as np
import pytest

import mlp
from mlp import jacobian

RNG = np.random.default_rng(0)
BATCH, D_IN, D_OUT = 3, 4, 2
# Small integers, so that every way of summing is exact: equal means equal.
X, W, B, DZ = (
    RNG.integers(-9, 10, shape).astype(float)
    for shape in ((BATCH, D_IN), (D_IN, D_OUT), (D_OUT,), (BATCH, D_OUT))
)


def z_of(x, w):
    """Z of a layer of a network that has these weights."""
    model = mlp.MLP([D_IN, D_OUT], dtype="float64")
    model.layers[0].weight[...], model.layers[0].bias[...] = w, B
    return model.forward(x)


@pytest.mark.parametrize(("by", "made"), [("x", jacobian.by_x(W, BATCH)), ("w", jacobian.by_w(X, D_OUT))])
def test_an_entry_is_how_one_entry_of_z_changes_with_one_of_x_or_w(by, made):
    """Z of a layer is linear in each, so that a difference over a step of 1 is the derivative, exactly."""
    at = {"x": X, "w": W}
    assert made.shape == (BATCH, D_OUT, *at[by].shape)
    for k, l in np.ndindex(at[by].shape):
        moved = at[by].copy()
        moved[k, l] += 1
        np.testing.assert_array_equal(made[:, :, k, l], z_of(**{**at, by: moved}) - z_of(**at))


def test_the_chain_rule_through_the_jacobians_gives_the_products():
    np.testing.assert_array_equal(jacobian.through(DZ, jacobian.by_w(X, D_OUT)), X.T @ DZ)
    np.testing.assert_array_equal(jacobian.through(DZ, jacobian.by_x(W, BATCH)), DZ @ W.T)


def test_the_gradients_of_w_from_single_examples_are_summed():
    each = jacobian.dw_of_each(X, DZ)
    for i in range(BATCH):
        np.testing.assert_array_equal(each[i], np.outer(X[i], DZ[i]))
    np.testing.assert_array_equal(each.sum(axis=0), X.T @ DZ)


def test_the_gradients_of_x_from_single_examples_are_rows_and_stacked():
    """By the whole Jacobian, an example's loss changes with its own row of X and with no other."""
    rows = jacobian.dx_of_each(DZ, W)
    for i in range(BATCH):
        alone = np.zeros_like(DZ)
        alone[i] = DZ[i]
        whole = jacobian.through(alone, jacobian.by_x(W, BATCH))
        np.testing.assert_array_equal(whole[i], rows[i, 0])
        assert not np.delete(whole, i, axis=0).any()
    np.testing.assert_array_equal(np.concatenate(list(rows)), DZ @ W.T)


def test_every_way_is_the_product_on_every_kernel(kernel):
    ways = jacobian.disagreement(X, W, DZ, kernel)
    assert ways == [0.0] * len(jacobian.cost(BATCH, D_IN, D_OUT))


def test_backpropagation_finds_what_the_chain_rule_through_all_its_jacobians_does():
    """Two layers and a relu between: dL/dW_1 = dL/dZ_2 dZ_2/dY_1 dY_1/dZ_1 dZ_1/dW_1, none of it left out."""
    model = mlp.MLP([D_IN, 5, D_OUT], loss="squared-error", dtype="float64")
    targets = RNG.standard_normal((BATCH, D_OUT))
    (w1, b1), (w2, _) = ((layer.weight, layer.bias) for layer in model.layers)
    dz2 = (model.forward(X) - targets) / BATCH
    z1 = X @ w1 + b1
    dz1 = jacobian.through(dz2, jacobian.by_x(w2, BATCH)) * (z1 > 0)
    dw1, _, dw2, _ = model.gradients(X, targets)
    y1 = np.maximum(z1, 0)
    np.testing.assert_allclose(jacobian.through(dz2, jacobian.by_w(y1, D_OUT)), dw2, rtol=1e-12)
    np.testing.assert_allclose(jacobian.through(dz1, jacobian.by_w(X, 5)), dw1, rtol=1e-12, atol=1e-14)


def test_costs_are_those_of_what_is_made():
    """Entries, and which of them are not zero by their place, are counted in the arrays themselves."""
    ones_x, ones_w = np.ones((BATCH, D_IN)), np.ones((D_IN, D_OUT))
    made = [
        np.ones((D_IN, D_OUT)),
        jacobian.dw_of_each(ones_x, np.ones((BATCH, D_OUT))),
        jacobian.by_w(ones_x, D_OUT),
        np.ones((BATCH, D_IN)),
        jacobian.dx_of_each(np.ones((BATCH, D_OUT)), ones_w),
        jacobian.by_x(ones_w, BATCH),
    ]
    costs = jacobian.cost(BATCH, D_IN, D_OUT, "float64")
    for cost, array in zip(costs, made):
        assert (cost.shape, cost.entries, cost.filled) == (array.shape, array.size, np.count_nonzero(array))
        assert cost.bytes >= array.nbytes


def test_the_jacobians_way_is_the_products_arithmetic_d_out_or_batch_times():
    costs = {(cost.of, cost.way): cost for cost in jacobian.cost(128, 784, 512)}
    dw, dx = costs["dW", "product"], costs["dX", "product"]
    operations = {op.id: op for op in mlp.MLP([784, 784, 512]).operations(128)}
    assert (dw.flops, dw.bytes) == (operations["2.dW"].flops, operations["2.dW"].bytes)
    assert (dx.flops, dx.bytes) == (operations["2.dX"].flops, operations["2.dX"].bytes)
    assert costs["dW", "Jacobian"].flops == 512 * dw.flops
    assert costs["dX", "Jacobian"].flops == 128 * dx.flops
    # written once, read once, and dZ, the gradient and what the Jacobian is made of
    assert costs["dW", "Jacobian"].bytes == 4 * (
        2 * 128 * 512 * 784 * 512 + 128 * 512 + 784 * 512 + 128 * 784
    )
    assert costs["dX", "Jacobian"].bytes == 4 * (
        2 * 128 * 512 * 128 * 784 + 128 * 512 + 128 * 784 + 784 * 512
    )
    # every example reads W again
    assert costs["dX", "of each example"].bytes == 4 * 128 * (784 * 512 + 512 + 784)


def test_a_jacobian_that_is_not_tiny_is_not_made():
    with pytest.raises(
        ValueError, match=r"128 x 512 x 784 x 512 numbers takes 105,226,698,752 bytes; it is made"
    ):
        jacobian.by_w(np.zeros((128, 784), np.float32), 512)
    with pytest.raises(ValueError, match="batch is 0; it must be a whole number from 1"):
        jacobian.by_x(W, 0)


def run(*arguments):
    command = [sys.executable, "-m", "mlp.jacobian", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_story_shows_every_way_and_that_they_agree():
    done = run("--arch", "5-3", "--batch", "2", "--kernel", "python")
    assert (done.returncode, done.stderr) == (0, "")
    tiny, usual = done.stdout.split("\nX 128 x 784")
    rows = [line for line in tiny.splitlines() if line.startswith(("dW", "dX"))]
    assert len(rows) == 6
    assert all(float(row.split()[-1]) < 1e-15 for row in rows)
    assert "2 x 3 x 5 x 3" in tiny
    assert "26,306,674,688" in usual


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--arch", "5-3-2"), "arch '5-3-2' has 3 widths; a layer has two, such as 4-2"),
        (("--arch", "5-x"), "arch '5-x' is not a list of widths"),
        (("--batch", "0"), "batch is 0; it must be a whole number from 1"),
        (("--kernel", "pyhton"), "did you mean 'python'"),
        (("--arch", "784-512", "--batch", "128"), "it is made of tiny layers only"),
    ],
)
def test_a_layer_that_cannot_be_is_refused_in_one_sentence(arguments, sentence):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
