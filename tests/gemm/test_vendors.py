"""Other people's libraries: found, told apart, refused with the true reason; and called right."""

import json
import os
import struct
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gemm
from gemm import registry
from gemm.ladder import torch_mm
from gemm.vendors import calling, elf, libraries, makers
from tests.gemm.shared_objects import shared_object

CBLAS = ("cblas_sgemm", "cblas_dgemm")
MACHINE = struct.unpack("<H", Path("/proc/self/exe").read_bytes()[18:20])[0]


def made(path, exports=CBLAS, **more):
    return shared_object(path, exports, machine=MACHINE, **more)


# The file


def test_a_librarys_file_says_what_it_exports_and_needs(tmp_path):
    """A name within a longer one is not that name; what is wanted is not offered."""
    path = made(tmp_path / "lib.so", ("scipy_cblas_sgemm",), wants=("cblas_dgemm",), needs=("libm.so.6",))
    found = elf.read(path)
    assert found.exports("scipy_cblas_sgemm")
    assert not found.exports("cblas_sgemm")
    assert not found.exports("cblas_dgemm")
    assert not found.exports("scipy_cblas")
    assert found.needs == ("libm.so.6",)


def test_what_a_real_library_exports_is_what_the_loader_finds():
    """Python's own extension modules are shared libraries too."""
    import _ctypes

    assert elf.read(Path(_ctypes.__file__)).exports("PyInit__ctypes")


BAD = {
    "does not exist": lambda path: None,
    "is no file": lambda path: path.mkdir(),
    "is no shared library": lambda path: path.write_text("GROUP ( /usr/lib/libopenblas.so.0 )"),
    "is no shared library (no ELF file)": lambda path: path.write_bytes(b""),
    "is built for 64-bit machine 4711, this Python for": lambda path: shared_object(
        path, CBLAS, machine=4711
    ),
    "is an ELF file and no shared library": lambda path: made(path, kind=1),
    "is a damaged library": lambda path: path.write_bytes(made(path).read_bytes()[:-100]),
    "is a library without CBLAS: it exports no cblas_sgemm": lambda path: made(path, ("sgemm_",)),
}


@pytest.mark.parametrize("reason", BAD)
def test_a_path_that_is_no_cblas_makes_a_kernel_that_says_so(tmp_path, monkeypatch, reason):
    """Unavailable, for exactly that; nothing was loaded to find out."""
    path = tmp_path / "libmine.so"
    BAD[reason](path)
    monkeypatch.setenv("GEMMLAB_CBLAS", f"mine={path}")
    (choice,) = [choice for choice in libraries.choices() if choice.name == "mine"]
    assert choice.path is None
    assert choice.reason.startswith(f"{path} {reason}")


def test_a_library_cut_anywhere_is_refused_and_raises_nothing_else(tmp_path):
    """Whatever is left of it."""
    whole = made(tmp_path / "whole.so", needs=("libm.so.6",)).read_bytes()
    path = tmp_path / "cut.so"
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(elf.NoLibrary):
            elf.read(path)


# Whose it is

WHOSE = [
    (makers.OPENBLAS, (*CBLAS, "openblas_get_config"), (), b""),
    (makers.OPENBLAS, ("scipy_cblas_sgemm64_", "scipy_openblas_get_config64_"), (), b""),
    (makers.OPENBLAS, (*CBLAS, "CBLAS_CallFromC"), ("libopenblas.so.0",), b""),
    (makers.MKL, (*CBLAS, "MKL_Get_Version_String"), (), b""),
    (makers.BLIS, (*CBLAS, "bli_info_get_version_str"), (), b""),
    (makers.BLIS, CBLAS, (), b"BLIS_NUM_THREADS"),
    (makers.ATLAS, CBLAS, ("libatlas.so.3",), b""),
    (makers.ATLAS, (*CBLAS, "ATL_buildinfo"), (), b""),
    (makers.REFERENCE, (*CBLAS, "CBLAS_CallFromC"), (), b""),
    (None, CBLAS, ("libm.so.6",), b""),
]


