"""Validation and early stopping: what is held out, when a training ends, and with whose weights."""

from dataclasses import replace

import numpy as np
import pytest

import mlp
from mlp.data import held_out
from mlp.stopping import Watch

DATA = mlp.load("synthetic", examples=250, features=6, classes=3)


def model_of(**settings):
    return mlp.MLP([6, 9, 3], **{"lr": 0.3, "seed": 1} | settings)


def test_a_share_is_held_out_by_the_seed_and_never_learnt_from(monkeypatch):
    seen = set()
    step = mlp.MLP.step

    def spy(self, x, y):
        seen.update(map(bytes, x))
        return step(self, x, y)

    monkeypatch.setattr(mlp.MLP, "step", spy)
    mlp.fit(model_of(), DATA, epochs=2, batch=32, seed=5, validation=0.1)
    rows, kept = held_out(200, 0.1, 5)
    assert (len(rows), len(kept)) == (180, 20)
    assert sorted([*rows, *kept]) == list(range(200))
    assert seen == set(map(bytes, DATA.x_train[rows]))
    assert not np.array_equal(kept, held_out(200, 0.1, 6)[1])


def test_validation_loss_and_accuracy_are_those_of_the_weights_after_each_epoch():
    """In batches of the training's size and a smaller one; of a share or of arrays of one's own, the same."""
    rows, kept = held_out(200, 0.25, 0)
    own = replace(
        DATA, x_train=DATA.x_train[rows], y_train=DATA.y_train[rows],
        x_validation=DATA.x_train[kept].astype(np.float64), y_validation=DATA.y_train[kept].astype(np.int8),
    )  # fmt: skip
    right = []

    class Look(mlp.Callback):
        def after_epoch(self, epoch, history):
            x, y = own.x_validation, own.y_validation
            right.append((model.evaluate(x, y), np.mean(model.predict(x) == y)))

    model = model_of()
    history = mlp.fit(model, DATA, epochs=3, batch=32, validation=0.25, callbacks=[Look()])
    np.testing.assert_allclose(np.c_[history.validation_loss, history.validation_accuracy], right, rtol=1e-5)
    again = mlp.fit(model_of(), own, epochs=3, batch=32)
    assert again.validation_accuracy == history.validation_accuracy
    assert len(again.losses) == len(history.losses) == 3 * 5


def test_validation_changes_nothing_but_what_is_learnt_from():
    """Looking at examples draws no random number and moves no weight."""
    rows, _ = held_out(200, 0.25, 0)
    less = replace(DATA, x_train=DATA.x_train[rows], y_train=DATA.y_train[rows])
    looked, plain = model_of(), model_of()
    first = mlp.fit(looked, DATA, epochs=3, batch=32, validation=0.25)
    second = mlp.fit(plain, less, epochs=3, batch=32)
    assert first.losses == second.losses
    assert second.validation_loss == second.validation_accuracy == [None] * 3
    for ours, right in zip(looked.parameters(), plain.parameters()):
        np.testing.assert_array_equal(ours, right)


@pytest.mark.parametrize("on", ["loss", "accuracy"])
def test_it_stops_after_patience_epochs_and_the_weights_are_those_of_the_best(on):
    """Pure noise: what is learnt is soon worth nothing."""
    rng = np.random.default_rng(0)
    noise = replace(DATA, y_train=rng.integers(0, 3, 200))
    kept = {}

    class Keep(mlp.Callback):
        def after_epoch(self, epoch, history):
            kept[epoch] = [parameter.copy() for parameter in model.parameters()]

    model = model_of()
    history = mlp.fit(
        model, noise, epochs=200, batch=20, validation=0.2, callbacks=[Keep()],
        stopping=mlp.EarlyStopping(patience=4, on=on),
    )  # fmt: skip
    scores = history.validation_loss if on == "loss" else [-a for a in history.validation_accuracy]
    assert history.stopped
    assert history.epochs < 200
    assert history.best_epoch == 1 + int(np.argmin(scores)) == history.epochs - 4
    for ours, best in zip(model.parameters(), kept[history.best_epoch]):
        np.testing.assert_array_equal(ours, best)


