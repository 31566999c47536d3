"""Losses: their values, their derivatives' scale, their stability, and the labels they refuse."""

import numpy as np
import pytest

import mlp
from mlp.losses import loss as loss_of


def run(name, z, y):
    """(value, dz) of a loss on z and y."""
    loss, dz, value = loss_of(name), np.empty_like(z), np.zeros((), z.dtype)
    targets = loss.targets(*z.shape, z.dtype)
    loss.accept(y, targets, z.shape[1])
    loss.bind(z, targets, dz, value)()
    return float(value), dz


def test_cross_entropy_is_the_mean_of_minus_log_softmax():
    z, y = np.array([[1.0, 2.0, 3.0], [0.5, -1.0, 0.0]]), np.array([0, 2])
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    value, dz = run("softmax-cross-entropy", z, y)
    assert value == pytest.approx(-(np.log(p[0, 0]) + np.log(p[1, 2])) / 2, rel=1e-14)
    np.testing.assert_allclose(dz, (p - [[1, 0, 0], [0, 0, 1]]) / 2, rtol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softmax_does_not_overflow_at_huge_logits(dtype):
    """Right and wrong by 10^4: losses of 0 and 2 10^4, derivatives of 0 and 1, no warning on the way."""
    z = np.array([[1e4, -1e4], [1e4, -1e4]], dtype)
    value, dz = run("softmax-cross-entropy", z, np.array([0, 1]))
    assert value == 1e4
    np.testing.assert_array_equal(dz, [[0, 0], [0.5, -0.5]])


def test_squared_error_is_half_the_squared_distance():
    z, t = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 0.0], [0.0, 4.0]])
    value, dz = run("squared-error", z, t)
    assert value == (4 + 9) / 2 / 2
    np.testing.assert_array_equal(dz, (z - t) / 2)


def test_squared_error_takes_labels_as_one_hot_rows_and_a_vector_for_one_output():
    z = np.array([[0.2, 0.7, 0.1], [0.5, 0.5, 0.0]])
    one_hot = np.array([[0, 1, 0], [1, 0, 0]])
    assert run("squared-error", z, np.array([1, 0]))[0] == run("squared-error", z, one_hot)[0]
    column = np.array([[3.0], [5.0]])
    assert run("squared-error", column, np.array([1, 1]))[0] == (4 + 16) / 2 / 2


@pytest.mark.parametrize("name", mlp.LOSSES)
@pytest.mark.parametrize("bad", [3, -1])
def test_a_label_out_of_range_is_named_with_its_row(name, bad):
    with pytest.raises(ValueError, match=rf"label {bad} in row 1 .* 0 to 2"):
        run(name, np.zeros((2, 3)), np.array([0, bad]))


@pytest.mark.parametrize(
    ("name", "y"),
    [
        ("softmax-cross-entropy", np.array([0.0, 1.0])),
        ("softmax-cross-entropy", np.array([0, 1, 2])),
        ("softmax-cross-entropy", np.array([[0], [1]])),
        ("softmax-cross-entropy", ["0", "1"]),
        ("squared-error", np.array([0.0, 1.0])),
        ("squared-error", np.zeros((2, 4))),
        ("squared-error", np.zeros((2, 3), complex)),
    ],
)
def test_targets_of_the_wrong_kind_or_shape_are_refused_with_what_is_right(name, y):
    with pytest.raises(ValueError, match=f"y is .* of shape .*; {name} takes"):
        run(name, np.zeros((2, 3)), y)


@pytest.mark.parametrize(
    ("name", "y", "sentence"),
    [
        ("hinge", [[0.0], [1.0]], "target 0 in row 0 of y is out of range; hinge takes -1 and 1, or integer"),
        ("hinge", [[1], [0]], "target 0 in row 1"),
        ("hinge", [1.0, 0.0], "target 0 in row 1"),
        ("hinge", [1.0, np.nan], "target nan in row 1"),
        ("logistic", [[1.0], [2.0]], "target 2 in row 1 .*; logistic takes numbers from 0 to 1, or integer"),
        ("logistic", [-1.0, 1.0], "target -1 in row 0"),
        ("logistic", [0.5, np.nan], "target nan in row 1"),
    ],
)
def test_targets_that_a_loss_means_nothing_for_are_refused(name, y, sentence):
    """An SVM that is given 0 and 1 as numbers would learn nothing from the zeros, and not say so."""
    with pytest.raises(ValueError, match=sentence):
        run(name, np.zeros((2, 1)), np.array(y))


