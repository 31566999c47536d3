"""Programs: calls of native code strung together, so that many of them cost one call from Python.

A call of Python into native code takes 0.1 us at least, and a small network's step has thirty. What `gemm.prepare`
returns for `numba-micro` is native code and its argument; so is what `native` makes of a function that was compiled by
`gemm.compiled.cfunction` with the signature void(int64). `chain` makes one call of neighbours that are both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from itertools import groupby
from typing import Any

import numpy as np

Array = np.ndarray
Call = Callable[[], Any]


class Native(partial):
    """A call of native code.

    function, argument  the address of a void(int64), and what it is given; 0 stands for `pool.do_job`
    keeps               what must live as long as the call: what its argument points at
    calls               of a chain's call, instead of these: those that it is made of
    """

    function: int
    argument: int
    keeps: Any
    calls: tuple[Native, ...]


def native(function: Any, words: Array, keeps: Any = None) -> Native:
    """The call of a compiled function (`gemm.compiled.cfunction`) with the address of `words` (int64)."""
    argument = words.ctypes.data
    call = Native(_entries()[0], function.address, argument)
    call.function, call.argument, call.keeps = function.address, argument, (function, words, keeps)
    return call


def chain(calls: Iterable[Call]) -> list[Call]:
    """The same calls, in order, as few as can be: neighbours that are native are one."""
    chained: list[Call] = []
    flat = (one for call in calls for one in getattr(call, "calls", (call,)))
    for is_native, neighbours in groupby(flat, lambda call: isinstance(call, Native)):
        some = list(neighbours)
        chained += [_program(some)] if is_native and len(some) > 1 else some
    return chained


def _program(calls: Sequence[Any]) -> Call:
    words = np.array([word for call in calls for word in (call.function, call.argument)], np.int64)
    program = Native(_entries()[1], words.ctypes.data, len(calls))
    program.keeps, program.calls = words, tuple(calls)
    return program


@cache
def _entries() -> tuple[Any, Any]:
    """What calls one function, and what runs a program, without Numba's dispatch."""
    from numba import types

    from gemm.compiled import cached
    from gemm.micro import pool

    signature, entries = types.void(types.int64, types.int64), []
    for function in (pool.do_call, pool.do_program):
        made = cached(function, signature, error_model="numpy")
        (compiled,) = made.overloads.values()
        entries.append(compiled.entry_point)
        _made.append(made)
    return entries[0], entries[1]


# Compiled code lives as long as the objects that made it.
_made: list[Any] = []
