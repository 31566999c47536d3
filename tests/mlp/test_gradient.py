"""Gradients: backpropagation against differences of the loss; the lecture's identities."""

from dataclasses import replace

import numpy as np
import pytest

import gemm
import mlp
from mlp.losses import Loss

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((9, 5)), RNG.integers(0, 4, 9)


def network(**options):
    return mlp.MLP([5, 7, 6, 4], dtype="float64", seed=1, **options)


@pytest.mark.parametrize("loss", mlp.LOSSES)
@pytest.mark.parametrize("activation", mlp.ACTIVATIONS)
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "not fused"])
def test_backpropagation_agrees_with_central_differences(kernel, fused, activation, loss):
    """Every entry of every layer, and the lecture's derivative along a line; small enough for Python's loops."""
    options = {"activation": activation, "loss": loss, "fused": fused, "kernel": kernel}
    model, x, y = mlp.MLP([3, 4, 3, 2], dtype="float64", seed=1, **options), X[:4, :3], Y[:4] % 2
    for layer in model.layers:  # at a bias of 0, above relus that are all off, Z would lie on the kink
        layer.bias[:] = np.linspace(0.1, 0.3, len(layer.bias))
    before = [p.copy() for p in model.parameters()]
    assert mlp.elementwise_error(model, x, y, entries=None) < 1e-7
    assert mlp.directional_error(model, x, y) < 1e-7
    assert all((p == q).all() for p, q in zip(model.parameters(), before))  # left as it was found


@pytest.mark.parametrize("loss", [name for name in mlp.LOSSES if name != "softmax-cross-entropy"])
@pytest.mark.parametrize("arch", [[5, 1], [5, 1, 1], [1, 4, 1]])
@pytest.mark.parametrize("rows", [1, 9])
def test_it_does_with_one_input_one_output_or_one_example(loss, arch, rows):
    model = mlp.MLP(arch, activation="tanh", loss=loss, dtype="float64", seed=2)
    x, y = X[:rows, : arch[0]], Y[:rows] % 2
    assert mlp.elementwise_error(model, x, y, entries=None) < 1e-7


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "not fused"])
@pytest.mark.parametrize("activation", mlp.ACTIVATIONS)
def test_it_does_where_products_are_larger_than_a_tile(kernel, fused, activation):
    """With edges left over on every side; a relu's kink may lie near one of a few hundred Z, but not on the line."""
    arch, rows = ([6, 8, 3], 10) if kernel == "python" else ([33, 70, 37, 10], 65)
    model = mlp.MLP(arch, activation=activation, dtype="float64", seed=3, kernel=kernel, fused=fused)
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((rows, arch[0])), rng.integers(0, arch[-1], rows)
    assert mlp.directional_error(model, x, y, eta=1e-6) < 1e-6


@pytest.mark.parametrize("spoil", [lambda g: g * 1.001, lambda g: -g, np.zeros_like])
def test_the_checks_notice_a_wrong_gradient(spoil, monkeypatch):
    model = network()
    right = model.gradients(X, Y)
    monkeypatch.setattr(model, "gradients", lambda x, y: [*right[:2], spoil(right[2]), *right[3:]])
    assert mlp.elementwise_error(model, X, Y) > 1e-4
    assert mlp.directional_error(model, X, Y) > 1e-5


def planted(multiply, fuses=()):
    """A kernel that does that."""
    return gemm.Kernel(name="planted", idea="is wrong", load=lambda: multiply, fuses=frozenset(fuses))


def both_errors(model):
    x, y = X[:5], Y[:5]  # five of everything: a transposition that is forgotten fits
    return mlp.elementwise_error(model, x, y), mlp.directional_error(model, x, y)


@pytest.mark.parametrize("kind", ["Z", "dW", "dX"])
def test_the_checks_notice_a_transposition_that_was_forgotten(kind):
    """X W^T for X W, X dZ for X^T dZ, dZ W for dZ W^T: the shapes fit, and nothing else would tell."""

    def forgets(a, b, c, *, alpha, beta, epilogue=None):
        a, b = (a.T, b) if kind == "dW" else (a, b.T)
        c[...] = alpha * (a @ b)

    def network_of(kernel):
        return mlp.MLP([5] * 4, activation="tanh", dtype="float64", kernel={f"*.{kind}": kernel})

    assert max(both_errors(network_of("blas"))) < 1e-7
    assert min(both_errors(network_of(planted(forgets)))) > 1e-3


@pytest.mark.parametrize(
    ("activation", "backward"),
    [
        ("tanh", lambda g, y: np.multiply(g, 1 - y, out=g)),
        ("tanh", lambda g, y: np.multiply(g, 1 + y * y, out=g)),
        ("sigmoid", lambda g, y: np.multiply(g, y, out=g)),
        ("relu", lambda g, y: g),
        ("leaky-relu", lambda g, y: np.multiply(g, y > 0, out=g)),
        ("gelu", lambda g, z: np.multiply(g, z > 0, out=g)),
    ],
)
def test_the_checks_notice_a_wrong_derivative_of_an_activation(activation, backward, monkeypatch):
    wrong = replace(mlp.ACTIVATIONS[activation], backward=backward)
    monkeypatch.setitem(mlp.ACTIVATIONS, activation, wrong)
    assert min(both_errors(mlp.MLP([5] * 4, activation=activation, dtype="float64"))) > 1e-5


def test_the_checks_notice_a_kernel_that_fuses_a_wrong_derivative():
    def fuses(a, b, c, *, alpha, beta, epilogue=None):
        c[...] = a @ b
        if epilogue is not None:
            c *= 1 - epilogue.aux_in  # of tanh: without the square

    model = mlp.MLP(
        [5] * 4, activation="tanh", dtype="float64", kernel={"*.dX": planted(fuses, {"grad:tanh"})}
    )
    assert any(op.parts == ("dX", "1.activation'") or len(op.parts) > 1 for op in model.operations(5))
    assert min(both_errors(model)) > 1e-3


@pytest.mark.parametrize("name", mlp.LOSSES)
def test_the_checks_notice_a_loss_whose_derivative_lacks_the_mean(name, monkeypatch):
    class Sums(Loss):
        def bind(self, z, targets, dz, value):
            right = super().bind(z, targets, dz, value)

            def call():
                right()
                dz[...] *= len(z)

            return call

    monkeypatch.setitem(mlp.LOSSES, name, Sums(**vars(mlp.LOSSES[name])))
    assert min(both_errors(mlp.MLP([5] * 4, loss=name, dtype="float64"))) > 0.1


def test_a_gradient_that_is_no_number_is_no_small_error(monkeypatch):
    model = network()
    right = model.gradients(X, Y)
    right[2][0, 0] = np.nan
    monkeypatch.setattr(model, "gradients", lambda x, y: right)
    assert np.isnan(mlp.elementwise_error(model, X, Y, entries=None))
    assert np.isnan(mlp.directional_error(model, X, Y))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"eta": 0.0}, "eta is 0.0; it must be a positive number, such as 1e-05"),
        ({"eta": float("nan")}, "eta is nan"),
        ({"eta": "small"}, "eta is 'small'"),
        ({"entries": 0}, "entries is 0; it must be a whole number from 1"),
    ],
)
def test_a_check_that_cannot_be_is_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        mlp.elementwise_error(network(), X, Y, **options)


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
