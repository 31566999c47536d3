"""A stand-in for CuPy: the lab's device paths run against it on machines that have no GPU.

    memory.py   host memory that stands for the device's, streams and events
    arrays.py   cupy.ndarray and the functions on it: no NumPy array, refuses host arrays
    cublas.py   cupy_backends.cuda.libs.cublas: GEMM on addresses
    modules.py  the modules: cupy, cupy.cuda, cupyx, cupy_backends; RawModule with a hook for what a launch does

Written from the sources of CuPy 14.2: argument orders, what is keyword-only, what raises. It models what the lab uses;
everything else is no attribute, or raises. The fixture is `device` of tests/conftest.py.
"""
