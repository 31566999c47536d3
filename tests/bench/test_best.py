"""Best: one kernel against the fastest of several, at each shape and in the mean of each group."""

import json
import math
from statistics import fmean

import pytest

import bench
from bench.records import finite
from bench.verdicts import best, bounds
from tests.bench.made import Made

PEERS = ("cblas:openblas", "cblas:blis", "cblas:mkl")


@pytest.fixture
def made(tmp_path):
    return lambda name="a", **settings: Made(tmp_path / name, **settings)


def times(run, n, *seconds, new=1e-3, **fields):
    """One shape: NEW, each of PEERS, and the `blas` whose twin gives the floor."""
    for kernel, took in zip(PEERS, seconds):
        run.cell(kernel, took, n, **fields)
    return run.cell("mine", new, n, **fields).cell("blas", 2e-3, n, twin=1.01, **fields)


def test_the_best_peer_is_that_of_each_shape(made):
    """OpenBLAS at one, MKL at another; launches 5 % apart do not hide it, because they are pairs."""
    run = made()
    times(run, 256, 1.1e-3, 1.2e-3, 1.3e-3)
    times(run, 300, 1.4e-3, 1.3e-3, 1.05e-3)
    found = best.against(run.run, PEERS, "mine")
    assert [shape.best for shape in found.shapes] == ["cblas:openblas", "cblas:mkl"]
    assert [shape.pair.ratio.value for shape in found.shapes] == pytest.approx([1.1, 1.05], rel=0.003)
    assert {shape.pair.verdict for shape in found.shapes} == {"faster"}
    (row,) = found.groups
    assert row.mean.ratio.value == pytest.approx(math.sqrt(1.1 * 1.05), rel=0.003)
    assert row.mean.ratio.low < row.mean.ratio.value < row.mean.ratio.high
    assert (row.mean.cells, row.mean.ratio.n, row.mean.verdict) == (2, 6, "faster")
    assert row.worst.best == "cblas:mkl"
    each = {kernel: ratio.value for kernel, ratio in row.ratios.items()}
    assert each["cblas:openblas"] == pytest.approx(math.sqrt(1.1 * 1.4), rel=0.003)
    assert each["cblas:blis"] == pytest.approx(math.sqrt(1.2 * 1.3), rel=0.003)
    assert found.counts


def test_the_best_peer_is_chosen_by_its_mean_over_launches_not_by_its_luckiest(made):
    """One launch in six at half the time is not faster than six that are a third faster."""
    run = made(noise=0.0, launches=6)
    times(run, 256, 1.5e-3, 1.3e-3, 2e-3)
    lucky = next(line["cell"] for line in run.run.cells if line["kernel"] == "cblas:openblas")
    for line in run.run.of("sample"):
        if line["cell"] == lucky and line["launch"] == 0:
            line["seconds"] /= 2
    (shape,) = best.against(run.run, PEERS, "mine").shapes
    assert shape.best == "cblas:blis"


def test_choosing_the_fastest_of_noisy_peers_favours_the_peers(made):
    """All are equally fast: NEW comes out behind the best, and never ahead in the mean."""
    logs = []
    for seed in range(60):
        run = times(made(seed=seed, launches=3, noise=0.02), 256, 1e-3, 1e-3, 1e-3).run
        logs.append(math.log(best.against(run, PEERS, "mine").shapes[0].pair.ratio.value))
    assert -0.02 < fmean(logs) < -0.004


def test_the_mean_of_a_group_takes_the_launch_as_its_unit(made):
    """Ten shapes are not ten times the evidence; each keeps its best peer in every launch."""
    run = made(noise=0.02)
    for n in range(256, 266):
        times(run, n, 1e-3, 1.5e-3, 1.5e-3)
    found = best.against(run.run, PEERS, "mine")
    (mean,) = (group.mean for group in found.groups)
    assert (mean.cells, mean.ratio.n) == (10, 6)
    ratios = [shape.pair.ratio.value for shape in found.shapes]
    assert mean.ratio.value == pytest.approx(math.prod(ratios) ** 0.1)