@pytest.mark.parametrize(("maker", "exports", "needs", "more"), WHOSE)
def test_a_library_is_known_by_its_symbols(tmp_path, maker, exports, needs, more):
    """Not by its name: Debian's libblas.so.3 may be any of them."""
    path = made(tmp_path / "libblas.so.3", exports, needs=needs, more=more)
    assert makers.maker_of(path, elf.read(path)) is maker


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A machine whose libraries are what the test puts into this folder."""
    monkeypatch.setattr(makers, "folders", lambda: [tmp_path])
    monkeypatch.delenv("GEMMLAB_CBLAS", raising=False)
    return tmp_path


def chosen(name):
    return next(choice for choice in libraries.choices() if choice.name == name)


def test_a_missing_library_is_unavailable_with_the_package_to_install(system):
    """And the variable that says where it is."""
    for name, package in [("openblas", "libopenblas0-pthread"), ("mkl", "pip install mkl"), ("blis", "libblis4-"),
                          ("atlas", "libatlas3-base"), ("reference", "libblas3")]:  # fmt: skip
        assert "was not found; " in chosen(name).reason
        assert package in chosen(name).reason
        assert f"GEMMLAB_CBLAS={name}=/path" in chosen(name).reason


def test_the_reference_is_the_genuine_one(system):
    """libblas.so.3 is an alternative, which may be another's: that is said, or passed by."""
    made(system / "libblas.so.3", (*CBLAS, "openblas_get_config"))
    assert f"{system / 'libblas.so.3'} is OpenBLAS, not the reference BLAS" in chosen("reference").reason
    (system / "blas").mkdir()
    genuine = made(system / "blas" / "libblas.so.3", (*CBLAS, "CBLAS_CallFromC"))
    assert chosen("reference").path == genuine


def test_libraries_are_named_by_the_variable(system, monkeypatch):
    """With a name, or by that of the file; a known name says where that one is, and must be it."""
    mine = made(system / "libmine-mt.so.4")
    false = made(system / "false.so", (*CBLAS, "bli_info_get_version_str"))
    monkeypatch.setenv(
        "GEMMLAB_CBLAS", os.pathsep.join([str(mine), f"a,b={mine}", f"mkl={false}", f" x={false}"])
    )
    assert [choice.name for choice in libraries.choices()][-3:] == ["mine-mt", "a-b", "x"]
    assert chosen("mine-mt").path == chosen("a-b").path == mine
    assert chosen("x").path == false
    assert chosen("mkl").reason == f"{false} is BLIS, not MKL"


def test_a_name_given_twice_is_unavailable(system, monkeypatch):
    """The same file twice is no mistake."""
    one, other = made(system / "one.so"), made(system / "other.so")
    monkeypatch.setenv(
        "GEMMLAB_CBLAS", os.pathsep.join([f"mine={one}", f"mine={other}", f"same={one}", f"same={one}"])
    )
    assert "gives 'mine' twice" in chosen("mine").reason
    assert chosen("same").path == one


@pytest.mark.parametrize("entry", ["", "a.so:b.so"])
def test_a_flag_names_one_library(entry):
    """Anything else is a mistake, said at once."""
    with pytest.raises(ValueError, match="give one library"):
        libraries.add([entry])


def test_an_unknown_library_is_refused_with_the_flag_that_names_it():
    """Beside the nearest spelling."""
    with pytest.raises(gemm.UnknownKernel, match=r"--cblas mine=/path/to/it\.so"):
        gemm.find("cblas:mine")


# The call


