"""The step plan: its operations, their order and cost, what it computes, and what it allocates."""

import tracemalloc
from collections import Counter

import numpy as np
import pytest

import mlp
from mlp.blocks import BLOCK, blocked

RNG = np.random.default_rng(0)


def batch_of(model, rows, dtype="float32"):
    x = RNG.standard_normal((rows, model.widths[0])).astype(dtype)
    return x, RNG.integers(0, model.widths[-1], rows)


def plain_numpy_step(parameters, x, y, lr):
    """One relu / cross-entropy / SGD step as a NumPy user writes it; returns loss and new parameters."""
    weights, biases = parameters[::2], parameters[1::2]
    inputs = [x]
    for w, b in zip(weights[:-1], biases[:-1]):
        inputs.append(np.maximum(inputs[-1] @ w + b, 0))
    z = inputs[-1] @ weights[-1] + biases[-1]
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    loss = -np.log(p[np.arange(len(y)), y]).mean()
    dz = (p - np.eye(z.shape[1])[y]) / len(y)
    new = []
    for x, w, b in zip(inputs[::-1], weights[::-1], biases[::-1]):
        new = [w - lr * x.T @ dz, b - lr * dz.sum(axis=0), *new]
        dz = (dz @ w.T) * (x > 0)
    return loss, new


@pytest.mark.parametrize("arch", [[6, 3], [6, 8, 3], [6, 8, 5, 9, 3]])
def test_a_step_equals_the_one_written_in_plain_numpy(arch):
    model = mlp.MLP(arch, dtype="float64", lr=0.3)
    expected = [p.copy() for p in model.parameters()]
    for rows in (7, 7, 4, 7):  # a smaller batch in between has a plan of its own
        x, y = batch_of(model, rows, "float64")
        loss, expected = plain_numpy_step(expected, x, y, 0.3)
        assert model.step(x, y) == pytest.approx(loss, rel=1e-13)
        for p, q in zip(model.parameters(), expected):
            np.testing.assert_allclose(p, q, rtol=1e-12, atol=1e-15)


def test_a_step_is_these_operations_in_this_order():
    """dX of a layer runs before the layer's update; layer 1 has no dX; an identity is no operation."""
    ids = [op.id for op in mlp.MLP([4, 3, 2]).operations(5)]
    forward = ["1.Z", "1.bias", "1.activation", "2.Z", "2.bias", "loss"]
    backward = ["2.db", "2.dX", "2.dW", "2.update", "1.activation'", "1.db", "1.dW", "1.update"]
    assert ids == forward + backward
    phases = Counter(op.phase for op in mlp.MLP([4, 3, 2]).operations(5))
    assert phases == {"forward": 6, "backward": 6, "update": 2}


OF_OTHER_LAYERS = {"H", "dH", "dU", "im2col", "col2im", "transpose"}


def test_every_operation_states_its_kind_parts_and_shapes():
    operations = {op.id: op for op in mlp.MLP([4, 3, 2], kernel="python").operations(5)}
    assert {op.op for op in operations.values()} == set(mlp.KINDS) - OF_OTHER_LAYERS
    assert all(op.parts == (op.op,) for op in operations.values())
    assert all((op.kernel == "python") == (op.op in mlp.PRODUCTS) for op in operations.values())
    sizes = {name: (op.m, op.n, op.k) for name, op in operations.items() if op.kernel}
    assert sizes == {
        "1.Z": (5, 3, 4),
        "2.Z": (5, 2, 3),
        "2.dX": (5, 3, 2),
        "2.dW": (3, 2, 5),
        "1.dW": (4, 3, 5),
    }
    assert (operations["loss"].layer, operations["1.activation'"].op) == (0, "activation")


def test_flops_and_bytes_are_the_formula():
    """Three products of 2 batch d_in d_out per layer, less dX of the first; 4 bytes per operand's entry."""
    batch, widths = 32, [20, 30, 10]
    operations = mlp.MLP(widths).operations(batch)
    products = sum(op.flops for op in operations if op.op in mlp.PRODUCTS)
    assert products == 2 * batch * (3 * (20 * 30 + 30 * 10) - 20 * 30)
    by_id = {op.id: op for op in operations}
    assert by_id["1.Z"].bytes == 4 * (32 * 20 + 20 * 30 + 32 * 30)
    assert by_id["2.dX"].bytes == 4 * (32 * 10 + 10 * 30 + 32 * 30)
    assert by_id["1.bias"].bytes == 4 * (2 * 32 * 30 + 30)
    assert by_id["1.activation'"].bytes == 4 * 3 * 32 * 30
    assert by_id["1.update"].flops == 2 * (20 * 30 + 30)
    assert by_id["1.update"].bytes == 4 * 3 * (20 * 30 + 30)
    assert by_id["loss"].bytes == 4 * 2 * 32 * 10 + 32 * np.dtype(np.intp).itemsize
    bias = db = 32 * 30 + 32 * 10
    activation, loss, update = (1 + 2) * 32 * 30, 5 * 32 * 10, 2 * (20 * 30 + 30 + 30 * 10 + 10)
    assert sum(op.flops for op in operations) == products + bias + db + activation + loss + update


