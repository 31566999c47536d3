"""Checkpoints: what is written comes back, a training goes on bit for bit, and what is refused."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import mlp
from mlp.checkpoint import restore, save

DATA = mlp.load("synthetic", examples=200, features=6, classes=3)


def model_of(optimizer="adam", **settings):
    return mlp.MLP([6, 9, 3], optimizer=optimizer, kernel="numba-micro", **settings)


@pytest.mark.parametrize("optimizer", mlp.OPTIMIZERS)
def test_a_training_goes_on_bit_for_bit(tmp_path, optimizer):
    """Five epochs at once, and two and three with a break and a new model between, under a schedule."""
    at, fitting = tmp_path / "half.npz", {"batch": 32, "seed": 4, "schedule": "cosine"}
    whole = model_of(optimizer)
    history = mlp.fit(whole, DATA, epochs=5, **fitting)

    class Stop(mlp.Callback):
        def before_epoch(self, epoch):
            if epoch == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mlp.fit(model_of(optimizer), DATA, epochs=5, checkpoint=at, callbacks=[Stop()], **fitting)
    second = model_of(optimizer, seed=77)  # its own weights do not matter
    again = mlp.fit(second, DATA, epochs=5, checkpoint=at, resume=True, **fitting)
    for ours, right in zip(second.parameters(), whole.parameters()):
        np.testing.assert_array_equal(ours, right)
    assert again == history
    assert second.optimizer.lr == whole.optimizer.lr


WATCHED = {"validation": 0.2, "stopping": mlp.EarlyStopping(patience=6)}
KILLED = """
import sys, mlp
data = mlp.load("synthetic", examples=200, features=6, classes=3)
model = mlp.MLP([6, 9, 3], optimizer="adam", kernel="numba-micro", lr=0.05)
class Tell(mlp.Callback):
    def after_step(self, step, loss):
        print(step, flush=True)
