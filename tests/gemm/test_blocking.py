"""Block sizes: what the model makes of caches, and what a tuning file may say."""

import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

import gemm
from gemm import configuration, processor
from gemm.micro import blocking, job, tuning
from gemm.micro.blocking import Blocks
from gemm.micro.host import BYTES, Tile, tile

KiB, MiB = 1 << 10, 1 << 20
# caches in bytes, bytes of a vector, registers
HOSTS = {
    "Zen 4": ({"L1d": 32 * KiB, "L2": MiB, "L3": 32 * MiB}, 64, 32),
    "Haswell": ({"L1d": 32 * KiB, "L2": 256 * KiB, "L3": 8 * MiB}, 32, 16),
    "Golden Cove": ({"L1d": 48 * KiB, "L2": 2 * MiB, "L3": 36 * MiB}, 32, 16),
    "Apple": ({"L1d": 128 * KiB, "L2": 12 * MiB}, 16, 32),
    "unknown": ({}, 16, 16),
    "tiny": ({"L1d": 4 * KiB, "L2": 8 * KiB, "L3": 0}, 64, 32),
}


def of(host, dtype):
    """The tile and the caches of a host; the tile as host.tile derives it."""
    caches, size, registers = HOSTS[host]
    return Tile(dtype, size // BYTES[dtype], (registers - 3) // 2, 2, registers, True), caches


def test_a_zen_4_gets_what_was_found_by_hand():
    """4 MiB of packed B at most, half of L2 for what is read as it lies."""
    assert blocking.model(*of("Zen 4", "float32")) == Blocks(512 * KiB, 1024, 1024, MiB, 280, 1_000_000)
    assert blocking.model(*of("Zen 4", "float64")) == Blocks(512 * KiB, 512, 1024, MiB, 280, 1_000_000)


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("host", HOSTS)
def test_every_block_lies_in_its_cache(host, dtype):
    """Whole tiles, a depth that neither C nor L2 suffers from, and a workspace of a few MiB."""
    shape, caches = of(host, dtype)
    blocks, unit = blocking.model(shape, caches), BYTES[dtype]
    assert blocking.refused(blocks._asdict(), dtype) is None
    assert (blocks.columns % shape.columns, blocks.depth % 8) == (0, 0)
    assert blocking.workspace(blocks, shape) <= 6 * MiB
    if host not in ("unknown", "tiny"):
        assert 256 <= blocks.depth <= 1024
        strips = (shape.rows + shape.columns) * blocks.depth * unit
        assert strips + blocks.near <= 3 / 4 * caches["L2"]
        assert blocks.columns * blocks.depth * unit <= caches.get("L3", 32 * MiB) // 4
        assert blocks.columns >= 8 * shape.columns


def test_larger_caches_never_make_smaller_blocks_of_b():
    """In elements."""
    shape, caches = of("Haswell", "float32")
    small, large = (blocking.model(shape, caches | {"L3": size * MiB}) for size in (4, 64))
    assert small.columns < large.columns


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("depth", [8, 13, 1000, 2048])
def test_no_product_asks_for_more_than_the_workspace(dtype, depth):
    """Up to whole pages, where B is packed or A and B are; so what `refused` allows is what a thread gets."""
    shape, before = tile(dtype), blocking.used().get(dtype)
    blocks = Blocks(4096, 3 * shape.columns + 5, depth, 1, 1, 10**6)
    try:
        blocking.use(dtype, blocks)
        b, c = np.empty((3000, 600), dtype), np.empty((128, 600), dtype)
        left = np.empty((128, 3000), dtype), np.empty((3000, 128), dtype).T
        asked = [gemm.prepare(a, b, c, kernel="numba-micro").words[job.SPACE] for a in left]
    finally:
        blocking.use(dtype, before or blocking.chosen(dtype))
    allowed = blocking.workspace(blocks, shape)
    assert all(allowed / 2 < space <= allowed + 4095 for space in asked), (asked, allowed)


def test_nothing_of_the_machine_is_read_when_gemm_is_imported(tmp_path):
    """Neither its caches nor the tuning file: a damaged one is no news before the first product."""
    file = tmp_path / "tuning.json"
    file.write_text("{")
    code = "import gemm, gemm.micro.blocking, gemm.ladder.numba_micro"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=os.environ | {tuning.FILE.variable: str(file)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


# --- the file


@pytest.fixture
def file(monkeypatch, tmp_path):
    """A tuning file of this test's own, not there yet; what was read before is forgotten."""
    monkeypatch.setenv(tuning.FILE.variable, str(tmp_path / "tuning.json"))
    tuning.tuned.cache_clear()
    yield tmp_path / "tuning.json"
    tuning.tuned.cache_clear()


SIZES = {"near": 4096, "columns": 64, "depth": 40, "in_place": 1, "few_rows": 1, "worth_a_thread": 10**6}


def entry(**changed):
    return {"cpu": tuning.cpu(), "date": "2026-01-31T12:00:00Z", "blocks": {"float32": SIZES}} | changed


def whole(*entries, **changed):
    return json.dumps({"gemmlab": "tuning", "schema": tuning.FILE.schema, "entries": [*entries]} | changed)


def test_the_entry_of_this_processor_is_used(file):
    """Whatever other machines have theirs in the same file; a dtype without has the model's."""
    other = entry(blocks={"float32": SIZES | {"near": 8192}}, cpu=tuning.cpu() | {"stepping": "other"})
    file.write_text(whole(other, entry(), other))
    assert blocking.chosen("float32") == Blocks(**SIZES)
    assert blocking.chosen("float64") == blocking.model(tile("float64"))
    assert blocking.origin("float64") == "model"
    assert gemm.get("numba-micro").tuning("float32") == blocking.origin("float32")
    assert len(blocking.origin("float32")) == 12


def test_other_block_sizes_have_another_name(file):
    """So that records of two tunings are told apart."""
    names = set()
    for near in (4096, 8192):
        file.write_text(whole(entry(blocks={"float32": SIZES | {"near": near}})))
        tuning.tuned.cache_clear()
        names.add(blocking.origin("float32"))
    assert len(names) == 2


def with_sizes(**changed):
    return lambda: whole(entry(blocks={"float32": SIZES | changed}))


FAULTS = {
    "cut short": (lambda: whole(entry())[:-9], "damaged, not JSON"),
    "not text": (lambda: "\0\1\2", "damaged, not JSON"),
    "nested without end": (lambda: "[" * 100_000, "damaged, not JSON"),
    "endless": (lambda: " " * (tuning.FILE.longest + 1), "is longer than any tuning file"),
    "another file": (lambda: '{"depth": 512}', "no tuning file of gemmlab's"),
    "another version": (lambda: whole(entry(), schema=2), "of schema 2, and this gemmlab reads 1"),
    "no entries": (lambda: whole(entry(), entries={}), "without a list of entries"),
    "no blocks": (lambda: whole(entry(blocks=3)), "an entry without block sizes"),
    "another dtype": (lambda: whole(entry(blocks={"int8": SIZES})), "block sizes for 'int8'"),
    "another processor": (
        lambda: whole(entry(cpu=tuning.cpu() | {"model": "none"})),
        "no block sizes for this processor; `gemmlab tune` finds them",
    ),
    "other caches": (
        lambda: whole(entry(cpu=tuning.cpu() | {"caches": {"L1d": 1}})),
        "no block sizes for this processor",
    ),
    "zero": (with_sizes(near=0), "near is 0, no whole number"),
    "negative": (with_sizes(in_place=-1), "in_place is -1, no whole number"),
    "not a number": (with_sizes(columns="many"), "columns is 'many', no whole number"),
    "NaN": (with_sizes(columns=float("nan")), "columns is nan, no whole number"),
    "true": (with_sizes(columns=True), "columns is True, no whole number"),
    "half": (with_sizes(columns=64.5), "columns is 64.5, no whole number"),
    "huge": (with_sizes(few_rows=1 << 62), "few_rows is 4611686018427387904, no whole number"),
    "deep": (with_sizes(depth=10**6), "depth is 1000000, more than 2048"),
    "too much space": (with_sizes(columns=1 << 24), "a thread's workspace would be"),
    "a size of an earlier kernel's": (
        lambda: whole(
            entry(blocks={"float32": {"rows": 224} | {k: v for k, v in SIZES.items() if k != "near"}})
        ),
        "they name rows, columns, depth, in_place, few_rows, worth_a_thread, not near, columns",
    ),
    "a size more": (with_sizes(height=3), "they name near, columns"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_cannot_be_used_is_ignored_with_one_line(file, fault):
    """The model's block sizes are used, and nothing is said twice."""
    text, sentence = FAULTS[fault]
    file.write_text(text())
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert blocking.chosen("float32") == blocking.model(tile("float32"))
        assert blocking.origin("float64") == "model"
    (warning,) = said
    message = str(warning.message)
    assert message.startswith(f"tuning file ignored: {file}: ")
    assert sentence in message
    assert "\n" not in message


def test_a_file_that_is_named_and_missing_is_said(file):
    """One that is only looked for is not."""
    with pytest.warns(UserWarning, match="does not exist"):
        assert tuning.tuned() == {}


def test_without_a_file_nothing_is_said(monkeypatch, tmp_path):
    """In the user's config folder, which XDG_CONFIG_HOME may name; and `off` looks nowhere."""
    monkeypatch.delenv(tuning.FILE.variable, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert tuning.FILE.path() == tmp_path / "gemmlab" / "tuning.json"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tuning.tuned.cache_clear()
        assert tuning.tuned() == {}
        monkeypatch.setenv(tuning.FILE.variable, configuration.OFF)
        (tmp_path / "gemmlab").mkdir()
        (tmp_path / "gemmlab" / "tuning.json").write_text("{")
        tuning.tuned.cache_clear()
        assert tuning.FILE.path() is None
        assert tuning.tuned() == {}
    tuning.tuned.cache_clear()


def test_the_processor_is_named_on_arm_too(monkeypatch, tmp_path):
    """Where the same things have other names; and where nothing is known, nothing is raised."""
    monkeypatch.setattr(processor, "PROC", tmp_path)
    assert processor.identity()["vendor"] is None
    (tmp_path / "cpuinfo").write_text(
        "processor\t: 0\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x1\nCPU part\t: 0xd40\n\n"
    )
    assert {**processor.identity(), "architecture": None} == {
        "architecture": None, "vendor": "0x41", "family": "8", "model": "0xd40", "stepping": "0x1",
    }  # fmt: skip


PRODUCT = """
import sys, numpy as np, gemm
from gemm.micro import blocking
rng = np.random.default_rng(0)
for dtype in ("float32", "float64"):
    a, b = (rng.integers(-8, 9, shape).astype(dtype) for shape in ((150, 333), (333, 200)))
    expected = a @ b
    for x, y in ((a, b), (np.asfortranarray(a), b), (a, np.asfortranarray(b))):
        assert (gemm.matmul(x, y, kernel="numba-micro") == expected).all(), dtype
print(blocking.used()["float32"].near, blocking.origin("float32"))
"""


def test_a_process_multiplies_with_the_files_block_sizes(file):
    """Small ones, so that a product has many blocks in each direction; the result is exact all the same."""
    file.write_text(whole(entry(blocks={"float32": SIZES, "float64": SIZES})))
    done = subprocess.run([sys.executable, "-W", "error", "-c", PRODUCT], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.split() == ["4096", blocking.origin("float32")]


def test_block_sizes_in_use_are_known():
    """Those that `use` set, for products bound from then on."""
    a = np.ones((40, 40), np.float32)
    gemm.matmul(a, a, kernel="numba-micro")
    kept = blocking.used()["float32"]
    try:
        blocking.use("float32", Blocks(**SIZES))
        assert blocking.used()["float32"] == Blocks(**SIZES) != kept
        assert (gemm.matmul(a, a, kernel="numba-micro") == 40).all()
    finally:
        blocking.use("float32", kept)
