"""The stand-in as the modules that CuPy is imported as. What is not modelled is no attribute of them."""

import sys
import threading
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace

import numpy as np

from tests.stand_in import arrays, cublas, memory

VERSION = "14.2.0"
ROOTS = ("cupy", "cupyx", "cupy_backends")


class Module(ModuleType):
    def __init__(self, name, **members):
        super().__init__(name)
        self.__path__ = []
        self.__dict__.update(members)

    def __getattr__(self, name):
        raise AttributeError(f"the stand-in for CuPy does not model {self.__name__}.{name}")


class CUDARuntimeError(RuntimeError):
    pass


# An H200's, as CuPy says them.
PROPERTIES = {
    "name": b"NVIDIA H200", "totalGlobalMem": 150_000_000_000, "sharedMemPerBlock": 49152, "regsPerBlock": 65536,
    "warpSize": 32, "maxThreadsPerBlock": 1024, "major": 9, "minor": 0, "multiProcessorCount": 132,
    "clockRate": 1_980_000, "memoryClockRate": 3_201_000, "memoryBusWidth": 6144, "l2CacheSize": 62_914_560,
    "maxThreadsPerMultiProcessor": 2048, "ECCEnabled": 1, "pciBusID": 24, "pciDeviceID": 0, "pciDomainID": 0,
    "sharedMemPerMultiprocessor": 233_472, "sharedMemPerBlockOptin": 232_448,
}  # fmt: skip
ATTRIBUTES = {
    "MaxThreadsPerBlock": 1024, "MaxSharedMemoryPerBlock": 49152, "MaxSharedMemoryPerBlockOptin": 232_448,
    "MultiProcessorCount": 132, "ClockRate": 1_980_000, "MemoryClockRate": 3_201_000, "GlobalMemoryBusWidth": 6144,
    "L2CacheSize": 62_914_560, "ComputeCapabilityMajor": 9, "ComputeCapabilityMinor": 0, "WarpSize": 32,
    "MaxSharedMemoryPerMultiprocessor": 233_472,
}  # fmt: skip

_local = threading.local()


def get_cublas_handle():
    """One for each thread, as CuPy has them."""
    if not hasattr(_local, "handle"):
        _local.handle = cublas.create()
    return _local.handle


class Device:
    def __init__(self, device=None):
        self.id = 0 if device is None else int(device)
        if self.id != 0:
            raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")

    attributes = property(lambda self: dict(ATTRIBUTES))
    compute_capability = property(lambda self: "90")
    cublas_handle = property(lambda self: get_cublas_handle())
    mem_info = property(lambda self: runtime.memGetInfo())
    pci_bus_id = property(lambda self: "0000:18:00.0")

    def __int__(self):
        return self.id

    def __eq__(self, other):
        return isinstance(other, Device) and self.id == other.id

    __hash__ = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def use(self):
        return self

    def synchronize(self):
        memory.QUEUE.wait()


class Launch(SimpleNamespace):
    """What a kernel was called with: path or code, name, grid, block, args, shared_mem, stream (its pointer)."""