def test_the_recorder_sees_every_operation_begin_and_end_in_order():
    model, events = mlp.MLP([4, 3, 2]), []

    class Log(mlp.Recorder):
        def begin(self, operation):
            events.append(("begin", operation))

        def end(self, operation):
            events.append(("end", operation))

    assert model.step(*batch_of(model, 5), recorder=Log()) > 0
    expected = [(event, op) for op in model.operations(5) for event in ("begin", "end")]
    assert events == expected
    assert model.plan(5).operations == model.operations(5)


def test_a_recorder_changes_nothing():
    with_one, without = (mlp.MLP([4, 3, 2], seed=3) for _ in range(2))
    x, y = batch_of(without, 5)
    assert [with_one.step(x, y, mlp.Recorder()) for _ in range(3)] == [without.step(x, y) for _ in range(3)]


def test_a_recorder_can_verify_every_product_of_a_step_as_it_happens():
    model, checked = mlp.MLP([6, 8, 5, 3], dtype="float64", kernel="numpy-dot"), []
    plan = model.plan(7)

    class Verify(mlp.Recorder):
        def end(self, operation):
            products = plan.products(operation)
            assert len(products) == (operation.op in mlp.PRODUCTS)
            for product in products:
                a, b, out = product.a, product.b, product.out
                assert (*out.shape, a.shape[1]) == (operation.m, operation.n, operation.k)
                np.testing.assert_allclose(out, a @ b, rtol=1e-12, atol=1e-15)
                checked.append(operation.id)

    for _ in range(2):  # with other examples, so bound anew
        model.step(*batch_of(model, 7, "float64"), Verify())
    assert len(checked) == 2 * 8


def test_examples_are_used_where_they_lie_whatever_their_strides():
    """A new array, a strided view, another dtype, a list, and an array changed in place: all are seen."""
    x64 = RNG.standard_normal((10, 8))
    y = np.arange(5) % 3
    for x in (x64[::2, ::2], np.asfortranarray(x64[:5, :4])):
        straight, strided = (mlp.MLP([4, 6, 3], dtype="float64") for _ in range(2))
        for _ in range(2):
            assert strided.step(x, y) == pytest.approx(straight.step(x.copy(), y), rel=1e-13)
    model = mlp.MLP([4, 6, 3])
    x = x64[:5, :4].astype(np.float32)
    loss = model.evaluate(x, y)
    wide = x.astype(np.float64)
    assert model.evaluate(wide, y) == model.evaluate(wide.tolist(), y.tolist()) == loss
    x[:] = -x
    flipped = model.evaluate(x, y)
    wide[:] = x
    assert flipped != loss
    assert model.evaluate(wide, y) == flipped


@pytest.mark.parametrize("activation", mlp.ACTIVATIONS)
@pytest.mark.parametrize("loss", mlp.LOSSES)
def test_steps_allocate_no_arrays_after_the_first(activation, loss):
    """Beyond a few blocks of BLOCK elements, a fraction of an activation here, and nothing that stays."""
    model = mlp.MLP([256, 2048, 1024], activation=activation, loss=loss, lr=1e-3)
    x, y = batch_of(model, 512)
    model.step(x, y)
    smallest = min(model.layers[0].weight.nbytes, 512 * 1024 * 4)
    tracemalloc.start()
    try:
        for _ in range(3):
            model.step(x, y)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * BLOCK * 4 < smallest
    assert kept < 16 * 1024


def test_a_blocked_call_is_the_whole_call():
    x = RNG.standard_normal((3, BLOCK))
    out = np.empty_like(x)
    blocked(np.multiply, x, x, out)()
    np.testing.assert_array_equal(out, x * x)


def test_a_plan_is_compiled_once_per_batch_size_and_few_are_kept():
    model = mlp.MLP([4, 3])
    plan = model.plan(8)
    assert model.plan(8) is plan
    for batch in range(1, 8):
        model.plan(batch)
    assert model.plan(8) is not plan
    assert len(model._plans) <= 4
