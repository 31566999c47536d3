"""Optimizers: each against its paper's formula and against PyTorch's, their settings, and what they refuse."""

import numpy as np
import pytest

import mlp

RNG = np.random.default_rng(0)
STEPS = 100
EACH = {
    "sgd": {},
    "sgd, decay": {"weight_decay": 0.01},
    "momentum": {"momentum": 0.8},
    "momentum, decay": {"momentum": 0.8, "weight_decay": 0.01},
    "nesterov": {"momentum": 0.8},
    "nesterov, decay": {"momentum": 0.8, "weight_decay": 0.01},
    "adagrad": {},
    "adagrad, decay": {"eps": 1e-6, "weight_decay": 0.01},
    "rmsprop": {},
    "rmsprop, decay": {"rho": 0.9, "weight_decay": 0.01},
    "adam": {},
    "adam, decay": {"beta1": 0.8, "beta2": 0.99, "eps": 1e-6, "weight_decay": 0.01},
    "adam-hat": {"eps": 1e-3},
    "adam-hat, decay": {"beta1": 0.8, "beta2": 0.99, "eps": 1e-3, "weight_decay": 0.01},
    "adamw": {},
    "adamw, decay": {"beta1": 0.8, "beta2": 0.99, "weight_decay": 0.1},
}


@pytest.mark.parametrize("name", mlp.OPTIMIZERS)
def test_no_optimizer_is_left_out_of_these(name):
    assert {name, f"{name}, decay"} <= set(EACH)


class Paper:
    """The rules as their papers have them, for one parameter: from its iterates and all gradients so far, no state.

    Running means are written out as the sums that they are: rho^(t-s) g_s over s = 1 .. t.
    """

    def __init__(self, name, w, weight_decay=0.0, **settings):
        self.name, self.decay, self.settings = name, weight_decay, settings
        self.iterates, self.gradients, self.rates = [w.astype(np.float64)], [], []

    def step(self, w, g, lr):
        """w at t + 1, from w and the gradient at t."""
        coupled = self.name != "adamw"
        self.gradients.append(g + self.decay * w if coupled else g)
        self.rates.append(lr)
        new = getattr(self, self.name.replace("-", "_"))(w, lr, **self.settings)
        self.iterates.append(new if coupled else new - lr * self.decay * w)
        return self.iterates[-1]

    def running_mean(self, power, rho):
        t = len(self.gradients)
        weights = (1 - rho) * rho ** np.arange(t - 1, -1, -1.0)
        return sum(weight * g**power for weight, g in zip(weights, self.gradients))

    def sgd(self, w, lr):
        return w - lr * self.gradients[-1]

    def momentum(self, w, lr, momentum=0.9):
        """Polyak 1964, eq. 9: the heavy ball, w - lr g + mu (w - w_before). The ball's speed goes with the rate."""
        before = self.iterates[-2] if len(self.iterates) > 1 else w
        speed = lr / self.rates[-2] if len(self.rates) > 1 else 1
        return w - lr * self.gradients[-1] + momentum * speed * (w - before)

    def nesterov(self, w, lr, momentum=0.9):
        """Sutskever et al. 2013, eqs. 3 and 4: v' = mu v - lr g(theta + mu v), theta' = theta + v'.

        The network's weights are theta + mu v. Here v is in units of lr, as PyTorch's: its speed goes with the rate.
        """
        v = 0.0
        for g in self.gradients[:-1]:
            v = momentum * v - g
        theta = w - lr * momentum * v
        v = momentum * v - self.gradients[-1]
        return (theta + lr * v) + lr * momentum * v

    def adagrad(self, w, lr, eps=1e-10):
        """Duchi et al. 2011, fig. 1: G is the sum of g g^T so far, of which the diagonal is used."""
        return w - lr * self.gradients[-1] / (np.sqrt(sum(g * g for g in self.gradients)) + eps)

    def rmsprop(self, w, lr, rho=0.99, eps=1e-8):
        """Tieleman and Hinton 2012, lecture 6.5."""
        return w - lr * self.gradients[-1] / (np.sqrt(self.running_mean(2, rho)) + eps)

    def adam(self, w, lr, beta1=0.9, beta2=0.999, eps=1e-8):
        """Kingma and Ba 2015, algorithm 1."""
        t = len(self.gradients)
        m = self.running_mean(1, beta1) / (1 - beta1**t)
        v = self.running_mean(2, beta2) / (1 - beta2**t)
        return w - lr * m / (np.sqrt(v) + eps)

    def adam_hat(self, w, lr, beta1=0.9, beta2=0.999, eps=1e-8):
        """Kingma and Ba 2015, end of section 2: theta - alpha_t m / (sqrt v + eps hat)."""
        t = len(self.gradients)
        alpha = lr * np.sqrt(1 - beta2**t) / (1 - beta1**t)
        return w - alpha * self.running_mean(1, beta1) / (np.sqrt(self.running_mean(2, beta2)) + eps)

    adamw = adam  # Loshchilov and Hutter 2019, algorithm 2: its decay is in `step`


