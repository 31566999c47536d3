"""The forms in which a kernel is first written, and what the contract adds around each.

fn(a, b, c, *, alpha, beta, epilogue)    the whole contract
fn(a, b, c, alpha=1.0, beta=0.0)         no epilogue
fn(a, b, c)                              writes C <- A B; alpha and beta are added here
fn(a, b) -> c                            returns A B; the copy into C is added here, and counted
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from gemm.kernel import Function, Kernel, UnknownKernel


def adapt(function: Callable[..., Any], path: str, name: str) -> Kernel:
    """A Kernel around a user's function; UnknownKernel if its arguments are of none of the forms."""
    target = getattr(function, "py_func", function)  # a Numba dispatcher hides the signature
    try:
        signature = dict(inspect.signature(target).parameters)
    except (TypeError, ValueError):  # a built-in function without one
        signature = {}
    parameters = list(signature)
    needed = sum(parameter.default is inspect.Parameter.empty for parameter in signature.values())
    if {"alpha", "beta", "epilogue"} <= set(parameters):
        wrapped, what = function, "the whole contract"
    elif {"alpha", "beta"} <= set(parameters):
        wrapped, what = _without_epilogue(function), "with alpha and beta"
    elif needed == 3:
        wrapped, what = _writing(function), "writes C"
    elif needed == 2:
        wrapped, what = _returning(function), "returns C"
    else:
        raise UnknownKernel(
            f"{path}:{name} takes ({', '.join(parameters)}); a kernel takes (a, b), (a, b, c), "
            "(a, b, c, alpha, beta) or (a, b, c, *, alpha, beta, epilogue)"
        )

    return Kernel(
        name=f"{path}:{name}", idea=f"{name}, from a file of yours ({what})", load=lambda: wrapped, file=path
    )


def _without_epilogue(function: Function) -> Function:
    def multiply(a: Any, b: Any, c: Any, *, alpha: float, beta: float, epilogue: Any = None) -> None:
        function(a, b, c, alpha=alpha, beta=beta)

    return multiply


def _writing(function: Function) -> Function:
    def multiply(a: Any, b: Any, c: Any, *, alpha: float, beta: float, epilogue: Any = None) -> None:
        if alpha == 1 and beta == 0:
            function(a, b, c)
            return
        product = np.full(c.shape, np.nan, c.dtype)  # a kernel that accumulates into it is found out
        function(a, b, product)
        _combine(product, c, alpha, beta)

    return multiply


def _returning(function: Function) -> Function:
    def multiply(a: Any, b: Any, c: Any, *, alpha: float, beta: float, epilogue: Any = None) -> None:
        returned = function(a, b)
        if returned is None:
            raise ValueError("the kernel returned None; return the product, or take (a, b, c) and write c")
        product = np.asarray(returned)
        if product.shape != c.shape:
            raise ValueError(f"the kernel returned shape {product.shape} for a product of shape {c.shape}")
        if alpha == 1 and beta == 0:
            np.copyto(c, product, casting="same_kind")
        else:
            _combine(product, c, alpha, beta)

    return multiply


def _combine(product: Any, c: Any, alpha: float, beta: float) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        c[...] = alpha * product if beta == 0 else alpha * product + beta * c
