"""Estimators: scikit-learn's MLPClassifier and MLPRegressor, every product of them on any kernel.

    from mlp import MLPClassifier          # was: from sklearn.neural_network import MLPClassifier

Parameters, fitted attributes, manners and random numbers are scikit-learn's: with the same `random_state` the same
weights are drawn, the same examples meet in a batch and the same rules are followed, so that the loss curve is
scikit-learn's to rounding. How it is computed is ours: `MLP.step` for sgd and adam, and for lbfgs
`MLP.loss_and_gradients` under SciPy's L-BFGS-B.

alpha: a batch whose examples weigh n in all (n of them, without sample weights) has the loss

    mean of the examples' losses  +  alpha / (2 n) sum |W_l|^2

of which the second part is the weight decay alpha / n of the weights, and of no bias.

`import mlp` does not import this file, which needs scikit-learn; `mlp.MLPClassifier` does.
"""

from __future__ import annotations

import math
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import chain as flatten
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import issparse
from scipy.special import expit, softmax
from sklearn import neural_network as theirs
from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import check_random_state, column_or_1d, gen_batches, shuffle
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from gemm.program import chain
from mlp import native
from mlp.assignment import assign
from mlp.layers import Dense
from mlp.losses import Weighted, weighted
from mlp.model import MLP, dtype_of
from mlp.optimizers import RULES, Optimizer

Array = np.ndarray
# How far an optimizer is: its name, numbers, steps, and the arrays of state of every parameter.
Progress = tuple[str, list[float], int, list[list[Array]]]
# Rows that are computed at a time where all are asked for: a sparse X is made dense so many at a time.
ROWS = 1024
ACTIVATIONS = {"logistic": "sigmoid"}  # scikit-learn's name: ours; the others have the same
LOSSES = {
    "softmax": "softmax-cross-entropy",
    "logistic": "logistic",
    "identity": "squared-error",
    "exp": "poisson",
}
# What follows the last layer's Z in a prediction.
OUTPUTS: dict[str, Callable[[Array], Array]] = {
    "softmax": lambda z: softmax(z, axis=1),
    "logistic": expit,
    "identity": lambda z: z,
    "exp": np.exp,
}
# What the lab's own parameters may be is said by those who take them.
OURS = {"kernel": "no_validation", "dtype": "no_validation"}


def _is_stochastic(estimator: Any) -> bool:
    if estimator.solver == "lbfgs":
        raise AttributeError(
            "partial_fit is only available for stochastic optimizers. lbfgs is not stochastic."
        )
    return True


