"""The micro-kernel as the processor gets it: what its loop is made of, here and on a CPU without AVX-512."""

import os
import platform
import subprocess
import sys

import pytest

from gemm.micro import assembly, host
from gemm.micro.tile import KEEP_A, KEEP_NOTHING, variants

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="reads x86-64's assembly")
FMA = pytest.mark.skipif(not host.vectors().fma, reason="this CPU has no FMA")

GOOD = """
tile_float32_1x2_0:
	movq	%rdi, -8(%rsp)
	vxorps	%xmm0, %xmm0, %xmm0
.LBB0_1:
	vbroadcastss	(%rsi), %zmm2
	vmovups	(%r8), %zmm3
	vfmadd231ps	%zmm2, %zmm3, %zmm0
	vfmadd231ps	64(%r8), %zmm2, %zmm1
	leaq	(%rsi,%rcx), %rsi
	decq	%rdi
	jg	.LBB0_1
	vmovups	%zmm0, (%r10)
.Lfunc_end0:
"""


@FMA
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_tile_is_fmas_loads_and_broadcasts(dtype):
    """As many FMAs as it has vectors, one load for each of a row of B, a broadcast for each row; nothing stored."""
    shape = host.tile(dtype)
    names = assembly.in_listing(dtype)
    assert names == sorted(variants(shape))
    for variant in names:
        rows, wide, keep, _ = variant
        found = [loop for _, loop in assembly.judged(dtype, variant)]
        assert found
        for loop in found:
            steps, rest = divmod(loop.fmas, rows * wide)
            assert (steps > 0, rest) == (True, 0)
            assert (loop.loads, loop.broadcasts) == (steps * wide, steps * rows)
            assert loop.stores == (steps * rows if keep == KEEP_A else 0)
            assert loop.other == 0
            if rows > 2 and keep == KEEP_NOTHING:
                assert loop.good(), f"{rows} x {wide}: {loop}"


@FMA
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_tile_spills(dtype):
    """Neither sums nor pointers; but those that keep A, one tile of a strip, have more pointers than registers."""
    for variant in assembly.in_listing(dtype):
        rows, wide, keep, _ = variant
        for _, loop in assembly.judged(dtype, variant):
            if keep == KEEP_NOTHING:
                assert loop.good(), f"{rows} x {wide}: {loop}"
            else:
                assert loop.spills <= rows, f"{rows} x {wide}, {keep}: {loop}"


@pytest.mark.parametrize(
    ("line", "changed", "what"),
    [
        ("decq	%rdi", "decq	-8(%rsp)", "spills"),
        ("vmovups	(%r8), %zmm3", "vmovups	(%r8), %zmm3\n	vmovups	%zmm3, 64(%rsp)", "spills"),
        ("leaq	(%rsi,%rcx), %rsi", "addq	16(%rsp), %rsi", "spills"),
        ("decq	%rdi", "vaddps	%zmm0, %zmm1, %zmm1\n	decq	%rdi", "other"),
        ("decq	%rdi", "vmovaps	%zmm0, %zmm1\n	decq	%rdi", "other"),
        ("decq	%rdi", "vmovups	%zmm0, (%rdx)\n	decq	%rdi", "stores"),
        ("decq	%rdi", "vmovss	%xmm0, (%rdx)\n	decq	%rdi", "stores"),
        ("decq	%rdi", "addq	(%rdx), %rdi", "other"),
    ],
)
def test_a_loop_with_anything_else_is_not_good(line, changed, what):
    """A spill, a sum, a move, a store: each is seen."""
    (plain,) = assembly.loops(GOOD, "tile_float32_1x2_0")
    before = assembly.count(plain)
    assert before.good()
    assert (before.fmas, before.loads, before.broadcasts, before.pointers, before.jumps) == (2, 2, 1, 2, 1)
    (worse,) = assembly.loops(GOOD.replace(line, changed), "tile_float32_1x2_0")
    after = assembly.count(worse)
    assert not after.good()
    assert getattr(after, what) == 1


