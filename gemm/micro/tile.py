"""The micro-kernel: a tile of C kept in vector registers while k runs.

    C[0:h, 0:w vectors] <- alpha A[0:h, 0:k] B[0:k, 0:w vectors] + beta C

One step of k loads w vectors of a row of B, and for each of h rows broadcasts one element of A and does w FMAs:
h w multiply-adds of whole vectors for w + h loads, and no stores. The sums never leave their registers until k is at
its end; with 14 x 2 of them no FMA waits for the one before it.

    A  is read one element at a time, so it may lie in memory in any way at all: rows, columns, packed. An
       operand's strides are arguments, and a transposed A costs nothing.
    B  is read in whole vectors along its rows, so its columns must lie side by side. If they do not, packing
       makes it so (`packing.py`).
    C  likewise. At its edge the last vector is masked; a tile that is whole has a variant of its own, because masks
       cost 1 % of AVX-512's speed, and 15 % of AVX2's.

Packing A rides along. The first tile to read a strip of A may leave a packed copy behind, with stores that fit
between its FMAs; the tiles after it read the copy (`loops.py`).

One such function is emitted for each height from 1 row to all that the registers hold and for each width, as LLVM
vector instructions: left to the compiler's own vectoriser, the sums would not stay in registers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from gemm.micro.emit import I64, Emitter, function, word
from gemm.micro.host import Tile, tile

# What a tile leaves behind of the A that it reads, packed for the tiles that come after.
KEEP_NOTHING, KEEP_A = range(2)
# Variants that leave something behind are made for the tallest tiles only, two vectors wide: those of large products.
KEEPING_ROWS = 3
# Steps of k by which the lines of A and of B are asked for before they are read: 450 and 900 cycles. B is only
# brought to L2: in L1 it would push out A before its turn comes.
AHEAD_A, AHEAD_B = 16, 32
# Sums up to which LLVM unrolls the loop if it is let.
SMALL = 4
# Rows of A that share one pointer: x86 and ARM add a register once or twice to an address for nothing, so that
# 14 rows take 5 pointers and not 14.
SHARED = 3


class Variant(NamedTuple):
    """One micro-kernel: its rows, its width in vectors, what it leaves behind, whether its last vector is whole."""

    rows: int
    wide: int
    keep: int
    whole: bool

    def named(self, dtype: str) -> str:
        return f"tile_{dtype}_{self.rows}x{self.wide}_{self.keep}{'_whole' * self.whole}"


def _emit(module: Any, shape: Tile, variant: Variant) -> Any:
    """A variant as a function: (k, a, a_row, a_column, b, b_row, c, c_row, columns, kept, alpha, beta)."""
    name = variant.named(shape.dtype)
    rows, wide, keep, whole = variant
    element = ir.FloatType() if shape.dtype == "float32" else ir.DoubleType()
    if name in module.globals:
        return module.globals[name]
    made = function(module, name, [I64] * 10 + [element] * 2)
    if rows * wide <= SMALL:
        made.attributes.add("optsize")  # LLVM would unroll the loop, and run out of registers
    k, a, a_row, a_column, b, b_row, c, c_row, columns, kept, alpha, beta = made.args
    blocks = ("entry", "loop", "done", "scaling", "ready", "fresh", "update", "end")
    entry, loop, done, scaling, ready, fresh, update, end = map(made.append_basic_block, blocks)
    builder = ir.IRBuilder(entry)
    emit = Emitter(builder, shape.dtype, shape.lanes, shape.fma)
    step = shape.lanes * emit.size
    last = None if whole else emit.first(builder.sub(columns, word((wide - 1) * shape.lanes)))
    pointers = [builder.add(a, builder.mul(a_row, word(row))) for row in range(0, rows, SHARED)]
    ahead_a, ahead_b = builder.mul(a_column, word(AHEAD_A)), builder.mul(b_row, word(AHEAD_B))
    enough = builder.sub(k, word(rows - 1))
    # Whole lines that are written and not read need not come at all.
    lined = builder.icmp_signed("==", builder.and_(builder.or_(c, c_row), word(63)), word(0))
    unread = builder.and_(lined, builder.fcmp_ordered("==", beta, ir.Constant(element, 0.0)))
    c_first, c_step = builder.select(unread, b, c), builder.select(unread, word(0), c_row)
    builder.branch(loop)

    builder.position_at_end(loop)
    left = builder.phi(I64)
    a_at = [builder.phi(I64) for _ in pointers]
    b_at = builder.phi(I64)
    kept_at, c_coming = builder.phi(I64), builder.phi(I64)
    sums = [[builder.phi(emit.vector) for _ in range(wide)] for _ in range(rows)]
    b_coming = builder.add(b_at, ahead_b)
    for j in range(0, wide * step, 64):
        emit.prefetch(emit.offset(b_coming, j), locality=2)
    row_of_b = [emit.load(emit.offset(b_at, j * step), last if j == wide - 1 else None) for j in range(wide)]
    for j in range(0, wide * step, 64):  # C comes while the loop runs, a row at a step
        emit.prefetch(emit.offset(c_coming, j), write=True, locality=2)
    c_next = builder.select(builder.icmp_signed(">", left, enough), builder.add(c_coming, c_step), c_coming)
    sums_next = []
    for row in range(rows):
        at = builder.add(a_at[row // SHARED], builder.mul(a_row, word(row % SHARED)))
        x = emit.load_element(at)
        if keep == KEEP_A:
            emit.prefetch(builder.add(at, ahead_a))
            emit.store_element(x, emit.offset(kept_at, row * emit.size))
        x = emit.splat(x)
        sums_next.append([emit.multiply_add(x, y, z) for y, z in zip(row_of_b, sums[row])])
    left_next = builder.sub(left, word(1))
    for phi, first, following in [
        (left, k, left_next),
        (b_at, b, builder.add(b_at, b_row)),
        (c_coming, c_first, c_next),
        (kept_at, kept, emit.offset(kept_at, rows * emit.size)),
        *((phi, first, builder.add(phi, a_column)) for phi, first in zip(a_at, pointers)),
        *((phi, emit.zero, x) for row in zip(sums, sums_next) for phi, x in zip(*row)),
    ]:
        phi.add_incoming(first, entry)
        phi.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed(">", left_next, word(0)), loop, done)

    builder.position_at_end(done)
    one = ir.Constant(element, 1.0)
    builder.cbranch(builder.fcmp_ordered("==", alpha, one), ready, scaling)
    builder.position_at_end(scaling)
    scale = emit.splat(alpha)
    scaled = [[builder.fmul(x, scale) for x in row] for row in sums_next]
    builder.branch(ready)
    builder.position_at_end(ready)
    results = [
        [emit.either((x, done), (y, scaling)) for x, y in zip(*pair)] for pair in zip(sums_next, scaled)
    ]
    keep_c = emit.splat(beta)
    builder.cbranch(builder.fcmp_ordered("==", beta, ir.Constant(element, 0.0)), fresh, update)
    for block in (fresh, update):
        builder.position_at_end(block)
        row_of_c = c
        for sums_of_row in results:
            for j, x in enumerate(sums_of_row):
                at, mask = emit.offset(row_of_c, j * step), last if j == wide - 1 else None
                if block is update:  # with beta = 0, C is not read
                    x = emit.multiply_add(emit.load(at, mask), keep_c, x)
                emit.store(x, at, mask)
            row_of_c = builder.add(row_of_c, c_row)
        builder.branch(end)
    builder.position_at_end(end)
    builder.ret_void()
    return made


def variants(shape: Tile) -> list[Variant]:
    """Every variant that a dtype has."""
    heights = range(1, shape.rows + 1)
    plain = [(rows, wide, KEEP_NOTHING) for rows in heights for wide in range(1, shape.widest(rows) + 1)]
    keeping = [(rows, shape.vectors, KEEP_A) for rows in heights[-KEEPING_ROWS:]]
    return [Variant(*which, whole) for which in plain + keeping for whole in (False, True)]


@intrinsic
def micro_kernel(_, rows, wide, keep, k, a, a_row, a_column, b, b_row, c, c_row, columns, kept, alpha, beta):
    """The micro-kernel as a function for Numba: a jump to the variant for its height and width.

    rows, wide  of the tile, in rows and in vectors; columns <= wide vectors are C's
    keep, kept  what to leave behind and where: KEEP_A: its rows of A, packed
    a, b, c     addresses; a_row, a_column, b_row, c_row strides in bytes
    alpha, beta numbers of the dtype: they say which micro-kernel is meant
    """
    dtype = alpha.name

    def generate(context, builder, _signature, arguments):
        shape = tile(dtype)
        after = builder.append_basic_block("after")
        rows, wide, keep = arguments[:3]
        which = builder.add(builder.mul(rows, word(64)), builder.add(builder.mul(keep, word(16)), wide))
        whole = builder.icmp_signed(">=", arguments[11], builder.mul(wide, word(shape.lanes)))
        which = builder.add(which, builder.select(whole, word(32), word(0)))
        jump = builder.switch(which, after)
        for variant in variants(shape):
            height, width, keeping, whole = variant
            block = builder.append_basic_block(variant.named(dtype))
            jump.add_case(word(64 * height + 32 * whole + 16 * keeping + width), block)
            builder.position_at_end(block)
            builder.call(_emit(builder.module, shape, variant), arguments[3:])
            builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 13, alpha, alpha), generate


@intrinsic
def lanes_of(_, kind):
    """Elements in a vector, of the dtype of `kind`."""
    return types.int64(kind), lambda *_arguments: word(tile(kind.name).lanes)


@intrinsic
def rows_of(_, kind):
    """Rows of the register tile, for the dtype of `kind`."""
    return types.int64(kind), lambda *_arguments: word(tile(kind.name).rows)


@intrinsic
def one_of(_, kind):
    """1, in the dtype of `kind`."""
    return kind(kind), lambda context, *_arguments: ir.Constant(context.get_value_type(kind), 1.0)


@intrinsic
def widest(_, rows, kind):
    """How many vectors wide a tile of `rows` rows may be."""

    def generate(_context, builder, _signature, arguments):
        shape = tile(kind.name)
        wide = word(shape.widest(shape.rows))
        for height in range(shape.rows - 1, 0, -1):
            this = builder.icmp_signed("==", arguments[0], word(height))
            wide = builder.select(this, word(shape.widest(height)), wide)
        return wide

    return types.int64(types.int64, kind), generate
