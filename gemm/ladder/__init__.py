"""The ladder: one kernel, one file, one idea.

A file here holds a rung as `KERNEL`, or, where what there is depends on the machine, `KERNELS()` that returns them.

The files import nothing heavier than NumPy at the top: Numba, CuPy and the like come in `load`.
"""
