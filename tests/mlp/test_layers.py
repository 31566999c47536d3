"""Convolutions and recurrent layers: against their definitions, against PyTorch, and their derivatives."""

import importlib.util

import numpy as np
import pytest
from scipy.signal import correlate

import gemm
import mlp
from mlp.layers import Convolution

RNG = np.random.default_rng(0)
CONVOLUTIONS = [
    "5x4x2-conv3x3-4",
    "6x6-conv3x3+1-conv2x4/2-5",
    "5x5x1-conv2x3",
    "7x5x3-conv1x4/2-conv3x2+2-3",
]
RECURRENT = ["4x3-rnn5-4", "3x4-rnn5-rnn6-4", "2x3-rnn5"]
SIZED = [*CONVOLUTIONS, *RECURRENT]
torch_too = pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="torch is not installed")


def example(arch, rows=7, **options):
    """A network with biases of its own (else a relu's kink lies where a recurrent layer's states are 0), x and y."""
    model = mlp.MLP(arch, dtype="float64", **options)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter[:] = 0.1 * RNG.standard_normal(parameter.shape)
    x = RNG.standard_normal((rows, model.widths[0]))
    return model, x, RNG.integers(0, model.widths[-1], rows)


@pytest.mark.parametrize("arch", ["6x5x2-conv3x4", "6x6-conv2x3/2", "5x4x3-conv3x2+1", "7x7-conv3x1/3+2"])
def test_a_convolution_is_a_sum_of_correlations(arch):
    """Of each channel with its part of each filter, as SciPy has it, every stride-th place kept."""
    model, x, _ = example(arch, rows=3)
    (layer,) = model.layers
    w = layer.window
    filters = layer.weight.reshape(w.size, w.size, w.channels, w.filters)
    images = x.reshape(-1, w.height, w.width, w.channels)
    images = np.pad(images, ((0, 0), (w.padding,) * 2, (w.padding,) * 2, (0, 0)))
    down, across = w.places
    for image, got in zip(images, model.forward(x).reshape(-1, down, across, w.filters)):
        for f in range(w.filters):
            sums = sum(correlate(image[..., c], filters[..., c, f], "valid") for c in range(w.channels))
            np.testing.assert_allclose(
                got[..., f], sums[:: w.stride, :: w.stride] + layer.bias[f], rtol=1e-12, atol=1e-13
            )


@pytest.mark.parametrize("arch", ["6x5x2-conv3x4", "6x6-conv2x3/2", "5x4x3-conv3x2+1"])
def test_a_convolution_is_the_dense_layer_of_its_matrix(arch):
    model, x, _ = example(arch)
    (layer,) = model.layers
    matrix = layer.matrix()
    assert matrix.shape == (layer.inputs, layer.outputs)
    bias = np.tile(layer.bias, layer.positions)
    np.testing.assert_allclose(model.forward(x), x @ matrix + bias, rtol=1e-12, atol=1e-13)


def test_the_matrix_of_a_convolution_repeats_few_weights_among_zeros():
    """The picture in the docstring: 3 weights on a line of 4 numbers, with a border so that 3 x 3 fits."""
    (layer,) = mlp.MLP("4x4-conv3x1", dtype="float64").layers
    assert isinstance(layer, Convolution)
    matrix = layer.matrix()
    assert matrix.shape == (16, 4)
    assert set(matrix[matrix != 0]) == set(layer.weight.ravel())
    assert [np.count_nonzero(column) for column in matrix.T] == [9] * 4


@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_a_recurrent_network_is_its_recurrence(activation):
    """H_t = f(X_t W + H_{t-1} U + b), written step by step; the last step is handed on."""
    model, x, _ = example("4x3-rnn5-rnn6-2", activation=activation)
    f = gemm.ACTIVATIONS[activation]
    states = list(x.reshape(-1, 4, 3).transpose(1, 0, 2))
    for layer in model.layers[:2]:
        h, handed_on = np.zeros((len(x), layer.sequence.hidden)), []
        for x_t in states:
            z = x_t @ layer.weight + h @ layer.feedback + layer.bias
            h = f.forward(z, np.empty_like(z))
            handed_on.append(h)
        states = handed_on
    dense = model.layers[2]
    np.testing.assert_allclose(
        model.forward(x), states[-1] @ dense.weight + dense.bias, rtol=1e-12, atol=1e-13
    )


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    ("arch", "activation"),
    [(arch, f) for arch in SIZED for f in mlp.ACTIVATIONS if "rnn" not in arch or f != "softmax"],
)
def test_backpropagation_agrees_with_central_differences(arch, activation, fused):
    model, x, y = example(arch, activation=activation, kernel="numba-micro", fused=fused)
    assert mlp.elementwise_error(model, x, y) < 1e-6
    assert mlp.directional_error(model, x, y) < 1e-6


