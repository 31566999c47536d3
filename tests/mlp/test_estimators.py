"""The estimators: scikit-learn's results on any kernel, and what is the lab's own about them."""

import gc
import inspect
import pickle
import re
import subprocess
import sys
import threading
import weakref
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csc_matrix, csr_matrix
from sklearn import neural_network as theirs
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import gemm
import mlp
from bench.evidence import estimators as evidence
from mlp import estimators
from mlp.model import MLP

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
RNG = np.random.default_rng(0)
X = RNG.standard_normal((130, 6))
SCORE = X @ RNG.standard_normal(6) + np.sin(2 * X[:, 0])
WEIGHTS = RNG.integers(0, 4, len(X)) / 2
NAMES = ("MLPClassifier", "MLPRegressor")
SMALL = {"hidden_layer_sizes": (8, 5), "max_iter": 12, "batch_size": 40, "random_state": 1}
# What may be learnt: (which estimator, y, its parameters)
TASKS = {
    "two classes": ("MLPClassifier", np.where(SCORE > 0, "yes", "no"), {}),
    "three classes": ("MLPClassifier", np.digitize(SCORE, [-1, 1]), {}),
    "multilabel": ("MLPClassifier", np.column_stack([SCORE > 0, X[:, 1] > 0, X[:, 2] > 1]).astype(int), {}),
    "one value": ("MLPRegressor", SCORE, {}),
    "two values": ("MLPRegressor", np.column_stack([SCORE, X[:, 1] ** 2]), {}),
    "counts": ("MLPRegressor", np.floor(np.exp(SCORE / 2)), {"loss": "poisson"}),
}
# How: every solver, schedule, activation, way of stopping and penalty at least once.
WAYS = {
    "adam": {},
    "adam, penalty": {"alpha": 3.0, "activation": "logistic", "beta_1": 0.8, "epsilon": 1e-3},
    "adam, in order": {"shuffle": False, "activation": "identity", "batch_size": "auto"},
    "adam, held out": {"early_stopping": True, "n_iter_no_change": 2, "tol": 0.01},
    "nesterov": {"solver": "sgd", "learning_rate_init": 0.01, "alpha": 1.0},
    "momentum, invscaling": {
        "solver": "sgd", "nesterovs_momentum": False, "learning_rate": "invscaling", "power_t": 0.2,
        "learning_rate_init": 0.05, "activation": "tanh",
    },
    "nesterov, adaptive": {
        "solver": "sgd", "learning_rate": "adaptive", "tol": 0.5, "n_iter_no_change": 1,
        "learning_rate_init": 0.01, "activation": "logistic",
    },
    "plain sgd": {"solver": "sgd", "momentum": 0, "learning_rate_init": 0.05, "alpha": 1.0},
    "lbfgs": {"solver": "lbfgs", "activation": "tanh", "alpha": 0.1},
}  # fmt: skip

# There scikit-learn's loss is divided by the number of outputs and its gradient is not; a test of its own below.
APART = ("two values", "lbfgs")


def pair(task, **parameters):
    """scikit-learn's estimator and ours for a task, and y."""
    name, y, own = TASKS[task]
    parameters = SMALL | own | parameters
    return getattr(theirs, name)(**parameters), getattr(mlp, name)(**parameters), y


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_scikit_learns_in_its_order_with_its_default_and_two_are_ours(name):
    ours, right = (
        list(inspect.signature(getattr(where, name)).parameters.values()) for where in (mlp, theirs)
    )
    assert ours[:-2] == right
    assert [(p.name, p.default) for p in ours[-2:]] == [("kernel", "blas"), ("dtype", None)]


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["alike", "weighted"])
@pytest.mark.parametrize(("task", "way"), [which for which in product(TASKS, WAYS) if which != APART])
def test_the_same_seed_gives_scikit_learns_losses_weights_and_predictions(task, way, weights):
    """To rounding, with every solver, schedule, activation, penalty and way of stopping."""
    right, ours, y = pair(task, **WAYS[way])
    right.fit(X, y, weights)
    ours.fit(X, y, weights)
    for attribute in ("loss_", "loss_curve_", "best_loss_", "validation_scores_", "best_validation_score_"):
        expected = getattr(right, attribute, None)
        if expected is None:
            assert getattr(ours, attribute, None) is None
        else:
            np.testing.assert_allclose(getattr(ours, attribute), expected, rtol=1e-8, err_msg=attribute)
    for attribute in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(ours, attribute) == getattr(right, attribute), attribute
    for attribute in ("coefs_", "intercepts_"):
        for one, other in zip(getattr(ours, attribute), getattr(right, attribute)):
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-8)
    if hasattr(right, "predict_proba"):
        np.testing.assert_array_equal(ours.predict(X), right.predict(X))
        np.testing.assert_allclose(ours.predict_proba(X), right.predict_proba(X), rtol=1e-6)
        np.testing.assert_allclose(ours.predict_log_proba(X), right.predict_log_proba(X), rtol=1e-5)
    else:
        np.testing.assert_allclose(ours.predict(X), right.predict(X), rtol=1e-6, atol=1e-8)


