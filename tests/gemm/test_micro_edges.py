"""What a review of numba-micro asked: places where it could have been silently wrong."""

import threading

import numpy as np
import pytest

import gemm
from gemm.micro import blocking, dot, host, sweep, tile
from gemm.micro.product import HUB

NAME = "numba-micro"


@pytest.fixture
def block_sizes():
    """Block sizes that a test may change."""
    gemm.matmul(np.ones((2, 2), np.float32), np.ones((2, 2), np.float32), kernel=NAME)
    before = blocking.used()["float32"]
    yield before
    blocking.use("float32", before)


@pytest.mark.parametrize("depth", [8, 64, 1024])
@pytest.mark.parametrize(
    ("m", "k", "n"), [(1, 64, 32), (2, 64, 16), (16, 64, 32), (64, 64, 64), (17, 40, 33)]
)
def test_the_short_way_and_the_long_way_give_the_same_bits(block_sizes, depth, m, k, n):
    """matmul settles small products by itself, prepare by the plan: whatever depth was tuned."""
    blocking.use("float32", block_sizes._replace(depth=depth))
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape, np.float32) for shape in ((m, k), (k, n)))
    prepared = np.empty((m, n), np.float32)
    gemm.prepare(a, b, prepared, kernel=NAME)()
    assert np.array_equal(gemm.matmul(a, b, kernel=NAME), prepared)
    windows = np.lib.stride_tricks.sliding_window_view(rng.standard_normal(k + n - 1, np.float32), n)
    gemm.prepare(a, windows, prepared, kernel=NAME)()
    assert np.array_equal(gemm.matmul(a, windows, kernel=NAME), prepared)


def test_shapes_that_do_not_fit_are_said_before_memory_is_asked_for():
    """As np.matmul does."""
    wide = np.broadcast_to(np.float32(1), (10**7, 3)), np.broadcast_to(np.float32(1), (4, 10**7))
    gemm.matmul(np.ones((2, 2), np.float32), np.ones((2, 2), np.float32), kernel=NAME)
    with pytest.raises(ValueError, match="do not fit"):
        gemm.matmul(*wide, kernel=NAME)


def test_operands_that_are_not_aligned():
    """Three arrays that begin in the middle of an element."""
    memory = np.zeros(3 * 400 + 1, np.uint8)[1:]
    a, b, c = (memory[i * 400 : (i + 1) * 400].view(np.float32).reshape(10, 10) for i in range(3))
    a[...], b[...] = np.arange(100.0).reshape(10, 10), 2 * np.eye(10)
    assert not a.flags.aligned
    gemm.matmul(a, b, c, kernel=NAME)
    assert np.array_equal(c, 2 * a)


def test_a_system_that_has_no_more_threads(monkeypatch):
    """The workers that could be had are used, and the next change finds the pool in order."""
    before = gemm.get_threads()
    start, started = threading.Thread.start, []

    def refusing(thread):
        if thread.name.startswith(NAME):
            if len(started) >= 2:
                raise RuntimeError("can't start new thread")
            started.append(thread)
        start(thread)

    gemm.get(NAME)
    gemm.set_threads(1)
    try:
        monkeypatch.setattr(threading.Thread, "start", refusing)
        gemm.set_threads(5)
        assert len(HUB.workers) == 2
        x = np.arange(300.0 * 300).reshape(300, 300) % 5
        assert np.array_equal(gemm.matmul(x, x, kernel=NAME), x @ x)
        monkeypatch.undo()
        gemm.set_threads(3)
        assert len(HUB.workers) == 2
        assert np.array_equal(gemm.matmul(x, x, kernel=NAME), x @ x)
    finally:
        monkeypatch.undo()
        gemm.set_threads(before)


@pytest.mark.parametrize(
    "unit", [host.Vectors(64, 32, True), host.Vectors(32, 16, True), host.Vectors(16, 32, True)]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_tile_that_is_asked_for_is_there(monkeypatch, unit, dtype):
    """A missing variant would be no product and no word about it."""
    monkeypatch.setattr(host, "vectors", lambda: unit)
    shape = host.tile.__wrapped__(dtype)
    tiles = {variant[:3] for variant in tile.variants(shape)}
    whole = {variant[:3] for variant in tile.variants(shape) if variant[3]}
    assert whole == {variant[:3] for variant in tile.variants(shape) if not variant[3]}
    assert tiles == {variant[:3] for variant in tile.variants(shape) if not variant[3]}
    for rows in range(1, shape.rows + 1):
        for wide in range(1, shape.widest(rows) + 1):
            assert (rows, wide, tile.KEEP_NOTHING) in tiles
        for wide in range(1, shape.vectors + 1):  # packed strips, and those that a strip of them leaves
            assert (rows, wide, tile.KEEP_NOTHING) in tiles
    for rows in range(shape.rows - tile.KEEPING_ROWS + 1, shape.rows + 1):
        assert (rows, shape.vectors, tile.KEEP_A) in tiles
    for rows in sweep.heights(shape):  # what is left of a sweep's row
        for wide in range(1, sweep.WIDE + 1):
            assert (rows, wide, tile.KEEP_NOTHING) in tiles
    inner = set(dot.variants(shape))
    assert {(rows, 1) for rows in range(1, dot.TALL + 1)} <= inner