def test_groups_are_those_of_the_plan_and_settings_stand_apart(made):
    """What no group holds is a square or another shape; threads and dtypes have tables of their own."""
    run = made()
    run.run.plan["groups"] = {"skinny": ["8x512x512 nn"], "dW": ["64x64x64 tn"], "unused": ["1x1x1 nn"]}
    for n, order in (((8, 512, 512), "n"), (64, "t"), (64, "n"), ((3, 4, 5), "n")):
        for threads in (1, 2):
            times(run, n, 1.1e-3, 1.2e-3, 1.3e-3, threads=threads, problem={"op_a": order, "op_b": "n"})
    times(run, 64, 1.1e-3, 1.2e-3, 1.3e-3, problem={"dtype": "float64"})
    found = best.against(run.run, PEERS, "mine")
    rows = [(group.dtype, group.threads, group.name, group.mean.cells) for group in found.groups]
    four = ["skinny", "dW", "squares", "other shapes"]
    assert rows == [
        *(("float32", 1, name, 1) for name in four),
        ("float64", 1, "squares", 1),
        *(("float32", 2, name, 1) for name in four),
    ]
    assert [(total.setting, total.mean.cells) for total in found.totals] == [
        (("float32", 1, "hot"), 4), (("float64", 1, "hot"), 1), (("float32", 2, "hot"), 4)
    ]  # fmt: skip


def test_a_missing_peer_is_named_and_the_figure_does_not_count(made):
    """Not in the run, or unavailable in all of it; the others are compared all the same."""
    run = made().cell("mine", 1e-3).cell("cblas:openblas", 1.1e-3)
    run.cell("cblas:mkl", status="unavailable", reason="no libmkl_rt; pip install mkl")
    found = best.against(run.run, PEERS, "mine")
    assert found.peers == ("cblas:openblas",)
    assert found.missing == {
        "cblas:blis": "not in the run",
        "cblas:mkl": "unavailable (no libmkl_rt; pip install mkl)",
    }
    assert not found.counts
    assert found.groups[0].mean.ratio.value == pytest.approx(1.1, rel=0.003)


def test_a_shape_for_which_somebody_has_no_time_is_in_no_mean(made):
    """With the reason; the best of fewer would be another figure."""
    run = made()
    times(run, 256, 1.1e-3, 1.2e-3, 1.3e-3)
    run.cell("mine", 1e-3, 300).cell("cblas:openblas", 1.1e-3, 300).cell("cblas:blis", 1.1e-3, 300)
    run.cell("cblas:mkl", n=300, status="crashed", reason="SIGILL")
    run.cell("cblas:openblas", 1.1e-3, 400)
    found = best.against(run.run, PEERS, "mine")
    assert [shape.compared for shape in found.shapes] == [True, False, False]
    assert [shape.pair.reason for shape in found.shapes] == [
        None, "cblas:mkl: crashed (SIGILL)", "mine: not in the run"
    ]  # fmt: skip
    assert {shape.pair.kernel for shape in found.shapes if shape.pair.problem["n"] < 400} == {"mine"}
    assert found.groups[0].mean.cells == 1
    assert found.counts


@pytest.mark.parametrize("status", ["wrong", "crashed"])
def test_a_figure_from_which_broken_shapes_have_dropped_does_not_count(made, status):
    """Otherwise a kernel would gain by being wrong where it is slow."""
    run = made()
    times(run, 256, 1.1e-3, 1.2e-3, 1.3e-3)
    for peer in PEERS:
        run.cell(peer, 1e-3, 300)
    run.cell("mine", n=300, status=status)
    found = best.against(run.run, PEERS, "mine")
    assert not found.counts
    assert [one.problem["n"] for one in found.regressions(50)] == [300]


def test_regressions_are_shapes_and_means_that_are_slower_than_the_best(made):
    """Against the best of them, not against each."""
    run = times(made(), 256, 2e-3, 0.9e-3, 2e-3)
    found = best.against(run.run, PEERS, "mine")
    assert len(found.regressions(5)) == 3  # the shape, its group, the total
    assert found.regressions(20) == []


def test_other_libraries_are_shown_and_not_chosen_among(made):
    """NumPy's BLAS is faster here than all of the three; it is none of them."""
    run = made()
    for kernel, seconds in (*zip(PEERS, (1.1e-3, 1.2e-3, 1.3e-3)), ("mine", 1e-3), ("blas", 0.5e-3)):
        run.cell(kernel, seconds)
    run.cell("numba-ikj", 0.1e-3).cell("cblas:atlas", 4e-3)
    found = best.against(run.run, PEERS, "mine")
    assert found.shapes[0].best == "cblas:openblas"
    assert found.beside == ("blas", "cblas:atlas")
    assert found.groups[0].mean.ratio.value == pytest.approx(1.1, rel=0.003)
    assert found.groups[0].ratios["blas"].value == pytest.approx(0.5, rel=0.003)
    assert "numba-ikj" not in found.groups[0].ratios


