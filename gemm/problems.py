"""Problems: what is multiplied. A shape, a dtype, an order and a kind of data, as records name them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from math import sqrt
from typing import Any

import numpy as np

from gemm.epilogue import Epilogue

DTYPES = ("float32", "float64")
DATA = ("normal", "uniform", "integers", "zeros", "significands")
STRIDES = ("contiguous", "padded", "every-second", "reversed")


@dataclass(frozen=True)
class Problem:
    """C <- alpha op(A) op(B) + beta C, with C m x n and k terms in every sum.

    op_a, op_b  "n": stored as used; "t": stored transposed, handed over as a view
    strides     of all three operands: contiguous; padded (rows 7 elements apart); every-second (in both
                directions); reversed (both directions)
    epilogue    None, "bias", an activation, "bias+ACTIVATION", or "grad:ACTIVATION"
    data        normal; uniform (0 to 1); integers (small: every sum is exact); zeros; significands
                (every bit of the significand is drawn, exponents near 0)
    """

    m: int
    n: int
    k: int
    dtype: str = "float32"
    op_a: str = "n"
    op_b: str = "n"
    strides: str = "contiguous"
    alpha: float = 1.0
    beta: float = 0.0
    epilogue: str | None = None
    data: str = "normal"

    def __post_init__(self) -> None:
        for name in ("m", "n", "k"):
            size = getattr(self, name)
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise ValueError(f"{name} = {size!r} is no size; sizes are whole numbers from 1 up")
        known = {"dtype": DTYPES, "op_a": "nt", "op_b": "nt", "strides": STRIDES, "data": DATA}
        for name, values in known.items():
            if getattr(self, name) not in tuple(values):
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; there are {', '.join(values)}")

    @property
    def flops(self) -> int:
        """2 m n k."""
        return 2 * self.m * self.n * self.k

    @property
    def bytes(self) -> int:
        """Compulsory traffic: A and B read once, C written once, and read where beta != 0."""
        elements = self.m * self.k + self.k * self.n + self.m * self.n * (2 if self.beta else 1)
        return elements * np.dtype(self.dtype).itemsize

    def record(self) -> dict[str, Any]:
        """The problem as records hold it (one product: a batch of 1)."""
        return asdict(self) | {"batch": 1}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Problem:
        return cls(**{field.name: record[field.name] for field in fields(cls) if field.name in record})

    def __str__(self) -> str:
        order = "" if self.op_a + self.op_b == "nn" else f" {self.op_a}{self.op_b}"
        rest = "" if (self.alpha, self.beta) == (1, 0) else f" alpha={self.alpha:g} beta={self.beta:g}"
        layout = "" if self.strides == "contiguous" else f" {self.strides}"
        epilogue = f" {self.epilogue}" if self.epilogue else ""
        return f"{self.m}x{self.n}x{self.k} {self.dtype}{order}{layout}{rest}{epilogue}"

    def operands(self, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A (m, k), B (k, n) and C (m, n), drawn by `seed`, laid out as the problem says.

        They lie in buffers of NaN, so that a read outside them shows in the result.
        """
        rng = np.random.default_rng([seed, self.m, self.n, self.k])
        a = lay_out(self._draw(rng, self.m, self.k), self.op_a, self.strides)
        b = lay_out(self._draw(rng, self.k, self.n), self.op_b, self.strides)
        c = lay_out(self._draw(rng, self.m, self.n), "n", self.strides)
        return a, b, c

    def make_epilogue(self, seed: int = 0) -> Epilogue | None:
        """The epilogue with arrays of its own, or None."""
        if self.epilogue is None:
            return None
        rng = np.random.default_rng([seed, self.n])
        if self.epilogue.startswith("grad:"):
            grad_of = self.epilogue.removeprefix("grad:")
            aux = rng.uniform(-0.9, 0.9, (self.m, self.n)).astype(self.dtype)
            return Epilogue(grad_of=grad_of, aux_in=aux)
        parts = self.epilogue.split("+")
        bias = rng.standard_normal(self.n).astype(self.dtype) if "bias" in parts else None
        activation = next((part for part in parts if part != "bias"), None)
        return Epilogue(bias=bias, activation=activation)

    def _draw(self, rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
        dtype = np.dtype(self.dtype)
        if self.data == "normal":
            return rng.standard_normal((rows, columns), dtype)
        if self.data == "uniform":
            return rng.random((rows, columns), dtype)
        if self.data == "zeros":
            return np.zeros((rows, columns), dtype)
        if self.data == "integers":
            return integers(rng, (rows, columns), self.k, dtype)
        return significands(rng, (rows, columns), dtype)


def integers(rng: np.random.Generator, shape: tuple[int, ...], k: int, dtype: Any) -> np.ndarray:
    """Integers so small that sums of k products (times 3, plus 3 more) are exact in `dtype`.

    And as large as that allows: in float64 the sums need more than 24 bits, so that sums kept in float32
    do not pass; every entry is itself exact in float32.
    """
    digits = np.finfo(dtype).nmant + 1
    largest = min(int(sqrt(2.0**digits / (3 * (k + 3)))), 2**20)
    # -1, 0 and 1 are what is left for very long float32 sums
    return rng.integers(-max(largest, 1), max(largest, 1), shape, endpoint=True).astype(dtype)


def significands(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Values whose significands use every bit, the last one set, of either sign and near 1."""
    bits = np.finfo(dtype).nmant
    odd = rng.integers(2 ** (bits - 1), 2**bits, shape) * 2 + 1  # bits + 1 digits, odd
    return (rng.choice([-1.0, 1.0], shape) * odd / 2.0**bits).astype(dtype)


def lay_out(
    values: np.ndarray, op: str = "n", strides: str = "contiguous", fill: float = np.nan
) -> np.ndarray:
    """A view equal to `values` (2-D) in a buffer full of `fill`, with these strides.

    The view's `base` is the whole buffer: what is written outside the view can be seen there.
    """
    if op == "t":
        return lay_out(values.T, "n", strides, fill).T
    rows, columns = values.shape
    step = 2 if strides == "every-second" else 1
    width = columns * step + (7 if strides == "padded" else 0)
    guard = max(2 * width, 256)
    buffer = np.full(guard * 2 + 64 + rows * step * width, fill, values.dtype)
    # Start on a cache line: where malloc happened to start is noise between launches.
    guard += -(buffer[guard:].ctypes.data // values.itemsize) % (64 // values.itemsize)
    view = buffer[guard : guard + rows * step * width].reshape(rows * step, width)[
        ::step, : columns * step : step
    ]
    if strides == "reversed":
        view = view[::-1, ::-1]
    view[...] = values
    return view
