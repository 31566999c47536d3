"""The third micro-kernel, for a small k: what moves is C, so C is written in long rows.

    C[0:h, 0:n] <- alpha A[0:h, 0:k] B[0:k, 0:n] + beta C,   h = 1, 2, 4 or 6, n in fours of vectors

With k = 1 (the outer product of two vectors) there is one multiply-add for each element of C, and the product is as
fast as C can be written. A tile 14 rows high writes 14 streams in pieces of two lines each, at half that speed; here
each row is written along its length. Where C is larger than the caches, and is not read, its lines go to memory past
them (`stream`), which saves reading them first; lines must be whole for that.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from gemm.micro.emit import I32, I64, Emitter, function, word
from gemm.micro.host import Tile, tile

HEIGHTS = (1, 2, 4, 6)
WIDE = 4


def heights(shape: Tile) -> tuple[int, ...]:
    """Rows at a time: as many sums as registers hold beside a row of B."""
    return tuple(rows for rows in HEIGHTS if rows * WIDE + WIDE + 1 <= shape.registers)


def _emit(module: Any, shape: Tile, rows: int) -> Any:
    """The variant for `rows`: (k, a, a_row, a_column, b, b_row, c, c_row, groups, stream, alpha, beta)."""
    name = f"sweep_{shape.dtype}_{rows}"
    if name in module.globals:
        return module.globals[name]
    element = ir.FloatType() if shape.dtype == "float32" else ir.DoubleType()
    made = function(module, name, [I64] * 10 + [element] * 2)
    k, a, a_row, a_column, b, b_row, c, c_row, groups, stream, alpha, beta = made.args
    blocks = ("entry", "group", "loop", "done", "scaling", "ready", "fresh", "past", "update", "next", "end")
    entry, group, loop, done, scaling, ready, fresh, past, update, after, end = map(
        made.append_basic_block, blocks
    )
    builder = ir.IRBuilder(entry)
    emit = Emitter(builder, shape.dtype, shape.lanes, shape.fma)
    step = shape.lanes * emit.size
    scale, keep_c = emit.splat(alpha), emit.splat(beta)
    a_rows = [builder.add(a, builder.mul(a_row, word(i))) for i in range(rows)]
    c_rows = [builder.add(c, builder.mul(c_row, word(i))) for i in range(rows)]
    unread = builder.fcmp_ordered("==", beta, ir.Constant(element, 0.0))
    streaming = builder.and_(unread, builder.icmp_signed("!=", stream, word(0)))
    builder.branch(group)

    builder.position_at_end(group)
    left, at = builder.phi(I64), builder.phi(I64)
    builder.branch(loop)

    builder.position_at_end(loop)
    depth, b_at, along = builder.phi(I64), builder.phi(I64), builder.phi(I64)
    sums = [[builder.phi(emit.vector) for _ in range(WIDE)] for _ in range(rows)]
    row_of_b = [emit.load(builder.add(b_at, emit.offset(at, j * step))) for j in range(WIDE)]
    sums_next = []
    for row, row_sums in zip(a_rows, sums):
        x = emit.splat(emit.load_element(builder.add(row, along)))
        sums_next.append([emit.multiply_add(x, y, z) for y, z in zip(row_of_b, row_sums)])
    depth_next = builder.sub(depth, word(1))
    for phi, first, following in [
        (depth, k, depth_next),
        (b_at, b, builder.add(b_at, b_row)),
        (along, word(0), builder.add(along, a_column)),
        *((phi, emit.zero, x) for row in zip(sums, sums_next) for phi, x in zip(*row)),
    ]:
        phi.add_incoming(first, group)
        phi.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed(">", depth_next, word(0)), loop, done)

    builder.position_at_end(done)
    one = ir.Constant(element, 1.0)
    builder.cbranch(builder.fcmp_ordered("==", alpha, one), ready, scaling)
    builder.position_at_end(scaling)
    products = [[builder.fmul(x, scale) for x in row] for row in sums_next]
    builder.branch(ready)
    builder.position_at_end(ready)
    scaled = [
        [emit.either((x, done), (y, scaling)) for x, y in zip(*pair)] for pair in zip(sums_next, products)
    ]
    which = builder.switch(builder.add(builder.zext(unread, I32), builder.zext(streaming, I32)), update)
    which.add_case(ir.Constant(I32, 1), fresh)
    which.add_case(ir.Constant(I32, 2), past)
    for block in (update, fresh, past):
        builder.position_at_end(block)
        for row, values in zip(c_rows, scaled):
            for j, x in enumerate(values):
                place = builder.add(row, emit.offset(at, j * step))
                if block is update:
                    x = emit.multiply_add(emit.load(place), keep_c, x)
                if block is past:
                    emit.store_past_caches(x, place)
                else:
                    emit.store(x, place)
        builder.branch(after)
    builder.position_at_end(after)
    left_next = builder.sub(left, word(1))
    for phi, first, following in ((left, groups, left_next), (at, word(0), emit.offset(at, WIDE * step))):
        phi.add_incoming(first, entry)
        phi.add_incoming(following, after)
    builder.cbranch(builder.icmp_signed(">", left_next, word(0)), group, end)
    builder.position_at_end(end)
    builder.ret_void()
    return made


@intrinsic
def sweep_kernel(_, rows, k, a, a_row, a_column, b, b_row, c, c_row, groups, stream, alpha, beta):
    """The sweep as a function for Numba; arguments as of `tile.micro_kernel`, groups of four vectors."""
    dtype = alpha.name

    def generate(context, builder, _signature, arguments):
        shape = tile(dtype)
        after = builder.append_basic_block("after")
        jump = builder.switch(arguments[0], after)
        for height in heights(shape):
            block = builder.append_basic_block(f"sweep_{height}")
            jump.add_case(word(height), block)
            builder.position_at_end(block)
            builder.call(_emit(builder.module, shape, height), arguments[1:])
            builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 11, alpha, alpha), generate


@intrinsic
def sweep_rows(_, rows, kind):
    """The most rows that a sweep takes at a time, of `rows`."""

    def generate(_context, builder, _signature, arguments):
        most = word(1)
        for height in heights(tile(kind.name)):
            enough = builder.icmp_signed(">=", arguments[0], word(height))
            most = builder.select(enough, word(height), most)
        return most

    return types.int64(types.int64, kind), generate
