"""The plan: sweeps as users write them, and the sentence for each way to write them wrong."""

import pytest

import gemm
from bench import plan
from bench.plan import Cell, Plan, Sweep, load_toml, make_sweep, memory
from bench.records import RunError


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


def test_a_damaged_plan_is_refused_in_one_sentence():
    """Not with a KeyError."""
    for record in ({}, {"cells": [{}]}, {"cells": 3}):
        with pytest.raises(RunError, match=r"plan\.json is damaged"):
            Plan.from_record(record)


def test_a_plan_survives_its_json(tmp_path):
    """What resume reads is what start wrote."""
    cells = Sweep(kernels=("blas",), sizes=(8, 16), threads=(1,)).cells()
    model = plan.frozen({"arch": [4, 3], "batch": 2, "dtype": "float32"})
    before = Plan(cells=[*cells, Cell("blas,1=python", 1, model=model, source=plan.source("blas,1=python"))])
    after = Plan.from_record(before.record())
    assert [cell.id for cell in after.cells] == [cell.id for cell in before.cells]
    assert after.record() == before.record()


def test_a_sweep_file_names_axes_and_settings(tmp_path):
    """TOML in, a sweep and the plan's settings out."""
    file = tmp_path / "sweep.toml"
    file.write_text(
        'kernels = ["blas"]\nsizes = [8]\nshapes = ["1x2x3", [4, 5, 6]]\nlaunches = 4\ncell_s = 2.5\n'
    )
    sweep, settings = load_toml(file)
    assert sweep.shapes == ((1, 2, 3), (4, 5, 6))
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
    "an order": ('orders = ["nm"]\n', "unknown order 'nm'"),
    "a kind of data": ('data = "nromal"\n', "unknown data 'nromal'; did you mean 'normal'"),
    "launches": ("launches = 0\n", "launches = 0 must be a whole number"),
    "seconds": ('cell_s = "long"\n', "cell_s = 'long' must be a number of seconds"),
    "alpha": ('alpha = "one"\n', "alpha = 'one' is no number between"),
    "infinite alpha": ("alpha = inf\n", "alpha = inf is no number between"),
    "endless seconds": ("budget_s = inf\n", "budget_s = inf must be a number of seconds"),
    "an empty axis": ("kernels = []\n", "kernels is empty; leave it out"),
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


def test_memory_is_that_of_the_largest_group_over_all_its_workers():
    """More kernels at once need more; more sizes do not."""
    one = memory(Sweep(kernels=("blas",), sizes=(512,), threads=(1,)).cells())
    two = memory(Sweep(kernels=("blas", "numba-ikj"), sizes=(512,), threads=(1,)).cells())
    many = memory(Sweep(kernels=("blas",), sizes=(64, 512), threads=(1,)).cells())
    assert one >= 6 * 512 * 512 * 4 + plan.ceiling_memory()
    assert one < two <= 2 * one
    assert many == one


def test_the_source_of_a_mapping_covers_all_its_kernels():
    """blas,1=numba-ikj is another subject when either changes."""
    assert plan.source("blas,1=numba-ikj") not in (plan.source("blas"), plan.source("numba-ikj"))
    assert plan.source("blas") == gemm.find("blas").source
