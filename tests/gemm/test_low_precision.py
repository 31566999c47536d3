"""float16, bfloat16 and TF32: what the contract makes of them, and what conformance finds in their kernels."""

import re
import subprocess
import sys

import numpy as np
import pytest

import gemm
from gemm.conformance import examine
from gemm.correctness import error_ratio, exactly, reference, significand_problems
from gemm.diagnosis import cut_off, rounded
from gemm.drawn import Failure, draw, judge
from gemm.dtypes import DIGITS, EVERY, LOW, named, roundoff, smallest, smallest_normal
from gemm.epilogue import ACTIVATIONS
from gemm.kernel import FLOATS, HALVES
from gemm.problems import DATA, STRIDES, Problem, integers, lay_out, significands
from tests.gemm import low_kernels as kernels


@pytest.mark.parametrize("dtype", EVERY)
def test_what_is_known_of_a_dtype_is_what_it_does(dtype):
    """Its digits, its smallest numbers; as ml_dtypes says it of bfloat16."""
    import ml_dtypes

    info = ml_dtypes.finfo(named(dtype))
    assert float(info.eps) == 2 * roundoff(dtype)
    assert float(info.smallest_subnormal) == smallest(dtype)
    assert float(info.smallest_normal) == smallest_normal(dtype)


def test_bfloat16_is_looked_for_when_it_is_named_and_its_absence_is_said():
    """gemm is imported without ml_dtypes; records of bfloat16 are read without it."""
    code = (
        "import sys, gemm; assert 'ml_dtypes' not in sys.modules; sys.modules['ml_dtypes'] = None\n"
        "from gemm.problems import Problem\n"
        "problem = Problem(2, 3, 4, 'bfloat16'); assert problem.bytes == 2 * 26\n"
        "from gemm.conformance import examine, _Examiner; from gemm.kernel import Kernel, HALVES\n"
        "from gemm.dtypes import NoBfloat16\n"
        "try: problem.operands()\n"
        "except NoBfloat16 as error: print(error)\n"
        "print(_Examiner(Kernel('mine', '', load=lambda: print, signatures=HALVES), None).dtypes)\n"
        "try: examine(Kernel('mine', '', load=lambda: print, signatures=HALVES[1:]))\n"
        "except NoBfloat16 as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.count("pip install ml_dtypes") == 2
    assert "['float16']" in done.stdout


@pytest.mark.parametrize("dtype", LOW)
def test_kernels_without_these_dtypes_say_which_kernels_take_them(dtype):
    """As for any other dtype."""
    x = np.ones((2, 2), named(dtype))
    with pytest.raises(
        TypeError, match=rf"takes float32, float64, not {dtype} and {dtype}; kernels that take it: .*cublas"
    ):
        gemm.matmul(x, x)
    assert gemm.matmul(x, np.ones((2, 2), "float32")).dtype == np.float32  # promoted, as NumPy does
    with pytest.raises(TypeError, match="not float16 and bfloat16"):
        gemm.matmul(np.ones((2, 2), "float16"), np.ones((2, 2), named("bfloat16")))


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("k", [1, 7, 40, 300, 5000])
def test_integers_are_exact_in_c_too(dtype, k):
    """3 A B + 3 C, in 8 or 11 bits; there are fewer of them where even sums of ones are too long."""
    rng = np.random.default_rng(k)
    a, b = integers(rng, (40, k), k, dtype).astype(float), integers(rng, (k, 40), k, dtype).astype(float)
    assert (a != 0).mean() > 0.1
    assert np.abs(3 * (a @ b)).max() + 3 * np.abs(a).max() <= 2.0 ** DIGITS[dtype]


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("data", DATA)
def test_every_kind_of_data_is_drawn_in_16_bits(dtype, data):
    """Within buffers of NaN, in any layout; neither overflow nor all zero, unless they are zeros."""
    for strides in STRIDES:
        a, b, c = Problem(5, 6, 4, dtype, "t", "n", strides, data=data).operands()
        assert {x.dtype for x in (a, b, c)} == {named(dtype)}
        for x in (a, b, c):
            assert np.isfinite(x.astype(float)).all()
            assert np.isnan(x.base.astype(float)).sum() == x.base.size - x.size
            assert (x.astype(float) != 0).any() == (data != "zeros")


@pytest.mark.parametrize("dtype", LOW)
def test_16_bit_sums_are_rounded_once_and_no_more(dtype):
    """A C that is rounded from float32 sums is within the bound, nearly at it; one unit more is not."""
    a, b, _ = Problem(30, 40, 20, dtype).operands()
    right = reference(a, b)
    sums = a.astype("f4") @ b.astype("f4")
    assert 0.5 < error_ratio(sums.astype(a.dtype), right) < 1
    assert error_ratio((sums * np.float32(1 + 2 * roundoff(dtype))).astype(a.dtype), right) > 1
    assert error_ratio(sums.astype(a.dtype).astype("f4"), right) < 1


def test_alpha_and_beta_are_rounded_to_the_accumulator():
    """gemmEx takes them in float32: 0.7 in 8 bits would be off by more than rule 1 allows."""
    kernel = kernels.made(kernels.right)
    a, b, c = Problem(20, 20, 3, "bfloat16").operands()
    right = reference(a, b, c, alpha=0.7, beta=-0.3)
    gemm.matmul(a, b, c, kernel=kernel, alpha=0.7, beta=-0.3)
    assert error_ratio(c, right) < 1
    start = lay_out(np.full((4, 4), 3.0).astype(named("bfloat16")))
    gemm.matmul(a[:4], b[:, :4], start, kernel=kernel, alpha=0.0, beta=0.7)
    assert exactly(start, np.full((4, 4), np.float32(0.7) * 3))


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_epilogues_are_computed_in_float32_and_rounded_once(dtype, activation):
    """Forward with a bias and aux_out, and backward."""
    kernel = kernels.made(kernels.right)
    a, b, c = Problem(6, 7, 5, dtype).operands()
    bias, kept = np.ones(7, c.dtype), np.empty((6, 7), c.dtype)
    epilogue = gemm.Epilogue(bias=bias, activation=activation, aux_out=kept)
    gemm.matmul(a, b, c, kernel=kernel, epilogue=epilogue)
    z = (a.astype("f4") @ b.astype("f4")).astype(c.dtype).astype("f4") + 1
    expected = ACTIVATIONS[activation].forward(z.copy(), np.empty_like(z))
    assert exactly(kept, z)
    assert exactly(c, expected)
    gradient = gemm.matmul(a, b, kernel=kernel, epilogue=gemm.Epilogue(grad_of=activation, aux_in=kept))
    right = reference(a, b, epilogue=gemm.Epilogue(grad_of=activation, aux_in=kept))
    assert error_ratio(gradient, right) < 1


def test_right_kernels_of_16_bits_conform():
    """All rules; bfloat16 has its turn as cuBLAS would multiply it (tests/gemm/test_device.py)."""
    verdict = examine(kernels.made(kernels.right, kernels.only("float16")))
    assert verdict.passed, verdict.faults
    assert verdict.dtypes == ("float16",)
    assert verdict.problems > 1000


def test_random_problems_are_drawn_with_the_dtypes_that_a_kernel_takes():
    """And in the same sequence as ever for kernels that take float32 and float64."""
    kernel = kernels.made(kernels.right)
    for number in range(60):
        usual, low = draw(3, number), draw(3, number, LOW)
        assert low.dtype in LOW
        assert (usual.m, usual.n, usual.k, usual.a, usual.seed) == (low.m, low.n, low.k, low.a, low.seed)
        found = judge(kernel, low)
        assert not isinstance(found, Failure), found
    assert [(p.m, p.dtype) for p in (draw(7, number) for number in range(4))] == SEQUENCE


# Problems 0 to 3 of seed 7, as the sequence was before there were other dtypes.
SEQUENCE = [(250, "float32"), (3, "float32"), (281, "float64"), (32, "float64")]


def test_a_kernel_that_multiplies_tf32_and_says_so_conforms():
    """Cut off, for which the constant is 2 (rounded: as cublas-tf32 does on the stand-in)."""
    verdict = examine(kernels.made(kernels.tf32_cut_off, **kernels.TF32, error_constant=2.0))
    assert verdict.passed, verdict.faults
    assert verdict.error_ratio > 0.9


def test_full_significands_are_those_that_the_kernel_multiplies():
    """11 bits of 24, every one of them used."""
    x = significands(np.random.default_rng(0), (50, 50), "float32", 11)
    assert (rounded(x, 11) == x).all()
    assert (rounded(x, 10) != x).all()
    for _, a, b, expected in significand_problems(Problem(6, 9, 20), digits=11):
        assert exactly(rounded(a, 11) @ rounded(b, 11), expected)


def test_the_bound_for_rounded_operands_is_no_wider_than_that():
    """An operand rounded to bfloat16 is outside."""
    a, b, _ = Problem(30, 40, 4).operands()
    right = reference(a, b, multiplies="tfloat32")
    assert 0.2 < error_ratio(rounded(a, 11) @ rounded(b, 11), right) < 1
    assert error_ratio(rounded(a, 8) @ rounded(b, 8), right) > 2
    assert error_ratio(cut_off(a, 11) @ cut_off(b, 11), right) < 2


WRONG = [
    (kernels.made(kernels.tf32, kernels.SINGLE), r"7x9x8 float32.*11 bits of significand, as TF32"),
    (kernels.made(kernels.tf32_cut_off, kernels.SINGLE), r"float32.*cut off.*TF32"),
    (kernels.made(kernels.tf32_cut_off, **kernels.TF32), r"off by 1\.\d+ times"),
    (kernels.made(kernels.bfloat16_inputs, **kernels.TF32), r"rounds its inputs to bfloat16"),
    (kernels.made(kernels.bfloat16_inputs, kernels.only("float16")), r"7x9x8 float16.*rounded to bfloat16"),
    (
        kernels.made(kernels.sums_in_16_bits, kernels.only("bfloat16")),
        r"sums are kept in fewer bits .*in bfloat16",
    ),
    (kernels.made(kernels.scalars_in_16_bits, kernels.only("bfloat16")), r"alpha=-0\.7.*off by"),
    (kernels.made(kernels.rounded_before_it_is_added, kernels.only("bfloat16")), r"alpha=-0\.7.*off by"),
    (kernels.made(kernels.beta_ignored), r"float16 alpha=1 beta=1.*ignores beta"),
    (kernels.made(kernels.last_term_dropped), r"3x4x17 float16.*leaves out the last term"),
]


@pytest.mark.parametrize(("kernel", "sentence"), WRONG, ids=lambda x: getattr(x, "name", ""))
def test_a_wrong_kernel_is_found_out_and_its_fault_named(kernel, sentence):
    """Rounding that is not said, sums of too few bits, and the mistakes that kernels of any dtype make."""
    (fault,) = examine(kernel, most=1).faults
    assert re.search(sentence, f"{fault.problem}: {fault.sentence}"), fault


def test_full_precision_kernels_are_judged_as_before():
    """Their bounds know nothing of these dtypes."""
    a, b, _ = Problem(20, 30, 40).operands()
    relative = 2.0**-24 * 42 * (np.abs(a.astype(float)) @ np.abs(b.astype(float)))
    np.testing.assert_allclose(reference(a, b, accumulator="float32").bound, relative, rtol=1e-6)
    np.testing.assert_allclose(reference(a, b, accumulator="float64").bound, relative, rtol=1e-6)
    assert [signature.input for signature in FLOATS + HALVES] == list(EVERY)
