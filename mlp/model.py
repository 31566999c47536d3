"""MLP: the recurrence of lecture 12, o_l = f(o_{l-1} W_l + b_l), trained by gradient steps."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from gemm.epilogue import activation as activation_of
from mlp.assignment import Spec, assign
from mlp.layers import Dense
from mlp.losses import loss as loss_of
from mlp.mistakes import positive, unknown
from mlp.operations import Operation
from mlp.optimizers import Optimizer
from mlp.optimizers import optimizer as optimizer_of
from mlp.plan import Plan, emit
from mlp.recorder import Recorder
from mlp.shared import Shared

Array = np.ndarray
DTYPES = ("float32", "float64")
# Plans kept, the least recently used dropped first: training's batch, its smaller last one, and the same
# for an evaluation between epochs.
PLANS = 4


class MLP:
    """A multilayer perceptron on any kernel.

    arch        widths from the inputs to the outputs, [784, 512, 512, 10] or "784-512-512-10"; two widths
                make a linear model
    activation  after every layer but the last (gemm.ACTIVATIONS); the last layer's outputs are logits
    loss        a name of mlp.LOSSES
    optimizer   a name of mlp.OPTIMIZERS, with learning rate lr (None: the optimizer's own) and weight_decay, or
                what mlp.optimizer(...) made with further numbers; an optimizer belongs to one model
    kernel      who multiplies: a kernel's name or a mapping, see mlp.assignment
    dtype       "float32" or "float64"
    seed        of the initial weights, the same whatever the kernel and (but for rounding) the dtype
    fused       let products do what their kernels can besides: bias, activation, its derivative, the update

    Raises ValueError for a name or number that is not one of these, gemm.UnknownKernel and
    gemm.KernelUnavailable for a kernel.
    """

    def __init__(
        self,
        arch: str | Sequence[int],
        *,
        activation: str = "relu",
        loss: str = "softmax-cross-entropy",
        optimizer: str | Optimizer = "sgd",
        lr: float | None = None,
        weight_decay: float = 0.0,
        kernel: Spec = "blas",
        dtype: Any = "float32",
        seed: int = 0,
        fused: bool = True,
    ) -> None:
        self.widths = widths(arch)
        self.activation = activation_of(activation)
        self.loss = loss_of(loss)
        if isinstance(optimizer, Optimizer):
            if lr is not None or weight_decay:
                raise ValueError(
                    "an optimizer that is made already has its lr and weight_decay; give them there"
                )
            self.optimizer = optimizer
        else:
            self.optimizer = optimizer_of(optimizer, lr, weight_decay)
        self.kernels = assign(kernel, len(self.widths) - 1)
        self.dtype = _dtype(dtype)
        self.seed, self.fused = seed, fused
        rng = np.random.default_rng(seed)
        hidden, last = self.activation, activation_of("identity")
        after = [hidden] * (len(self.widths) - 2) + [last]
        shapes = zip(self.widths, self.widths[1:])
        self.layers = tuple(Dense.initial(*shape, f, rng, self.dtype) for shape, f in zip(shapes, after))
        self._dw: list[Array] = []
        self._db = [np.empty_like(layer.bias) for layer in self.layers]
        self._plans: dict[int, Plan] = {}
        self._shared = Shared()
        self._current: Plan | None = None
        self._ran_forward: Plan | None = None

    @property
    def arch(self) -> str:
        """The widths as text, "784-512-512-10"."""
        return "-".join(map(str, self.widths))

    def __repr__(self) -> str:
        kernels = ", ".join(sorted({kernel.name for kernel in self.kernels.values()}))
        parts = (
            self.arch,
            self.activation.name,
            self.loss.name,
            repr(self.optimizer),
            self.dtype.name,
            kernels,
        )
        return f"MLP({', '.join(parts)})"

    def parameters(self) -> list[Array]:
        """[W_1, b_1, W_2, b_2, ...]: the arrays themselves."""
        return [array for layer in self.layers for array in (layer.weight, layer.bias)]

    def operations(self, batch: int) -> tuple[Operation, ...]:
        """What one training step of that batch size does, in order, without running or allocating it."""
        batch = positive("batch", batch)
        return emit(self.layers, self.loss, self.optimizer, self.kernels, batch, fused=self.fused)

    def plan(self, batch: int) -> Plan:
        """The step for that batch size, compiled at the first request and kept."""
        plan = self._plans.pop(batch, None)
        if plan is None:
            batch = positive("batch", batch)
            plan = Plan(
                self.layers, self.loss, self.optimizer, self.kernels, batch, self._gradients, self.fused,
                self._shared.allocator(),
            )  # fmt: skip
            while len(self._plans) >= PLANS:
                del self._plans[next(iter(self._plans))]
        self._plans[batch] = plan
        return plan

    def step(self, x: Any, y: Any, recorder: Recorder | None = None) -> float:
        """One training step on x (batch x d_in) and y; returns the loss before the update.

        x is used where it lies and y copied; no array of the size of an activation or a weight is allocated
        after the first step of a batch size. The recorder is called around every operation.
        """
        plan = self._current
        if plan is None or x is not plan.x:
            plan = self._ready(x, y)
        else:  # the array of the last step, with whatever it holds now
            plan.take(x, y)
            self._ran_forward = None
        return plan.step(recorder)

    def evaluate(self, x: Any, y: Any) -> float:
        """The loss on x and y; nothing is learnt."""
        return self.judge(x, y)[0]

    def judge(self, x: Any, y: Any) -> tuple[float, Array]:
        """The loss on x and y, and the outputs (batch x d_out): a buffer that what comes next overwrites."""
        plan = self._ready(x, y)
        return plan.evaluate(), plan.outputs

    def gradients(self, x: Any, y: Any) -> list[Array]:
        """The derivatives of the loss by each of `parameters()`, as new arrays; nothing is updated."""
        plan = self._ready(x, y)
        plan.evaluate()
        plan.backward()
        return self._copies()

    def forward(self, x: Any) -> Array:
        """The outputs (batch x d_out) for x (batch x d_in), any batch, as a new array: logits, no softmax."""
        plan = self._ready(x)
        outputs = plan.forward().copy()
        self._ran_forward = plan
        return outputs

    def backward(self, dz: Any) -> list[Array]:
        """The gradients, given dL/dZ (batch x d_out) of the outputs of the last `forward`; x must still hold
        what it held then. Raises ValueError without a forward to go back through."""
        plan, dz = self._ran_forward, np.asarray(dz)
        if plan is None:
            raise ValueError("backward goes back through a forward pass; call forward(x) first")
        if dz.shape != (plan.batch, self.widths[-1]):
            wanted = (plan.batch, self.widths[-1])
            raise ValueError(f"dz has shape {dz.shape}; the last forward pass gave outputs of shape {wanted}")
        plan.backward(dz)
        return self._copies()

    def predict(self, x: Any, batch: int = 1024) -> Array:
        """Labels (n,) under a loss that classifies, else outputs (n x d_out); `batch` rows at a time."""
        x, batch = self._rows(x), positive("batch", batch)
        outputs = np.concatenate([self.forward(x[at : at + batch]) for at in range(0, len(x), batch)])
        return self.loss.labels(outputs) if self.loss.classifies else outputs

    def _gradients(self, whole: bool) -> list[tuple[Array | None, Array]]:
        """(dW, db) of each layer; dW is made when it is first asked for (`whole`)."""
        if whole and not self._dw:
            self._dw = [np.empty_like(layer.weight) for layer in self.layers]
        dw: list[Array | None] = [*self._dw] or [None] * len(self._db)
        return list(zip(dw, self._db))

    def _copies(self) -> list[Array]:
        return [array.copy() for pair in zip(self._dw, self._db) for array in pair]

    def _ready(self, x: Any, y: Any = None) -> Plan:
        """The plan for x, holding x and y."""
        x = self._rows(x)
        plan = self.plan(len(x))
        plan.take(x, y)
        self._current, self._ran_forward = plan, None  # activations are about to be overwritten
        return plan

    def _rows(self, x: Any) -> Array:
        x = np.asarray(x)
        if x.ndim != 2 or x.shape[1] != self.widths[0] or not len(x):
            wanted = f"a batch of rows, (batch, {self.widths[0]})"
            raise ValueError(f"x has shape {x.shape}; the network {self.arch} takes {wanted}")
        if x.dtype.kind not in "fiub":
            raise ValueError(f"x is {x.dtype}; the network takes real numbers")
        return x


def widths(arch: str | Sequence[int]) -> tuple[int, ...]:
    """The widths of "784-512-512-10" or [784, 512, 512, 10]; ValueError unless two or more, each from 1."""
    try:
        parts = arch.split("-") if isinstance(arch, str) else list(arch)
        found = tuple(int(part) if isinstance(part, str) else operator.index(part) for part in parts)
    except (TypeError, ValueError):
        raise ValueError(f"arch {arch!r} is not a list of widths; write it as 784-512-512-10") from None
    if len(found) < 2:
        raise ValueError(f"arch {arch!r} has {len(found)} width; it needs two or more, inputs to outputs")
    if min(found) < 1:
        raise ValueError(f"arch {arch!r} has a width of {min(found)}; every width must be at least 1")
    return found


def _dtype(dtype: Any) -> np.dtype:
    try:
        found = np.dtype(dtype)
    except TypeError:
        raise unknown("dtype", dtype, DTYPES) from None
    if found.name not in DTYPES:
        raise ValueError(
            f"dtype {found.name} is not one that networks are trained in; use {' or '.join(DTYPES)}"
        )
    return found
