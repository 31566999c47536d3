"""Prediction: made-up profiles with a planted cost, and what comes of them for networks that were never run."""

import json
import random
import warnings

import pytest

import mlp
from bench import calibration
from bench.calibration import LR, NoCalibration, from_runs, kept, observed, passing, task_of
from bench.plans import draws
from bench.prediction import predict
from bench.records import Run, cell_id
from bench.verdicts.cost_model import ROW, STEP, CostModel
from tests.bench.made import ENVIRONMENT

CACHES = {"L2": 1 << 20, "L3": 32 << 20}
PRICES = {
    "nn.call": 3e-7, "nn.flop": 1.0e-11, "nn.c": 4e-11, "nt.call": 5e-7, "nt.flop": 1.2e-11, "nt.b": 2e-11,
    "tn.call": 2e-7, "tn.flop": 0.9e-11, "tn.a": 5e-11, "db.call": 1.5e-7, "db.byte": 7e-11,
    "bias.call": 1e-6, "bias.byte": 3e-11, "activation:relu.byte": 4e-11, "activation:relu'.byte": 5e-11,
    "loss:hinge.byte": 8e-11, "update:adam.byte": 2e-11, STEP: 3e-6, ROW: 2e-7,
}  # fmt: skip
PLANTED = CostModel(PRICES, {}, CACHES)


def described(arch, batch, **changed):
    return {
        "arch": list(arch), "batch": batch, "activation": "relu", "loss": "hinge", "optimizer": "adam", "lr": LR,
        "dtype": "float32", "data": "random",
    } | changed  # fmt: skip


def operations(model, kernel="blas"):
    keys = ("activation", "loss", "optimizer", "dtype")
    built = mlp.MLP(model["arch"], kernel=kernel, **{key: model[key] for key in keys})
    return built.operations(model["batch"])


def truth(model):
    """Seconds of each operation and of the step, as PRICES have them."""
    found = operations(model)
    around = passing(found)
    rows = {one.id: PLANTED.seconds(task_of(one, model, around)) for one in found}
    return rows, sum(rows.values()) + PRICES[STEP]


def profiled(folder, models, kernel="blas", threads=1):
    """A run that has profiled these networks on two launches of one round."""
    run = Run(folder, ENVIRONMENT | {"cpu": {"cores": 2, "caches": CACHES}}, {"rounds": 1}, [])
    for model in models:
        identity = {"kernel": kernel, "source": "abc", "threads": threads, "cache": "hot", "model": model}
        at, (rows, step) = cell_id(identity), truth(model)
        for launch in (0, 1):
            where = {"cell": at, "launch": launch, "round": 0, "order": 0, "steps": 10, "model": model}
            for one in operations(model):
                what = {
                    key: getattr(one, key) for key in ("id", "layer", "op", "phase", "m", "n", "k", "flops")
                }
                what |= {"bytes": one.bytes, "kernel": one.kernel, "parts": list(one.parts)}
                run.lines.append(
                    {"kind": "layer", **where, **what, "seconds": rows[one.id] + PRICES[ROW]}
                )  # fmt: skip
            for instrumented, seconds in ((False, step), (True, step + len(rows) * PRICES[ROW])):
                run.lines.append({"kind": "step", **where, "instrumented": instrumented, "seconds": seconds})
        run.lines.append({"kind": "cell", "cell": at, "status": "ok", **identity})
    return run


