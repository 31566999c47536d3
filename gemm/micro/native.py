"""The entry points of the compiled code, each for one dtype."""

from __future__ import annotations

import numpy as np
from numba import float32, float64
from numba.extending import register_jitable

from gemm.micro import job as word
from gemm.micro.dot import dot_kernel
from gemm.micro.finish import finish
from gemm.micro.hub import WORKERS
from gemm.micro.loops import part_of
from gemm.micro.memory import address_of, get, job_on_stack, put, settle_at
from gemm.micro.packing import pack
from gemm.micro.plan import settle, settle_small
from gemm.micro.pool import do_job
from gemm.micro.sweep import sweep_kernel
from gemm.micro.tile import micro_kernel


def tile_f32(rows, wide, keep, k, a, a_row, a_column, b, b_row, c, c_row, columns, kept, alpha, beta):
    """The micro-kernel; compiled alone, because it is large and everything else small."""
    micro_kernel(rows, wide, keep, k, a, a_row, a_column, b, b_row, c, c_row, columns, kept, alpha, beta)


def tile_f64(rows, wide, keep, k, a, a_row, a_column, b, b_row, c, c_row, columns, kept, alpha, beta):
    micro_kernel(rows, wide, keep, k, a, a_row, a_column, b, b_row, c, c_row, columns, kept, alpha, beta)


def dot_f32(rows, columns, k, a, a_row, b, b_column, c, c_row, c_column, alpha, beta):
    """The tile of inner products, likewise."""
    dot_kernel(rows, columns, k, a, a_row, b, b_column, c, c_row, c_column, alpha, beta)


def dot_f64(rows, columns, k, a, a_row, b, b_column, c, c_row, c_column, alpha, beta):
    dot_kernel(rows, columns, k, a, a_row, b, b_column, c, c_row, c_column, alpha, beta)


def sweep_f32(rows, k, a, a_row, a_column, b, b_row, c, c_row, groups, stream, alpha, beta):
    """The sweep along rows of C, likewise."""
    sweep_kernel(rows, k, a, a_row, a_column, b, b_row, c, c_row, groups, stream, alpha, beta)


def sweep_f64(rows, k, a, a_row, a_column, b, b_row, c, c_row, groups, stream, alpha, beta):
    sweep_kernel(rows, k, a, a_row, a_column, b, b_row, c, c_row, groups, stream, alpha, beta)


def part_f32(job, part, space, shared):
    part_of(job, part, space, shared, float32(1))


def part_f64(job, part, space, shared):
    part_of(job, part, space, shared, float64(1))


def settle_f32(job, threads):
    settle(job, threads, float32(1))


def settle_f64(job, threads):
    settle(job, threads, float64(1))


def pack_f32(source, across, along, width, k, destination, strip, pitch, unit):
    pack(source, across, along, width, k, destination, strip, pitch, unit, float32(1))


def pack_f64(source, across, along, width, k, destination, strip, pitch, unit):
    pack(source, across, along, width, k, destination, strip, pitch, unit, float64(1))


def finish_f32(job, i0, i1, j0, j1):
    finish(job, i0, i1, j0, j1, float32(1))


def finish_f64(job, i0, i1, j0, j1):
    finish(job, i0, i1, j0, j1, float64(1))


def settled(job, threads):
    """Settle a job by the code of its own table."""
    settle_at(get(get(job, word.TABLE), word.SETTLE), job, threads)


# Sizes up to which a product in plain rows needs no thought.
QUICK = 64
ONE = int(np.float64(1).view(np.int64))


@register_jitable
def disjoint(
    one, rows, row, columns, column, other, others_rows, others_row, others_columns, others_column, unit
):
    """Whether two arrays, each an address, sizes and strides, certainly have no byte in common."""
    low = one + min(0, (rows - 1) * row) + min(0, (columns - 1) * column)
    high = one + max(0, (rows - 1) * row) + max(0, (columns - 1) * column) + unit
    others_low = other + min(0, (others_rows - 1) * others_row) + min(0, (others_columns - 1) * others_column)
    others_high = (
        other + max(0, (others_rows - 1) * others_row) + max(0, (others_columns - 1) * others_column) + unit
    )
    return high <= others_low or others_high <= low


def plain(a, b, c, hub, table):
    """C <- A B for three arrays. Returns 0; 1 where they need more care than this takes."""
    (m, k), n, unit = a.shape, b.shape[1], c.itemsize
    a_row, a_column = a.strides
    b_row, b_column = b.strides
    c_row, c_column = c.strides
    a_at, b_at, c_at = address_of(a), address_of(b), address_of(c)
    if b.shape[0] != k or c.shape[0] != m or c.shape[1] != n or m == 0 or n == 0 or k == 0:
        return 1
    if (n > 1 and c_column != unit) or (a_at | b_at | c_at) % unit:
        return 1
    if not disjoint(c_at, m, c_row, n, c_column, a_at, m, a_row, k, a_column, unit):
        return 1
    if not disjoint(c_at, m, c_row, n, c_column, b_at, k, b_row, n, b_column, unit):
        return 1
    job = job_on_stack()
    put(job, word.M, m)
    put(job, word.N, n)
    put(job, word.K, k)
    put(job, word.A, a_at)
    put(job, word.A_ROW, a_row)
    put(job, word.A_COLUMN, a_column)
    put(job, word.B, b_at)
    put(job, word.B_ROW, b_row)
    put(job, word.B_COLUMN, b_column)
    put(job, word.C, c_at)
    put(job, word.C_ROW, c_row)
    put(job, word.C_COLUMN, c_column)
    put(job, word.ALPHA, ONE)
    put(job, word.BETA, 0)
    put(job, word.UNIT, unit)
    put(job, word.TABLE, table)
    put(job, word.EPILOGUE, 0)
    put(job, word.HUB, hub)
    shallow = k <= min(QUICK, get(table, word.MOST_DEPTH))
    if unit == a_column == b_column and m > 1 and shallow and n >= QUICK // 4 and m * n * k <= QUICK**3:
        settle_small(job, c.dtype.type(1))  # what `settle` decides of these, in a tenth of the time
    else:
        settle_at(get(table, word.SETTLE), job, get(hub, WORKERS) + 1)
    do_job(job)
    return 0
