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


def test_an_unknown_loss_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="'squared-eror'; did you mean 'squared-error'"):
        loss_of("squared-eror")