def networks(count):
    """Of the range that is calibrated, all with relu, hinge and adam, whose prices are planted."""
    return [described(one["arch"], one["batch"]) for one in draws.spread(count)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return profiled(tmp_path_factory.mktemp("made"), networks(24))


@pytest.fixture(scope="module")
def known(run):
    return from_runs([run], "blas", "float32", 1)


@pytest.fixture
def file(monkeypatch, tmp_path):
    """A calibration file of this test's own, not there yet; and no runs beside."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEMMLAB_CALIBRATION", "")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "gemmlab").mkdir()
    return tmp_path / "gemmlab" / "calibration.json"


def test_a_network_that_was_never_run_costs_what_was_planted(run):
    """Each row and the step, from the records of others."""
    model = described([100, 200, 50, 10], 64)
    rows, step = truth(model)
    found = predict([100, 200, 50, 10], 64, "blas", threads=1, run=run, loss="hinge", optimizer="adam")
    assert found.step == pytest.approx(step, rel=0.02)
    for row in found.rows:
        assert row.seconds == pytest.approx(rows[row.operation.id], rel=0.1), row.operation.id
    assert (found.measured, found.run) == (None, None)
    assert found.error < 0.05


def test_what_was_measured_stands_beside(run):
    """Of the very network, on the very kernel; rows too."""
    model = networks(1)[0]
    found = predict(model["arch"], model["batch"], "blas", threads=1, run=run, loss="hinge", optimizer="adam")
    assert found.measured == pytest.approx(truth(model)[1])
    assert all(row.measured is not None for row in found.rows)
    other = predict(model["arch"], 7, "blas", threads=1, run=run, loss="hinge", optimizer="adam")
    assert other.measured is None


@pytest.fixture
def crowded(tmp_path):
    """The same networks beside a neighbour, which costs the power 0.7: in the first launch less, in the second more."""
    run, draw = profiled(tmp_path, networks(24)), random.Random(3)
    crowds = {
        (one, launch): (0.0 if one == run.lines[0]["cell"] else draw.uniform(0.0, 0.2)) + 0.2 * launch
        for one in {line["cell"] for line in run.lines}
        for launch in (0, 1)
    }
    for line in run.lines:
        if line["kind"] in ("layer", "step"):
            crowd = crowds[line["cell"], line["launch"]]
            line["seconds"] *= (1 + crowd) ** 0.7
            line["pace_s"] = 1e-4 * (1 + crowd)
    return run


def test_a_prediction_is_of_a_core_of_ones_own(crowded):
    """What a neighbour cost is found and taken off; and it is said of what was measured beside one."""
    known = from_runs([crowded], "blas", "float32", 1)
    assert known.crowded == pytest.approx(0.7, abs=0.01)
    found = predict(
        [100, 200, 50, 10], 64, "blas", threads=1, known={"blas": known}, loss="hinge", optimizer="adam"
    )
    assert found.step == pytest.approx(truth(described([100, 200, 50, 10], 64))[1], rel=0.03)
    assert found.slowed == 1.0
    model = networks(1)[0]
    beside = predict(
        model["arch"], model["batch"], "blas", threads=1, run=crowded, loss="hinge", optimizer="adam"
    )
    assert beside.slowed == pytest.approx(1.2**0.35, rel=0.01)
    assert beside.measured / beside.slowed == pytest.approx(truth(model)[1], rel=0.03)
    assert "would have taken about 1/1.07 of that" in beside.remarks[-1]
    assert beside.record()["slowed"] == beside.slowed


def test_what_is_beyond_the_measured_is_said(run):
    """A width of four thousand is extrapolated, and a loss that was never seen moves its bytes."""
    found = predict([64, 4096, 64], 64, "blas", threads=1, run=run, loss="logistic", optimizer="adam")
    basis = {row.operation.id: row.basis for row in found.rows}
    assert (basis["1.Z"], basis["loss"], basis["1.db"]) == ("extrapolated", "bandwidth", "measured")
    extrapolated, unknown = found.remarks[-2:]
    assert extrapolated.startswith("1.Z, ")
    assert "loss" in unknown
    assert "never measured" in unknown


def test_rows_of_another_kernel_are_not_taken_for_its_own(run):
    """A mapping's rows go to the kernels that did them."""
    for line in run.of("layer"):
        line.setdefault("kernel", "blas")
    assert observed(run, "numba-micro", "float32", 1) != []  # losses, updates: whoever multiplied
    assert all(not one.tasks[0].is_product for one in observed(run, "numba-micro", "float32", 1))
    with pytest.raises(NoCalibration, match="no product of numba-micro in float32 on 1 thread was measured"):
        from_runs([run], "numba-micro", "float32", 1)


def test_a_calibration_comes_back_as_it_was_kept(file, known):
    """Prices, shapes, errors; beside those of other kernels and machines."""
    file.write_text(
        json.dumps({"gemmlab": "calibration", "schema": 1, "entries": [{"cpu": {"model": "other"}}]})
    )
    assert calibration.keep(known) == file
    assert calibration.keep(known) == file  # once more: in the place of the first
    again = kept("blas", "float32", 1)
    assert again == known
    entries = json.loads(file.read_text())["entries"]
    assert [len(entry.get("calibrations", [])) for entry in entries] == [0, 1]


def test_without_a_calibration_the_command_is_named(file, known):
    """And what there is instead."""
    wanted = "`gemmlab predict --calibrate --kernel blas --dtype float32 --threads 1`"
    with pytest.raises(NoCalibration) as none:
        kept("blas", "float32", 1)
    assert wanted in str(none.value)
    calibration.keep(known)
    with pytest.raises(NoCalibration, match=r"on 2 threads .* \(there is one for float32 on 1 thread\)"):
        kept("blas", "float32", 2)


def test_a_calibration_over_other_sizes_is_as_good_as_none(file, known):
    """As an earlier gemmlab made it; those beside it count, and a new one takes its place."""
    older = known.record()
    for one in older["model"]["shapes"].values():
        one["at"], one["scales"] = [point[:-1] for point in one["at"]], one["scales"][:-1]
    entry = {"cpu": calibration.cpu(), "calibrations": [older, known.record() | {"threads": 2}]}
    file.write_text(json.dumps({"gemmlab": "calibration", "schema": 1, "entries": [entry]}))
    assert kept("blas", "float32", 2).threads == 2
    with pytest.raises(NoCalibration, match="--threads 1` makes one"):
        kept("blas", "float32", 1)
    calibration.keep(known)
    assert kept("blas", "float32", 1) == known


FAULTS = {
    "cut short": (lambda text: text[:-20], "damaged, not JSON"),
    "another file": (lambda text: text.replace('"calibration"', '"tuning"', 1), "no calibration file"),
    "another version": (lambda text: text.replace('"schema": 1', '"schema": 9'), "of schema 9"),
    "no figures": (lambda text: text.replace('"prices"', '"costs"'), "a calibration without its figures"),
    "a price below nothing": (lambda text: text.replace('"nn.flop": ', '"nn.flop": -'), "a price below 0"),
    "another processor": (lambda text: text.replace('"cpu": {', '"cpu": {"x": 1, '), "no calibration for"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_cannot_be_used_is_ignored_with_one_line(file, known, fault):
    """And then there is no calibration."""
    calibration.keep(known)
    spoil, sentence = FAULTS[fault]
    file.write_text(spoil(file.read_text()))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pytest.raises(NoCalibration):
            kept("blas", "float32", 1)
    (warning,) = said
    assert str(warning.message).startswith(f"calibration file ignored: {file}: ")
    assert sentence in str(warning.message)


def test_the_set_to_calibrate_fills_the_range():
    """The same on every machine; every activation, loss and optimizer is in it; a seed draws others."""
    spread = draws.spread(64)
    assert spread == draws.spread(64)
    for what, names in (("loss", mlp.LOSSES), ("optimizer", mlp.OPTIMIZERS)):
        assert {one[what] for one in spread} == set(names)
    widths = [width for one in spread for width in one["arch"][:-1]]
    assert min(widths) < 24
    assert max(widths) > 700
    assert draws.drawn(5, 1) == draws.drawn(5, 1) != draws.drawn(5, 2)
    assert all(16 <= width <= 1024 for one in draws.drawn(50, 3) for width in one["arch"])
