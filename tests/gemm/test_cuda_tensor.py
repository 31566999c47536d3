"""The tensor-core rungs without a GPU: index arithmetic by the ISA's tables, kernels on the CPU, machine code."""

import ctypes
import itertools
import shutil
import subprocess

import numpy as np
import pytest

from gemm import epilogue as epilogues
from gemm.cuda import build, rungs, tensor_map
from gemm.cuda.host import compiler, emulator
from gemm.cuda.product import FUNCTIONS, pack
from gemm.cuda.tensor_map import Matrix, why_not
from gemm.epilogue import Epilogue

TF32, BF16, FP16 = rungs.TF32, rungs.BF16, rungs.FP16
HOPPER = BF16.faster
NN, NT, TN, TT = itertools.product((False, True), repeat=2)
NAMES = {NN: "nn", NT: "nt", TN: "tn", TT: "tt"}

# ------------------------------------------------------------------------------------------- index arithmetic

WRAPPER = """
#include "half.cuh"
extern "C" {
#define PAIR(name) void name##_(int lane, int i, int *to) { At at = name(lane, i); to[0] = at.row; to[1] = at.column; }
PAIR(a_tf32) PAIR(b_tf32) PAIR(a_half) PAIR(b_half) PAIR(c_mma) PAIR(c_wgmma) PAIR(a_ldmatrix) PAIR(b_ldmatrix)
int in_tile_(int mn, int k, int along) { return in_tile(mn, k, along); }
int in_padded_(int mn, int k, int mns, int ks, int along) { return in_padded(mn, k, mns, ks, along); }
unsigned long long tile_(unsigned address, int along) { return tile_descriptor(address, along); }
unsigned long long moved_(unsigned long long tile, int bytes) { return moved(tile, bytes); }
int step_(int along) { return step_bytes(along); }
void raster_(int i, int rows, int columns, int group, int *to) {
    At at = raster(i, rows, columns, group);
    to[0] = at.row, to[1] = at.column;
}
unsigned tf32_(float x) { return to_tf32(x); }
unsigned short bfloat16_(float x) { return bfloat16(x).bits; }
unsigned short float16_(float x) { return float16(x).bits; }
float from_float16_(unsigned short bits) { float16 h; h.bits = bits; return h; }
}
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """tensor.cuh, compiled by a C++ compiler."""
    return compiled(tmp_path_factory.mktemp("tensor"), rungs.SOURCE)


def compiled(folder, source):
    wrapper, made = folder / "wrapper.cpp", folder / "wrapper.so"
    wrapper.write_text(WRAPPER)
    if compiler.reason():
        pytest.skip(compiler.reason())
    words = [
        compiler._compiler()[0],
        "-std=c++17",
        "-O1",
        "-shared",
        "-fPIC",
        f"-I{source}",
        wrapper,
        "-o",
        made,
    ]
    subprocess.run([str(word) for word in words], check=True)
    library = ctypes.CDLL(str(made))
    library.tile_.restype = library.moved_.restype = ctypes.c_uint64
    library.moved_.argtypes = [ctypes.c_uint64, ctypes.c_int]
    library.tf32_.argtypes = library.bfloat16_.argtypes = library.float16_.argtypes = [ctypes.c_float]
    library.tf32_.restype, library.from_float16_.restype = ctypes.c_uint32, ctypes.c_float
    library.bfloat16_.restype = library.float16_.restype = ctypes.c_uint16
    library.from_float16_.argtypes = [ctypes.c_uint16]
    return library


def at(function, *numbers):
    pair = (ctypes.c_int * 2)()
    function(*numbers, pair)
    return pair[0], pair[1]


# PTX ISA, "Matrix Fragments for ...": row and column of element i of a lane, in its words.
def _groups(lane):
    return lane >> 2, lane % 4  # groupID, threadID_in_group


def _a_tf32(lane, i):
    group, inside = _groups(lane)
    return (group if i in (0, 2) else group + 8), (inside if i in (0, 1) else inside + 4)


def _b_tf32(lane, i):
    group, inside = _groups(lane)
    return (inside if i == 0 else inside + 4), group


def _a_half(lane, i):
    group, inside = _groups(lane)
    row = group if 0 <= i < 2 or 4 <= i < 6 else group + 8
    return row, inside * 2 + (i & 1) + (0 if i < 4 else 8)


def _b_half(lane, i):
    group, inside = _groups(lane)
    return inside * 2 + (i & 1) + (0 if i < 2 else 8), group


def _c(lane, i):
    group, inside = _groups(lane)
    return (group if i < 2 else group + 8), inside * 2 + (i & 1)


def _c_wgmma(thread, i):
    # "Register Fragments": D of m64nNk16; a warp has 16 rows; i: pairs of columns, rows, eights of columns
    group, inside = _groups(thread % 32)
    return 16 * (thread // 32) + group + 8 * (i // 2 % 2), i // 4 * 8 + inside * 2 + (i & 1)


FRAGMENTS = {
    "a_tf32": (_a_tf32, 32, 4, (16, 8)),
    "b_tf32": (_b_tf32, 32, 2, (8, 8)),
    "a_half": (_a_half, 32, 8, (16, 16)),
    "b_half": (_b_half, 32, 4, (16, 8)),
    "c_mma": (_c, 32, 4, (16, 8)),
    "c_wgmma": (_c_wgmma, 128, 128, (64, 256)),
}


@pytest.mark.parametrize("name", FRAGMENTS)
def test_fragments_are_where_the_isa_says_and_hold_each_element_once(host, name):
    table, threads, count, shape = FRAGMENTS[name]
    function = getattr(host, f"{name}_")
    found = {(lane, i): at(function, lane, i) for lane in range(threads) for i in range(count)}
    assert found == {key: table(*key) for key in found}
    assert sorted(found.values()) == sorted(np.ndindex(*shape))


@pytest.mark.parametrize("along", [True, False])
@pytest.mark.parametrize("operand", ["a", "b"])
def test_ldmatrix_brings_the_fragments_that_mma_wants(host, operand, along):
    """Lane 8 i + r names row r of matrix i; lane l has row l / 4, columns 2 (l % 4), + 1 (.trans: of its transpose)."""
    function = getattr(host, f"{operand}_ldmatrix_")
    for lane, i, e in itertools.product(range(32), range(4), range(2)):
        row, column = (lane // 4, 2 * (lane % 4) + e) if along else (2 * (lane % 4) + e, lane // 4)
        first_row, first_column = at(function, 8 * i + row, int(along))
        # the 8 neighbours in memory are along k: A's columns and B's rows, if `along`
        sideways = along == (operand == "a")
        element = (first_row, first_column + column) if sideways else (first_row + column, first_column)
        if operand == "a":
            assert element == _a_half(lane, 2 * i + e)
        else:
            k, n = _b_half(lane, 2 * (i % 2) + e)
            assert element == (k, n + 8 * (i // 2))


@pytest.mark.parametrize("along", [True, False])
def test_a_swizzled_tile_has_a_place_for_each_element_and_no_bank_twice(host, along):
    places = {(mn, k): host.in_tile_(mn, k, along) for mn in range(128) for k in range(64)}
    assert sorted(places.values()) == list(range(0, 128 * 64 * 2, 2))
    # the eight rows of one of ldmatrix' matrices
    for mn, k in itertools.product(range(0, 128, 8), range(0, 64, 8)):
        rows = [places[mn + i, k] if along else places[mn, k + i] for i in range(8)]
        assert sorted(row // 16 % 8 for row in rows) == list(range(8))
        assert all(row % 16 == 0 for row in rows)


@pytest.mark.parametrize("along", [True, False])
@pytest.mark.parametrize(("fragment", "count"), [("a_tf32", 4), ("b_tf32", 2)])
def test_a_padded_tile_gives_a_fragment_from_32_banks(host, along, fragment, count):
    for i in range(count):
        words = []
        for lane in range(32):
            row, column = at(getattr(host, f"{fragment}_"), lane, i)
            mn, k = (row, column) if fragment[0] == "a" else (column, row)
            words.append(host.in_padded_(mn, k, 128, 16, along))
        assert sorted(word % 32 for word in words) == list(range(32))
    places = {host.in_padded_(mn, k, 128, 16, along) for mn in range(128) for k in range(16)}
    assert len(places) == 128 * 16
    assert max(places) < 128 * 16 + max(4 * 128, 8 * 16)


@pytest.mark.parametrize("along", [True, False])
def test_a_descriptor_says_where_the_tile_is(host, along):
    """PTX ISA, "Matrix Descriptor Format": 14 bits each of address, leading and stride offset, in units of 16 bytes."""
    for address in (0, 1024, 200 * 1024):
        for step in range(4):
            tile = host.moved_(host.tile_(address, along), step * host.step_(along))
            start, leading, stride = ((tile >> shift & 0x3FFF) << 4 for shift in (0, 16, 32))
            assert tile >> 62 == 1
            assert tile & ~(0x3FFF | 0x3FFF << 16 | 0x3FFF << 32 | 3 << 62) == 0
            for mn, k in itertools.product(range(0, 64 if along else 128), range(16)):
                plain = (
                    start + mn // 8 * stride + mn % 8 * 128 + 2 * k
                    if along
                    else start + mn // 64 * leading + k // 8 * stride + k % 8 * 128 + mn % 64 * 2
                )
                assert (plain ^ (plain >> 7 & 7) << 4) == address + host.in_tile_(mn, 16 * step + k, along)


@pytest.mark.parametrize(
    ("rows", "columns", "group"), [(1, 1, 8), (7, 5, 3), (3, 9, 8), (16, 4, 8), (17, 13, 1)]
)
def test_the_raster_visits_every_tile_once(host, rows, columns, group):
    seen = [at(host.raster_, i, rows, columns, group) for i in range(rows * columns)]
    assert sorted(seen) == sorted(np.ndindex(rows, columns))
    assert {row for row, _ in seen[: group * columns]} == set(range(min(group, rows)))


def test_16_bit_formats_round_as_numpy_and_the_isa_do(host):
    halves = np.arange(2**16, dtype=np.uint16)
    values = halves.view(np.float16).astype(np.float32)
    ours = np.array([host.from_float16_(int(bits)) for bits in halves], np.float32)
    assert np.array_equal(ours, values, equal_nan=True)
    drawn = np.random.default_rng(1).integers(0, 2**32, 20000, dtype=np.uint32).view(np.float32)
    edges = np.float32(
        [0, -0.0, 65504, 65519.996, 65520, 2**-24, 2**-25, 3 * 2**-26, 2**-14 - 2**-26, 1e38, np.inf]
    )
    for x in np.concatenate([drawn, edges, -edges, values[::7]]):
        if np.isnan(x):
            continue
        bits = int(np.float32(x).view(np.uint32))
        with np.errstate(over="ignore"):
            assert host.float16_(x) == np.float32(x).astype(np.float16).view(np.uint16)
        assert host.bfloat16_(x) == (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
        if np.isfinite(x):
            tf32 = np.uint32(host.tf32_(x)).view(np.float32)
            assert host.tf32_(x) % 2**13 == 0
            assert abs(float(tf32) - float(x)) <= abs(float(x)) * 2**-11 or abs(x) < 2**-126 or np.isinf(tf32)
    assert np.float32(1 + 2**-11).view(np.uint32) + 0x1000 == host.tf32_(1 + 2**-11)  # a tie: away from zero


# ---------------------------------------------------------------------------------------------- kernels on the CPU


def to_bfloat16(x):
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def from_bfloat16(x):
    return (x.astype(np.uint32) << 16).view(np.float32)


def codec(rung):
    """From float32 to the rung's dtype and back; bfloat16 as its bits."""
    if rung.signatures[0].input == "bfloat16":
        return to_bfloat16, from_bfloat16
    dtype = np.dtype(rung.signatures[0].input)
    return (lambda x: x.astype(dtype)), (lambda x: x.astype(np.float32))


