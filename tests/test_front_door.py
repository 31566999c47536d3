"""The front door: every command, every mistake in one sentence, and the README as it is printed."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import gemmlab
from gemm import registry

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = sorted(command.name or command.callback.__name__ for command in gemmlab.app.registered_commands)


@pytest.fixture
def gemmlab_says(monkeypatch, capsys, tmp_path):
    """Run the command line in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["gemmlab", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            gemmlab.main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run


def test_the_commands_are_those_of_the_design():
    """As many as there are so far."""
    assert COMMANDS == [
        "check", "compare", "explore", "export", "kernels", "machine", "predict", "profile", "report", "select",
        "sweep", "train", "tune",
    ]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_a_place_in_the_readme(gemmlab_says, command):
    """A command that nobody can find is none."""
    code, out, _ = gemmlab_says(command, "--help")
    assert code == 0
    assert len(out.splitlines()) > 5
    assert f"gemmlab {command}" in README


def test_the_suites_are_listed_with_what_they_are_for(gemmlab_says):
    """Text and JSON say the same; nothing is run."""
    from bench.plans.axes import suites

    code, out, _ = gemmlab_says("sweep", "--suite", "help")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(suites())
    assert all(about in out for about in suites().values())
    code, out, _ = gemmlab_says("sweep", "--suite", "help", "--json")
    assert json.loads(out) == suites()


def test_a_sweep_over_all_axes_ends_in_verified_cells(gemmlab_says):
    """Flags to records: ranges, an order and a batch in a shape, cold caches, data, alpha and beta."""
    code, out, err = gemmlab_says(
        "sweep", "--kernels", "blas", "--suite", "mlp", "--sizes", "8:16:*2", "--shapes", "4x5x6 tn *3",
        "--cache", "hot,cold", "--data", "wide", "--alpha", "2", "--beta", "0.5", "--launches", "1", "--json",
    )  # fmt: skip
    assert code == 0, err
    cells = json.loads(out)["cells"]
    assert {cell["status"] for cell in cells} == {"ok"}, cells
    found = {(c["problem"]["m"], c["problem"]["op_a"], c["problem"]["batch"], c["cache"]) for c in cells}
    plain = {(8, "n", 1), (16, "n", 1), (4, "t", 3)}
    assert found == {(*what, cache) for what in plain for cache in ("hot", "cold")}
    for cell in cells:
        p = cell["problem"]
        assert (p["data"], p["alpha"], p["beta"]) == ("wide", 2, 0.5)
        assert cell["flops"] == 2 * p["batch"] * p["m"] * p["n"] * p["k"]
        assert cell["error_ratio"] <= 1


def test_kernels_lists_the_ladder_with_reasons(gemmlab_says):
    """Text and JSON say the same."""
    code, out, _ = gemmlab_says("kernels")
    assert code == 0
    _, text, _ = gemmlab_says("kernels", "--json")
    rows = json.loads(text)
    assert [row["kernel"] for row in rows][:2] == ["python", "numpy-dot"]
    for row in rows:
        assert row["kernel"] in out
        assert row["available"] == (row["reason"] is None)


def test_kernels_probe_loads_each_one(gemmlab_says):
    """In a process of its own, with a product."""
    code, out, _ = gemmlab_says("kernels", "--probe", "--json")
    assert code == 0
    assert {row["kernel"] for row in json.loads(out) if row["available"]} >= {
        "python",
        "numba-blocked",
        "blas",
    }


def test_a_library_is_named_by_a_flag_before_the_kernels_are_listed(gemmlab_says, monkeypatch, tmp_path):
    """In the same command; a file that is none of it is unavailable, and nothing else is the worse for it."""
    monkeypatch.setenv("GEMMLAB_CBLAS", "")
    (tmp_path / "notes.txt").write_text("no library")
    try:
        code, out, _ = gemmlab_says("kernels", "--cblas", "mine=notes.txt", "--cblas", "nowhere.so", "--json")
        assert code == 0
        reasons = {row["kernel"]: row["reason"] for row in json.loads(out)}
        assert reasons["cblas:mine"] == f"{tmp_path / 'notes.txt'} is no shared library (no ELF file)"
        assert "does not exist" in reasons["cblas:nowhere"]
        assert reasons["blas"] is None
        code, _, err = gemmlab_says("check", "cblas:mine")
        assert (code, err.count("\n")) == (2, 1)
        assert "is no shared library" in err
    finally:
        registry.refresh()


@pytest.mark.filterwarnings("default:tuning file ignored")
def test_a_damaged_tuning_file_is_one_line_on_stderr(gemmlab_says, monkeypatch, tmp_path):
    """And the sweep goes on with the model's block sizes, which its records name; a tuned one's names the file's."""
    from gemm.micro import blocking, tuning
    from gemm.micro.host import tile

    monkeypatch.setenv("GEMMLAB_TUNING", "tuning.json")
    blocks = blocking.model(tile("float32"))._replace(depth=64)._asdict()
    entry = {"cpu": tuning.cpu(), "blocks": {"float32": blocks}}
    good = json.dumps({"gemmlab": "tuning", "schema": 1, "entries": [entry]})
    ids = set()
    try:
        for text, said in ((good[:-5], True), (good, False)):
            (tmp_path / "tuning.json").write_text(text)
            tuning.tuned.cache_clear()
            code, out, err = gemmlab_says(
                "sweep", "--kernels", "numba-micro", "--sizes", "8", "--dtypes", "float32", "--launches", "1",
                "--json",
            )  # fmt: skip
            assert code == 0, err
            (cell,) = json.loads(out)["cells"]
            assert cell["status"] == "ok"
            ids.add(cell["cell"])
            assert (cell["tuning"] == "model") == said
            file = tmp_path / "tuning.json"
            assert err == (f"gemmlab: tuning file ignored: {file}: damaged, not JSON\n" if said else "")
            records = Path(json.loads(out)["run"]) / "records.jsonl"
            (worker,) = [
                line
                for line in map(json.loads, records.read_text().splitlines())
                if line["kind"] == "worker" and line["kernel"] == "numba-micro" and not line["twin"]
            ]
            assert (worker["blocks"]["float32"] == blocks) != said
    finally:
        tuning.tuned.cache_clear()
    assert len(ids) == 2


def test_the_tour_climbs_the_ladder_without_the_peers(gemmlab_says, monkeypatch):
    """Our own GEMM and BLAS, in the sweep and under the network; other people's libraries are asked for by name."""
    from bench.timing import engine

    planned = []

    def start(plan, *_, **__):
        planned.extend(plan.cells)
        raise ValueError("planned is enough")

    monkeypatch.setattr(engine, "start", start)
    code, _, err = gemmlab_says()
    assert (code, err) == (2, "gemmlab: planned is enough\n")
    swept = {cell.kernel for cell in planned if cell.problem}
    trained = {cell.kernel for cell in planned if cell.model}
    ladder = {kernel for kernel in registry.kernels() if not kernel.peer}
    assert swept == {kernel.name for kernel in ladder if kernel.device == "cpu" or kernel.available}
    assert swept >= {"numba-micro", "blas"}
    assert trained == {"numba-blocked", "numba-micro", "blas"}


def test_check_exits_with_1_for_a_wrong_kernel(gemmlab_says, tmp_path):
    """And says what is wrong with it."""
    (tmp_path / "mine.py").write_text("def f(a, b, c):\n    c += a @ b\n")
    code, out, _ = gemmlab_says("check", "mine.py:f")
    assert code == 1
    assert "you accumulate into C" in out
    code, out, _ = gemmlab_says("check", "blas", "--json")
    assert code == 0
    assert json.loads(out)["passed"] is True


MISTAKES = {
    "kernel": (["sweep", "--kernels", "blsa"], "unknown kernel 'blsa'; did you mean 'blas'?"),
    "check a kernel": (["check", "blsa"], "did you mean 'blas'?"),
    "kernel file": (["check", "none.py:f"], "none.py: no such file"),
    "size zero": (["sweep", "--sizes", "0"], "'0' is no size"),
    "size negative": (["sweep", "--sizes=-3"], "'-3' is no size"),
    "size in words": (["sweep", "--sizes", "big"], "'big' is no size"),
    "shape": (["sweep", "--shapes", "3x4"], "shape '3x4' is not m x n x k"),
    "dtype": (["sweep", "--dtypes", "float63"], "unknown dtype 'float63'; did you mean 'float64'?"),
    "a flag of two libraries": (["kernels", "--cblas", "a.so:b.so"], "give one library, as name=/path"),
    "an unknown library": (["check", "cblas:mine"], "--cblas mine=/path/to/it.so, or GEMMLAB_CBLAS"),
    "threads": (["sweep", "--kernels", "blas", "--threads", "9999"], "this process may use 1 to"),
    "precision": (
        ["sweep", "--precision", "vague"],
        "unknown precision 'vague'; there are default, precise, quick",
    ),
    "rounds": (["sweep", "--rounds", "0"], "rounds = 0 must be a whole number from 1 to 86400"),
    "memory": (["sweep", "--kernels", "blas", "--sizes", "300000"], "GiB are free"),
    "TOML": (["sweep", "bad.toml"], "bad.toml: not valid TOML"),
    "TOML key": (["sweep", "key.toml"], "unknown key 'szies'; did you mean 'sizes'?"),
    "no TOML": (["sweep", "none.toml"], "none.toml: cannot be read (No such file or directory)"),
    "out": (["sweep", "--kernels", "blas", "--sizes", "8", "--out", "a-file/run"], "cannot be written"),
    "resume": (["sweep", "--resume", "nowhere"], "nowhere: holds no plan.json"),
    "arch": (["profile", "--arch", "64"], "64"),
    "arch in words": (["profile", "--arch", "64-wide-10"], "64-wide-10"),
    "batch": (["profile", "--batch", "0"], "batch: 0 is no size"),
    "activation": (["profile", "--activation", "rely"], "did you mean 'relu'?"),
    "a factor": (["explore", "--only", "widht"], "unknown factor 'widht'; did you mean 'width'?"),
    "no factor": (["explore", "--only", ","], "--only is empty"),
    "a factor's value": (["explore", "--batches", "1:9:2"], "'1:9:2' is no range"),
    "a factor that is none": (["explore", "--arch", "64-10", "--only", "depth"], "64-10 has no hidden layer"),
    "another plan to explore": (
        ["explore", "--resume", "small"],
        "finish it with gemmlab sweep --resume small",
    ),
    "loss": (["train", "--loss", "hinged"], "hinged"),
    "optimizer": (["train", "--optimizer", "sgdd"], "did you mean 'sgd'?"),
    "data": (["train", "--data", "digts"], "did you mean 'digits'?"),
    "large batch": (["train", "--batch", "100000"], "batch is 100000, more than the"),
    "epochs": (["train", "--epochs", "0"], "epochs"),
    "divergence": (["train", "--lr", "1e30", "--epochs", "2"], "the loss became"),
    "negative epochs": (["train", "--epochs", "-3"], "epochs is -3; it must be a whole number from 1"),
    "a width of 0": (["train", "--arch", "64-0-10"], "arch '64-0-10' has a width of 0"),
    "a learning rate": (["train", "--lr", "nan"], "lr is nan; the learning rate must be a positive number"),
    "a seed": (["train", "--seed", "-1"], "seed is -1; it must be a whole number from 0"),
    "a schedule": (["train", "--schedule", "cosin"], "did you mean 'cosine'?"),
    "a share": (["train", "--validation", "1.5"], "validation is 1.5; it must be a share between 0 and 1"),
    "a share of nothing": (["train", "--validation", "0.0001"], "that leaves none to validate on"),
    "patience": (["train", "--patience", "0"], "patience is 0; it must be a whole number from 1"),
    "what to watch": (["train", "--patience", "2", "--watch", "los"], "did you mean 'loss'?"),
    "a watch without patience": (["train", "--watch", "loss"], "--watch goes with --patience"),
    "watching nothing": (
        ["train", "--patience", "2", "--watch", "accuracy"],
        "there is no validation part; hold a share out with validation",
    ),
    "a peer to train": (["train", "--kernel", "peer:numpy"], "gemmlab times and does not train"),
    "a checkpoint of two": (
        ["train", "--kernel", "blas", "--kernel", "numba-ikj", "--checkpoint", "a.npz"],
        "a checkpoint is of one training",
    ),
    "a checkpoint nowhere": (["train", "--checkpoint", "none/a.npz"], "none/a.npz: the folder of this"),
    "a checkpoint of another network": (
        ["train", "--arch", "64-8-10", "--checkpoint", "net.npz", "--resume"],
        "net.npz is a checkpoint of another network: its arch is 64-10, not 64-8-10",
    ),
    "a checkpoint cut short": (
        ["train", "--arch", "64-10", "--checkpoint", "cut.npz", "--resume"],
        "cut.npz is no checkpoint of a network, or it is damaged",
    ),
    "resume from nothing": (["train", "--resume"], "resume goes on from a checkpoint"),
    "IDX of NaN": (
        ["train", "--data", "nan"],
        "nan in row 3, column 2 of the train examples of nan; every value must be a finite number",
    ),
    "IDX of no examples": (
        ["train", "--data", "empty"],
        "empty/train-images-idx3-ubyte has the shape (0, 2, 2)",
    ),
    "IDX of other labels": (
        ["train", "--data", "floats"],
        "one whole number from 0 for each image is expected",
    ),
    "IDX labels of few outputs": (
        ["train", "--data", "labels", "--arch", "4-2"],
        "labels has 8 classes, the network 4-2 2 outputs; the last width must be at least 8",
    ),
    "out without an ending": (["train", "--out", "a.txt"], "a.txt: a record of trainings is JSON"),
    "report of another JSON": (["report", "old/plan.json"], "old/plan.json: holds no trainings"),
    "IDX cut short": (["train", "--data", "idx"], "train-images-idx3-ubyte"),
    "out is a run's": (["train", "--out", "old/records.jsonl"], "holds a run's measurements"),
    "report over a run": (["report", "old", "--out", "old/plan.json"], "plan.json"),
    "out is a folder": (["train", "--out", "idx"], "idx: is no file that could be written"),
    "a layer with a zero": (["train", "--kernel", "01=python"], "'01'"),
    "threads for train": (["train", "--threads", "99999999999999999999"], "this process may use 1 to"),
    "a network too large": (["train", "--arch", "64-100000000-10"], "GiB are free"),
    "a profile too large": (["profile", "--arch", "64-100000000-10"], "GiB are free"),
    "labels": (["profile", "--data", "digits", "--arch", "64-8-2"], "the last width must be at least 10"),
    "a kernel that fails": (["train", "--kernel", "odd.py:raising"], "failed in training: KeyError"),
    "a dtype of a network": (
        ["profile", "--dtype", "float"],
        "unknown dtype 'float'; there are float32, float64",
    ),
    "endless budget": (["sweep", "--budget", "inf"], "budget_s = inf must be a number of seconds"),
    "NaN seconds": (["sweep", "--cell-seconds", "nan"], "cell_s = nan must be a number of seconds"),
    "a suite": (
        ["sweep", "--suite", "mpl"],
        "unknown suite 'mpl'; there are deepbench, gpu, mlp, skinny, squares, vendors",
    ),
    "a range": (["sweep", "--sizes", "64:4096:*1"], "'64:4096:*1' never ends"),
    "a range the wrong way": (["sweep", "--sizes", "512:64:+8"], "'512:64:+8' ends below its start"),
    "a shape's order": (["sweep", "--shapes", "8x8x8 nm"], "shape '8x8x8 nm' has no order 'nm'"),
    "a cache": (["sweep", "--cache", "warm"], "unknown cache 'warm'; there are cold, hot"),
    "a kind of data": (["sweep", "--data", "normal,wild"], "unknown data 'wild'"),
    "a batch": (["sweep", "--batch", "0"], "batch: '0' is no size"),
    "an alpha": (["sweep", "--alpha", "inf"], "alpha = inf is no number between"),
    "resume and a suite": (["sweep", "--resume", "old", "--suite", "help"], "leave the other flags out"),
    "an empty list": (["sweep", "--sizes", ""], "sizes is empty; leave it out"),
    "resume and more": (["sweep", "--resume", "old", "--sizes", "8"], "leave the other flags out"),
    "out before a command": (["--out", "x", "kernels"], "--out before a command is the tour's"),
    "a file without function": (["check", "odd.py"], "say which function of it: odd.py:function"),
    "a check's time": (["check", "blas", "--timeout", "nan"], "timeout = nan must be a number of seconds"),
    "a long name": (["train", "--data", "d" * 5000], "unknown data"),
    "export to an ending": (["export", "old", "--out", "a.xlsx"], "a.xlsx: its ending says no form"),
    "export of two forms": (
        ["export", "old", "--csv", "--parquet"],
        "--csv and --parquet: an export has one form",
    ),
    "export of samples as JSON": (["export", "old", "--samples"], "samples go into CSV or Parquet"),
    "export over a run": (["export", "old", "--out", "old/plan.json"], "plan.json"),
    "export of no run": (["export", "nowhere"], "nowhere: no records.jsonl there"),
    "export of no runs": (["export"], "runs: holds no run yet"),
    "export of nothing": (["export", "old"], "old: holds no figures to export"),
    "run": (["report", "nowhere"], "nowhere: no records.jsonl there"),
    "no runs": (["report"], "runs: holds no run yet"),
    "foreign records": (["report", "foreign"], "holds no record of gemmlab's"),
    "compare one": (
        ["compare", "blas"],
        "compare takes two kernels, two runs or --against REV, and got blas",
    ),
    "compare none": (["compare"], "and got nothing"),
    "compare without a run": (["compare", "blas", "python"], "runs: holds no run yet"),
    "compare a kernel that was not run": (
        ["compare", "blas", "numba-ikj", "--run", "small"],
        "'numba-ikj' was not run in small; there are blas, python",
    ),
    "compare a kernel and itself": (
        ["compare", "blas", "blas", "--run", "small"],
        "the same kernel; give two",
    ),
    "compare a folder without records": (["compare", "small", "idx"], "idx: no records.jsonl there"),
    "compare a path that is none": (["compare", "small", "runs/none"], "runs/none: no records.jsonl there"),
    "compare a run and a kernel": (["compare", "small", "blas"], "blas: no records.jsonl there"),
    "compare one run": (["compare", "small"], "small: holds no second revision"),
    "a reference of two kernels": (
        ["compare", "blas", "python", "--run", "small", "--reference", "blas"],
        "--reference goes with two runs, and here are two kernels",
    ),
    "a run of two runs": (["compare", "small", "small", "--run", "small"], "--run goes with two kernels"),
    "a reference that was not run": (
        ["compare", "small", "small", "--reference", "numba-ikj"],
        "'numba-ikj' was not run in small",
    ),
    "against and two": (["compare", "--against", "HEAD", "blas", "python"], "leave blas python out"),
    "against with a reference": (
        ["compare", "--against", "HEAD", "--reference", "blas"],
        "--reference does not go with --against",
    ),
    "against nothing known": (["compare", "--against", "no-such-revision"], "git"),
    "sizes without against": (
        ["compare", "blas", "python", "--sizes", "8"],
        "--sizes goes with --against REV only",
    ),
    "percent": (
        ["compare", "blas", "python", "--fail-slower", "nan"],
        "--fail-slower nan: must be a percentage",
    ),
    "tune a device": (["tune", "--device", "gpu"], "--device gpu: tuned are cpu"),
    "tune a dtype": (["tune", "--dtypes", "float16"], "unknown dtype 'float16'; there are float32, float64"),
    "tune no dtype": (["tune", "--dtypes", ","], "--dtypes is empty"),
    "tune for ever": (["tune", "--budget", "inf"], "budget = inf must be a number of seconds"),
    "tune for no time": (["tune", "--budget", "0"], "budget = 0 must be a number of seconds"),
    "tune into nothing": (["tune"], "GEMMLAB_TUNING=off switches the tuning file off"),
    "tune into a folder": (["tune", "--out", "idx"], "idx: is a folder"),
    "tune into no folder": (["tune", "--out", "none/t.json"], "none/t.json: its folder does not exist"),
    "tune over another file": (["tune", "--out", "odd.py"], "odd.py: damaged, not JSON; remove it or give"),
    "tune over a run": (["tune", "--out", "old/plan.json"], "plan.json"),
    "select from no runs": (["select", "--dry-run"], "runs: holds no run yet"),
    "select from too little": (
        ["select", "small", "--dry-run"],
        "no 6 shapes there have times of two kernels",
    ),
    "select of one": (["select", "small", "--kernels", "blas", "--dry-run"], "among two kernels or more"),
    "select into nothing": (["select", "small"], "GEMMLAB_SELECTION=off switches the selection file off"),
    "auto without a selection": (["check", "auto"], "nothing has been selected for this processor"),
    "predict without a calibration": (
        ["predict", "--kernel", "blas", "--threads", "1"],
        "`gemmlab predict --calibrate --kernel blas --dtype float32 --threads 1` makes one",
    ),
    "predict a network of one width": (["predict", "--arch", "64"], "it needs two or more"),
    "predict a peer": (["predict", "--kernel", "peer:numpy"], "a peer's step is known as a whole only"),
    "predict from nothing": (["predict", "--from", "nowhere"], "nowhere: no records.jsonl there"),
    "predict from another kernel's": (
        ["predict", "--from", "small", "--kernel", "numba-ikj", "--threads", "1"],
        "small: no product of numba-ikj in float32 on 1 thread was measured there",
    ),
    "calibrate a network": (["predict", "--calibrate", "--arch", "8-8"], "leave the network's flags out"),
    "calibrate a mapping": (["predict", "--calibrate", "--kernel", "blas,1=python"], "is a mapping"),
    "calibrate into nothing": (
        ["predict", "--calibrate"],
        "GEMMLAB_CALIBRATION=off switches the calibration file off",
    ),
    "a file for a prediction": (["predict", "--out", "x.json"], "--out goes with --calibrate"),
    "forget and tune": (
        ["tune", "--forget", "--budget", "9"],
        "--forget removes the entry and tunes nothing",
    ),
    "an option": (["sweep", "--kernel", "blas"], "--kernel"),
    "a command": (["swep"], "swep"),
}


def _small_run(folder, slower=1.0):
    """Two kernels on one problem, launches alike, with A/A: python takes `slower` times as long as blas."""
    from bench.records import Writer, cell_id, write_json

    folder.mkdir()
    write_json(folder / "plan.json", {"rounds": 1})
    write_json(folder / "environment.json", {})
    writer = Writer(folder, folder.name)
    for kernel, seconds in (("blas", 1e-3), ("python", 1e-3 * slower)):
        problem = {"m": 64, "n": 64, "k": 64, "dtype": "float32"}
        identity = {"kernel": kernel, "source": kernel, "threads": 1, "problem": problem}
        for launch in range(6):
            for kind, luck in (("sample", 1.0), ("twin", 1.001)):
                at = {"launch": launch, "round": 0, "order": 0, "loops": 1}
                writer.append(kind, cell_id(identity), **at, seconds=seconds * (luck + launch / 5000))
        writer.append("cell", cell_id(identity), status="ok", flops=2 * 64**3, **identity)
    writer.close()


@pytest.mark.parametrize(
    ("slower", "says", "fails"), [(1.1, "slower", 1), (1.0, "the same", 0), (0.9, "faster", 0)]
)
def test_compare_exits_with_1_only_for_what_is_slower_than_allowed(
    gemmlab_says, tmp_path, slower, says, fails
):
    """By more than the percent, and more than the floor; without --fail-slower never."""
    _small_run(tmp_path / "small", slower)
    asked = ("compare", "blas", "python", "--run", "small")
    code, out, _ = gemmlab_says(*asked)
    assert code == 0
    assert says in out.splitlines()[-1]
    assert gemmlab_says(*asked, "--fail-slower", 5)[0] == fails
    assert gemmlab_says(*asked, "--fail-slower", 15)[0] == 0
    code, out, _ = gemmlab_says(*asked, "--json", "--fail-slower", 5)
    assert code == fails
    assert json.loads(out)["failed"] == bool(fails)
    assert json.loads(out)["pairs"][0]["ratio"]["value"] == pytest.approx(1 / slower, rel=1e-3)


def _idx_folders(folder):
    """Images of 2 x 2 with something wrong in each folder."""
    import numpy as np

    from mlp import idx

    images, labels = np.ones((6, 2, 2), np.float32), np.arange(6, dtype=np.uint8) % 2
    with_nan, wide = images.copy(), labels.copy()
    with_nan[3, 1, 0], wide[5] = np.nan, 7
    wrong = {
        "nan": (with_nan, labels),
        "empty": (images[:0], labels[:0]),
        "floats": (images, labels + np.float32(0.5)),
        "labels": (images, wide),
    }
    for name, (x, y) in wrong.items():
        (folder / name).mkdir()
        for part, (xs, ys) in {"train": (x, y), "t10k": (images, labels)}.items():
            idx.write(folder / name / f"{part}-images-idx3-ubyte", xs)
            idx.write(folder / name / f"{part}-labels-idx1-ubyte", ys)


def _checkpoints(folder):
    import mlp
    from mlp.checkpoint import save

    save(mlp.MLP("64-10"), folder / "net.npz")
    (folder / "cut.npz").write_bytes((folder / "net.npz").read_bytes()[:-200])


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_sentence_and_exit_code_2(gemmlab_says, tmp_path, mistake):
    """On stderr, never a traceback; nothing is left behind."""
    (tmp_path / "bad.toml").write_text("sizes = [1,,2]\n")
    (tmp_path / "key.toml").write_text("szies = [1]\n")
    (tmp_path / "a-file").touch()
    (tmp_path / "idx").mkdir()
    for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (tmp_path / "idx" / f"{part}-ubyte").write_bytes(b"\0\0\x08\x03\0\0\0\x02\0\0")
    _idx_folders(tmp_path)
    _checkpoints(tmp_path)
    (tmp_path / "odd.py").write_text("def raising(a, b, c):\n    raise KeyError('no')\n")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "records.jsonl").touch()
    for name in ("plan.json", "environment.json"):
        (tmp_path / "old" / name).write_text("{}")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "records.jsonl").write_text("name,value\n")
    _small_run(tmp_path / "small")
    arguments, sentence = MISTAKES[mistake]
    code, out, err = gemmlab_says(*arguments)
    assert code == 2, (out, err)
    assert err.startswith("gemmlab: ")
    assert err.count("\n") == 1, err
    assert sentence in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import os; os._exit(0)", "exit code 0 during the trial 'loading'"),
        ("while True: pass", "did not finish within 3 s during the trial 'loading'"),
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
    ],
)
def test_a_kernel_file_that_does_not_survive_its_import_fails_the_check(gemmlab_says, tmp_path, code, says):
    """It is imported in the child only: the command lives, and never says it was right."""
    (tmp_path / "odd.py").write_text(f"{code}\ndef f(a, b):\n    return a @ b\n")
    code, out, _ = gemmlab_says("check", "odd.py:f", "--timeout", "3")
    assert code == 1
    assert says in out


