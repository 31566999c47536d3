"""The loops around the micro-kernel.

    for j0 in columns, BLOCK_N at a time        a block of B: in L2, or in L3
      for p0 in k, BLOCK_K at a time            pack B[p0:, j0:], in strips two vectors wide (or leave it where it
      lies)
        for i in rows, a tile's height            a strip of A: its first tile packs it as it reads it ...
          for j in the block, two vectors           ... and strips of B stream past it
            micro-kernel                              for p in the block: a tile of C in registers

Packing is a choice of pointers and strides: the micro-kernel reads A with any strides and B with any row stride, so
either operand may be taken as it lies in memory instead. `plan.py` decides; here is only what was decided.
"""

from __future__ import annotations

from numba import carray
from numba.extending import register_jitable

from gemm.micro.dot import TALL, dot_side
from gemm.micro.job import (
    A_COLUMN,
    A_ROW,
    A_SPACE,
    ALONG,
    ALPHA,
    B_COLUMN,
    B_NEAR,
    B_ROW,
    BETA,
    BLOCK_K,
    BLOCK_N,
    C_COLUMN,
    C_ROW,
    DOT,
    DOTS,
    EPILOGUE,
    FINISH,
    PACK,
    PACK_A,
    PACK_B,
    PATH,
    ROWS,
    SPLIT_K,
    SPLIT_M,
    SPLIT_N,
    STREAM,
    SWEEP,
    SWEEPS,
    TABLE,
    TILE,
    UNIT,
    A,
    B,
    C,
    K,
    M,
    N,
)
from gemm.micro.memory import as_number, dot_at, finish_at, get, pack_at, pointer, sweep_at, tile_at
from gemm.micro.sweep import WIDE, sweep_rows
from gemm.micro.tile import KEEP_A, KEEP_NOTHING, KEEPING_ROWS, lanes_of, one_of, rows_of, widest


