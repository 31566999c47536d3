"""Linear models are networks of one layer: each against scikit-learn's own, on its data, at the optimum.

The networks are the calls that the README's table names, evaluated from there. scikit-learn sums a loss over its n
examples where ours is a mean, so its C sum + 1/2 |w|^2 is, divided by C n, our loss + 1 / (2 C n) |w|^2.
"""

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize, root
from sklearn import datasets
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

import mlp

README = (Path(__file__).parents[2] / "README.md").read_text()


@cache
def data(name):
    """x (standardised) and y of a data set of scikit-learn's, float64 and integers; a regression's y is float64."""
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return StandardScaler().fit_transform(x), y


def network(row, d, k=1, **options):
    """The network that the README's row of that name calls for: d features, k outputs."""
    call = re.search(rf"^\| {row} \|.*?`mlp\.MLP\((.*?)\)`", README, re.MULTILINE)
    return eval(f"mlp.MLP({call[1]}, dtype='float64', **options)", {"mlp": mlp, "d": d, "k": k} | locals())


def flat(arrays):
    return np.concatenate([array.ravel() for array in arrays])


def objective(model, x, y, penalty=0.0, on_bias=False):
    """The loss and its penalty / 2 |W|^2, and the derivatives: what L-BFGS is given."""
    (w, b), (dw, db) = model.parameters(), model.gradients(x, y)
    value = model.evaluate(x, y) + penalty / 2 * (np.sum(w * w) + on_bias * np.sum(b * b))
    return value, flat([dw + penalty * w, db + penalty * on_bias * b])


def have(model, weight, bias):
    """Give the model these."""
    for own, given in zip(model.parameters(), (weight, bias)):
        own[...] = np.reshape(given, own.shape)


def train(model, x, y, penalty=0.0):
    """To the optimum, by SciPy's L-BFGS on the model's own gradients; returns the objective there.

    The last of the way by the gradients alone: at 1e-8 of the first slope rounding hides that the loss still falls.
    """
    split = model.layers[0].weight.size

    def at(theta):
        have(model, theta[:split], theta[split:])
        return objective(model, x, y, penalty)

    start = flat(model.parameters())
    steepest = np.abs(at(start)[1]).max()
    options = {"ftol": 0, "gtol": 1e-10 * steepest, "maxiter": 20000}
    best = minimize(at, start, jac=True, method="L-BFGS-B", options=options)
    polished = root(lambda theta: at(theta)[1], best.x, method="krylov", options={"fatol": 1e-10 * steepest})
    value, slope = at(polished.x)
    assert np.abs(slope).max() < 1e-8 * steepest  # there it is flat: not stopped on the way
    return value


def agree(model, theirs, x, y, penalty, ours, tolerance=1e-6):
    """Coefficients, intercepts and objective are scikit-learn's: to `tolerance`, the last to its square."""
    weight, bias = (p.copy() for p in model.parameters())
    scale = np.abs(theirs.coef_).max()
    np.testing.assert_allclose(weight, np.reshape(theirs.coef_, (-1, len(weight))).T, atol=tolerance * scale)
    np.testing.assert_allclose(
        bias, np.ravel(theirs.intercept_), atol=tolerance * max(scale, np.abs(bias).max())
    )
    have(model, np.reshape(theirs.coef_, (-1, len(weight))).T, theirs.intercept_)
    assert objective(model, x, y, penalty)[0] == pytest.approx(ours, rel=max(tolerance**2, 1e-12))
    have(model, weight, bias)


def test_linear_regression_by_plain_gradient_descent():
    """Steps of the network itself, on the whole of the data: coefficients to 1e-6 of the largest."""
    x, y = data("diabetes")
    theirs = LinearRegression().fit(x, y)
    model = network("linear regression", x.shape[1], optimizer="nesterov", lr=0.2)
    for _ in range(2000):
        model.step(x, y)
    agree(model, theirs, x, y, 0, model.evaluate(x, y))
    np.testing.assert_allclose(model.predict(x)[:, 0], theirs.predict(x), rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 10.0])
def test_linear_and_ridge_regression(alpha):
    """Ridge's |y - z|^2 + alpha |w|^2, divided by 2 n."""
    x, y = data("diabetes")
    theirs = Ridge(alpha).fit(x, y) if alpha else LinearRegression().fit(x, y)
    model, penalty = network("ridge regression", x.shape[1]), alpha / len(x)
    agree(model, theirs, x, y, penalty, train(model, x, y, penalty))
    assert model.evaluate(x, y) * 2 == pytest.approx(np.mean((theirs.predict(x) - y) ** 2), rel=1e-8)


def test_logistic_regression_of_two_classes():
    x, y = data("breast_cancer")
    theirs = LogisticRegression(C=1.0, solver="newton-cg", tol=1e-10).fit(x, y)
    model, penalty = network("logistic regression", x.shape[1]), 1 / len(x)
    agree(model, theirs, x, y, penalty, train(model, x, y, penalty))
    np.testing.assert_array_equal(model.predict(x), theirs.predict(x))
    odds = theirs.predict_log_proba(x)
    np.testing.assert_allclose(model.forward(x)[:, 0], odds[:, 1] - odds[:, 0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "c"), [("wine", 1.0), ("digits", 0.01)])
