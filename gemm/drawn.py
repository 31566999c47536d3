"""Problems drawn at random: any shape, any strides, any epilogue, judged by the three rules and shrunk where one fails.

The fixed list of `gemm.conformance` is what somebody thought of; these are the rest. Every operand has a layout of its
own, C may be poisoned or read, sizes may be zero, half of the problems are integers and must come out bit for bit.
A problem that fails is made smaller and plainer as long as it still does: what is left is the one to look at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from gemm import contract
from gemm.correctness import accumulator_of, error_ratio, exactly, finished, reference
from gemm.diagnosis import explain
from gemm.dtypes import named
from gemm.epilogue import ACTIVATIONS, Epilogue, apply
from gemm.guards import Guards
from gemm.kernel import Kernel
from gemm.problems import DTYPES, STRIDES, Problem, integers, lay_out, significands

Array = np.ndarray

MOST = 300  # rows, columns and terms
ONE_ROW, ONE_COLUMN = "one row again and again", "one column again and again"
# Exact on integers: nothing in them rounds.
EXACT = ("", "bias", "relu", "bias+relu", "identity", "grad:relu", "grad:identity")
ANY = (*EXACT, "tanh", "sigmoid", "bias+tanh", "bias+sigmoid", "grad:tanh", "grad:sigmoid")
SCALARS = (1.0, 1.0, 1.0, -1.0, 2.0, -3.0)
FRACTIONS = (*SCALARS, 0.7, -0.001, 1e-30)


class Layout(NamedTuple):
    """How an operand lies in memory: by rows ("n") or columns ("t"), and with which strides."""

    order: str = "n"
    strides: str = "contiguous"

    def __str__(self) -> str:
        order = "by columns" if self.order == "t" else "by rows"
        return order if self.strides == "contiguous" else f"{order} {self.strides}"

    def put(self, values: Array) -> Array:
        """A view equal to `values` (the first row or column of them, for those that repeat one), NaN around it."""
        if self.strides == ONE_ROW:
            return np.broadcast_to(lay_out(values[:1], self.order), values.shape)
        if self.strides == ONE_COLUMN:
            return np.broadcast_to(lay_out(values[:, :1], self.order), values.shape)
        return lay_out(values, self.order, self.strides)


PLAIN = Layout()


@dataclass(frozen=True)
class Drawn:
    """C <- alpha A B + beta C, then an epilogue; C is m x n, sums have k terms, any of them may be 0.

    a, b, c, aux  layouts of the operands and of the epilogue's arrays
    epilogue      as `Problem.epilogue`, or ""; keeps: with aux_out, where it is a forward one
    exact         integers, to come out bit for bit; else normal numbers, full significands
    prepared      through `gemm.prepare`, not `gemm.matmul`
    seed          of the values
    """

    m: int
    n: int
    k: int
    dtype: str
    a: Layout = PLAIN
    b: Layout = PLAIN
    c: Layout = PLAIN
    aux: Layout = PLAIN
    alpha: float = 1.0
    beta: float = 0.0
    epilogue: str = ""
    keeps: bool = False
    exact: bool = True
    prepared: bool = False
    seed: int = 0

    def __str__(self) -> str:
        parts = [f"{self.m}x{self.n}x{self.k} {self.dtype}"]
        parts += [
            f"{name} {layout}" for name, layout in zip("ABC", (self.a, self.b, self.c)) if layout != PLAIN
        ]
        if (self.alpha, self.beta) != (1, 0):
            parts.append(f"alpha={self.alpha:g} beta={self.beta:g}")
        if self.epilogue or self.keeps:
            parts.append("+".join(filter(None, (self.epilogue, "aux_out" if self.keeps else ""))))
            if self.aux != PLAIN:
                parts.append(f"its arrays {self.aux}")
        parts.append("integers" if self.exact else "full significands")
        return ", ".join([*parts, *(["prepared"] if self.prepared else []), f"values of seed {self.seed}"])


def draw(seed: int, number: int, dtypes: Sequence[str] = DTYPES) -> Drawn:
    """Problem `number` of `seed`: the same one at any time, on any machine.

    dtypes  those that the kernel takes; for a kernel that takes others than all kernels do they are drawn apart, so
            that the problems are the same ones in everything else
    """
    rng = np.random.default_rng([seed, number])

    def size() -> int:
        """Any size as often as any other, but for the smallest, at which most goes wrong."""
        return int(rng.integers(0, 20 if rng.random() < 0.2 else MOST, endpoint=True))

    def layout(*more: str) -> Layout:
        strides = ("contiguous", "contiguous", *STRIDES, *more)
        return Layout("nt"[rng.integers(2)], str(rng.choice(strides)))

    def dtype() -> str:
        usual = DTYPES[rng.integers(2)]
        if set(dtypes) == set(DTYPES):
            return usual
        return str(np.random.default_rng([seed, number, 1]).choice(dtypes))

    exact = bool(rng.random() < 0.5)
    epilogue = str(rng.choice(EXACT if exact else ANY)) if rng.random() < 0.5 else ""
    return Drawn(
        size(), size(), size(), dtype(),
        a=layout(ONE_ROW, ONE_COLUMN), b=layout(ONE_ROW, ONE_COLUMN), c=layout(), aux=layout(),
        alpha=float(rng.choice((*SCALARS, 0.0) if exact else FRACTIONS)),
        beta=float(rng.choice((0.0, 0.0, 0.0, *(SCALARS if exact else FRACTIONS)))),
        epilogue=epilogue, keeps=bool(rng.random() < 0.3) and not epilogue.startswith("grad:"),
        exact=exact, prepared=bool(rng.random() < 0.5), seed=int(rng.integers(1000)),
    )  # fmt: skip


class Failure(NamedTuple):
    """Which rule broke, and a sentence that goes on after "it"."""

    rule: str
    sentence: str


def judge(kernel: Kernel, drawn: Drawn) -> float | Failure:
    """Put a problem to a kernel: the error ratio (0 for integers), or what is wrong."""
    rng = np.random.default_rng([drawn.seed, drawn.m, drawn.n, drawn.k])
    m, n, k, dtype = drawn.m, drawn.n, drawn.k, named(drawn.dtype)
    most = 3 if drawn.dtype == "float16" else 8  # float16 ends at 65504

    def values(*shape: int) -> Array:
        if drawn.exact:
            return integers(rng, shape, max(k, 1), dtype, kernel.digits)
        size = np.exp2(rng.integers(-most, most, shape)).astype(dtype)
        return (significands(rng, shape, dtype) * size).astype(dtype, copy=False)

    a, b, c0 = drawn.a.put(values(m, k)), drawn.b.put(values(k, n)), values(m, n)
    c = drawn.c.put(c0 if drawn.beta else np.full((m, n), np.nan, dtype))
    epilogue = _epilogue(drawn, values(n), rng)
    guards = [Guards(a, b, c)] if c.size else []
    if epilogue is not None and epilogue.aux_out is not None and c.size:
        guards.append(Guards(a, b, epilogue.aux_out))
    try:
        with np.errstate(all="ignore"):
            if drawn.prepared:
                contract.prepare(
                    a, b, c, kernel=kernel, alpha=drawn.alpha, beta=drawn.beta, epilogue=epilogue
                )()
            else:
                contract.matmul(a, b, c, kernel=kernel, alpha=drawn.alpha, beta=drawn.beta, epilogue=epilogue)
    except Exception as error:  # noqa: BLE001 - a student's kernel may raise anything
        return Failure("contract", f"raises {type(error).__name__}: {error}")
    for guard in guards:
        if broken := guard.broken():
            return Failure("contract", broken)
    if drawn.exact:
        return _exact(drawn, a, b, c0, c, epilogue)
    return _rounding(drawn, kernel, a, b, c0, c, epilogue)


def _epilogue(drawn: Drawn, bias: Array, rng: np.random.Generator) -> Epilogue | None:
    shape = (drawn.m, drawn.n)
    if drawn.epilogue.startswith("grad:"):
        aux = rng.uniform(-0.9, 0.9, shape).astype(bias.dtype)
        return Epilogue(grad_of=drawn.epilogue.removeprefix("grad:"), aux_in=drawn.aux.put(aux))
    parts = drawn.epilogue.split("+")
    made = Epilogue(
        bias=bias if "bias" in parts else None,
        activation=next((part for part in parts if part in ACTIVATIONS), None),
        aux_out=drawn.aux.put(np.full(shape, np.nan, bias.dtype)) if drawn.keeps else None,
    )
    return made if made.names else None


def _exact(
    drawn: Drawn, a: Array, b: Array, c0: Array, c: Array, epilogue: Epilogue | None
) -> float | Failure:
    """Rule 2."""
    expected = drawn.alpha * (a.astype(np.float64) @ b.astype(np.float64)) + drawn.beta * c0.astype(
        np.float64
    )
    if epilogue is not None:
        found = epilogue.aux_out
        kept = None if found is None else np.empty_like(expected)
        wide = {
            name: x.astype(np.float64)
            for name in ("bias", "aux_in")
            if (x := getattr(epilogue, name)) is not None
        }
        apply(replace(epilogue, aux_out=kept, **wide), expected)
        if found is not None and kept is not None and not exactly(found, kept):
            return Failure(
                "exact", f"is wrong in aux_out, in {_count(np.not_equal(found.astype(np.float64), kept))}"
            )
    if exactly(c, expected):
        return 0.0
    if epilogue is None and min(drawn.m, drawn.n, drawn.k) > 0:
        shape = Problem(
            drawn.m,
            drawn.n,
            drawn.k,
            drawn.dtype,
            drawn.a.order,
            drawn.b.order,
            alpha=drawn.alpha,
            beta=drawn.beta,
        )
        return Failure("exact", explain(shape, a, b, c0, np.array(c), expected))
    return Failure("exact", f"is wrong in {_count(c.astype(np.float64) != expected)}")


def _rounding(
    drawn: Drawn, kernel: Kernel, a: Array, b: Array, c0: Array, c: Array, epilogue: Epilogue | None
) -> float | Failure:
    """Rule 1."""
    accumulator = accumulator_of(kernel.signature(drawn.dtype), drawn.dtype)
    right = reference(
        a, b, c0, alpha=drawn.alpha, beta=drawn.beta, accumulator=accumulator, multiplies=kernel.multiplies
    )
    worst = 0.0
    if epilogue is not None and epilogue.aux_out is not None:
        before = finished(right, Epilogue(bias=epilogue.bias), a.dtype, accumulator)
        worst = error_ratio(epilogue.aux_out, before)
        if worst > kernel.error_constant:
            return Failure("rounding", f"is off in aux_out by {worst:.3g} times what rounding allows")
    if epilogue is not None:
        right = finished(right, epilogue, a.dtype, accumulator)
    worst = max(worst, error_ratio(c, right))
    if worst > kernel.error_constant:
        return Failure("rounding", f"is off by {worst:.3g} times what rounding allows")
    return worst


def _count(wrong: Array) -> str:
    where = np.argwhere(wrong)
    return f"{len(where)} of {wrong.size} elements (the first at [{where[0][0]}, {where[0][1]}])"


def shrink(kernel: Kernel, drawn: Drawn, failure: Failure, most: int = 300) -> tuple[Drawn, Failure]:
    """The plainest problem found that fails as well, after at most so many tries; and how it fails."""
    tries = 0
    plainer = _plainer(drawn)
    while (candidate := next(plainer, None)) is not None and tries < most:
        tries += 1
        found = judge(kernel, candidate)
        if isinstance(found, Failure):
            drawn, failure = candidate, found
            plainer = _plainer(drawn)
    return drawn, failure


def _plainer(drawn: Drawn) -> Iterator[Drawn]:
    """What is left out first says most: the epilogue, the layouts, then sizes in ever smaller steps."""
    changes: list[dict[str, object]] = [
        {"epilogue": "", "keeps": False}, {"keeps": False}, {"alpha": 1.0}, {"beta": 0.0}, {"prepared": False},
        {"exact": True}, {"a": PLAIN}, {"b": PLAIN}, {"c": PLAIN}, {"aux": PLAIN}, {"seed": 0},
    ]  # fmt: skip
    for name in ("m", "n", "k"):
        size = getattr(drawn, name)
        changes += [
            {name: smaller} for smaller in (1, size // 2, size - size // 8, size - 1) if 0 < smaller < size
        ]
    for change in changes:
        made = replace(drawn, **change)  # type: ignore[arg-type]
        if made != drawn and (not made.exact or made.epilogue in EXACT):
            yield made
