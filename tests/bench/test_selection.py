"""Selection: made-up sweeps with a planted winner at each size, and what `auto` does with what is made of them."""

import json

import numpy as np
import pytest

import gemm
import mlp
from bench.select_command import table
from bench.selection import keep, select
from bench.verdicts import doubts
from gemm.selection import choose
from tests.bench.made import Made

SIZES = (16, 24, 32, 48, 64, 96, 128, 256, 512, 1024)


def seconds(kernel, n):
    """numba-ikj is the fastest up to 64, blas beyond; numba-blocked never."""
    rates = {"numba-ikj": 30e9, "blas": 20e9 if n <= 64 else 100e9, "numba-blocked": 15e9}
    return 2 * n**3 / rates[kernel]


def swept(folder, threads=1, kernels=("numba-ikj", "blas", "numba-blocked"), launches=6, seconds=seconds):
    made = Made(folder, launches=launches)
    for n in SIZES:
        for kernel in kernels:
            made.cell(kernel, seconds(kernel, n), n, threads=threads)
    return made.run


@pytest.fixture
def file(monkeypatch, tmp_path):
    """A selection file of this test's own, not there yet."""
    monkeypatch.setenv("GEMMLAB_SELECTION", "")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "gemmlab").mkdir()
    gemm.selection.refresh()
    yield tmp_path / "gemmlab" / "selection.json"
    gemm.selection.refresh()


def test_the_planted_winner_is_chosen_at_and_between_the_sizes(file, tmp_path):
    """Also for shapes that are not square."""
    assert keep(select([swept(tmp_path)])) == file
    for (m, n, k), name in {
        (16, 16, 16): "numba-ikj", (40, 40, 40): "numba-ikj", (20, 50, 30): "numba-ikj",
        (128, 128, 128): "blas", (700, 700, 700): "blas", (5000, 5000, 5000): "blas", (64, 900, 500): "blas",
    }.items():  # fmt: skip
        assert choose(m, n, k, "float32", threads=1).name == name, (m, n, k)


def test_the_table_tells_who_is_ahead_and_by_how_much(tmp_path):
    """The planted margins lie in their intervals."""
    (found,) = select([swept(tmp_path)])
    groups = {group.size: group for group in found.groups}
    assert groups["small"].best == "numba-ikj"
    assert groups["large"].chosen == {"blas": 3}
    margin = groups["large"].margin
    assert margin.low < 100 / 30 < margin.high
    assert not groups["large"].within_noise
    assert any("blas (3)" in line for line in table(found))


def test_equal_kernels_are_within_noise(tmp_path):
    """And the table says so."""
    run = swept(tmp_path, kernels=("numba-ikj", "blas"), seconds=lambda kernel, n: 2 * n**3 / 50e9)
    (found,) = select([run])
    assert any(group.within_noise for group in found.groups)
    assert any("within noise" in line for line in table(found))


def test_a_kernel_that_was_timed_on_few_shapes_is_left_out(tmp_path):
    """With the reason; the others are chosen from on all of theirs."""
    made = Made(tmp_path)
    for n in SIZES:
        for kernel in ("numba-ikj", "blas", "python")[: 3 if n <= 32 else 2]:
            made.cell(kernel, 1e-9 if kernel == "python" else seconds(kernel, n), n)
    (found,) = select([made.run])
    assert found.left_out == {"python": "timed on 3 of 10 shapes"}
    assert len(found.choices.shapes) == len(SIZES)


def test_on_several_threads_one_pool_is_chosen_from(tmp_path):
    """The one with which all shapes take least; kernels without threads of their own may stay."""

    def mixed(kernel, n):
        best = {"blas": n > 64, "numba-blocked": n <= 64, "numba-ikj": False}[kernel]
        return 2 * n**3 / (60e9 if best else 30e9 if kernel == "blas" else 20e9)

    (one,) = select([swept(tmp_path, 1, seconds=mixed)])
    assert (one.pool, set(one.choices.kernels)) == (None, {"numba-ikj", "blas", "numba-blocked"})
    (two,) = select([swept(tmp_path, 2, seconds=mixed)])
    assert (two.pool, set(two.choices.kernels)) == ("numpy", {"numba-ikj", "blas"})
    assert two.left_out == {"numba-blocked": "of another thread pool than numpy's"}
    assert two.given_up == pytest.approx(2**0.5, rel=0.05)
    assert any("from one thread pool only, numpy's" in line for line in table(two))


