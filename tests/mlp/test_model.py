"""MLP: initial weights, prediction, the same learning on every kernel, and what it refuses."""

import copy
import pickle

import numpy as np
import pytest

import gemm
import mlp

RNG = np.random.default_rng(0)


def curve(kernel, dtype, arch, steps, rows):
    """The losses of `steps` steps over a few fixed mini-batches."""
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((8, rows, arch[0])).astype(dtype), rng.integers(0, arch[-1], (8, rows))
    model = mlp.MLP(arch, kernel=kernel, dtype=dtype, lr=0.2, seed=4)
    return [model.step(x[i % 8], y[i % 8]) for i in range(steps)]


@pytest.mark.parametrize(
    "kernel", [k.name for k in gemm.kernels() if k.available and k.device == "cpu" and not k.peer]
)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-4)])
def test_swapping_the_kernel_leaves_the_loss_curve_where_it_was(kernel, dtype, tolerance):
    arch, rows = ([6, 8, 3], 10) if kernel == "python" else ([32, 40, 24, 10], 33)
    expected = curve("blas", dtype, arch, 50, rows)
    assert sum(expected[-8:]) < 0.97 * sum(expected[:8])  # something is learnt
    np.testing.assert_allclose(curve(kernel, dtype, arch, 50, rows), expected, rtol=tolerance)


def test_one_seed_gives_one_network_whatever_the_dtype_and_kernel():
    single = mlp.MLP([20, 30, 10], seed=5, kernel="numpy-dot")
    double = mlp.MLP([20, 30, 10], seed=5, dtype="float64")
    other = mlp.MLP([20, 30, 10], seed=6)
    for p, q in zip(single.parameters(), double.parameters()):
        np.testing.assert_array_equal(p, q.astype(np.float32))
    assert (single.layers[0].weight != other.layers[0].weight).any()


@pytest.mark.parametrize(("activation", "variance"), [("relu", 2 / 400), ("tanh", 2 / 1000)])
def test_weights_start_as_he_or_glorot_have_it_and_biases_at_zero(activation, variance):
    layer = mlp.MLP([400, 600, 10], activation=activation).layers[0]
    assert layer.weight.var() == pytest.approx(variance, rel=0.02)
    assert abs(layer.weight.mean()) < 1e-3
    assert not layer.bias.any()


def test_parameters_are_the_arrays_themselves_in_layer_order():
    model = mlp.MLP("4-3-2")
    assert [p.shape for p in model.parameters()] == [(4, 3), (3,), (3, 2), (2,)]
    model.parameters()[3][:] = [5, 7]
    np.testing.assert_array_equal(model.forward(np.zeros((1, 4))), [[5, 7]])


def test_forward_takes_any_batch_and_returns_an_array_of_its_own():
    model = mlp.MLP([4, 6, 3], dtype="float64")
    x = RNG.standard_normal((11, 4))
    whole = model.forward(x)
    parts = np.concatenate([model.forward(x[:1]), model.forward(x[1:3]), model.forward(x[3:])])
    np.testing.assert_allclose(whole, parts, rtol=1e-13)
    (w1, b1), (w2, b2) = ((layer.weight, layer.bias) for layer in model.layers)
    np.testing.assert_allclose(whole, np.maximum(x @ w1 + b1, 0) @ w2 + b2, rtol=1e-13)


def test_predict_gives_labels_where_the_loss_classifies_and_outputs_where_not():
    x = RNG.standard_normal((10, 4))
    classifier, regressor = mlp.MLP([4, 3]), mlp.MLP([4, 3], loss="squared-error")
    np.testing.assert_array_equal(classifier.predict(x, batch=4), classifier.forward(x).argmax(axis=1))
    np.testing.assert_allclose(regressor.predict(x, batch=4), regressor.forward(x), rtol=1e-5)


def test_evaluate_and_gradients_leave_the_weights_alone_and_step_returns_the_loss_before_it():
    model = mlp.MLP([4, 6, 3])
    x, y = RNG.standard_normal((10, 4)), RNG.integers(0, 3, 10)
    before = [p.copy() for p in model.parameters()]
    loss = model.evaluate(x, y)
    gradients = model.gradients(x, y)
    assert all((p == q).all() for p, q in zip(model.parameters(), before))
    assert model.step(x, y) == loss
    for p, q, g in zip(model.parameters(), before, gradients):
        np.testing.assert_allclose(p, q - 0.1 * g, rtol=1e-6, atol=1e-8)


