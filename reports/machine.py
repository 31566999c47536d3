"""Machine: environment.json as lines that a person reads; whatever of it is missing is left out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.records import Line

KiB, MiB, GiB = 2**10, 2**20, 2**30


def machine(environment: Line, workers: Iterable[Line] = ()) -> list[tuple[str, str]]:
    """Label and text, in the order in which they matter to a number.

    workers  the lines of kind `worker`: what libraries the measuring processes had loaded
    """
    workers = list(workers)
    cpu = _mapping(environment.get("cpu"))
    loaded = _loaded(workers)
    lines = [
        ("processor", _joined(cpu.get("model"), _cores(cpu), _clock(environment))),
        ("stepping", _named(cpu, ("family", "model_number", "stepping", "microcode"))),
        ("hypervisor", cpu.get("hypervisor")),
        ("caches", _joined(*_caches(cpu))),
        ("vector units", _list(cpu.get("isa"))),
        ("memory", _memory(environment)),
        ("affinity", _affinity(environment.get("affinity"), environment.get("quota_cores"))),
        ("load before", _list(environment.get("load"))),
        ("clock", _frequency(environment)),
        ("system", _joined(*(environment.get(key) for key in ("os", "kernel", "libc")))),
        ("pages", _pages(environment)),
        ("kernel options", _list(environment.get("kernel_options"))),
        ("mitigations", _pairs(environment.get("mitigations"), ": ", "; ")),
        ("Python", environment.get("python")),
        ("packages", _pairs(environment.get("versions"))),
        *(loaded or [("BLAS", _blas(library)) for library in _sequence(environment.get("blas"))]),
        ("threads of Numba", _numba(environment.get("numba_threading"))),
        ("variables", _pairs(environment.get("variables"), "=")),
        ("GPU", _gpu(environment.get("gpu"), _gpu_of(workers))),
        ("git", _git(environment.get("git"))),
        ("host", _joined(environment.get("host"), environment.get("user"), environment.get("cwd"))),
    ]
    return [(label, str(text)) for label, text in lines if text]


def _loaded(workers: Iterable[Line]) -> list[tuple[str, str]]:
    """Each library that a worker had, with the kernels whose workers had it."""
    kernels: dict[str, dict[str, None]] = {}
    for line in workers:
        kernel = str(line.get("kernel"))
        for library in _sequence(line.get("libraries")):
            known = {key: value for key, value in _mapping(library).items() if key != "threads"}
            kernels.setdefault(_blas(known), {})[kernel] = None
        if layer := line.get("threading_layer"):
            kernels.setdefault(f"Numba's threads from {layer}", {})[kernel] = None
    return [("loaded", f"{text} (by {', '.join(names)})") for text, names in kernels.items() if text]


def _sequence(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []


def _named(values: Mapping[str, Any], keys: Iterable[str]) -> str:
    return _joined(*(f"{key.replace('_number', '')} {values[key]}" for key in keys if values.get(key)))


def _caches(cpu: Mapping[str, Any]) -> Iterable[str]:
    """L3 32 MiB shared by 0-1: where one cache serves several cores."""
    shared = _mapping(cpu.get("caches_shared_by"))
    for name, size in _mapping(cpu.get("caches")).items():
        groups = [str(group) for group in _sequence(shared.get(name)) if set(str(group)) & set(",-")]
        by = f" shared by cores {' and by '.join(groups)}" if groups else ""
        if size:
            yield f"{name} {_binary(size)}{by}"


def _memory(environment: Line) -> str:
    nodes, limit, swap = (environment.get(key) for key in ("numa", "memory_limit_bytes", "swap_bytes"))
    return _joined(
        _binary(environment.get("memory_bytes")),
        f"limited to {_binary(limit)}" if _binary(limit) else "",
        f"{len(nodes)} nodes" if isinstance(nodes, list) and len(nodes) > 1 else "",
        f"{_binary(swap)} of swap" if swap and _binary(swap) else "",
    )


def _frequency(environment: Line) -> str:
    """What moves the clock: governor, driver, whether it may boost, its range."""
    known = _mapping(environment.get("frequency"))
    low, high = known.get("min_mhz"), known.get("max_mhz")
    ends = [value / 1000 for value in (low, high) if isinstance(value, int | float)]
    boost = "may boost" if known.get("boost") else "does not boost"
    return _joined(
        f"governor {environment['governor']}" if environment.get("governor") else "",
        f"driver {known['driver']}" if known.get("driver") else "",
        known.get("preference"),
        boost if isinstance(known.get("boost"), bool) else "",
        f"{ends[0]:.2f} to {ends[1]:.2f} GHz" if len(ends) == 2 else "",
    )


def _pages(environment: Line) -> str:
    """Huge pages and what else the kernel does with memory; of a list of choices the [chosen] one."""
    chosen = {
        key: re.sub(r".*\[(\w[\w+]*)\].*", r"\1", str(environment[key]))
        for key in ("transparent_huge_pages", "transparent_huge_pages_defrag")
        if environment.get(key)
    }
    aslr = environment.get("aslr")
    return _joined(
        *(f"{key.replace('_', ' ')} {value}" for key, value in chosen.items()),
        "NUMA balancing" if environment.get("numa_balancing") == "1" else "",
        f"address randomisation {aslr}" if isinstance(aslr, int) else "",
        f"clock source {environment['clock_source']}" if environment.get("clock_source") else "",
    )


def _numba(value: Any) -> str:
    """The layers to be had, in the order in which Numba takes them."""
    known = _mapping(value)
    there = _sequence(known.get("available"))
    order = [layer for layer in _sequence(known.get("priority")) if layer in there]
    asked = known.get("layer")
    return _joined(
        f"layer {asked}" if asked and asked != "default" else "", f"available {_list(order)}" if order else ""
    )


def _gpu_of(workers: Iterable[Line]) -> Mapping[str, Any]:
    """What the measuring processes told of the GPU that they used."""
    return next((_mapping(line["gpu"]) for line in workers if line.get("gpu")), {})


def _gpu(value: Any, used: Mapping[str, Any]) -> str:
    """Name, memory and driver of each; of the one that was used what its own processes told."""
    if used:
        return _joined(
            used.get("name"),
            _binary(used.get("memory_bytes")),
            f"{used['sms']} multiprocessors" if used.get("sms") else "",
            f"L2 {_binary(used.get('l2_bytes'))}" if used.get("l2_bytes") else "",
            f"compute capability {used['capability']}" if used.get("capability") else "",
            f"CUDA {used['cuda']}" if used.get("cuda") else "",
            f"NVIDIA driver {used['driver']}" if used.get("driver") else _driver(value),
            f"at most {used['clock_mhz']:.0f} MHz" if isinstance(used.get("clock_mhz"), int | float) else "",
            f"at most {used['power_limit_w']:.0f} W"
            if isinstance(used.get("power_limit_w"), int | float)
            else "",
        )
    if not isinstance(value, list):
        return _anything(value)
    return "; ".join(
        _joined(
            known.get("name"),
            _binary(known.get("memory_bytes")),
            f"driver {known['driver']}" if known.get("driver") else "",
            f"compute capability {known['compute_capability']}" if known.get("compute_capability") else "",
            f"at most {known['power_limit_w']} W" if known.get("power_limit_w") else "",
        )
        or _anything(gpu)
        for gpu in value
        for known in [_mapping(gpu)]
    )


def _driver(value: Any) -> str:
    """Of the first GPU that the system names."""
    known = _mapping(value[0]) if isinstance(value, list) and value else {}
    return f"NVIDIA driver {known['driver']}" if known.get("driver") else ""


def _git(value: Any) -> str:
    known = _mapping(value)
    if not known.get("commit"):
        return _anything(value)
    return f"{known['commit']}{', with changes that are not in it' if known.get('dirty') else ''}"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _joined(*parts: Any) -> str:
    return ", ".join(str(part) for part in parts if part)


def _list(value: Any) -> str:
    if not isinstance(value, list):
        return _anything(value)
    return " ".join(f"{item:.2f}" if isinstance(item, float) else str(item) for item in value)


def _pairs(value: Any, sign: str = " ", between: str = ", ") -> str:
    return between.join(
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
