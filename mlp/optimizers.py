"""Optimizers: how a gradient changes the weights. PyTorch's rules and defaults, under its names for them.

    sgd        W <- W - lr g                                            g = dW + weight_decay W everywhere
    momentum   V <- mu V + g;            W <- W - lr V                  Polyak 1964
    nesterov   V <- mu V + g;            W <- W - lr (g + mu V)         Sutskever et al. 2013
    adagrad    S <- S + g^2;             W <- W - lr g / (sqrt S + eps)  Duchi et al. 2011
    rmsprop    S <- rho S + (1-rho) g^2; W <- W - lr g / (sqrt S + eps)  Tieleman and Hinton 2012
    adam       M, V running means of g and g^2, freed of their start;
               W <- W - lr M / (sqrt V + eps)                            Kingma and Ba 2015
    adam-hat   the same, but eps is added before V is freed of its start: their form of fewer operations, before
               section 2.1, where it is called epsilon hat; scikit-learn's and Keras's
    adamw      adam with g = dW, and W <- (1 - lr weight_decay) W    Loshchilov and Hutter 2019

Every parameter decays, as PyTorch's do; with `decay_biases=False` only weights, what has two axes or more, as with a
penalty on |W|^2.

A settings array of float64 is what compiled code reads at each step, so that `lr` may change between steps. On a GPU a
copy of it is read, which follows at the beginning of a step; nobody waits for that.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np

from gemm.program import Call
from mlp import devices, native
from mlp.mistakes import unknown
from mlp.operations import Operation, elementwise

Array = np.ndarray

# Words of the settings: LR, DECAY and SPARED (1 where biases do not decay) are every rule's; STEP is adam's count of
# steps.
LR, DECAY, STEP, SPARED, LENGTH = 0, 1, 6, 7, 8


@dataclass(frozen=True)
class Rule:
    """One way to update.

    function   of mlp.compiled
    arrays     of state, each as large as the parameters
    settings   names and defaults of its own numbers, in the order in which the function reads them, from word 2
    fixed      words that are not to be chosen: which of two forms the function takes
    flops      per parameter, a root and a quotient counting one
    lr         a learning rate to start with
    """

    name: str
    function: str
    arrays: int = 0
    settings: tuple[tuple[str, float], ...] = ()
    fixed: tuple[tuple[int, float], ...] = ()
    flops: int = 2
    lr: float = 0.01


_ADAM = (("eps", 1e-8), ("beta1", 0.9), ("beta2", 0.999))
RULES = {
    rule.name: rule
    for rule in (
        Rule("sgd", "sgd", lr=0.1),
        Rule("momentum", "momentum", 1, (("momentum", 0.9),), ((3, 0.0),), flops=4),
        Rule("nesterov", "momentum", 1, (("momentum", 0.9),), ((3, 1.0),), flops=6),
        Rule("adagrad", "adagrad", 1, (("eps", 1e-10),), flops=6),
        Rule("rmsprop", "rmsprop", 1, (("eps", 1e-8), ("rho", 0.99)), flops=8),
        Rule("adam", "adam", 2, _ADAM, ((5, 0.0),), flops=12, lr=0.001),
        Rule("adamw", "adam", 2, _ADAM, ((5, 1.0),), flops=13, lr=0.001),
        Rule("adam-hat", "adam", 2, _ADAM, ((5, 2.0),), flops=12, lr=0.001),
    )
}
OPTIMIZERS = tuple(RULES)
LARGEST = sys.float_info.max


class Optimizer:
    """A rule with its numbers, and the state of one model's parameters.

    lr, weight_decay   may be changed between steps
    decay_biases       whether biases decay as weights do
    state              for each parameter's address the rule's arrays, zero before the first step
    steps              taken so far
    changes            of lr and weight_decay so far
    """

    def __init__(
        self, rule: Rule, lr: float, weight_decay: float, decay_biases: bool = True, **settings: float
    ) -> None:
        self.rule, self.steps, self.changes = rule, 0, 0
        self.settings = np.zeros(LENGTH)
        self.settings[[LR, DECAY, SPARED]] = lr, weight_decay, not decay_biases
        for at, (name, default) in enumerate(rule.settings, start=2):
            self.settings[at] = settings.get(name, default)
        for at, value in rule.fixed:
            self.settings[at] = value
        self.state: dict[int, tuple[Array, ...]] = {}
        # The settings on a GPU, and what was last written there.
        self._there: Array | None = None
        self._written = b""

    @property
    def name(self) -> str:
        return self.rule.name

    @property
    def lr(self) -> float:
        return float(self.settings[LR])

    @lr.setter
    def lr(self, value: float) -> None:
        self.settings[LR] = value
        self.changes += 1

    @property
    def weight_decay(self) -> float:
        return float(self.settings[DECAY])

    @weight_decay.setter
    def weight_decay(self, value: float) -> None:
        self.settings[DECAY] = value
        self.changes += 1

    @property
    def decay_biases(self) -> bool:
        return not self.settings[SPARED]

    @property
    def in_product(self) -> bool:
        """Whether the update is C <- alpha A B + beta C, so that the product that makes dW can do it."""
        return self.rule.function == "sgd"

    @property
    def scales(self) -> tuple[float, float]:
        """alpha and beta of that product."""
        return -self.lr, 1 - self.lr * self.weight_decay

    def begin_step(self) -> None:
        """Count a step."""
        self.steps += 1
        if self.rule.function == "adam":
            self.settings[STEP] = self.steps
        if self._there is not None:
            self._follow()

    def operation(self, layer: int, parameters: Sequence[Array]) -> Operation:
        """The update of a layer as a row of the step; its shape is the first parameter's, its cost counts all."""
        count = sum(p.size for p in parameters)
        flops = self.rule.flops + (2 if self.weight_decay else 0)
        traffic = (3 + 2 * self.rule.arrays) * count * parameters[0].itemsize
        return elementwise(layer, "update", "update", parameters[0].shape, flops * count, traffic)

    def bind(self, parameter: Array, gradient: Array) -> Call:
        """A call that updates a parameter in place; both C-contiguous, of one shape and dtype."""
        settings = self.settings
        if devices.on_gpu(parameter):
            if self._there is None:
                self._there = devices.of(parameter).empty((LENGTH,), np.float64)
            self._follow()
            settings = self._there
        state: list[Array | int] = [*self.state_of(parameter), 0, 0]
        return native.call(
            self.rule.function,
            parameter.dtype,
            parameter,
            gradient,
            *state[:2],
            settings,
            parameter.size,
            parameter.ndim == 1,
        )

    def state_of(self, parameter: Array) -> tuple[Array, ...]:
        """The rule's arrays for a parameter, zero at first."""
        at = devices.address(parameter)
        if at not in self.state:
            zeros = devices.of(parameter).zeros
            self.state[at] = tuple(
                zeros(parameter.shape, parameter.dtype, parameter, quarters)
                for quarters in range(1, self.rule.arrays + 1)
            )
        return self.state[at]

    def _follow(self) -> None:
        """Have the settings on the GPU be those here: by value, in a launch, before what is launched next."""
        values = self.settings.tobytes()
        if values != self._written:
            assert self._there is not None, "there is a copy to follow"
            native.call("hold", self.settings.dtype, self._there, *self.settings.tolist())()
            self._written = values

    def restore(self, settings: Sequence[float], steps: int) -> None:
        """Have the numbers that another had after so many steps."""
        self.settings[...], self.steps = settings, steps
        self.changes += 1

    def __repr__(self) -> str:
        rule = self.rule
        own = [f", {name}={self.settings[at]:g}" for at, (name, _) in enumerate(rule.settings, start=2)]
        decay = f", weight_decay={self.weight_decay:g}" if self.weight_decay else ""
        decay += "" if self.decay_biases else ", decay_biases=False"
        return f"{rule.name}(lr={self.lr:g}{decay}{''.join(own)})"


