"""Problems: what is multiplied. A shape, a dtype, an order and a kind of data, as records name them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from math import prod, sqrt
from typing import Any

import numpy as np

from gemm.dtypes import DIGITS, EVERY, FULL, itemsize, low, named, smallest
from gemm.epilogue import Epilogue

# What every kernel takes; a Problem may be of any of `gemm.dtypes.EVERY`.
DTYPES = FULL
DATA = ("normal", "uniform", "integers", "zeros", "significands", "denormals", "wide")
STRIDES = ("contiguous", "padded", "every-second", "reversed")
# Exponents of `wide` data go from -this to this: 2^40 products of the largest, summed, are still finite (in float16,
# which ends at 65504, so are 4096 whose signs are random).
WIDE = {"float32": 42, "float64": 490, "float16": 4, "bfloat16": 42}


@dataclass(frozen=True)
class Problem:
    """C <- alpha op(A) op(B) + beta C, with C m x n and k terms in every sum.

    op_a, op_b  "n": stored as used; "t": stored transposed, handed over as a view
    strides     of all three operands: contiguous; padded (rows 7 elements apart); every-second (in both
                directions); reversed (both directions)
    epilogue    None, "bias", an activation, "bias+ACTIVATION", or "grad:ACTIVATION"
    data        normal; uniform (0 to 1); integers (small: every sum is exact); zeros; significands
                (every bit of the significand is drawn, exponents near 0); denormals (A and C subnormal, B
                normal: operands, products and short sums lie below the smallest normal number); wide (the
                exponents of all three are drawn from WIDE: sums are ruled by their few largest terms)
    batch       products in a stack: A (batch, m, k), B (batch, k, n), C (batch, m, n); 1 is no stack but 2-D
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
    batch: int = 1

    def __post_init__(self) -> None:
        for name in ("m", "n", "k", "batch"):
            size = getattr(self, name)
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise ValueError(f"{name} = {size!r} is no size; sizes are whole numbers from 1 up")
        known = {"dtype": EVERY, "op_a": "nt", "op_b": "nt", "strides": STRIDES, "data": DATA}
        for name, values in known.items():
            if getattr(self, name) not in tuple(values):
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; there are {', '.join(values)}")
        if self.batch > 1 and self.epilogue:
            raise ValueError(f"batch = {self.batch}: an epilogue is of one product; leave out one of the two")

    @property
    def flops(self) -> int:
        """2 m n k, for each product of the stack."""
        return 2 * self.batch * self.m * self.n * self.k

    @property
    def bytes(self) -> int:
        """Compulsory traffic: A and B read once, C written once, and read where beta != 0."""
        elements = self.m * self.k + self.k * self.n + self.m * self.n * (2 if self.beta else 1)
        return self.batch * elements * itemsize(self.dtype)

    def record(self) -> dict[str, Any]:
        """The problem as records hold it."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Problem:
        return cls(**{field.name: record[field.name] for field in fields(cls) if field.name in record})

    def __str__(self) -> str:
        order = "" if self.op_a + self.op_b == "nn" else f" {self.op_a}{self.op_b}"
        rest = "" if (self.alpha, self.beta) == (1, 0) else f" alpha={self.alpha:g} beta={self.beta:g}"
        layout = "" if self.strides == "contiguous" else f" {self.strides}"
        epilogue = f" {self.epilogue}" if self.epilogue else ""
        data = "" if self.data in ("normal", "integers") else f" {self.data}"
        batch = f" *{self.batch}" if self.batch > 1 else ""
        return f"{self.m}x{self.n}x{self.k} {self.dtype}{order}{batch}{layout}{rest}{epilogue}{data}"

    def operands(self, seed: int = 0, digits: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A (m, k), B (k, n) and C (m, n), drawn by `seed`, laid out as the problem says; stacks if batch > 1.

        digits  the integers and significands have no more bits than so many

        They lie in buffers of NaN, so that a read outside them shows in the result.
        """
        rng = np.random.default_rng([seed, self.m, self.n, self.k])
        stack = (self.batch,) if self.batch > 1 else ()
        # B is ordinary where A is subnormal: a product of two subnormal numbers is zero
        kinds = (self.data, "normal" if self.data == "denormals" else self.data, self.data)
        shapes = ((self.m, self.k), (self.k, self.n), (self.m, self.n))
        a, b, c = (
            lay_out(self._draw(rng, kind, (*stack, *shape), digits), op, self.strides)
            for kind, shape, op in zip(kinds, shapes, (self.op_a, self.op_b, "n"))
        )
        return a, b, c

    def make_epilogue(self, seed: int = 0) -> Epilogue | None:
        """The epilogue with arrays of its own, or None."""
        if self.epilogue is None:
            return None
        rng = np.random.default_rng([seed, self.n])
        if self.epilogue.startswith("grad:"):
            grad_of = self.epilogue.removeprefix("grad:")
            aux = rng.uniform(-0.9, 0.9, (self.m, self.n)).astype(named(self.dtype))
            return Epilogue(grad_of=grad_of, aux_in=aux)
        parts = self.epilogue.split("+")
        bias = rng.standard_normal(self.n).astype(named(self.dtype)) if "bias" in parts else None
        activation = next((part for part in parts if part != "bias"), None)
        return Epilogue(bias=bias, activation=activation)

    def _draw(
        self, rng: np.random.Generator, kind: str, shape: tuple[int, ...], digits: int | None = None
    ) -> np.ndarray:
        dtype = named(self.dtype)
        drawn = np.dtype(np.float32) if low(dtype) else dtype  # what the generator draws in
        if kind == "normal":
            return rng.standard_normal(shape, drawn).astype(dtype, copy=False)
        if kind == "uniform":
            return rng.random(shape, drawn).astype(dtype, copy=False)
        if kind == "zeros":
            return np.zeros(shape, dtype)
        if kind == "integers":
            return integers(rng, shape, self.k, dtype, digits)
        if kind == "denormals":
            return denormals(rng, shape, dtype)
        found = significands(rng, shape, dtype, digits)
        if kind == "wide":
            most = WIDE[self.dtype]
            exponents = rng.integers(-most, most, shape, np.int32, endpoint=True)
            wide = found.astype(np.float32) if low(dtype) else found
            found = np.ldexp(wide, exponents).astype(dtype, copy=False)
        return found


