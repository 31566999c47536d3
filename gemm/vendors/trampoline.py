"""Trampoline: from a zero-argument call in Python to a CBLAS function's first instruction, as cheaply as can be.

Everything that CBLAS wants to be told (15 words) is written down once; then a call hands over one number, where
that lies, to compiled code that loads the words into registers and jumps:

    word  0         1      2      3      4 5 6  7      8 9    10 11  12    13 14
          function  order  op(A)  op(B)  m n k  alpha  A lda  B  ldb  beta  C  ldc

`partial(entry(...), address)` is that call: the entry point is the compiled function's own, past Numba's dispatch
on types. The GIL is released around it. NumPy's OpenBLAS, float32, one EPYC core at 2.6 GHz, us a call:

                                        n = 1     n = 16
    this                                0.11      0.19
    ctypes, arguments made beforehand   0.71      0.79
    ctypes, arguments as Python values  1.46      1.55
    np.dot(a, b, out=c)                 0.35      0.47
    np.matmul(a, b, out=c)              0.86      0.99
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from gemm.compiled import cached

WORDS = 15
ALPHA, BETA = 7, 12  # float64, whatever the matrices are


def _jump(real: ir.Type, integer: ir.Type) -> Any:
    word, enum = ir.IntType(64), ir.IntType(32)
    pointer = real.as_pointer()
    kinds = [enum] * 3 + [integer] * 3 + [real, pointer, integer, pointer, integer, real, pointer, integer]
    function_type = ir.FunctionType(ir.VoidType(), kinds)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        words = builder.inttoptr(arguments[0], word.as_pointer())

        def value(at: int, kind: ir.Type) -> Any:
            loaded = builder.load(builder.gep(words, [ir.Constant(enum, at)]))
            if kind is pointer:
                return builder.inttoptr(loaded, pointer)
            if kind is real:
                loaded = builder.bitcast(loaded, ir.DoubleType())
                return loaded if real == ir.DoubleType() else builder.fptrunc(loaded, real)
            return loaded if kind == word else builder.trunc(loaded, kind)

        target = builder.inttoptr(
            builder.load(builder.gep(words, [ir.Constant(enum, 0)])), function_type.as_pointer()
        )
        builder.call(target, [value(at, kind) for at, kind in enumerate(kinds, start=1)])
        return context.get_dummy_value()

    @intrinsic
    def jump(typing: Any, at: Any) -> Any:
        return types.void(types.int64), emit

    return jump


_sgemm_32 = _jump(ir.FloatType(), ir.IntType(32))
_sgemm_64 = _jump(ir.FloatType(), ir.IntType(64))
_dgemm_32 = _jump(ir.DoubleType(), ir.IntType(32))
_dgemm_64 = _jump(ir.DoubleType(), ir.IntType(64))


def sgemm_32(at):
    _sgemm_32(at)


def sgemm_64(at):
    _sgemm_64(at)


def dgemm_32(at):
    _dgemm_32(at)


def dgemm_64(at):
    _dgemm_64(at)


@cache
def entry(name: str, integer_bits: int) -> Callable[[int], None]:
    """Calls `name` (sgemm, dgemm) as the words at an address say.

    integer_bits  of its sizes: 32 or 64
    """
    signature = types.void(types.int64)
    dispatcher: Any = cached(globals()[f"{name}_{integer_bits}"], signature)
    entry_point = dispatcher.overloads[signature.args].entry_point
    _alive.append(dispatcher)
    return entry_point


_alive: list[Any] = []  # compiled code goes with its dispatcher