def test_without_a_validation_part_the_training_loss_is_watched():
    history = mlp.fit(
        model_of(lr=1e-9), DATA, epochs=50, batch=32, stopping=mlp.EarlyStopping(3, min_delta=0.01)
    )
    assert history.epochs == 4  # the first counts, and nothing is learnt after it
    assert history.best_epoch == 1 + int(np.argmin(history.train_loss))


def test_a_training_that_gets_better_to_the_end_is_not_stopped():
    history = mlp.fit(model_of(lr=0.01), DATA, epochs=8, batch=32, stopping=mlp.EarlyStopping(2))
    assert (history.epochs, history.stopped, history.best_epoch) == (8, False, 8)


@pytest.mark.parametrize(
    ("scores", "min_delta", "best", "waited"),
    [
        ([3.0, 2.0, 1.0], 0.0, 3, 0),
        ([3.0, 2.0, 2.0, 2.5], 0.0, 2, 2),
        ([3.0, 2.95, 2.91], 0.1, 3, 2),  # the best weights are kept, however small their lead
        ([3.0, 2.95, 2.89], 0.1, 3, 0),  # a slow gain is one too
        ([3.0, float("nan"), float("inf")], 0.0, 1, 2),
        ([float("nan"), 5.0], 0.0, 2, 0),
    ],
)
def test_what_counts_as_better(scores, min_delta, best, waited):
    watch = Watch(mlp.EarlyStopping(patience=9, min_delta=min_delta))
    for epoch, score in enumerate(scores, start=1):
        watch.see(epoch, score, [])
    assert (watch.best_epoch, watch.waited) == (best, waited)
    copy = Watch(watch.stopping)
    copy.restore(watch.state())
    assert copy == watch


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"validation": 1.0}, "validation is 1.0; it must be a share between 0 and 1, such as 0.1"),
        ({"validation": -0.1}, "validation is -0.1; it must be a share"),
        ({"validation": float("nan")}, "validation is nan; it must be a share"),
        ({"validation": "some"}, "validation is 'some'; it must be a share"),
        ({"validation": True}, "validation is True; it must be a share"),
        ({"validation": 0.001}, "of 200 training examples that leaves none to validate on"),
        ({"validation": 0.999}, "of 200 training examples that leaves none to learn from"),
        ({"validation": 0.9}, "batch is 32, more than the 20 training examples of synthetic that validation = 0.9"),
        ({"stopping": {"patience": 0}}, "patience is 0; it must be a whole number from 1"),
        ({"stopping": {"patience": 2.5}}, "patience is 2.5; it must be a whole number"),
        ({"stopping": {"min_delta": -1}}, "min_delta is -1; it must be a number from 0"),
        ({"stopping": {"min_delta": "x"}}, "min_delta is 'x'; it must be a number from 0"),
        ({"stopping": {"on": "acuracy"}}, "did you mean 'accuracy'"),
        ({"stopping": {"on": "accuracy"}}, "cannot watch the accuracy: there is no validation part"),
        ({"data": {"x_validation": np.zeros((0, 6)), "y_validation": np.zeros(0, int)}}, "has 0 validation examples"),
        ({"data": {"x_validation": DATA.x_test}}, "x_validation and no y_validation; give both or neither"),
        (
            {"data": {"x_validation": DATA.x_test, "y_validation": DATA.y_test}, "validation": 0.1},
            "has validation examples of its own; leave validation = 0.1 out",
        ),
        (
            {"data": {"x_validation": DATA.x_test, "y_validation": DATA.y_test + 7}},
            "validation examples of synthetic: label .* in row 0 of y is out of range",
        ),
        (
            {"data": {"x_validation": DATA.x_test, "y_validation": DATA.y_test[:9]}},
            "50 validation examples and 9 labels",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_validated_is_one_sentence(options, sentence):
    options = {"epochs": 1, "batch": 32} | options
    data, watched = replace(DATA, **options.pop("data", {})), options.pop("stopping", None)

    def fit():
        stopping = mlp.EarlyStopping(**watched) if watched else None
        mlp.fit(model_of(), data, stopping=stopping, **options)

    with pytest.raises(ValueError, match=sentence):
        fit()