def stored(values, encode, transposed, gap=0, offset=0):
    """The values in memory of their own, rows `gap` elements further apart than need be, as a view."""
    inner = encode(values.T if transposed else values)
    memory = np.zeros(offset + inner.shape[0] * (inner.shape[1] + gap) + 64, inner.dtype)
    memory = memory[-memory.ctypes.data % 64 // memory.itemsize + offset :]
    strides = ((inner.shape[1] + gap) * inner.itemsize, inner.itemsize)
    view = np.lib.stride_tricks.as_strided(memory, inner.shape, strides)
    view[...] = inner
    return view.T if transposed else view


def run(
    rung, m, n, k, transposes=NN, *, tiles=None, gap=0, offset=0, alpha=1.0, beta=0.0, epilogue=None, source=None,
    processors=3, seed=0,
):  # fmt: skip
    """A product of small integers by a rung on the CPU, and what it must be: both in float32."""
    random = np.random.default_rng(seed)
    encode, decode = codec(rung)
    a, b, c = (random.integers(-3, 4, shape).astype(np.float32) for shape in ((m, k), (k, n), (m, n)))
    in_a, in_b = (stored(x, encode, t, gap, offset) for x, t in zip((a, b), transposes))
    out = stored(c if beta else np.full_like(c, np.nan), encode, False, gap, offset)
    given, parts = {}, epilogue or {}
    for name, shape in (("bias", (n,)), ("aux_out", (m, n)), ("aux_in", (m, n))):
        if name in parts:
            given[name] = encode(random.integers(-3, 4, shape).astype(np.float32))
    fused = Epilogue(**{**parts, **given}) if epilogue else None
    product = pack(in_a, in_b, out, alpha, beta, fused)
    memory = [emulator.Memory(name, x, name == "C") for name, x in (("A", in_a), ("B", in_b), ("C", out))]
    memory += [emulator.Memory(name, x, name == "aux_out") for name, x in given.items()]
    sizes = {**rung.tiles, **(tiles or {})}
    if source is None:
        emulator.launch(rung, product, sizes, memory=memory, seed=seed, processors=processors)
    else:
        emulator.Emulated(source / rung.file, rung.macros(product, sizes)).launch(
            rung.argument(product, sizes, emulator.tensor_map), rung.grid(m, n, sizes, processors),
            rung.block(sizes), rung.shared_bytes(sizes), memory=memory, seed=seed,
        )  # fmt: skip
    want = np.float32(alpha) * (a @ b) + np.float32(beta) * c
    if fused:
        own = Epilogue(**{**parts, **{name: decode(x) for name, x in given.items()}})
        epilogues.apply(own, want)
        if "aux_out" in given:
            assert np.array_equal(decode(given["aux_out"]), decode(encode(own.aux_out)))
    return decode(np.ascontiguousarray(out)), decode(encode(want))


def exact(*arguments, **named):
    got, want = run(*arguments, **named)
    return np.array_equal(got, want)


needs_a_compiler = pytest.mark.skipif(bool(compiler.reason()), reason=str(compiler.reason()))
RUNGS = [TF32, BF16, FP16, HOPPER, FP16.faster]


@needs_a_compiler
@pytest.mark.parametrize("transposes", NAMES, ids=NAMES.get)
@pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.name)
def test_every_order_of_the_operands(rung, transposes):
    assert exact(rung, 136, 72, 144, transposes)


