"""A kernel is a value: what it is called, what it takes, and how to load it.

The function that `load` returns is handed 2-D operands of one device and writes C:

    fn(a, b, c, *, alpha, beta, epilogue)      C <- alpha A B + beta C, then the epilogue

What it may rely on, because the contract (`gemm.contract`) sees to it: m, n, k >= 1, alpha != 0, aligned
arrays of native byte order, dtypes of one of its signatures, alpha and beta rounded to its accumulator's, c sharing
no memory with a or b, `epilogue` None unless everything it names is in `fuses`. What it must do: take any strides
(negative and zero too for a and b), not read c when beta == 0, and leave a and b alone.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from gemm.dtypes import DIGITS, LOW
from gemm.threads import follow_threads

Function = Callable[..., Any]


class UnknownKernel(ValueError):
    """No kernel has this name; the message gives the nearest spelling."""


class KernelUnavailable(RuntimeError):
    """The kernel exists and cannot run here; the message says why and what to install."""


class Signature(NamedTuple):
    """Names of dtypes (`gemm.dtypes`): of A and B, of the sums inside, of C."""

    input: str
    accumulator: str
    output: str


FLOATS = (
    Signature("float32", "float32", "float32"),
    Signature("float64", "float64", "float64"),
)
# The operands' 16 bits, sums in float32, each rounded once into C. bfloat16 is a dtype of ml_dtypes.
HALVES = tuple(Signature(dtype, "float32", dtype) for dtype in LOW)


@dataclass(frozen=True, eq=False)
class Kernel:
    """One way to multiply.

    name            as on the command line
    idea            what this rung adds to the one below, one line
    load            compiles or imports what it needs and returns the function described above
    device          "cpu", "cuda" or "cluster": where its operands live
    signatures      the dtypes that it takes; the first that fits is used
    fuses           the epilogue parts (`Epilogue.names`) that it does itself; "beta": it adds to C where it lies
    set_threads     called with n by `gemm.set_threads`, for pools that nobody else knows of
    probe           a cheap look (metadata, no import): None if it can run here, else why not and what to do
    plain           returns, as load does, what does the plain product of two 2-D arrays in one call, as
                    np.dot(a, b[, out]) does; called after `function` was loaded
    bind            settles beforehand what depends on the operands only: bind(a, b, c, *, alpha, beta, epilogue)
                    returns the call that does what `function` does; called after `function` was loaded
    tuning          where its settings for a dtype come from: tuning(dtype) is "model" or stands for a file's contents
    choose          of a kernel that is another one for each product: choose(m, n, k, dtype, order, threads) is that one
    pool            the threads that it multiplies with, where there are several, by a name that it shares with whoever
                    shares them; None: none of its own
    rung            its place on the ladder; listings sort by it
    error_constant  c of the rounding rule: 1 for any order of summation (Higham 3.13); 2 where sums are not rounded
                    to nearest
    multiplies      of a kernel that rounds its operands before it multiplies them, what to: "tfloat32" (of
                    `gemm.dtypes.DIGITS`). It is judged by that; one that rounds and does not say so is wrong
    deterministic   same inputs, same threads: same bits
    file            the file that the kernel is written in, where `load` is in another; or the folder of its files
    files           more files that it is made of, asked for when its source is: a library's own
    peer            someone else's, to compare with, or no rung of its own: sweeps take it when it is named
    """

    name: str
    idea: str
    load: Callable[[], Function]
    device: str = "cpu"
    signatures: tuple[Signature, ...] = FLOATS
    fuses: frozenset[str] = frozenset()
    set_threads: Callable[[int], None] | None = None
    probe: Callable[[], str | None] | None = None
    plain: Callable[[], Function] | None = None
    bind: Function | None = None
    tuning: Callable[[str], str | None] | None = None
    choose: Callable[..., Kernel] | None = None
    pool: str | None = None
    rung: float = float("inf")
    error_constant: float = 1.0
    multiplies: str | None = None
    deterministic: bool = True
    file: str | None = None
    files: Callable[[], Iterable[Path]] | None = None
    peer: bool = False

    @cached_property
    def reason(self) -> str | None:
        """Why the kernel cannot run here (one sentence with the remedy), or None."""
        return self.probe() if self.probe else None

    @property
    def available(self) -> bool:
        return self.reason is None

    @cached_property
    def function(self) -> Function:
        """The loaded function. Raises KernelUnavailable where the probe or the loading fails."""
        if self.reason:
            raise KernelUnavailable(f"kernel {self.name!r} is not available here: {self.reason}")
        try:
            function = self.load()
            if self.set_threads:
                follow_threads(self.set_threads)
            return function
        except ImportError as error:  # installed and broken: the listing could not know
            raise KernelUnavailable(f"kernel {self.name!r} could not be loaded: {error}") from error

    @cached_property
    def source(self) -> str:
        """Twelve hex digits: the hash of what the kernel is written in."""
        path = self.file or inspect.getsourcefile(self.load)
        if path is None:
            return hashlib.sha256(self.name.encode()).hexdigest()[:12]
        files = sorted(Path(path).rglob("*.py")) if Path(path).is_dir() else [Path(path)]
        files += self.files() if self.files else ()
        return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]

    @property
    def digits(self) -> int | None:
        """How many binary digits of its operands' significands it multiplies with, where it rounds them."""
        return DIGITS[self.multiplies] if self.multiplies else None

    def signature(self, dtype: Any) -> Signature | None:
        """The signature for inputs of `dtype`, or None."""
        return next((s for s in self.signatures if s.input == str(dtype)), None)

    def __repr__(self) -> str:
        return f"<gemm.Kernel {self.name!r}: {self.idea}>"
