"""Checkpoints: a model, its optimizer's state and where a training stands, in one file.

An .npz archive of plain arrays (nothing in it is ever executed) and a description in JSON. It is written beside its
place and then moved there, so that a file of that name is always whole. The weights in it are those after the last
epoch; with early stopping those of the best one stand beside them. Where they were, on the host or on a GPU, it does
not say: a training may go on elsewhere.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlp.devices import host, write
from mlp.model import MLP

FORMAT = 2
# What zipfile, NumPy and json raise for bytes that are not what was written.
UNREADABLE = (
    zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, TypeError, AttributeError, RuntimeError, OSError,
)  # fmt: skip
DESCRIPTION, LOSSES = "description", "losses"

Array = np.ndarray


def save(
    model: MLP,
    path: str | Path,
    training: dict[str, Any] | None = None,
    *,
    losses: Sequence[float] = (),
    best: Sequence[Array] = (),
) -> None:
    """Write the model, with what `training` says of how far it is (JSON values).

    losses  of every step so far
    best    the weights of the best epoch, in the order of `model.parameters()`, where somebody keeps them
    """
    path = Path(path)
    parameters = model.parameters()
    arrays = {f"parameter-{at}": host(parameter) for at, parameter in enumerate(parameters)}
    arrays |= {f"best-{at}": host(kept) for at, kept in enumerate(best)} | {
        LOSSES: np.array(losses, np.float64)
    }
    for at, parameter in enumerate(parameters):
        for which, state in enumerate(model.optimizer.state_of(parameter)):
            arrays[f"state-{at}-{which}"] = host(state)
    described = {"format": FORMAT, "model": description(model), "training": training}
    described["optimizer"] = {"settings": model.optimizer.settings.tolist(), "steps": model.optimizer.steps}
    arrays[DESCRIPTION] = np.frombuffer(json.dumps(described).encode(), np.uint8)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            np.savez(file, **{name: _bits(array) for name, array in arrays.items()})  # type: ignore[arg-type]  # stubs: a keyword might be allow_pickle
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def restore(model: MLP, path: str | Path, *, best: Sequence[Array] = ()) -> dict[str, Any] | None:
    """Give a model the weights and the optimizer's state of a file; returns what `training` was, its losses in it.

    best  arrays that take the weights of the best epoch; `model.parameters()` themselves give the model those

    Raises ValueError for a file that is no checkpoint, that is damaged, or of another network; the model is then as it
    was. Raises OSError where the file cannot be read.
    """
    path = Path(path)
    try:
        with (
            path.open("rb") as opened,
            zipfile.ZipFile(opened) as archive,
        ):  # numpy leaves what is no archive open
            if broken := archive.testzip():
                raise ValueError(f"{broken} in it is not what was written")
        with np.load(path, allow_pickle=False) as arrays:
            described = json.loads(arrays[DESCRIPTION].tobytes())
            form, settings = described["format"], described["optimizer"]
            numbers, steps = settings["settings"], settings["steps"]
            theirs, training = described["model"], described["training"]
            _compare(path, form, theirs, description(model))
            if training is not None:
                training["losses"] = arrays[LOSSES].tolist()
            parameters = model.parameters()
            kept = {f"parameter-{at}": parameter for at, parameter in enumerate(parameters)}
            for at, parameter in enumerate(parameters):
                state = model.optimizer.state_of(parameter)
                kept |= {f"state-{at}-{which}": array for which, array in enumerate(state)}
            kept |= {f"best-{at}": array for at, array in enumerate(best)}
            if best and "best-0" not in arrays:
                raise Another(f"{path} holds no weights of a best epoch: its training had no early stopping")
            # One array at a time, twice: first to look at it, so that nothing has changed where one is wrong.
            for name, array in kept.items():
                saved = _of_bits(arrays[name], array.dtype)
                if saved.shape != array.shape or saved.dtype != array.dtype:
                    raise ValueError(f"{name} is {saved.dtype} of shape {saved.shape}")
            if np.shape(numbers) != model.optimizer.settings.shape or not isinstance(steps, int):
                raise ValueError("the optimizer's settings are not what they should be")
            for name, array in kept.items():
                write(array, _of_bits(arrays[name], array.dtype))
    except Another:
        raise
    except UNREADABLE as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise  # no such file, and its like
        raise ValueError(f"{path} is no checkpoint of a network, or it is damaged: {error}") from None
    model.optimizer.restore(numbers, steps)
    return training


def _bits(array: Array) -> Array:
    """What a file holds of an array: of bfloat16, which NumPy's format has no name for, whole numbers of 16 bits."""
    return array.view(np.uint16) if array.dtype.name == "bfloat16" else array


def _of_bits(saved: Array, dtype: np.dtype) -> Array:
    wanted = saved.dtype == np.uint16 and dtype.name == "bfloat16"
    return saved.view(dtype) if wanted else saved


class Another(ValueError):
    """A checkpoint, but not one that this model can go on from."""


def _compare(path: Path, form: Any, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    if form != FORMAT:
        raise Another(f"{path} is a checkpoint of format {form}; this version reads {FORMAT}")
    for what, value in ours.items():
        if theirs.get(what) != value:
            raise Another(
                f"{path} is a checkpoint of another network: its {what} is {theirs.get(what)}, not {value}"
            )


def description(model: MLP) -> dict[str, Any]:
    """What must be the same for a model to take another's weights."""
    return {
        "arch": model.arch,
        "activation": model.activation.name,
        "loss": model.loss.name,
        "optimizer": model.optimizer.name,
        "dtype": model.dtype.name,
    }