class _Perceptron(BaseEstimator):
    """What the two have in common. A subclass says how X and y are checked and what is predicted.

    Beside the attributes that scikit-learn documents:

    _model     the network: after a fit its parameters are coefs_ and intercepts_ themselves. It is made anew when it is
               needed and not there (after unpickling) or set_params has changed the kernel
    _as_made   what it was made from
    _progress  where the optimizer of a network that is gone has been: a partial_fit goes on from there
    _lock      see _turn
    """

    _model: MLP | None = None
    _as_made: Any = None
    _progress: Progress | None = None

    def __init__(
        self,
        hidden_layer_sizes=(100,),
        activation="relu",
        *,
        solver="adam",
        alpha=0.0001,
        batch_size="auto",
        learning_rate="constant",
        learning_rate_init=0.001,
        power_t=0.5,
        max_iter=200,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        verbose=False,
        warm_start=False,
        momentum=0.9,
        nesterovs_momentum=True,
        early_stopping=False,
        validation_fraction=0.1,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        n_iter_no_change=10,
        max_fun=15000,
        kernel="blas",
        dtype=None,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.kernel = kernel
        self.dtype = dtype

    def __getstate__(self) -> dict[str, Any]:
        state = {**super().__getstate__()}
        if self._model is not None:
            state["_progress"] = _progress_of(self._model)
        return {name: value for name, value in state.items() if name not in ("_model", "_lock")}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # What a subclass says

    def _output(self) -> str:
        """What follows the last layer: a name of OUTPUTS."""
        raise NotImplementedError

    def _checked(self, X: Any, y: Any, first: bool, incremental: bool) -> tuple[Any, Array]:
        """X as it is trained on, y as (samples, outputs)."""
        raise NotImplementedError

    def _scored(self, x: Any, y: Array, weights: Array | None) -> float:
        """The score on examples that were held out."""
        raise NotImplementedError

    # Fitting

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train the network on X (n_samples, n_features), dense or sparse, and y; returns the estimator.

        y              labels (n_samples,) or indicators (n_samples, n_classes); of a regression, numbers (n_samples,)
                       or (n_samples, n_outputs)
        sample_weight  (n_samples,): how much an example counts

        With warm_start it goes on from the weights of the last fit. Raises ValueError for data or parameters that
        cannot be (scikit-learn's InvalidParameterError is one), and where the weights do not stay finite;
        gemm.UnknownKernel and gemm.KernelUnavailable for a kernel.
        """
        return self._fit(X, y, sample_weight, incremental=False)

    def _fit(self, X: Any, y: Any, sample_weight: Any, incremental: bool) -> Any:
        self._validate_params()
        sizes = self.hidden_layer_sizes
        hidden = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if any(size <= 0 for size in hidden):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {hidden}.")
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        assign(self.kernel, [Dense.products] * (len(hidden) + 1))  # before anything is changed
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        x, y = self._checked(X, y, first, incremental)
        weights = None
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, x, dtype=np.float64)
        self.n_outputs_ = y.shape[1]
        rng = check_random_state(self.random_state)
        if first:
            self._initialize([x.shape[1], *hidden, y.shape[1]], x.dtype, rng)
        if not incremental:
            self._model = self._progress = None
        model = self._network(weights is not None)
        parameters = model.parameters()
        self.coefs_, self.intercepts_ = parameters[::2], parameters[1::2]
        x = (x.tocsr() if issparse(x) else x).astype(model.dtype, copy=False)
        with self._turn(), np.errstate(over="ignore", invalid="ignore"):  # the weights say so
            if self.solver == "lbfgs":
                self._minimize(model, x, y, weights)
            else:
                self._descend(model, x, y, weights, rng, incremental)
        if not incremental:
            model.release()
        self._check_finite()
        return self

    def _initialize(self, units: Sequence[int], dtype: np.dtype, rng: np.random.RandomState) -> None:
        """Weights and biases before the first step, in scikit-learn's order: uniform, the variance of Glorot and Bengio
        2010, or a third of it before a sigmoid."""
        self.n_iter_ = self.t_ = 0
        self.n_layers_ = len(units)
        self.out_activation_ = self._output()
        self.coefs_, self.intercepts_ = [], []
        for fan_in, fan_out in zip(units, units[1:]):
            bound = math.sqrt((2 if self.activation == "logistic" else 6) / (fan_in + fan_out))
            self.coefs_.append(rng.uniform(-bound, bound, (fan_in, fan_out)).astype(dtype))
            self.intercepts_.append(rng.uniform(-bound, bound, fan_out).astype(dtype))
        if self.solver != "lbfgs":
            self._begin_records()

    def _begin_records(self) -> None:
        held_out = self.early_stopping
        self.loss_curve_: list[float] = []
        self._no_improvement_count = 0
        self.best_loss_: Any = None if held_out else math.inf
        self.validation_scores_: Any = [] if held_out else None
        self.best_validation_score_: Any = -math.inf if held_out else None
        self._best = [array.copy() for array in self._parameters()]

    def _parameters(self) -> list[Array]:
        """[W_1, b_1, W_2, b_2, ...], as they are set now."""
        return list(flatten.from_iterable(zip(self.coefs_, self.intercepts_)))

    def _network(self, weighs: bool | None = None) -> MLP:
        """The network with coefs_ and intercepts_ in it, made where it is not there or not the same any more.

        weighs  whether its loss takes weights; None if nothing is to be learnt
        """
        widths = (len(self.coefs_[0]), *(np.shape(w)[1] for w in self.coefs_))
        as_made = (widths, self.activation, self.kernel)
        model, optimizer = self._model, self._optimizer()
        fits = self._as_made == as_made
        if model is not None and weighs is not None:
            same = (model.optimizer.name, isinstance(model.loss, Weighted)) == (optimizer.name, weighs)
            fits = fits and same
        if model is None or not fits:
            progress = self._progress if model is None else _progress_of(model)
            loss = LOSSES[self.out_activation_]
            model = MLP(
                widths,
                activation=ACTIVATIONS.get(self.activation, self.activation),
                loss=weighted(loss) if weighs else loss,
                optimizer=optimizer,
                kernel=self.kernel,
                dtype=np.result_type(*self.coefs_, np.float32),
            )
            if progress is not None:
                _go_on(model, progress)
            self._model, self._as_made, self._progress = model, as_made, None
        for own, given in zip(model.parameters(), self._parameters()):
            if own is not given:
                own[...] = given
        return model

    def _turn(self) -> Any:
        """Held while the network's buffers are in use: threads may predict at the same time."""
        return self.__dict__.setdefault("_lock", threading.RLock())

    def _optimizer(self) -> Optimizer:
        """A new one. Its weight decay is the batch's affair; scikit-learn has checked the numbers."""
        lr = float(self.learning_rate_init)
        if self.solver == "adam":
            numbers = {"eps": self.epsilon, "beta1": self.beta_1, "beta2": self.beta_2}
            return Optimizer(RULES["adam-hat"], lr, 0.0, decay_biases=False, **numbers)
        if self.solver == "lbfgs" or not self.momentum:
            return Optimizer(RULES["sgd"], lr, 0.0, decay_biases=False)
        rule = RULES["nesterov" if self.nesterovs_momentum else "momentum"]
        return Optimizer(rule, lr, 0.0, decay_biases=False, momentum=self.momentum)

    def _targets(self, y: Array, dtype: np.dtype) -> Array:
        """y as the network's loss takes it."""
        return y.argmax(axis=1) if self.out_activation_ == "softmax" else np.ascontiguousarray(y, dtype)

    def _value(self, loss: float) -> float:
        """The loss as scikit-learn tells it: of squared errors the mean over the outputs (the derivative is of their
        sum there too)."""
        return loss / self.n_outputs_ if self.out_activation_ == "identity" else loss

    def _check_finite(self) -> None:
        if not all(np.isfinite(array).all() for array in self._parameters()):
            too_large = f", and learning_rate_init={self.learning_rate_init:g} may be too large"
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
                f"preprocessed. It was found after iteration {self.n_iter_}"
                f"{'' if self.solver == 'lbfgs' else too_large}."
            )

    def _minimize(self, model: MLP, x: Any, y: Array, weights: Array | None) -> None:
        """lbfgs: every step sees all examples."""
        w, b, targets = self.coefs_, self.intercepts_, self._targets(y, model.dtype)
        squares, mass = _sum_of_squares(w), float(len(y) if weights is None else weights.sum())
        cuts = np.cumsum([array.size for array in (*w, *b)])[:-1]

        def set_to(flat: Array) -> None:
            for array, part in zip((*w, *b), np.split(flat, cuts)):
                array[...] = part.reshape(array.shape)

        def parts(flat: Array) -> tuple[float, float, Array]:
            """The loss, the penalty, and the gradient of their sum, at these parameters."""
            set_to(flat)
            loss, gradient = 0.0, np.zeros_like(flat)
            for rows, block in _blocks(x, model.dtype, whole=True):
                weight = None if weights is None else weights[rows]
                share = (len(block) if weight is None else weight.sum()) / mass
                if share:
                    y_block = targets[rows] if weight is None else (targets[rows], weight)
                    value, found = model.loss_and_gradients(block, y_block)
                    loss += share * value
                    gradient += share * _flat(found[::2], found[1::2])
            gradient[: sum(array.size for array in w)] += self.alpha / mass * _flat(w)
            return loss, self.alpha / mass / 2 * squares(), gradient

        def objective(flat: Array) -> tuple[float, Array]:
            loss, penalty, gradient = parts(flat)
            return loss + penalty, gradient

        def tell(intermediate_result: Any) -> None:
            self.n_iter_ += 1
            _say(f"Iteration {self.n_iter_}, loss = {intermediate_result.fun:.8f}")

        self.n_iter_ = 0
        result = minimize(
            objective,
            _flat(w, b),
            method="L-BFGS-B",
            jac=True,
            callback=tell if self.verbose else None,
            options={"maxfun": self.max_fun, "maxiter": self.max_iter, "gtol": self.tol},
        )
        loss, penalty, _ = parts(result.x)
        self.loss_, self.n_iter_ = self._value(loss) + penalty, min(result.nit, self.max_iter)
        if result.status:
            warnings.warn(
                f"lbfgs failed to converge after {self.n_iter_} iteration(s): {result.message}. "
                "Scaled data, or a larger max_iter or max_fun, may help.",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _descend(
        self,
        model: MLP,
        x: Any,
        y: Array,
        weights: Array | None,
        rng: np.random.RandomState,
        incremental: bool,
    ) -> None:
        """sgd and adam: epochs of mini-batches, until they improve nothing or max_iter; one epoch of a partial_fit."""
        recorded = hasattr(self, "loss_curve_")
        if not recorded or (getattr(self, "validation_scores_", None) is not None) != self.early_stopping:
            self._begin_records()  # the last fit kept none, or others
        rows, held_out = self._split(y, rng)
        x_held, y_held = x[held_out], y[held_out]
        weights_held = None if weights is None else weights[held_out]
        targets, samples = self._targets(y, model.dtype), len(rows)
        batches = list(gen_batches(samples, self._batch(samples)))
        largest = batches[0].stop
        x_buffer, y_buffer = np.empty((largest, x.shape[1]), model.dtype), np.empty_like(targets[:largest])
        views = {size: (x_buffer[:size], y_buffer[:size]) for size in {b.stop - b.start for b in batches}}
        squares, optimizer = _sum_of_squares(self.coefs_), model.optimizer
        order = np.arange(samples)
        try:
            self.n_iter_ = 0
            while self.n_iter_ < self.max_iter:
                if self.shuffle:
                    order = shuffle(order, random_state=rng)
                total = 0.0
                for batch in batches:
                    chosen = rows[order[batch]]
                    x_batch, y_batch = views[len(chosen)]
                    weight = None if weights is None else weights[chosen]
                    mass = len(chosen) if weight is None else weight.sum()
                    if not mass:  # nothing in it counts
                        continue
                    _gather(x, chosen, x_batch)
                    targets.take(chosen, 0, y_batch, "clip")
                    decay = self.alpha / mass
                    if decay != optimizer.weight_decay:
                        optimizer.weight_decay = decay
                    penalty = decay / 2 * squares() if self.alpha else 0.0
                    loss = model.step(x_batch, y_batch if weight is None else (y_batch, weight))
                    total += (self._value(loss) + penalty) * len(chosen)
                self.n_iter_ += 1
                self.t_ += samples
                self.loss_ = total / samples
                self.loss_curve_.append(self.loss_)
                if self.verbose:
                    _say(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
                if self.early_stopping:
                    self._keep_best(self._scored(x_held, y_held, weights_held))
                else:
                    if not math.isfinite(self.loss_):
                        self._check_finite()  # now, rather than after max_iter
                    self._count(self.loss_ > self.best_loss_ - self.tol)
                    self.best_loss_ = min(self.best_loss_, self.loss_)
                if self.solver == "sgd" and self.learning_rate == "invscaling":
                    _set_rate(model, self.learning_rate_init / (self.t_ + 1) ** self.power_t)
                if self._no_improvement_count > self.n_iter_no_change:
                    if self._is_done(model):
                        break
                    self._no_improvement_count = 0
                if incremental:
                    break
            else:
                warnings.warn(
                    f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization hasn't "
                    "converged yet.",
                    ConvergenceWarning,
                    stacklevel=4,
                )
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=4)
        if self.early_stopping:
            for own, best in zip(model.parameters(), self._best):
                own[...] = best

    def _split(self, y: Array, rng: np.random.RandomState) -> tuple[Array, Array]:
        """Which rows are learnt from, and which are held out."""
        rows = np.arange(len(y))
        if not self.early_stopping:
            return rows, rows[:0]
        alike = y if is_classifier(self) and self.n_outputs_ == 1 else None
        rows, held_out = train_test_split(
            rows, random_state=rng, test_size=self.validation_fraction, stratify=alike
        )
        if len(held_out) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        return rows, held_out

    def _batch(self, samples: int) -> int:
        if self.batch_size == "auto":
            return min(200, samples)
        if self.batch_size > samples:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped",
                stacklevel=5,
            )
        return int(min(self.batch_size, samples))

    def _count(self, no_better: bool) -> None:
        """Epochs in a row that were no better by tol."""
        self._no_improvement_count = self._no_improvement_count + 1 if no_better else 0

    def _keep_best(self, score: float) -> None:
        """Note the score of an epoch, and its parameters if there was none as good."""
        if self.verbose:
            _say(f"Validation score: {score:f}")
        self.validation_scores_.append(score)
        self._count(score < self.best_validation_score_ + self.tol)
        if score > self.best_validation_score_:
            self.best_validation_score_ = score
            self._best = [array.copy() for array in self._parameters()]

    def _is_done(self, model: MLP) -> bool:
        """Whether to stop where nothing improves: unless a smaller learning rate is to be tried."""
        what = "Validation score" if self.early_stopping else "Training loss"
        said = f"{what} did not improve more than tol={self.tol:f} for {self.n_iter_no_change} consecutive epochs."
        lr = model.optimizer.lr
        adaptive = self.solver == "sgd" and self.learning_rate == "adaptive"
        done = not adaptive or lr <= 1e-6
        if not done:
            _set_rate(model, lr / 5)
        if self.verbose:
            small = " Learning rate too small." if adaptive else ""
            _say(f"{said}{small} Stopping." if done else f"{said} Setting learning rate to {lr / 5:f}")
        return done

    # Predicting

    def _outputs(self, x: Any) -> Array:
        """Values, or probabilities (n, outputs), for x (n, features)."""
        with self._turn(), np.errstate(over="ignore", invalid="ignore"):
            model = self._network()
            z = np.concatenate([model.forward(block) for _, block in _blocks(x, model.dtype)])
            return OUTPUTS[self.out_activation_](z)

    def _checked_alone(self, X: Any) -> Any:
        check_is_fitted(self)
        return validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)

    def _dtypes(self) -> Any:
        """What X is trained in."""
        return (np.float64, np.float32) if self.dtype is None else dtype_of(self.dtype)


