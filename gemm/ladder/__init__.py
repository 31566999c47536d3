"""The ladder: one kernel, one file, one idea. A file here that holds `KERNEL` is a rung.

The files import nothing heavier than NumPy at the top: Numba, CuPy and the like come in `load`.
"""
