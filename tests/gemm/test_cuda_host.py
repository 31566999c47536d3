"""CUDA sources on the CPU: the shim does what a GPU does, the rungs are right, and planted mistakes are found."""

import re
import subprocess
import sys
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

import gemm
from gemm.conformance import examine
from gemm.cuda.host import DeviceFault, Emulated, NotCompiled, compiler, kernel, reason
from gemm.cuda.host.emulator import Memory
from gemm.cuda.host.symbols import Variable
from gemm.cuda.product import PRODUCT
from gemm.cuda.rungs import RUNGS
from gemm.drawn import Drawn, Failure, Layout, draw, judge

pytestmark = pytest.mark.skipif(reason() is not None, reason=str(reason()))

LADDER = {rung.name: rung for rung in RUNGS}
# Many tiles, and every kind of edge, in small products.
SMALL = {
    "cuda-naive": {"BLOCK": 8},
    "cuda-coalesced": {"BLOCK": 8},
    "cuda-shared": {"BLOCK": 8},
    "cuda-tile1d": {"BM": 16, "BN": 16, "BK": 4, "TM": 4},
    "cuda-tile2d": {"BM": 16, "BN": 16, "BK": 4, "TM": 4, "TN": 4},
    "cuda-vectorized": {"BM": 16, "BN": 16, "BK": 4, "TM": 4, "TN": 4},
    "cuda-warptile": {
        "BM": 32, "BN": 64, "BK": 8, "WM": 32, "WN": 32, "WNITER": 1, "TM": 4, "TN": 4, "BAND": 2
    },
}  # fmt: skip
WATCHED = pytest.mark.parametrize("watched", [True, False], ids=["watched", "plain"])


@pytest.fixture
def launch(tmp_path):
    """Launches a kernel written in a test: `body` of gemm(const Arguments p), where p.in and p.out are `T *`."""

    def run(body, size=64, *, given=(), type="int", before="", grid=(1, 1, 1), block=(32, 1, 1), **options):
        macros, watched = options.pop("macros", {}), options.pop("watched", True)
        memory = options.pop("memory", True)
        source = tmp_path / "written.cu"
        source.write_text(
            f"struct Arguments {{ const {type} *in; {type} *out; }};\n{before}\n"
            f'extern "C" __global__ void gemm(const Arguments p) {{\n{body}\n}}\n'
        )
        dtype = {"int": np.int32, "float": np.float32, "unsigned short": np.uint16}[type]
        taken, out = np.array(given, dtype), np.zeros(size, dtype)
        arguments = np.array([taken.ctypes.data, out.ctypes.data], np.uint64)
        touched = [Memory("in", taken), Memory("out", out, writable=True)] if memory else None
        Emulated(source, macros, watched=watched).launch(arguments, grid, block, memory=touched, **options)
        return out

    return run


# The shim


def test_every_thread_of_every_block_runs_once_and_knows_its_place(launch):
    """Indices and sizes, in three dimensions."""
    out = launch(
        """
        int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
        int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
        int threads = blockDim.x * blockDim.y * blockDim.z;
        p.out[block * threads + thread] += 1 + block * threads + thread;
        """,
        2 * 3 * 2 * 4 * 2 * 3, grid=(2, 3, 2), block=(4, 2, 3),
    )  # fmt: skip
    assert (out == np.arange(1, 289)).all()


@WATCHED
@pytest.mark.parametrize("seed", range(3))
def test_what_was_written_before_a_barrier_is_read_after_it(launch, watched, seed):
    """Whatever the order of the threads."""
    out = launch(
        """
        __shared__ int x[1024];
        for (int time = 0; time < 3; ++time) {
            x[threadIdx.x] = threadIdx.x + time;
            __syncthreads();
            p.out[threadIdx.x] = x[1023 - threadIdx.x];
            __syncthreads();
        }
        """,
        1024, block=(1024, 1, 1), watched=watched, seed=seed,
    )  # fmt: skip
    assert (out == np.arange(1025, 1, -1)).all()


def test_a_race_is_found_in_any_order_and_said_with_its_lines(launch):
    """Two threads, one of them writes, no barrier."""
    for seed in range(5):
        with pytest.raises(
            DeviceFault,
            match=r"^race: byte \d+ of x is (read|written) by thread \d+ in line [56] of written.cu, and "
            r"(read|written) by .*thread.* in line [56] of written.cu, with no barrier between the two",
        ):
            launch(
                "__shared__ int x[32];\nx[threadIdx.x] = 1;\np.out[threadIdx.x] = x[31 - threadIdx.x];",
                seed=seed,
            )