def test_what_a_kernel_file_prints_is_not_in_the_json(gemmlab_says, tmp_path):
    """Stdout is for results."""
    (tmp_path / "loud.py").write_text("print('hello')\ndef f(a, b):\n    return a @ b\n")
    _, out, _ = gemmlab_says("sweep", "--kernels", "loud.py:f", "--sizes", "8", "--launches", "1", "--json")
    (cell,) = json.loads(out)["cells"]
    assert cell["status"] == "ok"


def test_a_network_that_could_not_be_timed_says_why(gemmlab_says):
    """Not only in the records."""
    _, out, _ = gemmlab_says(
        "profile",
        "--arch",
        "4-2",
        "--batch",
        "2",
        "--kernel",
        "cublas",
        "--device",
        "cuda",
        "--launches",
        "1",
    )
    assert "cublas: unavailable (" in out or "cublas: a training step" in out


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_an_exploration_ends_with_a_table_what_was_found_and_a_page(gemmlab_says, tmp_path):
    """A finished one is resumed in no time, and says the same as JSON."""
    small = ["--arch", "12-6-3", "--batch", "8", "--kernel", "blas", "--threads", "1"]
    few = ["--batches", "1,2", "--launches", "2", "--rounds", "1"]
    code, out, _ = gemmlab_says("explore", *small, *few, "--out", "run")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("What affects the cost of 12-6-3, batch 8, float32, blas, 1 thread")
    assert [line.split()[0] for line in lines if line.startswith(" ")][1:] == ["1", "2", "8"]
    assert lines[-2:] == ["records: run", "report:  run/report.html"]
    assert (tmp_path / "run" / "report.html").exists()
    code, out, _ = gemmlab_says("explore", "--resume", "run", "--json")
    assert code == 0
    (factor,) = json.loads(out)["exploration"]["factors"]
    assert factor["factor"] == "batch"
    assert [one["base"] for one in factor["values"]] == [False, False, True]
    assert all(one["step_s"]["n"] == 2 for one in factor["values"])


