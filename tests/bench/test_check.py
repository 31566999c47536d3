"""check: the verdict on a kernel survives whatever the kernel does to its process."""

from pathlib import Path

import pytest

import gemm
from bench.check import check

FAULTY = Path(__file__).with_name("faulty.py")


def test_a_right_kernel_passes():
    """The same verdict as in-process, through the child."""
    verdict = check(f"{FAULTY}:right")
    assert verdict.passed
    assert verdict.problems > 1000


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("crashing", "crashed the process (SIGSEGV) during the trial 'plain'"),
        ("leaving", "ended the process with exit code 7 during the trial 'plain'"),
        ("raising", "raises ArithmeticError"),
        ("wrong", "is wrong in 1 of 6 elements (the first at [1, 2]) of C"),
    ],
)
def test_a_fault_is_named_with_the_problem_that_showed_it(name, sentence):
    """Crashes and exits included."""
    verdict = check(f"{FAULTY}:{name}")
    assert not verdict.passed
    assert sentence in verdict.faults[0].sentence
    assert verdict.faults[0].problem == "2x3x4 float32"


def test_a_kernel_that_hangs_is_ended():
    """After the time it may take."""
    verdict = check(f"{FAULTY}:hanging", timeout=3)
    assert "did not finish within 3 s" in verdict.faults[0].sentence


def test_a_kernel_that_writes_to_stderr_does_not_hang_the_check():
    """More than a pipe holds."""
    assert check(f"{FAULTY}:talkative", timeout=120).passed


def test_a_timeout_that_is_none_is_refused():
    """NaN seconds are no seconds."""
    with pytest.raises(ValueError, match="timeout = nan must be a number of seconds"):
        check("blas", timeout=float("nan"))


def test_what_a_kernel_prints_does_not_confuse_the_verdict():
    """Even when it looks like ours."""
    assert check(f"{FAULTY}:printing").passed


def test_unknown_and_unavailable_kernels_are_not_started():
    """They raise what gemm raises."""
    with pytest.raises(gemm.UnknownKernel):
        check("blsa")
    if not gemm.find("cublas").available:
        with pytest.raises(gemm.KernelUnavailable):
            check("cublas")
