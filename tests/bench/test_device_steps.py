"""Steps on a device: events around every operation, every product verified, and PyTorch's step beside ours."""

import numpy as np
import pytest

import gemm
import mlp
from bench import peers
from bench.peers import torch_cuda_step
from bench.plans import network
from bench.timing import device_steps, subjects
from bench.timing.device_steps import DeviceStep, Timeline
from bench.timing.subjects import Wrong
from gemm.cuda import host
from tests.mlp.emulated import gpu

pytestmark = pytest.mark.skipif(host.reason() is not None, reason=str(host.reason()))
MODEL = {
    "arch": [6, 9, 3], "batch": 12, "activation": "relu", "loss": "softmax-cross-entropy", "optimizer": "sgd",
    "lr": 0.01, "dtype": "float32", "data": "random", "device": "cuda",
}  # fmt: skip


@pytest.fixture
def machine(monkeypatch):
    with gpu(monkeypatch) as made:
        for cached in (subjects.importing, subjects.starting):
            cached.cache_clear()
        for name, seconds in (("FIRST_S", 0.0), ("MOST_S", 0.0), ("SAMPLE_S", 0.001)):
            monkeypatch.setattr(device_steps, name, seconds)
        yield made


def test_rows_are_every_operation_and_add_up_to_the_step(machine):
    model = mlp.MLP([6, 9, 3], device="cuda", kernel="cuda-naive")
    x, y, timeline = np.ones((4, 6), "f"), np.zeros(4, int), Timeline()
    for _ in range(3):
        timeline.step(lambda recorder: model.step(x, y, recorder=recorder))
    total, spent, operations = timeline.read()
    assert list(spent) == [operation.id for operation in model.operations(4)] == list(operations)
    assert 0 < sum(spent.values()) <= total
    assert timeline.read() == (0.0, {}, {})  # and it may begin anew


@pytest.mark.parametrize(
    ("kernel", "dtype"), [("cublas", "float32"), ("cublas", "bfloat16"), ("cuda-naive,2=cublas", "float32")]
)
def test_a_step_on_a_device_is_verified_timed_and_told_by_operation(machine, kernel, dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    subject = DeviceStep(kernel, MODEL | {"dtype": dtype}, 0)
    opened = subject.open(0.001)
    assert opened["loops"] >= 1
    assert 0 < opened["error_ratio"] <= 1
    sample = subject.sample()
    rows = sum(row["seconds"] for row in sample["layers"])
    assert 0 < rows <= sample["instrumented_seconds"] * 1.001
    assert {row["id"] for row in sample["layers"]} == {one.id for one in subject.model.operations(12)}
    assert sample["seconds"] > 0
    assert 0 < sample["error_ratio"] <= 1


def test_some_rows_of_large_products_are_verified_and_a_wrong_edge_is_found(machine, monkeypatch):
    monkeypatch.setattr(device_steps, "LARGE", 100)
    monkeypatch.setattr(device_steps, "ROWS", 4)
    subject = DeviceStep("cublas", MODEL | {"batch": 40}, 0)
    assert subject._verify() <= 1
    kernel = gemm.find("cublas")
    right = kernel.bind

    def wrong(a, b, c, **how):
        call = right(a, b, c, **how)

        def does():
            call()
            c[-1, -1] += 1

        return does

    monkeypatch.setitem(kernel.__dict__, "bind", wrong)
    with pytest.raises(Wrong, match="has error ratio"):
        DeviceStep("cublas", MODEL | {"batch": 40}, 0)._verify()


def test_cells_on_a_device_say_so_and_those_on_the_host_are_what_they_were(machine):
    settings = {key: value for key, value in MODEL.items() if key not in ("arch", "batch", "device")}
    (there,) = network.cells([6, 9, 3], 12, ["cublas"], 1, **settings, device="cuda")
    (here,) = network.cells([6, 9, 3], 12, ["blas"], 1, **settings)
    assert (there.device, there.operands, there.threads) == ("cuda", "device", 0)
    assert dict(there.model)["device"] == "cuda"
    assert "device" not in dict(here.model)
    assert "device" not in here.identity
    with pytest.raises(
        ValueError, match="kernel 'blas' multiplies on the CPU and this network lives on the GPU"
    ):
        network.cells([6, 9, 3], 12, ["cublas,1=blas"], 1, **settings, device="cuda")
    with pytest.raises(
        ValueError, match="kernel 'cublas' multiplies on the GPU and this network lives on the CPU"
    ):
        network.cells([6, 9, 3], 12, ["cublas"], 1, **settings)
    with pytest.raises(ValueError, match="peer:torch is a step with --device cpu, not --device cuda"):
        network.cells([6, 9, 3], 12, ["peer:torch"], 1, **settings, device="cuda")
    with pytest.raises(ValueError, match="unknown device 'gpu'"):
        network.cells([6, 9, 3], 12, ["cublas"], 1, **settings, device="gpu")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_pytorchs_step_on_the_gpu_loses_what_ours_does(monkeypatch, dtype):
    pytest.importorskip("torch")
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    monkeypatch.setattr(torch_cuda_step, "DEVICE", "cpu")  # the same code, without a GPU
    peer, model = peers.get("peer:torch-cuda"), MODEL | {"dtype": dtype}
    weights = [weight.astype(gemm.dtypes.named(dtype)) for weight in mlp.MLP([6, 9, 3]).parameters()]
    x, y = network.batch_for(model, np.random.default_rng(0))
    step = peer.make(model, weights, x, y, 1)
    losses = [float(step()) for _ in range(3)]
    assert peer.check(losses, model, weights, x, y) <= peers.TOLERANCE[dtype]
    with pytest.raises(ValueError, match="the loss of step 1 is"):
        peer.check([loss * 1.1 for loss in losses], model, weights, x, y)


def test_a_training_on_a_device_is_timed_to_the_end_of_its_steps(machine):
    from bench.timing.training import learn

    told = []
    fitting = {"epochs": 1, "batch": 500, "seed": 0, "schedule": "constant", "validation": 0.0, "checkpoint": None,
               "resume": False}  # fmt: skip
    model = MODEL | {"arch": [64, 3, 10], "data": "digits", "seed": 0, "weight_decay": 0.0, "lr": 0.1}
    ended = learn("cublas", model | {"batch": 500}, fitting, None, told.append)
    assert ended["status"] == "ok"
    assert ended["steps"] == 3
    assert len(ended["epochs"]) == 1
