"""Architectures: a network's layers in a line of text, and what that comes to.

    784-512-512-10            widths: 784 inputs, two hidden layers, 10 outputs
    8x8x1-conv3x16-10         images of 8 x 8 with one channel; a convolution, 16 filters that see 3 x 3; 10 outputs
    28x28-conv3x8/2+1-10      one channel goes without saying; stride 2, a border of 1 zero around the image
    8x8-rnn32-10              sequences of 8 steps with 8 numbers each; a recurrent layer of 32 units; 10 outputs

Convolutions stand before all others; so do recurrent layers, and of two the lower hands on its whole sequence. A list
does as well as text: ["8x8x1", "conv3x16", 10].
"""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence as Several
from dataclasses import dataclass, replace

from mlp.layers import Full, Sequence, Window

Shape = Full | Window | Sequence
EXAMPLES = "784-512-512-10, 8x8x1-conv3x16-10 or 8x8-rnn32-10"
CONVOLUTION = re.compile(r"conv([0-9]+)x([0-9]+)(?:/([0-9]+))?(?:\+([0-9]+))?")
RECURRENT = re.compile(r"rnn([0-9]+)")


@dataclass(frozen=True)
class Architecture:
    """A network's layers, from the inputs up.

    start    the shape of an example: (784,), (8, 8, 1), (8, 8)
    shapes   of each layer
    """

    start: tuple[int, ...]
    shapes: tuple[Shape, ...]

    @property
    def parts(self) -> list[int | str]:
        """The list that it was made from, or could have been: numbers are dense layers."""
        first = self.start[0] if len(self.start) == 1 else "x".join(map(str, self.start))
        return [first, *(shape.outputs if isinstance(shape, Full) else str(shape) for shape in self.shapes)]

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers of an example, and what every layer hands on of it."""
        return (self.shapes[0].inputs, *(shape.outputs for shape in self.shapes))

    def thin(self) -> Architecture:
        """The same layers, as narrow as can be: what is wrong with a network shows on it without the memory."""
        narrow: list[int | str] = []
        for shape in self.shapes:
            if isinstance(shape, Window):
                narrow.append(str(replace(shape, filters=1)))
            else:
                narrow.append("rnn1" if isinstance(shape, Sequence) else 1)
        return architecture([1 if isinstance(self.shapes[0], Full) else self.parts[0], *narrow])

    def __str__(self) -> str:
        return "-".join(map(str, self.parts))


def architecture(arch: str | Several[int | str] | Architecture) -> Architecture:
    """What text or a list says. Raises ValueError for what says nothing, or something that cannot be."""
    if isinstance(arch, Architecture):
        return arch
    try:
        if isinstance(arch, bytes | set | frozenset | dict):
            raise TypeError  # these have no order, or mean something else
        parts = arch.split("-") if isinstance(arch, str) else list(arch)
        if any(isinstance(part, bool) for part in parts):
            raise TypeError
        words = [part.strip() if isinstance(part, str) else str(operator.index(part)) for part in parts]
    except TypeError:
        raise _malformed(arch) from None
    if len(words) < 2:
        raise ValueError(f"arch {arch!r} has {len(words)} width; it needs two or more, inputs to outputs")
    start = _start(arch, words[0])
    shapes: list[Shape] = []
    here = start  # the shape of what is handed on
    for word in words[1:]:
        shape = _layer(arch, word, here, shapes)
        shapes.append(shape)
        here = (shape.outputs,)
        if isinstance(shape, Window):
            here = (*shape.places, shape.filters)
        elif isinstance(shape, Sequence):
            here = (shape.steps, shape.hidden)
    return Architecture(start, tuple(shapes))


def widths(arch: str | Several[int | str]) -> tuple[int, ...]:
    """Numbers of an example, and of it after each layer: (784, 512, 512, 10). Raises as `architecture` does."""
    return architecture(arch).widths


def _start(arch: object, word: str) -> tuple[int, ...]:
    if not re.fullmatch(r"-?[0-9]+(x[0-9]+){0,2}", word):
        raise _malformed(arch)
    start = tuple(map(int, word.split("x")))
    _least(arch, *start)
    return start


def _layer(arch: object, word: str, here: tuple[int, ...], below: list[Shape]) -> Shape:
    """The layer that a word means on top of what is handed on in the shape `here`."""
    if re.fullmatch(r"-?[0-9]+", word):
        _least(arch, int(word))
        inputs = 1
        for side in here:
            inputs *= side
        return Full(below[-1].outputs if below else inputs, int(word))
    if form := CONVOLUTION.fullmatch(word):
        size, filters, stride, padding = (
            int(number or default) for number, default in zip(form.groups(), "0010")
        )
        if len(here) == 1 or (below and not isinstance(below[-1], Window)):
            raise ValueError(
                f"arch {arch!r} has {word} where there is no image; start with its height x width x channels, as 8x8x1"
            )
        height, width, channels = here if len(here) == 3 else (*here, 1)
        _least(arch, size, filters, stride)
        if size > min(height, width) + 2 * padding or padding >= size:
            raise ValueError(
                f"arch {arch!r} has {word} on images of {height}x{width}: the window must fit into the image "
                "with its padding, and the padding be smaller than the window"
            )
        return Window(height, width, channels, size, filters, stride, padding)
    if form := RECURRENT.fullmatch(word):
        hidden = int(form[1])
        _least(arch, hidden)
        if below and isinstance(below[-1], Sequence):
            below[-1] = replace(below[-1], whole=True)
        elif below or len(here) != 2:
            raise ValueError(
                f"arch {arch!r} has {word} where there is no sequence; start with its steps x features, as 8x8"
            )
        if here[0] < 2:
            raise ValueError(f"arch {arch!r} has {word} on a single step; there must be two or more")
        return Sequence(here[0], here[1], hidden, given=not below)
    raise _malformed(arch)


def _least(arch: object, *numbers: int) -> None:
    if min(numbers) < 1:
        raise ValueError(f"arch {arch!r} has a width of {min(numbers)}; every width must be at least 1")


def _malformed(arch: object) -> ValueError:
    return ValueError(f"arch {arch!r} is not a list of widths and layers; write it as {EXAMPLES}")
