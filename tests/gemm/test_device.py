"""The contract on a device, and the kernels that live there: on a stand-in for CuPy (tests/stand_in), without a GPU."""

import threading
from dataclasses import replace

import numpy as np
import pytest

import gemm
from gemm import conformance
from gemm.conformance import examine
from gemm.correctness import error_ratio, reference
from gemm.drawn import Failure, draw, judge
from gemm.dtypes import named
from gemm.guards import Twin
from gemm.kernel import FLOATS, Kernel
from gemm.ladder.cublas import leading
from gemm.problems import STRIDES, Problem
from tests.stand_in import cublas, memory, modules

RNG = np.random.default_rng(0)


def drawn(*shape, dtype="float32"):
    return RNG.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize(
    ("name", "dtypes"), [("cublas", ("float32", "bfloat16")), ("cublas-tf32", ("float32",))]
)
def test_cublas_conforms(device, name, dtypes):
    """All rules, from the host and on the device, on what cuBLAS would do with the addresses."""
    kernel = gemm.find(name)
    some = tuple(signature for signature in kernel.signatures if signature.input in dtypes)
    verdict = examine(replace(kernel, signatures=some, probe=None))
    assert verdict.passed, verdict.faults
    assert verdict.problems > 1000
    assert verdict.dtypes == dtypes


def test_cublas_is_right_on_random_problems_of_every_dtype(device):
    """Drawn with its dtypes: float32, float64, float16, bfloat16."""
    kernel = gemm.find("cublas")
    takes = tuple(signature.input for signature in kernel.signatures)
    problems = [draw(2, number, takes) for number in range(60)]
    assert {problem.dtype for problem in problems} == set(takes)
    found = [judge(kernel, problem) for problem in problems]
    assert not any(isinstance(one, Failure) for one in found), found


@pytest.mark.parametrize("order", ["nn", "tn", "nt", "tt"])
@pytest.mark.parametrize("of_c", ["rows", "columns"])
def test_what_lies_by_rows_or_columns_goes_to_cublas_as_it_is(device, order, of_c):
    """One product, transposes as flags, leading dimensions as they are, and nothing allocated on the way."""
    a, b, _ = Problem(5, 7, 6, "float32", *order, "padded").operands()
    wide = device.zeros((9, 20) if of_c == "rows" else (20, 9), "float32")
    c = wide[:5, 3:10] if of_c == "rows" else wide[3:10, :5].T
    c = c if c.shape == (5, 7) else c[:5, :7]
    x, y = (
        device.lib.stride_tricks.as_strided(device.asarray(z.base)[_first(z) :], z.shape, z.strides)
        for z in (a, b)
    )
    before = device.get_default_memory_pool().used_bytes()
    gemm.matmul(x, y, c, kernel="cublas", alpha=2.0)
    assert device.get_default_memory_pool().used_bytes() == before
    (call,) = cublas.calls
    assert call[0] == "gemmEx"
    assert call[-1] == (20 if of_c == "rows" else 9)
    np.testing.assert_allclose(device.asnumpy(c), 2 * (a @ b), rtol=1e-5, atol=1e-5)
    assert float(abs(wide).sum()) == pytest.approx(float(np.abs(2 * (a @ b)).sum()), rel=1e-5)


def _first(view):
    return (view.__array_interface__["data"][0] - view.base.__array_interface__["data"][0]) // view.itemsize


@pytest.mark.parametrize(
    ("shape", "strides", "expected"),
    [
        ((3, 4), (16, 4), ("rows", 4)), ((3, 4), (40, 4), ("rows", 10)), ((3, 4), (4, 12), ("columns", 3)),
        ((3, 4), (4, 40), ("columns", 10)), ((1, 4), (4, 4), ("rows", 4)), ((1, 4), (4, 400), ("columns", 100)),
        ((3, 1), (4, 4), ("rows", 1)), ((3, 1), (400, 8), ("rows", 100)), ((1, 1), (0, 0), ("rows", 1)),
        ((3, 4), (-16, 4), None), ((3, 4), (0, 4), None), ((3, 4), (32, 8), None), ((3, 4), (12, 4), None),
        ((3, 4), (18, 4), None), ((3, 4), (2**33, 4), ("rows", 2**31)),
    ],
)  # fmt: skip
def test_the_leading_dimension_is_said_of_what_has_one(shape, strides, expected):
    """And of nothing else: negative and zero strides, every second number, rows closer than they are long."""

    class View:
        dtype = np.dtype("float32")

    View.shape, View.strides = shape, strides
    assert leading(View) == (expected if expected is None or expected[1] < 2**31 else None)


