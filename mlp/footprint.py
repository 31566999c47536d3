"""Footprint: the bytes of memory that a training takes, known before anything is allocated.

With P parameters of s bytes (4 or 8), a batch of B examples, d_0 inputs and layers of d_1 .. d_L numbers for each (a
recurrent layer's are those of all its steps):

    parameters    s P
    state         s P for each array of the optimizer (none, one, or two for adam)
    gradients     s P;  only the biases' where all updates are done inside the products (plain SGD)
    activations   s B (d_1 + .. + d_L) for Y, as much again for Z after gelu;  2 s B max d for dZ of two layers;
                  the rows that convolutions and recurrent layers make of x, and the largest of these once more for dX
    batch         2 s B d_0 for the examples of a step, and its targets
    best          s P with early stopping: the weights of the best epoch

Nothing in it grows with the number of steps (their losses do, by 8 bytes each). There is one set of activations,
whatever sizes of batch a training and its evaluations need (mlp.shared). Beside it lie the data (with a copy where they
are not of the model's dtype, and 8 bytes for each example's place in the order) and a few MiB: compiled code, the
panels of a kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gemm.dtypes import named
from mlp.activations import activation as activation_of
from mlp.architectures import Architecture, architecture
from mlp.losses import loss as loss_of
from mlp.model import MLP
from mlp.optimizers import optimizer as optimizer_of


@dataclass(frozen=True)
class Memory:
    """Bytes of a training by part, as the top of this file has them."""

    parameters: int
    state: int
    gradients: int
    activations: int
    batch: int
    best: int

    @property
    def total(self) -> int:
        return sum(asdict(self).values())

    def record(self) -> dict[str, int]:
        """Every part and the total."""
        return asdict(self) | {"total": self.total}


def memory(
    arch: str | Sequence[int | str] | Architecture,
    batch: int,
    *,
    activation: str = "relu",
    loss: str = "softmax-cross-entropy",
    optimizer: str = "sgd",
    dtype: Any = "float32",
    gradients: bool | None = None,
    best: bool = False,
) -> Memory:
    """The bytes of a training of such a network (see mlp.MLP) in batches of that size.

    gradients  whether dW exists; None: only where the optimizer needs it, as on a kernel that updates inside products
    best       the weights of the best epoch are kept, for early stopping

    Raises ValueError for names and widths that are none.
    """
    network = architecture(arch)
    inputs, outputs, layers = network.widths[0], network.widths[-1], [shape.sizes for shape in network.shapes]
    size, rule = named(dtype).itemsize, optimizer_of(optimizer).rule
    weights, biases = size * sum(each.weights for each in layers), size * sum(each.biases for each in layers)
    whole = rule.function != "sgd" if gradients is None else gradients
    kept = 1 + activation_of(activation).from_z
    last = layers[-1].activations
    numbers = sum(each.activations for each in layers[:-1]) * kept + last
    numbers += 2 * max(each.activations for each in layers) + sum(each.lowered for each in layers)
    numbers += max((each.taken_back for each in layers[1:]), default=0)
    targets = loss_of(loss).targets(1, outputs, named(dtype)).nbytes
    return Memory(
        parameters=weights + biases,
        state=rule.arrays * (weights + biases),
        gradients=biases + weights * whole,
        activations=size * batch * numbers,
        batch=batch * (2 * size * inputs + targets),
        best=(weights + biases) * best,
    )


def memory_of(model: MLP, batch: int, best: bool = False) -> Memory:
    """The bytes of a training of this very model: its kernels decide where there are gradients."""
    separate = any(operation.op == "update" for operation in model.operations(batch))
    return memory(
        model.architecture, batch, activation=model.activation.name, loss=model.loss.name,
        optimizer=model.optimizer.name, dtype=model.dtype, gradients=separate, best=best,
    )  # fmt: skip
