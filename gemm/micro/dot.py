"""The other micro-kernel: a tile of inner products, vectors running along k.

    C[0:h, 0:w] <- alpha A[0:h, :] B[:, 0:w] + beta C

For operands whose elements lie side by side along k (rows of A, columns of B: A B^T as one writes it), and a C so
narrow that a vector along its row would be mostly empty: matrix times vector, a few rows, the ten classes at the
end of a network. Each sum is a vector of partial sums, added up when k is at its end; C is then written one element
at a time, so it may have any strides.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from gemm.micro.emit import I64, Emitter, function, word
from gemm.micro.host import Tile, tile

# Running sums that hide the latency of an FMA; smaller tiles have that many by taking several steps at once.
ENOUGH = 8


def _side(shape: Tile) -> int:
    """How many rows and columns the largest square of inner products has: 5 x 5 of 32 registers, 3 x 3 of 16."""
    return 5 if shape.registers >= 32 else 3


# Rows where C has one column: a matrix times a vector reads as many rows at once.
TALL = 8


def variants(shape: Tile) -> list[tuple[int, int]]:
    """Rows and columns of every variant."""
    side = range(1, _side(shape) + 1)
    return [(rows, columns) for rows in side for columns in side] + [
        (rows, 1) for rows in range(_side(shape) + 1, TALL + 1)
    ]


def _emit(module: Any, shape: Tile, rows: int, columns: int) -> Any:
    """The kernel for rows x columns: (k, a, a_row, b, b_column, c, c_row, c_column, alpha, beta)."""
    element = ir.FloatType() if shape.dtype == "float32" else ir.DoubleType()
    name = f"dot_{shape.dtype}_{rows}x{columns}"
    if name in module.globals:
        return module.globals[name]
    made = function(module, name, [I64] * 8 + [element] * 2)
    k, a, a_row, b, b_column, c, c_row, c_column, alpha, beta = made.args
    blocks = ("entry", "many", "between", "few", "done", "fresh", "update", "end")
    entry, many, between, few, done, fresh, update, end = map(made.append_basic_block, blocks)
    builder = ir.IRBuilder(entry)
    emit = Emitter(builder, shape.dtype, shape.lanes, shape.fma)
    step = shape.lanes * emit.size
    at_once = -(-ENOUGH // (rows * columns))
    a_rows = [builder.add(a, builder.mul(a_row, word(i))) for i in range(rows)]
    b_columns = [builder.add(b, builder.mul(b_column, word(j))) for j in range(columns)]
    pairs = [(i, j) for i in range(rows) for j in range(columns)]
    stride = word(at_once * shape.lanes)
    builder.cbranch(builder.icmp_signed(">=", k, stride), many, between)

    def products(offset: Any, sums: list[Any], mask: Any) -> list[Any]:
        xs = [emit.load(builder.add(at, offset), mask) for at in a_rows]
        ys = [emit.load(builder.add(at, offset), mask) for at in b_columns]
        return [emit.multiply_add(xs[i], ys[j], z) for (i, j), z in zip(pairs, sums)]

    builder.position_at_end(many)
    left, offset = builder.phi(I64), builder.phi(I64)
    sums = [[builder.phi(emit.vector) for _ in pairs] for _ in range(at_once)]
    following = [products(emit.offset(offset, u * step), sums[u], None) for u in range(at_once)]
    left_next, offset_next = builder.sub(left, stride), emit.offset(offset, at_once * step)
    for phi, first, after in [
        (left, k, left_next),
        (offset, word(0), offset_next),
        *((phi, emit.zero, x) for row in zip(sums, following) for phi, x in zip(*row)),
    ]:
        phi.add_incoming(first, entry)
        phi.add_incoming(after, many)
    builder.cbranch(builder.icmp_signed(">=", left_next, stride), many, between)

    builder.position_at_end(between)
    left_between, offset_between = builder.phi(I64), builder.phi(I64)
    gathered = [[builder.phi(emit.vector) for _ in pairs] for _ in range(at_once)]
    for phi, first, after in [
        (left_between, k, left_next),
        (offset_between, word(0), offset_next),
        *((phi, emit.zero, x) for row in zip(gathered, following) for phi, x in zip(*row)),
    ]:
        phi.add_incoming(first, entry)
        phi.add_incoming(after, many)
    together = gathered[0]
    for more in gathered[1:]:
        together = [builder.fadd(x, y) for x, y in zip(together, more)]
    builder.cbranch(builder.icmp_signed(">", left_between, word(0)), few, done)

    builder.position_at_end(few)  # what is left of k, the last vector masked
    left_few, offset_few = builder.phi(I64), builder.phi(I64)
    sums_few = [builder.phi(emit.vector) for _ in pairs]
    following_few = products(offset_few, sums_few, emit.first(left_few))
    left_after = builder.sub(left_few, word(shape.lanes))
    for phi, first, after in [
        (left_few, left_between, left_after),
        (offset_few, offset_between, emit.offset(offset_few, step)),
        *zip(sums_few, together, following_few),
    ]:
        phi.add_incoming(first, between)
        phi.add_incoming(after, few)
    builder.cbranch(builder.icmp_signed(">", left_after, word(0)), few, done)

    builder.position_at_end(done)
    vectors = []
    for x, y in zip(together, following_few):
        phi = builder.phi(emit.vector)
        phi.add_incoming(x, between)
        phi.add_incoming(y, few)
        vectors.append(phi)
    totals = [builder.fmul(x, alpha) for x in emit.totals(vectors)]
    places = [
        builder.add(c, builder.add(builder.mul(c_row, word(i)), builder.mul(c_column, word(j))))
        for i, j in pairs
    ]
    places = [emit.at(place, element) for place in places]
    builder.cbranch(builder.fcmp_ordered("==", beta, ir.Constant(element, 0.0)), fresh, update)
    builder.position_at_end(fresh)
    for x, place in zip(totals, places):
        builder.store(x, place, align=emit.size)
    builder.branch(end)
    builder.position_at_end(update)
    for x, place in zip(totals, places):
        kept = builder.fmul(builder.load(place, align=emit.size), beta)
        builder.store(builder.fadd(x, kept), place, align=emit.size)
    builder.branch(end)
    builder.position_at_end(end)
    builder.ret_void()
    return made


@intrinsic
def dot_kernel(_, rows, columns, k, a, a_row, b, b_column, c, c_row, c_column, alpha, beta):
    """The tile of inner products as a function for Numba; arguments as of `tile.micro_kernel`."""
    dtype = alpha.name

    def generate(context, builder, _signature, arguments):
        rows, columns, *operands = arguments
        shape = tile(dtype)
        after = builder.append_basic_block("after")
        jump = builder.switch(builder.add(builder.mul(rows, word(16)), columns), after)
        for height, width in variants(shape):
            block = builder.append_basic_block(f"dot_{height}x{width}")
            jump.add_case(word(16 * height + width), block)
            builder.position_at_end(block)
            builder.call(_emit(builder.module, shape, height, width), operands)
            builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 10, alpha, alpha), generate


@intrinsic
def dot_side(_, kind):
    """Rows and columns of the largest tile of inner products, for the dtype of `kind`."""
    return types.int64(kind), lambda *_arguments: word(_side(tile(kind.name)))