class MLPClassifier(ClassifierMixin, _Perceptron):
    """scikit-learn's multilayer perceptron classifier, its products on any kernel.

    Minimises the cross-entropy, or for two classes and for indicators (multilabel) the logistic loss.

    Every parameter of scikit-learn's, and two more:

    kernel               who multiplies: a kernel's name ("blas", "numba-micro", ...) or a mapping, see mlp.assignment
    dtype                "float32" or "float64"; None: float32 where X is that, else float64

    hidden_layer_sizes   the widths of the layers between X and the outputs
    activation           after each of them: "relu", "tanh", "logistic" or "identity"
    solver               "adam"; "sgd", with momentum; or "lbfgs", which sees all examples in every step
    alpha                of the penalty alpha / (2 n) sum |W|^2, n being the examples of a batch; biases are free
    batch_size           examples in a step of sgd or adam; "auto": 200, or all where there are fewer
    learning_rate        of sgd: "constant", "invscaling" (divided by t^power_t after t examples), or "adaptive"
                         (divided by 5 where training would stop, until it is 1e-6)
    learning_rate_init   the learning rate of sgd and adam to begin with
    power_t              of "invscaling"
    max_iter             the most epochs of sgd or adam, or iterations of lbfgs
    shuffle              another order of the examples for each epoch
    random_state         of the first weights, the order, and what is held out
    tol                  what counts as better, of the loss or the score; lbfgs stops at a gradient of tol
    verbose              a line on standard output for each epoch or iteration
    warm_start           fit goes on from the weights that are there
    momentum             of sgd
    nesterovs_momentum   whether it is Nesterov's
    early_stopping       judge epochs by their score on examples held out, and keep the best weights, instead of by the
                         training loss
    validation_fraction  of the examples that early_stopping holds out
    beta_1, beta_2       adam's rates of forgetting, of the gradient and its square
    epsilon              adam's
    n_iter_no_change     stop when more epochs than that in a row were no better
    max_fun              the most evaluations of lbfgs

    After a fit, as in scikit-learn: classes_, coefs_ and intercepts_ (W and b of each layer), loss_, n_iter_, t_,
    n_layers_, n_outputs_, out_activation_, n_features_in_, feature_names_in_; but for lbfgs also loss_curve_,
    best_loss_, validation_scores_, best_validation_score_.
    """

    _parameter_constraints = theirs.MLPClassifier._parameter_constraints | OURS

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    @available_if(_is_stochastic)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Any:
        """Train for one epoch more on X and y; returns the estimator.

        classes  all that there will ever be; needed at the first call

        Raises what `fit` does. Not for solver="lbfgs".
        """
        if _check_partial_fit_first_call(self, classes):
            multilabel = type_of_target(y).startswith("multilabel")
            self._label_binarizer = LabelBinarizer().fit(y if multilabel else classes)
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> Array:
        """The classes (n_samples,) of X, or indicators (n_samples, n_classes) if it was fitted to such."""
        return self._labels(self._checked_alone(X))

    def predict_proba(self, X: Any) -> Array:
        """The probabilities (n_samples, n_classes), in the order of classes_."""
        p = self._outputs(self._checked_alone(X))
        return np.hstack([1 - p, p]) if self.n_outputs_ == 1 else p

    def predict_log_proba(self, X: Any) -> Array:
        """The logarithms of predict_proba."""
        return np.log(self.predict_proba(X))

    def _labels(self, x: Any) -> Array:
        p = self._outputs(x)
        return self._label_binarizer.inverse_transform(p.ravel() if self.n_outputs_ == 1 else p)

    def _output(self) -> str:
        return "softmax" if self._label_binarizer.y_type_ == "multiclass" else "logistic"

    def _scored(self, x: Any, y: Array, weights: Array | None) -> float:
        known = self._label_binarizer.inverse_transform(y)
        return float(accuracy_score(known, self._labels(x), sample_weight=weights))

    def _checked(self, X: Any, y: Any, first: bool, incremental: bool) -> tuple[Any, Array]:
        X, y = validate_data(
            self, X, y, accept_sparse=["csr", "csc"], multi_output=True, dtype=self._dtypes(), reset=first
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
        else:
            classes = unique_labels(y)
            if self.warm_start and set(classes) != set(self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                    f"Previously got {self.classes_}, `y` has {classes}"
                )
            if len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
                raise ValueError(
                    f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has {classes}."
                )
        found = self._label_binarizer.transform(y)
        found = found.toarray() if issparse(found) else found
        return X, found.astype(bool)


class MLPRegressor(MultiOutputMixin, RegressorMixin, _Perceptron):
    """scikit-learn's multilayer perceptron regressor, its products on any kernel.

    loss  "squared_error", or "poisson": half of Poisson's deviance, for y from 0; predictions are then the exponential
          of the last layer


    Every other parameter is MLPClassifier's, kernel and dtype among them.

    After a fit, as in scikit-learn: what MLPClassifier has, but for classes_. With several outputs loss_ has the mean
    over them of the squared errors, while it is their sum that is minimised, as there.
    """

    _parameter_constraints = theirs.MLPRegressor._parameter_constraints | OURS

    def __init__(
        self,
        loss="squared_error",
        hidden_layer_sizes=(100,),
        activation="relu",
        *,
        solver="adam",
        alpha=0.0001,
        batch_size="auto",
        learning_rate="constant",
        learning_rate_init=0.001,
        power_t=0.5,
        max_iter=200,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        verbose=False,
        warm_start=False,
        momentum=0.9,
        nesterovs_momentum=True,
        early_stopping=False,
        validation_fraction=0.1,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        n_iter_no_change=10,
        max_fun=15000,
        kernel="blas",
        dtype=None,
    ):
        super().__init__(
            hidden_layer_sizes,
            activation,
            solver=solver,
            alpha=alpha,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_init=learning_rate_init,
            power_t=power_t,
            max_iter=max_iter,
            shuffle=shuffle,
            random_state=random_state,
            tol=tol,
            verbose=verbose,
            warm_start=warm_start,
            momentum=momentum,
            nesterovs_momentum=nesterovs_momentum,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            n_iter_no_change=n_iter_no_change,
            max_fun=max_fun,
            kernel=kernel,
            dtype=dtype,
        )
        self.loss = loss

    @available_if(_is_stochastic)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train for one epoch more on X and y; returns the estimator.

        Raises what `fit` does. Not for solver="lbfgs".
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> Array:
        """The values (n_samples,), or (n_samples, n_outputs), for X."""
        return self._values(self._checked_alone(X))

    def _values(self, x: Any) -> Array:
        values = self._outputs(x)
        return values.ravel() if values.shape[1] == 1 else values

    def _output(self) -> str:
        return "exp" if self.loss == "poisson" else "identity"

    def _scored(self, x: Any, y: Array, weights: Array | None) -> float:
        values = self._values(x)
        return float(r2_score(y, values, sample_weight=weights)) if np.isfinite(values).all() else math.nan

    def _checked(self, X: Any, y: Any, first: bool, incremental: bool) -> tuple[Any, Array]:
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse=["csr", "csc"],
            multi_output=True,
            y_numeric=True,
            dtype=self._dtypes(),
            reset=first,
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if self.loss == "poisson" and y.min() < 0:
            raise ValueError(f"y has {y.min():g}; loss='poisson' takes numbers from 0")
        return X, y.reshape(len(y), -1)


def _blocks(x: Any, dtype: np.dtype, whole: bool = False) -> Iterator[tuple[slice, Array]]:
    """Every row of x in turn, dense: which rows, and themselves in a buffer that all of them share.

    whole  a dense x of that dtype may be one block, as it stands
    """
    if whole and not issparse(x):
        yield slice(None), x
        return
    samples = x.shape[0]
    x = x.tocsr() if issparse(x) else x
    buffer = np.empty((min(ROWS, samples), x.shape[1]), dtype)
    for rows in gen_batches(samples, ROWS):
        block = buffer if rows.stop - rows.start == len(buffer) else buffer[: rows.stop - rows.start]
        np.copyto(block, x[rows].toarray() if issparse(x) else x[rows], casting="same_kind")
        yield rows, block


def _gather(x: Any, rows: Array, out: Array) -> None:
    """out <- those rows of x, sparse or not, of one dtype."""
    if issparse(x):
        x[rows].toarray(out=out)
    else:
        x.take(rows, 0, out, "clip")  # in range; "raise" would gather into a buffer of its own first


def _flat(*arrays: Sequence[Array]) -> Array:
    """One vector of float64."""
    return np.concatenate([array.ravel() for some in arrays for array in some], dtype=np.float64)


def _sum_of_squares(arrays: Sequence[Array]) -> Callable[[], float]:
    """What gives the sum of their squares, as they are when it is called."""
    sums = np.zeros(len(arrays))
    calls = chain(
        native.call("sum_of_squares", array.dtype, array, sums[at:], array.size)
        for at, array in enumerate(arrays)
    )

    def total() -> float:
        for call in calls:
            call()
        return float(sums.sum())

    return total


def _set_rate(model: MLP, lr: float) -> None:
    """Another learning rate, as scikit-learn changes it: what momentum has gathered keeps the old one, which there is a
    factor in it and here is not."""
    optimizer = model.optimizer
    if optimizer.rule.function == "momentum":
        for parameter in model.parameters():
            for gathered in optimizer.state_of(parameter):
                gathered *= optimizer.lr / lr
    optimizer.lr = lr


def _progress_of(model: MLP) -> Progress:
    """How far its optimizer is."""
    optimizer = model.optimizer
    state = [[array.copy() for array in optimizer.state_of(p)] for p in model.parameters()]
    return optimizer.name, optimizer.settings.tolist(), optimizer.steps, state


def _go_on(model: MLP, progress: Progress) -> None:
    """Have its optimizer be as far as another was, if it is of that name and of such parameters."""
    name, settings, steps, state = progress
    optimizer = model.optimizer
    own = [optimizer.state_of(p) for p in model.parameters()]
    if name == optimizer.name and [[a.shape for a in s] for s in own] == [
        [a.shape for a in s] for s in state
    ]:
        optimizer.restore(settings, steps)
        for to, had in zip(flatten.from_iterable(own), flatten.from_iterable(state)):
            to[...] = had


def _say(line: str) -> None:
    """scikit-learn's `verbose` is on standard output."""
    sys.stdout.write(f"{line}\n")