class RawKernel:
    """A function of a module; what a launch does is what the test says (`modules.on_launch`)."""

    def __init__(self, module, name):
        self._module, self.name, self.__name__ = module, name, name
        self.max_dynamic_shared_size_bytes = 49152
        self.preferred_shared_memory_carveout = -1

    attributes = property(
        lambda self: {
            "max_threads_per_block": 1024, "shared_size_bytes": 0, "const_size_bytes": 0, "local_size_bytes": 0,
            "num_regs": 64, "ptx_version": 90, "binary_version": 90, "cache_mode_ca": 0,
            "max_dynamic_shared_size_bytes": self.max_dynamic_shared_size_bytes,
            "preferred_shared_memory_carveout": self.preferred_shared_memory_carveout,
        }
    )  # fmt: skip

    def __call__(self, grid, block, args, *, shared_mem=0, stream=None):
        if not isinstance(grid, tuple) or not isinstance(block, tuple):
            raise TypeError("Argument 'grid' and 'block' have incorrect types (expected tuple)")
        grid, block = (*grid, 1, 1)[:3], (*block, 1, 1)[:3]
        if any(type(size) is not int for size in (*grid, *block, shared_mem)):
            raise TypeError("an integer is required")
        threads = block[0] * block[1] * block[2]
        if threads > 1024 or block[2] > 64 or max(grid[1:]) > 65535:
            raise CUDARuntimeError("CUDA_ERROR_INVALID_VALUE: invalid argument")
        if shared_mem > min(self.max_dynamic_shared_size_bytes, ATTRIBUTES["MaxSharedMemoryPerBlockOptin"]):
            raise CUDARuntimeError("CUDA_ERROR_INVALID_VALUE: invalid argument")
        for x in args:
            if isinstance(x, np.ndarray):
                if x.size != 1:
                    raise TypeError("You are trying to pass a numpy.ndarray as a kernel parameter")
                assert x.dtype.names is None, (
                    "CuPy takes 10 to 40 us of each launch to describe fields: pass V bytes"
                )
            elif not isinstance(x, (arrays.ndarray, memory.MemoryPointer, type(None), *arrays.SCALARS)):
                raise TypeError(f"Unsupported type {type(x)}")
        if on_launch is None:
            raise NotImplementedError("the stand-in runs no kernels: set tests.stand_in.modules.on_launch")
        ptr = (memory.get_current_stream() if stream is None else stream).ptr
        launch = Launch(
            path=self._module.path, code=self._module.code, name=self.name, grid=grid, block=block,
            args=tuple(np.array(x) if isinstance(x, np.ndarray) else x for x in args),
            shared_mem=shared_mem, stream=ptr,
        )  # fmt: skip
        does = on_launch
        memory.QUEUE.launch(lambda: does(launch))


on_launch = None  # called with the Launch, when its turn has come


class RawModule:
    def __init__(
        self, *, code=None, path=None, options=(), backend="nvrtc", translate_cucomplex=False,
        enable_cooperative_groups=False, name_expressions=None, jitify=None,
    ):  # fmt: skip
        if (code is None) == (path is None):
            raise TypeError("Exactly one of `code` and `path` keyword arguments must be given.")
        if path is not None and not isinstance(path, str):
            raise TypeError("Argument 'path' has incorrect type (expected str)")
        if code is not None:
            raise NotImplementedError("the stand-in compiles nothing")
        self.code, self.path, self.options, self.backend = code, path, options, backend

    def get_function(self, name):
        if not isinstance(name, str):
            raise TypeError("Argument 'name' has incorrect type (expected str)")
        return RawKernel(self, name)


class MemoryPool:
    def free_all_blocks(self, stream=None):
        pass

    def used_bytes(self):
        return sum(mem.size for mem in list(memory.Memory.live))

    total_bytes = used_bytes


