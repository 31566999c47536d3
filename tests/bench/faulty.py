"""Kernels for tests of the engine: each misbehaves in a way that only its own process may suffer from."""

import ctypes
import os
import subprocess
import time

import numpy as np


def right(a, b, c):
    c[...] = a @ b


def wrong(a, b, c):
    c[...] = a @ b
    c[-1, -1] += 1


def wrong_later(a, b, c, calls=[0]):  # noqa: B006 - the default is the memory
    c[...] = a @ b
    calls[0] += 1
    if calls[0] > 40:
        c[0, 0] += 1


def raising(a, b, c):
    raise ArithmeticError("no\nproducts today")


def crashing(a, b, c):
    ctypes.string_at(0)


def leaving(a, b, c):
    os._exit(7)


def hanging(a, b, c):
    time.sleep(60)


def printing(a, b, c):
    os.write(1, b'{"status": "ok"}\nnonsense\n')
    c[...] = a @ b


def talkative(a, b, c):
    os.write(2, b"x" * 500)
    c[...] = a @ b


def hiding(a, b, c):
    os.closerange(3, 64)
    time.sleep(60)


def breeding(a, b, c):
    if not hasattr(breeding, "child"):
        breeding.child = subprocess.Popen(["sleep", "1000.25"])
    c[...] = a @ b


def rounding_b(a, b, c):
    fraction, exponent = np.frexp(b)
    c[...] = a @ np.ldexp(np.rint(fraction * 256) / 256, exponent).astype(b.dtype)


def slow(a, b, c):
    time.sleep(0.02 * (a.shape[0] / 8) ** 3)
    c[...] = a @ b