@needs_a_compiler
@pytest.mark.parametrize("rung", [TF32, BF16, FP16], ids=lambda rung: rung.name)
@pytest.mark.parametrize("transposes", [NN, TT], ids=NAMES.get)
def test_rows_that_begin_anywhere(rung, transposes):
    assert exact(rung, 131, 67, 77, transposes, gap=3, offset=1, beta=1.0)


SIZES = [(1, 8, 8), (1, 24, 304), (129, 8, 16), (16, 264, 8), (128, 128, 64)]


@needs_a_compiler
@pytest.mark.parametrize("rung", [TF32, BF16, HOPPER], ids=lambda rung: rung.name)
@pytest.mark.parametrize("size", [*SIZES, (1, 1, 1), (3, 1, 300)], ids=str)
def test_sizes_around_a_tile_and_far_below(rung, size):
    if size in SIZES:
        assert exact(rung, *size)
    else:
        assert exact(BF16 if rung is HOPPER else rung, *size)  # (not rows of 16 bytes)


@needs_a_compiler
@pytest.mark.parametrize(
    ("rung", "parts"),
    [
        (TF32, {"bias": 1, "activation": "relu", "aux_out": 1}),
        (BF16, {"bias": 1, "activation": "relu", "aux_out": 1}),
        (FP16, {"grad_of": "relu", "aux_in": 1}),
        (HOPPER, {"bias": 1, "activation": "leaky-relu", "aux_out": 1}),
        (HOPPER, {"grad_of": "relu", "aux_in": 1}),
    ],
    ids=lambda value: getattr(value, "name", None) or "-".join(map(str, value)),
)
def test_alpha_beta_and_epilogues(rung, parts):
    assert exact(rung, 70, 104, 72, alpha=0.5, beta=2.0, epilogue=parts)
    if rung is not HOPPER:
        assert exact(rung, 70, 101, 72, TN, beta=1.0, gap=3, epilogue=parts)


