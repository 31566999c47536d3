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


KILLED = """
import sys, mlp
data = mlp.load("synthetic", examples=200, features=6, classes=3)
model = mlp.MLP([6, 9, 3], optimizer="adam", kernel="numba-micro")
class Tell(mlp.Callback):
    def after_step(self, step, loss):
        print(step, flush=True)
mlp.fit(model, data, epochs=40, batch=32, checkpoint=sys.argv[1], callbacks=[Tell()])
"""


def test_a_training_that_was_killed_goes_on(tmp_path):
    """At a step of its choosing, in the middle of an epoch; the file is whole."""
    at = tmp_path / "training.npz"
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(at)], stdout=subprocess.PIPE, text=True)
    last = int(np.random.default_rng().integers(12, 100))
    for line in child.stdout:
        if int(line) == last:
            os.kill(child.pid, signal.SIGKILL)
            break
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    resumed, whole = model_of(), model_of()
    mlp.fit(resumed, DATA, epochs=40, batch=32, checkpoint=at, resume=True)
    mlp.fit(whole, DATA, epochs=40, batch=32)
    for ours, right in zip(resumed.parameters(), whole.parameters()):
        np.testing.assert_array_equal(ours, right)


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


def test_another_training_is_not_resumed(tmp_path):
    at = tmp_path / "training.npz"
    mlp.fit(model_of(), DATA, epochs=1, batch=32, checkpoint=at)
    with pytest.raises(ValueError, match="is of a training whose batch is 32, not 16"):
        mlp.fit(model_of(), DATA, epochs=2, batch=16, checkpoint=at, resume=True)
