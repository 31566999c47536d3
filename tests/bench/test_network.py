"""Networks under the clock: profiles that add up."""

import numpy as np
import pytest

import bench
from bench.plans import network
from bench.timing.subjects import TrainingStep, Wrong

QUICK = {"launches": 2, "rounds": 2, "sample_s": 0.01, "more_s": 0.0}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small profile on two kernels, one of them a mapping."""
    out = tmp_path_factory.mktemp("profile") / "run"
    return bench.profile(
        "64-32-10", 32, ["blas", "blas,1=numba-ikj"], threads=1, data="digits", out=out, settings=QUICK
    )


def test_a_profile_has_a_row_for_every_operation(run):
    """Z, bias, activation, loss, db, dX, dW and update; each with its shape, FLOPs and time.

    The update of layer 1 is in its dW (and db) where the kernel adds to C.
    """
    for profile in bench.profiles(run):
        rows = {row.id: row.parts for row in profile.rows}
        assert [row for row in rows if row != "1.update"] == [
            "1.Z", "1.bias", "1.activation", "2.Z", "2.bias", "loss",
            "2.db", "2.dX", "2.dW", "2.update", "1.activation'", "1.db", "1.dW",
        ]  # fmt: skip
        mapped = "," in profile.result.kernel
        assert ("1.update" in rows, rows["1.dW"]) == (not mapped, ("dW", "update") if mapped else ("dW",))
        assert all(row.seconds > 0 for row in profile.rows)
        first = profile.rows[0]
        assert (first.m, first.n, first.k, first.flops) == (32, 32, 64, 2 * 32 * 32 * 64)


def test_a_mapping_names_the_kernel_of_each_product(run):
    """Layer 1 on numba-ikj, layer 2 on BLAS."""
    mapped = next(p for p in bench.profiles(run) if "," in p.result.kernel)
    kernels = {row.id: row.kernel for row in mapped.rows if row.m}
    assert kernels == {"1.Z": "numba-ikj", "1.dW": "numba-ikj", "2.Z": "blas", "2.dX": "blas", "2.dW": "blas"}


def test_the_step_is_sampled_with_and_without_the_recorder(run):
    """One line of each per launch and round, and the rows of the instrumented one."""
    steps = [(line["instrumented"], line["launch"], line["round"]) for line in run.of("step")]
    assert len(steps) == 2 * 2 * 2 * 2
    assert len(set(steps)) == 8
    assert {cell["status"] for cell in run.cells} == {"ok"}
    assert all(0 < cell["error_ratio"] < 1 for cell in run.cells)


def test_the_rows_are_what_the_step_does(run):
    """They add up to the instrumented step, whatever the load: a loose bound, the tight one is a benchmark's."""
    for profile in bench.profiles(run):
        total = sum(row.seconds for row in profile.rows)
        assert 0.5 * profile.instrumented < total <= profile.instrumented


def test_a_wrong_product_in_a_step_is_found_before_anything_is_timed(tmp_path):
    """Every product of a step is verified, not only the first."""
    file = tmp_path / "mine.py"
    file.write_text(
        "def f(a, b, c, alpha=1.0, beta=0.0):\n"
        "    c[...] = a @ b\n"
        "    if a.strides[0] < a.strides[1]:\n"  # X^T dZ
        "        c[0, 0] += 1\n"
    )
    model = network.DEFAULTS | {"arch": [6, 5, 4], "batch": 3}
    with pytest.raises(Wrong, match=r"2\.dW has error ratio"):
        TrainingStep(f"{file}:f", model, seed=0).open(0.001)


def test_a_product_in_too_few_bits_is_found_too(tmp_path):
    """Rule 1 cannot see inputs rounded to 11 bits in a long sum; rule 3 can."""
    file = tmp_path / "mine.py"
    file.write_text(
        "import numpy as np\n"
        "def cut(x):\n"
        "    fraction, exponent = np.frexp(x)\n"
        "    return np.ldexp(np.rint(fraction * 2048) / 2048, exponent).astype(x.dtype)\n"
        "def f(a, b):\n"
        "    return cut(a) @ cut(b)\n"
    )
    model = network.DEFAULTS | {"arch": [4096, 5, 4], "batch": 3}
    with pytest.raises(Wrong, match=r"1\.Z: full significands"):
        TrainingStep(f"blas,1.Z={file}:f", model, seed=0).open(0.001)


def test_a_step_that_diverges_is_not_timed():
    """Arithmetic on NaN takes another time."""
    model = network.DEFAULTS | {"arch": [6, 5, 4], "batch": 3, "lr": 1e30}
    step = TrainingStep("blas", model, seed=0)
    with pytest.raises(Wrong, match=r"loss became|error ratio"), np.errstate(all="ignore"):
        step.open(0.001)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"arch": "64"}, "has 1 width"),
        ({"arch": "64-0-10"}, "width of 0"),
        ({"batch": 0}, "batch: 0 is no size"),
        ({"activation": "relo"}, "did you mean 'relu'"),
        ({"loss": "softmax"}, "loss"),
        ({"dtype": "float16"}, "float16"),
        ({"data": "digit"}, "digit"),
        ({"data": "digits"}, "has 64 features and the network takes 8"),
        ({"kernels": ["blas,9=python"]}, "layer 9"),
        ({"speed": 1}, "unknown setting 'speed'"),
        ({"threads": 10_000}, "may use 1 to"),
    ],
)
def test_a_network_that_cannot_be_is_one_sentence(change, match):
    """Before any worker starts."""
    asked = {"arch": "8-4-2", "batch": 4, "kernels": ["blas"]} | change
    with pytest.raises(ValueError, match=match) as raised:
        network.cells(**asked)
    assert "\n" not in str(raised.value)