def test_float32_stays_float32_whatever_the_handle_is_set_to(device, monkeypatch):
    """TF32 in the math mode that somebody else left, CUPY_TF32, alpha and beta on the device; all put back."""
    monkeypatch.setenv("CUPY_TF32", "1")
    a, b = drawn(30, 40), drawn(40, 20)
    handle = device.cuda.get_cublas_handle()
    cublas.setMathMode(handle, cublas.TF32_MATH)
    cublas.setPointerMode(handle, cublas.CUBLAS_POINTER_MODE_DEVICE)
    c = gemm.matmul(device.asarray(a), device.asarray(b), kernel="cublas")
    assert error_ratio(device.asnumpy(c), reference(a, b)) < 1
    assert (cublas.getMathMode(handle), cublas.getPointerMode(handle)) == (3, 1)
    rounded = gemm.matmul(device.asarray(a), device.asarray(b), kernel="cublas-tf32")
    assert error_ratio(device.asnumpy(rounded), reference(a, b)) > 1
    assert error_ratio(device.asnumpy(rounded), reference(a, b, multiplies="tfloat32")) < 1


def test_where_the_environment_wants_tf32_the_pedantic_compute_type_is_asked_for(device, monkeypatch):
    """NVIDIA_TF32_OVERRIDE is the library's own; 0 takes TF32 from the kernel that is named after it."""
    from gemm.ladder.cublas import _types
    from gemm.ladder.cublas_tf32 import probe

    assert _types("float32", False)[1] == cublas.CUBLAS_COMPUTE_32F
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    assert _types("float32", False)[1] == cublas.CUBLAS_COMPUTE_32F_PEDANTIC
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    monkeypatch.setattr("gemm.ladder.cublas.probe", lambda: None)
    assert "NVIDIA_TF32_OVERRIDE=0" in probe()


def test_cublas_works_on_the_current_stream_and_in_any_thread(device):
    """Each thread has a handle of its own; the stand-in refuses one of another thread."""
    a = device.asarray(drawn(8, 8))
    c = device.empty((8, 8), "float32")
    call = gemm.prepare(a, a, c, kernel="cublas")
    stream = device.cuda.Stream()
    with stream:
        call()
        assert cublas.getStream(device.cuda.get_cublas_handle()) == stream.ptr
    call()
    assert cublas.getStream(device.cuda.get_cublas_handle()) == 0
    failures = []

    def run():
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - to be told apart by the test
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert not failures


