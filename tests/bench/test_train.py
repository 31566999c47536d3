"""Training under a clock: the kernel changes the clock and nothing else, and a lost one costs the others nothing."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import bench
import gemm
import mlp
from bench.records import RunError
from bench.timing import training as timed
from bench.train import record, train, write

QUICK = {"data": "digits", "arch": "64-16-10", "epochs": 2, "batch": 64}


def test_training_is_the_same_on_any_kernel_but_for_its_clock():
    """float64: the same losses to 1e-10, and those of mlp.fit in this process; every epoch with its seconds."""
    trained = train(**QUICK, kernels=["blas", "numba-blocked", "blas,1=numba-ikj"], lr=0.5, dtype="float64")
    model = mlp.MLP("64-16-10", lr=0.5, dtype="float64")
    own = mlp.fit(model, mlp.load("digits"), epochs=2, batch=64)
    assert trained[0].losses == list(own.losses)
    for one in trained:
        assert (one.status, one.reason) == ("ok", None)
        np.testing.assert_allclose(one.losses, own.losses, rtol=1e-10)
        assert [epoch.epoch for epoch in one.epochs] == [1, 2]
        assert [epoch.test_accuracy for epoch in one.epochs] == own.test_accuracy
        assert [epoch.cumulative_s for epoch in one.epochs] == pytest.approx(
            np.cumsum([epoch.seconds for epoch in one.epochs])
        )
        assert 0 < one.spent_s == pytest.approx(one.seconds)
        assert one.step_s == pytest.approx(one.seconds / len(one.losses))
        assert 0 < one.error_ratio < 1
        assert one.first_call_s > 0
        assert one.worker["libraries"]


def test_the_clock_runs_in_steps_only(monkeypatch):
    """Not in evaluation, in a checkpoint or in a pause, which comes whenever a turn is over."""
    now, told = [0.0], []
    monkeypatch.setattr(timed, "perf_counter", lambda: now[0])
    monkeypatch.setattr(timed, "TURN_S", 2.5)

    def pause(what):
        told.append(what)
        now[0] += 1000.0

    class Slow(mlp.MLP):
        def step(self, x, y):
            now[0] += 1.0
            return super().step(x, y)

        def judge(self, x, y):
            now[0] += 100.0
            return super().judge(x, y)

    clock, data = timed.Clock(pause), mlp.load("synthetic", examples=250, features=6, classes=3)
    history = mlp.fit(Slow([6, 3]), data, epochs=3, batch=50, callbacks=[clock])
    told.append(clock.rest())
    assert clock.seconds == [4.0] * 3
    assert (clock.steps, clock.spent) == (12, 12.0)
    assert told[0] == {"steps_an_epoch": 4, "epochs": [], "losses": []}
    assert [len(one["losses"]) for one in told[1:]] == [
        3,
        1,
        3,
        1,
        3,
        1,
        0,
    ]  # in mid-epoch, and after an epoch
    assert [loss for one in told for loss in one["losses"]] == list(history.losses)
    epochs = [epoch for one in told for epoch in one["epochs"]]
    assert [(epoch["epoch"], epoch["seconds"]) for epoch in epochs] == [(1, 4.0), (2, 4.0), (3, 4.0)]


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import os\ncalls = [0]\n"
        "def wrong(a, b, c):\n    c[...] = a @ b\n    c[0, 0] += 1\n"
        "def raising(a, b, c):\n    raise KeyError('no')\n"
        "def later(a, b, c):\n    calls[0] += 1\n    c[...] = a @ b\n    if calls[0] > 60: os._exit(3)\n"
        "def nan(a, b, c):\n    calls[0] += 1\n    c[...] = a @ b\n    if calls[0] > 60: c[...] = float('nan')\n"
    )
    return tmp_path / "mine.py"


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [
        ("wrong", "wrong", "1.Z has error ratio"),
        ("raising", "failed", "KeyError: 'no'"),
        ("later", "crashed", "exit code 3"),
        ("nan", "diverged", "the loss became nan at step "),
    ],
)
def test_a_kernel_that_is_lost_is_a_record_with_a_reason_and_the_others_go_on(mine, fault, status, reason):
    """Before anything is timed where it is wrong; what was learnt until then is kept."""
    lost, good = train(**QUICK, kernels=[f"{mine}:{fault}", "blas"])
    assert lost.status == status, lost.reason
    assert reason in lost.reason
    assert (good.status, len(good.epochs)) == ("ok", 2)
    if status in ("wrong", "failed"):
        assert (lost.losses, lost.epochs, lost.seconds) == ([], [], 0.0)


def test_an_unavailable_kernel_is_one_too():
    if gemm.find("cublas").available:  # then it is one of another device
        with pytest.raises(ValueError, match="kernel 'cublas' multiplies on the GPU"):
            train(**QUICK, kernels=["cublas", "blas"])
        return
    lost, good = train(**QUICK, kernels=["cublas", "blas"])
    assert (good.status, lost.status) == ("ok", "unavailable")
    assert lost.reason.startswith("cublas: ")


def test_the_record_is_whole_and_can_be_read_again(tmp_path):
    """What was trained, where, how it went step by step and epoch by epoch, and what it takes in memory."""
    at = tmp_path / "digits.json"
    trained = train(
        **QUICK | {"epochs": 40}, kernels=["blas", "numba-micro"], validation=0.1, schedule="cosine",
        stopping=mlp.EarlyStopping(patience=3, min_delta=0.02),
    )  # fmt: skip
    write(trained, at)
    run = bench.load(at)
    assert run.environment["cpu"]["cores"]
    assert run.environment["schema"] == run.lines[0]["schema"] == 1
    assert [line["kernel"] for line in run.of("training")] == ["blas", "numba-micro"]
    for line, one in zip(run.of("training"), trained):
        assert line["model"]["arch"] == [64, 16, 10]
        assert line["model"]["stopping"] == {"patience": 3, "min_delta": 0.02, "on": "loss"}
        assert line["losses"] == one.losses
        assert line["stopped"]
        assert line["best_epoch"] <= len(line["epochs"]) < 40
        assert len(line["losses"]) == 21 * len(line["epochs"])  # 1294 rows that are left, by 64
        lr = [epoch["lr"] for epoch in line["epochs"]]
        assert lr[0] == 0.1 > lr[1] > lr[-1]
        for epoch in line["epochs"]:
            assert all(value > 0 for value in epoch.values())
        assert line["source"]
        assert line["memory"]["parameters"] == 4 * (64 * 16 + 16 + 16 * 10 + 10) == line["memory"]["best"]
        assert line["memory"]["total"] == sum(v for name, v in line["memory"].items() if name != "total")
    fused, separate = (line["memory"]["gradients"] for line in reversed(run.of("training")))
    assert fused < separate  # numba-micro updates inside its products


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "unreadable"),
        ("[1]", "not an object"),
        ('{"benchmarks": []}', "holds no trainings; `gemmlab train --out"),
        ('{"gemmlab": "trainings", "schema": 99}', "is of schema 99"),
    ],
)
def test_what_is_no_file_of_trainings_is_refused(tmp_path, text, sentence):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(RunError, match=sentence):
        bench.load(tmp_path / "a.json")


def test_a_training_that_lacks_something_is_left_out_with_a_warning(tmp_path):
    found = record(train(**QUICK, kernels=["blas"]))
    found["trainings"] += [{"kind": "training", "cell": "x", "schema": 1, "kernel": "blas"}, 3]
    (tmp_path / "a.json").write_text(json.dumps(found))
    run = bench.load(tmp_path / "a.json")
    assert len(run.lines) == 1
    assert run.warnings == [
        "a.json training 2: a training without threads; left out",
        "a.json training 3: not a record of gemmlab's; left out",
    ]


def test_a_resumed_training_has_all_epochs_and_the_seconds_of_all(tmp_path):
    """Those of the process before come from the checkpoint; steps count this process's."""
    at = tmp_path / "digits.npz"
    (first,) = train(**QUICK, checkpoint=at)
    (second,) = train(**QUICK | {"epochs": 3}, checkpoint=at, resume=True)
    (whole,) = train(**QUICK | {"epochs": 3})
    assert second.losses == whole.losses
    assert second.epochs[:2] == first.epochs
    assert second.steps == len(whole.losses) // 3
    assert second.seconds == pytest.approx(first.seconds + second.spent_s)
    (done,) = train(**QUICK | {"epochs": 3}, checkpoint=at, resume=True)
    assert (done.steps, done.step_s, done.epochs) == (0, None, second.epochs)