@needs_a_compiler
@pytest.mark.parametrize("rung", [BF16, HOPPER], ids=lambda rung: rung.name)
@pytest.mark.parametrize(
    "asked",
    [
        {"alpha": 0.5},
        {"beta": 2.0},
        {"epilogue": {"bias": 1}},
        {"epilogue": {"aux_out": 1}},
        {"epilogue": {"activation": "relu"}},
        {"epilogue": {"grad_of": "relu", "aux_in": 1}},
    ],
    ids=lambda asked: next(iter(asked.get("epilogue", asked))),
)
def test_whole_tiles_have_a_shorter_end_only_where_nothing_but_alpha_is_asked_for(rung, asked):
    assert exact(rung, 128, 256, 72, **asked)


@needs_a_compiler
@pytest.mark.parametrize("tiles", [{"STAGES": 2}, {"BN": 128, "STAGES": 3}], ids=str)
def test_a_persistent_block_takes_tile_after_tile(tiles):
    assert exact(HOPPER, 300, 520, 200, tiles=tiles, processors=2)


@needs_a_compiler
@pytest.mark.parametrize("transposes", NAMES, ids=NAMES.get)
def test_two_blocks_of_a_cluster_fetch_halves_of_b_for_each_other(transposes):
    assert exact(
        HOPPER, 136, 264, 200, transposes, tiles={"CLUSTER": 2, "BN": 128, "STAGES": 3}, processors=2
    )


