"""Networks on device 'cuda', on CuPy's stand-in: the CUDA sources run on the CPU, and the learning is the CPU's."""

import copy
import pickle

import numpy as np
import pytest

import gemm
import mlp
from gemm.cuda import host
from gemm.ladder import cublas
from mlp import checkpoint, devices
from tests.mlp.emulated import gpu
from tests.stand_in import memory as device_memory

pytestmark = pytest.mark.skipif(host.reason() is not None, reason=str(host.reason()))
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((12, 6)).astype("f"), RNG.integers(0, 3, 12)


@pytest.fixture
def machine(monkeypatch):
    with gpu(monkeypatch) as made:
        yield made


def curve(model, steps=6, x=X, y=Y):
    return [float(model.step(x, y)) for _ in range(steps)]


def of_numpy(arrays):
    return [devices.host(array) for array in arrays]


CASES = [
    {},
    {"activation": "tanh", "optimizer": "adam", "weight_decay": 0.01},
    {"activation": "gelu", "optimizer": "momentum"},
    {"activation": "softmax", "optimizer": "adagrad"},
    {"activation": "leaky-relu", "loss": "squared-error", "optimizer": "nesterov"},
    {"activation": "sigmoid", "loss": "logistic", "optimizer": "rmsprop"},
    {"fused": False, "loss": "hinge"},
    {"dtype": "float64", "activation": "gelu"},
]


@pytest.mark.parametrize(
    ("kernel", "options"),
    [("cublas", options) for options in CASES]
    + [("cuda-naive,1=cuda-shared,*.dW=cublas", options) for options in CASES[:-1]],  # rungs take float32
    ids=str,
)
def test_the_loss_curve_and_the_weights_are_the_cpus(machine, kernel, options):
    cpu = mlp.MLP([6, 9, 5, 3], seed=2, **options)
    there = mlp.MLP([6, 9, 5, 3], seed=2, device="cuda", kernel=kernel, **options)
    tolerance = 1e-10 if options.get("dtype") == "float64" else 2e-5
    right = curve(cpu)
    assert right[-1] < right[0]
    np.testing.assert_allclose(curve(there), right, rtol=tolerance)
    for own, other in zip(of_numpy(there.parameters()), cpu.parameters()):
        np.testing.assert_allclose(own, other, rtol=20 * tolerance, atol=20 * tolerance)


@pytest.mark.parametrize("arch", ["5x5x1-conv3x2+1-conv2x3/2-3", "3x4-rnn5-3", "3x4-rnn5-rnn4-3"])
@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_convolutions_and_recurrent_layers_learn_as_on_the_cpu(machine, arch, activation):
    width = mlp.widths(arch)[0]
    x, y = RNG.standard_normal((7, width)).astype("f"), RNG.integers(0, 3, 7)
    models = [mlp.MLP(arch, activation=activation, device=device) for device in ("cpu", "cuda")]
    right, found = (curve(model, 4, x, y) for model in models)
    np.testing.assert_allclose(found, right, rtol=5e-5)


def test_everything_lives_on_the_device_and_a_step_waits_for_nothing(machine):
    model = mlp.MLP([6, 9, 3], device="cuda", optimizer="adam")
    x, y = model.device.put(X), model.device.put(Y)
    model.step(x, y)
    assert all(devices.on_gpu(array) for array in model.parameters())
    assert devices.on_gpu(model.forward(X))
    assert all(map(devices.on_gpu, model.gradients(X, Y)))
    assert isinstance(model.predict(X), np.ndarray)
    model.step(x, y)
    model.device.wait()
    device_memory.QUEUE.slow = 1e-4  # launches wait until somebody waits for them
    for call in model.plan(12)._step:
        call()
    assert len(device_memory.QUEUE.waiting) >= len(model.plan(12)._step)
    loss = model.step(x, y)
    assert loss.shape == ()
    assert devices.on_gpu(loss)
    assert np.isfinite(float(loss))


def test_x_on_the_device_is_used_where_it_lies_and_x_on_the_host_may_be_changed_afterwards(machine):
    model = mlp.MLP([6, 9, 3], device="cuda")
    x = model.device.put(X)
    model.step(x, Y)
    assert model.plan(12).x is x
    changing, again = X.copy(), mlp.MLP([6, 9, 3], device="cuda")
    losses = []
    for _ in range(3):
        changing[...] = X
        losses.append(again.step(changing, Y))
        changing[...] = np.nan
    np.testing.assert_allclose([float(loss) for loss in losses], curve(mlp.MLP([6, 9, 3]), 3), rtol=1e-5)


