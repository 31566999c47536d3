"""Device ceilings: what this GPU can do at most, measured in the run that is held against them.

cuda-float32           multiply-adds per second out of registers (FFMA): what no kernel without tensor cores can exceed
cuda-float64           the same in double precision, or cuBLAS's product where that is faster: tensor cores do it too
cuda-tfloat32, cuda-float16, cuda-bfloat16
                       products on tensor cores by the best kernel that is here, at a large size. That is no limit of
                       the chip's: a better kernel may lie above it, and `bench.verdicts.device_bounds` knows how far
cuda-dram-copy, cuda-l2-copy    bytes per second loaded plus bytes per second stored
cuda-dram-read, cuda-l2-read    bytes per second loaded

The names say what they are of: no CPU's ceiling is called so. Loads and stores go past the multiprocessors' own caches
(cache operator .cg), 16 bytes a thread, so that L2 is what answers; its buffer is a quarter of it, for a line may be
kept in both of a large chip's halves.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

import gemm
from bench.host import gpu
from bench.plans.device import BANDWIDTHS, PREFIX
from bench.timing.device import clock, operands
from gemm.dtypes import itemsize
from gemm.problems import Problem

CORES = ("float32", "float64")
# Who is asked for the tensor cores' rate, by what is multiplied: the fastest that can run here counts.
BEST = {
    "float64": ("cublas",),
    "tfloat32": ("cublas-tf32", "cuda-tf32"),
    "float16": ("cublas", "cuda-fp16"),
    "bfloat16": ("cublas", "cuda-bf16"),
}
# The square product of that, and the smaller one where memory is short.
SIZES = (8192, 4096, 1024)
# A sample is several windows: the fastest counts. Before the first, the device works for so long.
WINDOWS, WINDOW_S, WARM_S = 3, 0.01, 0.3
CHAINS, BLOCKS_PER_SM, THREADS = 16, 8, 256
# Bytes of the buffer that no cache holds, at most; each way half of it.
STREAM_B = 2 << 30

SOURCE = r"""
#define CHAINS 16

template <typename T>
__device__ void chains(T x, T y, long long rounds, T *out) {
    T sums[CHAINS];
    for (int i = 0; i < CHAINS; ++i) sums[i] = T(i + threadIdx.x);
    for (long long round = 0; round < rounds; ++round) {
#pragma unroll
        for (int step = 0; step < 8; ++step)
#pragma unroll
            for (int i = 0; i < CHAINS; ++i) sums[i] = sums[i] * x + y;
    }
    T sum = 0;
    for (int i = 0; i < CHAINS; ++i) sum += sums[i];
    if (sum == T(-1)) *out = sum;  // never, but nobody knows
}

extern "C" __global__ void chains_float32(float x, float y, long long rounds, float *out) {
    chains(x, y, rounds, out);
}

extern "C" __global__ void chains_float64(double x, double y, long long rounds, double *out) {
    chains(x, y, rounds, out);
}

struct Sixteen { unsigned x, y, z, w; };

__device__ Sixteen load(const void *from) {
    Sixteen v;
    asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(from) : "memory");
    return v;
}