def test_where_the_copy_engine_cannot_go_the_other_kernel_does():
    def product(n, offset=0):
        a, b, c = (
            np.zeros((16, 16), np.uint16),
            np.zeros((16, n + 8), np.uint16),
            np.zeros((16, n), np.uint16),
        )
        return pack(a, b[:, offset : n + offset], c)

    assert BF16.fitting(product(16), (9, 0)) is HOPPER
    assert BF16.fitting(product(16), (8, 0)) is BF16
    assert BF16.fitting(product(16), (10, 0)) is BF16
    assert BF16.fitting(product(15), (9, 0)) is BF16
    assert BF16.fitting(product(16, 1), (9, 0)) is BF16
    assert "B: it begins 2 bytes past" in HOPPER.refusal(product(16, 1))


# ------------------------------------------------------------------------------------------------- planted mistakes

# rung, file, what is right in it, and what is planted in its place
MISTAKES = {
    "a fragment's row": (
        TF32,
        "tensor.cuh",
        "lane / 4 + i % 2 * 8, lane % 4 + i / 2",
        "lane / 4 + i % 2 * 7, lane % 4 + i / 2",
    ),
    "ldmatrix' column": (
        BF16,
        "tensor.cuh",
        "At{lane % 16, lane / 16 * 8} : At{",
        "At{lane % 16, lane / 16 * 4} : At{",
    ),
    "a tile's edge": (TF32, "tf32.cu", "p.m - row, p.k - k)", "p.m - row, p.k - k + 1)"),
    "a wrong stride": (BF16, "half.cu", "p.b_column, p.b_row,", "p.b_row, p.b_row,"),
    "a missing barrier": (TF32, "tf32.cu", "        __syncthreads(); ", "        //"),
    "a wait too short": (BF16, "half.cu", "copies_wait<STAGES - 2>", "copies_wait<STAGES - 1>"),
    "a row of C too many": (BF16, "run.cuh", "if (row >= p.m", "if (row > p.m"),
    "wgmma's next 16": (
        HOPPER,
        "tensor.cuh",
        "return along_k ? 32 : 16 * 128;",
        "return along_k ? 64 : 16 * 128;",
    ),
    "a panel's distance": (HOPPER, "tensor.cuh", "along_k ? 16 : PANEL, 1024", "along_k ? 16 : 1024, PANEL"),
    "a slot released too early": (HOPPER, "hopper.cu", "if (step > 0) release(before);", "release(slot.at);"),
    "a wrong parity": (HOPPER, "hopper.cu", "slot.parity ^ 1", "slot.parity"),
    "bytes that never come": (HOPPER, "hopper.cu", "A_BYTES + B_BYTES);", "A_BYTES + B_BYTES + 16);"),
    "a short end over the edge": (HOPPER, "run.cuh", "p.m - row >= ROWS", "p.m - row >= 1"),
    "a pair turned round": (
        HOPPER,
        "half.cuh",
        "Half(first).bits | unsigned(Half(second)",
        "Half(second).bits | unsigned(Half(first)",
    ),
    "columns traded wrongly": (HOPPER, "run.cuh", "upper ? low : high, bit", "upper ? high : low, bit"),
}


@needs_a_compiler
@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_is_found(name, tmp_path):
    rung, file, right, wrong = MISTAKES[name]
    for path in rungs.SOURCE.iterdir():
        shutil.copy(path, tmp_path)
    source = (tmp_path / file).read_text()
    assert source.count(right) >= 1, "the mistake has nowhere to be planted any more"
    (tmp_path / file).write_text(source.replace(right, wrong))
    tiles = {"STAGES": 2} if rung is HOPPER else None
    try:
        good = exact(
            rung, 130, 264, 200, TN if name == "a wrong stride" else NN, source=tmp_path, tiles=tiles
        )
    except emulator.DeviceFault:
        good = False
    assert not good


