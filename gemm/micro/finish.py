"""The epilogue, on rows of C that the micro-kernel has just written and that are still in the nearest cache.

    Z = C + bias;  aux_out <- Z;  C <- activation(Z)          forward
    C <- C * activation'(aux_in)                              backward

tanh and the sigmoid come from one expansion, written so that the compiler makes vectors of it (no branch, no call):

    e^x = 2^n (1 + p),   n = round(x / ln 2),   p = e^r - 1 as a polynomial of r = x - n ln 2

for x <= 0 only, where nothing overflows: tanh |z| = -(e^-2|z| - 1) / (e^-2|z| + 1), and the sigmoid from e^-|z|. The
polynomials are Taylor's; |r| <= ln 2 / 2, so 8 terms for float32 and 13 for float64 leave less than rounding does.
"""

from __future__ import annotations

import math
import struct
from typing import Any, NamedTuple

from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic, register_jitable

from gemm.epilogue import LEAK
from gemm.micro.host import vectors
from gemm.micro.job import (
    ACTIVATION,
    AUX_IN,
    AUX_IN_ROW,
    AUX_OUT,
    AUX_OUT_ROW,
    BIAS,
    C_ROW,
    GRADIENT,
    LEAKY,
    RELU,
    SIGMOID,
    TANH,
    UNIT,
    C,
)
from gemm.micro.memory import get, pointer, rounded


class Expansion(NamedTuple):
    """e^x in one dtype: ln 2 in two parts (n times the first is exact), terms, and where e^x is zero.

    `rounder`, added to a number, rounds it to an integer that then stands in the lowest bits.
    """

    element: Any
    bits: int
    mantissa: int
    high: float
    low: float
    terms: int
    least: float
    rounder: float

    def word(self, value: float) -> int:
        code = "<f<i" if self.bits == 32 else "<d<q"
        return int(struct.unpack(code[2:], struct.pack(code[:2], value))[0])


SINGLE = Expansion(ir.FloatType(), 32, 23, 0.693359375, math.log(2) - 0.693359375, 8, -104.0, 1.5 * 2**23)
LN2 = float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")
DOUBLE = Expansion(ir.DoubleType(), 64, 52, *LN2, 13, -746.0, 1.5 * 2**52)


class _Scalars:
    """A builder of scalar arithmetic that LLVM's vectoriser can widen."""

    def __init__(self, builder: Any, e: Expansion) -> None:
        self.builder, self.e = builder, e

    def number(self, value: float) -> Any:
        return ir.Constant(self.e.element, value)

    def _call(self, name: str, *arguments: Any) -> Any:
        name = f"llvm.{name}.f{self.e.bits}"
        module, element = self.builder.module, self.e.element
        type_ = ir.FunctionType(element, [element] * len(arguments))
        return self.builder.call(module.globals.get(name) or ir.Function(module, type_, name), arguments)

    def multiply_add(self, x: Any, y: Any, z: Any) -> Any:
        if vectors().fma:
            return self._call("fma", x, y, z)
        return self.builder.fadd(self.builder.fmul(x, y), z)

    def negative_size(self, z: Any, factor: float, least: float) -> Any:
        """-factor |z|, but not below `least`; NaN stays."""
        x = self.builder.fmul(self._call("fabs", z), self.number(-factor))
        low = self.number(least)
        return self.builder.select(self.builder.fcmp_ordered("<", x, low), low, x)

    def expansion(self, x: Any) -> tuple[Any, Any]:
        """n (an integer) and p, with e^x = 2^n (1 + p)."""
        e, builder = self.e, self.builder
        rounded = self.multiply_add(x, self.number(1 / math.log(2)), self.number(e.rounder))
        n = builder.fsub(rounded, self.number(e.rounder))
        r = self.multiply_add(n, self.number(-e.high), x)
        r = self.multiply_add(n, self.number(-e.low), r)
        p = self.number(1 / math.factorial(e.terms))
        for power in range(e.terms - 1, 0, -1):
            p = self.multiply_add(p, r, self.number(1 / math.factorial(power)))
        whole = ir.IntType(e.bits)
        integer = builder.sub(builder.bitcast(rounded, whole), ir.Constant(whole, e.word(e.rounder)))
        return integer, builder.fmul(p, r)

    def power_of_two(self, n: Any) -> Any:
        e, builder, whole = self.e, self.builder, n.type
        biased = builder.add(n, ir.Constant(whole, (1 << (e.bits - e.mantissa - 2)) - 1))
        return builder.bitcast(builder.shl(biased, ir.Constant(whole, e.mantissa)), e.element)

    def tanh(self, z: Any) -> Any:
        builder = self.builder
        n, p = self.expansion(self.negative_size(z, 2.0, -80.0))  # tanh is 1 long before
        scale = self.power_of_two(n)
        less_one = self.multiply_add(scale, p, builder.fsub(scale, self.number(1.0)))
        size = builder.fdiv(builder.fneg(less_one), builder.fadd(less_one, self.number(2.0)))
        return self._call("copysign", size, z)

    def exp_minus(self, z: Any) -> Any:
        builder = self.builder
        n, p = self.expansion(self.negative_size(z, 1.0, self.e.least))
        half = builder.ashr(n, ir.Constant(n.type, 1))  # 2^n itself may be no normal number
        power = builder.fmul(builder.fadd(p, self.number(1.0)), self.power_of_two(half))
        return builder.fmul(power, self.power_of_two(builder.sub(n, half)))

    def sigmoid(self, z: Any) -> Any:
        builder, power = self.builder, self.exp_minus(z)
        below = builder.fcmp_ordered("<", z, self.number(0.0))
        above = builder.select(below, power, self.number(1.0))
        return builder.fdiv(above, builder.fadd(power, self.number(1.0)))


