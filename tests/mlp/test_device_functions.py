"""The CUDA functions of mlp/source, run on the CPU: the same numbers as mlp/compiled.py's, at every edge."""

import numpy as np
import pytest

from gemm.cuda import host
from gemm.epilogue import ACTIVATIONS
from mlp import activations, cuda, devices, losses, native, optimizers
from tests.mlp.emulated import gpu

pytestmark = pytest.mark.skipif(host.reason() is not None, reason=str(host.reason()))
RNG = np.random.default_rng(0)
# One row, one column, just beside a warp, a block, a tree's halves; many rows of few, few of many.
SHAPES = [(1, 1), (1, 10), (7, 1), (33, 10), (256, 3), (5, 257), (31, 33), (700, 2), (300, 40)]
# And rows that begin on 16 bytes.
WIDTHS = [*SHAPES, (3, 8), (40, 264)]
TOLERANCE = {"float32": 2e-6, "float64": 1e-13}


@pytest.fixture
def machine(monkeypatch):
    with gpu(monkeypatch) as made:
        yield made


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return np.dtype(request.param)


def there(array):
    return devices.device("cuda").put(array)


def both(name, dtype, *arguments):
    """The arrays after the function has run on the host, and after it has on the device."""
    copies = [x.copy() if isinstance(x, np.ndarray) else x for x in arguments]
    moved = [there(x) if isinstance(x, np.ndarray) else x for x in arguments]
    native.call(name, dtype, *copies)()
    native.call(name, dtype, *moved)()
    pairs = [(a, devices.host(b)) for a, b in zip(copies, moved) if isinstance(a, np.ndarray)]
    return [one for one, _ in pairs], [other for _, other in pairs]


def agree(found, right, dtype, scale=1.0):
    for one, other in zip(found, right):
        np.testing.assert_allclose(
            other, one, rtol=scale * TOLERANCE[dtype.name], atol=scale * TOLERANCE[dtype.name]
        )


def targets_for(name, shape):
    if name == "softmax_cross_entropy":
        return RNG.integers(0, shape[1], shape[0])
    if name == "hinge":
        return RNG.choice([-1.0, 1.0], shape)
    return RNG.random(shape) if name == "logistic" else RNG.poisson(2.0, shape).astype(float)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["softmax_cross_entropy", "squared_error", "logistic", "hinge", "poisson"])
def test_a_loss_and_its_derivative_are_the_hosts(machine, dtype, name, shape):
    z, t = (3 * RNG.standard_normal(shape)).astype(dtype), targets_for(name, shape)
    t = t if t.dtype.kind == "i" else t.astype(dtype)
    dz, value = np.full(shape, np.nan, dtype), np.full((), np.nan, dtype)
    agree(*both(name, dtype, z, t, dz, value, *shape), dtype, scale=4)
    assert machine.launches == [name]


@pytest.mark.parametrize("name", ["softmax-cross-entropy", "logistic", "squared-error"])
def test_a_weighted_loss_is_the_hosts(machine, dtype, name):
    shape, loss = (37, 5), losses.weighted(name)
    z = RNG.standard_normal(shape).astype(dtype)
    labels, weights = RNG.integers(0, 5, 37), RNG.random(37)
    y = labels if name == "softmax-cross-entropy" else RNG.random(shape).astype(dtype)
    right = loss.targets(*shape, dtype)
    loss.accept((y, weights), right, shape[1])
    results = []
    for move in (np.copy, there):
        dz, value = move(np.full(shape, np.nan, dtype)), move(np.full((), np.nan, dtype))
        held = losses._moved(right, move)
        loss.bind(move(z), held, dz, value)()
        results.append([devices.host(dz), devices.host(value)])
    agree(*results, dtype, scale=4)


def test_a_loss_has_the_same_bits_whatever_order_the_blocks_come_in(machine):
    z, t = RNG.standard_normal((3000, 3)).astype("f"), RNG.integers(0, 3, 3000)
    seen = set()
    for seed in (0, 10**6, 2 * 10**6):
        machine.seed = seed
        value = there(np.zeros((), "f"))
        native.call("softmax_cross_entropy", z.dtype, there(z), there(t), there(z), value, 3000, 3)()
        seen.add(devices.host(value).tobytes())
    assert len(seen) == 1


def test_a_label_that_is_no_output_makes_the_loss_nan_and_nothing_is_read_outside(machine):
    z, labels = RNG.standard_normal((4, 3)).astype("f"), np.array([0, 1, 3, 2])
    value = there(np.zeros((), "f"))
    native.call("softmax_cross_entropy", z.dtype, there(z), there(labels), there(z), value, 4, 3)()
    assert np.isnan(devices.host(value))


@pytest.mark.parametrize("shape", [*SHAPES, (2100, 1), (600, 70)])
def test_column_sums_are_the_hosts(machine, dtype, shape):
    dz, db = RNG.standard_normal(shape).astype(dtype), np.full(shape[1], np.nan, dtype)
    agree(*both("column_sums", dtype, dz, db, *shape), dtype, scale=20)


