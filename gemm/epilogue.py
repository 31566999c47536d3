"""Epilogues: what is done to C while it is still warm, and the activations that they know.

Forward, after C <- alpha A B + beta C:

    Z = C + bias                    bias: one entry per column (n,), as a row is an example
    aux_out <- Z                    kept where the derivative needs Z
    C <- activation(Z)

Backward, after C <- alpha A B + beta C (C is dL/dY of the layer below, for dX = dZ W^T):

    C <- C * activation'(.)         evaluated from aux_in

A kernel that can do this inside its last update of C says so in `fuses`; for every other kernel the
contract calls `apply` afterwards, with the same result. Activation derivatives are taken from the
*output* Y where the function allows it (all but gelu), so that Z need not be kept.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from gemm.dtypes import low

Array = np.ndarray
# The slope of a leaky relu below zero, PyTorch's.
LEAK = 0.01


@dataclass(frozen=True)
class Activation:
    """An elementwise function with its derivative.

    forward(z, out)    out <- f(z); `out` may be `z`
    backward(g, y)     g <- g * f'(z), in place, given y = f(z); or given z itself, where `from_z`
    error              rounding of one evaluation, in units in the last place of the result
    slope              the largest |f'|: how much an error in z can grow
    flops              floating-point operations per element of forward, by convention (exp, tanh, erf count 1)
    backward_flops     of backward, the multiplication by g among them
    from_z             whether backward needs z: y does not tell
    """

    name: str
    forward: Callable[[Array, Array], Array]
    backward: Callable[[Array, Array], Array]
    error: float
    slope: float
    flops: int
    backward_flops: int
    from_z: bool = False


def _relu(z: Array, out: Array) -> Array:
    return np.maximum(z, 0, out=out)  # NaN stays NaN


def _relu_backward(g: Array, y: Array) -> Array:
    return np.multiply(g, y > 0, out=g)


def _leaky(z: Array, out: Array) -> Array:
    return np.maximum(z, z * z.dtype.type(LEAK), out=out)


def _leaky_backward(g: Array, y: Array) -> Array:
    return np.multiply(g, np.where(y > 0, y.dtype.type(1), y.dtype.type(LEAK)), out=g)


def _erfc(z: Array) -> Array:
    """Where z lives: SciPy's, or CuPy's."""
    if isinstance(z, np.ndarray):
        from scipy.special import erfc
    else:
        from cupyx.scipy.special import erfc
    return erfc(z)


def _gelu(z: Array, out: Array) -> Array:
    """z times the normal distribution's share below z: no approximation (Hendrycks and Gimpel 2016)."""
    with np.errstate(invalid="ignore"):  # of -inf it is no number, as PyTorch's
        return np.multiply(z, _erfc(z * z.dtype.type(-math.sqrt(0.5))) * z.dtype.type(0.5), out=out)


def _gelu_backward(g: Array, z: Array) -> Array:
    with np.errstate(invalid="ignore", under="ignore"):
        below = _erfc(z * z.dtype.type(-math.sqrt(0.5))) * z.dtype.type(0.5)
        below += z * np.exp(z * z * z.dtype.type(-0.5)) * z.dtype.type(1 / math.sqrt(2 * math.pi))
        return np.multiply(g, below, out=g)


def _tanh_backward(g: Array, y: Array) -> Array:
    return np.multiply(g, 1 - y * y, out=g)


def _sigmoid(z: Array, out: Array) -> Array:
    # 1 / (1 + exp(-z)) overflows for z << 0; by tanh it does not: s(z) = (1 + tanh(z / 2)) / 2.
    # But (1 + tanh) cancels for z << 0, so take s from exp(-|z|), which never exceeds 1.
    e = np.exp(-np.abs(z))
    return np.divide(np.where(z < 0, e, 1), 1 + e, out=out)


def _sigmoid_backward(g: Array, y: Array) -> Array:
    return np.multiply(g, y * (1 - y), out=g)


def _identity(z: Array, out: Array) -> Array:
    if out is not z:
        np.copyto(out, z)
    return out


def _identity_backward(g: Array, y: Array) -> Array:
    return g


