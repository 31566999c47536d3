"""The palette is computed, not believed: contrast, distance, and distance as colour-blind readers see it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from reports import palette

# Machado, Oliveira, Fernandes 2009, severity 1, on linear RGB
VISION = {
    "full": np.eye(3),
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}  # fmt: skip
TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
THEMES = pytest.mark.parametrize("theme", ["light", "dark"])
# the rungs that share a chart today
CORE = ("python", "numpy-dot", "numba-ijk", "numba-ikj", "numba-blocked", "numba-micro", "blas", "cublas")


def linear(colour: str) -> np.ndarray:
    value = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """WCAG 2 contrast ratio."""
    low, high = sorted(float(linear(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def distance(one: str, other: str, vision: str) -> float:
    """Euclidean distance in OKLab, where 0.02 is just noticeable."""
    seen = [np.clip(np.array(VISION[vision]) @ linear(colour), 0, 1) for colour in (one, other)]
    return float(np.linalg.norm(np.subtract(*(TO_LAB @ np.cbrt(TO_LMS @ colour) for colour in seen))))


def everything(theme: str) -> dict[str, str]:
    colours = {name: style.colour for name, style in palette.KERNELS.items()}
    colours |= {f"further {at}": style.colour for at, style in enumerate(palette.FURTHER)}
    colours |= palette.KINDS | {name: palette.INKS[name] for name in ("ink", "muted", "peak")}
    return {name: getattr(colour, theme) for name, colour in colours.items()}


@THEMES
def test_every_colour_stands_out_against_the_background(theme: str) -> None:
    """At least 3:1 for lines and marks, 4.5:1 for the small print."""
    paper = getattr(palette.INKS["paper"], theme)
    for name, colour in everything(theme).items():
        assert contrast(colour, paper) >= (4.5 if name in ("ink", "muted", "peak") else 3.0), name


@THEMES
@pytest.mark.parametrize("vision", VISION)
def test_kernels_stay_apart_for_every_reader(theme: str, vision: str) -> None:
    """Far apart on the ladder; visibly apart whatever else turns up beside it."""
    colours = everything(theme)
    for one, other in itertools.combinations(CORE, 2):
        assert distance(colours[one], colours[other], vision) >= (0.06 if vision == "tritanopia" else 0.09), (
            one,
            other,
        )
    names = [*palette.KERNELS, *(f"further {at}" for at in range(len(palette.FURTHER)))]
    for one, other in itertools.combinations(names, 2):
        assert distance(colours[one], colours[other], vision) >= 0.035, (one, other)


@THEMES
@pytest.mark.parametrize("vision", VISION)
def test_kinds_of_operations_stay_apart_for_every_reader(theme: str, vision: str) -> None:
    """All but the remainder, which is hatched."""
    kinds = {kind: getattr(colour, theme) for kind, colour in palette.KINDS.items() if kind != "remainder"}
    for one, other in itertools.combinations(kinds, 2):
        assert distance(kinds[one], kinds[other], vision) >= 0.06, (one, other)


def test_colour_is_never_the_only_cue() -> None:
    """Kernels of one report have markers of their own, even where colours come near each other."""
    markers = [style.marker for style in palette.KERNELS.values()]
    assert len(set(markers)) == len(markers)
    further = [style.marker for style in palette.FURTHER]
    assert len(set(further)) == len(further)
    assert not set(markers) & set(further)


def test_a_kernel_keeps_its_style_whatever_else_is_there() -> None:
    alone, together = (
        palette.styles(["blas", "cblas:mkl"]),
        palette.styles(["cblas:mkl", "python", "blas", "torch"]),
    )
    assert all(together[name] == style for name, style in alone.items())


def test_unknown_kernels_get_different_styles() -> None:
    names = [f"mine-{at}" for at in range(len(palette.FURTHER))]
    assert len(set(palette.styles(names).values())) == len(names)
    assert palette.styles(names) == palette.styles(reversed(names))


def test_there_is_a_style_for_more_kernels_than_styles() -> None:
    names = [f"mine-{at}" for at in range(3 * len(palette.FURTHER))]
    assert set(palette.styles(names)) == set(names)


def test_legends_follow_the_ladder() -> None:
    names = ["zeta", "cublas", "cblas:mkl", "blas", "numba-mine", "python", "alpha", "blas"]
    assert palette.ladder(names) == ["python", "numba-mine", "blas", "cblas:mkl", "cublas", "alpha", "zeta"]


@pytest.mark.parametrize(
    ("op", "parts", "kind"),
    [("dW", ("dW",), "dW"), ("dW", ("dW", "update"), "dW"), ("Z+bias+activation", (), "Z"), ("loss", (), "loss"),
     ("activation", ("activation",), "activation"), ("sing", (), "remainder"),
     ("dH", ("dH", "activation'"), "dH"), ("H", ("H", "activation"), "H"), ("dU", ("dU", "update"), "dU"),
     ("im2col", ("im2col",), "rows"), ("transpose", (), "rows")],
)  # fmt: skip
def test_an_operation_has_the_colour_of_the_product_in_it(op: str, parts: tuple[str, ...], kind: str) -> None:
    assert palette.kind(op, parts) == kind
