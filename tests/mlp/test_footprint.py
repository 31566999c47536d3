"""The footprint: what a training takes in memory is what the formula says, however long it is."""

import json
import subprocess
import sys

import numpy as np
import pytest

import mlp

MEASURED = """
import json, sys, tracemalloc
import numpy as np
import mlp

arch, kernel, optimizer, activation, best, epochs = json.loads(sys.argv[1])
rng = np.random.default_rng(0)
x, y = rng.standard_normal((500, arch[0])).astype(np.float32), rng.integers(0, 10, 500)
data = mlp.Dataset(x, y, x[:70], y[:70], 10, "noise")

def train(arch, epochs):
    model = mlp.MLP(arch, kernel=kernel, optimizer=optimizer, activation=activation, lr=1e-4)
    stopping = mlp.EarlyStopping(patience=99) if best else None
    return model, mlp.fit(model, data, epochs, batch=64, validation=0.1, stopping=stopping)

train([arch[0], 8, 10], 1)  # what is compiled and imported is no part of it
for count in epochs:
    tracemalloc.start()
    model, history = train(arch, count)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(json.dumps([len(history.losses), peak, mlp.memory_of(model, 64, best=best).total]))
    del model
"""


def measured(*what):
    """Steps, peak bytes of all arrays, and what the formula gives, of each training; in a process of its own."""
    done = subprocess.run([sys.executable, "-c", MEASURED, json.dumps(what)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


ARCH = [200, 900, 900, 10]


@pytest.mark.parametrize(
    ("kernel", "optimizer", "activation", "best"),
    [
        ("numba-micro", "sgd", "relu", False),  # no gradients of weights
        ("blas", "sgd", "gelu", False),
        ("numba-micro", "adam", "relu", True),
    ],
)
def test_a_training_takes_what_the_formula_says_whatever_the_number_of_steps(
    kernel, optimizer, activation, best
):
    """Within 2 MiB of some 4 to 24; 450 rows in batches of 64, smaller last ones, validation and test included."""
    short, long = measured(ARCH, kernel, optimizer, activation, best, [1, 6])
    assert (short[0], long[0]) == (8, 48)
    for _, peak, formula in (short, long):
        assert 0 <= peak - formula < 2 << 20, (peak / 2**20, formula / 2**20)
    assert abs(long[1] - short[1]) < 1 << 17


def test_the_parts_are_those_of_the_formula():
    """3-5-2, batch 4: 3*5 + 5*2 weights and 5 + 2 biases of 4 bytes, Adam's two arrays, ..."""
    found = mlp.memory("3-5-2", 4, optimizer="adam", best=True)
    assert found == mlp.Memory(
        parameters=4 * 32, state=2 * 4 * 32, gradients=4 * 32, activations=4 * 4 * (5 + 2 + 2 * 5),
        batch=4 * (2 * 4 * 3 + 8), best=4 * 32,
    )  # fmt: skip
    assert found.total == sum(value for name, value in found.record().items() if name != "total")
    plain = mlp.memory("3-5-2", 4, dtype="float64", loss="squared-error", activation="gelu")
    assert plain == mlp.Memory(
        parameters=8 * 32, state=0, gradients=8 * 7, activations=8 * 4 * (2 * 5 + 2 + 2 * 5),
        batch=4 * (2 * 8 * 3 + 2 * 8), best=0,
    )  # fmt: skip


def test_a_kernel_that_cannot_update_in_a_product_needs_gradients():
    fused, separate = (mlp.MLP("6-5-4", kernel=kernel) for kernel in ("numba-micro", "blas"))
    assert mlp.memory_of(fused, 8).gradients == 4 * 9
    assert mlp.memory_of(separate, 8).gradients == 4 * (50 + 9)


def test_plans_of_smaller_batches_lie_in_the_memory_of_the_largest():
    """And a step of one of them after another is what it would be alone."""
    model, alone = mlp.MLP("6-5-4"), mlp.MLP("6-5-4")
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((16, 6)).astype(np.float32), rng.integers(0, 4, 16)
    model.step(x, y), alone.step(x, y)
    assert np.shares_memory(model.plan(16).outputs, model.plan(7).outputs)
    model.evaluate(x[:7], y[:7]), model.forward(x[:3])
    assert model.step(x, y) == alone.step(x, y)
    for ours, right in zip(model.parameters(), alone.parameters()):
        np.testing.assert_array_equal(ours, right)
