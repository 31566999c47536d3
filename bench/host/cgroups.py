"""Control groups: the CPU time and the memory that the system lets this process have, of versions 1 and 2.

A limit may be set on the process's own group or on any group above it; the tightest one holds.
"""

from __future__ import annotations

from pathlib import Path

PROC = Path("/proc/self")
# Version 1 writes the largest multiple of a page for "no limit".
NO_LIMIT = 1 << 60


def folders(controller: str, proc: Path = PROC) -> list[Path]:
    """The folders of this process's group for "cpu" or "memory", its own first, up to the highest one seen.

    [] where there are no control groups.
    """
    found = []
    for version, root, mount in _mounts(controller, proc):
        group = _group(controller if version == 1 else "", proc)
        if group is None:
            continue
        # In a container the mount shows only the part below `root`; a group above it is shown as "/..".
        inside = group.removeprefix(root) if root != "/" and _below(group, root) else group
        own = mount / inside.strip("/") if ".." not in inside else mount
        above = [folder for folder in own.parents if folder == mount or mount in folder.parents]
        found += [folder for folder in (own, *above) if folder.is_dir()]
    return found


def version(proc: Path = PROC) -> int | None:
    """The version that limits CPU time here, 1 or 2; None where there are no control groups."""
    return min((version for version, *_ in _mounts("cpu", proc)), default=None)


def quota_cores(proc: Path = PROC) -> float | None:
    """Cores' worth of CPU time that this process may use, or None if there is no limit."""
    return min((cores for cores in map(_cores, folders("cpu", proc)) if cores is not None), default=None)


def memory_limit(proc: Path = PROC) -> int | None:
    """Bytes that this process's groups may use, or None if there is no limit."""
    limits = [_limit(folder) for folder in folders("memory", proc)]
    return min((limit for limit in limits if limit is not None), default=None)


def memory_left(proc: Path = PROC) -> int | None:
    """Bytes until the tightest limit, or None if there is no limit. Cached files count as free."""
    left = []
    for folder in folders("memory", proc):
        limit = _limit(folder)
        used = _number(folder / "memory.current", folder / "memory.usage_in_bytes")
        if limit is not None and used is not None:
            left.append(max(limit - used + _cached_files(folder), 0))
    return min(left, default=None)


def _cores(folder: Path) -> float | None:
    text = _read(folder / "cpu.max")
    if text is None:
        text = f"{_read(folder / 'cpu.cfs_quota_us')} {_read(folder / 'cpu.cfs_period_us')}"
    quota, _, period = text.partition(" ")
    # "max" and -1 stand for no limit
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() and int(period) else None


def _limit(folder: Path) -> int | None:
    limit = _number(folder / "memory.max", folder / "memory.limit_in_bytes")
    return limit if limit is not None and limit < NO_LIMIT else None


def _cached_files(folder: Path) -> int:
    lines = dict(line.partition(" ")[::2] for line in (_read(folder / "memory.stat") or "").splitlines())
    text = lines.get("total_inactive_file", lines.get("inactive_file", ""))
    return int(text) if text.isdecimal() else 0


def _mounts(controller: str, proc: Path) -> list[tuple[int, str, Path]]:
    """(version, the group that is the mount's root, where it is mounted) of each hierarchy that may hold it."""
    found = []
    for line in (_read(proc / "mountinfo") or "").splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) > 4 and kind:
            mount = Path(fields[4])
            if kind[0] == "cgroup2" and controller in (_read(mount / "cgroup.controllers") or "").split():
                found.append((2, fields[3], mount))
            elif kind[0] == "cgroup" and controller in kind[-1].split(","):
                found.append((1, fields[3], mount))
    return found


def _group(controller: str, proc: Path) -> str | None:
    """The path of this process's group; `controller` "" is version 2's one hierarchy."""
    for line in (_read(proc / "cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path
    return None


def _below(group: str, root: str) -> bool:
    return group == root or group.startswith(root.rstrip("/") + "/")


def _number(*paths: Path) -> int | None:
    """The number in the first of these files that holds one."""
    return next((int(text) for text in map(_read, paths) if text and text.isdecimal()), None)


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
