"""The estimators beside scikit-learn's own: scores on held-out data of four data sets over ten seeds.

Run as `python -m bench.evidence.estimators [SEEDS]`. Each seed draws the split, the first weights and the order; both
get the same. In float64 on BLAS the two do the same arithmetic, so their scores hardly differ; in float32 on
`numba-micro` they round otherwise, and the difference is held against what another seed makes of scikit-learn's.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray
DATA = ("digits", "breast_cancer", "wine", "diabetes")  # the last is a regression: R^2, the others accuracy
OURS: dict[str, dict[str, Any]] = {
    "blas, float64": {"kernel": "blas"},
    "numba-micro, float32": {"kernel": "numba-micro", "dtype": "float32"},
}


@dataclass(frozen=True)
class Beside:
    """Scores on the held-out quarter, one for each seed: scikit-learn's and ours."""

    theirs: Array
    ours: Array

    @property
    def difference(self) -> float:
        """Of the means."""
        return float(self.ours.mean() - self.theirs.mean())

    @property
    def spread(self) -> float:
        """The standard deviation of scikit-learn's over the seeds."""
        return float(self.theirs.std(ddof=1))

    @property
    def level(self) -> bool:
        return abs(self.difference) <= self.spread


def beside(data: str, seeds: int, ours: dict[str, Any], **parameters: Any) -> Beside:
    """Fit scikit-learn's estimator and ours (with `ours` besides) to one of DATA, standardised, for each seed."""
    from sklearn import datasets, neural_network
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    import mlp

    x, y = getattr(datasets, f"load_{data}")(return_X_y=True)
    regression = data == "diabetes"
    if regression:
        y = (y - y.mean()) / y.std()
    name = "MLPRegressor" if regression else "MLPClassifier"
    scores = []
    for seed in range(seeds):
        x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.25, random_state=seed)
        scaler = StandardScaler().fit(x_train)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # of both alike
            fitted = [
                made(random_state=seed, **parameters, **more).fit(scaler.transform(x_train), y_train)
                for made, more in ((getattr(neural_network, name), {}), (getattr(mlp, name), ours))
            ]
        scores.append([estimator.score(scaler.transform(x_test), y_test) for estimator in fitted])
    theirs, own = np.array(scores).T
    return Beside(theirs, own)


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    out = sys.stdout.write
    out(f"score on a held-out quarter, mean and standard deviation over {seeds} seeds\n")
    for what, ours in OURS.items():
        for data in DATA:
            found = beside(data, seeds, ours)
            theirs = f"scikit-learn {found.theirs.mean():.4f} ({found.spread:.4f})"
            own = f"ours {found.ours.mean():.4f} ({found.ours.std(ddof=1):.4f})"
            verdict = "level" if found.level else "NOT LEVEL"
            out(f"{what:22}{data:15}{theirs:32}{own:24}difference {found.difference:+.5f}  {verdict}\n")


if __name__ == "__main__":
    main()
