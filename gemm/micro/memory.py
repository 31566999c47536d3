"""Words of memory by address: what native code shares between threads, and how it waits.

Numba's arrays have no atomic operations, and its functions cannot ask the operating system for memory or sleep until
a word changes. These few intrinsics can. A word is 64 bits, at an address that is a multiple of 8.
"""

from __future__ import annotations

import sys

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from gemm.micro import job
from gemm.micro.emit import I8, I32, I64, VOID

WORD = 8
# Linux' numbers (futex(2), madvise(2)); that of a system call differs by machine.
FUTEX = {"x86_64": 202, "aarch64": 98}
FUTEX_WAIT_PRIVATE, FUTEX_WAKE_PRIVATE = 128, 129
MADV_HUGEPAGE = 14


@intrinsic
def get(_, base, index):
    """Word `index` after the address `base`."""

    def generate(_context, builder, _signature, arguments):
        return builder.load(_word(builder, *arguments), align=WORD)

    return types.int64(types.int64, types.int64), generate


@intrinsic
def put(_, base, index, value):
    """Write word `index` after the address `base`."""

    def generate(context, builder, _signature, arguments):
        base, index, value = arguments
        builder.store(value, _word(builder, base, index), align=WORD)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
def job_on_stack(_):
    """Memory for a job until the function returns: its address."""

    def generate(_context, builder, _signature, _arguments):
        return builder.ptrtoint(cgutils.alloca_once(builder, I64, size=job.LENGTH), I64)

    return types.int64(), generate


@intrinsic
def observe(_, base, index):
    """Word `index`, atomically; what was written before it was published is seen after."""

    def generate(_context, builder, _signature, arguments):
        return builder.load_atomic(_word(builder, *arguments), "seq_cst", WORD)

    return types.int64(types.int64, types.int64), generate


@intrinsic
def publish(_, base, index, value):
    """Write word `index` atomically, after everything written before."""

    def generate(context, builder, _signature, arguments):
        base, index, value = arguments
        builder.store_atomic(value, _word(builder, base, index), "seq_cst", WORD)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
def add_to(_, base, index, value):
    """Add to word `index` atomically; returns what it was."""

    def generate(_context, builder, _signature, arguments):
        base, index, value = arguments
        return builder.atomic_rmw("add", _word(builder, base, index), value, "seq_cst")

    return types.int64(types.int64, types.int64, types.int64), generate


@intrinsic
def replace(_, base, index, expected, value):
    """Write word `index` if it is `expected`, atomically; returns whether it was."""

    def generate(_context, builder, _signature, arguments):
        base, index, expected, value = arguments
        pair = builder.cmpxchg(_word(builder, base, index), expected, value, "seq_cst", "seq_cst")
        return builder.extract_value(pair, 1)

    return types.boolean(types.int64, types.int64, types.int64, types.int64), generate


@intrinsic
def pause(_):
    """Tell the core that this is a loop that waits."""

    def generate(context, builder, _signature, _arguments):
        if _machine() == "x86_64":
            _extern(builder, "llvm.x86.sse2.pause", VOID)
        elif _machine() == "aarch64":
            _extern(builder, "llvm.aarch64.hint", VOID, ir.Constant(I32, 1))
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def sleep_while(_, address, expected):
    """Sleep until woken, if the low half of the word at `address` is `expected`; without Linux' futex, a tenth of a
    ms."""

    def generate(context, builder, _signature, arguments):
        if _has_futex():
            _futex(builder, arguments[0], FUTEX_WAIT_PRIVATE, arguments[1])
        else:
            _extern(builder, "usleep", I32, ir.Constant(I32, 100))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def wake(_, address, count):
    """Wake `count` threads that sleep on the word at `address`."""

    def generate(context, builder, _signature, arguments):
        if _has_futex():
            _futex(builder, arguments[0], FUTEX_WAKE_PRIVATE, arguments[1])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def give_way(_):
    """Let another thread have this core."""

    def generate(context, builder, _signature, _arguments):
        _extern(builder, "sched_yield", I32)
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def allocate(_, bytes_):
    """Memory on a large page's boundary, in large pages where Linux offers them; 0 if there is none."""

    def generate(_context, builder, _signature, arguments):
        (size,) = arguments
        cell = builder.alloca(I8.as_pointer())
        boundary = ir.Constant(I64, 1 << 21)
        failed = _extern(builder, "posix_memalign", I32, cell, boundary, size)
        address = builder.ptrtoint(builder.load(cell), I64)
        good = builder.icmp_signed("==", failed, ir.Constant(I32, 0))
        if sys.platform == "linux":
            with builder.if_then(good):
                _extern(builder, "madvise", I32, address, size, ir.Constant(I32, MADV_HUGEPAGE))
        return builder.select(good, address, ir.Constant(I64, 0))

    return types.int64(types.int64), generate