def test_softmax_regression(name, c):
    """A number added to every bias changes no probability, so biases are compared around their mean."""
    x, y = data(name)
    theirs = LogisticRegression(C=c, solver="newton-cg", tol=1e-10, max_iter=1000).fit(x, y)
    model, penalty = network("softmax regression", x.shape[1], y.max() + 1), 1 / (c * len(x))
    ours = train(model, x, y, penalty)
    theirs.intercept_ -= theirs.intercept_.mean()
    bias = model.layers[0].bias
    bias -= bias.mean()
    agree(model, theirs, x, y, penalty, ours)
    np.testing.assert_array_equal(model.predict(x), theirs.predict(x))


def test_logistic_regression_of_each_class_against_the_rest():
    x, y = data("wine")
    rest = OneVsRestClassifier(LogisticRegression(C=1.0, solver="newton-cg", tol=1e-10)).fit(x, y)
    model, penalty = mlp.MLP([x.shape[1], 3], loss="logistic", dtype="float64"), 1 / len(x)
    train(model, x, y, penalty)
    for at, theirs in enumerate(rest.estimators_):
        np.testing.assert_allclose(model.layers[0].weight[:, at], theirs.coef_[0], atol=1e-5)
        np.testing.assert_allclose(model.layers[0].bias[at], theirs.intercept_[0], atol=1e-5)
    np.testing.assert_array_equal(model.predict(x), rest.predict(x))


def descend(model, x, y, penalty, steps=8000):
    """Subgradient steps with the rate 2 / (penalty (t + 1)), and the mean of the iterates weighted by t.

    The network's own steps, whose weight_decay is the penalty, on weights and bias alike. The distance to the optimum
    of a strongly convex function falls as 1 / t (Lacoste-Julien, Schmidt and Bach 2012).
    """
    means = [np.zeros_like(p) for p in model.parameters()]
    for t in range(1, steps + 1):
        model.optimizer.lr = 2 / (penalty * (t + 1))
        model.step(x, y)
        for mean, p in zip(means, model.parameters()):
            mean += 2 / (t + 1) * (p - mean)
    have(model, *means)


@pytest.mark.parametrize(("name", "k"), [("breast_cancer", 1), ("wine", 3)])
def test_the_linear_svm(name, k):
    """LinearSVC's penalty is on the bias too. Subgradients come within 1e-5 of its optimum, and not below it."""
    x, y = data(name)
    c = 5 / len(x)
    theirs = LinearSVC(C=c, loss="hinge", tol=1e-8, max_iter=10**6, random_state=0).fit(x, y)
    penalty = 1 / (c * len(x))
    model = network("linear SVM", x.shape[1], k, weight_decay=penalty)
    descend(model, x, y, penalty)
    ours, _ = objective(model, x, y, penalty, on_bias=True)
    predicted, weight = model.predict(x), model.layers[0].weight.copy()
    np.testing.assert_allclose(weight, theirs.coef_.T, atol=0.002 * np.abs(theirs.coef_).max())
    assert np.mean(predicted == theirs.predict(x)) > 0.99
    have(model, theirs.coef_.T, theirs.intercept_)
    best, _ = objective(model, x, y, penalty, on_bias=True)
    assert best * (1 - 1e-9) <= ours <= best * (1 + 1e-5)


@pytest.mark.parametrize(
    ("svm", "on_bias"),
    [(LinearSVC(C=0.01, loss="hinge", tol=1e-8, max_iter=10**6, random_state=0), True),
     (SVC(C=0.01, kernel="linear", tol=1e-10), False)],
    ids=["LinearSVC, a penalty on the bias too", "SVC, none on the bias"],
)  # fmt: skip
def test_around_an_svm_of_scikit_learns_our_objective_rises_in_every_direction(svm, on_bias):
    """A convex function that rises in every direction from somewhere has its least value there."""
    x, y = data("breast_cancer")
    svm.fit(x, y)
    model, penalty = network("linear SVM", x.shape[1]), 1 / (svm.C * len(x))
    best = [svm.coef_.T, svm.intercept_]
    have(model, *best)
    least, _ = objective(model, x, y, penalty, on_bias)
    rng = np.random.default_rng(0)
    for length in (1e-4, 1e-2):
        for _ in range(200):
            aside = [rng.standard_normal(p.shape) for p in model.parameters()]
            aside = [length * a / np.sqrt(sum(np.sum(d * d) for d in aside)) for a in aside]
            have(model, *(b + a for b, a in zip(best, aside)))
            assert objective(model, x, y, penalty, on_bias)[0] > least - 1e-12
    have(model, best[0], best[1] + 0.01)  # the same, by hand, along the bias alone
    assert objective(model, x, y, penalty, on_bias)[0] > least
