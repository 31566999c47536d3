"""The product: operands become a job, and a job becomes one call of native code.

Compiled, and cached on disk: the parts of a product for each dtype (the large ones, reached by address), and what
settles a job, does it, and is a worker's life. A second process loads them.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

from gemm import epilogue as epilogues
from gemm.compiled import cached, cfunction
from gemm.epilogue import Epilogue
from gemm.micro import blocking, hub, job
from gemm.program import Native as NativeCall
from gemm.threads import get_threads

Array = np.ndarray


# Multiply-adds up to which a product keeps the interpreter's lock: 5 microseconds, and giving it up takes 0.04.
SMALL = 64**3


class Hub:
    """The pool's memory and its workers: one for the process, made anew in a forked child."""

    def __init__(self) -> None:
        self.words = np.zeros(hub.HUB_WORDS + hub.LINE, np.int64)
        start = -self.words.ctypes.data % (hub.LINE * 8)
        self.address = self.words.ctypes.data + start
        self.first = start // 8
        self.workers: list[threading.Thread] = []
        self.changing = threading.Lock()

    def set_workers(self, count: int) -> None:
        """Have so many workers; waits for those that were there."""
        with self.changing:
            if len(self.workers) == count:
                return
            self._stop()
            self[hub.STOP] = 0
            self.workers = []
            try:
                for me in range(1, count + 1):
                    name = f"numba-micro-{me}"
                    worker = threading.Thread(
                        target=native().work, args=(self.address, me), name=name, daemon=True
                    )
                    worker.start()
                    self.workers.append(worker)
            except RuntimeError:
                pass  # the system has no more threads to give: those that there are will do
            self[hub.WORKERS] = len(self.workers)

    def stop(self) -> None:
        with self.changing:
            self._stop()

    def _stop(self) -> None:
        self[hub.WORKERS] = 0
        if self.workers:
            for worker in self.workers:
                while worker.is_alive():
                    native().stop(self.address)
                    worker.join(0.1)
        self.workers = []

    def forget(self) -> None:
        """In a forked child: the workers are not there, and whoever held the lock and the slots is not either."""
        global _compiling
        self.workers, self.changing, _compiling = [], threading.Lock(), threading.Lock()
        for word in (hub.LOCK, hub.TICKET, hub.SLEEPERS, hub.STOP, hub.WORKERS):
            self[word] = 0
        self.words[self.first + hub.SLOTS + hub.BUSY : self.first + hub.HUB_WORDS : hub.LINE] = 0

    def __setitem__(self, word: int, value: int) -> None:
        self.words[self.first + word] = value


HUB = Hub()
HUB_AT = HUB.address
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=HUB.forget)
atexit.register(HUB.stop)


class Native:
    """The compiled functions by their C entry points, called without Numba's type dispatch."""

    def __init__(self) -> None:
        from numba import types

        from gemm.micro import native, pool

        word = types.int64
        self.do_job = _entry(pool.do_job, types.void(word))
        self.do_small_job = _entry(pool.do_small_job, types.void(word), nogil=False)
        self.work = _entry(pool.work, types.void(word, word))
        self.stop = _entry(pool.stop, types.void(word))
        self.settled = _entry(native.settled, types.void(word, word))


@cache
def native() -> Native:
    return Native()


# What is compiled for each dtype: name, integers and numbers among its arguments.
CODE = (
    ("part", 4, 0),
    ("tile", 13, 2),
    ("dot", 10, 2),
    ("sweep", 11, 2),
    ("pack", 9, 0),
    ("finish", 5, 0),
    ("settle", 2, 0),
)
# A dtype, in this machine's order, of which there is but one object; and what `plain` calls for it, with the address
# of its table.
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
_float32: tuple[Callable[..., int], int] | None = None
_float64: tuple[Callable[..., int], int] | None = None
# Dtypes that are compiled, and the addresses of their tables.
_tables: dict[str, int] = {}


def table(dtype: str) -> int:
    """The address of the dtype's table: its code (compiled now, if it is not yet) and its block sizes."""
    if dtype not in _tables:
        with _compiling:
            if dtype not in _tables:  # another thread may have been first
                _compile(dtype)
    return _tables[dtype]


_compiling = threading.Lock()


def _compile(dtype: str) -> None:
    global _float32, _float64
    from numba import types

    from gemm.micro import native as code

    words = blocking.table(dtype)
    word, element, of = types.int64, getattr(types, dtype), {"float32": "f32", "float64": "f64"}[dtype]
    for name, integers, numbers in CODE:
        made = cfunction(getattr(code, f"{name}_{of}"), types.void(*[word] * integers, *[element] * numbers))
        _made.append(made)
        words[getattr(job, name.upper())] = made.address
    read, written = (types.Array(element, 2, "A", readonly=only) for only in (True, False))
    plain, address = _entry(code.plain, word(read, read, written, word, word)), _address(words)
    if dtype == "float32":
        _float32 = plain, address
    else:
        _float64 = plain, address
    _tables[dtype] = address


# Compiled code lives as long as the objects that made it.
_made: list[Any] = []


def _entry(function: Any, signature: Any, **options: Any) -> Any:
    made = cached(function, signature, error_model="numpy", **options)
    _made.append(made)
    (compiled,) = made.overloads.values()
    return compiled.entry_point


