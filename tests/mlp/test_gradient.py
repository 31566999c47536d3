"""Gradients: backpropagation against differences of the loss; the lecture's identities."""

import numpy as np
import pytest

import mlp

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((9, 5)), RNG.integers(0, 4, 9)


def network(**options):
    return mlp.MLP([5, 7, 6, 4], dtype="float64", seed=1, **options)


@pytest.mark.parametrize("loss", mlp.LOSSES)
@pytest.mark.parametrize("activation", mlp.ACTIVATIONS)
def test_backpropagation_agrees_with_central_differences(activation, loss):
    model = network(activation=activation, loss=loss)
    before = [p.copy() for p in model.parameters()]
    assert mlp.elementwise_error(model, X, Y, entries=None) < 1e-7
    assert mlp.directional_error(model, X, Y) < 1e-7
    assert all((p == q).all() for p, q in zip(model.parameters(), before))  # left as it was found


@pytest.mark.parametrize("spoil", [lambda g: g * 1.001, lambda g: -g, np.zeros_like])
def test_the_checks_notice_a_wrong_gradient(spoil, monkeypatch):
    model = network()
    right = model.gradients(X, Y)
    monkeypatch.setattr(model, "gradients", lambda x, y: [*right[:2], spoil(right[2]), *right[3:]])
    assert mlp.elementwise_error(model, X, Y) > 1e-4
    assert mlp.directional_error(model, X, Y) > 1e-5


def test_a_check_in_float32_is_refused():
    with pytest.raises(ValueError, match="float64, this one is float32"):
        mlp.elementwise_error(mlp.MLP([5, 4]), X, Y)


@pytest.fixture
def backward():
    """The operands of every product of one backward pass, copied when it was done: id -> (a, b, out)."""
    model, seen = network(activation="tanh"), {}
    plan = model.plan(len(X))

    class Copy(mlp.Recorder):
        def end(self, operation):
            if operation.op in mlp.PRODUCTS:
                (product,) = plan.products(operation)
                seen[operation.id] = [array.copy() for array in (product.a, product.b, product.out)]

    model.step(X, Y, Copy())
    return seen


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_dw_is_the_sum_of_the_outer_products_of_single_examples(backward, layer):
    """The lecture: dL/dw_ij of a batch is the sum over its examples of x_i dL/dz_j, which is X^T dZ."""
    x_transposed, dz, dw = backward[f"{layer}.dW"]
    per_example = [np.outer(x, d) for x, d in zip(x_transposed.T, dz)]
    np.testing.assert_allclose(dw, np.sum(per_example, axis=0), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("layer", [2, 3])
def test_a_row_of_dx_depends_on_its_own_example_only(backward, layer):
    """The lecture: each example gives one non-zero row of dL/dX, so the rows are stacked, not summed."""
    dz, w_transposed, dx = backward[f"{layer}.dX"]
    rows = [[sum(d * w for d, w in zip(row, w_j)) for w_j in w_transposed.T] for row in dz]
    np.testing.assert_allclose(dx, rows, rtol=1e-12, atol=1e-15)


def test_the_gradient_of_a_batch_is_the_mean_of_the_gradients_of_its_examples():
    model = network()
    singles = [model.gradients(X[i : i + 1], Y[i : i + 1]) for i in range(len(X))]
    for whole, *parts in zip(model.gradients(X, Y), *singles):
        np.testing.assert_allclose(whole, np.mean(parts, axis=0), rtol=1e-12, atol=1e-15)


def test_forward_then_backward_with_the_incoming_gradient_gives_the_gradients():
    model = network(loss="squared-error")
    targets = RNG.standard_normal((9, 4))
    expected = model.gradients(X, targets)
    outputs = model.forward(X)
    for got, want in zip(model.backward((outputs - targets) / len(X)), expected):
        np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-16)


def test_backward_needs_a_forward_that_still_stands():
    model = network()
    with pytest.raises(ValueError, match="call forward"):
        model.backward(np.zeros((9, 4)))
    model.forward(X)
    with pytest.raises(ValueError, match=r"\(3, 4\); .* \(9, 4\)"):
        model.backward(np.zeros((3, 4)))
    model.step(X, Y)  # overwrites the activations
    with pytest.raises(ValueError, match="call forward"):
        model.backward(np.zeros((9, 4)))
