"""Calls of the functions of mlp/source: what mlp/compiled.py does on the host, on a GPU, each in one launch.

A function is handed the words that its namesake on the host is handed, by value, and behind them what only a device
needs: scratch memory for sums over blocks, how threads are laid over rows. It runs on the current stream and nobody
waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from gemm.cuda import build
from mlp import devices

Array = np.ndarray
SOURCE = Path(__file__).parent / "source"
# As source/words.cuh has them.
THREADS, LENGTH = 256, 16
WORDS = np.dtype([("at", np.int64, (LENGTH,))])
# What NUMBER is for a dtype, and the dtype that is computed with.
NUMBERS = {"float32": "float", "float64": "double", "bfloat16": "bfloat16"}
COMPUTED = {"float32": "float32", "float64": "float64", "bfloat16": "float32"}
# Blocks that an elementwise function has at most; of sums fewer, as the last block adds up what they bring.
MOST, MOST_OF_SUM = 4096, 1024
# Rows that a thread of column_sums adds up at least, columns of a block and blocks at most.
ROWS, COLUMNS, MOST_OF_COLUMNS = 8, 32, 2048

Grid = tuple[int, int, int]
# (arguments, dtype) -> the grid, and further words
Layout = Callable[[Sequence[Any], np.dtype], tuple[Grid, list[Any]]]


@dataclass(frozen=True)
class Function:
    """The file that it is in, and how it is laid over a grid."""

    file: str
    layout: Layout


def call(name: str, dtype: np.dtype, *arguments: Any) -> Launch:
    """The call of the function of that name. arguments: arrays on the device (C-contiguous), sizes, numbers."""
    function = FUNCTIONS[name]
    grid, further = function.layout(arguments, dtype)
    words = np.zeros((), WORDS)
    given = [dtype.itemsize, *arguments, *further]
    words["at"][: len(given)] = [_word(one) for one in given]
    return Launch(kernel(function.file, dtype.name, name), grid, words, given)


class Launch:
    """A launch on the current stream. `keeps` must live as long: what the words point at."""

    __slots__ = ("_arguments", "_grid", "_kernel", "_words", "keeps")

    def __init__(self, kernel: Any, grid: Grid, words: Array, keeps: Any = None) -> None:
        self._kernel, self._grid, self._words, self.keeps = kernel, grid, words, keeps
        # as bytes without names: CuPy asks for the array's description in each launch, which takes fields 10 us
        self._arguments = (words.view(f"V{WORDS.itemsize}"),)

    def change(self, words: Mapping[int, int]) -> None:
        """Other words from the next launch on."""
        for at, word in words.items():
            self._words["at"][at] = word

    def __call__(self) -> None:
        self._kernel(self._grid, (THREADS, 1, 1), self._arguments)


@cache
def kernel(file: str, dtype: str, name: str) -> Any:
    """A function of a file, compiled for this GPU: kernel(grid, block, arguments) launches it."""
    return _module(file, dtype).get_function(name)


@cache
def _module(file: str, dtype: str) -> Any:
    import cupy

    # CuPy says "90" for 9.0
    capability = str(cupy.cuda.Device().compute_capability)
    architecture = build.architecture_of((int(capability[:-1]), int(capability[-1])))
    return cupy.RawModule(path=str(built(file, dtype, architecture).cubin))


def built(file: str, dtype: str, architecture: str) -> build.Built:
    """A file of mlp/source for a dtype, compiled (gemm.cuda.build). Raises build.Uncompilable."""
    first = next(name for name, function in FUNCTIONS.items() if function.file == file)
    return build.build(SOURCE / file, {"NUMBER": NUMBERS[dtype]}, architecture, first)


def _word(value: Any) -> int:
    """Of an array its address, of a float its bits, of a whole number itself."""
    if isinstance(value, float):
        return int(np.float64(value).view(np.int64))
    return devices.address(value) if hasattr(value, "dtype") and hasattr(value, "strides") else int(value)


def width_of(count: int, most: int) -> int:
    """The power of two that is enough for `count`, or `most`."""
    return min(most, 1 << max(0, count - 1).bit_length())


def _blocks(count: int, most: int) -> int:
    return max(1, min(most, ceil(count / THREADS)))


def _scratch(*parts: tuple[tuple[int, ...], Any]) -> list[Array]:
    """Arrays of zeros on the device."""
    zeros = devices.device("cuda").zeros
    return [zeros(shape, dtype) for shape, dtype in parts]


def _each(count: Callable[..., int]) -> Layout:
    """A thread for every element, or for several; count(*arguments)."""
    return lambda arguments, dtype: ((_blocks(count(*arguments), MOST), 1, 1), [])


def _of_loss(arguments: Sequence[Any], dtype: np.dtype) -> tuple[Grid, list[Any]]:
    """Z, targets, dZ, value, batch, outputs and, of a weighted one, shares."""
    batch, outputs = arguments[4:6]
    blocks = _blocks(ceil(batch * outputs / 4), MOST_OF_SUM)
    shares = [] if len(arguments) > 6 else [0]
    return (blocks, 1, 1), [*shares, *_scratch(((blocks,), np.float64), ((1,), np.uint32))]


def _of_softmax_loss(arguments: Sequence[Any], dtype: np.dtype) -> tuple[Grid, list[Any]]:
    batch, outputs = arguments[4:6]
    lanes = width_of(outputs, THREADS)
    blocks = ceil(batch / (THREADS // lanes))
    shares = [] if len(arguments) > 6 else [0]
    return (blocks, 1, 1), [*shares, *_scratch(((blocks,), np.float64), ((1,), np.uint32)), lanes]


def _of_rows(arguments: Sequence[Any], dtype: np.dtype) -> tuple[Grid, list[Any]]:
    """Two arrays, rows, width."""
    rows, width = arguments[2:4]
    lanes = width_of(width, THREADS)
    return (max(1, ceil(rows / (THREADS // lanes))), 1, 1), [lanes]


def _of_columns(arguments: Sequence[Any], dtype: np.dtype) -> tuple[Grid, list[Any]]:
    """dZ, db, batch, outputs."""
    batch, outputs = arguments[2:4]
    columns = width_of(outputs, COLUMNS)
    groups, rows = ceil(outputs / columns), THREADS // columns
    chunks = max(1, min(ceil(batch / (rows * ROWS)), MOST_OF_COLUMNS // groups))
    computed = COMPUTED[dtype.name]
    partial = ((chunks, outputs) if chunks > 1 else (1,), computed)
    return (groups, chunks, 1), [*_scratch(partial, ((groups,), np.uint32)), columns, chunks]


def _of_squares(arguments: Sequence[Any], dtype: np.dtype) -> tuple[Grid, list[Any]]:
    """W, sum, count."""
    blocks = _blocks(ceil(arguments[2] / 4), MOST_OF_SUM)
    return (blocks, 1, 1), _scratch(((blocks,), np.float64), ((1,), np.uint32))


def _rows_seen(x: Any, rows: Any, batch: int, *window: int) -> int:
    return int(rows.size)


_UPDATE = Function("updates.cu", _each(lambda w, dw, first, second, settings, count, bias: count))
_LOSS = Function("losses.cu", _of_loss)
FUNCTIONS = {
    "softmax_cross_entropy": Function("losses.cu", _of_softmax_loss),
    "squared_error": _LOSS,
    "logistic": _LOSS,
    "hinge": _LOSS,
    "poisson": _LOSS,
    "sum_of_squares": Function("sums.cu", _of_squares),
    "column_sums": Function("sums.cu", _of_columns),
    "softmax": Function("rows.cu", _of_rows),
    "softmax_backward": Function("rows.cu", _of_rows),
    "im2col": Function("moves.cu", _each(_rows_seen)),
    "col2im": Function("moves.cu", _each(lambda x, *_: int(x.size))),
    "transpose": Function(
        "moves.cu", _each(lambda x, rows, batch, steps, features: batch * steps * features)
    ),
    "take_rows": Function("moves.cu", _each(lambda x, which, out, count, width: count * width)),
    "add_bias": Function("elements.cu", _each(lambda z, bias, rows, width: rows * width)),
    "bias_activation": Function(
        "elements.cu", _each(lambda z, bias, kept, y, rows, width, function: rows * width)
    ),
    "activation": Function("elements.cu", _each(lambda z, y, count, function: count)),
    "activation_backward": Function("elements.cu", _each(lambda g, y, count, function: count)),
    "hold": Function("updates.cu", _each(lambda *_: 1)),
    "sgd": _UPDATE,
    "momentum": _UPDATE,
    "adagrad": _UPDATE,
    "rmsprop": _UPDATE,
    "adam": _UPDATE,
}
