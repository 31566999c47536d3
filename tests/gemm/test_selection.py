"""The selection file: what cannot be used is ignored with one line, and `auto` says what is missing."""

import json
import warnings

import numpy as np
import pytest

import gemm
from gemm import selection
from gemm.kernel import KernelUnavailable
from gemm.selection import choose, selected


@pytest.fixture
def file(monkeypatch, tmp_path):
    """A selection file of this test's own, not there yet."""
    monkeypatch.setenv("GEMMLAB_SELECTION", "")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "gemmlab").mkdir()
    selection.refresh()
    yield tmp_path / "gemmlab" / "selection.json"
    selection.refresh()


PRODUCTS = [
    {"m": n, "n": n, "k": n, "order": order, "seconds": [1e-6 * n, 32e-6]} for n in (16, 64) for order in ("nn", "tn")
]  # fmt: skip


def choice(**changed):
    return {
        "dtype": "float32",
        "threads": 1,
        "kernels": ["blas", "numba-ikj"],
        "products": PRODUCTS,
    } | changed


def whole(*choices, **changed):
    entry = {"cpu": selection.cpu(), "choices": [*choices]}
    return json.dumps({"gemmlab": "selection", "schema": 1, "entries": [entry]} | changed)


def product(**changed):
    return choice(products=[PRODUCTS[0] | changed])


FAULTS = {
    "cut short": (lambda: whole(choice())[:-9], "damaged, not JSON"),
    "another file": (lambda: whole(choice(), gemmlab="tuning"), "no selection file of gemmlab's"),
    "another version": (lambda: whole(choice(), schema=2), "of schema 2, and this gemmlab reads 1"),
    "another processor": (
        lambda: whole(choice()).replace('"cpu": {', '"cpu": {"x": 1, '),
        "has no selection for this processor; `gemmlab select` finds them",
    ),
    "no products": (lambda: whole(choice(products=[])), "nothing to choose from"),
    "no kernels": (lambda: whole({"dtype": "float32", "threads": 1}), "without its figures"),
    "too few seconds": (lambda: whole(product(seconds=[1.0])), "a product of 16 x 16 x 16"),
    "a time of nothing": (lambda: whole(product(seconds=[1.0, 0.0])), "seconds [1.0, 0.0]"),
    "NaN": (lambda: whole(product(seconds=[1.0, float("nan")])), "seconds [1.0, nan]"),
    "an order that is none": (lambda: whole(product(order="nx")), "a product of"),
    "a size of nothing": (lambda: whole(product(m=0)), "a product of 0 x 16 x 16"),
    "itself": (lambda: whole(choice(kernels=["auto", "blas"])), "auto among the kernels"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_cannot_be_used_is_ignored_with_one_line(file, fault):
    """And `auto` is unavailable, with the command that makes it available."""
    text, sentence = FAULTS[fault]
    file.write_text(text())
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert selected() == {}
        assert "`gemmlab select RUN`" in gemm.find("auto").reason
    (warning,) = said
    assert str(warning.message).startswith(f"selection file ignored: {file}: ")
    assert sentence in str(warning.message)


def test_the_nearest_shapes_decide(file):
    """blas is the faster below 32, numba-ikj above; an order that was not measured borrows from the others."""
    file.write_text(whole(choice()))
    names = {n: choose(n, n, n, "float32", threads=1).name for n in (1, 16, 24, 48, 64, 4096)}
    assert names == {
        1: "blas", 16: "blas", 24: "blas", 48: "numba-ikj", 64: "numba-ikj", 4096: "numba-ikj",
    }  # fmt: skip
    assert choose(16, 16, 16, "float32", "nt", threads=1).name == "blas"
    assert gemm.find("auto").available


def test_the_order_of_the_operands_counts(file):
    """Two kernels, each the faster in one order of the same size."""
    ways = [PRODUCTS[0] | {"order": o, "seconds": s} for o, s in (("nn", [1.0, 2.0]), ("tn", [2.0, 1.0]))]
    file.write_text(whole(choice(products=ways)))
    assert choose(16, 16, 16, "float32", "nn", threads=1).name == "blas"
    assert choose(16, 16, 16, "float32", "tn", threads=1).name == "numba-ikj"


def test_a_kernel_that_is_gone_is_passed_over(file):
    """The next best takes its place; with none left, that is said."""
    file.write_text(whole(choice(kernels=["cblas:gone", "numba-ikj"])))
    assert choose(16, 16, 16, "float32", threads=1).name == "numba-ikj"
    file.write_text(whole(choice(kernels=["cblas:gone", "cblas:away"])))
    selection.refresh()
    with pytest.raises(KernelUnavailable, match="none of cblas:gone, cblas:away"):
        choose(16, 16, 16, "float32", threads=1)


def test_what_was_not_selected_for_is_said(file):
    """Another dtype, another number of threads, or nothing at all."""
    with pytest.raises(KernelUnavailable, match=r"for float32 on 1 thread \(there is nothing\)"):
        choose(8, 8, 8, "float32", threads=1)
    file.write_text(whole(choice()))
    selection.refresh()
    with pytest.raises(KernelUnavailable, match=r"for float64 on 2 threads \(there is float32 on 1\)"):
        choose(8, 8, 8, "float64", threads=2)
    with pytest.raises(ValueError, match="order 'nm' is none"):
        choose(8, 8, 8, "float32", "nm")


def test_another_selection_has_another_name(file):
    """So that records of the two are told apart."""
    names = set()
    for products in (PRODUCTS, PRODUCTS[:2]):
        file.write_text(whole(choice(products=products)))
        selection.refresh()
        names.add(gemm.find("auto").tuning("float32"))
        assert gemm.find("auto").tuning("float64") == "none"
    assert len(names) == 2


def test_each_product_of_a_network_asks_for_its_own_kernel(file, monkeypatch):
    """Small ones go to blas and the large one's to numba-ikj; what is chosen is named in the step and multiplies."""
    import mlp

    monkeypatch.setattr(gemm.threads, "get_threads", lambda: 1)
    file.write_text(whole(choice()))
    selection.refresh()
    models = [mlp.MLP([64, 64, 4], kernel=kernel, seed=1) for kernel in ("auto", "blas", "auto,2.Z=python")]
    x, y = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32), np.arange(64) % 4
    names = [{op.id: op.kernel for op in model.operations(64) if op.kernel} for model in models]
    assert names[0] == {
        "1.Z": "numba-ikj", "2.Z": "blas", "2.dX": "blas", "2.dW": "blas", "1.dW": "numba-ikj",
    }  # fmt: skip
    assert names[2] == names[0] | {"2.Z": "python"}
    losses = [[model.step(x, y) for _ in range(3)] for model in models]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    np.testing.assert_allclose(losses[2], losses[1], rtol=1e-5)