def test_lbfgs_on_several_outputs_minimises_what_it_is_given_the_gradient_of():
    """scikit-learn's loss is there a mean over the outputs and its gradient that of the sum; ours comes lower."""
    smooth = {"solver": "lbfgs", "activation": "tanh", "max_iter": 3000, "tol": 1e-6, "alpha": 1.0}
    right, ours, y = pair("two values", **smooth)

    def minimised(fitted):
        penalty = sum((w**2).sum() for w in fitted.coefs_) * fitted.alpha / (2 * len(X))
        return ((fitted.predict(X) - y) ** 2).sum() / (2 * len(X)) + penalty

    assert minimised(ours.fit(X, y)) < minimised(right.fit(X, y))
    gradients = ours._network().gradients(X, y)
    for w, dw in zip(ours.coefs_, gradients[::2]):  # it stops where a step gains 2e-9
        assert np.abs(dw + ours.alpha / len(X) * w).max() < 1e-3


@pytest.mark.parametrize("data", evidence.DATA)
def test_scores_are_level_with_scikit_learns_on_our_own_kernel(data):
    """Quickly, in float32; over ten seeds and as many epochs as they like: python -m bench.evidence.estimators."""
    quick = {"hidden_layer_sizes": (16,), "learning_rate_init": 0.01, "max_iter": 15}
    found = evidence.beside(data, 3, {"kernel": "numba-micro", "dtype": "float32"}, **quick)
    assert abs(found.difference) <= found.spread
    assert found.theirs.min() > (0.1 if data == "diabetes" else 0.85)


@pytest.mark.parametrize("way", ["adam", "nesterov", "lbfgs"])
def test_the_kernel_changes_the_clock_and_not_the_learning(kernel, way):
    _, ours, y = pair("three classes", max_iter=3, **{k: v for k, v in WAYS[way].items() if k != "max_iter"})
    right = clone(ours).fit(X, y)
    ours.set_params(kernel=kernel).fit(X, y)
    assert ours.loss_ == pytest.approx(right.loss_, rel=1e-10)
    np.testing.assert_allclose(ours.predict_proba(X), right.predict_proba(X), rtol=1e-8)


@pytest.mark.parametrize("kernel", ["blas", "numba-micro", {"*": "blas", "1.dW": "numba-ikj"}], ids=str)
def test_the_same_data_seed_and_kernel_give_the_same_bits(kernel):
    _, first, y = pair("three classes", early_stopping=True)
    second = clone(first.set_params(kernel=kernel))
    assert first.fit(X, y).loss_curve_ == second.fit(X, y).loss_curve_
    assert all((a == b).all() for a, b in zip(first.coefs_, second.coefs_))
    assert (first.predict_proba(X) == second.predict_proba(X)).all()


def test_every_product_of_fitting_and_predicting_is_the_kernels():
    """Two layers: five products a step, two a prediction."""
    count = 0

    def multiply(a, b, c, *, alpha, beta, epilogue):
        nonlocal count
        count += 1
        gemm.matmul(a, b, c, kernel="blas", alpha=alpha, beta=beta, epilogue=epilogue)

    counting = gemm.Kernel(name="counting", idea="counts", load=lambda: multiply)
    ours = mlp.MLPRegressor(hidden_layer_sizes=(4,), batch_size=50, max_iter=2, kernel=counting).fit(X, SCORE)
    assert count == 2 * 3 * 5  # epochs, batches of 130, products
    ours.predict(X)
    assert count == 30 + 2
    ours.set_params(solver="lbfgs", max_iter=1).fit(X, SCORE)
    assert (count - 32) % 5 == 0
    assert count > 32


