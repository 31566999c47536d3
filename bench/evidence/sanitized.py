"""The cuda-* kernels under NVIDIA's compute-sanitizer: memory, races, barriers, uninitialised reads.

Run as `python -m bench.evidence.sanitized [KERNEL...]`. For each tool one process multiplies small problems with every
kernel, at the edges of tiles, in all orders, with alpha, beta and what can be fused; every result is checked as well.
CuPy's memory pool is off there, so that a step outside an array is one outside its allocation.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

import gemm
from bench.isolation.processes import ROOT, environment
from bench.timing.device_rules import epilogue_there
from gemm.correctness import accumulator_of, error_ratio, reference
from gemm.guards import Twin
from gemm.problems import Problem

SANITIZER = "compute-sanitizer"
TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")
# Seconds for one tool over all kernels.
TIMEOUT_S = 1800.0
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
        sys.stdout.write(f"{MARK}{kernel.name}\n")
        sys.stdout.flush()
        for problem in problems(kernel):
            a, b, c = problem.operands()
            epilogue = problem.make_epilogue()
            scalars: dict[str, Any] = {"alpha": problem.alpha, "beta": problem.beta, "epilogue": epilogue}
            accumulator = accumulator_of(kernel.signature(problem.dtype), problem.dtype)
            expected = reference(
                a, b, c.copy(), **scalars, accumulator=accumulator, multiplies=kernel.multiplies
            )
            if problem.beta == 0:
                c[...] = np.nan
            scalars["epilogue"] = epilogue_there(epilogue)
            left, right, into = (there(array) for array in (a, b, c))
            gemm.matmul(left, right, into, kernel=kernel, **scalars)
            ratio = error_ratio(cupy.asnumpy(into), expected)
            if not ratio <= kernel.error_constant:
                sys.stdout.write(
                    f"========= Error: {problem} is wrong by {ratio:.3g} times what rounding allows\n"
                )
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


def told(tool: str, output: str, code: int) -> tuple[bool, list[str]]:
    """Whether a tool found nothing, and the lines that say what it found."""
    found, summary = by_kernel(output), SUMMARY.findall(output)
    ran = [kernel for kernel in found if kernel]
    faulty = {kernel: lines for kernel, lines in found.items() if lines}
    if not summary:
        last = (output.strip().splitlines() or ["it printed nothing"])[-1]
        return False, [f"{tool}: did not come to its end (exit code {code}): {last.strip(' =')}"]
    clean = not faulty and int(summary[-1]) == 0 and code == 0
    lines = [f"{tool}: {'clean' if clean else f'{summary[-1]} errors'} over {len(ran)} kernels"]
    for kernel, members in faulty.items():
        for sentence, count in {line: members.count(line) for line in members}.items():
            lines.append(
                f"  {kernel or 'before the first kernel'}: {sentence}{f' ({count} times)' if count > 1 else ''}"
            )
    return clean, lines


def main(names: list[str]) -> int:
    chosen = kernels(names)
    path = shutil.which(SANITIZER)
    if path is None:
        sys.stdout.write(f"{SANITIZER} is not on the PATH: it comes with the CUDA toolkit\n")
        return 0
    available = [kernel.name for kernel in chosen if kernel.available]
    for kernel in chosen:
        if not kernel.available:
            sys.stdout.write(f"{kernel.name}: left out, {kernel.reason}\n")
    if not available:
        return 0
    multiply_here = [sys.executable, "-m", "bench.evidence.sanitized", "--multiply", *available]
    # compiled beforehand: a tool makes everything slow
    subprocess.run(multiply_here, cwd=ROOT, env=environment(), capture_output=True, timeout=TIMEOUT_S)
    clean = True
    for tool in TOOLS:
        command = [path, "--tool", tool, "--error-exitcode", "99", *multiply_here]
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environment() | {"PYTHONUNBUFFERED": "1"}, text=True, errors="replace",
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TIMEOUT_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            clean = False
            sys.stdout.write(f"{tool}: took longer than {TIMEOUT_S:g} s\n")
            continue
        right, lines = told(tool, done.stdout, done.returncode)
        clean = clean and right
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()
        if not right and (
            where := os.environ.get("GEMMLAB_SANITIZED")
        ):  # all of it, for who wants to read it
            with open(f"{where}-{tool}.txt", "w") as file:
                file.write(done.stdout)
    return 0 if clean else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--multiply"]:
        multiply(sys.argv[2:])
    else:
        sys.exit(main(sys.argv[1:]))