@pytest.mark.parametrize("count", [1, 255, 257, 5000])
def test_the_sum_of_squares_is_the_hosts(machine, dtype, count):
    w, total = RNG.standard_normal(count).astype(dtype), np.full(1, np.nan)
    agree(*both("sum_of_squares", dtype, w, total, count), np.dtype(np.float64), scale=10)


@pytest.mark.parametrize("shape", SHAPES)
def test_softmax_and_its_derivative_are_the_hosts(machine, dtype, shape):
    z = (4 * RNG.standard_normal(shape)).astype(dtype)
    agree(*both("softmax", dtype, z, np.full_like(z, np.nan), *shape), dtype, scale=2)
    y = RNG.random(shape).astype(dtype)
    agree(
        *both("softmax_backward", dtype, RNG.standard_normal(shape).astype(dtype), y, *shape), dtype, scale=20
    )


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "identity"])
def test_activations_and_their_derivatives_are_the_hosts(machine, dtype, name):
    f = ACTIVATIONS[name]
    z = np.concatenate([RNG.standard_normal(300) * 3, [0.0, -0.0, np.inf, -np.inf, np.nan, 90, -90]]).astype(
        dtype
    )
    z = z[:-5] if name == "gelu" else z  # -inf is NaN on the one and 0 on the other
    z = z[None]
    y, dz = np.full_like(z, np.nan), RNG.standard_normal(z.shape).astype(dtype)
    results = []
    for move in (np.copy, there):
        own = move(y)
        activations.bind(f, "forward", move(z), own, move(dz))()
        from_ = move(z) if f.from_z else own
        gradient = move(dz)
        activations.bind(f, "backward", from_, from_, gradient)()
        results.append([devices.host(own), devices.host(gradient)])
    agree(*results, dtype, scale=8)


@pytest.mark.parametrize("shape", WIDTHS)
def test_the_bias_is_added_to_every_row(machine, monkeypatch, dtype, shape):
    monkeypatch.setattr(cuda, "MOST", 3)  # blocks: threads have several turns
    z, b = RNG.standard_normal(shape).astype(dtype), RNG.standard_normal(shape[1]).astype(dtype)
    on_device = there(z)
    native.call("add_bias", dtype, on_device, there(b), *shape)()
    np.testing.assert_array_equal(devices.host(on_device), z + b)


@pytest.mark.parametrize("shape", [(33, 10), (5, 257), (40, 264)])
@pytest.mark.parametrize("name", ["relu", "tanh", "gelu"])
def test_bias_and_activation_are_one_pass(machine, monkeypatch, dtype, name, shape):
    monkeypatch.setattr(cuda, "MOST", 3)
    f = ACTIVATIONS[name]
    sums, b = RNG.standard_normal(shape).astype(dtype), RNG.standard_normal(shape[1]).astype(dtype)
    z, y = there(sums), there(np.full(shape, np.nan, dtype))
    activations.bind_with_bias(f, z, there(b), z, y)()
    right = np.empty_like(sums)
    f.forward(sums + b, right)
    agree([devices.host(y)], [right], dtype, scale=8)
    np.testing.assert_array_equal(devices.host(z), sums + b if f.from_z else sums)
    assert machine.launches == ["bias_activation"]


@pytest.mark.parametrize("apart", [0, 1])
def test_activations_of_whole_packs_and_of_arrays_that_begin_beside_one(machine, monkeypatch, dtype, apart):
    monkeypatch.setattr(cuda, "MOST", 2)
    z, g = (RNG.standard_normal(8192).astype(dtype) for _ in range(2))
    own = there(np.concatenate([np.zeros(apart, dtype), z]))[apart:]
    gradient = there(np.concatenate([np.zeros(apart, dtype), g]))[apart:]
    relu = ACTIVATIONS["relu"]
    activations.bind(relu, "forward", own[None], own[None], gradient[None])()
    activations.bind(relu, "backward", own[None], own[None], gradient[None])()
    np.testing.assert_array_equal(devices.host(own), np.maximum(z, 0))
    np.testing.assert_array_equal(devices.host(gradient), g * (z > 0))


