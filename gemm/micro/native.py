"""The entry points of the compiled code, each for one dtype."""

from __future__ import annotations

import numpy as np
from numba import float32, float64
from numba.extending import register_jitable

from gemm.micro import job as word
from gemm.micro.dot import dot_kernel
from gemm.micro.finish import finish
from gemm.micro.loops import part_of
from gemm.micro.memory import get, job_on_stack, put, settle_at
from gemm.micro.packing import pack
from gemm.micro.plan import settle
from gemm.micro.pool import do_job
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


ONE = int(np.float64(1).view(np.int64))


@register_jitable
def extent(x):
    """Below and above: the addresses between which an array's elements lie."""
    low = high = x.ctypes.data
    for size, stride in zip(x.shape, x.strides):
        if stride < 0:
            low += (size - 1) * stride
        else:
            high += (size - 1) * stride
    return low, high + x.itemsize


def plain(a, b, c, hub, table, threads):
    """C <- A B for three arrays. Returns 0; 1 where they need more care (or memory) than this takes."""
    (m, k), n = a.shape, b.shape[1]
    if b.shape[0] != k or c.shape[0] != m or c.shape[1] != n or m == 0 or n == 0 or k == 0:
        return 1
    if n > 1 and c.strides[1] != c.itemsize:
        return 1
    c_low, c_high = extent(c)
    a_low, a_high = extent(a)
    b_low, b_high = extent(b)
    if (c_low < a_high and a_low < c_high) or (c_low < b_high and b_low < c_high):
        return 1
    job = job_on_stack()
    put(job, word.M, m)
    put(job, word.N, n)
    put(job, word.K, k)
    put(job, word.A, a.ctypes.data)
    put(job, word.A_ROW, a.strides[0])
    put(job, word.A_COLUMN, a.strides[1])
    put(job, word.B, b.ctypes.data)
    put(job, word.B_ROW, b.strides[0])
    put(job, word.B_COLUMN, b.strides[1])
    put(job, word.C, c.ctypes.data)
    put(job, word.C_ROW, c.strides[0])
    put(job, word.C_COLUMN, c.strides[1])
    put(job, word.ALPHA, ONE)
    put(job, word.BETA, 0)
    put(job, word.UNIT, c.itemsize)
    put(job, word.TABLE, table)
    put(job, word.EPILOGUE, 0)
    settle_at(get(table, word.SETTLE), job, threads)
    return do_job(hub, job)