@pytest.mark.parametrize("name", mlp.LOSSES)
def test_no_targets_and_ragged_ones_are_refused_by_name(name):
    with pytest.raises(ValueError, match=rf"y is object of shape \(\); {name} takes"):
        run(name, np.zeros((2, 3)), None)
    with pytest.raises(ValueError, match="y is ragged; every row of it must have the same length"):
        run(name, np.zeros((2, 3)), [[0], [1, 2]])


@pytest.mark.parametrize("name", mlp.LOSSES)
def test_a_label_beyond_what_an_index_holds_is_named_as_it_stands(name):
    with pytest.raises(ValueError, match="label 18446744073709551615 in row 1"):
        run(name, np.zeros((2, 3)), np.array([0, 2**64 - 1], np.uint64))


@pytest.mark.parametrize("name", mlp.LOSSES)
def test_what_a_loss_costs_is_counted_and_not_allocated(name):
    """A batch of 10^15, whose targets would be petabytes."""
    one, many = (loss_of(name).operation(batch, 3, np.dtype("float32")) for batch in (1, 10**15))
    assert (many.bytes, many.flops) == (one.bytes * 10**15, one.flops * 10**15)


def test_an_unknown_loss_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="'squared-eror'; did you mean 'squared-error'"):
        loss_of("squared-eror")
    with pytest.raises(ValueError, match=r"unknown loss \['hinge'\]; did you mean 'hinge'"):
        loss_of(["hinge"])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_logistic_is_pytorchs_for_each_output(outputs, dtype):
    """The value and the derivative, with 1 / batch where PyTorch has 1 / (batch outputs); no overflow."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    z = (10 * rng.standard_normal((50, outputs))).astype(dtype)
    z[:2, 0] = 1e4, -1e4
    t = rng.uniform(0, 1, z.shape).astype(dtype)
    theirs = torch.from_numpy(z.copy()).requires_grad_()
    right = (
        torch.nn.functional.binary_cross_entropy_with_logits(theirs, torch.from_numpy(t), reduction="sum")
        / 50
    )
    right.backward()
    value, dz = run("logistic", z, t)
    eps = np.finfo(dtype).eps
    assert value == pytest.approx(float(right.detach()), rel=8 * float(eps))
    np.testing.assert_allclose(dz, theirs.grad.numpy(), rtol=8 * eps, atol=eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_logistic_is_log_1_plus_e_to_the_z_minus_t_z(outputs, dtype):
    """As the test above, without PyTorch: in float64, the logarithm by NumPy's logaddexp."""
    rng = np.random.default_rng(0)
    z = (10 * rng.standard_normal((50, outputs))).astype(dtype)
    z[:2, 0] = 1e4, -1e4
    t = rng.uniform(0, 1, z.shape).astype(dtype)
    value, dz = run("logistic", z, t)
    wide, eps = z.astype(np.float64), float(np.finfo(dtype).eps)
    assert value == pytest.approx(np.sum(np.logaddexp(0, wide) - t * wide) / 50, rel=8 * eps)
    sigmoid = np.exp(-np.logaddexp(0, -wide))
    np.testing.assert_allclose(dz, (sigmoid - t) / 50, rtol=8 * eps, atol=eps)


def test_hinge_is_the_distance_to_a_margin_of_one():
    z = np.array([[2.0, -0.5, 0.25], [1.0, 3.0, -2.0]])
    value, dz = run("hinge", z, np.array([0, 2]))  # targets (1, -1, -1), (-1, -1, 1)
    assert value == (0 + 0.5 + 1.25 + 2 + 4 + 3) / 2
    np.testing.assert_array_equal(dz, [[0, 0.5, 0.5], [0.5, 0.5, -0.5]])


