"""The training steps of other libraries: they lose what float64 loses, and are timed as wholes."""

import numpy as np
import pytest

import bench
import mlp
from bench import peers
from bench.plans import network
from bench.timing.subjects import PeerStep, Wrong

QUICK = {"launches": 1, "rounds": 2, "sample_s": 0.005, "more_s": 0.0}
MODEL = network.DEFAULTS | {"arch": [6, 9, 7, 4], "batch": 12, "lr": 0.1}


def available(name):
    peer = peers.get(name)
    if peer.reason:
        pytest.skip(peer.reason)
    return peer


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["peer:numpy", "peer:torch", "peer:scikit-learn"])
def test_a_peer_loses_what_we_lose(name, dtype, activation):
    """Ten steps from the same weights, on the same batch: the losses are those of our own model."""
    peer, model = available(name), MODEL | {"dtype": dtype, "activation": activation}
    ours = mlp.MLP(model["arch"], activation=activation, lr=0.1, dtype=dtype)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, 6)).astype(dtype), rng.integers(0, 4, 12)
    step = peer.make(model, ours.parameters(), x, y, 1)
    found = [step() for _ in range(10)]
    right = [ours.step(x, y) for _ in range(10)]
    np.testing.assert_allclose(found, right, rtol={"float32": 1e-4, "float64": 1e-10}[dtype])
    assert right[-1] < right[0]


def test_a_peer_that_does_something_else_is_not_timed(monkeypatch):
    """Here with half the learning rate: the first loss is right, the second is not."""
    make = peers.Peer.make
    monkeypatch.setattr(
        peers.Peer, "make", lambda self, model, *rest: make(self, model | {"lr": model["lr"] / 2}, *rest)
    )
    with pytest.raises(Wrong, match=r"the loss of step 2 is .*; in float64 it is"):
        PeerStep("peer:numpy", MODEL, seed=0).open(0.001)


def test_a_profile_times_peers_in_turn_with_kernels(tmp_path):
    """A step as a whole, without rows; a peer that is not installed has a record with the reason."""
    run = bench.profile(
        "6-9-4", 12, ["numba-micro", "peer:numpy", "peer:torch-compile"], threads=1, out=tmp_path / "run",
        settings=QUICK,
    )  # fmt: skip
    status = {cell["kernel"]: cell["status"] for cell in run.cells}
    assert status["numba-micro"] == status["peer:numpy"] == "ok"
    assert status["peer:torch-compile"] in ("ok", "unavailable", "failed")  # without torch, or a C++ compiler
    assert [profile.result.kernel for profile in bench.profiles(run)] == ["numba-micro"]
    assert {line["cell"] for line in run.of("step") if not line["instrumented"]} >= {
        cell["cell"] for cell in run.cells if cell["status"] == "ok"
    }


@pytest.mark.parametrize(
    ("kernel", "settings", "sentence"),
    [
        ("peer:numpi", {}, "unknown peer 'peer:numpi'; there are peer:numpy, peer:torch"),
        (
            "peer:numpy",
            {"activation": "gelu"},
            "activation relu or tanh or sigmoid, not gelu",
        ),
        ("peer:torch", {"optimizer": "adam"}, "peer:torch is written for optimizer sgd, not adam"),
    ],
)
def test_what_a_peer_does_not_have_is_said_before_anything_is_timed(tmp_path, kernel, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        bench.profile("6-9-4", 12, [kernel], out=tmp_path / "run", settings=QUICK, **settings)


def test_a_peer_is_no_kernel_of_a_sweep(tmp_path):
    with pytest.raises(
        ValueError, match="peer:numpy does whole training steps; name it in `gemmlab profile`"
    ):
        bench.sweep(kernels=["peer:numpy"], sizes=[8], out=tmp_path / "run", settings=QUICK)