def integers(
    rng: np.random.Generator, shape: tuple[int, ...], k: int, dtype: Any, digits: int | None = None
) -> np.ndarray:
    """Integers so small that sums of k products (times 3, plus 3 more) are exact in `dtype`.

    And as large as that allows: in float64 the sums need more than 24 bits, so that sums kept in float32
    do not pass; every entry is itself exact in float32.

    digits  of what the kernel multiplies, where it rounds its operands: every entry is exact in that

    In 16 bits even sums of -1, 0 and 1 do not fit if they are long: there are then more zeros, so many that a sum is
    too large only where it is six times its standard deviation.
    """
    fit = 2.0 ** DIGITS[named(dtype).name]
    largest = min(int(sqrt(fit / (3 * (k + 3)))), 2**20, 2 ** (digits or 53))
    # -1, 0 and 1 are what is left for very long float32 sums
    found = rng.integers(-max(largest, 1), max(largest, 1), shape, endpoint=True)
    if low(dtype) and largest < 1:
        share = fit / (3 * 6 * sqrt(k))  # of entries that are not 0: a sum has a variance of k share^2
        found *= rng.random(shape) < 1.5 * share  # (two thirds of them are not 0 as it is)
    return found.astype(named(dtype))


def significands(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: Any, digits: int | None = None
) -> np.ndarray:
    """Values whose significands use every bit, the last one set, of either sign and near 1.

    digits  how many bits that is, where a kernel rounds its operands; default: all that the dtype has
    """
    bits = min(digits or 53, DIGITS[named(dtype).name]) - 1
    odd = rng.integers(2 ** (bits - 1), 2**bits, shape) * 2 + 1  # bits + 1 digits, odd
    return (rng.choice([-1.0, 1.0], shape) * odd / 2.0**bits).astype(named(dtype))


def denormals(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Subnormal numbers of either sign, uniform between the smallest and the smallest normal number."""
    steps = rng.integers(1, 2 ** (DIGITS[named(dtype).name] - 1), shape) * rng.choice([-1, 1], shape)
    return (steps * np.float64(smallest(named(dtype)))).astype(named(dtype))


def lay_out(
    values: np.ndarray, op: str = "n", strides: str = "contiguous", fill: float = np.nan
) -> np.ndarray:
    """A view equal to `values` (2-D, or a stack of such) in a buffer full of `fill`, with these strides.

    The view's `base` is the whole buffer: what is written outside the view can be seen there (`gemm.guards`).
    """
    if op == "t":
        return lay_out(values.swapaxes(-1, -2), "n", strides, fill).swapaxes(-1, -2)
    *stack, rows, columns = values.shape
    step = 2 if strides == "every-second" else 1
    width = columns * step + (7 if strides == "padded" else 0)
    inside = prod(stack) * rows * step * width
    guard = max(2 * width, 256)
    buffer = np.full(guard * 2 + 64 + inside, fill, values.dtype)
    # Start on a cache line: where malloc happened to start is noise between launches.
    guard += -(buffer[guard:].ctypes.data // values.itemsize) % (64 // values.itemsize)
    view = buffer[guard : guard + inside].reshape(*stack, rows * step, width)
    view = view[..., ::step, : columns * step : step]
    if strides == "reversed":
        view = view[..., ::-1, ::-1]
    view[...] = values
    return view