@pytest.mark.parametrize(("name", "low"), [("logistic", 0.0), ("hinge", -1.0)])
def test_one_output_tells_two_classes_apart(name, low):
    """Labels 0 and 1, or booleans, are the targets `low` and 1; other labels are refused."""
    z = np.array([[0.3], [-2.0]])
    for labels in (np.array([0, 1]), np.array([False, True])):
        assert run(name, z, labels)[0] == run(name, z, np.array([[low], [1.0]]))[0]
    assert loss_of(name).labels(z).tolist() == [1, 0]
    with pytest.raises(ValueError, match="label 2 in row 1 of y is out of range; one output tells 0 from 1"):
        run(name, z, np.array([0, 2]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_poisson_is_half_of_scikit_learns_deviance(outputs, dtype):
    """For counts, zeros among them, and their derivative; the mean over the rows of the sum over the outputs."""
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    z, t = rng.standard_normal((50, outputs)).astype(dtype), rng.poisson(1.5, (50, outputs))
    mean = np.exp(z.astype(np.float64))
    value, dz = run("poisson", z, t)
    eps = float(np.finfo(dtype).eps)
    assert (t == 0).any()
    assert value == pytest.approx(
        metrics.mean_poisson_deviance(t.ravel(), mean.ravel()) * outputs / 2, rel=8 * eps
    )
    np.testing.assert_allclose(dz, (mean - t) / 50, rtol=8 * eps, atol=eps)
    with pytest.raises(ValueError, match="row 1 of y has -2; poisson takes numbers from 0"):
        run("poisson", z[:2], np.array([[1.0] * outputs, [-2.0] * outputs]))


@pytest.mark.parametrize("name", mlp.LOSSES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_weight_of_two_is_an_example_that_is_there_twice(name, dtype):
    """And of zero one that is not there; the derivative of an example is shared by its copies."""
    rng = np.random.default_rng(0)
    z, y, weights = (
        rng.standard_normal((7, 3)).astype(dtype),
        rng.integers(0, 3, 7),
        np.array([1, 2, 0, 3, 1, 0, 2]),
    )
    value, dz = run(name, np.repeat(z, weights, axis=0), np.repeat(y, weights))
    found, derivative = run(mlp.weighted(name), z, (y, weights / 4))
    eps = float(np.finfo(dtype).eps)
    assert found == pytest.approx(value, rel=8 * eps)
    np.testing.assert_allclose(
        derivative,
        [dz[weights[:i].sum() :][: weights[i]].sum(axis=0) for i in range(7)],
        rtol=32 * eps,
        atol=eps,
    )


def test_a_network_learns_by_weights():
    """Steps with a weighted loss are those on the repeated examples; a batch that weighs nothing is refused."""
    rng = np.random.default_rng(0)
    x, y, weights = rng.standard_normal((6, 4)), rng.integers(0, 3, 6), np.array([1, 0, 2, 1, 3, 1])
    model = mlp.MLP([4, 5, 3], loss=mlp.weighted("softmax-cross-entropy"), dtype="float64")
    repeated = mlp.MLP([4, 5, 3], dtype="float64")
    for _ in range(3):
        loss = model.step(x, (y, weights))
        assert loss == pytest.approx(
            repeated.step(np.repeat(x, weights, axis=0), np.repeat(y, weights)), rel=1e-13
        )
    for one, other in zip(model.parameters(), repeated.parameters()):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(model.predict(x), repeated.predict(x))
    with pytest.raises(ValueError, match="weights of a batch add up to 0; they must weigh something"):
        model.step(x, (y, np.zeros(6)))


@pytest.mark.parametrize("name", mlp.LOSSES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_loss_of_no_number_is_no_number(name, dtype):
    """NaN anywhere in Z is NaN in the value: that is how a training notices."""
    for at in ((0, 0), (1, 2), (1, 0)):
        z = np.zeros((2, 3), dtype)
        z[at] = np.nan
        assert np.isnan(run(name, z, np.array([0, 2]))[0])