def test_the_learning_rate_may_change_between_steps():
    model = mlp.MLP([4, 3])
    x, y = RNG.standard_normal((5, 4)), RNG.integers(0, 3, 5)
    model.step(x, y)
    before = model.layers[0].weight.copy()
    model.optimizer.lr = 0.0
    model.step(x, y)
    np.testing.assert_array_equal(model.layers[0].weight, before)


def test_a_model_says_what_it_is():
    model = mlp.MLP("4-3-2", lr=0.5, kernel="blas,2=python")
    assert repr(model) == "MLP(4-3-2, relu, softmax-cross-entropy, sgd(lr=0.5), float32, blas, python)"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"arch": [784]}, "1 width; it needs two or more"),
        ({"arch": "784-0-10"}, "a width of 0; every width"),
        ({"arch": [784, -5, 10]}, "a width of -5"),
        ({"arch": "784-abc-10"}, "write it as 784-512-512-10"),
        ({"arch": [784, 1.5]}, "write it as 784-512-512-10"),
        ({"arch": 784}, "write it as 784-512-512-10"),
        ({"activation": "relo"}, "'relo'; did you mean 'relu'"),
        ({"loss": "softmax-crossentropy"}, "did you mean 'softmax-cross-entropy'"),
        ({"optimizer": "sdg"}, "'sdg'; did you mean 'sgd'"),
        ({"optimizer": "newton"}, "'newton'; there is sgd"),
        ({"lr": 0}, "lr is 0; .* positive number"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"lr": "fast"}, "lr is 'fast'"),
        ({"dtype": "flaot32"}, "'flaot32'; did you mean 'float32'"),
        ({"dtype": "int8"}, "int8 .* float32 or float64"),
        ({"dtype": None}, "unknown dtype None; there is float32, float64"),
        ({"arch": {3, 4}}, "write it as 784-512-512-10"),
        ({"arch": b"4-3"}, "write it as 784-512-512-10"),
        ({"arch": [4, True]}, "write it as 784-512-512-10"),
        ({"loss": ["hinge"]}, "did you mean 'hinge'"),
        ({"seed": -1}, "seed is -1; it must be a whole number from 0"),
        ({"seed": "one"}, "seed is 'one'"),
    ],
)
def test_a_network_that_cannot_be_is_refused_in_one_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        mlp.MLP(**{"arch": [4, 3], **options})


@pytest.mark.parametrize("call", ["forward", "predict"])
@pytest.mark.parametrize("shape", [(3, 5), (4,), (0, 4), (2, 3, 4)])
def test_examples_of_the_wrong_shape_are_refused_with_the_right_one(call, shape):
    with pytest.raises(
        ValueError, match=r"x has shape .*; the network 4-3 takes a batch of rows, \(batch, 4\)"
    ):
        getattr(mlp.MLP([4, 3]), call)(np.zeros(shape))


def test_examples_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="takes real numbers"):
        mlp.MLP([1, 3]).forward(np.array([["a"]]))


def test_ragged_examples_are_refused():
    with pytest.raises(ValueError, match="x is ragged; every row of it must have the same length"):
        mlp.MLP([2, 3]).forward([[1, 2], [3]])


@pytest.mark.parametrize("what", ["step", "evaluate", "gradients"])
def test_no_labels_are_not_the_labels_of_the_last_step(what):
    """None at first, and after a step on the very same array."""
    model, x = mlp.MLP([4, 3]), RNG.standard_normal((2, 4)).astype(np.float32)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"y is object of shape \(\); softmax-cross-entropy takes"):
            getattr(model, what)(x, None)
        model.step(x, [0, 1])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nothing_is_predicted_from_what_is_no_number(value):
    """A label would be told all the same: the first."""
    x = np.zeros((3, 4))
    x[1, 2] = value
    with pytest.raises(ValueError, match="row 1 of x has a value that is NaN or infinite"):
        mlp.MLP([4, 3]).predict(x)