def test_without_watching_a_race_shows_in_the_result(launch):
    """By the order of the threads."""
    body = "__shared__ float x[32]; x[threadIdx.x] = 1; p.out[threadIdx.x] = x[31 - threadIdx.x];"
    out = launch(body, type="float", watched=False)[:32]
    assert np.isnan(out).any()


def test_many_may_read_what_one_has_written(launch):
    """Threads of other warps too; then one may write again, after the next barrier."""
    body = """
        __shared__ int x[2];
        if (threadIdx.x == 5) x[0] = 7;
        __syncthreads();
        int seen = x[0];
        {}
        if (threadIdx.x == 40) x[0] = 8;
        __syncthreads();
        p.out[threadIdx.x] = seen + x[0];
        """
    assert (launch(body.format("__syncthreads();"), block=(64, 1, 1)) == 15).all()
    with pytest.raises(DeviceFault, match=r"^race: byte 0 of x"):
        launch(body.format(""), block=(64, 1, 1))


def test_a_warp_has_a_barrier_of_its_own(launch):
    """Which orders what its lanes do, and nothing for another warp."""
    body = """
        __shared__ int x[64];
        x[threadIdx.x] = threadIdx.x;
        __syncwarp();
        int left = x[threadIdx.x ^ {0}];
        __syncwarp();
        x[threadIdx.x] = left;
        __syncwarp();
        p.out[threadIdx.x] = x[threadIdx.x ^ 1];
        """
    assert (launch(body.format(3), block=(64, 1, 1)) == (np.arange(64) ^ 1 ^ 3)).all()
    with pytest.raises(DeviceFault, match=r"^race"):
        launch(body.format(32), block=(64, 1, 1))
    with pytest.raises(DeviceFault, match=r"^race"):
        launch(body.format(3).replace("__syncwarp();", "", 1), block=(64, 1, 1))


def test_lanes_shuffle_and_vote(launch):
    """As CUDA's guide defines it, in segments too, and in a warp that is not full."""
    out = launch(
        """
        int i = threadIdx.x, lane = i % 32;
        unsigned all = i < 32 ? 0xffffffffu : 0xffu;
        p.out[i] = __shfl_sync(all, i, 5);
        p.out[40 + i] = __shfl_up_sync(all, i, 2, 8);
        p.out[80 + i] = __shfl_down_sync(all, i, 3, 8);
        p.out[120 + i] = __shfl_xor_sync(all, i, 1);
        p.out[160 + i] = __ballot_sync(all, lane % 3 == 0) & 0xff;
        p.out[200 + i] = 2 * __any_sync(all, i == 33) + __all_sync(all, i < 32);
        float half = __shfl_sync(all, i + 0.5f, lane ^ 2);
        p.out[240 + i] = int(2 * half);
        """,
        280, block=(40, 1, 1),
    )  # fmt: skip
    i = np.arange(40)
    lane = i % 32
    assert (out[:40] == np.where(i < 32, 5, 37)).all()
    assert (out[40:80] == np.where(lane % 8 < 2, i, i - 2)).all()
    assert (out[80:120] == np.where(lane % 8 > 4, i, i + 3)).all()
    assert (out[120:160] == (i ^ 1)).all()
    assert (out[160:200] == 0b01001001).all()
    assert (out[200:240] == np.where(i < 32, 1, 2)).all()
    assert (out[240:280] == 2 * (i ^ 2) + 1).all()


def test_a_shuffle_takes_from_nobody_only_with_a_fault(launch):
    """A lane outside of the mask has nothing to give."""
    with pytest.raises(
        DeviceFault, match=r"takes from lane 20 in a shuffle in line 4 of written.cu, which takes"
    ):
        launch("if (threadIdx.x < 8) p.out[0] = __shfl_sync(0xffu, 1, 20);")
    with pytest.raises(DeviceFault, match=r"a mask, 000000ff, that its own lane is not in"):
        launch("__syncwarp(0xffu);")


