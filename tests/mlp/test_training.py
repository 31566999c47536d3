"""Training: mini-batches, callbacks, history, and what it refuses."""

import ast
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mlp


@pytest.fixture
def data():
    return mlp.load("synthetic", examples=125, features=6, classes=3)


def test_a_sensible_network_learns_digits():
    model = mlp.MLP([64, 64, 10], lr=0.2)
    history = mlp.fit(model, mlp.load("digits"), epochs=15, batch=32)
    assert history.test_accuracy[-1] >= 0.95
    assert history.train_loss[-1] < 0.1 * history.train_loss[0]


def test_a_classifier_may_be_trained_by_squared_error():
    model = mlp.MLP([64, 64, 10], loss="squared-error", lr=0.1)
    assert mlp.fit(model, mlp.load("digits"), epochs=10, batch=32).test_accuracy[-1] >= 0.9


def test_a_one_layer_network_is_linear_regression():
    """Gradient steps end at the least-squares solution."""
    rng = np.random.default_rng(0)
    x, noise = rng.standard_normal((200, 3)), rng.standard_normal(200)
    y = x @ [1.0, -2.0, 0.5] + 3 + 0.1 * noise
    data = mlp.Dataset(x, y, x, y, None, "line")
    model = mlp.MLP([3, 1], loss="squared-error", dtype="float64", lr=0.2)
    history = mlp.fit(model, data, epochs=200, batch=200)
    best, *_ = np.linalg.lstsq(np.c_[x, np.ones(200)], y, rcond=None)
    np.testing.assert_allclose(np.r_[model.layers[0].weight[:, 0], model.layers[0].bias], best, rtol=1e-6)
    assert history.test_accuracy == [None] * 200


class Log(mlp.Callback):
    def __init__(self):
        self.events = []

    def before_epoch(self, epoch):
        self.events.append(("before", epoch))

    def after_step(self, step, loss):
        self.events.append(("step", step, loss))

    def after_epoch(self, epoch, history):
        self.events.append(("epoch", epoch, history.train_loss[-1], history.test_accuracy[-1]))


def test_callbacks_hear_of_every_step_and_epoch_and_the_history_holds_the_same(data):
    log = Log()
    history = mlp.fit(mlp.MLP([6, 3]), data, epochs=2, batch=30, callbacks=[mlp.Callback(), log])
    a, b = history.losses[:4], history.losses[4:]
    assert log.events == [
        ("before", 1),
        *(("step", i, loss) for i, loss in enumerate(a, start=1)),
        ("epoch", 1, history.train_loss[0], history.test_accuracy[0]),
        ("before", 2),
        *(("step", i, loss) for i, loss in enumerate(b, start=5)),
        ("epoch", 2, history.train_loss[1], history.test_accuracy[1]),
    ]
    assert history.train_loss[0] == pytest.approx(np.average(a, weights=[30, 30, 30, 10]))


def test_an_epoch_is_every_example_once_in_an_order_drawn_by_the_seed(data, monkeypatch):
    seen = []

    def step(self, x, y):
        seen.extend(zip(map(tuple, x.tolist()), y.tolist()))
        return 1.0

    monkeypatch.setattr(mlp.MLP, "step", step)
    for seed in (0, 0, 1):
        mlp.fit(mlp.MLP([6, 3]), data, epochs=1, batch=30, seed=seed)
    first, again, other = seen[:100], seen[100:200], seen[200:]
    everything = sorted(zip(map(tuple, data.x_train.tolist()), data.y_train.tolist()))
    assert first == again != other
    assert sorted(first) == sorted(other) == everything


def test_model_data_and_seed_determine_every_step_and_the_data_stays_as_it_was(data):
    before = data.x_train.copy()
    first, second = (mlp.fit(mlp.MLP([6, 8, 3]), data, epochs=2, batch=30, seed=7) for _ in range(2))
    assert first == second
    np.testing.assert_array_equal(data.x_train, before)


def test_the_trained_kernel_is_told_by_the_clock_only(data):
    def losses(kernel):
        return mlp.fit(mlp.MLP([6, 8, 3], kernel=kernel, dtype="float64"), data, epochs=2, batch=30).losses

    np.testing.assert_allclose(losses("python"), losses("blas"), rtol=1e-10)


@pytest.mark.parametrize("loss", mlp.LOSSES)
def test_divergence_says_at_which_step_and_what_to_try_and_keeps_the_steps_before(data, loss):
    model = mlp.MLP([6, 20, 20, 3], lr=1e12, loss=loss)
    with pytest.raises(
        mlp.DivergenceError, match=r"at step \d+ \(epoch \d+\); try a smaller lr than 1e\+12"
    ) as e:
        mlp.fit(model, data, epochs=9, batch=30)
    step = len(e.value.history.losses) + 1
    assert f"at step {step} " in str(e.value)
    assert all(np.isfinite(e.value.history.losses))


def changed(data, **parts):
    """The data with another array in the place of one; or with (row, column, value) changed in it."""
    made = {}
    for name, value in parts.items():
        if isinstance(value, tuple):
            *at, value_at = value
            value = getattr(data, name).astype(np.result_type(getattr(data, name), type(value_at)))
            value[tuple(at)] = value_at
        made[name] = value
    return replace(data, **made)


