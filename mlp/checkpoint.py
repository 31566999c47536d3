"""Checkpoints: a model, its optimizer's state and where a training stands, in one file.

An .npz archive of plain arrays (nothing in it is ever executed) and a description in JSON. It is written beside its
place and then moved there, so that a file of that name is always whole.
"""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from mlp.model import MLP

FORMAT = 1
DESCRIPTION = "description"


def save(model: MLP, path: str | Path, training: dict[str, Any] | None = None) -> None:
    """Write the model, with what `training` says of how far it is (JSON values)."""
    path = Path(path)
    parameters = model.parameters()
    arrays = {f"parameter-{at}": parameter for at, parameter in enumerate(parameters)}
    for at, parameter in enumerate(parameters):
        for which, state in enumerate(model.optimizer.state_of(parameter)):
            arrays[f"state-{at}-{which}"] = state
    described = {"format": FORMAT, "model": description(model), "training": training}
    described["optimizer"] = {"settings": model.optimizer.settings.tolist(), "steps": model.optimizer.steps}
    arrays[DESCRIPTION] = np.frombuffer(json.dumps(described).encode(), np.uint8)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # stubs: a keyword might be allow_pickle
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def restore(model: MLP, path: str | Path) -> dict[str, Any] | None:
    """Give a model the weights and the optimizer's state of a file; returns what `training` was.

    Raises ValueError for a file that is no checkpoint, that is damaged, or of another network; the model is then as it
    was. Raises OSError where the file cannot be read.
    """
    path = Path(path)
    try:
        with path.open("rb") as opened, zipfile.ZipFile(opened):  # numpy leaves what is no archive open
            arrays = dict(np.load(path, allow_pickle=False))
        described = json.loads(arrays.pop(DESCRIPTION).tobytes())
        form, settings = described["format"], described["optimizer"]
        theirs = described["model"]
    except (zipfile.BadZipFile, EOFError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no checkpoint of a network, or it is damaged: {error}") from None
    if form != FORMAT:
        raise ValueError(f"{path} is a checkpoint of format {form}; this version reads {FORMAT}")
    ours = description(model)
    for what in ours:
        if theirs.get(what) != ours[what]:
            raise ValueError(
                f"{path} is a checkpoint of another network: its {what} is {theirs.get(what)}, not {ours[what]}"
            )
    parameters = model.parameters()
    kept = [
        (array, arrays.get(name))
        for at, parameter in enumerate(parameters)
        for name, array in (
            (f"parameter-{at}", parameter),
            *((f"state-{at}-{which}", s) for which, s in enumerate(model.optimizer.state_of(parameter))),
        )
    ]
    if any(
        saved is None or saved.shape != array.shape or saved.dtype != array.dtype for array, saved in kept
    ):
        raise ValueError(f"{path} is damaged: an array is missing, or of another shape or dtype")
    for array, saved in kept:
        array[...] = saved
    model.optimizer.restore(settings["settings"], settings["steps"])
    training: dict[str, Any] | None = described["training"]
    return training


def description(model: MLP) -> dict[str, Any]:
    """What must be the same for a model to take another's weights."""
    return {
        "arch": model.arch,
        "activation": model.activation.name,
        "loss": model.loss.name,
        "optimizer": model.optimizer.name,
        "dtype": model.dtype.name,
    }