@WATCHED
def test_shared_memory_is_no_number_before_it_is_written_in_each_block(launch, watched):
    """What another block has left there is not to be read."""
    body = """
        __shared__ float x[32];
        p.out[blockIdx.x * 32 + threadIdx.x] = x[threadIdx.x];
        x[threadIdx.x] = 1;
        """
    assert np.isnan(launch(body, type="float", grid=(2, 1, 1), watched=watched)).all()


@WATCHED
def test_dynamic_shared_memory_is_as_long_as_the_launch_says(launch, watched):
    """Whatever the file calls it."""
    body = """
        extern __shared__ __align__(16) int pool[];
        pool[threadIdx.x * {0}] = threadIdx.x;
        __syncthreads();
        p.out[threadIdx.x] = pool[(31 - threadIdx.x) * {0}];
        """
    sizes = {"shared_bytes": 128, "watched": watched}
    assert (launch(body.format(1), **sizes)[:32] == np.arange(31, -1, -1)).all()
    with pytest.raises(DeviceFault, match="pool"):
        launch(body.format(2), **sizes)
    with pytest.raises(ValueError, match="232448"):
        launch(body.format(1), shared_bytes=2**18)
    with pytest.raises(ValueError, match="uses none"):
        launch("", shared_bytes=128)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("x[threadIdx.x + 1] = 1;", r"thread 31 has index 32 of a 'int \[32\]' in line 5 of written.cu"),
        ("int *q = x; q[threadIdx.x + 1] = 1;", r"31 writes 4 bytes outside .* line 5 .* byte 128 of x, which has 128"),
        ("int *q = x; p.out[0] = q[int(threadIdx.x) - 1];", r"thread 0 reads 4 bytes outside of shared|past the"),
        ("p.out[threadIdx.x * 3] = 1;", r"writes 4 bytes of global memory in line 5 .* past the end of out"),
        ("p.out[threadIdx.x] = p.in[threadIdx.x];", r"reads 4 bytes of global memory in line 5 .* past the end of in"),
        ("const_cast<int *>(p.in)[threadIdx.x % 8] = 1;", r"which is in's, only to be read"),
        ("p.out[0] = reinterpret_cast<const float4 *>(p.in + 1)->x;", r"misaligned address: .* 16 bytes .* line 5"),
    ],
)  # fmt: skip
def test_strays_are_faults(launch, body, sentence):
    """Outside of shared arrays and of the operands, and vectors that are not aligned."""
    with pytest.raises(DeviceFault, match=sentence):
        launch("__shared__ int x[32];\n" + body, given=range(8))


def test_a_write_beside_an_array_is_found_without_watching_too(launch):
    """When its block is over."""
    body = "__shared__ int x[32]; int *q = x; q[threadIdx.x * 2] = 1;"
    with pytest.raises(DeviceFault, match=r"writes outside of shared memory: 0 bytes past the end of x"):
        launch(body, watched=False)


@WATCHED
@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (
            "if (threadIdx.x > 3) return;\n__syncthreads();",
            r"thread 0 waits at __syncthreads in line 5 of written.cu and thread 4 has left the kernel",
        ),
        (
            "if (threadIdx.x > 3) __syncthreads();\nelse __syncthreads();",
            r"thread 0 waits at __syncthreads in line 5 of written.cu and thread 4 at __syncthreads in line 4",
        ),
        (
            "for (int i = 0; i < 2 + threadIdx.x / 31; ++i) __syncthreads();",
            r"thread 31 waits at __syncthreads in line 4 of written.cu and thread 0 has left",
        ),
        (
            "if (threadIdx.x == 9) __syncthreads();\n__syncwarp();",
            r"waits at .* in line \d of written.cu and thread \d+ .*line \d",
        ),
    ],
)
def test_a_barrier_that_not_all_come_to_is_a_fault_and_does_not_hang(launch, watched, body, sentence):
    """With who waits where, and for whom."""
    with pytest.raises(DeviceFault, match="^divergent barrier: .*" + sentence):
        launch(body, watched=watched)
    assert launch("p.out[0] = 1;")[0] == 1  # and the next launch is as any other


def test_neighbours_may_write_the_halves_of_a_word(launch):
    """Numbers of 16 bits are no race."""
    out = launch(
        """
        __shared__ unsigned short x[32];
        __shared__ int words[32];
        words[threadIdx.x] = 1;
        x[threadIdx.x] = threadIdx.x;
        __syncthreads();
        p.out[threadIdx.x] = x[31 - threadIdx.x] + words[0];
        """,
        type="unsigned short",
    )
    assert (out[:32] == np.arange(32, 0, -1)).all()


