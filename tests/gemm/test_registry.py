"""The registry: every kernel by name, found lazily, and unavailable with a true reason."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

import gemm
from gemm.dtypes import LOW
from gemm.registry import find

LADDER = [
    "python", "numpy-dot", "numba-ijk", "numba-ikj", "numba-blocked", "numba-micro", "blas", "cblas:openblas",
    "cblas:mkl", "cblas:blis", "cblas:atlas", "cblas:reference", "cblas:numpy", "torch", "cuda-naive",
    "cuda-coalesced", "cuda-shared", "cuda-tile1d", "cuda-tile2d", "cuda-vectorized", "cuda-warptile", "cuda-tf32",
    "cuda-bf16", "cuda-fp16", "cublas", "cublas-tf32", "torch-cuda", "auto",
]  # fmt: skip


def test_the_ladder_is_listed_in_its_order():
    """From Python loops up; every rung says its idea in one line."""
    found = gemm.kernels()
    assert [kernel.name for kernel in found] == LADDER
    assert all(kernel.idea and "\n" not in kernel.idea for kernel in found)


def test_listing_imports_nothing_heavy():
    """Metadata and cheap probes only: neither Numba nor CuPy nor SciPy is imported to list the ladder."""
    code = """
        import sys, gemm
        [(kernel.available, kernel.reason) for kernel in gemm.kernels()]
        print([name for name in ("numba", "cupy", "torch", "scipy", "sklearn", "matplotlib") if name in sys.modules])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_kernel_takes_both_floats():
    """float32 and float64 everywhere; the GPU's own climb is float32's, tensor cores have TF32 or 16 bits."""
    for kernel in gemm.kernels():
        climb = kernel.name.startswith("cuda-")
        assert kernel.signature("float32") or (climb and kernel.signatures[0].input in LOW)
        assert kernel.signature(np.dtype("float64")) or climb or kernel.multiplies
        assert kernel.signature("int64") is None


def test_a_kernels_source_is_the_hash_of_its_file():
    """Different files differ, those of libraries too; of a library that is not here there is none."""
    hashes = {kernel.name: kernel.source for kernel in gemm.kernels() if kernel.available}
    assert len(set(hashes.values())) == len(hashes)
    assert all(len(value) == 12 for value in hashes.values())


def test_an_unavailable_kernel_says_why_when_it_is_used():
    """KernelUnavailable carries the probe's sentence."""
    kernel = gemm.Kernel("moon", "not here", load=lambda: None, probe=lambda: "it is on the moon")
    with pytest.raises(gemm.KernelUnavailable, match="'moon' is not available here: it is on the moon"):
        gemm.matmul(np.eye(2), np.eye(2), kernel=kernel)


def test_a_broken_package_makes_a_kernel_unavailable_not_an_import_error():
    """Installed and broken: said when it is loaded."""

    def load():
        raise ImportError("libthing.so.7 is missing")

    with pytest.raises(gemm.KernelUnavailable, match=r"libthing\.so\.7"):
        gemm.get(gemm.Kernel("broken", "", load=load))


@pytest.mark.gpu
@pytest.mark.skipif(not find("cublas").available, reason="needs CuPy and a CUDA device")
def test_cublas_multiplies_on_the_gpu():
    """Siblings that run anywhere: the probe above, and every CPU kernel through the same contract."""
    import cupy

    a, b = cupy.random.rand(30, 40), cupy.random.rand(40, 20)
    c = gemm.matmul(a, b, kernel="cublas")
    assert isinstance(c, cupy.ndarray)
    cupy.testing.assert_allclose(c, a @ b)


@pytest.fixture
def student(tmp_path):
    """A student's file with kernels in every form."""
    path = tmp_path / "student.py"
    path.write_text(
        textwrap.dedent("""
            def whole(a, b, c, *, alpha, beta, epilogue):
                c[...] = alpha * (a @ b) + (beta * c if beta else 0)
            def scaled(a, b, c, alpha=1.0, beta=0.0):
                c[...] = alpha * (a @ b) + (beta * c if beta else 0)
            def writing(a, b, c):
                c[...] = a @ b
            def returning(a, b):
                return a @ b
            def odd(a):
                return a
            answer = 42
        """)
    )
    return path


