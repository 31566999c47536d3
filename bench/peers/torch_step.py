"""PyTorch: nn.Sequential, cross_entropy, backward and a fused SGD; eager, or its forward pass and loss compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray


def make(
    model: dict[str, Any], weights: Sequence[Array], x: Array, y: Array, threads: int
) -> Callable[[], float]:
    """See bench.peers. PyTorch's W is the lecture's: the transpose of ours."""
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    activation = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}[model["activation"]]
    layers: list[nn.Module] = []
    dtype = {"float32": torch.float32, "float64": torch.float64}[model["dtype"]]
    for w, b in zip(weights[::2], weights[1::2]):
        d_in, d_out = w.shape
        linear = nn.Linear(d_in, d_out, dtype=dtype)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(w.T.copy()))
            linear.bias.copy_(torch.from_numpy(b))
        layers += [linear, activation()]
    network = nn.Sequential(*layers[:-1])
    optimizer = torch.optim.SGD(network.parameters(), lr=model["lr"], fused=True)
    inputs, labels = torch.from_numpy(x), torch.from_numpy(np.asarray(y, np.int64))

    def loss_of(inputs: Any, labels: Any) -> Any:
        return nn.functional.cross_entropy(network(inputs), labels)

    forward = torch.compile(loss_of) if model["variant"] == "compile" else loss_of

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = forward(inputs, labels)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step