def test_choices_of_other_threads_and_machines_stay(file, tmp_path):
    """A second selection replaces its own dtype and threads alone."""
    file.write_text(json.dumps({"gemmlab": "selection", "schema": 1, "entries": [{"cpu": {"model": "x"}}]}))
    keep(select([swept(tmp_path, 1)]))
    keep(select([swept(tmp_path, 2, kernels=("numba-ikj", "blas"))]))
    keep(select([swept(tmp_path, 1, seconds=lambda kernel, n: 1e-6 * (1 + (kernel != "numba-blocked")))]))
    other, mine = json.loads(file.read_text())["entries"]
    assert other == {"cpu": {"model": "x"}}
    assert [one["threads"] for one in mine["choices"]] == [2, 1]
    assert choose(64, 64, 64, "float32", threads=1).name == "numba-blocked"
    assert choose(512, 512, 512, "float32", threads=2).name == "blas"


def test_cold_fused_stacked_and_foreign_cells_are_not_compared(tmp_path):
    """They answer another question, and a student's file is not relied on."""
    made = Made(tmp_path)
    for n in SIZES:
        for kernel in ("numba-ikj", "blas"):
            made.cell(kernel, seconds(kernel, n), n)
        made.cell("numba-blocked", 1e-9, n, cache="cold")
        made.cell("numba-blocked", 1e-9, n, problem={"beta": 1.0})
        made.cell("mine.py:f", 1e-9, n)
        made.cell("auto", 1e-9, n)
    (found,) = select([made.run])
    assert set(found.choices.kernels) == {"numba-ikj", "blas"}


MISTAKES = {
    "one kernel": (["blas"], "among two kernels or more"),
    "auto itself": (["auto", "blas"], "'auto' is what is selected for"),
    "an unknown one": (["blass", "blas"], "did you mean 'blas'"),
    "those that were not run": (["numpy-dot", "python"], "no 6 shapes there have times of two kernels"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_cannot_be_selected_is_said(tmp_path, mistake):
    """In a sentence."""
    kernels, sentence = MISTAKES[mistake]
    with pytest.raises(ValueError, match=sentence):
        select([swept(tmp_path)], kernels)


def test_auto_multiplies_with_what_was_chosen(file, tmp_path, monkeypatch):
    """matmul and prepare resolve it; the product is the chosen kernel's, to the bit."""
    keep(select([swept(tmp_path)]))
    monkeypatch.setattr(gemm.selection, "_threads", lambda count: 1 if count is None else count)
    from gemm.contract import resolved

    for n, name in ((24, "numba-ikj"), (200, "blas")):
        a, b = np.random.default_rng(n).standard_normal((2, n, n)).astype("float32")
        auto = gemm.find("auto")
        assert resolved(auto, a, b).name == name
        assert (gemm.matmul(a, b, kernel="auto") == gemm.matmul(a, b, kernel=name)).all()
        out = np.empty_like(a)
        gemm.prepare(a.T, b, out, kernel="auto")()
        assert (out == gemm.matmul(a.T, b, kernel=name)).all()
    assert len(gemm.find("auto").tuning("float32")) == 12


def test_a_network_runs_on_what_was_chosen(file, tmp_path):
    """The same losses as on one kernel, to rounding."""
    keep(select([swept(tmp_path, threads=gemm.get_threads(), kernels=("numba-ikj", "blas"))]))
    x = np.random.default_rng(0).standard_normal((32, 20)).astype("float32")
    losses = []
    for kernel in ("auto", "blas"):
        model = mlp.MLP([20, 16, 3], kernel=kernel)
        losses.append([model.step(x, np.arange(32) % 3) for _ in range(3)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_kernels_of_several_pools_are_a_doubt_on_several_threads():
    """Not on one, and not where all but one have no threads of their own."""
    found = doubts.pools(2, ["numba-micro", "blas", "numba-micro"])
    assert found["kind"] == "pools"
    assert "2 thread pools in turn (numba-micro, blas)" in found["sentence"]
    assert doubts.pools(1, ["numba-micro", "blas"]) is None
    assert doubts.pools(2, ["numba-ikj", "blas"]) is None
    assert doubts.pools(2, ["blas", "numpy-dot", "mine.py:f", "peer:numpy"]) is None
