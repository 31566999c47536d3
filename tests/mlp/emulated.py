"""A GPU without one: CuPy's stand-in, whose launches run the CUDA sources on the CPU (`gemm.cuda.host`)."""

import hashlib
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np

import gemm
import mlp.cuda
from gemm.cuda import build, launch
from gemm.cuda.host.emulator import Emulated, Memory
from gemm.ladder import cublas as cublas_kernel
from mlp import devices
from tests.stand_in import cublas, modules
from tests.stand_in import memory as device_memory

ALL = Path(__file__).parent / "functions.cu"
# Two rungs of the ladder, one with tiles in shared memory, and what CuPy's stand-in multiplies itself.
KERNELS = ("cublas", "cuda-naive", "cuda-shared")


@cache
def functions(number, sources):
    """All functions of mlp/source for a NUMBER. sources: a hash of what they are made from."""
    return Emulated(ALL, {"NUMBER": number, "EDITION": sources}, watched=True)


def edition():
    files = sorted([*mlp.cuda.SOURCE.iterdir(), ALL])
    return int(hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8], 16)


@cache
def rung(source, macros):
    return Emulated(source, dict(macros), watched=False)


class Machine:
    """What a launch does. launches: the names of the functions launched; seed: of the order of threads and blocks."""

    def __init__(self):
        self.launches, self.seed, self.cubins = [], 0, {}
        self.captured = 0
        self._work = None  # of a capture that has begun

    def build(self, file, macros, architecture, function="gemm"):
        """In the place of NVRTC: a name for what would have been compiled."""
        name = f"{file.stem}-{len(self.cubins)}.cubin"
        self.cubins[name] = (file, tuple(sorted(macros.items())))
        return SimpleNamespace(cubin=Path(name))

    def begin_capture(self, stream, mode=None):
        if stream.ptr == 0:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        assert device_memory.get_current_stream() == stream, "what is launched meanwhile goes elsewhere"
        self._work = []
        cublas.capturing.add(stream.ptr)
        device_memory.QUEUE.launch = lambda work, seconds=None: self._work.append(work)

    def end_capture(self, stream):
        del device_memory.QUEUE.launch
        cublas.capturing.discard(stream.ptr)
        self.captured += 1
        work, self._work = self._work, None

        def replay(stream=None):
            for one in work:
                device_memory.QUEUE.launch(one)

        return SimpleNamespace(launch=replay)

    def launch(self, asked):
        file, macros = self.cubins[asked.path]
        self.launches.append(asked.name)
        self.seed += 1
        if file.parent != mlp.cuda.SOURCE:
            rung(file, macros).launch(
                asked.args[0], asked.grid, asked.block, asked.shared_mem, seed=self.seed
            )
            return
        words = asked.args[0].view(mlp.cuda.WORDS)
        words["at"][15] = list(mlp.cuda.FUNCTIONS).index(asked.name)
        # A function may touch device memory, and no other: an address on the host is a stray.
        allocated = [
            Memory("device memory", one.bytes, writable=True) for one in list(device_memory.Memory.live)
        ]
        emulated = functions(dict(macros)["NUMBER"], edition())
        emulated.launch(words, asked.grid, asked.block, memory=allocated, seed=self.seed)


@contextmanager
def gpu(monkeypatch):
    """A Machine behind CuPy's name, while it is open."""
    machine = Machine()
    with modules.installed(*(gemm.find(name) for name in KERNELS)):
        for cached in (devices._cuda, mlp.cuda.kernel, mlp.cuda._module, launch._loaded):
            cached.cache_clear()
        monkeypatch.setattr(build, "build", machine.build)
        monkeypatch.setattr(cublas_kernel, "_library", lambda major: cublas.Library)
        monkeypatch.setattr(modules, "on_launch", machine.launch)
        monkeypatch.setattr(
            modules.sys.modules["cupyx"],
            "empty_pinned",
            lambda shape, dtype: np.empty(shape, dtype),
            raising=False,
        )
        monkeypatch.setattr(
            device_memory.Stream,
            "begin_capture",
            lambda s, mode=None: machine.begin_capture(s),
            raising=False,
        )
        monkeypatch.setattr(
            device_memory.Stream, "end_capture", lambda s: machine.end_capture(s), raising=False
        )
        yield machine
    for cached in (devices._cuda, mlp.cuda.kernel, mlp.cuda._module, launch._loaded):
        cached.cache_clear()