@intrinsic
def release(_, address):
    """Give back what `allocate` gave."""

    def generate(context, builder, _signature, arguments):
        _extern(builder, "free", VOID, builder.inttoptr(arguments[0], I8.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def jump(_, function, job, part, space, shared):
    """Do a part of a job (`native.part_f32`)."""
    return types.void(*[types.int64] * 5), _through_address


@intrinsic
def call_at(_, function, argument):
    """Call a function of one integer that returns nothing."""
    return types.void(*[types.int64] * 2), _through_address


@intrinsic
def settle_at(_, function, job, threads):
    """Settle a job (`native.settle_f32`)."""
    return types.void(*[types.int64] * 3), _through_address


@intrinsic
def pack_at(_, function, source, across, along, width, k, destination, strip, pitch, unit):
    """Pack a block (`native.pack_f32`)."""
    return types.void(*[types.int64] * 10), _through_address


@intrinsic
def finish_at(_, function, job, i0, i1, j0, j1):
    """Do the epilogue on a block (`native.finish_f32`)."""
    return types.void(*[types.int64] * 6), _through_address


@intrinsic
def tile_at(
    _, function, rows, wide, keep, k, a, a_row, a_column, b, b_row, c, c_row, columns, kept, alpha, beta
):
    """The micro-kernel at an address (`native.tile_f32`, `native.tile_f64`)."""
    return types.void(*[types.int64] * 14, alpha, alpha), _through_address


@intrinsic
def dot_at(_, function, rows, columns, k, a, a_row, b, b_column, c, c_row, c_column, alpha, beta):
    """The tile of inner products at an address (`native.dot_f32`, `native.dot_f64`)."""
    return types.void(*[types.int64] * 11, alpha, alpha), _through_address


@intrinsic
def sweep_at(_, function, rows, k, a, a_row, a_column, b, b_row, c, c_row, groups, stream, alpha, beta):
    """The sweep at an address (`native.sweep_f32`, `native.sweep_f64`)."""
    return types.void(*[types.int64] * 12, alpha, alpha), _through_address


def _through_address(context, builder, signature, arguments):
    values = arguments[1:]
    type_ = ir.FunctionType(VOID, [value.type for value in values])
    builder.call(builder.inttoptr(arguments[0], type_.as_pointer()), values)
    return context.get_dummy_value()


@intrinsic
def address_of(_, array):
    """Where an array's first element lies."""

    def generate(context, builder, _signature, arguments):
        return builder.ptrtoint(context.make_array(array)(context, builder, arguments[0]).data, I64)

    return types.int64(array), generate


@intrinsic
def as_number(_, word, kind):
    """The float64 whose bits the word is, in the dtype of `kind`."""

    def generate(context, builder, _signature, arguments):
        value = builder.bitcast(arguments[0], ir.DoubleType())
        return builder.fptrunc(value, ir.FloatType()) if kind == types.float32 else value

    return kind(types.int64, kind), generate


@intrinsic
def rounded(_, number, kind):
    """A float64 in the dtype of `kind`."""

    def generate(_context, builder, _signature, arguments):
        return builder.fptrunc(arguments[0], ir.FloatType()) if kind == types.float32 else arguments[0]

    return kind(types.float64, kind), generate


@intrinsic
def pointer(_, address, kind):
    """The address as a pointer to elements of the dtype of `kind`, for numba.carray."""
    target = types.CPointer(kind)

    def generate(context, builder, _signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(target))

    return target(types.int64, kind), generate


def _word(builder, base, index):
    at = builder.add(base, builder.mul(index, ir.Constant(I64, WORD)))
    return builder.inttoptr(at, I64.as_pointer())


def _extern(builder, name, result, *arguments):
    """Call a function of the C library."""
    module = builder.module
    type_ = ir.FunctionType(result, [argument.type for argument in arguments])
    found = module.globals.get(name) or ir.Function(module, type_, name)
    return builder.call(found, arguments)


def _has_futex() -> bool:
    return sys.platform == "linux" and _machine() in FUTEX


def _futex(builder, address, operation, value):
    number = ir.Constant(I64, FUTEX[_machine()])
    nothing = ir.Constant(I64, 0)
    _extern(builder, "syscall", I64, number, address, ir.Constant(I64, operation), value, nothing)


def _machine() -> str:
    import platform

    return platform.machine().replace("AMD64", "x86_64").replace("arm64", "aarch64")
