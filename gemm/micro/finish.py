"""The epilogue, on rows of C that the micro-kernel has just written and that are still in the nearest cache.

    Z = C + bias;  aux_out <- Z;  C <- activation(Z)          forward
    C <- C * activation'(aux_in)                              backward

tanh and the sigmoid come from one expansion, written so that the compiler makes vectors of it (no branch, no call):

    e^x = 2^n (1 + p),   n = round(x / ln 2),   p = e^r - 1 as a polynomial of r = x - n ln 2

for x <= 0 only, where nothing overflows: tanh |z| = -(e^-2|z| - 1) / (e^-2|z| + 1), and the sigmoid from e^-|z|. The
polynomials are Taylor's; |r| <= ln 2 / 2, so 8 terms for float32 and 13 for float64 leave less than rounding does.

gelu is z Phi(z), Phi the normal distribution's share below z. It needs the share beyond |z|,

    Phi(-|z|) = e^(-z^2/2) S(t) / (|z| + K),   t = (|z| - K) / (|z| + K)

where S is smooth and between 0.4 and 0.8, so that a polynomial in t does (Shepherd and Laframboise 1981 do so for
erfc). z^2 rounds; what is left of it, which a fused multiply-add tells, corrects e^(-z^2/2).
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
    GELU,
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

    `rounder`, added to a number, rounds it to an integer that then stands in the lowest bits. Of the normal
    distribution: K (`middle`), S from the lowest power up (`tail`), and where the share beyond is zero (`far`).
    """

    element: Any
    bits: int
    mantissa: int
    high: float
    low: float
    terms: int
    least: float
    rounder: float
    middle: float
    tail: tuple[float, ...]
    far: float

    def word(self, value: float) -> int:
        code = "<f<i" if self.bits == 32 else "<d<q"
        return int(struct.unpack(code[2:], struct.pack(code[:2], value))[0])


# S through the Chebyshev points of t for |z| from 0 to `far`: within 1.4e-8 and 9e-18 of it.
TAIL_32 = (
    0.755285138596193, -0.6078965941450818, 0.38713668307040544, -0.18652330675776782, 0.06040618551429179,
    -0.007525402418208545, -0.003520972823986374, 0.0015668816877809047, 0.00018899651942026397,
    -0.0001255583856022561,
)  # fmt: skip
TAIL_64 = (
    0.7773517718933622, -0.7010090295908655, 0.5689688918147829, -0.4139035857755929, 0.2679742458416971,
    -0.15268023206441028, 0.07517191566812548, -0.030985315509016793, 0.010029820648351936,
    -0.002131605195723298, 3.2869980622442494e-05, 0.00018136032488251668, -6.475191429322486e-05,
    1.0759772542319458e-06, 6.796409416958435e-06, -1.800686073929392e-06, -4.3030600972602457e-07,
    3.1187244991295677e-07, 9.45572690337117e-09, -4.434552970785575e-08, -1.34456172912233e-10,
    5.237636606010233e-09, 8.876840802023829e-10,
)  # fmt: skip
SINGLE = Expansion(
    ir.FloatType(), 32, 23, 0.693359375, math.log(2) - 0.693359375, 8, -104.0, 1.5 * 2**23, 4.0, TAIL_32, 15.0
)
LN2 = float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")
DOUBLE = Expansion(ir.DoubleType(), 64, 52, *LN2, 13, -746.0, 1.5 * 2**52, 6.0, TAIL_64, 39.0)


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
        return self.exp_of(self.negative_size(z, 1.0, self.e.least))

    def exp_of(self, x: Any) -> Any:
        """e^x for x from `least` to 0."""
        builder = self.builder
        n, p = self.expansion(x)
        half = builder.ashr(n, ir.Constant(n.type, 1))  # 2^n itself may be no normal number
        power = builder.fmul(builder.fadd(p, self.number(1.0)), self.power_of_two(half))
        return builder.fmul(power, self.power_of_two(builder.sub(n, half)))

    def sigmoid(self, z: Any) -> Any:
        builder, power = self.builder, self.exp_minus(z)
        below = builder.fcmp_ordered("<", z, self.number(0.0))
        above = builder.select(below, power, self.number(1.0))
        return builder.fdiv(above, builder.fadd(power, self.number(1.0)))

    def normal(self, z: Any) -> tuple[Any, Any]:
        """Phi(z), and e^(-z^2/2)."""
        builder, e = self.builder, self.e
        size, far = self._call("fabs", z), self.number(e.far)
        size = builder.select(builder.fcmp_ordered(">", size, far), far, size)  # NaN stays
        square = builder.fmul(size, size)
        x, least = builder.fmul(square, self.number(-0.5)), self.number(e.least)
        bell = self.exp_of(builder.select(builder.fcmp_ordered("<", x, least), least, x))
        if vectors().fma:
            left = self._call("fma", size, size, builder.fneg(square))
            bell = self.multiply_add(builder.fmul(bell, left), self.number(-0.5), bell)
        middle = self.number(e.middle)
        inverse = builder.fdiv(self.number(1.0), builder.fadd(size, middle))
        t = builder.fmul(builder.fsub(size, middle), inverse)
        tail = self.number(e.tail[-1])
        for coefficient in e.tail[-2::-1]:
            tail = self.multiply_add(tail, t, self.number(coefficient))
        beyond = builder.fmul(builder.fmul(tail, inverse), bell)
        below = builder.fcmp_ordered("<", z, self.number(0.0))
        return builder.select(below, beyond, builder.fsub(self.number(1.0), beyond)), bell

    def gelu(self, z: Any) -> Any:
        return self.builder.fmul(z, self.normal(z)[0])

    def gelu_slope(self, z: Any) -> Any:
        share, bell = self.normal(z)
        density = self.builder.fmul(bell, self.number(1 / math.sqrt(2 * math.pi)))
        return self.multiply_add(z, density, share)


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