@given(st.data())
def test_a_layout_describes_where_each_element_lies(data):
    """Whatever the view: with the flag and the leading dimension each element is found, and CBLAS takes them."""
    buffer = np.arange(400.0).reshape(20, 20)
    part = st.builds(slice, st.integers(0, 19), st.integers(0, 20), st.sampled_from([1, 2, 3, -1]))
    view = buffer[data.draw(part), data.draw(part)]
    view = view.T if data.draw(st.booleans()) else view
    if data.draw(st.booleans()):
        view = np.broadcast_to(view[:1], (3, view.shape[1])) if len(view) else view
    if 0 in view.shape:
        return
    rows, columns = view.shape
    found = calling.layout(view)
    if found is None:
        assert 1 not in [stride // 8 for stride, size in zip(view.strides, view.shape) if size > 1] or any(
            stride <= 8 for stride in view.strides
        )
        return
    op, ld = found
    assert ld >= (columns if op == calling.NO_TRANS else rows)
    first = int(view[0, 0])
    i, j = np.indices(view.shape)
    at = first + (i * ld + j if op == calling.NO_TRANS else i + j * ld)
    np.testing.assert_array_equal(buffer.ravel()[at], view)


def test_views_of_whole_matrices_are_not_copied():
    """Padded rows, transposes, single rows and columns of anything."""
    x = np.zeros((8, 12))
    for view in (
        x,
        x.T,
        x[:, :5],
        x[2:6, 3:].T,
        x[3:4],
        x[:, 3:4],
        x.T[3:4],
        x[::2],
        x[::2].T,
        x[::2, 5:6],
        x[1:2, ::3],
    ):
        assert calling.layout(view) is not None
    for view in (x[:, ::2], x[::-1], x[:, ::-1], np.broadcast_to(x[:1], (5, 12))):
        assert calling.layout(view) is None


def test_sizes_beyond_32_bits_are_refused_in_a_sentence():
    """A leading dimension too; with 64-bit integers they are none of our business."""
    library = SimpleNamespace(name="mine", integer_bits=32, address=lambda name: 0)
    one = np.zeros((1, 1))
    far = np.lib.stride_tricks.as_strided(one, (2, 1), (2**31 * 8, 8))
    with pytest.raises(ValueError, match="cblas:mine counts in 32 bits and a size or stride of 2147483648"):
        calling.bind(library, far, one, np.zeros((2, 1)), alpha=1.0, beta=0.0)
    library.integer_bits = 64
    calling.bind(library, far, one, np.zeros((2, 1)), alpha=1.0, beta=0.0)


# The libraries that are here, each in a process of its own

TRIAL = """
import json, sys
import numpy as np
import gemm
from gemm.vendors.opening import identities

rng, kernel = np.random.default_rng(0), sys.argv[1]
for dtype in ("float32", "float64"):
    whole = [rng.integers(-9, 10, (40, 40)).astype(dtype) for _ in range(3)]
    for view in (
        lambda x: x, lambda x: x.T, lambda x: x[:, 1:], lambda x: x[::-1], lambda x: x[:, ::-2], lambda x: x[3:4],
        lambda x: x[:, 3:4], lambda x: x[::2].T, lambda x: np.broadcast_to(x[:1], x.shape),
    ):
        for other in (lambda x: x, lambda x: x.T):
            a = view(whole[0])
            b = other(whole[1])[: a.shape[1]]
            for target in (lambda x: x, lambda x: x.T, lambda x: x[::-1], lambda x: x[:, ::2]):
                c = target(np.full((a.shape[0] * 2, b.shape[1] * 2), np.nan, dtype))[: a.shape[0], : b.shape[1]]
                c = c if c.shape == (a.shape[0], b.shape[1]) else np.full((a.shape[0], b.shape[1]), np.nan, dtype)
                call = gemm.prepare(a, b, c, kernel=kernel)
                call()
                assert (c == a @ b).all(), "NaN in C, or a wrong stride"
                whole[0] *= -1
                call()
                assert (c == a @ b).all(), "what is bound is not copied once and for all"
                gemm.matmul(a, b, c, kernel=kernel, alpha=2.0, beta=-1.0)
                assert (c == a @ b).all()
told = []
for threads in (2, 1):
    gemm.get(kernel).set_threads(threads)  # not gemm's, which would tell those that threadpoolctl knows
    told.append(identities()[0]["threads"])
a = rng.standard_normal((300, 300))
np.testing.assert_allclose(gemm.matmul(a, a, kernel=kernel), a @ a, atol=1e-10)
print(json.dumps([identities()[0], told]))
"""