__device__ void store(void *to, Sixteen v) {
    asm volatile("st.global.cg.v4.u32 [%0], {%1, %2, %3, %4};"
                 :: "l"(to), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}

// `passes` times over `count` pieces of 16 bytes.
extern "C" __global__ void copy(const char *from, char *to, long long count, long long passes) {
    long long step = (long long)gridDim.x * blockDim.x, first = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    for (long long pass = 0; pass < passes; ++pass) {
        long long i = first;
        for (; i + 3 * step < count; i += 4 * step) {
            Sixteen v[4];
#pragma unroll
            for (int u = 0; u < 4; ++u) v[u] = load(from + 16 * (i + u * step));
#pragma unroll
            for (int u = 0; u < 4; ++u) store(to + 16 * (i + u * step), v[u]);
        }
        for (; i < count; i += step) store(to + 16 * i, load(from + 16 * i));
    }
}

extern "C" __global__ void read(const char *from, unsigned *out, long long count, long long passes) {
    long long step = (long long)gridDim.x * blockDim.x, first = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    unsigned seen = 0;
    for (long long pass = 0; pass < passes; ++pass) {
        long long i = first;
        for (; i + 3 * step < count; i += 4 * step) {
            Sixteen v[4];
#pragma unroll
            for (int u = 0; u < 4; ++u) v[u] = load(from + 16 * (i + u * step));
#pragma unroll
            for (int u = 0; u < 4; ++u) seen ^= v[u].x ^ v[u].y ^ v[u].z ^ v[u].w;
        }
        for (; i < count; i += step) { Sixteen v = load(from + 16 * i); seen ^= v.x ^ v.y ^ v.z ^ v.w; }
    }
    if (seen == 0x12345678u) *out = seen;
}
"""


class DeviceCeiling:
    """One ceiling; `sample()` returns (seconds, work) of its fastest window. Raises ValueError for an unknown name."""

    def __init__(self, name: str) -> None:
        self.unit = "B" if name in BANDWIDTHS else "FLOP"
        what = name.removeprefix(PREFIX)
        if name in BANDWIDTHS:
            level, _, kind = what.partition("-")
            self.ways = [_passes(level, kind)]
        else:
            made = [_chains(what)] if what in CORES else []
            self.ways = made + [found for kernel in BEST.get(what, ()) if (found := _products(kernel, what))]
            if not self.ways:
                raise ValueError(f"no kernel here can tell what the device does in {what}")
        self._warm()

    def sample(self) -> tuple[float, int]:
        """Seconds that the fastest window took, and the work (FLOP or bytes) done in it."""
        windows = [
            (clock([call] * calls) / 1e9, calls * work) for call, work, calls in self.windows * WINDOWS
        ]
        return min(windows, key=lambda window: window[0] / window[1])

    def _warm(self) -> None:
        """Run all for a while, and keep the fastest way with the calls that fill a window."""
        rates = []
        for call, work in self.ways:
            spent, calls = 0.0, 1
            while spent < WARM_S / len(self.ways):
                seconds = clock([call] * calls) / 1e9
                spent += seconds
                calls = max(1, round(WINDOW_S * calls / seconds))
            rates.append((work * calls / seconds, call, work, calls))
        best = max(rates, key=lambda rate: rate[0])
        self.windows = [best[1:]]


Way = tuple[Callable[[], Any], int]  # a call, and the work that it does


@cache
def _module() -> Any:
    import cupy

    return cupy.RawModule(code=SOURCE, options=("--std=c++17",))


def _sms() -> int:
    return int((gpu.facts() or {}).get("sms") or 100)


def _chains(dtype: str) -> Way:
    """Multiply-adds in CHAINS chains of every thread."""
    import cupy

    kernel = _module().get_function(f"chains_{dtype}")
    blocks, rounds = _sms() * BLOCKS_PER_SM, 2000 if dtype == "float32" else 500
    kind = np.dtype(dtype).type
    arguments = (kind(0.5), kind(0.25), np.int64(rounds), cupy.zeros(1, dtype))
    return lambda: kernel((blocks,), (THREADS,), arguments), 2 * 8 * CHAINS * rounds * blocks * THREADS


def _passes(level: str, kind: str) -> Way:
    """Passes over a buffer that the level holds, or that no cache does."""
    import cupy

    if level == "l2":
        size, passes = gpu.l2_bytes() // 4, 50
    else:
        free = int(cupy.cuda.Device().mem_info[0])
        size, passes = max(8 * gpu.l2_bytes(), min(STREAM_B, free // 4)), 1
    size -= size % 64
    memory = cupy.empty(size, np.uint8)
    memory.fill(1)
    module, blocks, passes_ = _module(), _sms() * BLOCKS_PER_SM, np.int64(passes)
    if kind == "copy":
        function, count = module.get_function("copy"), size // 32
        arguments = (memory[: size // 2], memory[size // 2 :], np.int64(count), passes_)
    else:
        function, count = module.get_function("read"), size // 16
        arguments = (memory, cupy.zeros(1, np.uint32), np.int64(count), passes_)
    moved = passes * count * (32 if kind == "copy" else 16)
    return lambda: function((blocks,), (THREADS,), arguments), moved


def _products(name: str, arithmetic: str) -> Way | None:
    """A large product by a kernel that is here and multiplies so; None where it is not or does not."""
    import cupy

    dtype = "float32" if arithmetic == "tfloat32" else arithmetic
    try:
        kernel = gemm.find(name)
        if not kernel.available or kernel.signature(dtype) is None:
            return None
        free = int(cupy.cuda.Device().mem_info[0])
        n = next((n for n in SIZES if 4 * n * n * itemsize(dtype) < free), SIZES[-1])
        problem = Problem(n, n, n, dtype)
        call = gemm.prepare(*operands(problem), kernel=kernel)
        call()
        cupy.cuda.get_current_stream().synchronize()
    except (gemm.UnknownKernel, gemm.KernelUnavailable, TypeError, RuntimeError):
        return None  # what fails here fails in its own cells as well, where it is told
    return call, problem.flops
