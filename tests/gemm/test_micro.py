"""numba-micro: right at every edge of its tiles, blocks and parts, whatever the operands' memory looks like."""

import gc
import itertools
import subprocess
import sys
import weakref

import numpy as np
import pytest

import gemm
from gemm.correctness import integers_agree
from gemm.drawn import ONE_COLUMN, ONE_ROW, PLAIN, Drawn, Failure, Layout, draw, judge
from gemm.epilogue import ACTIVATIONS, LEAK, Epilogue, apply
from gemm.micro import blocking, host, hub, job, product
from gemm.problems import STRIDES, integers, lay_out

NAME = "numba-micro"
MICRO = gemm.get(NAME)
DTYPES = ("float32", "float64")
EVERY_LAYOUT = [Layout(order, strides) for order in "nt" for strides in (*STRIDES, ONE_ROW, ONE_COLUMN)]
EVERY_C = [layout for layout in EVERY_LAYOUT if layout.strides in STRIDES]


def right(*args, **changes):
    found = judge(MICRO, Drawn(*args, **changes))
    assert not isinstance(found, Failure), f"{Drawn(*args, **changes)}: it {found.sentence}"


@pytest.fixture(autouse=True)
def threads():
    """`gemm.set_threads`, undone afterwards."""
    before = gemm.get_threads()
    yield gemm.set_threads
    if gemm.get_threads() != before:
        gemm.set_threads(before)


@pytest.fixture
def blocks():
    """Other block sizes for a while: blocks(columns=..., ...) for both dtypes."""
    for dtype in DTYPES:
        blocking.table(dtype)  # its block sizes are chosen at its first product
    before = blocking.used()

    def change(**sizes):
        for dtype in DTYPES:
            blocking.use(dtype, before[dtype]._replace(**sizes))

    yield change
    for dtype in DTYPES:
        blocking.use(dtype, before[dtype])