def optimizer(
    name: str,
    lr: float | None = None,
    weight_decay: float = 0.0,
    *,
    decay_biases: bool = True,
    **settings: float,
) -> Optimizer:
    """The optimizer of that name.

    lr            default: the rule's own
    decay_biases  whether biases decay as weights do
    settings      momentum (momentum, nesterov), eps (adagrad, rmsprop, adam and its kin), rho (rmsprop), beta1 and
                  beta2 (adam and its kin)

    Raises ValueError for an unknown name or setting (naming the nearest) and for a number that cannot be one.
    """
    if not isinstance(name, str) or name not in RULES:
        raise unknown("optimizer", name, RULES)
    rule = RULES[name]
    lr = rule.lr if lr is None else lr
    if not isinstance(lr, Real) or not 0 < lr <= LARGEST:
        raise ValueError(f"lr is {lr!r}; the learning rate must be a positive number, such as 0.1")
    if not isinstance(weight_decay, Real) or not 0 <= weight_decay <= LARGEST:
        raise ValueError(f"weight_decay is {weight_decay!r}; it must be a number from 0, such as 0.0001")
    known = dict(rule.settings)
    for setting, value in settings.items():
        if setting not in known:
            own = ", ".join(known) or "no settings but lr and weight_decay"
            raise ValueError(f"{name} has no setting {setting!r}; it has {own}")
        most = LARGEST if setting == "eps" else 1
        if not isinstance(value, Real) or not 0 <= value < most:
            wanted = "a number from 0" if setting == "eps" else "a number from 0 to below 1"
            raise ValueError(f"{setting} is {value!r}; it must be {wanted}")
    return Optimizer(rule, float(lr), float(weight_decay), decay_biases, **settings)