def test_labels_on_the_device_are_not_looked_at_and_a_wrong_one_shows_in_the_loss(machine):
    model = mlp.MLP([6, 9, 3], device="cuda")
    labels = model.device.put(np.where(np.arange(12) == 4, 3, Y))
    assert np.isnan(float(model.step(X, labels)))
    with pytest.raises(ValueError, match="label 3 in row 4 of y is out of range"):
        model.step(X, devices.host(labels))


def test_labels_that_stand_for_one_hot_rows_are_taken_from_the_device_too(machine):
    models = [mlp.MLP([6, 3], loss="logistic", device=device) for device in ("cpu", "cuda")]
    right, found = curve(models[0], 2), curve(models[1], 2, models[1].device.put(X), models[1].device.put(Y))
    np.testing.assert_allclose(found, right, rtol=1e-5)


def test_weighted_losses_learn_as_on_the_cpu(machine):
    weights = RNG.random(12)
    loss = mlp.weighted("softmax-cross-entropy")
    models = [mlp.MLP([6, 4, 3], loss=loss, device=device) for device in ("cpu", "cuda")]
    right, found = (curve(model, 3, X, (Y, weights)) for model in models)
    np.testing.assert_allclose(found, right, rtol=1e-5)


@pytest.mark.parametrize(
    ("device", "kernel", "sentence"),
    [
        (
            "cuda",
            "blas",
            "kernel 'blas' multiplies on the CPU and this network lives on the GPU; give it a kernel of",
        ),
        ("cuda", "cublas,1=numba-ikj", "kernel 'numba-ikj' multiplies on the CPU"),
        (
            "cpu",
            "cublas",
            "kernel 'cublas' multiplies on the GPU and this network lives on the CPU; give it device",
        ),
        ("cpu", "blas,*.dW=cuda-naive", "kernel 'cuda-naive' multiplies on the GPU"),
        ("gpu", None, "unknown device 'gpu'; "),
    ],
)
def test_a_kernel_of_another_device_is_refused_in_one_sentence(machine, device, kernel, sentence):
    with pytest.raises(ValueError, match=sentence):
        mlp.MLP([4, 3], device=device, kernel=kernel)


def test_an_array_of_the_gpu_is_refused_by_a_network_on_the_cpu(machine):
    x = devices.device("cuda").put(X)
    with pytest.raises(ValueError, match="is on the GPU and this network lives on the CPU"):
        mlp.MLP([6, 3]).step(x, Y)


def test_without_a_gpu_the_device_says_why_it_cannot_be_had():
    reason = gemm.find("cublas").reason
    if reason is None:
        pytest.skip("there is a GPU")
    devices._cuda.cache_clear()
    with pytest.raises(gemm.KernelUnavailable, match="device 'cuda' cannot be had here: "):
        mlp.MLP([4, 3], device="cuda")


def test_a_copy_and_a_pickle_go_on_as_the_model_does(machine):
    model = mlp.MLP([6, 5, 3], device="cuda", optimizer="adam")
    curve(model, 2)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    right = curve(model, 2)
    for other in copies:
        assert other.device.name == "cuda"
        np.testing.assert_array_equal(curve(other, 2), right)