@WATCHED
def test_the_order_of_threads_and_blocks_is_the_seed_s(launch, watched):
    """The same again for the same seed, another one for another."""
    body = "p.out[blockIdx.x * 32 + threadIdx.x] = atomicAdd(p.out + 128, 1);"

    def order(seed):
        return launch(body, 129, grid=(4, 1, 1), watched=watched, seed=seed)[:128].tolist()

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert sorted(order(3)) == list(range(128))
    first = np.array(order(3)).reshape(4, 32) // 32  # a block after the other
    assert (first == first[:, :1]).all()


def test_templates_and_vectors_compile_as_in_cuda(launch):
    """Shared memory of a template's instance, alignment in any place, vectors, bits."""
    out = launch(
        """
        alignas(16) __shared__ float a[4][8];
        __shared__ alignas(16) float b[8];
        if (threadIdx.x < 8) b[threadIdx.x] = threadIdx.x;
        __syncthreads();
        float4 *to = reinterpret_cast<float4 *>(&a[threadIdx.x % 2][4]), *from = reinterpret_cast<float4 *>(b);
        if (threadIdx.x < 2) *to = from[threadIdx.x];
        __syncthreads();
        float2 two = make_float2(a[1][5], __uint_as_float(0x40000000u));
        p.out[threadIdx.x] = fmaf(two.x, two.y, 1.0f) + turned<32>(threadIdx.x) + min(3, max(1, 2)) + __popc(7);
        """,
        type="float",
        before="""
        template <int N> __device__ __forceinline__ float turned(int i) {
            __shared__ float t[N];
            t[i] = i;
            __syncthreads();
            return t[N - 1 - i];
        }
        """,
    )  # fmt: skip
    assert (out[:32] == 11 + np.arange(31, -1, -1) + 2 + 3).all()


@pytest.mark.parametrize("seed", range(4))
def test_a_copy_on_its_way_arrives_at_any_time_until_it_is_waited_for(launch, seed):
    """Without the wait it may not be there after the barrier; what others read meanwhile is a race."""
    body = """
        __shared__ float x[32];
        gemmlab::copy_async(&x[threadIdx.x], p.in + threadIdx.x, 4);
        {}
        __syncthreads();
        p.out[threadIdx.x] = x[31 - threadIdx.x];
        {}
        """
    given = {"type": "float", "given": range(32), "seed": seed}
    assert (
        launch(body.format("gemmlab::wait_for_copies();", ""), **given)[:32] == np.arange(31, -1, -1)
    ).all()
    assert np.isnan(launch(body.format("", ""), **given)[:32]).any()
    with pytest.raises(DeviceFault, match=r"^race"):
        launch(body.format("", "gemmlab::wait_for_copies();"), **given)


@pytest.mark.parametrize(
    ("grid", "block", "sentence"),
    [
        ((1, 70000, 1), (32, 1, 1), "grid.y is 70000; a GPU takes 1 to 65535"),
        ((1, 0, 1), (32, 1, 1), "grid.y is 0"),
        ((1, 1, 1), (64, 32, 1), "more than 1024 threads"),
        ((1, 1, 1), (2, 2, 65), "block.z is 65"),
    ],
)
def test_launches_that_a_gpu_would_refuse_are_refused(launch, grid, block, sentence):
    with pytest.raises(ValueError, match=sentence):
        launch("", grid=grid, block=block)


def test_too_much_static_shared_memory_is_refused(launch):
    """48 KiB, as ptxas has it."""
    with pytest.raises(ValueError, match="50000 bytes of static shared memory"):
        launch("__shared__ char x[50000]; x[threadIdx.x] = 1; p.out[0] = x[threadIdx.x];")


def test_what_does_not_compile_is_said_in_a_sentence(launch):
    """The compiler's first error."""
    with pytest.raises(
        NotCompiled, match=r"^\S+ cannot compile written.cu: written.cu:4:\d+: error: .*nonsense"
    ):
        launch("nonsense;")


