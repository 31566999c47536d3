"""Schedules: each written out and against PyTorch's, warm-up, and what they refuse."""

import numpy as np
import pytest

import mlp
from mlp.schedules import schedule

EPOCHS = 25


AS_WRITTEN_OUT = {
    "constant": np.ones(EPOCHS),
    "step:every=4,gamma=0.5": np.repeat([1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64], 4)[:EPOCHS],
    "exponential:gamma=0.9": np.cumprod([1] + [0.9] * (EPOCHS - 1)),
    "linear:end=0.2": np.linspace(1, 0.2, EPOCHS + 1)[:-1],
    # Loshchilov and Hutter 2017 (SGDR), eq. 5, of eta_max = 1 and eta_min = 0.1
    "cosine:end=0.1": 0.1 + 0.5 * (1 - 0.1) * (1 + np.cos(np.arange(EPOCHS) / EPOCHS * np.pi)),
}


@pytest.mark.parametrize("name", AS_WRITTEN_OUT)
def test_a_schedule_is_what_it_is_written_out(name):
    ours = schedule(name)
    np.testing.assert_allclose([ours(e, EPOCHS) for e in range(EPOCHS)], AS_WRITTEN_OUT[name], rtol=1e-12)


@pytest.mark.parametrize("name", mlp.SCHEDULES)
def test_no_schedule_is_left_out_of_these(name):
    assert [written for written in AS_WRITTEN_OUT if written.partition(":")[0] == name]


def theirs(torch, name, optimizer):
    lr = torch.optim.lr_scheduler
    return {
        "constant": lambda: lr.ConstantLR(optimizer, factor=1.0),
        "step:every=4,gamma=0.5": lambda: lr.StepLR(optimizer, 4, 0.5),
        "exponential:gamma=0.9": lambda: lr.ExponentialLR(optimizer, 0.9),
        "linear:end=0.2": lambda: lr.LinearLR(optimizer, 1.0, 0.2, EPOCHS),
        "cosine:end=0.1": lambda: lr.CosineAnnealingLR(optimizer, EPOCHS, 0.1 * 0.3),
    }[name]()


@pytest.mark.parametrize("name", AS_WRITTEN_OUT)
def test_a_schedule_is_pytorchs(name):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    right, ours = theirs(torch, name, optimizer), schedule(name)
    for epoch in range(EPOCHS):
        assert 0.3 * ours(epoch, EPOCHS) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        right.step()


def test_warming_up_rises_by_equal_steps():
    warm = schedule("constant:warmup=3")
    assert [warm(epoch, 10) for epoch in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_a_training_follows_its_schedule_and_leaves_the_optimizer_its_own_lr():
    seen = []

    class Look(mlp.Callback):
        def after_step(self, step, loss):
            seen.append(model.optimizer.lr)

    data = mlp.load("synthetic", examples=100, features=4, classes=3)
    model = mlp.MLP([4, 3], lr=0.5, kernel="numba-micro")
    mlp.fit(model, data, epochs=3, batch=40, schedule="step:every=1,gamma=0.5", callbacks=[Look()])
    assert seen == [0.5, 0.5, 0.25, 0.25, 0.125, 0.125]
    assert model.optimizer.lr == 0.5
    plain = mlp.MLP([4, 3], lr=0.5, kernel="numba-micro")
    mlp.fit(plain, data, epochs=3, batch=40)
    assert not np.array_equal(plain.layers[0].weight, model.layers[0].weight)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("cosin", "unknown schedule 'cosin'; did you mean 'cosine'"),
        ("step:gama=0.5", "schedule step has no setting 'gama'; it has every, gamma, warmup"),
        ("step:every=0", "schedule step: every is '0'; it must be a whole number from 1"),
        ("step:every=1.5", "every is '1.5'; it must be a whole number from 1"),
        ("linear:end", "end is ''; it must be a number from 0"),
        ("linear:end=nan", "end is 'nan'; it must be a number from 0"),
    ],
)
def test_a_schedule_that_cannot_be_is_named(spec, sentence):
    with pytest.raises(ValueError, match=sentence):
        schedule(spec)