_pool = MemoryPool()
runtime = Module(
    "cupy_backends.cuda.api.runtime",
    CUDARuntimeError=CUDARuntimeError, CUDA_R_32F=0, CUDA_R_64F=1, CUDA_R_16F=2, streamLegacy=1,
    is_hip=False,
    getDeviceCount=lambda: 1, getDevice=lambda: 0, setDevice=Device,
    getDeviceProperties=lambda device: dict(PROPERTIES),
    driverGetVersion=lambda: 13000, runtimeGetVersion=lambda: 13000, deviceSynchronize=lambda: memory.QUEUE.wait(),
    memGetInfo=lambda: (140_000_000_000, 150_000_000_000), streamSynchronize=lambda stream: memory.QUEUE.wait(),
)  # fmt: skip
libs_cublas = Module("cupy_backends.cuda.libs.cublas", **{
    name: getattr(cublas, name) for name in dir(cublas)
    if name.startswith(("CUBLAS", "getV", "getP", "getM", "getS", "set", "create", "destroy"))
    or name in ("sgemm", "dgemm", "gemmEx")
})  # fmt: skip
device = Module(
    "cupy.cuda.device",
    Device=Device,
    get_cublas_handle=get_cublas_handle,
    get_compute_capability=lambda: "90",
)
cuda = Module(
    "cupy.cuda",
    Device=Device, Stream=memory.Stream, Event=memory.Event, get_current_stream=memory.get_current_stream,
    get_elapsed_time=memory.get_elapsed_time, runtime=runtime, cublas=libs_cublas, device=device,
    is_available=lambda: True, get_cublas_handle=get_cublas_handle, MemoryPointer=memory.MemoryPointer,
    alloc=lambda size: memory.MemoryPointer(memory.Memory(size), 0),
)  # fmt: skip
stride_tricks = Module("cupy.lib.stride_tricks", as_strided=arrays.as_strided)
lib = Module("cupy.lib", stride_tricks=stride_tricks)
NAMES = (
    "ndarray", "array", "asarray", "ascontiguousarray", "asnumpy", "empty", "zeros", "ones", "full", "empty_like",
    "zeros_like", "ones_like", "full_like", "arange", "matmul", "broadcast_to",
)  # fmt: skip
cupy = Module(
    "cupy", __version__=VERSION, cuda=cuda, lib=lib, RawModule=RawModule, RawKernel=RawKernel,
    get_default_memory_pool=lambda: _pool, newaxis=None, nan=np.nan, inf=np.inf, pi=np.pi,
    **{name: getattr(np, name) for name in ("float16", "float32", "float64", "int8", "int32", "int64", "uint8",
    "uint16", "uint32", "uint64", "bool_", "dtype", "finfo", "result_type", "can_cast")},
    **{name: arrays.Ufunc(getattr(np, name)) for name in arrays.UFUNCS},
)  # fmt: skip
cupy.abs = cupy.absolute
for _name in arrays.FUNCTIONS:
    if "." not in _name and _name not in cupy.__dict__:
        setattr(cupy, _name, arrays.function(getattr(np, _name)))
for _name in NAMES:
    setattr(cupy, _name, getattr(arrays, _name))


def _special():
    import scipy.special

    return Module("cupyx.scipy.special", **{
        name: arrays.Ufunc(getattr(scipy.special, name)) for name in ("erf", "erfc", "expit")
    })  # fmt: skip


def _modules():
    special = _special()
    scipy = Module("cupyx.scipy", special=special)
    libs = Module("cupy_backends.cuda.libs", cublas=libs_cublas)
    api = Module("cupy_backends.cuda.api", runtime=runtime)
    backends = Module("cupy_backends.cuda", libs=libs, api=api)
    found = [
        cupy, cuda, device, lib, stride_tricks, Module("cupyx", scipy=scipy), scipy, special,
        Module("cupy_backends", cuda=backends), backends, libs, libs_cublas, api, runtime,
    ]  # fmt: skip
    return {module.__name__: module for module in found}


def put():
    """Behind the names that CuPy is imported by; returns what was there."""
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] in ROOTS}
    sys.modules.update(_modules())
    return before


@contextmanager
def installed(*kernels):
    """CuPy is the stand-in, and these kernels are available, loaded anew."""
    global on_launch
    before = put()
    for kernel in kernels:
        kernel.__dict__.pop("function", None)
        kernel.__dict__["reason"] = None
    cublas.calls.clear()
    try:
        yield cupy
    finally:
        on_launch, memory.QUEUE.slow = None, 0.0
        memory.QUEUE.waiting.clear()
        for kernel in kernels:
            kernel.__dict__.pop("function", None)
            kernel.__dict__.pop("reason", None)
        for name in [name for name in sys.modules if name.split(".")[0] in ROOTS]:
            del sys.modules[name]
        sys.modules.update(before)