@pytest.mark.parametrize("way", ["adam", "lbfgs"])
@pytest.mark.parametrize("sparse", [csr_matrix, csc_matrix])
def test_a_sparse_x_gives_what_a_dense_one_does_and_is_never_dense_as_a_whole(way, sparse, monkeypatch):
    x = np.where(np.abs(X) > 1, X, 0)
    _, ours, y = pair("three classes", **WAYS[way])
    dense = clone(ours).fit(x, y, WEIGHTS)
    monkeypatch.setattr(estimators, "ROWS", 48)
    rows, toarray = [], csr_matrix.toarray

    def counted(self, *args, **kwargs):
        rows.extend(self.shape[:1] if self.shape[1] == x.shape[1] else [])  # y is made dense too
        return toarray(self, *args, **kwargs)

    monkeypatch.setattr(csr_matrix, "toarray", counted)
    ours.fit(sparse(x), y, WEIGHTS)
    assert max(rows) == {"adam": 40, "lbfgs": 48}[way]
    assert ours.loss_ == pytest.approx(dense.loss_, rel=1e-10)
    np.testing.assert_allclose(ours.predict_proba(sparse(x)), dense.predict_proba(x), rtol=1e-6)
    assert max(rows) <= 48


@pytest.mark.parametrize("way", ["adam", "momentum, invscaling", "plain sgd"])
def test_partial_fit_goes_on_where_it_was_also_after_pickling_and_on_another_kernel(way):
    """The optimizer's moments, steps and learning rate are kept: the same bits, or on another kernel to rounding."""
    right, ours, y = pair("three classes", **WAYS[way])
    for _ in range(3):
        ours.partial_fit(X, y, classes=[0, 1, 2])
        right.partial_fit(X, y, classes=[0, 1, 2])
    kept = pickle.loads(pickle.dumps(ours))
    moved = pickle.loads(pickle.dumps(ours)).set_params(kernel="numba-micro")
    np.testing.assert_array_equal(kept.predict_proba(X), ours.predict_proba(X))
    for _ in range(3):
        for each in (ours, kept, moved, right):
            each.partial_fit(X, y)
    assert kept.loss_curve_ == ours.loss_curve_
    np.testing.assert_allclose(moved.loss_curve_, right.loss_curve_, rtol=1e-9)
    np.testing.assert_allclose(ours.loss_curve_, right.loss_curve_, rtol=1e-9)


def test_partial_fit_takes_weights_at_one_call_and_none_at_the_next():
    right, ours, y = pair("one value")
    for weights in (None, WEIGHTS, None):
        for each in (ours, right):
            each.partial_fit(X, y, weights)
    np.testing.assert_allclose(ours.loss_curve_, right.loss_curve_, rtol=1e-10)


def test_a_warm_start_goes_on_with_another_solver():
    _, ours, y = pair("one value", solver="lbfgs", warm_start=True)
    before = ours.fit(X, y).loss_
    assert ours.set_params(solver="adam", max_iter=20).fit(X, y).loss_ < before
    assert len(ours.loss_curve_) == ours.n_iter_
    ours.set_params(early_stopping=True).fit(X, y)
    assert len(ours.validation_scores_) == ours.n_iter_


def test_weights_that_are_set_by_hand_are_those_that_predict_and_that_learn():
    right, ours, y = pair("one value")
    for each in (right, ours):
        each.fit(X, y)
        each.coefs_ = [np.full_like(w, 0.1) for w in each.coefs_]
        each.intercepts_ = [np.zeros_like(b) for b in each.intercepts_]
    np.testing.assert_allclose(ours.predict(X), right.predict(X), rtol=1e-12)
    for each in (right, ours):
        each.partial_fit(X, y)
    np.testing.assert_allclose(ours.predict(X), right.predict(X), rtol=1e-10)


def test_dtype_is_that_of_x_or_the_one_that_is_asked_for():
    y = TASKS["three classes"][1]
    for x, dtype, found in [
        (X, None, "float64"),
        (X.astype("float32"), None, "float32"),
        (X.astype("float32"), "float64", "float64"),
        (X, np.float32, "float32"),
        ((10 * X).astype(int), None, "float64"),
    ]:
        fitted = mlp.MLPClassifier(**SMALL, dtype=dtype).fit(x, y)
        assert {array.dtype.name for array in fitted.coefs_ + fitted.intercepts_} == {found}
        assert fitted.predict_proba(x).dtype == found