def test_a_frame_pointer_is_the_stack_too():
    """Where %rbp is one; where it is not, it is a register like others."""
    assert assembly.count(["vbroadcastss\t(%rbp), %zmm0", "vfmadd231ps\t%zmm0, %zmm1, %zmm2"]).good()
    assert not assembly.count(["vbroadcastss\t(%rbp), %zmm0"], frame=True).good()


@FMA
def test_the_command_prints_the_loop_and_its_verdict():
    """Exit code 0 for a good one, 2 for a tile that is not there."""
    shape = host.tile("float64")

    def run(*arguments):
        command = [sys.executable, "-m", "gemm.micro.assembly", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    found = run("--dtype", "float64")
    assert found.returncode == 0
    assert found.stdout.count("vfmadd") == shape.rows * shape.vectors
    size = f"{shape.rows} x {shape.vectors} vectors"
    assert f"float64 {size}, whole: {shape.rows * shape.vectors} fmas" in found.stdout
    found = run("--dtype", "float64", "--edge")
    assert found.returncode == 0
    assert f"float64 {size}: {shape.rows * shape.vectors} fmas" in found.stdout
    assert found.stdout.endswith("0 spills, 0 other: good\n")
    found = run("--rows", "99", "--wide", "1")
    assert found.returncode == 2
    assert "no tile for float32" in found.stderr


HASWELL = (
    "+64bit,+aes,+avx,+avx2,+bmi,+bmi2,+cmov,+cx16,+cx8,+f16c,+fma,+fsgsbase,+fxsr,+invpcid,+lzcnt,+mmx,+movbe,"
    "+pclmul,+popcnt,+rdrnd,+sahf,+sse,+sse2,+sse3,+sse4.1,+sse4.2,+ssse3,+xsave,+xsaveopt"
)
AS_HASWELL = """
import gemm
from gemm.drawn import Failure, draw, judge
from gemm.micro import assembly, host
kernel, wrong = gemm.get("numba-micro"), []
for dtype in ("float32", "float64"):
    shape, listing = host.tile(dtype), assembly.listing(dtype)
    print("tile", shape.rows, shape.vectors, shape.lanes, "zmm" in listing, "ymm" in listing)
    for variant in assembly.in_listing(dtype):
        for _, loop in assembly.judged(dtype, variant):
            print("loop", dtype, *variant, loop.good(variant.keep > 0), loop)
for threads in (1, 2):
    gemm.set_threads(threads)
    for number in range(300):
        found = judge(kernel, draw(threads, number))
        if isinstance(found, Failure):
            print("wrong", draw(threads, number), found)
"""


@pytest.fixture(scope="module")
def haswell(tmp_path_factory):
    """What a process says whose code is compiled for a Haswell: lines by their first word."""
    if host.vectors().bytes < 32 or not host.vectors().fma:
        pytest.skip("this CPU cannot run a Haswell's code")
    cache = str(tmp_path_factory.mktemp("cache"))
    environment = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": HASWELL, "NUMBA_CACHE_DIR": cache}
    found = subprocess.run(
        [sys.executable, "-c", AS_HASWELL],
        capture_output=True, text=True, check=False, env=os.environ | environment,
    )  # fmt: skip
    assert (found.returncode, found.stderr) == (0, "")
    lines = [line.partition(" ") for line in found.stdout.splitlines()]
    return {word: [rest for first, _, rest in lines if first == word] for word in ("tile", "loop", "wrong")}


@pytest.mark.slow
def test_a_cpu_without_avx_512_has_a_tile_of_its_own(haswell):
    """6 x 2 vectors of 32 bytes, none of 64."""
    assert haswell["tile"] == ["6 2 8 False True", "6 2 4 False True"]


@pytest.mark.slow
def test_a_cpu_without_avx_512_multiplies_right(haswell):
    """On 600 problems drawn at random."""
    assert haswell["wrong"] == []


@pytest.mark.slow
def test_a_cpu_without_avx_512_spills_nothing(haswell):
    """In any of its tiles but those that keep A."""
    plain = [line.split() for line in haswell["loop"] if line.split()[3] == str(KEEP_NOTHING)]
    assert len(plain) > 10
    assert [words for words in plain if words[5] != "True"] == []
