"""CUDA without a GPU: every variant of every rung compiles, what it takes is known, what it gets is packed right."""

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import gemm
from gemm.cuda import build, product, rungs
from gemm.cuda.rungs import ACROSS, ALONG, ANY, RUNGS

pytestmark = pytest.mark.skipif(not build.libraries(), reason="needs NVRTC: pip install nvidia-cuda-nvrtc")

ARCHITECTURES = ("sm_80", "sm_90a")
FAST = ("cuda-tile2d", "cuda-vectorized", "cuda-warptile")


@pytest.fixture(scope="module", autouse=True)
def cache_of_its_own(tmp_path_factory):
    """Compiled here and now, whatever the user's cache folder holds."""
    folder = tmp_path_factory.mktemp("cubins")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "folder", lambda: folder)
        yield folder


def compilable(rung):
    return [a for a in ARCHITECTURES if rung.since == "sm_80" or a == rung.since]


@pytest.mark.slow
@pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.name)
def test_every_variant_of_every_rung_compiles(rung):
    """To machine code, by NVRTC alone; it takes the shared memory that the ladder says, and fast rungs do not spill."""
    wanted = [(architecture, variant) for architecture in compilable(rung) for variant in rung.variants]
    with ThreadPoolExecutor() as threads:  # NVRTC works without the GIL
        found = threads.map(lambda w: build.build(rung.path, {**rung.tiles, **w[1]}, w[0]), wanted)
        for (architecture, variant), built in zip(wanted, found):
            assert built.cubin.read_bytes()[:4] == b"\x7fELF"
            assert built.resources.shared == rung.held(rung.tiles)
            x, y, z = rung.block(rung.tiles)
            assert x * y * z * built.resources.registers <= 65536
            if rung.name in FAST:
                assert (built.resources.spills, built.resources.stack) == (0, 0), (architecture, variant)


def test_a_planted_spill_is_seen(tmp_path):
    """A thousand blocks asked for on a multiprocessor leave a thread few registers: the same kernel spills."""
    source = rungs.WARPTILE.path.read_text()
    assert "THREADS > 128 ? 1 : 2)" in source
    for header in rungs.SOURCE.glob("*.cuh"):
        shutil.copy(header, tmp_path)
    (tmp_path / "spilling.cu").write_text(source.replace("THREADS > 128 ? 1 : 2)", "4)"))
    built = build.build(tmp_path / "spilling.cu", rungs.WARPTILE.tiles, "sm_90a")
    assert built.resources.spills > 0
    assert built.resources.registers <= 128


def test_what_was_compiled_is_found_again(monkeypatch):
    """The second time nothing is compiled, unless something that it came from has changed."""
    first = build.build(rungs.NAIVE.path, {"BLOCK": 8}, "sm_90a")

    def compile_again(*arguments):
        raise AssertionError("compiled again")

    monkeypatch.setattr(build.Nvrtc, "compile", compile_again)
    assert build.build(rungs.NAIVE.path, {"BLOCK": 8}, "sm_90a") == first
    for macros, architecture in (({"BLOCK": 16}, "sm_90a"), ({"BLOCK": 8}, "sm_80")):
        with pytest.raises(AssertionError, match="compiled again"):
            build.build(rungs.NAIVE.path, macros, architecture)


def test_an_edited_header_is_compiled_anew(tmp_path):
    """Also one that is included by another."""
    for file in (*rungs.SOURCE.glob("*.cuh"), rungs.NAIVE.path):
        shutil.copy(file, tmp_path)
    first = build.build(tmp_path / "naive.cu", {}, "sm_90a")
    header = tmp_path / "product.cuh"
    header.write_text(header.read_text() + "// edited\n")
    assert build.build(tmp_path / "naive.cu", {}, "sm_90a").cubin != first.cubin


def test_a_cut_file_in_the_cache_is_no_answer(cache_of_its_own):
    """A report that cannot be read is compiled again."""
    built = build.build(rungs.NAIVE.path, {"BLOCK": 4}, "sm_90a")
    built.cubin.with_suffix(".json").write_text('{"registers": ')
    assert build.build(rungs.NAIVE.path, {"BLOCK": 4}, "sm_90a") == built