def gradients_in_numpy(w1, b1, w2, b2, x, y):
    """Of softmax cross-entropy over a layer of tanh, as a NumPy user writes it."""
    o = np.tanh(x @ w1 + b1)
    p = np.exp(o @ w2 + b2)
    dz2 = (p / p.sum(axis=1, keepdims=True) - np.eye(p.shape[1])[y]) / len(y)
    dz1 = (dz2 @ w2.T) * (1 - o * o)
    return x.T @ dz1, dz1.sum(axis=0), o.T @ dz2, dz2.sum(axis=0)


@pytest.mark.parametrize("kernel", ["blas", "numba-micro"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("which", EACH)
def test_a_hundred_steps_are_the_papers(which, dtype, kernel):
    """As the test below, without PyTorch; the papers' are done in float64 beside either."""
    name, settings, rng = which.partition(",")[0], EACH[which], np.random.default_rng(2)
    lr = 0.05 if name in ("sgd", "momentum", "nesterov") else 0.01
    optimizer = mlp.optimizer(name, lr, **settings)
    model = mlp.MLP([6, 8, 3], activation="tanh", optimizer=optimizer, dtype=dtype, kernel=kernel, seed=1)
    papers = [Paper(name, p, **settings) for p in model.parameters()]
    weights = [paper.iterates[0] for paper in papers]
    for step in range(STEPS):
        if step == STEPS // 2:
            model.optimizer.lr = lr = lr / 2
        x, y = rng.standard_normal((10, 6)).astype(dtype), rng.integers(0, 3, 10)
        model.step(x, y)
        gradients = gradients_in_numpy(*weights, x.astype(np.float64), y)
        weights = [paper.step(w, g, lr) for paper, w, g in zip(papers, weights, gradients)]
    for ours, right in zip(model.parameters(), weights):
        limit = {"float64": 1e-10, "float32": 1e-4}[dtype] * np.abs(right).max()
        assert np.abs(ours - right).max() <= limit


def theirs(torch, name, parameters, lr, settings):
    """PyTorch's optimizer with the same numbers."""
    given = dict(settings)
    optim, decay = torch.optim, {"weight_decay": given.pop("weight_decay", 0.0)}
    if name in ("sgd", "momentum", "nesterov"):
        return optim.SGD(parameters, lr=lr, nesterov=name == "nesterov", **given, **decay)
    if name == "adagrad":
        return optim.Adagrad(parameters, lr=lr, **given, **decay)
    if name == "rmsprop":
        rho = {"alpha": given.pop("rho")} if "rho" in given else {}
        return optim.RMSprop(parameters, lr=lr, **rho, **given, **decay)
    betas = {"betas": (given.pop("beta1"), given.pop("beta2"))} if "beta1" in given else {}
    return {"adam": optim.Adam, "adamw": optim.AdamW}[name](parameters, lr=lr, **betas, **given, **decay)


@pytest.mark.parametrize("kernel", ["blas", "numba-micro"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("which", [name for name in EACH if "hat" not in name])  # it has none
def test_a_hundred_steps_are_pytorchs(which, dtype, kernel):
    """To rounding, with a learning rate that changes on the way: to 1e-10 of the largest weight, or 1e-4 in float32."""
    torch = pytest.importorskip("torch")
    name, settings = which.partition(",")[0], EACH[which]
    lr = 0.05 if name in ("sgd", "momentum", "nesterov") else 0.01
    optimizer = mlp.optimizer(name, lr, **settings)
    model = mlp.MLP([6, 8, 3], activation="tanh", optimizer=optimizer, dtype=dtype, kernel=kernel, seed=1)
    weights = [torch.from_numpy(p.copy()).requires_grad_() for p in model.parameters()]
    other = theirs(torch, name, weights, lr, settings)
    for step in range(STEPS):
        if step == STEPS // 2:
            model.optimizer.lr = other.param_groups[0]["lr"] = lr / 2
        x, y = RNG.standard_normal((10, 6)).astype(dtype), RNG.integers(0, 3, 10)
        model.step(x, y)
        w1, b1, w2, b2 = weights
        z = torch.tanh(torch.from_numpy(x) @ w1 + b1) @ w2 + b2
        other.zero_grad()
        torch.nn.functional.cross_entropy(z, torch.from_numpy(y)).backward()
        other.step()
    for ours, right in zip(model.parameters(), weights):
        right = right.detach().numpy()
        limit = {"float64": 1e-10, "float32": 1e-4}[dtype] * np.abs(right).max()
        assert np.abs(ours - right).max() <= limit


@pytest.mark.parametrize("kernel", ["blas", "numba-micro"])
@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"])
def test_biases_may_be_spared_from_the_decay_as_pytorchs_groups_of_parameters_are(name, kernel):
    """Also where the update of the weights is in the product, and when the decay changes on the way."""
    torch = pytest.importorskip("torch")
    optimizer = mlp.optimizer(name, 0.02, weight_decay=0.1, decay_biases=False)
    model = mlp.MLP([6, 8, 3], activation="tanh", optimizer=optimizer, dtype="float64", kernel=kernel, seed=1)
    for bias in model.parameters()[1::2]:
        bias[...] = 1
    weights = [torch.from_numpy(p.copy()).requires_grad_() for p in model.parameters()]
    groups = [{"params": weights[::2]}, {"params": weights[1::2], "weight_decay": 0.0}]
    other = theirs(
        torch, name, groups, 0.02, {"weight_decay": 0.1} | ({"momentum": 0.9} if name[0] in "mn" else {})
    )
    x, y = RNG.standard_normal((10, 6)), RNG.integers(0, 3, 10)
    for step in range(20):
        if step == 10:
            model.optimizer.weight_decay = other.param_groups[0]["weight_decay"] = 0.3
        model.step(x, y)
        w1, b1, w2, b2 = weights
        other.zero_grad()
        z = torch.tanh(torch.from_numpy(x) @ w1 + b1) @ w2 + b2
        torch.nn.functional.cross_entropy(z, torch.from_numpy(y)).backward()
        other.step()
    for ours, right in zip(model.parameters(), weights):
        np.testing.assert_allclose(ours, right.detach().numpy(), rtol=1e-10, atol=1e-12)


def test_adam_hat_is_scikit_learns_adam():
    """With an epsilon that matters; PyTorch's adam is another rule then."""
    from sklearn.neural_network._stochastic_optimizers import AdamOptimizer

    models = [
        mlp.MLP([6, 8, 3], optimizer=mlp.optimizer(name, 0.01, eps=1e-2), dtype="float64")
        for name in ("adam-hat", "adam")
    ]
    right = [p.copy() for p in models[0].parameters()]
    other = AdamOptimizer(right, 0.01, epsilon=1e-2)
    x, y = RNG.standard_normal((10, 6)), RNG.integers(0, 3, 10)
    for _ in range(STEPS):
        other.update_params(right, models[0].gradients(x, y))
        for model in models:
            model.step(x, y)
    hat, adam = (max(np.abs(p - q).max() for p, q in zip(model.parameters(), right)) for model in models)
    assert hat < 1e-12
    assert adam > 1e-3


@pytest.mark.parametrize("name", mlp.OPTIMIZERS)
def test_every_optimizer_learns(name):
    data = mlp.load("synthetic", examples=300, features=8, classes=3)
    model = mlp.MLP([8, 16, 3], optimizer=name)
    history = mlp.fit(model, data, epochs=20, batch=30)
    assert history.train_loss[-1] < 0.8 * history.train_loss[0]


def test_plain_sgd_is_in_the_product_where_the_kernel_adds_and_no_gradient_array_is_made():
    """W <- W - lr X^T dZ; with momentum there must be a gradient."""
    model = mlp.MLP([4, 5, 3], kernel="numba-micro")
    model.step(RNG.standard_normal((6, 4)), RNG.integers(0, 3, 6))
    assert all(array.ndim == 1 for arrays in model._gradients for array in arrays if array is not None)
    assert [op.parts for op in model.operations(6) if op.op == "dW"] == [("dW", "update")] * 2
    for other in (
        mlp.MLP([4, 5, 3], kernel="numba-micro", optimizer="momentum"),
        mlp.MLP([4, 5, 3], kernel="blas"),
        mlp.MLP([4, 5, 3], kernel="numba-micro", fused=False),
    ):
        assert [op.id for op in other.operations(6) if op.op == "update"] == ["2.update", "1.update"]


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("sdg", {}, "unknown optimizer 'sdg'; did you mean 'sgd'"),
        ("sgd", {"lr": 0}, "lr is 0; the learning rate must be a positive number"),
        ("sgd", {"lr": float("nan")}, "lr is nan"),
        ("sgd", {"lr": 10**400}, "lr is 1000"),
        (["sgd"], {}, "unknown optimizer"),
        (
            "sgd",
            {"momentum": 0.9},
            "sgd has no setting 'momentum'; it has no settings but lr and weight_decay",
        ),
        ("adam", {"beta": 0.9}, "adam has no setting 'beta'; it has eps, beta1, beta2"),
        ("adam", {"beta1": 1.0}, "beta1 is 1.0; it must be a number from 0 to below 1"),
        ("rmsprop", {"eps": -1e-8}, "eps is -1e-08; it must be a number from 0"),
        ("adamw", {"weight_decay": -1}, "weight_decay is -1; it must be a number from 0"),
    ],
)
def test_a_setting_that_cannot_be_is_named(name, settings, sentence):
    with pytest.raises(ValueError, match=sentence.replace("(", r"\(")):
        mlp.optimizer(name, **settings)


def test_an_optimizer_that_is_made_keeps_its_own_numbers():
    with pytest.raises(ValueError, match="give them there"):
        mlp.MLP([4, 3], optimizer=mlp.optimizer("adam"), lr=0.1)
    assert repr(mlp.optimizer("adam", 0.01)) == "adam(lr=0.01, eps=1e-08, beta1=0.9, beta2=0.999)"
    assert repr(mlp.optimizer("sgd", weight_decay=0.1)) == "sgd(lr=0.1, weight_decay=0.1)"
    spared = mlp.optimizer("sgd", weight_decay=0.1, decay_biases=False)
    assert repr(spared) == "sgd(lr=0.1, weight_decay=0.1, decay_biases=False)"


def test_what_is_passed_over_together_begins_at_different_places_of_a_page():
    """Else a load looks like one of what was just stored a page away, and waits for it."""
    model = mlp.MLP([64, 32, 8], optimizer="adam", kernel="numba-micro")
    model.step(np.zeros((4, 64), np.float32), np.zeros(4, np.int64))
    for (weight, _), (gradient, _) in zip(
        zip(model.parameters()[::2], model.parameters()[1::2]), model._arrays(True)
    ):
        together = [weight, gradient, *model.optimizer.state_of(weight)]
        places = sorted(array.ctypes.data % 4096 for array in together)
        assert not any(place % 64 for place in places)
        if weight.nbytes >= 4096:
            assert np.diff([*places, places[0] + 4096]).tolist() == [1024] * 4