BAD_DATA = [
    ({"x_train": (41, 3, np.nan)}, "^nan in row 41, column 3 of the train examples of synthetic; every value must be"),
    ({"x_train": (99, 0, -np.inf)}, "^-inf in row 99, column 0 of the train examples"),
    ({"x_test": (7, 5, np.inf)}, "^inf in row 7, column 5 of the test examples"),
    ({"x_train": (3, 2, np.float64(1e300))}, r"^1e\+300 too large for float32 in row 3, column 2 of the train"),
    ({"x_train": np.full((100, 6), "a")}, "train examples of <U1; the network takes real numbers"),
    ({"x_train": np.ones((100, 6), complex)}, "train examples of complex128; the network takes real numbers"),
    ({"x_train": np.zeros((0, 6)), "y_train": np.zeros(0, int)}, "synthetic has no training examples"),
    ({"y_train": np.zeros(100)}, r"y is float64 of shape \(100,\); softmax-cross-entropy takes integer labels"),
    ({"y_train": np.full(100, "cat")}, "y is <U3 of shape .* takes integer labels"),
    ({"y_train": np.zeros((100, 3), int)}, r"y is int64 of shape \(100, 3\)"),
    ({"y_train": (17, 3)}, "^train examples of synthetic: label 3 in row 17 of y is out of range; labels run"),
    ({"y_test": (4, 9)}, "^test examples of synthetic: label 9 in row 4 of y"),
]  # fmt: skip


def test_a_target_that_is_no_number_is_named(data):
    """Of a regression too; its test part is not looked at."""
    targets = np.ones((100, 2))
    line = replace(data, y_train=targets, y_test=np.full((25, 2), np.nan), classes=None)
    model = mlp.MLP([6, 2], loss="squared-error")
    assert mlp.fit(model, line, epochs=1, batch=30).test_accuracy == [None]
    targets[60, 1] = np.nan
    with pytest.raises(ValueError, match="nan in row 60, column 1 of the targets of the train examples"):
        mlp.fit(model, line, epochs=1, batch=30)


def test_what_is_wrong_is_found_however_far_down_it_is():
    """The data is looked at in blocks; the row is that of the whole."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40_000, 20)).astype(np.float32), rng.integers(0, 3, 40_000)
    data = mlp.Dataset(x, y, x[:9], y[:9], 3, "long")
    y[39_990] = 3
    with pytest.raises(ValueError, match="label 3 in row 39990 of y"):
        mlp.fit(mlp.MLP([20, 3]), data, epochs=1, batch=100)
    x[39_000, 19] = np.nan
    with pytest.raises(ValueError, match="nan in row 39000, column 19"):
        mlp.fit(mlp.MLP([20, 3]), data, epochs=1, batch=100)


def test_bad_input_is_refused_before_the_first_step(data):
    model = mlp.MLP([6, 3])
    for options, sentence in [
        ({"batch": 0}, "batch is 0; it must be a whole number from 1"),
        ({"epochs": 0}, "epochs is 0"),
        ({"batch": 101}, "batch is 101, more than the 100 training examples of synthetic"),
        ({"model": mlp.MLP([7, 3])}, r"synthetic has train examples of shape \(100, 6\); the network 7-3"),
        ({"model": mlp.MLP([6, 2])}, "3 classes, the network 6-2 2 outputs"),
        ({"data": replace(data, y_train=data.y_train[1:])}, "100 train examples and 99 labels"),
        ({"data": replace(data, x_test=data.x_test[:, 1:])}, r"test examples of shape \(25, 5\)"),
        ({"data": replace(data, y_train=data.y_train - 1)}, "label -1 in row"),
        *(({"data": changed(data, **parts)}, sentence) for parts, sentence in BAD_DATA),
    ]:
        before = model.layers[0].weight.copy()
        with pytest.raises(ValueError, match=sentence):
            mlp.fit(**{"model": model, "data": data, "epochs": 1, "batch": 30, **options})
        np.testing.assert_array_equal(model.layers[0].weight, before)


def test_the_room_has_no_clock_and_multiplies_nothing_itself():
    """No import of time, no `@`, no dot or matmul of NumPy's: every product goes through gemm."""
    for path in Path(mlp.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not isinstance(node, ast.MatMult), path
            if isinstance(node, ast.Import | ast.ImportFrom):
                imported = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                assert not imported & {"time", "timeit", "datetime"}, path
            if isinstance(node, ast.Attribute) and ast.unparse(node) != "gemm.matmul":
                assert node.attr not in {"dot", "vdot", "matmul", "einsum", "inner", "tensordot"}, path


def test_the_accuracy_of_labels_in_a_column_is_refused():
    """They would be compared with every row."""
    model, x = mlp.MLP([4, 3]), np.eye(4, dtype=np.float32)
    with pytest.raises(
        ValueError, match=r"y has shape \(4, 1\); accuracy takes a label for each of the 4 rows"
    ):
        mlp.accuracy(model, x, np.zeros((4, 1), int))