@pytest.mark.parametrize(
    ("shares", "allowed"),
    [
        ({"arithmetic": 0.8, "bandwidth": 0.2, "overhead": 0.99}, 1.25),
        ({"arithmetic": 0.1, "bandwidth": 0.5, "overhead": None}, 2.0),
        ({"arithmetic": 0.97, "bandwidth": None}, 1.1),  # NEW is there already
        ({"arithmetic": 1.2, "bandwidth": "nan"}, 1.1),
        ({"arithmetic": None, "bandwidth": None}, math.nan),
        (None, math.nan),
    ],
)
def test_what_the_ceilings_allow_is_what_the_roofline_leaves_above_the_best(made, shares, allowed):
    """The overhead of a call is no ceiling; what was reached is allowed, wherever a roof was measured."""
    fields = {} if shares is None else {"bound": {"by": "arithmetic", "level": "L1", "shares": shares}}
    run = made(noise=0.0).cell("cblas:openblas", 1.1e-3, **fields).cell("mine", 1e-3).run
    (shape,) = best.against(run, ["cblas:openblas"], "mine").shapes
    assert shape.allows == pytest.approx(allowed, nan_ok=True)


def test_the_share_of_the_peak_stands_beside_the_ratio(made):
    """Of NEW and of the best peer, geometric means over a group's shapes."""
    run = made(noise=0.0)
    run.luck = [1.0] * 6
    run.peak(1e11)
    for n in (256, 512):
        seconds = 2 * n**3 / 1e11
        run.cell("mine", seconds / 0.9, n).cell("cblas:mkl", seconds / (0.8 if n == 256 else 0.5), n)
    (row,) = best.against(run.run, ["cblas:mkl"], "mine").groups
    assert row.share == pytest.approx(0.9)
    assert row.best_share == pytest.approx(math.sqrt(0.8 * 0.5))


def test_mistakes_are_told_in_a_sentence(made):
    """A kernel that was not run, one against itself, and peers of which there are none."""
    run = made().cell("mine").cell("blas").run
    with pytest.raises(ValueError, match=r"'numba-micro' was not run in .*; there are mine, blas"):
        best.against(run, ["blas"], "numba-micro")
    with pytest.raises(ValueError, match="'mine' is among those that it is to be compared with"):
        best.against(run, ["blas", "mine"], "mine")
    with pytest.raises(
        ValueError, match=r"cblas:mkl, cblas:blis: none has a time in .*; there are mine, blas"
    ):
        best.against(run, ["cblas:mkl", "cblas:blis"], "mine")


def test_one_launch_gives_ratios_and_no_verdict(made):
    """As everywhere."""
    run = times(made(launches=1), 256, 1.1e-3, 1.2e-3, 1.3e-3).run
    (row,) = best.against(run, PEERS, "mine").groups
    assert row.mean.verdict == "cannot say"
    assert row.mean.ratio.value == pytest.approx(1.1, rel=0.01)
    assert math.isnan(row.mean.ratio.low)


def test_a_list_of_kernels_has_commas_and_a_mapping_has_equals_signs():
    """One name is no list."""
    assert best.several("a, b,c") == ["a", "b", "c"]
    assert best.several("blas") is None
    assert best.several("blas,1=numba-ikj,*.dW=python") is None
    assert best.several("blas,") is None


def test_python_takes_a_sequence_or_commas(made):
    """And two names as ever."""
    run = times(made(), 256, 1.1e-3, 1.2e-3, 1.3e-3).run
    for base in (PEERS, list(PEERS), ",".join(PEERS)):
        assert bench.compare(base, "mine", run).groups[0].mean.cells == 1
    assert bench.compare("blas", "mine", run).form == "kernels"


def test_the_best_is_data_too(made):
    """All of it goes through JSON."""
    found = best.against(times(made(), 256, 1.1e-3, 1.2e-3, 1.3e-3).run, PEERS, "mine")
    text = json.loads(json.dumps(finite(found.record()), allow_nan=False))
    assert (text["form"], text["counts"], text["peers"]) == ("best", True, list(PEERS))
    assert text["shapes"][0]["ratios"]["cblas:mkl"].keys() == {"value", "low", "high", "n"}
    assert {"ratio", "floor", "verdict", "worst", "allows", "share"} <= text["groups"][0].keys()


def test_the_roofline_is_the_larger_of_arithmetic_and_bandwidth():
    """Whatever the overhead; None where nothing is known."""
    assert bounds.roofline({"shares": {"arithmetic": 0.3, "bandwidth": 0.6, "overhead": 2.0}}) == 0.6
    assert bounds.roofline({"shares": {"overhead": 0.5}}) is None
    assert bounds.roofline({}) is None
