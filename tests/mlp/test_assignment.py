"""Kernels by layer and product: the most specific entry wins, and a mistake is named."""

import pytest

import gemm
import mlp
from mlp.assignment import assign

DENSE = [("Z", "dX", "dW")]


def names(spec, layers=3):
    return {
        f"{layer}.{kind}": kernel.name
        for (layer, kind), kernel in assign(spec, [("Z", "dX", "dW")] * layers).items()
    }


def test_one_name_is_for_every_product_and_layer_one_has_no_dx():
    expected = {"1.Z", "1.dW", "2.Z", "2.dW", "2.dX", "3.Z", "3.dW", "3.dX"}
    assert names("python") == dict.fromkeys(expected, "python")


def test_layer_and_kind_beat_layer_beats_kind_beats_all():
    got = names("blas,1=numba-ijk,*.dW=numba-ikj,2.Z=python,3=numpy-dot,3.dW=python")
    assert got == {
        "1.Z": "numba-ijk",
        "1.dW": "numba-ijk",
        "2.Z": "python",
        "2.dW": "numba-ikj",
        "2.dX": "blas",
        "3.Z": "numpy-dot",
        "3.dW": "python",
        "3.dX": "numpy-dot",
    }


def test_the_order_of_the_entries_does_not_matter_and_a_mapping_says_the_same():
    text = names("*.dX=python,2=numpy-dot,blas")
    assert text == names("blas,2=numpy-dot,*.dX=python")
    assert text == names({2: "numpy-dot", "*": "blas", "*.dX": gemm.get("python")})
    assert text["2.dX"] == "numpy-dot"
    assert text["3.dX"] == "python"


def test_what_no_entry_covers_is_done_by_blas():
    got = names("2.Z=python", layers=2)
    assert got.pop("2.Z") == "python"
    assert got == dict.fromkeys(["1.Z", "1.dW", "2.dW", "2.dX"], "blas")


def test_a_kernel_value_is_used_itself():
    seen = []

    def spy(a, b, c, *, alpha, beta, epilogue=None):
        seen.append((a.shape, b.shape))
        c[...] = a @ b

    kernel = gemm.Kernel(name="spy", idea="watches", load=lambda: spy)
    model = mlp.MLP([4, 3, 2], kernel={"*.dW": kernel})
    model.step([[1, 2, 3, 4]] * 5, [0, 1, 0, 1, 0])
    assert seen == [((3, 5), (5, 2)), ((4, 5), (5, 3))]
    assert [op.id for op in model.operations(5) if op.kernel == "spy"] == ["2.dW", "1.dW"]


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("blas,4=python", "'4' names layer 4; this network has layers 1 to 3"),
        ("0=python", "names layer 0; this network has layers 1 to 3"),
        ("*.dQ=python", "names the kind dQ; the products are Z, dW and dX"),
        ("2.bias=python", "'2.bias' names the kind bias"),
        ("1.dX=python", "no step needs"),
        ("two=python", "'two' is neither a layer"),
        ("1=python,1=blas", "'1' is given twice"),
        ("blas,python", r"'\*' is given twice"),
        ("blas,", "empty entry"),
        ("1=", "empty entry"),
        ("=blas", "empty entry"),
        ("1=pyhton", "'pyhton'; did you mean 'python'"),
        (7, "not 7"),
    ],
)
def test_an_entry_that_cannot_be_is_refused_in_one_sentence(spec, sentence):
    with pytest.raises(ValueError, match=sentence):
        assign(spec, DENSE * 3)


def test_a_kernel_that_cannot_run_here_says_why_at_once():
    missing = gemm.Kernel(name="missing", idea="is not here", load=lambda: None, probe=lambda: "no such chip")
    with pytest.raises(gemm.KernelUnavailable, match="no such chip"):
        mlp.MLP([4, 3], kernel={"1": missing})
