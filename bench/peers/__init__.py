"""Peers: the same training step in other people's libraries, each written as those who know it would.

    peer:numpy           NumPy and its BLAS: arrays made once, every operation into one of them
    peer:torch           PyTorch, as one writes it: nn.Sequential, loss.backward(), a fused optimizer
    peer:torch-compile   the same, its forward and backward pass compiled (needs a C++ compiler)
    peer:scikit-learn    MLPClassifier.partial_fit
    peer:torch-cuda      PyTorch on the GPU (with --device cuda), TF32 off; there are -tf32, -compile, -compile-tf32

A peer begins with the weights that it is given and must lose what float64 loses with them, step by step (`Peer.check`),
before it is timed. It is named where a kernel is (`gemmlab profile --kernel numba-micro --kernel peer:torch`) and has a
worker process of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import gemm

Array = np.ndarray
# A step on the batch that it was made with: the loss before the update.
Step = Callable[[], float]
Make = Callable[[dict[str, Any], Sequence[Array], Array, Array, int], Step]

PREFIX = "peer:"
# How far the losses of a peer's first steps may be from float64's, relative to the loss.
TOLERANCE = {"float32": 2e-4, "float64": 1e-9, "tfloat32": 5e-3, "bfloat16": 3e-2}


@dataclass(frozen=True)
class Peer:
    """A library's way to do a step.

    module   of this folder, its function `make(model, weights, x, y, threads)` returns the step: `model` as in a
             record, weights [W_1, b_1, ...] of its dtype, x (batch, d_in), labels y (batch,)
    needs    what it imports, and the package that has it
    takes    settings of a network, {"activation": (...), ...}: those that it can have
    device   where its network lives
    """

    name: str
    idea: str
    module: str
    needs: tuple[str, str]
    takes: dict[str, tuple[str, ...]]
    variant: str = ""
    device: str = "cpu"

    @property
    def reason(self) -> str | None:
        """Why it cannot run here, or None."""
        imported, package = self.needs
        if self.device == "cuda" and find_spec(imported):
            return gemm.find("torch-cuda").reason
        return None if find_spec(imported) else f"{imported} is not installed; `pip install {package}`"

    @property
    def file(self) -> Path:
        return Path(__file__).with_name(f"{self.module}.py")

    def refuses(self, model: dict[str, Any]) -> str | None:
        """Why it does not have such a network, or None."""
        lives = model.get("device", "cpu")
        if lives != self.device:
            where, wanted = (f"--device {name}" for name in (lives, self.device))
            return f"{self.name} is a step with {wanted}, not {where}; leave one of them out"
        if other := next((part for part in model["arch"] if isinstance(part, str)), None):
            return f"{self.name} is written for dense layers, not {other}"
        for setting, values in self.takes.items():
            if model[setting] not in values:
                return f"{self.name} is written for {setting} {' or '.join(values)}, not {model[setting]}"
        return None

    def make(self, model: dict[str, Any], weights: Sequence[Array], x: Array, y: Array, threads: int) -> Step:
        make: Make = import_module(f"bench.peers.{self.module}").make
        return make(model | {"variant": self.variant}, [w.copy() for w in weights], x, y, threads)

    def clock(self, step: Step, steps: int) -> int:
        """Nanoseconds of a device for so many steps."""
        taken: int = import_module(f"bench.peers.{self.module}").clock(step, steps)
        return taken

    def check(
        self, losses: Sequence[float], model: dict[str, Any], weights: Sequence[Array], x: Array, y: Array
    ) -> float:
        """Its first steps' losses beside float64's: the largest relative difference. ValueError: too far off."""
        from bench.peers.numpy_step import make

        exact = make(model, [w.astype(np.float64) for w in weights], x.astype(np.float64), y, 1)
        worst = 0.0
        for at, found in enumerate(losses, start=1):
            right = exact()
            worst = max(worst, abs(found - right) / abs(right))
            if not worst <= TOLERANCE["tfloat32" if "tf32" in self.variant else model["dtype"]]:
                raise ValueError(f"the loss of step {at} is {found:.8g}; in float64 it is {right:.8g}")
        return worst


_USUAL = {
    "activation": ("relu", "tanh", "sigmoid"),
    "loss": ("softmax-cross-entropy",),
    "optimizer": ("sgd",),
    "dtype": ("float32", "float64"),
}
_ON_GPU = _USUAL | {"dtype": ("float32", "float64", "bfloat16")}


def _torch_cuda(variant: str, idea: str) -> Peer:
    name = "-".join(filter(None, ("peer:torch-cuda", variant)))
    takes = _ON_GPU | {"dtype": ("float32",)} if "tf32" in variant else _ON_GPU
    return Peer(name, idea, "torch_cuda_step", ("torch", "torch"), takes, variant, "cuda")


PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "peer:numpy", "NumPy and its BLAS, no array made twice", "numpy_step", ("numpy", "numpy"), _USUAL
        ),
        Peer("peer:torch", "PyTorch, eager", "torch_step", ("torch", "torch"), _USUAL),
        Peer("peer:torch-compile", "PyTorch, compiled", "torch_step", ("torch", "torch"), _USUAL, "compile"),
        Peer(
            "peer:scikit-learn",
            "MLPClassifier.partial_fit",
            "sklearn_step",
            ("sklearn", "scikit-learn"),
            _USUAL,
        ),
        _torch_cuda("", "PyTorch on the GPU, eager, float32 as float32"),
        _torch_cuda("tf32", "PyTorch on the GPU, eager, TF32 allowed"),
        _torch_cuda("compile", "PyTorch on the GPU, compiled, float32 as float32"),
        _torch_cuda("compile-tf32", "PyTorch on the GPU, compiled, TF32 allowed"),
    )
}


def is_peer(name: str) -> bool:
    return name.startswith(PREFIX)


def get(name: str) -> Peer:
    """The peer of that name; gemm.UnknownKernel, which is a ValueError, names those that there are."""
    if name not in PEERS:
        raise gemm.UnknownKernel(f"unknown peer {name!r}; there are {', '.join(PEERS)}")
    return PEERS[name]
