"""Public: a run without what tells who and where: host, user, folders. For what leaves the house."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.records import Run

LEFT_OUT = ("host", "user", "cwd", "path")
HOME = re.compile(r"/(?:home|Users)/[^/\s]+|/root\b|\b[A-Za-z]:\\Users\\[^\\\s]+")
# /a/b, ~/a, ../a/b and C:\a: everything up to the last component goes
FOLDERS = re.compile(
    r"(?:(?<![\w.)/])(?:~|\.{1,2})?/(?:[\w.@+~-]+/)*|\b[A-Za-z]:\\(?:[^\\\s]+\\)*)(?=[\w.@+~-])"
)


def without_places(run: Run) -> Run:
    """A copy of a run whose environment lacks host, user and paths, and whose texts name no folder.

    Every line is gone through: a user's kernel is named by its file in `layer` lines too, and a step's model
    may name a folder of data.
    """
    who = [str(run.environment[key]) for key in ("host", "user") if run.environment.get(key)]
    names = re.compile("|".join(rf"\b{re.escape(name)}\b" for name in who) or r"(?!)")

    def clean(text: str) -> str:
        return names.sub("…", FOLDERS.sub("", HOME.sub("~", text)))

    return replace(
        run,
        path=Path(clean(run.path.name)),
        environment=_cleaned(run.environment, clean),
        plan=_cleaned(run.plan, clean),
        lines=[_cleaned(line, clean) for line in run.lines],
        warnings=[clean(warning) for warning in run.warnings],
    )


def _cleaned(value: Any, clean: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {key: _cleaned(item, clean) for key, item in value.items() if key not in LEFT_OUT}
    if isinstance(value, list):
        return [_cleaned(item, clean) for item in value]
    return clean(value) if isinstance(value, str) else value