@pytest.mark.slow
def test_ctrl_c_keeps_the_checkpoint_and_leaves_nobody_behind(tmp_path):
    """Exit code 130, one sentence; the same command with --resume goes on to the same losses."""
    import psutil

    arguments = [
        "train",
        "--epochs",
        "4000",
        "--kernel",
        "numba-ikj",
        "--checkpoint",
        "a.npz",
        "--out",
        "a.json",
    ]
    child = subprocess.Popen(
        [sys.executable, "-m", "gemmlab", *arguments], cwd=tmp_path, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, start_new_session=True, env=os.environ,
    )  # fmt: skip
    until = time.monotonic() + 60
    while not (tmp_path / "a.npz").exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    workers = psutil.Process(child.pid).children(recursive=True)
    assert workers
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert (
        err.strip()
        == "gemmlab: interrupted; a.npz has every whole epoch: the same command with --resume goes on"
    )
    assert not psutil.wait_procs(workers, timeout=10)[1]
    (_, epochs) = (restored := mlp.MLP("64-64-10"), _epochs(restored, tmp_path / "a.npz"))
    asked = ["train", "--epochs", str(epochs + 1), *arguments[3:], "--resume"]
    done = subprocess.run(
        [sys.executable, "-m", "gemmlab", *asked], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (line,) = bench.load(tmp_path / "a.json").of("training")
    assert len(line["epochs"]) == epochs + 1


def _epochs(model, path):
    from mlp.checkpoint import restore

    return restore(model, path)["epoch"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"kernels": ["blas", "numba-ikj"], "checkpoint": "a.npz"}, "a checkpoint is of one training"),
        (
            {"kernels": ["peer:numpy"]},
            "peer:numpy is a step in another library, which gemmlab times and does not",
        ),
        ({"epochs": 0}, "epochs is 0"),
        ({"batch": 100_000}, "batch is 100000, more than the 1438 training examples of digits"),
        (
            {"batch": 1400, "validation": 0.1},
            "more than the 1294 training examples of digits that validation = 0.1",
        ),
        ({"arch": "65-10"}, "the network 65-10 takes"),
        ({"arch": "64-0-10"}, "a width of 0"),
        ({"arch": "64-2"}, "digits has 10 classes, the network 64-2 2 outputs"),
        ({"stopping": mlp.EarlyStopping(on="accuracy")}, "there is no validation part"),
        ({"checkpoint": "none/a.npz"}, "does not exist; make it"),
        ({"resume": True}, "resume goes on from a checkpoint; say which file it is"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(tmp_path, monkeypatch, change, sentence):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=sentence) as raised:
        train(**QUICK | change)
    assert "\n" not in str(raised.value)
