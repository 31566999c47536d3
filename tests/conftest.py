"""What all rooms' tests share: hypothesis without a clock, and the kernels that can run here."""

import os
import signal

import pytest
from hypothesis import settings

import gemm

# These machines are shared: a slow example is not a wrong one. CI draws the same examples every time.
settings.register_profile("gemmlab", deadline=None, max_examples=60, derandomize="CI" in os.environ)
settings.load_profile("gemmlab")

# A shell that starts something in the background has it ignore Ctrl-C, and its children too; some tests send one.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What this machine's user has had decided is no part of what is tested.
for _decided in ("TUNING", "CALIBRATION", "SELECTION"):
    os.environ[f"GEMMLAB_{_decided}"] = "off"

# Not the peers: each belongs into a process of its own, and has one in tests/gemm/test_vendors.py.
AVAILABLE = [k.name for k in gemm.kernels() if k.available and k.device == "cpu" and not k.peer]


@pytest.fixture(params=AVAILABLE)
def kernel(request):
    """Every kernel of the ladder that can run here: one test body, many kernels."""
    return request.param


@pytest.fixture
def device():
    """CuPy's stand-in behind CuPy's name, and the kernels of CuPy's libraries available through it."""
    from tests.stand_in import modules

    names = ("cublas", "cublas-tf32")
    with modules.installed(*(gemm.find(name) for name in names)) as cupy:
        yield cupy