@pytest.mark.parametrize("kernel", ["cublas", "cuda-naive"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_step_as_one_graph_learns_the_same_and_follows_a_learning_rate(machine, optimizer, kernel):
    models = [
        mlp.MLP([6, 5, 3], device="cuda", kernel=kernel, optimizer=optimizer, graph=graph)
        for graph in (False, True)
    ]
    for lr in (0.1, 0.05):
        for model in models:
            model.optimizer.lr = lr
        right, found = (curve(model, 6) for model in models)
        np.testing.assert_array_equal(found, right)
    sgd = optimizer == "sgd"  # whose learning rate is in the products, by value
    assert machine.captured == 1 + sgd


def test_a_step_that_cannot_be_captured_is_launched_call_by_call(machine, monkeypatch):
    def refused(major):
        raise OSError("libcublas.so.13: cannot open shared object file")

    monkeypatch.setattr(cublas, "_library", refused)
    model = mlp.MLP([6, 5, 3], device="cuda", graph=True)
    with pytest.warns(RuntimeWarning, match="this step cannot be captured as a graph: libcublas"):
        found = curve(model)
    np.testing.assert_array_equal(found, curve(mlp.MLP([6, 5, 3], device="cuda")))


def test_a_recorder_sees_every_operation_and_the_step_is_the_same(machine):
    class Names(mlp.Recorder):
        def __init__(self):
            self.seen = []

        def end(self, operation):
            self.seen.append(operation.id)

    model, recorder = mlp.MLP([6, 5, 3], device="cuda", kernel="cuda-naive"), Names()
    loss = float(model.step(X, Y, recorder))
    assert recorder.seen == [operation.id for operation in model.operations(12)]
    assert loss == float(mlp.MLP([6, 5, 3], device="cuda", kernel="cuda-naive").step(X, Y))


def digits(device, tmp_path=None, epochs=2, **options):
    data = mlp.Dataset(X, Y, X[:5], Y[:5], 3, "made")
    model = mlp.MLP([6, 5, 3], device=device, optimizer="momentum", seed=3)
    file = tmp_path / f"{device}.npz" if tmp_path else None
    history = mlp.fit(model, data, epochs=epochs, batch=5, checkpoint=file, **options)
    return model, history


def test_a_training_learns_what_it_learns_on_the_cpu(machine):
    (_, right), (_, found) = digits("cpu", epochs=3), digits("cuda", epochs=3)
    np.testing.assert_allclose(found.losses, right.losses, rtol=1e-5)
    np.testing.assert_allclose(found.train_loss, right.train_loss, rtol=1e-5)
    assert found.test_accuracy == right.test_accuracy


def test_a_training_gathers_and_fetches_without_waiting_for_every_step(machine):
    digits("cuda", epochs=2)
    assert machine.launches.count("take_rows") == 2 * 2 * 3


def test_a_training_goes_on_from_a_checkpoint_and_on_another_device(machine, tmp_path):
    (whole, right) = digits("cuda", epochs=3)
    digits("cuda", tmp_path, epochs=2)
    model, history = digits("cuda", tmp_path, epochs=3, resume=True)
    assert history.losses == right.losses
    for own, other in zip(of_numpy(model.parameters()), of_numpy(whole.parameters())):
        np.testing.assert_array_equal(own, other)
    on_cpu = mlp.MLP([6, 5, 3], optimizer="momentum", seed=3)
    checkpoint.restore(on_cpu, tmp_path / "cuda.npz")
    for own, other in zip(on_cpu.parameters(), of_numpy(whole.parameters())):
        np.testing.assert_array_equal(own, other)


def test_early_stopping_and_validation_work_there(machine):
    options = {"validation": 0.25, "stopping": mlp.EarlyStopping(1), "epochs": 4}
    (cpu, right), (there, found) = (digits(device, **options) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(found.validation_loss, right.validation_loss, rtol=1e-5)
    assert found.best_epoch == right.best_epoch
    for own, other in zip(of_numpy(there.parameters()), cpu.parameters()):
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-5)


def test_a_training_that_diverges_says_so(machine):
    data = mlp.Dataset(X, Y.astype("f")[:, None], X[:2], Y.astype("f")[:2, None], None, "made")
    model = mlp.MLP([6, 1], device="cuda", loss="squared-error", lr=1e30)
    with pytest.raises(mlp.DivergenceError, match="the loss became"):
        mlp.fit(model, data, epochs=3, batch=4)


def test_the_gradient_is_the_differences_of_the_loss(machine):
    model = mlp.MLP([6, 5, 3], device="cuda", dtype="float64", activation="tanh")
    assert mlp.directional_error(model, X, Y) < 1e-7
    assert mlp.elementwise_error(model, X, Y, entries=4) < 1e-6


def test_a_network_in_bfloat16_learns_about_what_one_in_float32_does(machine, tmp_path):
    pytest.importorskip("ml_dtypes")  # which CuPy has bfloat16 from
    options = {"device": "cuda", "optimizer": "momentum", "lr": 0.05}
    models = [mlp.MLP([6, 9, 3], dtype=dtype, **options) for dtype in ("float32", "bfloat16")]
    right, found = (curve(model, 8) for model in models)
    assert right[-1] < 0.9 * right[0]
    np.testing.assert_allclose(found, right, rtol=0.05)
    assert {str(parameter.dtype) for parameter in models[1].parameters()} == {"bfloat16"}
    assert models[1].step(X, Y).dtype == np.float32
    checkpoint.save(models[1], tmp_path / "low.npz")
    again = mlp.MLP([6, 9, 3], dtype="bfloat16", seed=9, **options)
    checkpoint.restore(again, tmp_path / "low.npz")
    assert curve(again, 2) == curve(models[1], 2)
    with pytest.raises(ValueError, match="bfloat16"):
        mlp.MLP([4, 3], dtype="bfloat16")