@intrinsic
def gelu(_, z):
    """z Phi(z), within 8 units in the last place."""
    return z(z), lambda _context, builder, _s, arguments: _scalars(builder, z).gelu(*arguments)


@intrinsic
def gelu_slope(_, z):
    """Its derivative, Phi(z) + z e^(-z^2/2) / sqrt(2 pi), within a few units in the last place of 1."""
    return z(z), lambda _context, builder, _s, arguments: _scalars(builder, z).gelu_slope(*arguments)


@register_jitable
def finish(job, i0, i1, j0, j1, one):
    """The epilogue of `job` on rows i0 to i1 of C, columns j0 to j1. one: 1 in C's dtype.

    Rows that follow each other without a gap, in every array, are one long row to all that is elementwise: what is left
    of a row's last vector goes number by number, far more slowly, and a narrow row is nothing but that.
    """
    unit, columns, zero, leak = get(job, UNIT), j1 - j0, one - one, rounded(LEAK, one)
    c_row, kept_row, seen_row = get(job, C_ROW), get(job, AUX_OUT_ROW), get(job, AUX_IN_ROW)
    if get(job, BIAS):
        terms = carray(pointer(get(job, BIAS) + j0 * unit, one), columns)
        for i in range(i0, i1):
            row = carray(pointer(get(job, C) + i * c_row + j0 * unit, one), columns)
            for j in range(columns):
                row[j] += terms[j]
    activation, gradient, together = get(job, ACTIVATION), get(job, GRADIENT), 1
    pitch = columns * unit
    if (
        c_row == pitch
        and (kept_row == pitch or not get(job, AUX_OUT))
        and (seen_row == pitch or not get(job, AUX_IN))
    ):
        together = max(1, i1 - i0)
    columns *= together
    for i in range(i0, i1, together):
        row = carray(pointer(get(job, C) + i * c_row + j0 * unit, one), columns)
        if get(job, AUX_OUT):
            kept = carray(pointer(get(job, AUX_OUT) + i * kept_row + j0 * unit, one), columns)
            for j in range(columns):
                kept[j] = row[j]
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
        elif activation == GELU:
            for j in range(columns):
                row[j] = gelu(row[j])
        if gradient:
            y = carray(pointer(get(job, AUX_IN) + i * seen_row + j0 * unit, one), columns)
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
            elif gradient == GELU:
                for j in range(columns):
                    row[j] *= gelu_slope(y[j])
