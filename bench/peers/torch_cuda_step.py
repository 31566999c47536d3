"""PyTorch on the GPU: as torch_step, on tensors that lie there; TF32 off unless the variant says so, by name.

Not yet run on a GPU. A bfloat16 network is bfloat16 throughout, weights and optimizer too, as ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray
DEVICE = "cuda"


def make(
    model: dict[str, Any], weights: Sequence[Array], x: Array, y: Array, threads: int
) -> Callable[[], Any]:
    """See bench.peers; the step returns its loss on the device, and float() of that waits."""
    import torch
    from torch import nn

    variant = model["variant"].split("-")
    tf32 = "tf32" in variant
    # the switch that all versions have; the newer ones' finer settings follow it
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    assert torch.backends.cuda.matmul.allow_tf32 == tf32, "PyTorch's switch for TF32 did not do what it says"
    activation = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}[model["activation"]]
    dtype = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}[model["dtype"]]
    layers: list[nn.Module] = []
    for w, b in zip(weights[::2], weights[1::2]):
        d_in, d_out = w.shape
        linear = nn.Linear(d_in, d_out, dtype=dtype, device=DEVICE)
        with torch.no_grad():  # by float32 or float64, which NumPy and PyTorch both have
            linear.weight.copy_(torch.from_numpy(_wide(w).T.copy()))
            linear.bias.copy_(torch.from_numpy(_wide(b)))
        layers += [linear, activation()]
    network = nn.Sequential(*layers[:-1])
    optimizer = torch.optim.SGD(network.parameters(), lr=model["lr"], fused=True)
    inputs = torch.from_numpy(_wide(x)).to(DEVICE, dtype)
    labels = torch.from_numpy(np.asarray(y, np.int64)).to(DEVICE)

    def loss_of(inputs: Any, labels: Any) -> Any:
        return nn.functional.cross_entropy(network(inputs), labels)

    forward = torch.compile(loss_of) if "compile" in variant else loss_of

    def step() -> Any:
        optimizer.zero_grad(set_to_none=True)
        loss = forward(inputs, labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def clock(step: Callable[[], Any], steps: int) -> int:
    """Nanoseconds that the device takes for so many steps, on PyTorch's current stream."""
    import torch

    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(steps):
        step()
    end.record()
    end.synchronize()
    return max(1, int(begin.elapsed_time(end) * 1e6))


def _wide(array: Array) -> Array:
    return np.ascontiguousarray(array.astype(np.float32) if array.dtype.itemsize < 4 else array)
