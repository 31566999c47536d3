"""Packing: a block of an operand copied once, into the order in which the micro-kernel reads it.

A strip is `width` columns wide and k long, and is stored row by row with `pitch` bytes from one row to the next:

    strip[p][x] = source[p * along + x * across]            p < k, x < width

A strip of B is two vectors wide (read whole; what lies beyond the edge of B is never used); a strip of A is as many
columns as the tile has rows (read one element at a time). Both come from either memory order of their operand: where
the elements of a row of the strip lie side by side they are copied, where those of a column do, blocks of a vector's
square are transposed in registers; everything else goes element by element.

What packing is for: the strip lies in consecutive cache lines, so that it occupies exactly its own size in L1 and L2
(rows of a matrix whose width is a power of two would all fall on the same few cache sets), the hardware's prefetcher
sees one stream, and the TLB one or two pages.
"""

from __future__ import annotations

from numba import types
from numba.extending import intrinsic, register_jitable

from gemm.micro.emit import Emitter, word
from gemm.micro.host import tile
from gemm.micro.tile import lanes_of


@intrinsic
def copy_vector(_, source, destination, kind):
    """A whole vector of elements. kind: any number of their dtype."""
    dtype = kind.name

    def generate(context, builder, _signature, arguments):
        shape = tile(dtype)
        source, destination, _kind = arguments
        emit = Emitter(builder, dtype, shape.lanes, shape.fma)
        emit.store(emit.load(source), destination)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, kind), generate


@intrinsic
def copy_part(_, source, destination, count, kind):
    """The first `count` elements of a vector, and zeros after them."""
    dtype = kind.name

    def generate(context, builder, _signature, arguments):
        shape = tile(dtype)
        source, destination, count, _kind = arguments
        emit = Emitter(builder, dtype, shape.lanes, shape.fma)
        emit.store(emit.load(source, emit.first(count)), destination)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3, kind), generate


@intrinsic
def transpose_square(_, source, across, count, destination, pitch, rows, kind):
    """A square of a vector's side: vectors of `rows` elements, `across` bytes apart, become columns.

    Where there are fewer than a vector of them, the last of `count` is taken again, which no one reads. `rows` rows
    are written, each a whole vector, `pitch` bytes apart.
    """
    dtype = kind.name

    def generate(context, builder, _signature, arguments):
        shape = tile(dtype)
        source, across, count, destination, pitch, rows, _kind = arguments
        emit = Emitter(builder, dtype, shape.lanes, shape.fma)

        def transposed(mask):
            vectors, at = [], source
            for x in range(shape.lanes):
                vectors.append(emit.load(at, mask))
                more = builder.icmp_signed(">", count, word(x + 1))
                at = builder.select(more, builder.add(at, across), at)
            block = 1
            while block < shape.lanes:
                for x in (x for x in range(shape.lanes) if not x & block):
                    vectors[x], vectors[x | block] = emit.interleaved(vectors[x], vectors[x | block], block)
                block *= 2
            return vectors

        with builder.if_else(builder.icmp_signed(">=", rows, word(shape.lanes)), likely=True) as (
            whole,
            part,
        ):
            with whole:
                at = destination
                for vector in transposed(None):
                    emit.store(vector, at)
                    at = builder.add(at, pitch)
            with part:
                at = destination
                for x, vector in enumerate(transposed(emit.first(rows))):
                    with builder.if_then(builder.icmp_signed(">", rows, word(x))):
                        emit.store(vector, at)
                    at = builder.add(at, pitch)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6, kind), generate


@intrinsic
def copy_element(_, source, destination, kind):
    """One element."""
    dtype = kind.name

    def generate(context, builder, _signature, arguments):
        shape = tile(dtype)
        emit = Emitter(builder, dtype, shape.lanes, shape.fma)
        source, destination = (emit.at(address, emit.element) for address in arguments[:2])
        builder.store(builder.load(source, align=emit.size), destination, align=emit.size)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, kind), generate


# Rows of a strip copied before the next strip's: few enough streams for the hardware to follow.
GROUP = 8


@register_jitable
def pack(source, across, along, width, k, destination, strip, pitch, unit, kind):
    """Pack `width` columns of a block, k long, into strips of `strip` elements side by side.

    source       address of the block; element (p, x) lies at source + p along + x across
    destination  address of the first strip; a strip's row takes `pitch` bytes, whole vectors, and the strip k rows
    unit         bytes of an element; kind: any number of the dtype
    """
    lanes = lanes_of(kind)
    vector = lanes * unit
    if across == unit:
        for p0 in range(0, k, GROUP):
            p1 = min(p0 + GROUP, k)
            for x0 in range(0, width, strip):
                here = min(strip, width - x0)
                at = source + p0 * along + x0 * unit
                to = destination + (x0 // strip * k + p0) * pitch
                for _ in range(p0, p1):
                    for x in range(0, pitch, vector):
                        if here * unit >= x + vector:
                            copy_vector(at + x, to + x, kind)
                        else:
                            copy_part(at + x, to + x, here - x // unit, kind)
                    at += along
                    to += pitch
        return
    for x0 in range(0, width, strip):
        here = min(strip, width - x0)
        at = source + x0 * across
        to = destination + x0 // strip * k * pitch
        if along == unit:
            for p in range(0, k, lanes):
                for x in range(0, here, lanes):
                    transpose_square(
                        at + p * unit + x * across,
                        across,
                        here - x,
                        to + p * pitch + x * unit,
                        pitch,
                        min(lanes, k - p),
                        kind,
                    )
        else:
            for p in range(k):
                for x in range(here):
                    copy_element(at + p * along + x * across, to + p * pitch + x * unit, kind)