def test_device_kernels_do_not_wait(device):
    """What they launch is done when somebody waits; its operands are kept alive until then."""
    memory.QUEUE.slow = 0.001
    a, b = drawn(4, 5), drawn(5, 3)
    c = device.zeros((4, 3), "float32")
    gemm.matmul(device.asarray(a), device.asarray(b[::-1])[::-1], c, kernel="cublas")
    assert memory.QUEUE.waiting
    np.testing.assert_allclose(device.asnumpy(c), a @ b, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_epilogues_are_done_where_c_lives(device, dtype):
    """bias, gelu (SciPy's erfc is none of CuPy's), aux_out; in float32 for 16 bits."""
    problem = Problem(6, 5, 7, dtype)
    a, b, _ = problem.operands()
    bias, kept = device.asarray(drawn(5, dtype=named(dtype))), device.empty((6, 5), named(dtype))
    for activation in ("relu", "leaky-relu", "gelu", "tanh", "sigmoid", "identity"):
        epilogue = gemm.Epilogue(bias=bias, activation=activation, aux_out=kept)
        c = gemm.matmul(device.asarray(a), device.asarray(b), kernel="cublas", epilogue=epilogue)
        on_host = gemm.Epilogue(bias=device.asnumpy(bias), activation=activation)
        right = reference(a, b, epilogue=on_host)
        assert error_ratio(device.asnumpy(c), right) < 1
        assert (
            error_ratio(device.asnumpy(kept), reference(a, b, epilogue=gemm.Epilogue(bias=on_host.bias))) < 1
        )


def test_an_out_that_overlaps_an_operand_on_the_device_is_computed_beside(device):
    """As on the host: by addresses, told apart exactly where they interleave."""
    start = drawn(6, 6)
    buffer = device.asarray(start)
    expected = start[:5, :5] @ start[1:, 1:]
    gemm.matmul(buffer[:5, :5], buffer[1:, 1:], buffer[:5, :5], kernel="cublas")
    np.testing.assert_allclose(device.asnumpy(buffer[:5, :5]), expected, rtol=1e-5, atol=1e-6)
    cublas.calls.clear()
    buffer = device.asarray(drawn(4, 8))
    before = device.get_default_memory_pool().used_bytes()
    gemm.matmul(
        buffer[:, ::2], buffer[:, ::2].T, buffer[:, 1::2], kernel="cublas"
    )  # beside each other: copies of no C
    assert cublas.calls
    assert device.get_default_memory_pool().used_bytes() == before


def test_the_epilogues_arrays_must_not_share_memory_with_out_on_the_device(device):
    """And must be there: the sentence says which is where."""
    a, c = device.asarray(drawn(4, 4)), device.zeros((4, 4), "float32")
    with pytest.raises(ValueError, match="shares memory with out"):
        gemm.matmul(a, a, c, kernel="cublas", epilogue=gemm.Epilogue(bias=c[0]))
    with pytest.raises(TypeError, match=r"a on the GPU, .* the epilogue's bias on the host"):
        gemm.matmul(a, a, c, kernel="cublas", epilogue=gemm.Epilogue(bias=drawn(4)))
    with pytest.raises(TypeError, match="b on the host"):
        gemm.matmul(a, drawn(4, 4), c, kernel="cublas")
    with pytest.raises(TypeError, match="multiplies on the CPU"):
        gemm.matmul(a, a, c, kernel="blas")


@pytest.mark.parametrize("strides", STRIDES)
def test_everything_of_the_contract_goes_on_the_device(device, strides):
    """Vectors, stacks, zero sizes, alpha = 0, an out of another dtype, mixed operands; the result stays there."""
    a, b = device.asarray(drawn(3, 4, 5)), device.asarray(drawn(5, 2, dtype="float64"))
    c = gemm.matmul(a, b, kernel="cublas")
    assert isinstance(c, device.ndarray)
    assert c.dtype == "float64"
    np.testing.assert_allclose(device.asnumpy(c), device.asnumpy(a) @ device.asnumpy(b), rtol=1e-12)
    assert float(gemm.matmul(a[0, 0], a[0, 0], kernel="cublas")) == pytest.approx(
        float((a[0, 0] * a[0, 0]).sum())
    )
    assert gemm.matmul(a[:, :0], b, kernel="cublas").shape == (3, 0, 2)
    out = device.full((3, 4, 2), 2.0, "float64")
    gemm.matmul(a, b, out, kernel="cublas", alpha=0.0, beta=3.0)
    assert (device.asnumpy(out) == 6).all()
    narrow = device.zeros((3, 4, 2), "float32")
    gemm.matmul(a, b, narrow, kernel="cublas")
    np.testing.assert_allclose(device.asnumpy(narrow), device.asnumpy(c), rtol=1e-6)


# What an examination on the device finds

WRONG = {
    "writes outside C": lambda a, b, c: _strided(c, (c.shape[0] + 1, c.shape[1])).__setitem__(-1, 0),
    "changes its input B": lambda a, b, c: b.__setitem__((0, 0), 1),
}


def _strided(x, shape):
    import cupy

    return cupy.lib.stride_tricks.as_strided(x, shape, x.strides)


@pytest.mark.parametrize("sentence", WRONG)
def test_what_is_written_outside_c_on_the_device_is_found(device, sentence):
    """Not only on the way from the host and back, where C is all that there is."""

    def multiply(a, b, c, *, alpha, beta, epilogue=None):
        gemm.matmul(a, b, c, kernel="cublas", alpha=alpha, beta=beta)
        if c.shape[0] == 19 and c.flags.c_contiguous and not c.flags.owndata:
            WRONG[sentence](a, b, c)

    wrong = Kernel("mine", "", load=lambda: multiply, device="cuda", signatures=FLOATS[:1])
    assert fault_on_the_device(wrong).sentence.startswith(sentence)


def fault_on_the_device(kernel):
    """What that one trial says."""
    with pytest.raises(conformance._Wrong) as raised:
        list(conformance._on_the_device(conformance._Examiner(kernel, None)))
    return raised.value.fault


def test_an_unaligned_start_is_tried(device):
    """A kernel that reads four numbers at once is right only at aligned addresses."""

    def multiply(a, b, c, *, alpha, beta, epilogue=None):
        gemm.matmul(a, b, c, kernel="cublas", alpha=alpha, beta=beta)
        if c.data.ptr % 16:
            c[...] = 0

    assert "zero" in fault_on_the_device(Kernel("mine", "", load=lambda: multiply, device="cuda")).sentence


# torch-cuda, on PyTorch's CPU

torch = pytest.importorskip("torch") if gemm.find("torch").available else None


@pytest.mark.skipif(torch is None, reason="needs PyTorch (extra `peers`)")
def test_torch_multiplies_cupys_arrays_where_they_are(device, monkeypatch):
    """By DLPack without a copy, on CuPy's stream, TF32 off."""
    from gemm.ladder import torch_cuda

    used = []

    class OnStream:
        def __init__(self, stream):
            used.append(stream)

        __enter__ = __exit__ = lambda self, *error: None

    class CurrentStream:
        cuda_stream = 0

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_stream", CurrentStream)
    monkeypatch.setattr(torch.cuda, "ExternalStream", lambda ptr: ptr)
    monkeypatch.setattr(torch.cuda, "stream", OnStream)
    kernel = gemm.find("torch-cuda")
    with modules.installed(kernel) as cupy:
        for dtype in ("float32", "float64", "float16", "bfloat16"):
            for strides in STRIDES:
                for alpha, beta in ((1.0, 0.0), (-0.7, 0.3)):
                    problem = Problem(9, 7, 8, dtype, "n", "t", strides, alpha, beta)
                    a, b, c0 = problem.operands()
                    x, y, z = (Twin(array).view for array in (a, b, c0))
                    gemm.matmul(x, y, z, kernel=kernel, alpha=alpha, beta=beta)
                    right = reference(a, b, c0, alpha=alpha, beta=beta)
                    assert error_ratio(cupy.asnumpy(z), right) <= 1, problem
        assert not used
        with cupy.cuda.Stream() as stream:
            a = cupy.asarray(drawn(3, 3))
            gemm.matmul(a, a, kernel=kernel)
        assert used == [stream.ptr]
        assert torch.backends.cuda.matmul.allow_tf32 is False
        assert torch_cuda.tensor(a).data_ptr() == a.data.ptr


@pytest.mark.parametrize(
    ("installed", "reason"),
    [([], "torch is not installed"), (["2.13.0+cpu"], "built without CUDA"), (["2.11.0"], "no CuPy")],
)
def test_torch_cuda_gives_the_true_reason(monkeypatch, installed, reason):
    """No PyTorch, one for the CPU only, no CuPy."""
    from gemm.ladder import torch_cuda

    monkeypatch.setattr(torch_cuda.torch_mm, "probe", lambda: None if installed else "torch is not installed")
    monkeypatch.setattr(torch_cuda, "version_of", lambda wheel: installed[0])
    monkeypatch.setattr(torch_cuda, "cupy_or_device_missing", lambda: "no CuPy")
    assert reason in torch_cuda.probe()