def test_a_mistake_in_a_kernel_is_said_with_the_compilers_words(tmp_path):
    """File, architecture and line."""
    (tmp_path / "wrong.cu").write_text('extern "C" __global__ void gemm(int *c) { *c = nothing; }\n')
    with pytest.raises(build.Uncompilable, match=r"(?s)wrong\.cu does not compile for sm_90a.*nothing"):
        build.build(tmp_path / "wrong.cu", {}, "sm_90a")


def test_an_architecture_that_nvrtc_does_not_know_is_said():
    """With those that it knows."""
    with pytest.raises(build.Uncompilable, match=r"does not know sm_990; it knows \["):
        build.build(rungs.NAIVE.path, {}, "sm_990")


def test_absurd_tiles_do_not_compile_either():
    """The static_asserts say what `refused` says, for those who compile by hand."""
    with pytest.raises(build.Uncompilable, match="warps share the block's tile evenly"):
        build.build(rungs.WARPTILE.path, {**rungs.WARPTILE.tiles, "WM": 48}, "sm_80")


LAYOUT = """
#include "product.cuh"
template <int expected, int found> struct Is { static_assert(expected == found, "another place"); };
#define AT(member, offset) template struct Is<offset, __builtin_offsetof(Both, member)>
using Both = Product<float, float>;
%s
extern "C" __global__ void gemm(int *c) {}
"""


@pytest.mark.parametrize("moved", [0, 4])
def test_product_is_packed_as_the_kernels_read_it(tmp_path, moved):
    """Every member of the C++ struct stands where NumPy's record has it; a record with one elsewhere is refused."""
    shutil.copy(rungs.SOURCE / "product.cuh", tmp_path)
    places = {name: product.PRODUCT.fields[name][1] for name in product.PRODUCT.names}
    places["alpha"] += moved
    (tmp_path / "layout.cu").write_text(
        LAYOUT % "\n".join(f"AT({name}, {at});" for name, at in places.items())
    )
    if moved:
        with pytest.raises(build.Uncompilable, match="another place"):
            build.compiler().compile(tmp_path / "layout.cu", [f"-I{tmp_path}", "-arch=sm_80"], "sm_80")
    else:
        build.compiler().compile(tmp_path / "layout.cu", [f"-I{tmp_path}", "-arch=sm_80"], "sm_80")
    assert product.PRODUCT.itemsize == 160


def test_the_numbers_of_functions_are_those_of_the_kernels():
    """enum Function, in its order."""
    text = (rungs.SOURCE / "product.cuh").read_text()
    for name, number in product.FUNCTIONS.items():
        assert f"{name.upper().replace('-', '_')} = {number}" in text
    assert set(gemm.epilogue.ACTIVATIONS) == set(product.FUNCTIONS)


def test_a_product_holds_addresses_and_strides_of_views():
    """The first element of a view and its strides in elements; nothing is copied."""
    whole = np.zeros((40, 50), np.float32)
    a, b, c = whole[3:10:2, ::-1], whole.T[:, :7], np.zeros((4, 7), np.float32)
    packed = product.pack(a, b, c)
    assert packed["a"] == whole.ctypes.data + 4 * (3 * 50 + 49)
    assert (packed["a_row"], packed["a_column"]) == (100, -1)
    assert (packed["b_row"], packed["b_column"]) == (1, 50)
    assert (packed["m"], packed["n"], packed["k"]) == (4, 7, 50)
    assert (packed["alpha"], packed["beta"], packed["function"]) == (1, 0, 0)
    assert packed["bias"] == packed["kept"] == packed["from"] == 0


def test_a_product_holds_the_epilogue():
    """Forward: bias, activation and where Z is kept; backward: what the derivative is taken from."""
    a, b, c = (np.zeros(shape, np.float32) for shape in ((3, 4), (4, 5), (3, 5)))
    bias, kept = np.zeros(10, np.float32)[::2], np.zeros((3, 5), np.float32)
    packed = product.pack(a, b, c, 2.0, 0.5, gemm.Epilogue(bias=bias, activation="gelu", aux_out=kept))
    assert (packed["bias"], packed["bias_step"], packed["function"]) == (bias.ctypes.data, 2, 5)
    assert (packed["kept"], packed["kept_row"], packed["from"]) == (kept.ctypes.data, 5, 0)
    packed = product.pack(a, b, c, epilogue=gemm.Epilogue(grad_of="tanh", aux_in=kept.T.copy().T))
    assert (packed["function"], packed["from_row"], packed["from_column"], packed["kept"]) == (3, 1, 3, 0)