def test_an_export_goes_to_stdout_and_what_is_left_out_to_stderr(gemmlab_says, tmp_path):
    """The newest run; a file's name where a file was written."""
    gemmlab_says("sweep", "--kernels", "blas,cublas", "--sizes", "8", "--launches", "1", "--rounds", "1")
    code, out, err = gemmlab_says("export")
    assert code == 0
    assert [benchmark["extra_info"]["kernel"] for benchmark in json.loads(out)["benchmarks"]] == ["blas"]
    assert err == "1 of 2 cells have no figures and are left out (1 unavailable)\n"
    _, out, err = gemmlab_says("export", "--csv")
    assert (len(out.splitlines()), err) == (3, "")
    (run,) = (tmp_path / "runs").iterdir()
    _, out, _ = gemmlab_says("export", run, "--parquet")
    assert out == f"{run / 'cells.parquet'}\n"
    _, out, _ = gemmlab_says("export", run, "--out", "mine.csv", "--samples")
    assert (out, (tmp_path / "mine.csv").exists()) == ("mine.csv\n", True)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_command_in_the_readme_runs(tmp_path):
    """As printed, in their order, with the README's own kernel file."""
    (tmp_path / "mine.py").write_text(next(block for block in blocks("python") if "# mine.py" in block))
    commands = [line for block in blocks("sh") for line in block.splitlines() if line.strip()]
    settings = os.environ | {"GEMMLAB_TUNING": "", "XDG_CONFIG_HOME": str(tmp_path)}
    assert len(commands) >= 12
    for command in commands:
        arguments = shlex.split(command, comments=True)
        assert arguments[0] == "gemmlab"
        done = subprocess.run(
            [sys.executable, "-m", *arguments], cwd=tmp_path, env=settings,
            capture_output=True, text=True, timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        assert done.stdout.strip()
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_python_in_the_readme_runs(tmp_path, monkeypatch):
    """With a and b given."""
    import numpy as np

    monkeypatch.chdir(tmp_path)
    code = next(block for block in blocks("python") if "import bench" in block)
    names = {"a": np.eye(3), "b": np.ones((3, 2))}
    exec(code, names)
    np.testing.assert_array_equal(names["c"], np.ones((3, 2)))
    assert len(names["frame"]) == len(names["run"].lines)
    assert (names["run"].path / "report.html").exists()


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_measured_and_says_how_to_go_on(tmp_path):
    """Exit code 130, one sentence, and the resumed run is whole."""
    import signal
    import time

    arguments = ["sweep", "--kernels", "blas", "--sizes", "8,16", "--precision", "quick", "--out", "run"]
    child = subprocess.Popen(
        [sys.executable, "-m", "gemmlab", *arguments], cwd=tmp_path, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    records = tmp_path / "run" / "records.jsonl"
    until = time.monotonic() + 60
    while not records.exists() or records.stat().st_size < 2000:
        assert time.monotonic() < until
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert err.strip() == "gemmlab: interrupted; what was measured is in run: gemmlab sweep --resume run"
    done = subprocess.run(
        [sys.executable, "-m", "gemmlab", "sweep", "--resume", "run"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert "records: run" in done.stdout
