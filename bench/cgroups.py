"""Control groups: where Linux keeps the limits that were set for this process, version 1 or 2."""

from __future__ import annotations

from functools import cache
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")


@cache
def group(controller: str, mount: Path = MOUNT, own: Path = Path("/proc/self/cgroup")) -> Path | None:
    """The folder of this process's own group for `cpu` or `memory`; None where there is none.

    In a container the path that the kernel names may not be visible: then the mount itself is the group.
    """
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return None
    for _, controllers, path in lines:
        if controller in controllers.split(","):
            for folder in (mount / controllers, mount / controller):
                if folder.is_dir():
                    return _visible(folder, path)
    for _, controllers, path in lines:
        if controllers == "" and (mount / "cgroup.controllers").exists():
            return _visible(mount, path)
    return None


def _visible(root: Path, path: str) -> Path:
    inner = root / path.lstrip("/")
    return inner if inner.is_dir() else root
