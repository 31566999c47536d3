"""Machine: environment.json as lines that a person reads; whatever of it is missing is left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.records import Line

KiB, MiB, GiB = 2**10, 2**20, 2**30


def machine(environment: Line) -> list[tuple[str, str]]:
    """Label and text, in the order in which they matter to a number."""
    cpu = _mapping(environment.get("cpu"))
    lines = [
        ("processor", _joined(cpu.get("model"), _cores(cpu), _clock(environment))),
        (
            "caches",
            _joined(
                *(f"{name} {_binary(size)}" for name, size in _mapping(cpu.get("caches")).items() if size)
            ),
        ),
        ("vector units", _list(cpu.get("isa"))),
        ("memory", _binary(environment.get("memory_bytes"))),
        ("affinity", _affinity(environment.get("affinity"), environment.get("quota_cores"))),
        ("load before", _list(environment.get("load"))),
        ("governor", environment.get("governor")),
        ("system", _joined(environment.get("os"), environment.get("kernel"))),
        ("Python", environment.get("python")),
        ("packages", _pairs(environment.get("versions"))),
        *(("BLAS", _blas(library)) for library in environment.get("blas") or []),
        ("variables", _pairs(environment.get("variables"), "=")),
        ("GPU", _anything(environment.get("gpu"))),
        ("git", _anything(environment.get("git"))),
        ("host", _joined(environment.get("host"), environment.get("user"), environment.get("cwd"))),
    ]
    return [(label, str(text)) for label, text in lines if text]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _joined(*parts: Any) -> str:
    return ", ".join(str(part) for part in parts if part)


def _list(value: Any) -> str:
    if not isinstance(value, list):
        return str(value or "")
    return " ".join(f"{item:.2f}" if isinstance(item, float) else str(item) for item in value)


def _pairs(value: Any, sign: str = " ") -> str:
    return ", ".join(
        f"{name}{sign}{item}" for name, item in sorted(_mapping(value).items()) if item is not None
    )


def _anything(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(map(_anything, value))
    return _pairs(value) if isinstance(value, Mapping) else str(value or "")


def _cores(cpu: Mapping[str, Any]) -> str:
    cores, logical = cpu.get("cores"), cpu.get("logical")
    if not cores and not logical:
        return ""
    return f"{cores} cores, {logical} threads" if cores and logical else f"{cores or logical} cores"


def _clock(environment: Line) -> str:
    clock = environment.get("frequency_mhz")
    return f"{clock / 1000:.2f} GHz" if isinstance(clock, int | float) else _anything(clock)


def _affinity(affinity: Any, quota: Any) -> str:
    cores = f"cores {_list(affinity)}" if affinity else ""
    return _joined(cores, f"quota of {quota:g} cores" if isinstance(quota, int | float) else "")


def _blas(library: Any) -> str:
    known = _mapping(library)
    threads = f"{known['threads']} threads" if known.get("threads") else ""
    named = _joined(
        " ".join(str(known[key]) for key in ("name", "version") if known.get(key)),
        known.get("core_type"),
        threads,
        known.get("path"),
    )
    return named or _anything(library)


def _binary(size: Any) -> str:
    if not isinstance(size, int | float):
        return ""
    unit, scale = next(
        ((unit, scale) for unit, scale in (("GiB", GiB), ("MiB", MiB)) if size >= scale), ("KiB", KiB)
    )
    return f"{size / scale:.3g} {unit}"