# ------------------------------------------------------------------------------------------------------ machine code

needs_nvrtc = pytest.mark.skipif(
    not build.libraries(), reason="NVRTC is not here (pip install nvidia-cuda-nvrtc)"
)


@needs_nvrtc
@pytest.mark.parametrize(
    "order", [(rungs.ALONG, rungs.ACROSS), (rungs.ACROSS, rungs.ALONG)], ids=["rows", "columns"]
)
@pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.name)
def test_no_register_is_spilled(rung, order):
    for macros in rung.variants:
        same = macros.get("A_WIDE", 1) == macros.get("B_WIDE", 1)
        if (macros["A_ORDER"], macros["B_ORDER"]) != order or not same:
            continue
        for architecture in ("sm_80", "sm_90a") if macros.get("A_WIDE") else (rung.since,):
            made = build.build(rung.path, {**rung.tiles, **macros}, architecture)
            assert made.resources.spills == 0
            assert made.resources.stack == 0
            threads = int(np.prod(rung.block(rung.tiles)))
            assert made.resources.registers * threads <= 65536


@needs_nvrtc
@pytest.mark.parametrize("cluster", [1, 2])
def test_hopper_multiplies_by_wgmma_and_the_assembler_does_not_complain(cluster):
    """C7508 would say that setmaxnreg is ignored, C7510 that wgmma's products wait for each other."""
    macros = {**HOPPER.tiles, **HOPPER.variants[0], "CLUSTER": cluster}
    options = [f"-D{name}={value}" for name, value in macros.items()]
    options += [*build.OPTIONS, f"--include-path={rungs.SOURCE}"]
    _, log = build.compiler().compile(HOPPER.path, [*options, "--gpu-architecture=sm_90a"], "sm_90a")
    assert "C75" not in log
    assert "warning" not in log.lower()
    assert build.report_of(log, "gemm").registers == 168  # of each thread before setmaxnreg: 65536 / 384


# ------------------------------------------------------------------------------------------------------ tensor maps


def test_the_record_of_hoppers_argument_is_laid_out_as_the_struct():
    assert tensor_map.ARGUMENTS.itemsize == 448
    assert all(tensor_map.ARGUMENTS.fields[name][1] % 64 == 0 for name in ("map_a", "map_b"))


@pytest.mark.parametrize(
    ("matrix", "box", "says"),
    [
        (Matrix(4096, 64, 10, 128), (64, 128), None),
        (Matrix(4096, 61, 10, 128), (64, 128), None),
        (Matrix(4096, 64, 10, 128), (64, 256), None),
        (Matrix(4096, 64, 10, 128), (64, 257), "at most 256"),
        (Matrix(4096, 64, 10, 128), (128, 64), "256 bytes"),
        (Matrix(4104, 64, 10, 128), (64, 64), "8 bytes past a boundary"),
        (Matrix(4096, 64, 10, 136), (64, 64), "136 bytes apart"),
        (Matrix(4096, 64, 10, 0), (64, 64), "overlapping"),
        (Matrix(4096, 64, 10, -128), (64, 64), "overlapping"),
        (Matrix(4096, 64, 10, 2**40), (64, 64), "too far"),
        (Matrix(4096, 64, 10, 128, 2), (64, 64), "2 elements apart"),
        (Matrix(4096, 64, 2**32 + 1, 128), (64, 64), "from 1 to 2^32"),
    ],
)
def test_the_copy_engines_rules_are_said_in_a_sentence(matrix, box, says):
    reason = why_not(matrix, box)
    assert reason is None if says is None else says in reason


def test_a_single_line_may_have_any_stride():
    a, b, c = np.zeros((1, 16), np.uint16), np.zeros((16, 24), np.uint16), np.zeros((1, 24), np.uint16)
    product = pack(a, b, c)
    product["a_row"] = 3
    assert HOPPER.refusal(product) is None


def test_each_activation_is_a_variant():
    c = np.zeros((8, 8), np.uint16)
    product = pack(c, c, np.zeros_like(c), epilogue=Epilogue(activation="gelu"))
    assert BF16.variant(product)["FUNCTION"] == HOPPER.variant(product)["FUNCTION"] == FUNCTIONS["gelu"]
