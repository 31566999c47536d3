"""Data: digits from scikit-learn, blobs drawn by a seed, or a folder of IDX files.

    digits      1797 images of 8 x 8, values 0 .. 1, ten classes; a seeded fifth is for testing
    synthetic   one Gaussian blob per class, as many as you like of any size
    a folder    train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-..., t10k-labels-...: MNIST,
                Fashion-MNIST or your own (`mlp.idx.write`); `.` for the second `-` and `.gz` are taken too

Features are float32, labels intp: what a model is trained in is the model's affair.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from numbers import Real
from pathlib import Path

import numpy as np

from mlp import idx
from mlp.mistakes import positive, seeded, unknown

Array = np.ndarray
NAMES = ("digits", "synthetic")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Examples to learn from and examples to be judged by.

    x_train, x_test             (examples x features), real numbers
    y_train, y_test             integer labels (examples,), or for a regression targets (examples x outputs)
    classes                     how many classes there are; None for a regression
    x_validation, y_validation  examples that a training watches itself by; None: none, or a share of those to
                                learn from (`held_out`)
    """

    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array
    classes: int | None
    name: str
    x_validation: Array | None = None
    y_validation: Array | None = None


def load(
    source: str | Path,
    *,
    seed: int = 0,
    test_share: float = 0.2,
    examples: int = 2000,
    features: int = 64,
    classes: int = 10,
) -> Dataset:
    """The data of that name, or in that folder.

    source                       "digits", "synthetic" or the path of a folder with IDX files
    seed, test_share             of the split (digits, synthetic) and of the drawing (synthetic)
    examples, features, classes  the size of "synthetic", test examples included

    Raises ValueError for a name that is neither (with the nearest spelling), for a size below 1, and for a
    file that is missing or malformed.
    """
    if not isinstance(source, str | os.PathLike):
        raise unknown("data", source, (*NAMES, "the path of a folder with IDX files"))
    if source == "digits":
        from sklearn.datasets import load_digits

        x, y = load_digits(return_X_y=True)
        return _split(x / 16, y, 10, seed, test_share, "digits")
    if source == "synthetic":
        return _split(*_blobs(examples, features, classes, seed), classes, seed, test_share, "synthetic")
    if os.path.isdir(source):  # os.path says no where Path raises: of a name too long to be one
        return _folder(Path(source))
    if os.path.exists(source):
        raise ValueError(f"{source} is a file; give the folder that holds the four IDX files")
    raise unknown("data", str(source), (*NAMES, "the path of a folder with IDX files"))


def held_out(examples: int, share: float, seed: int) -> tuple[Array, Array]:
    """Rows to learn from and rows to validate on: a share of `examples`, drawn by the seed, whatever their classes.

    The seed's order of the examples in training is drawn by another stream. Raises ValueError for a share that leaves
    nothing on either side.
    """
    if isinstance(share, bool) or not isinstance(share, Real) or not 0 < share < 1:
        raise ValueError(f"validation is {share!r}; it must be a share between 0 and 1, such as 0.1")
    count = round(examples * float(share))
    if not 1 <= count < examples:
        left = "to validate on" if count < 1 else "to learn from"
        raise ValueError(f"validation is {share}: of {examples} training examples that leaves none {left}")
    (stream,) = np.random.default_rng(seed).spawn(1)
    drawn = stream.permutation(examples)
    return np.sort(drawn[count:]), np.sort(drawn[:count])


def _blobs(examples: int, features: int, classes: int, seed: int) -> tuple[Array, Array]:
    """Classes of equal size around centres of unit variance per feature, noise of unit variance."""
    for name, value in (("examples", examples), ("features", features), ("classes", classes)):
        positive(f"{name} of synthetic data", value)
    rng = seeded(seed)
    y = np.arange(examples) % classes
    centres = rng.standard_normal((classes, features))
    return centres[y] + rng.standard_normal((examples, features)), y


def _split(x: Array, y: Array, classes: int, seed: int, test_share: float, name: str) -> Dataset:
    known = isinstance(test_share, Real) and math.isfinite(test_share)
    tests = round(len(x) * test_share) if known else 0
    if not 1 <= tests < len(x):
        raise ValueError(
            f"test_share is {test_share!r}; of {len(x)} examples it must leave some on either side"
        )
    order = seeded(seed).permutation(len(x))
    x, y = x.astype(np.float32)[order], y.astype(np.intp)[order]
    return Dataset(x[tests:], y[tests:], x[:tests], y[:tests], classes, name)


def _folder(folder: Path) -> Dataset:
    x_train, y_train = _examples(folder, "train")
    x_test, y_test = _examples(folder, "t10k")
    if x_train.shape[1] != x_test.shape[1]:
        sizes = f"{x_train.shape[1]} values an image in train-images and {x_test.shape[1]} in t10k-images"
        raise ValueError(f"{folder} has {sizes}; they must be the same")
    classes = int(max(y_train.max(), y_test.max())) + 1
    return Dataset(x_train, y_train, x_test, y_test, classes, folder.resolve().name)


def _examples(folder: Path, part: str) -> tuple[Array, Array]:
    """Images as rows, bytes scaled to 0 .. 1 and anything else as it is; and their labels."""
    images_path, labels_path = _find(folder, f"{part}-images", 3), _find(folder, f"{part}-labels", 1)
    images, labels = idx.read(images_path), idx.read(labels_path)
    if images.ndim < 2 or images.size == 0:
        raise ValueError(f"{images_path} has the shape {images.shape}; images x rows x columns are expected")
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or (labels < 0).any():
        kind = f"{labels.dtype} of shape {labels.shape}"
        raise ValueError(f"{labels_path} holds {kind}; one whole number from 0 for each image is expected")
    if len(images) != len(labels):
        raise ValueError(f"{images_path} has {len(images)} images and {labels_path} has {len(labels)} labels")
    x = images.reshape(len(images), -1).astype(np.float32)
    if images.dtype == np.uint8:
        x /= 255
    return x, labels.astype(np.intp)


def _find(folder: Path, what: str, ndim: int) -> Path:
    names = [f"{what}{dash}idx{ndim}-ubyte{gz}" for dash in "-." for gz in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise ValueError(f"{folder} has no {names[0]}; it is expected there under that name, with or without .gz")
