"""Axes: sweeps as users write them, named suites, and the sentence for each way to write them wrong."""

import pytest

import gemm
from bench.commands import chosen_settings
from bench.plans.axes import SUITES, Sweep, load_toml, make_sweep, settings, suite_settings, suites
from bench.plans.shapes import Shape
from gemm.threads import available_cores


def test_a_sweep_is_the_cross_product_of_its_axes_smaller_problems_first():
    """Kernels, shapes, dtypes, orders and threads."""
    sweep = make_sweep(
        {
            "kernels": ["blas", "python"],
            "sizes": [32, 8],
            "shapes": ["2x3x4"],
            "dtypes": ["float32", "float64"],
            "orders": ["nn", "tn"],
            "threads": [1],
        },
        "test",
    )
    cells = sweep.cells()
    assert len(cells) == 2 * 3 * 2 * 2
    assert [cell.problem.flops for cell in cells] == sorted(cell.problem.flops for cell in cells)
    assert len({cell.id for cell in cells}) == len(cells)
    assert len({cell.group for cell in cells}) == len(cells) / 2


def test_what_is_named_twice_is_one_cell():
    """Twice the same kernel would be two closing lines of one cell."""
    sweep = make_sweep({"kernels": ["blas", "blas"], "sizes": [8, 8], "threads": [1]}, "test")
    assert len(sweep.cells()) == 1


def test_a_sweep_file_names_axes_and_settings(tmp_path):
    """TOML in, a sweep and the plan's settings out."""
    file = tmp_path / "sweep.toml"
    file.write_text(
        'kernels = ["blas"]\nsizes = [8]\nshapes = ["1x2x3", [4, 5, 6]]\nlaunches = 4\ncell_s = 2.5\n'
    )
    sweep, settings = load_toml(file)
    assert sweep.shapes == (Shape(1, 2, 3), Shape(4, 5, 6))
    assert settings == {"launches": 4, "cell_s": 2.5}


