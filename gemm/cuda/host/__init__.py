"""The rungs on a CPU: the same .cu files, compiled by a C++ compiler, in a way that finds what a GPU would trip over.

    python -m gemm.cuda.host cuda-shared [--random N --seed S] [--plain]

puts a rung to all of gemm's rules (`gemm.conformance`) on this machine's processor; no GPU, no CUDA toolkit is needed,
but a C++ compiler (g++ or clang++) and Linux. In reading order:

    cuda.hpp       CUDA's builtins in C++: what the .cu file sees
    executor.cpp   blocks, threads as fibers, barriers, poisoned shared memory, and the watch over every access
    rung.cpp       the rung and its call; dynamic.cpp: the shared memory whose size the launch decides
    symbols.py     where a compiled rung has its shared arrays
    compiler.py    the compiler, found; what it made is kept on disk
    emulator.py    a compiled rung, launched on NumPy arrays; as a kernel of gemm's

What is found, beside wrong results: races in shared memory (two threads, one writes, no barrier between them: in any
order that they run in), barriers that not all threads come to, accesses outside of shared arrays and of the operands,
misaligned vectors, launches that a GPU would refuse. Shared memory holds NaN before it is written, and the order of
threads and blocks is drawn at random, by a seed. What is not: inline PTX, the tensor cores, caches, and all that has to
do with time.
"""

from gemm.cuda.host.compiler import NotCompiled, reason
from gemm.cuda.host.emulator import DeviceFault, Emulated, kernel

__all__ = ["DeviceFault", "Emulated", "NotCompiled", "kernel", "reason"]