@pytest.mark.parametrize(
    ("parameters", "error", "sentence"),
    [
        ({"kernel": "numba-mirco"}, gemm.UnknownKernel, "numba-micro"),
        ({"kernel": {"4": "blas"}}, ValueError, "names layer 4; this network has layers 1 to 3"),
        ({"kernel": 3}, ValueError, "kernel must be a name, a gemm.Kernel or a mapping of them, not 3"),
        ({"dtype": "float16"}, ValueError, "dtype float16 is not one that networks are trained in"),
        ({"dtype": "single precision"}, ValueError, "unknown dtype 'single precision'"),
        ({"alpha": -1}, ValueError, "The 'alpha' parameter of MLPRegressor must be a float in the range"),
        ({"loss": "poisson"}, ValueError, r"y has -\S+; loss='poisson' takes numbers from 0"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence_and_nothing_is_fitted(parameters, error, sentence):
    ours = mlp.MLPRegressor(**{**SMALL, **parameters})
    with pytest.raises(error, match=sentence):
        ours.fit(X, SCORE)
    assert not hasattr(ours, "coefs_")


def test_weights_that_do_not_stay_finite_stop_the_training_and_say_what_to_try():
    ours = mlp.MLPRegressor(**{**SMALL, "max_iter": 10**6}, solver="sgd", learning_rate_init=1e9)
    with pytest.raises(
        ValueError, match=r"non-finite .* iteration \d+, and learning_rate_init=1e\+09 may be"
    ):
        ours.fit(X, SCORE)
    assert ours.n_iter_ < 100


def test_ctrl_c_ends_the_training_and_leaves_what_was_learnt(monkeypatch):
    steps, step = [], MLP.step

    def interrupted(self, x, y):
        steps.append(len(x))
        if len(steps) == 7:
            raise KeyboardInterrupt
        return step(self, x, y)

    monkeypatch.setattr(MLP, "step", interrupted)
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        ours = mlp.MLPRegressor(**SMALL).fit(X, SCORE)
    assert ours.n_iter_ == len(ours.loss_curve_) == 1  # of four batches each
    assert np.isfinite(ours.predict(X)).all()


def test_stopping_before_it_is_better_warns():
    for solver in ("adam", "lbfgs"):
        with pytest.warns(ConvergenceWarning, match="converge"):
            mlp.MLPRegressor(**SMALL, solver=solver).fit(X, SCORE)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_verbose_says_the_loss_of_every_iteration(solver, capsys):
    ours = mlp.MLPRegressor(**SMALL, solver=solver, verbose=True).fit(X, SCORE)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == [f"Iteration {i + 1}" for i in range(ours.n_iter_)]
    assert lines[-1].endswith(f"loss = {ours.loss_:.8f}")


def test_threads_may_predict_at_the_same_time():
    ours = mlp.MLPRegressor(**SMALL).fit(X, SCORE)
    inputs = [X * scale for scale in (1, 2, 3, 4)]
    right, wrong = [ours.predict(x) for x in inputs], []

    def predict(which):
        for _ in range(50):
            if (ours.predict(inputs[which]) != right[which]).any():
                wrong.append(which)

    threads = [threading.Thread(target=predict, args=(which,)) for which in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_fitted_estimator_keeps_no_example_alive(solver):
    x = X.copy()
    alive = weakref.ref(x)
    ours = mlp.MLPRegressor(**SMALL, solver=solver).fit(x, SCORE)
    ours.predict(x)
    del x
    gc.collect()
    assert alive() is None


def test_it_stands_in_a_pipeline_under_cross_validation():
    line = make_pipeline(StandardScaler(), mlp.MLPClassifier((16,), learning_rate_init=0.02, random_state=0))
    assert cross_val_score(line, X, TASKS["two classes"][1], cv=3).mean() > 0.8


def test_the_readmes_example_runs_with_either_import(capsys):
    """Ours as it is printed, and scikit-learn's, which must give the same score."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (code,) = re.findall(r"```python\n(from mlp import MLPClassifier.*?)```", readme, flags=re.DOTALL)
    exec(code, {})
    right = code.replace("from mlp import", "from sklearn.neural_network import")
    exec(right.replace(', kernel="numba-micro"', ""), {})
    ours, expected = map(float, capsys.readouterr().out.split())
    assert ours == pytest.approx(expected, abs=0.01)
    assert ours > 0.95


def test_mlp_has_the_estimators_and_loads_scikit_learn_when_they_are_asked_for():
    code = (
        "import mlp, sys; print('sklearn' in sys.modules); mlp.MLPRegressor; print('sklearn' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
    with pytest.raises(AttributeError, match="module 'mlp' has no attribute 'MLPTransformer'"):
        mlp.MLPTransformer
