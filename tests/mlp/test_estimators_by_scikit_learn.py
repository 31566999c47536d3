"""The estimators judged by scikit-learn: its checks of any estimator, and its tests of its own MLPs with our import."""

import types
from pathlib import Path

import pytest
from sklearn.neural_network.tests import test_mlp as theirs
from sklearn.utils.estimator_checks import parametrize_with_checks

import mlp

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
EACH = [
    estimator(max_iter=100, kernel=kernel)  # scikit-learn's own choice for these checks
    for estimator in (mlp.MLPClassifier, mlp.MLPRegressor)
    for kernel in ("blas", "numba-micro")
]


@parametrize_with_checks(EACH)
def test_every_check_of_scikit_learns_passes(estimator, check):
    """None is expected to fail. Its own skips: array_api, and a decision_function, which its MLPs lack too."""
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