@pytest.mark.parametrize("dtype", [complex, str, object])
def test_an_incoming_gradient_that_is_no_numbers_is_refused(dtype):
    model = mlp.MLP([4, 3])
    model.forward(np.zeros((2, 4)))
    with pytest.raises(ValueError, match=r"dz is .*; the network takes real numbers"):
        model.backward(np.zeros((2, 3)).astype(dtype))


@pytest.mark.parametrize("kernel", ["blas", "numba-micro"])
def test_a_dtype_of_the_other_byte_order_is_that_of_the_machine(kernel):
    x, y = RNG.standard_normal((5, 4)), [0, 1, 2, 1, 0]
    swapped, plain = (
        mlp.MLP([4, 6, 3], dtype=np.dtype("float64").newbyteorder(order), kernel=kernel) for order in "S="
    )
    assert [swapped.step(x, y) for _ in range(3)] == [plain.step(x, y) for _ in range(3)]


def test_an_optimizer_has_one_model():
    """Its state is found by addresses, which a later model's parameters may have: of other sizes."""
    optimizer = mlp.optimizer("adam")
    model = mlp.MLP([4, 3], optimizer=optimizer)
    with pytest.raises(ValueError, match="this optimizer belongs to another model; make one for each"):
        mlp.MLP([4, 3], optimizer=optimizer)
    model.step(np.zeros((2, 4)), [0, 1])
    with pytest.raises(ValueError, match="belongs to another model"):
        mlp.MLP([9, 5], optimizer=copy.deepcopy(optimizer))


@pytest.mark.parametrize("kernel", ["blas", "numba-micro"])
@pytest.mark.parametrize(
    "laid",
    [
        lambda x: np.asfortranarray(x),
        lambda x: np.repeat(x, 2, axis=0)[::2],
        lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
        lambda x: x.astype(x.dtype.newbyteorder()),
        lambda x: np.frombuffer(b"." + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape),  # unaligned
        lambda x: x.astype(np.longdouble),
        lambda x: x.astype(object).tolist(),
    ],
    ids=["Fortran", "strided", "backwards", "other byte order", "unaligned", "long double", "lists"],
)
def test_examples_may_lie_in_memory_as_they_like_and_be_read_only(laid, kernel):
    x, y = RNG.standard_normal((6, 4)).astype(np.float32), RNG.integers(0, 3, 6)
    straight, other = mlp.MLP([4, 5, 3], kernel=kernel), mlp.MLP([4, 5, 3], kernel=kernel)
    given = laid(x)
    if isinstance(given, np.ndarray):
        given.flags.writeable = False
    for _ in range(2):
        assert other.step(given, y) == pytest.approx(straight.step(x, y), rel=1e-6)


@pytest.mark.parametrize("batch", [0, -3, 2.5, True])
def test_a_batch_below_one_is_refused(batch):
    with pytest.raises(ValueError, match=r"batch is .*; it must be a whole number from 1"):
        mlp.MLP([4, 3]).operations(batch)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("arch", ["6-5-3", "3x2-rnn5-3", "6x1x1-conv1x4-3"])
@pytest.mark.parametrize("loss", ["softmax-cross-entropy", mlp.weighted("softmax-cross-entropy")])
def test_a_copy_goes_on_as_the_model_would_have_and_leaves_it_alone(copied, arch, loss):
    """Deep copies and pickles, after steps, with an optimizer that has a state."""
    options = {"optimizer": "adam", "loss": loss, "activation": "tanh", "kernel": "numba-micro,1.Z=numpy-dot"}
    model = mlp.MLP(arch, **options)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((7, 6)).astype(np.float32), np.arange(7) % 3
    y = y if isinstance(loss, str) else (y, np.linspace(1, 2, 7))
    for _ in range(3):
        model.step(x, y)
    model.optimizer.lr = 0.01
    other = copied(model)
    before = [parameter.copy() for parameter in model.parameters()]
    ahead = [other.step(x, y) for _ in range(3)]
    assert all(map(np.array_equal, before, model.parameters()))
    assert [model.step(x, y) for _ in range(3)] == ahead
    assert all(map(np.array_equal, other.parameters(), model.parameters()))
    assert repr(other) == repr(model)