def test_without_a_compiler_the_reason_is_said(monkeypatch, tmp_path):
    """And what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    compiler._compiler.cache_clear()
    try:
        assert "install g++ or clang++" in reason()
        with pytest.raises(gemm.KernelUnavailable, match="no C\\+\\+ compiler"):
            gemm.matmul(np.ones((2, 2), "f"), np.ones((2, 2), "f"), kernel=kernel(RUNGS[0]))
    finally:
        compiler._compiler.cache_clear()


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("_ZZ4gemmE2As", "As"), ("_ZZ4gemm7ProductIffEE2As_0", "As"), ("pool", "pool"),
        ("_ZZ6turnedILi32EEfiE1t", "t"), ("_ZN5space4poolE", "pool"), ("_ZZ4gemmE4t1ab", "t1ab"),
    ],
)  # fmt: skip
def test_symbols_have_the_names_of_the_source(symbol, name):
    """Names mangled as in the Itanium C++ ABI."""
    assert Variable(symbol, 0, 0, True).name == name


# The rungs


@pytest.fixture(params=LADDER)
def rung(request):
    """Every rung of the ladder."""
    return LADDER[request.param]


def test_every_rung_conforms_with_small_tiles(rung):
    """All rules over a thousand problems, every access watched; many tiles in each."""
    assert rung.refused(SMALL[rung.name]) is None
    verdict = examine(kernel(rung, SMALL[rung.name]))
    assert verdict.passed, verdict.faults
    assert verdict.problems > 1000
    assert 0 < verdict.error_ratio <= 1


def test_every_rung_does_problems_drawn_at_random(rung):
    """With the tiles of the ladder: any strides, any epilogue, sizes to 300."""
    on = kernel(rung, seed=1, watched=False)
    drawn = [one for one in (draw(6, number) for number in range(50)) if one.dtype == "float32"]
    assert len(drawn) > 15
    for one in drawn:
        found = judge(on, one)
        assert not isinstance(found, Failure), (str(one), found)


@pytest.mark.slow
def test_every_rung_conforms(rung):
    """As it is on the ladder, watched, and problems drawn at random."""
    verdict = examine(kernel(rung, seed=2), at_random=20, seed=3)
    assert verdict.passed, verdict.faults


def test_the_ladder_knows_the_shared_memory_of_its_rungs(rung):
    """`held` is what the file declares, and its argument is what Python packs."""
    for tiles in (rung.tiles, SMALL[rung.name]):
        for macros in (rung.variants[0], rung.variants[-1]):
            made = Emulated(rung.path, {**tiles, **macros})
            assert sum(made.shared.values()) == rung.held(tiles), (macros, made.shared)
            assert made.argument_bytes == PRODUCT.itemsize


def test_every_variant_of_a_rung_is_right(rung):
    """Whichever way A and B lie, aligned or not: all macros that operands ask for, and no others, at whole tiles."""
    met = set()

    def variant(product):
        macros = rung.variant(product)
        met.add(tuple(sorted(macros.items())))
        return macros

    on = kernel(replace(rung, variant=variant), SMALL[rung.name])
    layouts = [Layout(*one) for one in product("nt", ("contiguous", "padded", "every-second"))]
    for a, b in product(layouts, layouts):
        for one in (Drawn(64, 128, 16, "float32", a, b), Drawn(36, 20, 12, "float32", a, b, beta=2.0)):
            found = judge(on, one)
            assert not isinstance(found, Failure), (str(one), found)
    assert met == {tuple(sorted(macros.items())) for macros in rung.variants}


# Planted mistakes: a change of the real file's text


def mutant(rung, tmp_path, old, new, nth=1, file=None):
    """The rung with the nth `old` of its source (or of a header) replaced."""
    source = rung.path if file is None else rung.path.parent / file
    parts = source.read_text().split(old)
    assert len(parts) > nth, f"{source.name} has no {old!r} any more: choose another mistake"
    (tmp_path / source.name).write_text(old.join(parts[:nth]) + new + old.join(parts[nth:]))
    if file is not None:
        (tmp_path / rung.path.name).write_text(rung.path.read_text())
    return replace(rung, file=str(tmp_path / rung.path.name))


def fault(rung, watched):
    verdict = examine(kernel(rung, SMALL[rung.name], watched=watched), most=1)
    assert not verdict.passed, "the mistake was not found"
    return f"{verdict.faults[0].problem}: {verdict.faults[0].sentence}"


def every(what):
    """Each place of a text in the rungs' files: (rung, which one)."""
    found = [
        pytest.param(rung, nth, id=f"{rung.name}-{nth}")
        for rung in RUNGS
        for nth in range(1, rung.path.read_text().count(what) + 1)
    ]
    assert found
    return found


