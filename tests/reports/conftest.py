"""Synthetic runs: written through bench's own Writer, with figures made up by a simple law of cost."""

from __future__ import annotations

import math
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

import reports
from bench.records import Run, Writer, cell_id, load, write_json

SIZES = (16, 32, 64, 128, 256, 512, 1024)
KERNELS = ("python", "numpy-dot", "numba-ijk", "numba-ikj", "numba-blocked", "blas", "cublas")
LAUNCHES, ROUNDS, THREADS = 3, 5, 2
PEAK = 152e9

# kernel -> seconds of overhead per call, FLOP/s once that is paid, size at which half of it is reached
COST = {
    "python": (1e-6, 1.4e7, 1),
    "numpy-dot": (2e-6, 1.1e10, 500),
    "numba-ijk": (3e-7, 1.6e9, 8),
    "numba-ikj": (3e-7, 2.6e10, 60),
    "numba-blocked": (6e-6, 6.4e10, 90),
    "blas": (8e-7, 1.43e11, 40),
}

ENVIRONMENT: dict[str, Any] = {
    "schema": 1,
    "run": "synthetic-20250101",
    "time": "2025-01-01T12:00:00.000Z",
    "synthetic": True,
    "command": ["gemmlab", "sweep", "--out", "/home/ada/runs/first", "--sizes", "16..1024"],
    "host": "difference-engine",
    "user": "ada",
    "cwd": "/home/ada/lab",
    "cpu": {
        "model": "Synthetic EPYC 9000 2-Core Processor",
        "family": 25,
        "model_number": 17,
        "stepping": 1,
        "cores": 2,
        "logical": 2,
        "caches": {"L1d": 32768, "L2": 1048576, "L3": 33554432},
        "isa": ["avx2", "fma", "avx512f"],
    },
    "memory_bytes": 8 * 2**30,
    "os": "Linux",
    "kernel": "6.1.0",
    "governor": None,
    "frequency_mhz": 2400.0,
    "affinity": [0, 1],
    "quota_cores": 2.0,
    "load": [0.1, 0.2, 0.3],
    "python": "3.11.7",
    "versions": {"numpy": "2.3.0", "numba": "0.62.0"},
    "blas": [
        {
            "name": "openblas",
            "version": "0.3.31",
            "core_type": "SkylakeX",
            "threads": 2,
            "path": "/home/ada/.venv/lib/libscipy_openblas64_.so",
        }
    ],
    "variables": {"OMP_NUM_THREADS": "2", "NUMBA_CACHE_DIR": "/home/ada/.cache/numba"},
    "git": {"commit": "0123456789abcdef", "dirty": False},
    "gpu": None,
}


