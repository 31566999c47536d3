"""MLP: the recurrence of lecture 12, o_l = f(o_{l-1} W_l + b_l), trained by gradient steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakSet

import numpy as np

from gemm.dtypes import low, named
from mlp.activations import activation as activation_of
from mlp.architectures import Architecture, architecture
from mlp.assignment import Spec, assign
from mlp.devices import device as device_of
from mlp.devices import host, write
from mlp.losses import Loss
from mlp.losses import loss as loss_of
from mlp.mistakes import array, positive, seeded, unknown
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
# Optimizers that have a model: their state is found by the addresses of its parameters, which another model's may have
# once it is gone.
_TAKEN: WeakSet[Optimizer] = WeakSet()


class MLP:
    """A multilayer perceptron on any kernel.

    arch        widths from the inputs to the outputs, [784, 512, 512, 10] or "784-512-512-10", two of which make a
                linear model; or with convolutions and recurrent layers, see mlp.architectures
    activation  after every layer but the last (mlp.ACTIVATIONS); the last layer's outputs are logits
    loss        a name of mlp.LOSSES, or what mlp.weighted(...) made
    optimizer   a name of mlp.OPTIMIZERS, with learning rate lr (None: the optimizer's own) and weight_decay, or
                what mlp.optimizer(...) made with further numbers; an optimizer belongs to one model
    kernel      who multiplies: a kernel's name or a mapping, see mlp.assignment; None: blas, on a GPU cublas
    dtype       "float32" or "float64"; on a GPU also "bfloat16": all arrays are stored so, sums and losses are float32
    seed        of the initial weights, the same whatever the kernel and (but for rounding) the dtype
    fused       let products do what their kernels can besides: bias, activation, its derivative, the update
    device      where it lives: "cpu", or "cuda" (mlp.devices): parameters, activations, gradients and the optimizer's
                state are then CuPy's arrays, and so is what it returns, but for labels and the losses of `evaluate`;
                its kernels must be the GPU's. x and y may be NumPy's, which are copied, or CuPy's
    graph       on a GPU: run a step that does the same as the last few as one CUDA graph, launched at once. Saves the
                launches of a small network; not for steps whose x is another CuPy array each time

    One thread at a time: its steps and predictions share buffers. A deep copy or a pickle has its own.

    Raises ValueError for a name or number that is not one of these, gemm.UnknownKernel and
    gemm.KernelUnavailable for a kernel.
    """

    def __init__(
        self,
        arch: str | Sequence[int | str] | Architecture,
        *,
        activation: str = "relu",
        loss: str | Loss = "softmax-cross-entropy",
        optimizer: str | Optimizer = "sgd",
        lr: float | None = None,
        weight_decay: float = 0.0,
        kernel: Spec | None = None,
        dtype: Any = "float32",
        seed: int = 0,
        fused: bool = True,
        device: str = "cpu",
        graph: bool = False,
    ) -> None:
        self.architecture = architecture(arch)
        self.activation = activation_of(activation)
        self.loss = loss_of(loss)
        if isinstance(optimizer, Optimizer):
            if lr is not None or weight_decay:
                raise ValueError(
                    "an optimizer that is made already has its lr and weight_decay; give them there"
                )
            if optimizer in _TAKEN or optimizer.state:
                raise ValueError("this optimizer belongs to another model; make one for each")
            self.optimizer = optimizer
        else:
            self.optimizer = optimizer_of(optimizer, lr, weight_decay)
        _TAKEN.add(self.optimizer)
        self.device = device_of(device)
        self.dtype = dtype_of(dtype, self.device.name)
        self.seed, self.fused, self.graph = seed, fused, graph
        if graph and self.device.name == "cpu":
            raise ValueError("graph is for a network on a GPU; give it device 'cuda' too")
        rng = seeded(seed)
        shapes = self.architecture.shapes
        after = [self.activation] * (len(shapes) - 1) + [activation_of("identity")]
        layers = tuple(shape.layer(f, rng, self.dtype) for shape, f in zip(shapes, after))
        kernel = self.device.kernel if kernel is None else kernel
        self.kernels = assign(kernel, [layer.products for layer in layers], self.device)
        on_host = self.device.name == "cpu"
        self.layers = layers if on_host else tuple(layer.moved(self.device) for layer in layers)
        empty = self.device.empty
        self._gradients: list[list[Array | None]] = [
            [
                empty(parameter.shape, parameter.dtype) if parameter.ndim == 1 else None
                for parameter in layer.parameters.values()
            ]
            for layer in self.layers
        ]
        self._plans: dict[int, Plan] = {}
        self._shared = Shared(empty)
        self._current: Plan | None = None
        self._ran_forward: Plan | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, or a pickle, is what this was made from, its weights and the optimizer's state: no buffers."""
        own, kernels = self.optimizer, self.kernels.items()
        made = {
            "arch": self.architecture.parts, "activation": self.activation.name, "loss": self.loss,
            "kernel": {f"{layer}.{kind}": kernel.name for (layer, kind), kernel in kernels},
            "dtype": self.dtype.name, "seed": self.seed, "fused": self.fused,
            "device": self.device.name, "graph": self.graph,
        }  # fmt: skip
        states = [[host(state) for state in own.state_of(parameter)] for parameter in self.parameters()]
        parameters = [host(parameter) for parameter in self.parameters()]
        return _again, (type(self), made, (own.name, own.settings, own.steps), parameters, states)

    @property
    def arch(self) -> str:
        """The architecture as text, "784-512-512-10"."""
        return str(self.architecture)

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers of an example, and what every layer hands on of it."""
        return self.architecture.widths

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
        """[W_1, b_1, W_2, b_2, ...]: the arrays themselves; a recurrent layer has W, U, b."""
        return [array for layer in self.layers for array in layer.parameters.values()]

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
                self.layers, self.loss, self.optimizer, self.kernels, batch, self._arrays, self.fused,
                self._shared.allocator(), self.device, self.graph,
            )  # fmt: skip
            while len(self._plans) >= PLANS:
                del self._plans[next(iter(self._plans))]
        self._plans[batch] = plan
        return plan

    def step(self, x: Any, y: Any, recorder: Recorder | None = None) -> float:
        """One training step on x (batch x d_in) and y; returns the loss before the update.

        x is used where it lies and y copied; no array of the size of an activation or a weight is allocated
        after the first step of a batch size. The recorder is called around every operation.

        On a GPU a step is put on CuPy's current stream and not waited for. The loss is then a 0-d CuPy array of its
        own: float() of it waits. An x or y of NumPy's is copied before the call returns, and may be changed then.
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
        return self.loss_and_gradients(x, y)[1]

    def loss_and_gradients(self, x: Any, y: Any) -> tuple[float, list[Array]]:
        """What `evaluate` and `gradients` give, for one pass forward."""
        plan = self._ready(x, y)
        value = plan.evaluate()
        plan.backward()
        return value, self._copies()

    def forward(self, x: Any) -> Array:
        """The outputs (batch x d_out) for x (batch x d_in), any batch, as a new array: logits, no softmax."""
        plan = self._ready(x)
        outputs = plan.forward().copy()
        self._ran_forward = plan
        return outputs

    def backward(self, dz: Any) -> list[Array]:
        """The gradients, given dL/dZ (batch x d_out) of the outputs of the last `forward`; x must still hold
        what it held then. Raises ValueError without a forward to go back through."""
        plan, dz = self._ran_forward, array("dz", dz)
        if plan is None:
            raise ValueError("backward goes back through a forward pass; call forward(x) first")
        if dz.shape != (plan.batch, self.widths[-1]):
            wanted = (plan.batch, self.widths[-1])
            raise ValueError(f"dz has shape {dz.shape}; the last forward pass gave outputs of shape {wanted}")
        if dz.dtype.kind not in "fiub" and not low(dz.dtype):
            raise ValueError(f"dz is {dz.dtype}; the network takes real numbers")
        plan.backward(dz)
        return self._copies()

    def predict(self, x: Any, batch: int = 1024) -> Array:
        """Labels (n,) under a loss that classifies, else outputs (n x d_out), of NumPy's; `batch` rows at a time."""
        x, batch = self._rows(x), positive("batch", batch)
        if not np.isfinite(host(x)).all():
            x = host(x)
            row = int(np.argmin(np.isfinite(x).all(axis=1)))
            raise ValueError(
                f"row {row} of x has a value that is NaN or infinite; nothing can be told from it"
            )
        outputs = np.concatenate([host(self.forward(x[at : at + batch])) for at in range(0, len(x), batch)])
        return self.loss.labels(outputs) if self.loss.classifies else outputs

    def release(self) -> None:
        """Let go of the plans, their buffers and the last examples; the next call makes them anew."""
        self._plans.clear()
        self._current = self._ran_forward = None

    def _arrays(self, whole: bool) -> list[list[Array | None]]:
        """The gradients' arrays of each layer; those of weights are made when they are first asked for (`whole`)."""
        if whole:
            for layer, arrays in zip(self.layers, self._gradients):
                for at, parameter in enumerate(layer.parameters.values()):
                    if arrays[at] is None:
                        arrays[at] = self.device.empty(parameter.shape, parameter.dtype, parameter, 3)
        return self._gradients

    def _copies(self) -> list[Array]:
        return [array.copy() for arrays in self._gradients for array in arrays if array is not None]

    def _ready(self, x: Any, *y: Any) -> Plan:
        """The plan for x, holding x and, if it is given, y."""
        x = self._rows(x)
        plan = self.plan(len(x))
        plan.take(x, *y)
        self._current, self._ran_forward = plan, None  # activations are about to be overwritten
        return plan

    def _rows(self, x: Any) -> Array:
        x = array("x", x)
        if x.ndim != 2 or x.shape[1] != self.widths[0] or not len(x):
            wanted = f"a batch of rows, (batch, {self.widths[0]})"
            raise ValueError(f"x has shape {x.shape}; the network {self.arch} takes {wanted}")
        if x.dtype.kind not in "fiub" and not low(x.dtype):
            raise ValueError(f"x is {x.dtype}; the network takes real numbers")
        return x


def _again(
    kind: type[MLP],
    made: dict[str, Any],
    optimizer: tuple[str, Array, int],
    parameters: Sequence[Array],
    states: Sequence[Sequence[Array]],
) -> MLP:
    """The model that `__reduce__` took apart."""
    name, settings, steps = optimizer
    model = kind(**made, optimizer=name)
    model.optimizer.restore(settings.tolist(), steps)
    for parameter, values, own in zip(model.parameters(), parameters, states):
        write(parameter, values)
        for state, held in zip(model.optimizer.state_of(parameter), own):
            write(state, held)
    return model


def dtype_of(dtype: Any, device: str = "cpu") -> np.dtype:
    """float32 or float64, on a GPU also bfloat16; ValueError for what is none of them."""
    if str(dtype) == "bfloat16" and device == "cuda":
        return named("bfloat16")
    try:
        if dtype is None:  # to NumPy it is float64
            raise TypeError
        found = np.dtype(dtype)
    except TypeError:
        raise unknown("dtype", dtype, DTYPES) from None
    if found.name not in DTYPES:
        raise ValueError(
            f"dtype {found.name} is not one that networks are trained in; use {' or '.join(DTYPES)}"
        )
    return np.dtype(found.name)  # in the machine's order of bytes