watched = {"validation": 0.2, "stopping": mlp.EarlyStopping(patience=6)} if sys.argv[2] == "watched" else {}
mlp.fit(model, data, epochs=40, batch=32, checkpoint=sys.argv[1], callbacks=[Tell()], **watched)
"""


@pytest.mark.parametrize("watched", [{}, WATCHED], ids=["to the end", "with early stopping"])
def test_a_training_that_was_killed_goes_on(tmp_path, watched):
    """At a step of its choosing, in the middle of an epoch; the file is whole, and so is what was the best."""
    at, fitting = tmp_path / "training.npz", {"epochs": 40, "batch": 32, **watched}
    whole = model_of(lr=0.05)
    history = mlp.fit(whole, DATA, **fitting)
    assert history.stopped == bool(watched)
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(at), "watched" if watched else ""],
        stdout=subprocess.PIPE,
        text=True,
    )
    last = int(np.random.default_rng().integers(12, min(100, len(history.losses) - 8)))
    for line in child.stdout:
        if int(line) == last:
            os.kill(child.pid, signal.SIGKILL)
            break
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    resumed = model_of(lr=0.05, seed=77)
    assert mlp.fit(resumed, DATA, checkpoint=at, resume=True, **fitting) == history
    for ours, right in zip(resumed.parameters(), whole.parameters()):
        np.testing.assert_array_equal(ours, right)


def test_early_stopping_stops_where_it_would_have_whenever_it_is_interrupted(tmp_path):
    """A break after every epoch, a new model each time; between the best epoch and the end too."""
    at, fitting = tmp_path / "training.npz", {"batch": 32, **WATCHED}
    whole = model_of(lr=0.05)
    history = mlp.fit(whole, DATA, epochs=60, **fitting)
    assert 1 < history.best_epoch == history.epochs - 6
    for epoch in range(1, history.epochs + 2):  # once more: it is over, and says so
        broken = model_of(lr=0.05)
        seen = mlp.fit(
            broken, DATA, epochs=epoch if epoch < 60 else 60, checkpoint=at, resume=True, **fitting
        )
    assert seen == history
    for ours, right in zip(broken.parameters(), whole.parameters()):
        np.testing.assert_array_equal(ours, right)
    best, last = model_of(), model_of()
    restore(best, at, best=best.parameters())
    restore(last, at)
    assert all(np.array_equal(a, b) for a, b in zip(best.parameters(), whole.parameters()))
    assert not all(np.array_equal(a, b) for a, b in zip(last.parameters(), whole.parameters()))


def test_what_a_callback_wants_to_keep_is_in_the_checkpoint(tmp_path):
    """As a clock its seconds."""

    class Count(mlp.Callback):
        steps = 0

        def after_step(self, step, loss):
            self.steps += 1

        def state(self):
            return {"steps": self.steps}

        def restore(self, state):
            self.steps = state["steps"]

    first, second, at = Count(), Count(), tmp_path / "training.npz"
    mlp.fit(model_of(), DATA, epochs=2, batch=32, checkpoint=at, callbacks=[first, mlp.Callback()])
    mlp.fit(model_of(), DATA, epochs=3, batch=32, checkpoint=at, callbacks=[second], resume=True)
    assert (first.steps, second.steps) == (10, 15)


def test_what_is_no_checkpoint_is_refused_and_the_model_is_as_it_was(tmp_path):
    good, bad, model = tmp_path / "good.npz", tmp_path / "bad.npz", model_of()
    model.step(DATA.x_train[:8], DATA.y_train[:8])
    save(model, good)
    before = [p.copy() for p in model.parameters()]
    content = good.read_bytes()
    for damaged in (b"", b"no archive at all", content[: len(content) // 2], content[:-30]):
        bad.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"bad.npz is no checkpoint of a network, or it is damaged"):
            restore(model, bad)
    np.savez(bad, x=np.zeros(3))
    with pytest.raises(ValueError, match="no checkpoint of a network"):
        restore(model, bad)
    for p, q in zip(model.parameters(), before):
        np.testing.assert_array_equal(p, q)
    assert restore(model, good) is None


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (lambda: mlp.MLP([6, 8, 3], optimizer="adam"), "its arch is 6-9-3, not 6-8-3"),
        (lambda: mlp.MLP([6, 9, 3], optimizer="sgd"), "its optimizer is adam, not sgd"),
        (lambda: mlp.MLP([6, 9, 3], optimizer="adam", dtype="float64"), "its dtype is float32, not float64"),
        (lambda: mlp.MLP([6, 9, 3], optimizer="adam", activation="tanh"), "its activation is relu, not tanh"),
    ],
)
def test_a_checkpoint_of_another_network_is_refused(tmp_path, other, sentence):
    save(model_of(), tmp_path / "one.npz")
    with pytest.raises(ValueError, match=f"is a checkpoint of another network: {sentence}"):
        restore(other(), tmp_path / "one.npz")


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ({"batch": 16}, "is of a training whose batch is 32, not 16"),
        ({"seed": 3}, "is of a training whose seed is 0, not 3"),
        ({"validation": 0.1}, "is of a training whose examples is 160, not 144"),
        (
            {"stopping": mlp.EarlyStopping(3)},
            "holds no weights of a best epoch: its training had no early stopping",
        ),
    ],
)
def test_another_training_is_not_resumed(tmp_path, other, sentence):
    at = tmp_path / "training.npz"
    mlp.fit(model_of(), DATA, epochs=1, batch=32, checkpoint=at)
    with pytest.raises(ValueError, match=sentence):
        mlp.fit(model_of(), DATA, **{"epochs": 2, "batch": 32, "checkpoint": at, "resume": True, **other})


def test_a_byte_that_has_changed_is_found(tmp_path):
    """Wherever it is: the archive has a checksum of every array."""
    at, model = tmp_path / "one.npz", model_of()
    save(model, at)
    content, rng, refused = at.read_bytes(), np.random.default_rng(0), 0
    before = [p.copy() for p in model.parameters()]
    for place in rng.integers(0, len(content), 60):
        at.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            restore(model, at)
        except ValueError as error:
            refused += "one.npz" in str(error)
        for p, q in zip(model.parameters(), before):
            np.testing.assert_array_equal(p, q)
    assert refused > 20  # the others are in dates and paddings of the archive


def test_a_checkpoint_that_could_not_be_written_is_refused_before_the_first_step(tmp_path):
    for path, sentence in [
        (tmp_path, "is a folder"),
        (tmp_path / "none" / "a.npz", "does not exist; make it"),
    ]:
        model = model_of()
        with pytest.raises(ValueError, match=sentence):
            mlp.fit(model, DATA, epochs=1, batch=32, checkpoint=path)
        assert model.optimizer.steps == 0
