"""compute-sanitizer's findings are told kernel by kernel; without it there is a sentence."""

import os
import sys
from time import monotonic

import pytest

import gemm
from bench.evidence import sanitized
from gemm.cuda.probe import Device

MEMCHECK = """========= COMPUTE-SANITIZER
gemmlab-sanitized cuda-naive
gemmlab-sanitized cuda-shared
========= Invalid __global__ read of size 4 bytes
=========     at gemm+0x1a0
========= Invalid __global__ read of size 4 bytes
=========     at gemm+0x1a0
gemmlab-sanitized cuda-tile1d
========= ERROR SUMMARY: 2 errors
"""


def test_what_was_found_stands_by_the_kernel_that_ran():
    clean, lines = sanitized.told("memcheck", MEMCHECK, 99)
    assert not clean
    assert lines == [
        "memcheck: 2 errors over 3 kernels",
        "  cuda-shared: Invalid __global__ read of size 4 bytes (2 times)",
    ]


def test_nothing_found_is_clean_and_an_early_end_is_not():
    assert sanitized.told("racecheck", "gemmlab-sanitized cuda-naive\n========= RACECHECK SUMMARY: 0 hazards\n", 0) == (
        True, ["racecheck: clean over 1 kernels"],
    )  # fmt: skip
    clean, (line,) = sanitized.told("memcheck", "========= Error: Device not supported\n", 1)
    assert not clean
    assert line == "memcheck: did not come to its end (exit code 1): Error: Device not supported"


def test_without_the_tool_there_is_a_sentence(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    assert sanitized.main([]) == 0
    assert capsys.readouterr().out == "compute-sanitizer is not on the PATH: it comes with the CUDA toolkit\n"


def test_every_tool_is_run_over_all_kernels(monkeypatch, tmp_path, capsys):
    """With a tool that says what it was asked."""
    tool = tmp_path / "compute-sanitizer"
    tool.write_text(
        f"#!{sys.executable}\nimport sys\nprint('gemmlab-sanitized cuda-naive')\n"
        "bad = sys.argv[2] == 'racecheck'\n"
        "print('========= Error: Race reported between Write access' * bad)\n"
        "print(f'========= ERROR SUMMARY: {int(bad)} error')\nsys.exit(99 * bad)\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(sanitized, "run", without_products(sanitized.run))
    monkeypatch.setitem(gemm.find("cuda-naive").__dict__, "reason", None)
    assert sanitized.main(["cuda-naive"]) == 1
    said = capsys.readouterr().out
    assert [f"{name}: clean over 1 kernels" in said for name in sanitized.TOOLS] == [True, False, True, True]
    assert "cuda-naive: Error: Race reported" in said


def without_products(run):
    def only_the_tool(command, until):
        return run(command, until) if command[0].endswith("compute-sanitizer") else ("", 0)

    return only_the_tool


def test_a_tool_whose_time_runs_out_says_what_it_saw_by_then(tmp_path):
    told = "import time\nprint('gemmlab-sanitized cuda-naive', flush=True)\ntime.sleep(60)\n"
    output, code = sanitized.run([sys.executable, "-c", told], monotonic() + 3)
    assert sanitized.told("racecheck", output, code) == (
        False, ["racecheck: time ran out at cuda-naive, over 0 kernels before it; no errors by then"],
    )  # fmt: skip


def test_all_that_the_problems_need_is_compiled_once_beforehand(monkeypatch):
    made = []
    monkeypatch.setattr(sanitized.probe, "device", lambda: Device("NVIDIA H200", (9, 0), 132))
    monkeypatch.setattr(
        sanitized.build, "build", lambda path, macros, architecture: made.append((path, macros))
    )
    sanitized.compile_all([gemm.find("cuda-vectorized"), gemm.find("cuda-bf16"), gemm.find("cublas")])
    assert {path.name for path, _ in made} == {"vectorized.cu", "half.cu", "hopper.cu"}
    assert len(made) == len({repr(one) for one in made})


@pytest.mark.parametrize("name", ["cuda-naive", "cuda-warptile"])
def test_problems_have_all_orders_edges_and_epilogues(name):
    found = list(sanitized.problems(gemm.find(name)))
    assert {problem.op_a + problem.op_b for problem in found} == set(sanitized.ORDERS)
    assert {problem.epilogue for problem in found} >= {None, "bias+relu", "grad:tanh"}
    assert any(problem.beta for problem in found)
    assert any(problem.m % 128 == 0 for problem in found)
    assert any(problem.m % 32 for problem in found)


def test_what_runs_under_the_tools_is_right_and_runs_on_the_device(monkeypatch, capsys):
    """Every problem, epilogues and strides included, on arrays of the device; a wrong result is an error too."""
    from tests.stand_in import modules

    with modules.installed(gemm.find("cublas")) as cupy:
        monkeypatch.setattr(cupy.cuda, "set_allocator", lambda pool: None, raising=False)
        sanitized.multiply(["cublas"])
        assert capsys.readouterr().out == "gemmlab-sanitized cublas\n"
        monkeypatch.setattr(sanitized, "error_ratio", lambda c, right: 9.0)
        sanitized.multiply(["cublas"])
        assert "is wrong by 9 times" in capsys.readouterr().out
        monkeypatch.setattr(sanitized, "_ratio", broken)
        sanitized.multiply(["cublas"])
    name, error = capsys.readouterr().out.splitlines()
    assert name == "gemmlab-sanitized cublas"
    assert sanitized.FOUND.match(error), (
        "a kernel that raises is told like any other fault, and others have their turn"
    )
    assert "raises RuntimeError: misaligned" in error


def broken(kernel, problem):
    raise RuntimeError("misaligned")