@WATCHED
@pytest.mark.parametrize(("rung", "nth"), every("__syncthreads();"))
def test_each_barrier_is_needed_and_missed_when_it_is_not_there(tmp_path, rung, nth, watched):
    """Each __syncthreads of each rung, deleted."""
    found = fault(mutant(rung, tmp_path, "__syncthreads();", "", nth), watched)
    assert re.search(
        r"DeviceFault: race: .* line \d+ of \w+\.\w+" if watched else ": (is|does|reads|leaves) ", found
    )


@WATCHED
def test_a_wait_for_copies_that_is_not_there_is_missed(tmp_path, watched):
    """What was to be copied is not there yet."""
    found = fault(mutant(LADDER["cuda-warptile"], tmp_path, "wait_for_copies();", ""), watched)
    assert re.search("does not write|wrong", found), found


@WATCHED
@pytest.mark.parametrize(
    ("name", "old", "new", "sentence"),
    [
        # a tile that stands over the edge of C has one row or column too many
        ("cuda-naive", "row >= p.m", "row > p.m", "of A"),
        ("cuda-coalesced", "column >= p.n", "column > p.n", "of B"),
        ("cuda-shared", "tile.column + x < p.n", "tile.column + x <= p.n", "of C"),
        # or one term
        ("cuda-shared", "first + at < p.k", "first + at <= p.k", "of A"),
        ("cuda-tile1d", "&& t < p.k", "&& t <= p.k", "of A"),
        # or one too few
        ("cuda-tile2d", "at < left", "at < left - 1", "last term"),
        ("cuda-vectorized", "t < deep", "t < deep - 1", "term|wrong"),
        ("cuda-warptile", "THREADS_ALONG < steps", "THREADS_ALONG < steps - 1", "term|wrong"),
    ],
)  # fmt: skip
def test_an_off_by_one_at_the_edge_of_a_tile_is_found(tmp_path, name, old, new, sentence, watched):
    """A row, a column or a term too many or too few."""
    found = fault(mutant(LADDER[name], tmp_path, old, new), watched)
    assert re.search(sentence if watched else ".", found), found


def test_a_read_over_the_edge_that_changes_nothing_is_found_where_it_is_watched(tmp_path):
    """A row of A behind the last, which nobody uses: a GPU may fault, and no result is wrong."""
    planted = mutant(LADDER["cuda-shared"], tmp_path, "row < p.m && first", "row <= p.m && first")
    assert examine(kernel(planted, SMALL["cuda-shared"], watched=False)).passed
    assert re.search(
        r"reads 4 bytes of global memory in line \d+ of shared.cu, .* past the end of A", fault(planted, True)
    )


@WATCHED
@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("cuda-naive", "row * p.a_row", "row * p.k"),
        ("cuda-coalesced", "t * p.b_row", "t * p.n"),
        ("cuda-shared", "column * p.b_column", "column"),
        ("cuda-tile1d", "t * p.a_column", "t"),
        ("cuda-tile2d", "t * p.b_row", "t * p.n"),
    ],
)
def test_a_wrong_stride_is_found(tmp_path, name, old, new, watched):
    """Right for contiguous operands only."""
    found = fault(mutant(LADDER[name], tmp_path, old, new), watched)
    assert re.search(
        "DeviceFault: .* of global memory in line|stride|transposed" if watched else ".", found
    ), found


def test_a_wrong_stride_of_c_is_found(tmp_path):
    """In the header that ends every rung."""
    planted = mutant(LADDER["cuda-tile1d"], tmp_path, "row * p.c_row", "row * p.n", file="finish.cuh")
    assert re.search("of C|C's strides|outside C", fault(planted, True))


def test_a_wrong_grid_is_found():
    """Tiles that no block computes."""
    shared = LADDER["cuda-shared"]
    short = replace(shared, tile=lambda tiles: (tiles["BLOCK"] + 1, tiles["BLOCK"]))
    assert re.search("not write|wrong|zero|leaves", fault(short, False))


# The command


def test_the_command_examines_a_rung():
    """One line for what passed, exit code 0."""
    done = subprocess.run(
        [sys.executable, "-m", "gemm.cuda.host", "cuda-coalesced", "--random", "5", "--seed", "1", "--plain"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(
        r"cuda-coalesced@host passed: 1\d{3} problems, largest error ratio 0\.\d+\n$", done.stdout
    )
