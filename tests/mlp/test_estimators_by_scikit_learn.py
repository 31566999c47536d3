"""The estimators judged by scikit-learn: its checks of any estimator, and its tests of its own MLPs with our import."""

import types
from pathlib import Path

import pytest
from sklearn.neural_network.tests import test_mlp as theirs
from sklearn.utils.estimator_checks import parametrize_with_checks

import mlp

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
SMALL = {"max_iter": 100}  # scikit-learn's own choice for these checks
REDUCED = {"hidden_layer_sizes": (10,), "max_iter": 20, "kernel": "numba-micro"}


@parametrize_with_checks([mlp.MLPClassifier(**SMALL), mlp.MLPRegressor(**SMALL)])
def test_every_check_of_scikit_learns_passes(estimator, check):
    check(estimator)


@parametrize_with_checks([mlp.MLPClassifier(**REDUCED), mlp.MLPRegressor(**REDUCED)])
def test_checks_pass_on_our_own_kernel(estimator, check):
    """Those that do not ask how well so small a network does."""
    if check.func.__name__ in ("check_classifiers_train", "check_regressors_train"):
        pytest.skip("20 epochs are too few for what it asks")
    check(estimator)


# Its tests of how its own code is made: calls of the private _loss_grad_lbfgs, and looks at the private _optimizer
# (what they test there, the loss curves of test_estimators.py do).
OF_ITS_CODE = {"test_gradient", "test_learning_rate_warmstart", "test_adaptive_learning_rate"}


def swapped():
    """scikit-learn's file of tests with its import swapped for ours, as a user would do it."""
    source = Path(theirs.__file__).read_text()
    line = "from sklearn.neural_network import MLPClassifier, MLPRegressor\n"
    assert source.count(line) == 1
    module = types.ModuleType("test_mlp_with_ours")
    exec(
        compile(
            source.replace(line, "from mlp import MLPClassifier, MLPRegressor\n"), theirs.__file__, "exec"
        ),
        vars(module),
    )
    return {name: value for name, value in vars(module).items() if name.startswith("test_")}


THEIRS = swapped()
assert set(THEIRS) > OF_ITS_CODE
globals().update({name: test for name, test in THEIRS.items() if name not in OF_ITS_CODE})


@pytest.fixture
def global_random_seed():
    """scikit-learn's conftest has it."""
    return 42
