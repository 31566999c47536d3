"""The cuda-* kernels under NVIDIA's compute-sanitizer: memory, races, barriers, uninitialised reads.

Run as `python -m bench.evidence.sanitized [KERNEL...]`. For each tool one process multiplies small problems with every
kernel, at the edges of tiles, in all orders, with alpha, beta and what can be fused; every result is checked as well.
CuPy's memory pool is off there, so that a step outside an array is one outside its allocation. The tools run at the
same time: each is slow on its own, most of all in taking kernels apart, which is the processor's work.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from time import monotonic
from typing import Any

import numpy as np

import gemm
from bench.isolation.processes import ROOT, end_group, environment
from bench.timing.device_rules import epilogue_there
from gemm.correctness import accumulator_of, error_ratio, reference
from gemm.cuda import build, probe, tiles
from gemm.cuda.product import pack
from gemm.cuda.rungs import LADDER
from gemm.guards import Twin
from gemm.problems import Problem
from gemm.threads import available_cores

SANITIZER = "compute-sanitizer"
TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")
# What CuPy asks of the driver and is refused (an attribute that this one does not know) is no error of a kernel's; and
# a tool waits for as long as Python imports.
OPTIONS = ("--report-api-errors", "no", "--launch-timeout", "0", "--error-exitcode", "99")
# Seconds for all of it.
TIMEOUT_S = 540.0
# Before the name of each kernel, in the output that is shared with the tool.
MARK = "gemmlab-sanitized "
# One element; around 32, 64 and 128, of which tiles are made; and whole tiles, for the paths without guards.
SHAPES = ((1, 1, 1), (33, 31, 35), (65, 129, 63), (128, 128, 128), (130, 256, 17), (257, 130, 64))
ORDERS = ("nn", "tn", "nt", "tt")
SUMMARY = re.compile(r"(?:ERROR|RACECHECK) SUMMARY: (\d+)")
FOUND = re.compile(
    r"=+ (Invalid|Race|Error|Warning: Race|Barrier|Uninitialized|Program hit|Misaligned|Address).*"
)


def kernels(names: Iterable[str] = ()) -> list[gemm.Kernel]:
    """The hand-written kernels that are meant: those named, or all. Raises gemm.UnknownKernel."""
    named = [gemm.find(name) for name in names]
    return named or [kernel for kernel in gemm.kernels() if kernel.name.startswith("cuda-")]


def problems(kernel: gemm.Kernel) -> Iterator[Problem]:
    """Small ones of each dtype that it takes: every shape in some order, and at one shape everything else."""
    for signature in kernel.signatures:
        for at, (m, n, k) in enumerate(SHAPES):
            order = ORDERS[at % len(ORDERS)]
            yield Problem(m, n, k, signature.input, op_a=order[0], op_b=order[1])
        for order in ORDERS:
            yield Problem(67, 70, 73, signature.input, order[0], order[1], alpha=0.5, beta=-1.0)
        yield Problem(67, 70, 73, signature.input, strides="padded", epilogue="bias+relu")
        yield Problem(67, 70, 73, signature.input, strides="every-second", epilogue="grad:tanh")


def multiply(names: Iterable[str]) -> None:
    """What runs under the tool: every problem of every kernel, on the device."""
    import cupy

    cupy.cuda.set_allocator(None)
    for kernel in kernels(names):
        _say(f"{MARK}{kernel.name}")
        for problem in problems(kernel):
            try:
                ratio = _ratio(kernel, problem)
            except Exception as error:  # noqa: BLE001 - the kernels behind it are to have their turn
                _say(f"========= Error: {problem} raises {type(error).__name__}: {error}")
                break
            if not ratio <= kernel.error_constant:
                _say(f"========= Error: {problem} is wrong by {ratio:.3g} times what rounding allows")


def _ratio(kernel: gemm.Kernel, problem: Problem) -> float:
    """Multiply on the device: the error ratio."""
    import cupy

    a, b, c = problem.operands()
    epilogue = problem.make_epilogue()
    scalars: dict[str, Any] = {"alpha": problem.alpha, "beta": problem.beta, "epilogue": epilogue}
    accumulator = accumulator_of(kernel.signature(problem.dtype), problem.dtype)
    expected = reference(a, b, c.copy(), **scalars, accumulator=accumulator, multiplies=kernel.multiplies)
    if problem.beta == 0:
        c[...] = np.nan
    scalars["epilogue"] = epilogue_there(epilogue)
    left, right, into = (there(array) for array in (a, b, c))
    gemm.matmul(left, right, into, kernel=kernel, **scalars)
    return error_ratio(cupy.asnumpy(into), expected)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def there(array: np.ndarray) -> Any:
    """An array on the device: as tight as it is, if it is; else with its strides, in a buffer like its own."""
    import cupy

    if array.flags.c_contiguous or array.flags.f_contiguous:
        return cupy.asarray(array)
    return Twin(array).view


def by_kernel(output: str) -> dict[str, list[str]]:
    """What a tool found, by the kernel that ran; "" before the first."""
    found: dict[str, list[str]] = {}
    kernel = ""
    for line in output.splitlines():
        if MARK in line:
            kernel = line.partition(MARK)[2].strip()
            found.setdefault(kernel, [])
        elif FOUND.match(line.strip()):
            found.setdefault(kernel, []).append(line.strip(" ="))
    return found


def told(tool: str, output: str, code: int | None) -> tuple[bool, list[str]]:
    """Whether a tool found nothing, and the lines that say what it found; code: None if it was stopped."""
    found, summary = by_kernel(output), SUMMARY.findall(output)
    ran = [kernel for kernel in found if kernel]
    faulty = {kernel: lines for kernel, lines in found.items() if lines}
    clean = False
    if code is None:
        at = f"at {ran[-1]}, over {len(ran) - 1} kernels before it" if ran else "before the first kernel"
        lines = [f"{tool}: time ran out {at}; {sum(map(len, faulty.values())) or 'no'} errors by then"]
    elif not summary:
        last = (output.strip().splitlines() or ["it printed nothing"])[-1]
        return False, [f"{tool}: did not come to its end (exit code {code}): {last.strip(' =')}"]
    else:
        clean = not faulty and int(summary[-1]) == 0 and code == 0
        lines = [f"{tool}: {'clean' if clean else f'{summary[-1]} errors'} over {len(ran)} kernels"]
    for kernel, members in faulty.items():
        for sentence, count in {line: members.count(line) for line in members}.items():
            lines.append(
                f"  {kernel or 'before the first kernel'}: {sentence}{f' ({count} times)' if count > 1 else ''}"
            )
    return clean, lines


def compile_all(chosen: Iterable[gemm.Kernel]) -> None:
    """What the problems need of our kernels, on all cores; what cannot be compiled is said when it is called."""
    device, rungs = probe.device(), {rung.name: rung for rung in LADDER}
    if device is None:
        return
    wanted = {}
    for kernel in chosen:
        for problem in problems(kernel) if kernel.name in rungs else ():
            product = pack(*problem.operands(), problem.alpha, problem.beta, problem.make_epilogue())
            rung = rungs[kernel.name].fitting(product, device.capability)
            macros = rung.macros(product, tiles.chosen(rung))
            wanted[rung.path, tuple(macros.items())] = macros
    architecture = build.architecture_of(device.capability)
    with ThreadPoolExecutor(available_cores()) as pool:
        for (path, _), macros in wanted.items():
            pool.submit(build.build, path, macros, architecture)


def run(command: Sequence[str], until: float) -> tuple[str, int | None]:
    """What a command prints, and its exit code; None if it was stopped, with whatever it had started."""
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            command, cwd=ROOT, env=environment() | {"PYTHONUNBUFFERED": "1"}, stdin=subprocess.DEVNULL,
            stdout=log, stderr=subprocess.STDOUT, process_group=0,
        )  # fmt: skip
        code = None
        try:
            code = child.wait(max(1.0, until - monotonic()))
        except subprocess.TimeoutExpired:
            pass
        finally:
            end_group(child)
            child.wait()
        log.seek(0)
        return log.read().decode(errors="replace"), code


def main(names: list[str]) -> int:
    chosen, until = kernels(names), monotonic() + TIMEOUT_S
    path = shutil.which(SANITIZER)
    if path is None:
        sys.stdout.write(f"{SANITIZER} is not on the PATH: it comes with the CUDA toolkit\n")
        return 0
    available = [kernel for kernel in chosen if kernel.available]
    for kernel in chosen:
        if not kernel.available:
            sys.stdout.write(f"{kernel.name}: left out, {kernel.reason}\n")
    if not available:
        return 0
    multiply_here = [sys.executable, "-m", "bench.evidence.sanitized", "--multiply"]
    multiply_here += [kernel.name for kernel in available]
    # compiled beforehand: a tool makes everything slow
    compile_all(available)
    output, code = run(multiply_here, until)
    faulty = [f"{kernel}: {line}" for kernel, lines in by_kernel(output).items() for line in lines]
    if code != 0:
        last = (output.strip().splitlines() or ["it printed nothing"])[-1]
        faulty.append(f"{'time ran out' if code is None else f'exit code {code}'}: {last}")
    for line in faulty:
        _say(f"without a tool: {line}")
    clean = not faulty
    with ThreadPoolExecutor(len(TOOLS)) as pool:
        jobs = {
            pool.submit(run, [path, "--tool", tool, *OPTIONS, *multiply_here], until): tool for tool in TOOLS
        }
        for job in as_completed(jobs):
            tool, (output, code) = jobs[job], job.result()
            right, lines = told(tool, output, code)
            clean = clean and right
            sys.stdout.write("\n".join(lines) + "\n")
            sys.stdout.flush()
            if not right and (
                where := os.environ.get("GEMMLAB_SANITIZED")
            ):  # all of it, for who wants to read it
                with open(f"{where}-{tool}.txt", "w") as file:
                    file.write(output)
    return 0 if clean else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--multiply"]:
        multiply(sys.argv[2:])
    else:
        sys.exit(main(sys.argv[1:]))