def around(*sizes):
    return sorted({size + d for size in sizes for d in (-1, 0, 1) if size + d > 0})


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_tile_and_every_masked_edge(dtype):
    """Each height, each width in columns, and k around nothing to unroll: exact on integers."""
    shape = host.tile(dtype)
    for m, n in itertools.product(range(1, shape.rows + 2), range(1, 4 * shape.lanes + 2)):
        right(m, n, 1 + (m * n) % 5, dtype)
    for m, n, k in itertools.product(
        around(shape.rows, 2 * shape.rows), around(shape.lanes, shape.columns), (1, 2, 3, 7, 8, 9, 17)
    ):
        right(m, n, k, dtype, beta=-1.0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_tile_of_inner_products(dtype):
    """Small C and k around the vectors that inner products take at once."""
    lanes = host.tile(dtype).lanes
    by_rows_times_columns = {"b": Layout("t")}
    for m, n in itertools.product(range(1, 8), range(1, 8)):
        for k in (*around(lanes, 2 * lanes), 8 * lanes + 3):
            right(m, n, k, dtype, **by_rows_times_columns, c=EVERY_C[(m + n + k) % len(EVERY_C)])
    for m, n in ((1, 1), (1, 9), (9, 1)):
        for k in around(8 * lanes, 4096):
            right(m, n, k, dtype, **by_rows_times_columns, alpha=2.0, beta=3.0)


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "in place"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_edge_of_blocks(blocks, dtype, packed):
    """Blocks of a tile or two, so that the five loops all turn several times and end in the middle."""
    shape = host.tile(dtype)
    rows, columns, depth = 2 * shape.rows, 2 * shape.columns, 8
    blocks(near=1, columns=columns, depth=depth, in_place=0 if packed else 1 << 40, few_rows=0)
    sizes = itertools.product(around(rows, 2 * rows), around(columns, 2 * columns), around(depth, 3 * depth))
    for number, (m, n, k) in enumerate(sizes):
        a, b = EVERY_LAYOUT[number % 12], EVERY_LAYOUT[number // 12 % 12]
        right(m, n, k, dtype, a=a, b=b, alpha=2.0, beta=(0.0, 1.0, -3.0)[number % 3])


@pytest.mark.parametrize("dtype", DTYPES)
def test_blocks_that_no_tile_divides(blocks, dtype):
    """Odd block sizes, smaller than a tile too."""
    for columns, depth in ((1, 1), (5, 9), (37, 13), (70, 24)):
        blocks(near=1, columns=columns, depth=depth, in_place=0, few_rows=0, worth_a_thread=1)
        for m, n, k in ((1, 70, 30), (16, 33, 40), (61, 83, 47), (120, 3, 100)):
            right(m, n, k, dtype, a=Layout("t"), epilogue="bias+relu", keeps=True)
            right(m, n, k, dtype, b=Layout("t"), beta=1.0)


@pytest.mark.parametrize("shape", [(33, 70, 45), (5, 40, 90), (1, 66, 7), (200, 3, 64)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_order_and_strides_of_both_operands(dtype, shape):
    """Rows, columns, padded, every second, negative, and a stride of zero: 144 pairs, C in each of its orders."""
    for number, (a, b) in enumerate(itertools.product(EVERY_LAYOUT, EVERY_LAYOUT)):
        right(*shape, dtype, a=a, b=b, c=EVERY_C[number % len(EVERY_C)], beta=float(number % 2))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_c_is_not_read_where_beta_is_zero(dtype, value):
    """NaN does not survive, in any order of C, on one thread or more; where beta is 1 it does."""
    for layout in EVERY_C:
        for m, n, k in ((40, 50, 600), (3, 4, 5), (2, 2, 3000)):
            a, b = np.ones((m, k), dtype), np.ones((k, n), dtype)
            c = layout.put(np.full((m, n), value, dtype))
            gemm.matmul(a, b, c, kernel=NAME, alpha=2.0)
            assert (c == 2 * k).all()
            c[...] = value
            gemm.matmul(a, b, c, kernel=NAME, beta=1.0)
            assert not np.isfinite(c).any()


@pytest.mark.parametrize("epilogue", [*ACTIVATIONS, "bias", *(f"bias+{name}" for name in ACTIVATIONS)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_forward_epilogues(blocks, threads, dtype, epilogue):
    """On one block and on many, on one thread and on three, aux_out in any order."""
    exact = epilogue.endswith(("bias", "relu", "identity")) and not epilogue.endswith("leaky-relu")
    for count, sizes in ((1, {}), (3, {"worth_a_thread": 1, "depth": 16, "columns": 40, "in_place": 0})):
        threads(count)
        blocks(**sizes)
        for c, aux in itertools.product((PLAIN, Layout("n", "padded"), Layout("t")), EVERY_C[:5]):
            right(37, 45, 50, dtype, c=c, aux=aux, epilogue=epilogue, keeps=True, exact=exact)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_backward_epilogues(blocks, threads, dtype, name):
    """aux_in in any order; split by rows, by columns and by k."""
    exact = name in ("relu", "identity")
    blocks(worth_a_thread=1)
    for count, aux in itertools.product((1, 3), EVERY_C):
        threads(count)
        for m, n, k in ((37, 45, 50), (2, 3, 2000), (1, 1, 9)):
            right(m, n, k, dtype, aux=aux, epilogue=f"grad:{name}", exact=exact, beta=1.0)


@pytest.mark.parametrize(
    ("name", "units"), [("tanh", 4), ("sigmoid", 4), ("relu", 0), ("leaky-relu", 1), ("identity", 0)]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_activation_is_as_close_as_its_page_says(dtype, name, units):
    """Within so many units in the last place of the exact value, from the smallest numbers to the largest."""
    info = np.finfo(dtype)
    tiny = np.geomspace(info.smallest_normal, 1e-2, 3000)
    z = np.concatenate(
        [np.linspace(-30, 30, 20001), np.linspace(-800, 800, 4001), tiny, -tiny, [0.0, info.max / 2]]
    )
    z = z.astype(dtype)[:, None]
    found = gemm.matmul(
        z, np.ones((1, 1), dtype), np.empty_like(z), kernel=NAME, epilogue=Epilogue(activation=name)
    )
    wide = z.astype(np.longdouble)
    with np.errstate(all="ignore"):
        e = np.exp(-np.abs(wide))
        exact = {
            "tanh": np.tanh(wide),
            "sigmoid": np.where(wide < 0, e, 1) / (1 + e),
            "relu": np.maximum(wide, 0),
            "leaky-relu": np.where(wide < 0, wide * np.dtype(dtype).type(LEAK), wide),
            "identity": wide,
        }[name]
    step = np.spacing(np.abs(exact.astype(dtype)))
    assert (np.abs(found - exact) <= units * step).all()


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_activation_of_no_number_is_what_numpys_is(dtype, name):
    """NaN stays, infinities have their limits."""
    z = np.array([[np.nan, np.inf, -np.inf, 0.0, 1.0, -1.0] * 5], dtype)
    c = gemm.matmul(
        np.ones((1, 1), dtype), z, np.empty_like(z), kernel=NAME, epilogue=Epilogue(activation=name)
    )
    expected = apply(Epilogue(activation=name), z.copy())
    np.testing.assert_allclose(c, expected, rtol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("where", ["A", "B"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_around_an_operand_reaches_the_result(dtype, where):
    """NaN and infinity just outside, in the gaps between rows, on every path and in every order."""
    rng = np.random.default_rng(0)
    for (m, n, k), layout in itertools.product(
        ((1, 1, 1), (13, 17, 5), (31, 65, 33), (70, 300, 300), (2, 2, 1001)), EVERY_C
    ):
        a, b = integers(rng, (m, k), k, dtype), integers(rng, (k, n), k, dtype)
        for poison in (np.nan, np.inf):
            x, y = a, b
            if where == "A":
                x = lay_out(a, *layout, fill=poison)
            else:
                y = lay_out(b, *layout, fill=poison)
            np.testing.assert_array_equal(gemm.matmul(x, y, kernel=NAME), a @ b)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's mprotect")
def test_nothing_beyond_an_operand_is_touched():
    """Operands, C and the epilogue's arrays that end, or begin, at a page that may not be read or written."""
    found = subprocess.run(
        [sys.executable, "-m", "tests.gemm.fences"], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout, found.stderr) == (0, "within\n", "")


def bound(m, n, k, dtype="float32", **options):
    """A bound product of integers: (call, A, B, C)."""
    rng = np.random.default_rng([m, n, k])
    a, b = integers(rng, (m, k), k, dtype), integers(rng, (k, n), k, dtype)
    c = np.full((m, n), np.nan, dtype)
    return gemm.prepare(a, b, c, kernel=NAME, **options), a, b, c


TALL, WIDE, DEEP = (2000, 16, 64), (20, 3000, 64), (12, 16, 40000)
SPLITS = [(TALL, job.SPLIT_M), (WIDE, job.SPLIT_N), (DEEP, job.SPLIT_K)]


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize(("shape", "word"), SPLITS, ids=["m", "n", "k"])
def test_a_product_is_split_where_it_is_long(threads, shape, word, count):
    """Tall by rows, wide by columns, deep by k, among more threads than cores too; and right."""
    threads(count)
    call, a, b, c = bound(*shape)
    assert call.words[word] > 1
    assert 1 < np.prod(call.words[[job.SPLIT_M, job.SPLIT_N, job.SPLIT_K]]) <= count
    call()
    np.testing.assert_array_equal(c, a @ b)
    for alpha, beta, epilogue in ((2.0, -1.0, ""), (1.0, 0.0, "bias+relu"), (1.0, 3.0, "grad:relu")):
        right(*shape, "float64", alpha=alpha, beta=beta, epilogue=epilogue, c=Layout("n", "padded"))


@pytest.mark.parametrize("shape", [TALL, WIDE, DEEP, (300, 300, 300)], ids=str)
def test_the_bits_do_not_depend_on_the_pool(threads, shape):
    """Free, busy with somebody else's product, or not there at all: as it is split, so it is added."""
    threads(3)
    rng = np.random.default_rng(0)
    m, n, k = shape
    a, b = rng.standard_normal((m, k), np.float32), rng.standard_normal((k, n), np.float32)
    c = np.empty((m, n), np.float32)
    call = gemm.prepare(a, b, c, kernel=NAME)

    def result():
        c[...] = np.nan
        call()
        return c.copy()

    free = [result() for _ in range(5)]
    pool = product.HUB
    pool[hub.LOCK] = 1
    busy = result()
    pool[hub.LOCK] = 0
    pool.stop()
    absent = result()
    pool.set_workers(2)
    for other in (*free, busy, absent):
        np.testing.assert_array_equal(other, free[0])


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
def test_large_integers_are_exact(threads, dtype, count):
    """Beyond every block in every direction."""
    threads(count)
    rng = np.random.default_rng(0)
    m, n, k = 517, 2117, 1111
    a, b = integers(rng, (m, k), k, dtype), integers(rng, (k, n), k, dtype)
    for x, y in ((a, b), (a.T.copy().T, b), (a, b.T.copy().T)):
        assert integers_agree(a, b, gemm.matmul(x, y, kernel=NAME))


def test_a_prepared_call_keeps_its_operands():
    """They live as long as the call does, and no longer."""
    shape, dtype = (30, 30), "float32"
    arrays = [np.ones(shape, dtype) for _ in range(2)]
    out, bias, kept = np.empty(shape, dtype), np.ones(30, dtype), np.empty(shape, dtype)
    call = gemm.prepare(*arrays, out, kernel=NAME, epilogue=Epilogue(bias=bias, aux_out=kept))
    alive = [weakref.ref(x) for x in (*arrays, out, bias, kept)]
    del arrays, bias, kept
    gc.collect()
    call()
    assert (out == 31).all()
    assert all(ref() is not None for ref in alive)
    del call, out
    gc.collect()
    assert all(ref() is None for ref in alive)


def test_a_prepared_call_sees_what_its_operands_hold_then():
    """Each time anew."""
    call, a, b, c = bound(50, 40, 30)
    for value in (1, 2, 3):
        a[...] = value
        call()
        np.testing.assert_array_equal(c, a @ b)


A, B = np.arange(12.0).reshape(3, 4), np.arange(20.0).reshape(4, 5)
MISTAKES = {
    "shapes": (A, A, None),
    "an empty sum of the wrong size": (A[:, :0], B, None),
    "out's shape": (A, B, np.empty((5, 3))),
    "out's dimensions": (A, B, np.empty(15)),
    "out's dtype": (A, B, np.empty((3, 5), int)),
    "a read-only out": (A, B, np.broadcast_to(np.zeros(5), (3, 5))),
    "no array": (A, B, [[0.0] * 5] * 3),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_the_error_that_numpy_raises(mistake):
    """The short way refuses, and the long way says it."""
    a, b, out = MISTAKES[mistake]
    with pytest.raises((ValueError, TypeError)) as numpys:
        np.matmul(a, b, out=out)
    with pytest.raises(TypeError if isinstance(numpys.value, TypeError) else ValueError):
        gemm.matmul(a, b, out, kernel=NAME)


@pytest.mark.parametrize("dtype", ["int64", "complex128", "float16", "longdouble"])
def test_other_dtypes_are_refused_by_name(dtype):
    """TypeError says which kernels take them, and nothing is cast in silence."""
    with pytest.raises(TypeError, match=NAME):
        gemm.matmul(A.astype(dtype), B.astype(dtype), kernel=NAME)


def test_an_out_that_is_an_operand_or_overlaps_one():
    """As if it were not: what NumPy does."""
    for start in range(-30, 31, 5):
        memory = np.random.default_rng(0).integers(-9, 9, 4000).astype("float32")
        a, b = memory[1000:1900].reshape(30, 30), memory[2000:2900].reshape(30, 30)
        expected = a @ b
        for operand in (1000, 2000):
            here = memory.copy()
            x, y = here[1000:1900].reshape(30, 30), here[2000:2900].reshape(30, 30)
            out = here[operand + start : operand + start + 900].reshape(30, 30)
            gemm.matmul(x, y, out, kernel=NAME)
            np.testing.assert_array_equal(out, expected)
    square = np.arange(900, dtype="float32").reshape(30, 30) % 7
    expected = square @ square.T
    np.testing.assert_array_equal(gemm.matmul(square, square.T, square, kernel=NAME), expected)


@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0)], ids=str)
def test_sizes_of_zero(shape):
    """An empty C is left alone, an empty sum is zero (or beta C)."""
    for beta in (0.0, 2.0):
        right(*shape, "float32", beta=beta)
    m, n, k = shape
    assert gemm.matmul(np.ones((m, k)), np.ones((k, n)), kernel=NAME).tolist() == [[0.0] * n] * m


def unaligned(values):
    memory = np.zeros(values.nbytes + 1, np.uint8)
    view = memory[1:].view(values.dtype).reshape(values.shape)
    view[...] = values
    return view


def test_arrays_that_are_not_aligned():
    """Operands, out or both."""
    a, b = unaligned(A), unaligned(B)
    assert not a.flags.aligned
    for x, y, out in (
        (a, B, None),
        (A, b, None),
        (a, b, unaligned(np.zeros((3, 5)))),
        (A, B, unaligned(A @ B)),
    ):
        np.testing.assert_array_equal(gemm.matmul(x, y, out, kernel=NAME), A @ B)


def test_arrays_of_the_other_byte_order():
    """Converted, as NumPy does."""
    a = A.astype(A.dtype.newbyteorder())
    np.testing.assert_array_equal(gemm.matmul(a, B, kernel=NAME), A @ B)
    out = np.zeros((3, 5), A.dtype.newbyteorder())
    np.testing.assert_array_equal(gemm.matmul(A, B, out, kernel=NAME), A @ B)


def test_two_arrays_of_the_other_byte_order():
    """Of one dtype object, so that the short way sees them first."""
    square = A[:, :3].astype(A.dtype.newbyteorder())
    np.testing.assert_array_equal(gemm.matmul(square, square, kernel=NAME), square @ square)


@pytest.mark.parametrize("which", ["aux_out is A", "aux_out is B", "aux_out is read-only"])
def test_an_aux_out_that_cannot_be_written_is_refused(which):
    """It would be written while A and B are still read, or though it must not be."""
    a, b, c = np.ones((9, 9)), np.ones((9, 9)), np.empty((9, 9))
    kept = {"aux_out is A": a, "aux_out is B": b}.get(which, np.zeros((9, 9)))
    kept.flags.writeable = which != "aux_out is read-only"
    with pytest.raises(ValueError, match="aux_out"):
        gemm.matmul(a, b, c, kernel=NAME, epilogue=Epilogue(activation="relu", aux_out=kept))


def capacity():
    """Bytes of all workspaces of this process, by number of slot."""
    words, first = product.HUB.words, product.HUB.first + hub.SLOTS + hub.CAPACITY
    return [int(words[first + hub.LINE * slot]) for slot in range(hub.MOST_SLOTS)]


MIB = 1 << 20


def test_a_workspace_does_not_grow_with_the_rows_of_a_gradient(threads):
    """X.T @ dZ for a dZ by columns: few columns, many features."""
    threads(1)
    before = max(capacity())
    dz = np.ones((3, 1024), np.float32).T
    for features in (1000, 20000):
        x = np.ones((1024, features), np.float32)
        gemm.matmul(x.T, dz, kernel=NAME)
    assert max(capacity()) <= max(before, 12 * MIB)


@pytest.mark.slow
@pytest.mark.parametrize("tiny", [False, True], ids=["usual blocks", "tiny blocks"])
@pytest.mark.parametrize("count", [1, 3])
def test_problems_drawn_at_random(blocks, threads, tiny, count):
    """375 each; `gemmlab check numba-micro --random 20000` is the same with more."""
    threads(count)
    if tiny:
        blocks(near=1, columns=40, depth=16, in_place=0, few_rows=0, worth_a_thread=1)
    for number in range(375):
        drawn = draw(7 + 2 * tiny + count, number)
        found = judge(MICRO, drawn)
        assert not isinstance(found, Failure), f"{drawn}: it {found.sentence}"