EXPECTED = {
    # name -> its own name, its threads after set_threads(2) and (1): that of two is fixed by who built them
    "openblas": ("openblas", [2, 1]),
    "mkl": ("mkl", [2, 1]),
    "blis": ("blis", [2, 1]),
    "atlas": ("atlas", [1, 1]),
    "reference": ("reference", [1, 1]),
    "numpy": ("openblas", [2, 1]),
}


def tried(kernel, **variables):
    done = subprocess.run(
        [sys.executable, "-c", TRIAL, kernel], capture_output=True, text=True, env=os.environ | variables
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def or_skip(kernel):
    if reason := gemm.find(kernel).reason:
        pytest.skip(reason)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_library_multiplies_and_says_what_it_is(name):
    """Any view of A, B and C; beta = 0 over NaN; name, version, threads in effect, path."""
    or_skip(f"cblas:{name}")
    identity, threads = tried(f"cblas:{name}")
    own, expected = EXPECTED[name]
    assert identity["name"] == own
    assert identity["version"][0].isdecimal()
    assert identity["core_type"] or own == "reference"
    assert identity["kernel"] == f"cblas:{name}"
    assert Path(identity["path"]).is_file()
    assert identity["integer_bits"] == (64 if name == "numpy" else 32)
    assert threads == expected


def test_a_library_with_a_prefix_is_called_by_its_path():
    """SciPy's OpenBLAS: scipy_cblas_sgemm, 32-bit integers."""
    import scipy

    found = sorted(Path(scipy.__file__).parent.parent.glob("scipy.libs/libscipy_openblas*.so*"))
    if not found:
        pytest.skip("needs SciPy's wheel, which brings an OpenBLAS: pip install scipy")
    identity, threads = tried("cblas:scipy", GEMMLAB_CBLAS=f"scipy={found[0]}")
    assert (identity["name"], identity["integer_bits"], threads) == ("openblas", 32, [2, 1])


def test_torch_multiplies_and_says_what_is_inside():
    """Any view, too; the BLAS in it has no file of its own."""
    or_skip("torch")
    identity, threads = tried("torch")
    assert (identity["name"], threads) == ("torch", [2, 1])
    assert identity["inside"]


def test_torch_is_unavailable_where_it_is_not_installed(monkeypatch):
    """With the extra that brings it."""

    def version(name):
        raise torch_mm.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(torch_mm.metadata, "version", version)
    assert torch_mm.probe() == "torch is not installed; pip install 'gemmlab[peers]'"


def test_a_library_that_cannot_be_loaded_is_unavailable_when_it_is_used(tmp_path, monkeypatch):
    """Its file looks well; what it needs is missing: said by the loader."""
    path = made(tmp_path / "needy.so", needs=("libnowhere.so.1",))
    monkeypatch.setenv("GEMMLAB_CBLAS", f"needy={path}")
    registry.refresh()
    try:
        assert gemm.find("cblas:needy").available
        with pytest.raises(gemm.KernelUnavailable, match=r"libnowhere\.so\.1"):
            gemm.get("cblas:needy")
    finally:
        monkeypatch.undo()
        registry.refresh()


def test_the_jump_into_a_library_skips_numbas_dispatch():
    """The call is a partial of the compiled code's own entry, and keeps its operands alive."""
    or_skip("cblas:numpy")
    code = """
        import gc, weakref
        import numpy as np, gemm
        a, b, c = np.ones((3, 4)), np.ones((4, 5)), np.empty((3, 5))
        call = gemm.prepare(a, b, c, kernel="cblas:numpy")
        assert type(call.func).__name__ == "builtin_function_or_method", call.func
        alive = weakref.ref(a)
        del a, b
        gc.collect()
        assert alive() is not None
        call()
        assert (c == 4).all()
        del call
        assert alive() is None
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