MISTAKES = {
    "syntax": ('kernels = ["blas"]\nsizes = [1,,2]\n', "not valid TOML: .*line 2"),
    "an unknown key": ("size = [4]\n", "unknown key 'size'; did you mean 'sizes'"),
    "a size of zero": ("sizes = [0]\n", "sizes: 0 is no size"),
    "a negative size": ("sizes = [-4]\n", "-4 is no size"),
    "a fraction": ("sizes = [2.5]\n", "2.5 is no size"),
    "a boolean": ("sizes = [true]\n", "True is no size"),
    "a shape of two": ('shapes = ["3x4"]\n', "shape '3x4' is not m x n x k"),
    "a shape with zero": ('shapes = ["3x0x4"]\n', "'0' is no size"),
    "a dtype": ('dtypes = ["float23"]\n', "unknown dtype 'float23'; did you mean 'float32'"),
    "an unknown suite": (
        'suite = "mpl"\n',
        "unknown suite 'mpl'; there are deepbench, gpu, mlp, skinny, squares",
    ),
    "a cache": ('cache = "warm"\n', "unknown cache 'warm'; there are cold, hot"),
    "a batch of zero": ("batch = [0]\n", "batch: 0 is no size"),
    "threads": ('threads = ["some"]\n', "threads: 'some' is no count of threads"),
    "an endless range": ('sizes = ["64:4096:*1"]\n', "'64:4096:\\*1' never ends"),
    "an order": ('orders = ["nm"]\n', "unknown order 'nm'"),
    "a kind of data": ('data = "nromal"\n', "unknown data 'nromal'; did you mean 'normal'"),
    "launches": ("launches = 0\n", "launches = 0 must be a whole number"),
    "seconds": ('cell_s = "long"\n', "cell_s = 'long' must be a number of seconds"),
    "alpha": ('alpha = "one"\n', "alpha = 'one' is no number between"),
    "infinite alpha": ("alpha = inf\n", "alpha = inf is no number between"),
    "endless seconds": ("budget_s = inf\n", "budget_s = inf must be a number of seconds"),
    "an empty axis": ("kernels = []\n", "kernels is empty; leave it out"),
    "groups that are no table": ("groups = [64]\n", "groups: .*is no table; write a line `name = "),
    "a group that is no list": ("[groups]\nsquares = 64\n", "groups: squares = 64 is no list of sizes"),
    "an empty group": ("[groups]\nsquares = []\n", r"groups: squares = \[\] is no list of sizes"),
    "a size in a group": ("[groups]\nsquares = [0]\n", "groups: squares: 0 is no size"),
    "a shape in two groups": ('[groups]\na = [64]\nb = ["64x64x64 nn"]\n', "64x64x64 nn is in a and in b"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_sweep_file_gets_one_sentence(tmp_path, mistake):
    """It names the file, what was wrong and what would be right."""
    text, match = MISTAKES[mistake]
    file = tmp_path / "sweep.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=match) as raised:
        load_toml(file)
    assert "sweep.toml" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_sweep_file_is_a_sentence(tmp_path):
    """Not a traceback."""
    with pytest.raises(ValueError, match="cannot be read"):
        load_toml(tmp_path / "none.toml")


def test_an_unknown_kernel_and_too_many_threads_are_found_when_planning():
    """Before any worker starts."""
    with pytest.raises(gemm.UnknownKernel, match="did you mean 'numba-blocked'"):
        Sweep(kernels=("numba-bloked",), sizes=(8,)).cells()
    with pytest.raises(ValueError, match="threads = 4096: this process may use 1 to"):
        Sweep(kernels=("blas",), sizes=(8,), threads=(4096,)).cells()


def test_a_shape_may_bring_its_own_order_and_batch():
    """They win over the sweep's axes; other shapes take those."""
    sweep = make_sweep(
        {
            "kernels": ["blas"],
            "shapes": ["2x3x4 tn *5", "2x3x4"],
            "orders": ["nn", "nt"],
            "batch": [1, 7],
            "threads": 1,
        },
        "test",
    )
    made = {(p.op_a + p.op_b, p.batch) for p in (cell.problem for cell in sweep.cells())}
    assert made == {("tn", 5), ("nn", 1), ("nn", 7), ("nt", 1), ("nt", 7)}


def test_every_axis_multiplies():
    """Data, batch and cache as well as kernels and shapes."""
    axes = {
        "kernels": ["blas"], "sizes": ["4:8:*2"], "data": ["normal", "wide"], "batch": "2", "cache": ["hot", "cold"],
        "threads": [1],
    }  # fmt: skip
    cells = make_sweep(axes, "test").cells()
    assert len(cells) == 2 * 2 * 2
    assert len({cell.id for cell in cells}) == 8
    assert {cell.problem.batch for cell in cells} == {2}


def test_all_threads_are_those_of_this_process():
    """And no cell twice where that is one."""
    cells = make_sweep({"kernels": ["blas"], "sizes": [8], "threads": [1, "all"]}, "test").cells()
    assert sorted({cell.threads for cell in cells}) == sorted({1, available_cores()})
    assert len(cells) == len({1, available_cores()})


@pytest.mark.parametrize("name", sorted(path.stem for path in SUITES.glob("*.toml")))
def test_every_suite_can_be_planned_and_says_what_it_is_for(name):
    """In one line; its keys are axes; no cell twice."""
    about = suites()[name]
    assert len(about) > 20
    assert "\n" not in about
    sweep = make_sweep({"suite": name, "kernels": ["blas"]}, "test")
    cells = sweep.cells()
    written = len(sweep.sizes) + len(sweep.shapes) + sum(len(shapes) for _, shapes in sweep.groups)
    taken = [dtype for dtype in sweep.dtypes if gemm.find("blas").signature(dtype)]
    assert len(cells) == written * len(taken) * len({*sweep.threads} or {1})


def test_the_suites_are_those_of_the_documentation():
    """Squares, layers of a network, DeepBench's, skinny ones, a GPU's climb, and the comparison with the vendors."""
    assert set(suites()) == {"squares", "mlp", "deepbench", "skinny", "gpu", "vendors"}
    squares = make_sweep({"suite": "squares"}, "test").sizes
    assert {16, 4096, 333, 777, 1000} <= set(squares)
    layers = make_sweep({"suite": "mlp"}, "test").shapes
    assert {(s.m, s.n, s.k) for s in layers if s.order == "tn"} >= {(784, 512, 128), (512, 10, 1024)}
    vendors = make_sweep({"suite": "vendors"}, "test")
    assert vendors.dtypes == ("float32", "float64")
    assert vendors.threads == (1, "all")


def test_what_is_given_replaces_what_a_suite_says(tmp_path):
    """By key, sizes and shapes as one; in a file as in flags; the rest of the suite stays."""
    mlp = make_sweep({"suite": "mlp"}, "test")
    assert make_sweep({"suite": "mlp", "dtypes": "float64"}, "test").shapes == mlp.shapes
    narrowed = make_sweep({"suite": "vendors", "sizes": ["64"]}, "test")
    assert (narrowed.sizes, narrowed.shapes, narrowed.groups) == ((64,), (), ())
    assert narrowed.dtypes == ("float32", "float64")
    file = tmp_path / "sweep.toml"
    file.write_text('suite = "vendors"\nthreads = [1]\nlaunches = 3\n')
    sweep, settings = load_toml(file)
    assert settings["launches"] == 3
    assert (sweep.threads, sweep.dtypes) == ((1,), ("float32", "float64"))
    over_file = make_sweep({"suite": "mlp"}, "flags", ["suite"], under=sweep)
    assert (over_file.shapes, over_file.sizes) == (mlp.shapes, ())
    assert over_file.dtypes == ("float32", "float64")


def test_groups_name_the_products_of_a_table_and_are_swept_like_any_others():
    """Sizes and shapes in one list; a plan keeps them written out, so that records alone make the table."""
    groups = {"squares": ["8:16:*2", 24], "skinny": ["1x8x32 tn", [2, 3, 4]]}
    sweep = make_sweep({"kernels": ["blas"], "groups": groups, "sizes": [5], "threads": [1]}, "test")
    assert sweep.grouped() == {
        "squares": ["8x8x8 nn", "16x16x16 nn", "24x24x24 nn"],
        "skinny": ["1x8x32 tn", "2x3x4 nn"],
    }
    assert len(sweep.cells()) == 6
    twice = make_sweep({"groups": {"a": ["64x64x64 *4"]}, "orders": ["nn", "nt"]}, "test")
    assert twice.grouped() == {"a": ["64x64x64 nn *4", "64x64x64 nt *4"]}


def test_sizes_shapes_and_groups_replace_each_other():
    """Of a suite with groups, a flag's sizes leave none of its shapes; and the other way round."""
    assert make_sweep({"suite": "vendors", "shapes": ["1x2x3"]}, "test").groups == ()
    own = make_sweep({"suite": "squares", "groups": {"a": [8]}}, "test")
    assert (own.sizes, own.grouped()) == ((), {"a": ["8x8x8 nn"]})


def test_a_suite_may_name_kernels_and_settings():
    """The comparison with the vendors knows whom it compares and how long it may take; flags and files win."""
    vendors = make_sweep({"suite": "vendors"}, "test")
    assert vendors.kernels == ("numba-micro", "cblas:openblas", "cblas:mkl", "cblas:blis", "blas", "torch")
    assert make_sweep({"suite": "vendors", "kernels": ["blas"]}, "test").kernels == ("blas",)
    own = suite_settings("vendors", "test")
    assert own["launches"] == 3
    assert own["cell_s"] < 30
    assert suite_settings("mlp", "test") == suite_settings(None, "test") == {}
    assert chosen_settings("default", {"cell_s": 200}, own) == own | {
        "launches": 6,
        "looks": (),
        "cell_s": 200,
    }


def test_a_file_keeps_the_settings_of_its_suite_where_it_has_none(tmp_path):
    """And the groups, unless it names products of its own."""
    file = tmp_path / "sweep.toml"
    file.write_text('suite = "vendors"\nlaunches = 12\n')
    sweep, found = load_toml(file)
    assert found == suite_settings("vendors", "test") | {"launches": 12, "looks": ()}
    assert list(sweep.grouped()) == ["squares", "mlp forward", "mlp dW", "mlp dX", "skinny", "deepbench"]


def test_axes_left_empty_in_python_are_as_if_not_given():
    """`bench.sweep(suite=...)` passes () for what its caller left out."""
    given = {"suite": "mlp", "sizes": (), "shapes": (), "kernels": (), "orders": None}
    assert make_sweep(given, "sweep") == make_sweep({"suite": "mlp"}, "sweep")


def test_a_precision_stands_for_its_launches():
    """In Python, in a file and as a flag; launches of one's own win; a budget alone takes what fits."""
    assert settings({"precision": "quick"}, "x") == {"launches": 3}
    assert settings({"precision": "precise"}, "x") == {"launches": 24, "looks": (12,)}
    assert settings({"precision": "precise", "launches": 5}, "x") == {"launches": 5}
    assert settings({"budget_s": 9.0}, "x") == {"budget_s": 9.0, "launches": 24}
    with pytest.raises(ValueError, match="x: unknown precision 'fine'; there are default, precise, quick"):
        settings({"precision": "fine"}, "x")


@pytest.mark.parametrize(
    ("file", "precision", "limits", "expected"),
    [
        ({"launches": 4}, "precise", {}, {"launches": 24, "looks": (12,)}),
        ({"launches": 24, "looks": (12,)}, "quick", {}, {"launches": 3, "looks": ()}),
        ({"launches": 24, "looks": (12,)}, None, {"launches": 2}, {"launches": 2, "looks": ()}),
        ({"launches": 4}, None, {"budget_s": 9.0}, {"launches": 4, "budget_s": 9.0}),
        ({}, None, {"budget_s": 9.0}, {"launches": 24, "looks": (), "budget_s": 9.0}),
        ({"rounds": 3}, None, {}, {"rounds": 3}),
    ],
)
def test_flags_win_over_the_file_in_how_many_launches_there_are(file, precision, limits, expected):
    """Whichever way either says it."""
    assert chosen_settings(precision, limits, file) == expected