def _scalars(builder: Any, kind: Any) -> _Scalars:
    return _Scalars(builder, SINGLE if kind == types.float32 else DOUBLE)


@intrinsic
def tanh(_, z):
    """tanh z, within 4 units in the last place."""
    return z(z), lambda _context, builder, _s, arguments: _scalars(builder, z).tanh(*arguments)


@intrinsic
def exp_minus(_, z):
    """e^-|z|, within 2 units in the last place."""
    return z(z), lambda _context, builder, _s, arguments: _scalars(builder, z).exp_minus(*arguments)


@intrinsic
def sigmoid(_, z):
    """1 / (1 + e^-z), within 4 units in the last place."""
    return z(z), lambda _context, builder, _s, arguments: _scalars(builder, z).sigmoid(*arguments)


@register_jitable
def finish(job, i0, i1, j0, j1, one):
    """The epilogue of `job` on rows i0 to i1 of C, columns j0 to j1. one: 1 in C's dtype."""
    unit, columns, zero, leak = get(job, UNIT), j1 - j0, one - one, rounded(LEAK, one)
    for i in range(i0, i1):
        row = carray(pointer(get(job, C) + i * get(job, C_ROW) + j0 * unit, one), columns)
        if get(job, BIAS):
            terms = carray(pointer(get(job, BIAS) + j0 * unit, one), columns)
            for j in range(columns):
                row[j] += terms[j]
        if get(job, AUX_OUT):
            kept = carray(pointer(get(job, AUX_OUT) + i * get(job, AUX_OUT_ROW) + j0 * unit, one), columns)
            for j in range(columns):
                kept[j] = row[j]
        activation, gradient = get(job, ACTIVATION), get(job, GRADIENT)
        if activation == RELU:
            for j in range(columns):
                row[j] = zero if row[j] < zero else row[j]  # NaN stays NaN
        elif activation == LEAKY:
            for j in range(columns):
                row[j] = leak * row[j] if row[j] < zero else row[j]
        elif activation == TANH:
            for j in range(columns):
                row[j] = tanh(row[j])
        elif activation == SIGMOID:
            for j in range(columns):
                row[j] = sigmoid(row[j])
        if gradient:
            y = carray(pointer(get(job, AUX_IN) + i * get(job, AUX_IN_ROW) + j0 * unit, one), columns)
            if gradient == RELU:
                for j in range(columns):
                    row[j] *= one if y[j] > zero else zero
            elif gradient == LEAKY:
                for j in range(columns):
                    row[j] *= one if y[j] > zero else leak
            elif gradient == TANH:
                for j in range(columns):
                    row[j] *= one - y[j] * y[j]
            elif gradient == SIGMOID:
                for j in range(columns):
                    row[j] *= y[j] * (one - y[j])