@pytest.mark.parametrize("form", ["whole", "scaled", "writing", "returning"])
def test_every_form_of_a_students_kernel_has_the_whole_contract(student, form):
    """alpha, beta and epilogues work whatever the function takes."""
    a, b, c = np.eye(3), np.arange(6.0).reshape(3, 2), np.ones((3, 2))
    epilogue = gemm.Epilogue(bias=np.array([0.0, -9.0]), activation="relu")
    gemm.matmul(a, b, c, kernel=f"{student}:{form}", alpha=2.0, beta=3.0, epilogue=epilogue)
    np.testing.assert_array_equal(c, np.maximum(2 * b + 3 + [0, -9], 0))


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("{}:odd", r"takes \(a\); a kernel takes"),
        ("{}:wrting", "did you mean 'writing'"),
        ("{}:answer", "no function 'answer'"),
        ("nowhere.py:f", "no such file"),
        ("blsa", "did you mean 'blas'"),
        ("xyz", "there are python, numpy-dot"),
    ],
)
def test_a_name_that_is_none_gets_a_sentence(student, name, match):
    """The nearest spelling, or what there is."""
    with pytest.raises(gemm.UnknownKernel, match=match):
        gemm.get(name.format(student))


def test_a_file_that_cannot_be_imported_says_so(tmp_path):
    """The student's own error, in one sentence."""
    path = tmp_path / "broken.py"
    path.write_text("import nothing_of_this_name\n")
    with pytest.raises(gemm.UnknownKernel, match="cannot be imported: ModuleNotFoundError"):
        gemm.get(f"{path}:f")


def test_a_kernel_value_in_a_file_is_found_again_by_its_path(tmp_path):
    """Its name is the one that a worker elsewhere can use; its source is that file."""
    path = tmp_path / "rung.py"
    path.write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from gemm.kernel import Kernel\n"
        "@dataclass\n"
        "class Block:\n"
        "    size: int = 4\n"
        "def f(a, b, c, *, alpha, beta, epilogue=None):\n"
        "    c[...] = alpha * (a @ b) + (beta * c if beta else 0)\n"
        "KERNEL = Kernel('mine', 'an idea', load=lambda: f)\n"
    )
    kernel = gemm.get(f"{path}:KERNEL")
    assert kernel.name == f"{path}:KERNEL"
    assert gemm.get(kernel.name).source == kernel.source
    np.testing.assert_array_equal(gemm.matmul(np.eye(2), np.eye(2), kernel=kernel), np.eye(2))


def test_a_callable_object_is_a_kernel_too(tmp_path):
    """A functools.partial has a source: its file."""
    path = tmp_path / "partial.py"
    path.write_text("from functools import partial\nimport numpy as np\nf = partial(np.matmul)\n"
                    "def g(n, a, b):\n    return a @ b\nh = partial(g, 3)\n")  # fmt: skip
    assert len(gemm.get(f"{path}:h").source) == 12


def test_a_file_that_exits_when_imported_says_so(tmp_path):
    """And does not end the lab."""
    path = tmp_path / "exits.py"
    path.write_text("raise SystemExit(3)\n")
    with pytest.raises(gemm.UnknownKernel, match="cannot be imported: SystemExit: 3"):
        gemm.get(f"{path}:f")


def test_a_kernels_own_pool_follows_set_threads():
    """It is told the number when it is loaded and whenever it changes."""
    told = []
    gemm.get(gemm.Kernel("pool", "", load=lambda: None, set_threads=told.append))
    before = gemm.get_threads()
    gemm.set_threads(1)
    gemm.set_threads(before)
    assert told == [before, 1, before]
