"""scikit-learn: MLPClassifier.partial_fit on one batch, which is one step of its SGD."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray


def make(
    model: dict[str, Any], weights: Sequence[Array], x: Array, y: Array, threads: int
) -> Callable[[], float]:
    """See bench.peers. The threads are the BLAS's, which the process was started with."""
    from sklearn.neural_network import MLPClassifier

    widths = [w.shape[1] for w in weights[::2]]
    classifier = MLPClassifier(
        hidden_layer_sizes=widths[:-1],
        activation={"sigmoid": "logistic"}.get(model["activation"], model["activation"]),
        solver="sgd", alpha=0.0, batch_size=len(x), learning_rate_init=model["lr"], momentum=0.0, shuffle=False,
    )  # fmt: skip
    classes = np.arange(widths[-1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        classifier.partial_fit(x, y, classes=classes)  # makes its arrays
    for at, (w, b) in enumerate(zip(weights[::2], weights[1::2])):
        classifier.coefs_[at][...], classifier.intercepts_[at][...] = w, b

    def step() -> float:
        classifier.partial_fit(x, y)
        return float(classifier.loss_)

    return step