def test_a_c_in_columns_is_written_as_its_transpose():
    """C^T = B^T A^T, which lies in rows; but not under a bias."""
    a, b, c = (np.zeros(shape, np.float32) for shape in ((3, 4), (4, 5), (5, 3)))
    turned = product.pack(a, b, c.T)
    assert (turned["m"], turned["n"], turned["a"], turned["c_row"]) == (5, 3, b.ctypes.data, 3)
    bias = gemm.Epilogue(bias=np.zeros(5, np.float32))
    assert product.pack(a, b, c.T, epilogue=bias)["m"] == 3


def test_sizes_that_kernels_cannot_count_are_refused():
    """Rows and columns are counted in 32 bits."""
    long = np.broadcast_to(np.float32(0), (2**31 - 1, 1))
    with pytest.raises(ValueError, match="take sizes from 1 to"):
        product.pack(long, np.zeros((1, 1), np.float32), long)


def at(address, shape, strides):
    """What `variant` reads of an operand: nothing is allocated."""
    interface = {"data": (address, False), "shape": shape, "strides": strides, "typestr": "<f4", "version": 3}

    class Array:
        __cuda_array_interface__ = interface
        itemsize = 4

    array = Array()
    array.shape, array.strides = shape, strides
    return array


@pytest.mark.parametrize(
    ("address", "shape", "strides", "fast", "plain"),
    [
        (256, (128, 64), (256, 4), (ALONG, 0), ALONG),  # rows
        (256, (128, 64), (4, 512), (ACROSS, 1), ACROSS),  # columns: a transposed view
        (260, (128, 64), (4, 512), (ACROSS, 0), ACROSS),  # not on 16 bytes
        (256, (126, 64), (4, 512), (ACROSS, 0), ACROSS),  # a last vector would stand over the edge
        (256, (128, 64), (4, 516), (ACROSS, 0), ACROSS),  # the second column is not on 16 bytes
        (256, (128, 64), (512, 8), (ANY, 0), ALONG),  # every other column
        (256, (128, 64), (-256, 4), (ALONG, 0), ALONG),  # upside down
        (256, (128, 64), (0, 4), (ALONG, 0), ALONG),  # one row, again and again
        (256, (128, 64), (4, 0), (ACROSS, 1), ACROSS),  # one column, again and again
    ],
)
def test_the_variant_follows_from_how_an_operand_lies(address, shape, strides, fast, plain):
    """A's, and B's as the mirror image of it."""
    m = shape[0]
    c = at(1024, (m, m), (4 * m, 4))
    a, b = at(address, shape, strides), at(address, shape[::-1], strides[::-1])
    packed = product.pack(a, b, c)
    chosen = rungs.WARPTILE.variant(packed)
    assert (chosen["A_ORDER"], chosen["A_WIDE"]) == (chosen["B_ORDER"], chosen["B_WIDE"]) == fast
    assert rungs.TILE2D.variant(packed) == {"A_ORDER": plain, "B_ORDER": plain}
    for rung in RUNGS:
        assert rung.variant(packed) in list(rung.variants)


def test_rows_are_read_wide_by_vectorized_where_they_are_aligned():
    """It transposes 16 bytes at a time; warptile copies those numbers one by one."""
    packed = product.pack(
        at(256, (128, 64), (256, 4)), at(256, (64, 128), (512, 4)), at(0, (128, 128), (512, 4))
    )
    assert rungs.VECTORIZED.variant(packed) == {"A_ORDER": ALONG, "B_ORDER": ACROSS, "A_WIDE": 1, "B_WIDE": 1}
    assert rungs.WARPTILE.variant(packed) == {"A_ORDER": ALONG, "B_ORDER": ACROSS, "A_WIDE": 0, "B_WIDE": 1}


@pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.name)
def test_the_ladders_own_tiles_are_those_of_the_source(rung):
    """A kernel compiled by hand, without macros, is the ladder's; and they are not refused."""
    text = rung.path.read_text()
    for name, size in rung.tiles.items():
        assert f"#ifndef {name}\n#define {name} {size}\n" in text
    assert rung.refused(rung.tiles) is None


@pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.name)
def test_a_grid_covers_c(rung):
    """A block for each tile, the last ones over the edge, in one dimension."""
    rows, columns = rung.tile(rung.tiles)
    assert rung.grid(1, 1, rung.tiles) == (1, 1, 1)
    assert rung.grid(rows + 1, 3 * columns, rung.tiles) == (6, 1, 1)
    x, y, z = rung.grid(5_000_000, 7, rung.tiles)
    assert x * rows >= 5_000_000
    assert (y, z) == (1, 1)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"BM": 0}, "BM is 0, not a whole number from 1 to 1024"),
        ({"BM": "128"}, "BM is '128', not a whole number"),
        ({"BM": True}, "BM is True, not a whole number"),
        ({"BM": 96}, "BM is 96, not a multiple of WM, 64"),
        ({"TN": 6}, "TN is 6, not a multiple of 4"),
        ({"TM": 16}, "not 32 lanes'"),
        ({"BK": 512}, "bytes of shared memory, and has 49152"),
        ({"BK": 12}, "do not share a tile"),
        ({"WNITER": 16}, "not 32 lanes'"),
        ({"WM": 16, "WN": 128, "TM": 16, "WNITER": 1}, "an even number downwards"),
        ({"BM": 1024, "BN": 1024}, "threads"),
        ({"XX": 1}, "cuda-warptile has BM, BN"),
    ],
)
def test_absurd_tiles_are_refused_in_a_sentence(change, sentence):
    """Before anything is compiled."""
    said = rungs.WARPTILE.refused({**rungs.WARPTILE.tiles, **change})
    assert said is not None
    assert re.search(sentence, said), said
    assert "\n" not in said


def test_what_is_not_refused_compiles():
    """Other tile sizes that a tuning may try."""
    for change in (
        {"BK": 8},
        {"BM": 64, "BN": 64, "WM": 32, "WN": 32, "WNITER": 1},
        {"WM": 32, "WN": 64, "WNITER": 2},
        {"TM": 4, "TN": 4},
    ):
        tiles = {**rungs.WARPTILE.tiles, **change}
        assert rungs.WARPTILE.refused(tiles) is None, change
        for variant in ({"A_ORDER": ALONG, "B_ORDER": ACROSS, "B_WIDE": 1}, {"A_ORDER": ACROSS, "A_WIDE": 1}):
            built = build.build(rungs.WARPTILE.path, {**tiles, **variant}, "sm_90a")
            assert built.resources.shared == rungs.WARPTILE.held(tiles)


def test_ptxas_without_spills_and_without_shared_memory_is_read():
    """Its report, and one that does not name the function."""
    log = (
        "ptxas info    : 0 bytes gmem\nptxas info    : Compiling entry function 'gemm' for 'sm_90a'\n"
        "ptxas info    : Function properties for gemm\n"
        "    8 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads\n"
        "ptxas info    : Used 32 registers, used 0 barriers\n"
    )
    found = build.report_of(log, "gemm")
    assert found == build.Resources(registers=32, stack=8, spill_stores=12, spill_loads=16, shared=0)
    assert found.spills == 28
    with pytest.raises(build.Uncompilable, match="does not say what other takes"):
        build.report_of(log, "other")


def test_hopper_is_compiled_for_with_all_that_it_has():
    """wgmma and TMA are in sm_90a alone."""
    assert [build.architecture_of(c) for c in ((8, 0), (8, 9), (9, 0), (10, 0), (12, 0))] == [
        "sm_80", "sm_89", "sm_90a", "sm_100", "sm_120",
    ]  # fmt: skip


def test_every_source_is_part_of_a_kernels_hash(tmp_path):
    """The .cu file, its headers, and the Python that says how it is compiled and launched."""
    for kernel in gemm.kernels():
        if kernel.name.startswith("cuda-"):
            names = {Path(file).name for file in kernel.files()}
            assert {"product.cuh", "finish.cuh", "product.py", "rungs.py", "build.py", "launch.py"} <= names
            assert any(name.endswith(".cu") for name in names)
    sources = {kernel.source for kernel in gemm.kernels() if kernel.name.startswith("cuda-")}
    assert len(sources) == len(rungs.LADDER) - 1  # (cuda-bf16 and cuda-fp16 are one source)
