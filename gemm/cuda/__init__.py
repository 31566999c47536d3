"""The climb on a GPU: hand-written CUDA kernels, from one thread per element up to the tensor cores.

To be read in this order:

    source/product.cuh   what every kernel is handed, and
    product.py           the same from Python: filled from arrays
    source/finish.cuh    alpha, beta, bias, activation, derivative: how every kernel ends
    source/tiles.cuh     which tile of C a block computes, and which way operands lie
    source/naive.cu      and then coalesced, shared, tile1d, tile2d, vectorized, warptile: each adds one idea
    source/tensor.cuh    where tensor cores want what: fragments, swizzles, descriptors; nothing but arithmetic, and
    source/warp.cuh      their instructions: one small function each (hopper.cuh: Hopper's own)
    source/tf32.cu       and then half, hopper: the same on tensor cores
    tensor_map.py        a matrix as Hopper's copy engine is told of it
    rungs.py             the ladder as data: files, tile sizes, grids, and the variants that operands ask for
    tiles.py             tile sizes from the tuning file
    build.py             a kernel compiled by NVRTC, kept on disk, and what the assembler says of it
    launch.py            the compiled kernel, loaded through CuPy and put on the current stream
    host/                the same sources on a CPU: how they are checked without a GPU
    probe.py             why this cannot run here, where it cannot
    NOTES.md             what was tried, and what has not run on a GPU yet

Nothing here imports CuPy before a kernel is loaded.
"""