ACTIVATIONS = {
    a.name: a
    for a in (
        Activation("relu", _relu, _relu_backward, error=0, slope=1.0, flops=1, backward_flops=2),
        Activation("leaky-relu", _leaky, _leaky_backward, error=1, slope=1.0, flops=2, backward_flops=2),
        Activation(
            "gelu", _gelu, _gelu_backward, error=256, slope=1.13, flops=4, backward_flops=9, from_z=True
        ),
        Activation("tanh", np.tanh, _tanh_backward, error=4, slope=1.0, flops=1, backward_flops=3),
        Activation("sigmoid", _sigmoid, _sigmoid_backward, error=8, slope=0.25, flops=4, backward_flops=3),
        Activation("identity", _identity, _identity_backward, error=0, slope=1.0, flops=0, backward_flops=0),
    )
}


def activation(name: str) -> Activation:
    """The activation of that name; ValueError names the nearest spelling."""
    if isinstance(name, str) and name in ACTIVATIONS:
        return ACTIVATIONS[name]
    near = difflib.get_close_matches(str(name), ACTIVATIONS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(ACTIVATIONS)}"
    raise ValueError(f"unknown activation {name!r}; {hint}")


@dataclass(frozen=True, eq=False)
class Epilogue:
    """What to do to C after the product; forward (bias, activation, aux_out) or backward (grad_of, aux_in).

    bias        (n,), the dtype of C, added to every row
    activation  a name of ACTIVATIONS
    aux_out     (m, n), the dtype of C: receives Z = alpha A B + beta C + bias
    grad_of     a name of ACTIVATIONS: C <- C * f'
    aux_in      (m, n): Y = f(Z), from which f' is taken; or Z, for an activation with `from_z`

    Raises ValueError for an unknown activation, for both halves at once, or for half of a half.
    """

    bias: Array | None = None
    activation: str | None = None
    aux_out: Array | None = None
    grad_of: str | None = None
    aux_in: Array | None = None

    def __post_init__(self) -> None:
        for name in (self.activation, self.grad_of):
            if name is not None:
                activation(name)
        if (self.grad_of is None) != (self.aux_in is None):
            raise ValueError("an epilogue's grad_of and aux_in go together: give both or neither")
        if self.grad_of and any(x is not None for x in (self.bias, self.activation, self.aux_out)):
            raise ValueError(
                "an epilogue is either forward (bias, activation, aux_out) or backward (grad_of, aux_in)"
            )

    @property
    def names(self) -> frozenset[str]:
        """What a kernel must fuse to take this epilogue itself: of `Kernel.fuses`' vocabulary."""
        parts = {"bias": self.bias, self.activation: self.activation, "aux_out": self.aux_out}
        parts[f"grad:{self.grad_of}"] = self.grad_of
        return frozenset(str(name) for name, part in parts.items() if part is not None)

    def check(self, m: int, n: int, dtype: np.dtype) -> None:
        """Raise ValueError or TypeError where an array of the epilogue does not fit a C of (m, n)."""
        wanted = {"bias": (n,), "aux_out": (m, n), "aux_in": (m, n)}
        for name, shape in wanted.items():
            array = getattr(self, name)
            if array is None:
                continue
            if array.shape != shape:
                raise ValueError(
                    f"epilogue {name} has shape {array.shape}, C of shape {(m, n)} needs {shape}"
                )
            if array.dtype != dtype:
                raise TypeError(f"epilogue {name} is {array.dtype}, C is {dtype}: they must be the same")


def apply(epilogue: Epilogue, c: Array) -> Array:
    """Do the epilogue to C (m x n), in place, with NumPy: what the contract does where a kernel cannot.

    On the device where C lives, by NumPy's dispatch. A C of 16 bits: in float32, rounded once at the end.
    """
    if low(c.dtype):
        return _in_float32(epilogue, c)
    if epilogue.grad_of is not None and epilogue.aux_in is not None:
        return activation(epilogue.grad_of).backward(c, epilogue.aux_in)
    if epilogue.bias is not None:
        np.add(c, epilogue.bias, out=c)
    if epilogue.aux_out is not None:
        np.copyto(epilogue.aux_out, c)
    if epilogue.activation is not None:
        activation(epilogue.activation).forward(c, c)
    return c


def _in_float32(epilogue: Epilogue, c: Array) -> Array:
    """The same for 16 bits: everything is widened first."""
    wide = c.astype(np.float32)
    bias, aux_in = (None if x is None else x.astype(np.float32) for x in (epilogue.bias, epilogue.aux_in))
    kept = None if epilogue.aux_out is None else np.empty_like(wide)
    apply(replace(epilogue, bias=bias, aux_in=aux_in, aux_out=kept), wide)
    with np.errstate(over="ignore"):  # beyond float16 is infinite
        if epilogue.aux_out is not None:
            epilogue.aux_out[...] = kept
        c[...] = wide
    return c