class Synthetic:
    """A run under construction; each method appends what the engine would."""

    def __init__(self, folder: Path, environment: dict[str, Any] | None = None, seed: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.noise = random.Random(seed)
        if environment is not None:
            write_json(folder / "environment.json", environment)
        write_json(folder / "plan.json", {"rounds": ROUNDS, "launches": LAUNCHES})
        self.writer = Writer(folder, "synthetic")

    def time(self, kernel: str, n: int) -> float:
        overhead, rate, half = COST[kernel]
        return overhead + 2 * n**3 / (rate * n / (n + half))

    def ceilings(self) -> None:
        for launch, round_ in every_round():
            fields = {"launch": launch, "round": round_, "order": 0, "threads": THREADS}
            rate = PEAK * self.noise.uniform(0.98, 1.0)
            self.writer.append(
                "ceiling",
                "ceilings",
                ceiling="fma",
                dtype="float32",
                unit="FLOP",
                work=1e8,
                seconds=1e8 / rate,
                **fields,
            )
            self.writer.append(
                "ceiling",
                "ceilings",
                ceiling="dram-read",
                dtype="float32",
                unit="B",
                work=1e9,
                seconds=1e9 / 2.1e10,
                **fields,
            )

    def bandwidths(self) -> None:
        """400, 200, 100 and 21 GB/s, the copies fastest."""
        for launch in range(LAUNCHES):
            for level, rate in (("l1", 4e11), ("l2", 2e11), ("l3", 1e11), ("dram", 2.1e10)):
                for kind, part in (("read", 0.8), ("write", 0.5), ("copy", 1.0)):
                    at = {"launch": launch, "round": 0, "order": 0, "threads": THREADS, "dtype": None}
                    self.writer.append(
                        "ceiling",
                        "",
                        ceiling=f"{level}-{kind}",
                        unit="B",
                        work=1e9,
                        seconds=1e9 / rate / part,
                        **at,
                    )

    def product(
        self,
        kernel: str,
        n: int | tuple[int, int, int],
        status: str = "ok",
        seconds: float | None = None,
        launches: Iterable[int] = range(LAUNCHES),
        twin: float = 0.0,
        steady: bool = False,
        **fields: Any,
    ) -> str:
        """`twin`: how much slower its second process is; `steady`: hardly any noise; fields of the closing line."""
        m, n_, k = (n, n, n) if isinstance(n, int) else n
        problem = {
            "m": m,
            "n": n_,
            "k": k,
            "dtype": "float32",
            "op_a": "n",
            "op_b": "n",
            "strides": "contiguous",
            "batch": 1,
            "alpha": 1.0,
            "beta": 0.0,
            "epilogue": None,
            "data": "normal",
        } | fields.pop("problem", {})
        closing = {
            "kernel": kernel,
            "source": "feed" + kernel,
            "tuning": None,
            "threads": THREADS,
            "cache": "hot",
            "via": "prepared",
            "problem": problem,
        } | fields
        cell = cell_id(closing)
        if status in ("ok", "impossible"):
            base = seconds or self.time(kernel, round((m * n_ * k) ** (1 / 3)))
            for launch in launches:
                noise = 0.01 if steady else 1.0
                drift = math.exp(noise * self.noise.gauss(0, 0.02))
                for round_ in range(ROUNDS):
                    seconds = base * drift * math.exp(noise * self.noise.gauss(0, 0.01))
                    at = {"launch": launch, "round": round_, "order": 0, "loops": 1}
                    self.writer.append("sample", cell, seconds=seconds, **at)
                    if twin:
                        self.writer.append("twin", cell, seconds=seconds * twin, **at)
            closing = {"error_ratio": 0.31, "first_call_s": 0.4} | closing
        if status == "wrong":
            closing |= {"error_ratio": "inf"}
        closing |= {"flops": 2 * m * n_ * k, "bytes": 4 * (m * k + k * n_ + m * n_)}
        self.writer.append("cell", cell, status=status, **({"reason": None} | closing))
        return cell

    def step(self, kernel: str, arch: tuple[int, ...] = (64, 128, 64, 10), batch: int = 128) -> None:
        """A training step whose rows account for 97 % of it."""
        model = {
            "arch": list(arch),
            "batch": batch,
            "loss": "softmax-cross-entropy",
            "optimizer": "sgd",
            "activation": "relu",
            "dtype": "float32",
        }
        closing = {
            "kernel": kernel,
            "source": "feed" + kernel,
            "threads": THREADS,
            "cache": "hot",
            "via": "prepared",
            "model": model,
        }
        cell = cell_id(closing)
        rows = list(operations(arch, batch))
        times = [
            self.time(kernel, max(8, round((m * n * k) ** (1 / 3)))) if k else 1.5e-6 + flops / 2e9
            for _, _, _, m, n, k, flops, _ in rows
        ]
        for launch, round_ in every_round():
            at = {"model": model, "launch": launch, "round": round_, "order": 0, "steps": 20}
            for (op, layer, phase, m, n, k, flops, size), time in zip(rows, times):
                self.writer.append(
                    "layer",
                    cell,
                    **at,
                    layer=layer,
                    op=op,
                    parts=[op],
                    phase=phase,
                    id=name(op, layer, phase),
                    kernel=kernel if k else None,
                    m=m,
                    n=n,
                    k=k,
                    flops=flops,
                    bytes=size,
                    seconds=time * self.noise.uniform(0.99, 1.01),
                )
            whole = sum(times) / 0.97
            self.writer.append(
                "step", cell, **at, seconds=whole * self.noise.uniform(0.99, 1.01), instrumented=False
            )
            self.writer.append("step", cell, **at, seconds=whole * 1.01, instrumented=True)
        self.writer.append(
            "cell",
            cell,
            status="ok",
            reason=None,
            error_ratio=0.2,
            first_call_s=0.01,
            flops=sum(row[6] for row in rows),
            bytes=sum(row[7] for row in rows),
            **closing,
        )

    def done(self) -> Run:
        self.writer.close()
        return load(self.folder)


def every_round() -> Iterable[tuple[int, int]]:
    return ((launch, round_) for launch in range(LAUNCHES) for round_ in range(ROUNDS))


def name(op: str, layer: int, phase: str) -> str:
    """As mlp.operations names them."""
    return f"{layer}.{op}" + "'" * ((op, phase) == ("activation", "backward")) if layer else op


def operations(arch: tuple[int, ...], batch: int) -> Iterable[tuple[Any, ...]]:
    """op, layer, phase, m, n, k, FLOPs, bytes of every operation of a step."""
    last = len(arch) - 1
    product = lambda m, n, k: (m, n, k, 2 * m * n * k, 4 * (m * k + k * n + m * n))  # noqa: E731
    entry = lambda m, n, per: (m, n, None, per * m * n, 8 * m * n)  # noqa: E731
    for layer in range(1, last + 1):
        wide, narrow = arch[layer - 1], arch[layer]
        yield "Z", layer, "forward", *product(batch, narrow, wide)
        yield "bias", layer, "forward", *entry(batch, narrow, 1)
        if layer < last:
            yield "activation", layer, "forward", *entry(batch, narrow, 1)
    yield "loss", 0, "forward", *entry(batch, arch[-1], 6)
    for layer in range(last, 0, -1):
        wide, narrow = arch[layer - 1], arch[layer]
        if layer < last:
            yield "activation", layer, "backward", *entry(batch, narrow, 1)
        yield "dW", layer, "backward", *product(wide, narrow, batch)
        yield "db", layer, "backward", *entry(batch, narrow, 1)
        if layer > 1:
            yield "dX", layer, "backward", *product(batch, wide, narrow)
        yield "update", layer, "update", *entry(wide, narrow, 2)


def write_whole(folder: Path, seed: int = 0) -> Run:
    """A run with everything in it: gaps of every kind, one wrong cell, a profile for three kernels."""
    run = Synthetic(folder, ENVIRONMENT, seed)
    run.ceilings()
    for kernel in KERNELS:
        for n in SIZES:
            if kernel == "cublas":
                run.product(kernel, n, "unavailable", reason="no CUDA device; install the extra cuda12")
            elif kernel == "python" and n > 128:
                run.product(
                    kernel, n, "skipped", reason="would take too long", predicted_s=run.time(kernel, n)
                )
            elif (kernel, n) == ("numpy-dot", 512):
                run.product(kernel, n, "wrong", reason="row 511 of C is not written")
            else:
                run.product(kernel, n)
    for kernel in ("numba-ijk", "numba-blocked", "blas"):
        run.step(kernel)
    return run.done()


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run with everything in it, shared by the tests that only read."""
    return write_whole(tmp_path_factory.mktemp("runs") / "whole")


@pytest.fixture
def synthetic(tmp_path: Path) -> Callable[..., Synthetic]:
    """Make a run of one's own: `synthetic()` has an environment, `synthetic(None)` has none."""
    made = iter(range(100))
    return lambda environment=ENVIRONMENT: Synthetic(tmp_path / f"run{next(made)}", environment)


@pytest.fixture
def degenerate(synthetic: Callable[..., Synthetic]) -> dict[str, Run]:
    """Runs with next to nothing in them, by what they have."""
    empty, one, absent, bare, alone = (synthetic(), synthetic(), synthetic(), synthetic(None), synthetic())
    one.product("blas", 64)
    for kernel in ("cublas", "torch"):
        absent.product(kernel, 64, "unavailable", reason="not here")
    bare.product("blas", 64)
    bare.product("python", 64)
    alone.step("blas")
    runs = {"one cell": one, "only unavailable": absent, "no environment": bare, "only a profile": alone}
    (empty.folder / "records.jsonl").write_text("")
    return {"empty": empty.done()} | {name: run.done() for name, run in runs.items()}


@pytest.fixture(scope="session")
def page(whole: Run) -> str:
    """The page of the whole run, as text."""
    return reports.page(whole).read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Run Chromium headless and offline on a file, and return what it says; in CI it must be there."""
    program = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have chromium: the page is looked at with it")
        pytest.skip("chromium is not installed")

    def run(page: Path, *arguments: str) -> str:
        command = [
            program,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--hide-scrollbars",
            "--enable-logging=stderr",
            "--v=0",
            f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
            *arguments,
            page.as_uri(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout + done.stderr

    return run


@pytest.fixture(scope="session")
def another(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """As `whole`, measured again on another machine."""
    run = write_whole(tmp_path_factory.mktemp("runs") / "another", seed=1)
    write_json(run.path / "environment.json", ENVIRONMENT | {"host": "analytical-engine"})
    return load(run.path)
