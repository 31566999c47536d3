"""Activations of layers: gemm's, which are elementwise, and softmax, which is not.

    relu, leaky-relu, gelu, tanh, sigmoid, identity     y_j = f(z_j)                    gemm.epilogue
    softmax                                             y_j = e^z_j / sum_k e^z_k       of a row

The lecture's exception: every output of a softmax depends on the whole row, so that f' is a matrix, diag(y) - y y^T,
and dZ = Y * (dY - row sums of dY * Y). No kernel takes it into a product.
"""

from __future__ import annotations

import numpy as np

from gemm.cuda.product import FUNCTIONS
from gemm.epilogue import ACTIVATIONS as ELEMENTWISE
from gemm.epilogue import Activation
from gemm.program import Call
from mlp import native
from mlp.blocks import blocked
from mlp.devices import on_gpu
from mlp.mistakes import unknown

Array = np.ndarray


def _softmax(z: Array, out: Array) -> Array:
    native.call("softmax", z.dtype, z, out, *z.shape)()
    return out


def _softmax_backward(g: Array, y: Array) -> Array:
    native.call("softmax_backward", g.dtype, g, y, *g.shape)()
    return g


def _compiled(f: Activation, phase: str, z: Array, y: Array, dz: Array) -> Call | None:
    """The same as `f` does, compiled, where there is such a thing: NumPy has no erf, and SciPy's takes 11 to 25 ns."""
    forward = phase == "forward"
    if f is ELEMENTWISE["gelu"]:
        name, arrays = ("gelu", (z, y)) if forward else ("gelu_backward", (dz, z))
        return native.call(name, z.dtype, *arrays, z.size)
    if f is SOFTMAX:
        name, arrays = ("softmax", (z, y)) if forward else ("softmax_backward", (dz, y))
        return native.call(name, z.dtype, *arrays, *z.shape)
    return None


SOFTMAX = Activation("softmax", _softmax, _softmax_backward, error=8, slope=0.5, flops=4, backward_flops=4)
ACTIVATIONS = {**ELEMENTWISE, SOFTMAX.name: SOFTMAX}
# Those that let about half of their input's variance through.
HALVING = ("relu", "leaky-relu", "gelu")


def activation(name: str) -> Activation:
    """The activation of that name; ValueError names the nearest spelling."""
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise unknown("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]


def bind(f: Activation, phase: str, z: Array, y: Array, dz: Array) -> Call:
    """The call y <- f(z) (phase "forward"), or dz <- dz * f' (z is y, where f' is taken from that).

    All (rows x width), C-contiguous.
    """
    if on_gpu(z) and f is not SOFTMAX:
        which, arrays = ("activation", (z, y)) if phase == "forward" else ("activation_backward", (dz, z))
        return native.call(which, z.dtype, *arrays, z.size, FUNCTIONS[f.name])
    compiled = _compiled(f, phase, z, y, dz)
    if compiled is not None:
        return compiled
    return blocked(f.forward, z, y) if phase == "forward" else blocked(f.backward, dz, z)


def bind_with_bias(f: Activation, sums: Array, bias: Array, z: Array, y: Array) -> Call:
    """The call z <- sums + bias (where f' is taken from that), y <- f(sums + bias), in one pass on a GPU."""
    kept = z if f.from_z else 0
    return native.call("bias_activation", y.dtype, sums, bias, kept, y, *y.shape, FUNCTIONS[f.name])


def initial_variance(f: Activation, inputs: int, outputs: int) -> float:
    """Of the weights of a layer before f.

    2 / inputs before a relu and its like (He et al. 2015, eq. 10), which let half of it through, else
    2 / (inputs + outputs) (Glorot and Bengio 2010, eq. 12).
    """
    return 2 / inputs if f.name in HALVING else 2 / (inputs + outputs)