WINDOWS = [
    (5, 6, 2, 3, 1, 0),
    (5, 5, 1, 3, 2, 1),
    (4, 7, 3, 2, 3, 0),
    (3, 3, 1, 3, 1, 2),
    (1, 1, 1, 1, 1, 0),
    (6, 6, 1, 2, 4, 1),
]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("batch", [1, 3])
def test_windows_are_the_hosts_there_and_back(machine, dtype, window, batch):
    height, width, channels, size, stride, padding = window
    places = [(side + 2 * padding - size) // stride + 1 for side in (height, width)]
    x = RNG.standard_normal((batch, height * width * channels)).astype(dtype)
    rows = np.full((batch * places[0] * places[1], size * size * channels), np.nan, dtype)
    found, right = both("im2col", dtype, x, rows, batch, *window)
    np.testing.assert_array_equal(found[1], right[1])
    given = RNG.standard_normal(rows.shape).astype(dtype)
    found, right = both("col2im", dtype, np.full_like(x, np.nan), given, batch, *window)
    np.testing.assert_array_equal(found[0], right[0])  # the same order of additions


def test_steps_of_a_sequence_are_laid_as_on_the_host(machine, dtype):
    x = RNG.standard_normal((5, 3 * 7)).astype(dtype)
    found, right = both("transpose", dtype, x, np.full((15, 7), np.nan, dtype), 5, 3, 7)
    np.testing.assert_array_equal(found[1], right[1])


def test_rows_are_taken_out_of_all_examples(machine, dtype):
    x, which = RNG.standard_normal((40, 9)).astype(dtype), RNG.permutation(40)[:13]
    out = there(np.full((13, 9), np.nan, dtype))
    native.call("take_rows", dtype, there(x), there(which), out, 13, 9)()
    np.testing.assert_array_equal(devices.host(out), x[which])


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_updates_are_the_hosts_over_several_steps(machine, dtype, name, decay):
    for shape in [(300, 5), (7,)]:
        start = RNG.standard_normal(shape).astype(dtype)
        gradients = RNG.standard_normal((3, *shape)).astype(dtype)
        results = []
        for move in (np.copy, there):
            own = optimizers.optimizer(name, None, decay, decay_biases=False)
            w, g = move(start), move(gradients[0])
            update = own.bind(w, g)
            for step, gradient in enumerate(gradients):
                own.lr = own.lr * (1 if step else 0.5)  # it changes between steps
                devices.write(g, gradient)
                own.begin_step()
                update()
            results.append([devices.host(x) for x in (w, *own.state_of(w))])
        agree(*results, dtype, scale=20)


def test_settings_follow_only_when_they_have_changed(machine):
    own = optimizers.optimizer("momentum")
    w = there(np.ones(3, "f"))
    update = own.bind(w, there(np.ones(3, "f")))
    for _ in range(3):
        own.begin_step()
        update()
    own.lr = 1.0
    own.begin_step()
    update()
    assert machine.launches == ["hold", "momentum", "momentum", "momentum", "hold", "momentum"]


MISTAKES = [
    ("losses.cu", "most = together<Larger>(most, lanes, slots);", "", "softmax_cross_entropy"),
    (
        "words.cuh",
        "    __syncthreads();\n    for (int half = lanes / 2",
        "    for (int half = lanes / 2",
        "sum_of_squares",
    ),
    ("sums.cu", "column < outputs)\n", "true)\n", "column_sums"),
    ("words.cuh", "if (is_last) *arrived = 0;", "", "twice"),
    ("moves.cu", "left < w.width;", "left <= w.width;", "im2col"),
]


@pytest.mark.parametrize(("file", "right", "wrong", "found_by"), MISTAKES)
def test_a_planted_mistake_is_found(machine, monkeypatch, tmp_path, file, right, wrong, found_by):
    """A forgotten reduction, barrier, edge, counter or border."""
    from gemm.cuda.host.emulator import DeviceFault
    from tests.mlp import emulated

    source = tmp_path / "mlp" / "source"
    source.mkdir(parents=True)
    for each in cuda.SOURCE.iterdir():
        text = each.read_text().replace("../../gemm/cuda/source/", "")
        if each.name == file:
            assert right in text
            text = text.replace(right, wrong)
        (source / each.name).write_text(text)
    whole = tmp_path / "functions.cu"
    whole.write_text(emulated.ALL.read_text().replace("../../mlp/source/", "mlp/source/"))
    monkeypatch.setattr(emulated, "ALL", whole)
    monkeypatch.setattr(emulated, "edition", lambda: hash((file, right)) % 2**31)
    emulated.functions.cache_clear()
    dtype = np.dtype("f")
    try:
        with pytest.raises((AssertionError, DeviceFault)):
            _looked_for(machine, dtype, found_by)
    finally:
        emulated.functions.cache_clear()


def _looked_for(machine, dtype, found_by):
    if found_by == "softmax_cross_entropy":
        test_a_loss_and_its_derivative_are_the_hosts(machine, dtype, found_by, (33, 10))
    elif found_by == "sum_of_squares":
        test_the_sum_of_squares_is_the_hosts(machine, dtype, 5000)
    elif found_by == "column_sums":
        test_column_sums_are_the_hosts(machine, dtype, (31, 33))
    elif found_by == "im2col":
        test_windows_are_the_hosts_there_and_back(machine, dtype, WINDOWS[1], 3)
    else:
        w, total = there(np.ones(5000, "f")), there(np.zeros(1))
        call = native.call("sum_of_squares", dtype, w, total, 5000)
        for _ in range(2):
            devices.write(total, np.zeros(1))
            call()
            np.testing.assert_allclose(devices.host(total), 5000)