def load() -> Any:
    """Compile what does not depend on the dtype, or load it from the cache; the rest at a dtype's first product."""
    native()
    return multiply


def set_threads(count: int) -> None:
    """One thread is the caller's; the others are workers, who sleep until there is work."""
    HUB.set_workers(count - 1)


def multiply(
    a: Array, b: Array, c: Array, *, alpha: float, beta: float, epilogue: Epilogue | None = None
) -> None:
    bind(a, b, c, alpha=alpha, beta=beta, epilogue=epilogue)()


def bind(
    a: Array, b: Array, c: Array, *, alpha: float, beta: float, epilogue: Epilogue | None = None
) -> Callable[[], Any]:
    """The product of these operands as one call of native code, everything about it decided."""
    dtype = c.dtype.name
    unit = c.itemsize
    (m, n), k = c.shape, a.shape[1]
    if c.strides[1] != unit and n > 1 and c.strides[0] != unit and m > 1:
        return _by_way_of(a, b, c, alpha, beta, epilogue)
    words = np.zeros(job.LENGTH, np.int64)
    words[: job.UNIT + 1] = (
        m, n, k, _address(a), *a.strides, _address(b), *b.strides, _address(c), *c.strides, 0, 0, unit,
    )  # fmt: skip
    words.view(np.float64)[[job.ALPHA, job.BETA]] = alpha, beta
    words[[job.TABLE, job.HUB]] = table(dtype), HUB.address
    if epilogue is not None:
        if not _in_rows(epilogue, c):
            first = bind(a, b, c, alpha=alpha, beta=beta)
            return partial(_then, first, partial(epilogues.apply, epilogue, c))
        words[job.EPILOGUE] = 1
        words[job.ACTIVATION] = job.CODES.get(epilogue.activation or "", 0)
        words[job.GRADIENT] = job.CODES.get(epilogue.grad_of or "", 0)
        if epilogue.bias is not None:
            words[job.BIAS] = _address(epilogue.bias)
        if epilogue.aux_out is not None:
            words[[job.AUX_OUT, job.AUX_OUT_ROW]] = _address(epilogue.aux_out), epilogue.aux_out.strides[0]
        if epilogue.aux_in is not None:
            words[[job.AUX_IN, job.AUX_IN_ROW]] = _address(epilogue.aux_in), epilogue.aux_in.strides[0]
    address = _address(words)
    native().settled(address, get_threads())
    run = native().do_job
    if (
        not words[[job.SPACE, job.SHARED]].any()
        and m * n * k <= SMALL
        and words[[job.SPLIT_M, job.SPLIT_N]].max() == 1
    ):
        run = native().do_small_job
    call = Product(run, address)
    call.function, call.argument, call.keeps = 0, address, (a, b, c, epilogue)
    call.words = words
    return call


class Product(NativeCall):
    """A product as a call. Returns None, or raises MemoryError."""

    words: Array

    def scale(self, alpha: float, beta: float) -> None:
        """From the next call on C <- alpha A B + beta C."""
        self.words.view(np.float64)[[job.ALPHA, job.BETA]] = alpha, beta


def plain(a: Array, b: Array, out: Array | None = None) -> Array:
    """a @ b for two 2-D arrays of one dtype; ValueError where they or `out` need more care than this takes."""
    dtype = a.dtype
    if out is None:
        if a.shape[1] != len(b):
            raise ValueError("shapes that do not fit")
        out = np.empty((len(a), b.shape[1]), dtype)
    elif type(out) is not Array or out.dtype is not dtype or out.ndim != 2 or not out.flags.writeable:
        raise ValueError("out is not a plain array of the operands' dtype")
    ready = _float32 if dtype is FLOAT32 else _float64 if dtype is FLOAT64 else None
    if ready is None:
        if dtype is not FLOAT32 and dtype is not FLOAT64:
            raise ValueError("the operands' bytes are in another machine's order")
        table(dtype.name)
        return plain(a, b, out)
    run, words = ready
    if run(a, b, out, HUB_AT, words):
        raise ValueError("operands that the short way does not take")
    return out


def _address(x: Array) -> int:
    return int(x.__array_interface__["data"][0])


def _in_rows(epilogue: Epilogue, c: Array) -> bool:
    """Whether C and the epilogue's arrays lie row by row, elements side by side."""
    arrays = (c, epilogue.bias, epilogue.aux_out, epilogue.aux_in)
    return all(x is None or x.shape[-1] == 1 or x.strides[-1] == x.itemsize for x in arrays)


def _by_way_of(
    a: Array, b: Array, c: Array, alpha: float, beta: float, epilogue: Epilogue | None
) -> Callable[[], Any]:
    """C's elements do not lie side by side in either direction: through an array whose do."""
    beside = np.empty(c.shape, c.dtype)
    first = bind(a, b, beside, alpha=alpha, beta=beta, epilogue=epilogue)
    there, back = partial(np.copyto, beside, c), partial(np.copyto, c, beside)
    return partial(_then, *((there,) if beta != 0 else ()), first, back)


def _then(*steps: Callable[[], Any]) -> None:
    for step in steps:
        step()
