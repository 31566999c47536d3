"""The plan of a product: which path, what is packed, how it is cut among threads.

It follows from shapes and strides alone.

Costs are in cycles of one core's FMA unit working on whole vectors, roughly: a product of m x n x k takes m k cycles
for each vector of columns. What is compared is always two ways to do the same product, so that only ratios matter.
"""

from __future__ import annotations

from numba.extending import register_jitable

from gemm.micro.job import (
    A_COLUMN,
    A_ROW,
    A_SPACE,
    ALONG,
    B_COLUMN,
    B_IN_PLACE,
    B_NEAR,
    B_ROW,
    BEFORE,
    BETA,
    BLOCK_K,
    BLOCK_N,
    C_COLUMN,
    C_ROW,
    DEEPEST,
    DOTS,
    EPILOGUE,
    FEW_ROWS,
    MOST_COLUMNS,
    MOST_DEPTH,
    PACK_A,
    PACK_B,
    PATH,
    ROWS,
    SHARED,
    SPACE,
    SPLIT_K,
    SPLIT_M,
    SPLIT_N,
    STREAM,
    SWEEPS,
    TABLE,
    TILES,
    UNIT,
    WORTH_A_THREAD,
    A,
    B,
    C,
    K,
    M,
    N,
)
from gemm.micro.memory import get, put
from gemm.micro.sweep import WIDE, sweep_rows
from gemm.micro.tile import lanes_of, rows_of

# An inner product's vector of sums is added up and written in about this many cycles.
SUMMING = 4
# Columns of B that may be packed for inner products: the workspace does not grow with the product.
NARROW = 32
# Strides that are a multiple of this put the rows of a tile on the same few sets of the first cache.
ALIASING = 512
# Strides of A that are a multiple of this put so many of a tile's rows on the same sets that a set has not ways
# enough.
SAME_SETS = 1024
# And of these one set: a line of A is gone before its next element is read, and its rows are copied a line at a time
# before they are multiplied.
ONE_SET = 4096
# Rows that the sets of a first cache with eight ways hold, beside a line of B.
WAYS = 7
# Elements of k at a time, for inner products: 16 KiB of float32 stay in the first cache.
DOT_DEPTH = 4096
# k up to which C is written along its rows, and how many rows at a time. Where registers do not suffice for so many,
# B passes by more often, and tiles are better sooner.
SHALLOW, SHALLOW_FEW, SWEEP_ROWS = 64, 8, 4
# And how many where C stays in the first cache or leaves the second, or where each element of it takes but one
# multiply-add.
MORE_ROWS, FIRST_CACHE = 6, 32 << 10
# Strips of A beyond which B is packed where its vectors lie across two lines, each of which is read every time.
FEW_STRIPS = 4
# Rows of B that are read at once where C is a single row: streams that the hardware follows.
STREAMS = 8
# Bytes of a C that is not in L2. Where it is read as well, and each element takes more than a few multiply-adds, tiles
# are better: B comes by a third as often, and leaves L2 to C.
BEYOND_L2, A_FEW = 4 << 20, 8
# Bytes of C from which on, if it is not read, it is written past the caches. (Parts of a split k are far smaller.)
BEYOND_CACHES = 8 << 20
# Bytes of B from which on it is not in any cache; there a strip of it is many short reads from as many pages of
# memory, and packing, which reads whole rows, pays from the second strip of A on.
IN_MEMORY = 32 << 20
# Bytes of partial C's, all parts together, that a split of k may leave to be added up.
MOST_PARTIAL = 1 << 20
# What a ticket of the pool can count, and the bytes of a vector in the unit of WORTH_A_THREAD, the same for every
# machine.
MOST_PARTS, WORK_VECTOR = 0xFFFF, 32
# Parts for each thread, and how many times over the work must pay for a thread before there are more than one.
PIECES = 4
MANY_TIMES = 8
# How much worse than an even split into rectangles of C may be before k is split.
UNEVEN = 5 / 4


@register_jitable
def turn(job):
    """C^T = B^T A^T in place of C = A B: the same memory, other strides."""
    for one, other in ((M, N), (A, B), (A_ROW, B_COLUMN), (A_COLUMN, B_ROW), (C_ROW, C_COLUMN)):
        kept = get(job, one)
        put(job, one, get(job, other))
        put(job, other, kept)