@pytest.mark.parametrize("kernel", [k.name for k in gemm.kernels() if k.available and k.device == "cpu"])
@pytest.mark.parametrize("arch", [CONVOLUTIONS[1], RECURRENT[1]])
def test_every_kernel_learns_the_same(arch, kernel):
    """Five steps, fused and not: the same losses to rounding, whoever multiplies."""
    seen = []
    for name, fused in ((kernel, True), (kernel, False), ("blas", False)):
        model = mlp.MLP(arch, activation="tanh", kernel=name, fused=fused, dtype="float64", lr=0.1)
        x = np.random.default_rng(1).standard_normal((6, model.widths[0]))
        seen.append([model.step(x, np.arange(6) % 3) for _ in range(5)])
    np.testing.assert_allclose(seen[0], seen[2], rtol=1e-11)
    np.testing.assert_allclose(seen[1], seen[2], rtol=1e-11)
    assert seen[0][-1] < seen[0][0]


@torch_too
@pytest.mark.parametrize("arch", ["6x5x2-conv3x4", "6x6x1-conv2x3/2", "5x4x3-conv3x2+1"])
def test_a_convolution_and_its_gradients_are_pytorchs(arch):
    import torch

    model, x, _ = example(arch, loss="squared-error")
    (layer,) = model.layers
    w = layer.window
    weight = torch.tensor(layer.weight.reshape(w.size, w.size, w.channels, w.filters), requires_grad=True)
    bias = torch.tensor(layer.bias, requires_grad=True)
    images = torch.tensor(x.reshape(-1, w.height, w.width, w.channels)).permute(0, 3, 1, 2)
    z = torch.nn.functional.conv2d(images, weight.permute(3, 2, 0, 1), bias, w.stride, w.padding)
    z = z.permute(0, 2, 3, 1).reshape(len(x), -1)
    targets = RNG.standard_normal(z.shape)
    loss = 0.5 * ((z - torch.tensor(targets)) ** 2).sum() / len(x)
    loss.backward()
    assert model.evaluate(x, targets) == pytest.approx(loss.item(), rel=1e-12)
    dw, db = model.gradients(x, targets)
    np.testing.assert_allclose(dw, weight.grad.numpy().reshape(dw.shape), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(db, bias.grad.numpy(), rtol=1e-10, atol=1e-12)


@torch_too
def test_a_recurrent_network_and_its_gradients_are_pytorchs():
    import torch

    x = RNG.standard_normal((7, 12))
    ours = mlp.MLP("4x3-rnn5-rnn5-1", activation="tanh", loss="squared-error", dtype="float64")
    theirs = torch.nn.RNN(3, 5, num_layers=2, batch_first=True).double()
    top = torch.nn.Linear(5, 1).double()
    with torch.no_grad():
        for at, layer in enumerate(ours.layers[:2]):
            getattr(theirs, f"weight_ih_l{at}").copy_(torch.tensor(layer.weight.T))
            getattr(theirs, f"weight_hh_l{at}").copy_(torch.tensor(layer.feedback.T))
            getattr(theirs, f"bias_ih_l{at}").copy_(torch.tensor(layer.bias))
            getattr(theirs, f"bias_hh_l{at}").zero_()
        top.weight.copy_(torch.tensor(ours.layers[2].weight.T))
        top.bias.copy_(torch.tensor(ours.layers[2].bias))
    targets = RNG.standard_normal(len(x))
    outputs = top(theirs(torch.tensor(x.reshape(-1, 4, 3)))[0][:, -1])
    loss = 0.5 * ((outputs[:, 0] - torch.tensor(targets)) ** 2).mean()
    loss.backward()
    assert ours.evaluate(x, targets) == pytest.approx(loss.item(), rel=1e-12)
    gradients = ours.gradients(x, targets)
    for at in range(2):
        dw, du, db = gradients[3 * at : 3 * at + 3]
        for name, got in (("weight_ih", dw.T), ("weight_hh", du.T), ("bias_ih", db)):
            np.testing.assert_allclose(
                got, getattr(theirs, f"{name}_l{at}").grad.numpy(), rtol=1e-10, atol=1e-13
            )


def test_a_row_that_stands_for_several_products_counts_them_all():
    operations = {op.id: op for op in mlp.MLP("9x3-rnn5-4", activation="tanh").operations(7)}
    h = operations["1.H"]
    assert (h.times, h.m, h.n, h.k, h.parts) == (8, 7, 5, 5, ("H", "activation"))
    assert h.flops == 8 * (2 * 7 * 5 * 5 + 7 * 5)
    assert operations["1.dU"].k == 8 * 7
    assert len(mlp.MLP("9x3-rnn5-4").plan(7).products(operations["1.dU"])) == 1
    convolution = {op.id: op for op in mlp.MLP("6x6-conv3x4-conv2x5-3").operations(7)}
    assert (convolution["1.Z"].m, convolution["1.Z"].k, convolution["2.Z"].k) == (7 * 16, 9, 4 * 4)
    assert convolution["1.im2col"].bytes == 4 * 7 * (36 + 16 * 9)
    assert "1.col2im" not in convolution  # nothing asks for dX of layer 1
    assert convolution["2.col2im"].shape == (7, 4 * 4 * 4)


@pytest.mark.parametrize("arch", ["12x12x3-conv3x8-conv3x16/2-10", "12x16-rnn32-rnn24-10"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_steps_see_new_arrays_of_any_layout(arch, optimizer):
    """A strided and a Fortran-ordered x, and one of another dtype, give what a plain copy gives."""
    wide = RNG.standard_normal((10, 2 * mlp.widths(arch)[0])).astype(np.float32)
    y = np.arange(5) % 3
    for x in (wide[::2, ::2], np.asfortranarray(wide[:5, ::2]), wide[:5, ::2].astype(np.float64)):
        plain, other = (mlp.MLP(arch, optimizer=optimizer, kernel="numba-micro") for _ in range(2))
        for _ in range(3):
            assert other.step(x, y) == plain.step(x.astype(np.float32).copy(), y)


@pytest.mark.parametrize("arch", ["8x8x1-conv3x16-10", "8x8-rnn32-10"])
def test_it_learns_to_read_digits(arch):
    model = mlp.MLP(arch, activation="relu" if "conv" in arch else "tanh", optimizer="adam", lr=0.003)
    history = mlp.fit(model, mlp.load("digits"), epochs=12, batch=32)
    assert history.test_accuracy[-1] > 0.93


def test_an_architecture_is_text_or_a_list_and_says_its_widths():
    for arch, parts, widths in (
        ("784-512-10", [784, 512, 10], (784, 512, 10)),
        ("8x8x1-conv3x16-10", ["8x8x1", "conv3x16", 10], (64, 576, 10)),
        ("28x28-conv3x8/2+1-conv3x4-10", ["28x28", "conv3x8/2+1", "conv3x4", 10], (784, 1568, 576, 10)),
        ("8x8-rnn32-rnn16-10", ["8x8", "rnn32", "rnn16", 10], (64, 256, 16, 10)),
        ("8x8-10", ["8x8", 10], (64, 10)),
    ):
        found = mlp.architecture(arch)
        assert (str(found), found.parts, found.widths) == (arch, parts, widths)
        assert mlp.architecture(parts) == mlp.architecture(found) == found
        assert len(found.thin().shapes) == len(found.shapes)
        assert max(layer.weight.size for layer in mlp.MLP(found.thin()).layers) <= 256


@pytest.mark.parametrize(
    ("arch", "sentence"),
    [
        ("8x8-64-conv3x1-10", "conv3x1 where there is no image; start with its height x width x channels"),
        ("64-conv3x3-10", "conv3x3 where there is no image"),
        ("8x8-5-rnn3", "rnn3 where there is no sequence; start with its steps x features"),
        ("8x8x1-rnn3-2", "rnn3 where there is no sequence"),
        ("1x8-rnn3-2", "a single step; there must be two or more"),
        ("8x8-conv9x3-1", "on images of 8x8: the window must fit"),
        ("8x8-conv3x3+3-1", "the padding be smaller than the window"),
        ("8x8-conv3x0-1", "a width of 0"),
        ("8x0-rnn3-1", "a width of 0"),
        ("8x8-con3", "write it as 784-512-512-10, 8x8x1-conv3x16-10 or 8x8-rnn32-10"),
        ("8x8x8x8-3", "write it as"),
    ],
)
def test_an_architecture_that_cannot_be_is_one_sentence(arch, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        mlp.architecture(arch)
    assert arch in str(caught.value)


def test_softmax_is_refused_where_a_product_must_be_followed_by_it():
    with pytest.raises(ValueError, match="softmax is no activation for a recurrent layer; take tanh"):
        mlp.MLP("4x3-rnn5-4", activation="softmax")


def test_a_softmax_is_scipys_and_sums_to_one():
    from scipy.special import softmax

    z = np.array([[0.0, 1.0, 2.0], [1000.0, 999.0, -1000.0], [-5.0, -5.0, -5.0]])
    y = mlp.ACTIVATIONS["softmax"].forward(z, np.empty_like(z))
    np.testing.assert_allclose(y, softmax(z, axis=1), rtol=1e-14)
    in_place = z.copy()
    mlp.ACTIVATIONS["softmax"].forward(in_place, in_place)
    assert np.array_equal(in_place, y)
    assert np.isnan(mlp.ACTIVATIONS["softmax"].forward(np.array([[np.nan, 1.0]]), np.empty((1, 2)))).all()


def test_the_products_of_a_recurrent_layer_can_be_given_to_different_kernels():
    model = mlp.MLP("4x3-rnn5-4", kernel="blas,1.H=python,*.dU=numpy-dot,1.dW=numba-ikj")
    kernels = {op.id: op.kernel for op in model.operations(3) if op.kernel}
    assert kernels == {
        "1.Z": "blas", "1.H": "python", "1.dH": "blas", "1.dW": "numba-ikj", "1.dU": "numpy-dot",
        "2.Z": "blas", "2.dX": "blas", "2.dW": "blas",
    }  # fmt: skip
    with pytest.raises(ValueError, match="names the kind H; the products are Z, dW and dX"):
        mlp.MLP("4x3-rnn5-4", kernel="blas,2.H=python")