@register_jitable
def cut(length, parts, part, step):
    """Where part `part` of `parts` begins: a multiple of `step`, the parts as equal as that allows."""
    steps = (length + step - 1) // step
    return min(length, (steps * part + parts - 1) // parts * step)


@register_jitable
def tiles(job, i0, i1, j0, j1, p0, p1, c, c_row, alpha, beta, space):
    """C[i0:i1, j0:j1] <- alpha A B + beta C over k from p0 to p1, by tiles. c: the address of C[0, 0]."""
    one, unit, table = one_of(alpha), get(job, UNIT), get(job, TABLE)
    tile = get(table, TILE)
    a_row, a_column, b_row, b_column = (
        get(job, A_ROW),
        get(job, A_COLUMN),
        get(job, B_ROW),
        get(job, B_COLUMN),
    )
    pack_a, pack_b = get(job, PACK_A), get(job, PACK_B)
    lanes, rows = lanes_of(alpha), get(job, ROWS)
    if rows == 0:
        rows = rows_of(alpha)
    strips = (i1 - i0 + rows - 1) // rows
    height = (i1 - i0 + strips - 1) // strips  # all but the last strip's
    wide = 2 if pack_b else widest(height, alpha)
    strip = wide * lanes
    pitch_a = height * unit  # of a packed strip of A
    block_n, block_k = get(job, BLOCK_N), get(job, BLOCK_K)
    blocks = (j1 - j0 + block_n - 1) // block_n
    block_n = min(
        block_n, ((j1 - j0 + blocks - 1) // blocks + strip - 1) // strip * strip
    )  # as even as can be
    a_space, b_space = space, space + A_SPACE * unit
    for jj in range(j0, j1, block_n):
        columns = min(block_n, j1 - jj)
        for pp in range(p0, p1, block_k):
            depth = min(block_k, p1 - pp)
            keep_c = beta if pp == p0 else one
            b_at, b_pitch, b_strip = get(job, B) + pp * b_row + jj * b_column, b_row, strip * unit
            if pack_b:
                pitch_b = strip * unit
                pack_at(
                    get(table, PACK), b_at, b_column, b_row, columns, depth, b_space, strip, pitch_b, unit
                )
                b_at, b_pitch, b_strip = b_space, pitch_b, depth * pitch_b
            for i in range(i0, i1, height):
                high = min(height, i1 - i)
                a_at, a_down, a_along = get(job, A) + i * a_row + pp * a_column, a_row, a_column
                keep = KEEP_NOTHING
                if (
                    pack_a == ALONG
                    and columns > strip
                    and high == height
                    and high + KEEPING_ROWS > rows_of(alpha)
                    and wide == 2
                ):
                    keep = KEEP_A
                elif pack_a:
                    lined = (high + lanes - 1) // lanes * lanes * unit
                    pack_at(get(table, PACK), a_at, a_row, a_column, high, depth, a_space, high, lined, unit)
                    a_at, a_down, a_along = a_space, unit, lined
                b_strip_at, c_at = b_at, c + i * c_row + jj * unit
                for j in range(0, columns, strip):
                    left = columns - j
                    across = wide
                    if left < strip:
                        across = (left + lanes - 1) // lanes
                    tile_at(
                        tile, high, across, keep, depth, a_at, a_down, a_along,
                        b_strip_at, b_pitch, c_at, c_row, left, a_space, alpha, keep_c,
                    )  # fmt: skip
                    b_strip_at += b_strip
                    c_at += strip * unit
                    if keep == KEEP_A:
                        a_at, a_down, a_along, keep = a_space, unit, pitch_a, KEEP_NOTHING
                if pp + depth == p1 and get(job, EPILOGUE) and get(job, SPLIT_K) == 1:
                    finish_at(get(table, FINISH), job, i, i + high, jj, jj + columns)


@register_jitable
def dots(job, i0, i1, j0, j1, p0, p1, c, c_row, c_column, alpha, beta, space):
    """The same by tiles of inner products. B's columns are packed one by one where k does not run along them."""
    unit, side = get(job, UNIT), dot_side(alpha)
    a_row, b_row, b_column = get(job, A_ROW), get(job, B_ROW), get(job, B_COLUMN)
    one, block_k, table = one_of(alpha), get(job, BLOCK_K), get(job, TABLE)
    dot = get(table, DOT)
    groups = (j1 - j0 + side - 1) // side
    wide = (j1 - j0 + groups - 1) // groups
    for pp in range(p0, p1, block_k):
        depth = min(block_k, p1 - pp)
        keep = beta if pp == p0 else one
        b_at, b_down = get(job, B) + pp * b_row + j0 * b_column, b_column
        if get(job, PACK_B):
            b_down = (depth * unit + 63) // 64 * 64 + 64
            pack_at(get(table, PACK), b_at, b_row, b_column, depth, j1 - j0, space, depth, b_down, unit)
            b_at = space
        high_most = TALL if j1 - j0 == 1 else side
        near = (
            max(1, get(table, B_NEAR) // (depth * unit * wide)) * wide
        )  # columns of B that stay in L2 for all of A
        for jj in range(j0, j1, near):
            j2 = min(jj + near, j1)
            for i in range(i0, i1, high_most):
                high = min(high_most, i1 - i)
                a_at = get(job, A) + i * a_row + pp * unit
                for j in range(jj, j2, wide):
                    dot_at(
                        dot, high, min(wide, j2 - j), depth, a_at, a_row, b_at + (j - j0) * b_down, b_down,
                        c + i * c_row + j * c_column, c_row, c_column, alpha, keep,
                    )  # fmt: skip
                if pp + depth == p1 and get(job, EPILOGUE) and get(job, SPLIT_K) == 1:
                    finish_at(get(table, FINISH), job, i, i + high, jj, j2)


@register_jitable
def sweeps(job, i0, i1, j0, j1, p0, p1, c, c_row, alpha, beta):
    """The same along rows of C; what is left of a row's last vectors goes by tiles."""
    one, unit, table, lanes = one_of(alpha), get(job, UNIT), get(job, TABLE), lanes_of(alpha)
    a_row, a_column, b_row, block_k = get(job, A_ROW), get(job, A_COLUMN), get(job, B_ROW), get(job, BLOCK_K)
    groups = (j1 - j0) // (WIDE * lanes)
    rest = j0 + groups * WIDE * lanes
    i = i0
    while i < i1:
        high = sweep_rows(min(i1 - i, get(job, ROWS)), alpha)
        c_at = c + i * c_row
        for pp in range(p0, p1, block_k):
            depth, keep_c = min(block_k, p1 - pp), beta if pp == p0 else one
            a_at, b_at = get(job, A) + i * a_row + pp * a_column, get(job, B) + pp * b_row
            if groups:
                sweep_at(
                    get(table, SWEEP), high, depth, a_at, a_row, a_column, b_at + j0 * unit, b_row,
                    c_at + j0 * unit, c_row, groups, get(job, STREAM), alpha, keep_c,
                )  # fmt: skip
            if rest < j1:
                tile_at(
                    get(table, TILE), high, (j1 - rest + lanes - 1) // lanes, KEEP_NOTHING, depth, a_at, a_row,
                    a_column, b_at + rest * unit, b_row, c_at + rest * unit, c_row, j1 - rest, 0, alpha, keep_c,
                )  # fmt: skip
        if get(job, EPILOGUE) and get(job, SPLIT_K) == 1:
            finish_at(get(table, FINISH), job, i, i + high, j0, j1)
        i += high


@register_jitable
def gather(job, shared, one):
    """C <- the sum of the parts that a split k left, + beta C; then the epilogue."""
    m, n, parts, unit = get(job, M), get(job, N), get(job, SPLIT_K), get(job, UNIT)
    beta, zero = as_number(get(job, BETA), one), one - one
    for i in range(m):
        for j in range(n):
            total = zero
            for part in range(parts):
                total += carray(pointer(shared + ((part * m + i) * n + j) * unit, one), 1)[0]
            cell = carray(pointer(get(job, C) + i * get(job, C_ROW) + j * get(job, C_COLUMN), one), 1)
            cell[0] = total if beta == zero else total + beta * cell[0]
    if get(job, EPILOGUE):
        finish_at(get(get(job, TABLE), FINISH), job, 0, m, 0, n)


@register_jitable
def part_of(job, part, space, shared, one):
    """Part `part` of a job: a rectangle of C, or a stretch of k; or, for -1, what is left when all are done."""
    if part < 0:
        gather(job, shared, one)
        return
    down, across, deep = get(job, SPLIT_M), get(job, SPLIT_N), get(job, SPLIT_K)
    alpha, beta = as_number(get(job, ALPHA), one), as_number(get(job, BETA), one)
    c, c_row, c_column = get(job, C), get(job, C_ROW), get(job, C_COLUMN)
    if down * across * deep == 1:
        if get(job, PATH) == DOTS:
            dots(job, 0, get(job, M), 0, get(job, N), 0, get(job, K), c, c_row, c_column, alpha, beta, space)
        elif get(job, PATH) == SWEEPS:
            sweeps(job, 0, get(job, M), 0, get(job, N), 0, get(job, K), c, c_row, alpha, beta)
        else:
            tiles(job, 0, get(job, M), 0, get(job, N), 0, get(job, K), c, c_row, alpha, beta, space)
        return
    row, column, stretch = part // (across * deep), part // deep % across, part % deep
    path, lanes = get(job, PATH), lanes_of(one)
    m, n, k, unit = get(job, M), get(job, N), get(job, K), get(job, UNIT)
    step = 1 if path == DOTS else lanes
    i0, i1 = cut(m, down, row, 1), cut(m, down, row + 1, 1)
    j0, j1 = cut(n, across, column, step), cut(n, across, column + 1, step)
    p0, p1 = cut(k, deep, stretch, lanes), cut(k, deep, stretch + 1, lanes)
    if i0 == i1 or j0 == j1:
        return
    if deep > 1:
        c, c_row, c_column, beta = shared + stretch * m * n * unit, n * unit, unit, one - one
    if path == DOTS:
        dots(job, i0, i1, j0, j1, p0, p1, c, c_row, c_column, alpha, beta, space)
    elif path == SWEEPS:
        sweeps(job, i0, i1, j0, j1, p0, p1, c, c_row, alpha, beta)
    else:
        tiles(job, i0, i1, j0, j1, p0, p1, c, c_row, alpha, beta, space)