@register_jitable
def by_tiles(m, n, k, b_row, b_column, unit, lanes):
    """Cycles by tiles of whole vectors."""
    vectors = (n + lanes - 1) // lanes
    sums = min(m, 4) * min(vectors, 4)
    cost = m * vectors * k * max(1, 4 // max(1, sums))  # fewer than 4 sums wait for one another
    return cost if b_column == unit else cost + n * k // 2


@register_jitable
def by_dots(m, n, k, a_column, b_row, unit, lanes):
    """Cycles by inner products; far too many where k does not run along the rows of A."""
    if a_column != unit or (b_row != unit and n > NARROW):
        return 1 << 62
    cost = m * n * ((k + lanes - 1) // lanes + SUMMING)
    return cost if b_row == unit else cost + n * k // 2


@register_jitable
def choose_path(job, lanes):
    """PATH, and the roles of A and B such that the path can be taken."""
    m, n, k, unit = get(job, M), get(job, N), get(job, K), get(job, UNIT)
    # Along a dimension of one nobody takes a step: any stride will do, and this one fits.
    if m == 1:
        put(job, A_ROW, unit)
        put(job, C_ROW, unit)
    if n == 1:
        put(job, B_COLUMN, unit)
        put(job, C_COLUMN, unit)
    if k == 1:
        put(job, A_COLUMN, unit)
        put(job, B_ROW, unit)
    a_row, a_column = get(job, A_ROW), get(job, A_COLUMN)
    b_row, b_column = get(job, B_ROW), get(job, B_COLUMN)
    rows_kept, rows_turned = get(job, C_COLUMN) == unit, get(job, C_ROW) == unit
    never = 1 << 62
    kept = by_tiles(m, n, k, b_row, b_column, unit, lanes) if rows_kept else never
    turned = by_tiles(n, m, k, a_column, a_row, unit, lanes) if rows_turned else never
    dots_kept = by_dots(m, n, k, a_column, b_row, unit, lanes)
    dots_turned = by_dots(n, m, k, b_row, a_column, unit, lanes)
    if get(job, EPILOGUE):  # its arrays lie as C does, row by row
        turned = dots_turned = never
    tiles = min(kept, turned)
    dots = min(dots_kept, dots_turned)
    put(job, PATH, DOTS if dots < tiles else TILES)
    if dots < tiles:
        if dots_turned < dots_kept or (dots_turned == dots_kept and m < n):  # many rows, few columns
            turn(job)
    elif turned < kept:
        turn(job)


@register_jitable
def choose_packing(job, lanes, rows, table, kind):
    """PACK_A, PACK_B and the block sizes."""
    m, n, k, unit = get(job, M), get(job, N), get(job, K), get(job, UNIT)
    a_row, a_column = get(job, A_ROW), get(job, A_COLUMN)
    b_row, b_column = get(job, B_ROW), get(job, B_COLUMN)
    if get(job, PATH) == DOTS:
        put(job, PACK_A, 0)
        put(job, PACK_B, 1 if b_row != unit else 0)
        put(job, BLOCK_N, n)
        put(job, BLOCK_K, DOT_DEPTH)
        return
    put(job, STREAM, 0)
    shallow = SHALLOW if sweep_rows(SWEEP_ROWS, kind) == SWEEP_ROWS else SHALLOW_FEW
    far = m * n * unit >= BEYOND_L2
    by_rows = k <= (A_FEW if far and get(job, BETA) else shallow)
    if (by_rows or m == 1) and b_column == unit and n >= WIDE * lanes:
        put(job, PATH, SWEEPS)
        put(job, PACK_A, 0)
        put(job, PACK_B, 0)
        put(job, ROWS, MORE_ROWS if k == 1 or far or m * n * unit <= FIRST_CACHE else SWEEP_ROWS)
        put(job, BLOCK_N, n)
        put(job, BLOCK_K, shallow if k <= shallow else STREAMS)
        lined = (get(job, C) | get(job, C_ROW)) % 64 == 0
        put(job, STREAM, 1 if lined and k >= 4 and m * n * unit >= BEYOND_CACHES else 0)
        return
    pack_b = b_column != unit
    few = get(table, FEW_ROWS)
    if (get(job, B) | b_row) % 64:
        few = min(few, FEW_STRIPS * rows)
    if m > few and k * n * unit > get(table, B_IN_PLACE):
        pack_b = True
    if m > rows and k * n * unit > IN_MEMORY:
        pack_b = True
    if m > few and b_row % SAME_SETS == 0 and rows <= WAYS:
        pack_b = (
            True  # lower tiles come back to a strip of B sooner than L2 can bring it, and L1 cannot hold it
        )
    pack_a = False
    if n >= 64 and m >= 4:
        evicted = a_row % ALIASING == 0 and rows > WAYS
        pack_a = (a_column != unit or evicted) and m * k * unit > 32768
    one_set = a_column == unit and a_row % ONE_SET == 0 and rows > WAYS
    put(job, PACK_A, (BEFORE if one_set else ALONG) if pack_a else 0)
    put(job, PACK_B, 1 if pack_b else 0)
    # Rows of A that fall on the same cache sets, read as they lie: no more at a time than a set has ways.
    put(job, ROWS, 0 if pack_a or a_column != unit or a_row % SAME_SETS else min(WAYS, rows))
    depth = get(table, MOST_DEPTH)
    stretches = (k + depth - 1) // depth
    depth = min(DEEPEST, ((k + stretches - 1) // stretches + 7) // 8 * 8)
    columns = get(table, MOST_COLUMNS)
    # what is read as it lies should stay in L2 for all strips of A; a single strip reads it once
    if not pack_b:
        columns = n if m <= rows else max(128, get(table, B_NEAR) // (depth * unit) // 128 * 128)
    put(job, BLOCK_N, columns)
    put(job, BLOCK_K, depth)


@register_jitable
def choose_parts(job, threads, lanes, table):
    """SPLIT_M, SPLIT_N, SPLIT_K: rectangles of C as even as can be, or, where C is small, stretches of k."""
    m, n, k, unit = get(job, M), get(job, N), get(job, K), get(job, UNIT)
    put(job, SPLIT_M, 1)
    put(job, SPLIT_N, 1)
    put(job, SPLIT_K, 1)
    put(job, SHARED, 0)
    threads = min(threads, MOST_PARTS // PIECES)
    work = 2 * (m * n * k // (WORK_VECTOR // unit) + (m * k + k * n + 2 * m * n) * unit)
    if threads < 2 or work < get(table, WORTH_A_THREAD):
        return
    # More parts than threads, where they are large: a core that is held up takes fewer of them.
    pieces = threads * PIECES if work > PIECES * MANY_TIMES * get(table, WORTH_A_THREAD) else threads
    wide = 1 if get(job, PATH) == DOTS else lanes
    packing_a, packing_b = (2 if get(job, PACK_A) else 1), get(job, PACK_B) + 1
    best, best_down = 1 << 62, 1
    for down in range(1, pieces + 1):
        across = pieces // down
        rows = (m + down - 1) // down
        columns = ((n + wide - 1) // wide + across - 1) // across * wide
        # what all parts multiply, one after another on each thread, and what they copy or fetch
        rounds = (down * across + threads - 1) // threads
        cost = rounds * (rows * columns * k // lanes + (columns * k * packing_b + rows * k * packing_a) // 4)
        if cost < best:
            best, best_down = cost, down
    down, across = best_down, pieces // best_down
    even = m * n * k // (lanes * threads)
    apart = m * n * unit * threads
    summing = m * n * threads
    if apart <= MOST_PARTIAL and k >= 256 * threads and best > even * UNEVEN + summing and k > 4 * max(m, n):
        put(job, SPLIT_K, threads)
        put(job, SHARED, apart)
    else:
        put(job, SPLIT_M, down)
        put(job, SPLIT_N, across)


@register_jitable
def choose_space(job, lanes):
    """SPACE: bytes of workspace that one part needs."""
    n, k, unit = get(job, N), get(job, K), get(job, UNIT)
    depth = min(k, get(job, BLOCK_K)) + lanes
    space = 0
    if get(job, PATH) == DOTS and get(job, PACK_B):
        space = n * (depth * unit + 256)
    if get(job, PATH) == TILES and (get(job, PACK_A) or get(job, PACK_B)):
        space = A_SPACE * unit
        if get(job, PACK_B):
            space += depth * (min(n, get(job, BLOCK_N)) + 2 * lanes) * unit
    put(job, SPACE, (space + 4095) // 4096 * 4096)


@register_jitable
def settle(job, threads, kind):
    """Decide everything that a job leaves open once its operands, alpha and beta are written down."""
    lanes, rows, table = lanes_of(kind), rows_of(kind), get(job, TABLE)
    choose_path(job, lanes)
    choose_packing(job, lanes, rows, table, kind)
    choose_parts(job, threads, lanes, table)
    choose_space(job, lanes)


@register_jitable
def settle_small(job, kind):
    """What `settle` decides of a small product whose operands lie row by row: one part, nothing packed."""
    small = get(job, M) * get(job, N) * get(job, UNIT) <= FIRST_CACHE
    along_rows = get(job, N) >= WIDE * lanes_of(kind) and sweep_rows(SWEEP_ROWS, kind) == SWEEP_ROWS
    put(job, PATH, SWEEPS if along_rows else TILES)
    put(job, PACK_A, 0)
    put(job, PACK_B, 0)
    put(job, ROWS, (MORE_ROWS if small else SWEEP_ROWS) if along_rows else 0)
    put(job, STREAM, 0)
    put(job, BLOCK_N, get(job, N))
    put(job, BLOCK_K, get(job, K))
    put(job, SPLIT_M, 1)
    put(job, SPLIT_N, 1)
    put(job, SPLIT_K, 1)
    put(job, SPACE, 0)
    put(job, SHARED, 0)
