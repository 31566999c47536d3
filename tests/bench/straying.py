"""Kernels that write where they must not, from some call on: A, B, and the memory around C."""

import numpy as np

calls = 0


def _late():
    """Whether it is time to misbehave."""
    global calls
    calls += 1
    return calls > 0


def past_the_end(a, b, c):
    c[...] = a @ b
    if _late():
        np.lib.stride_tricks.as_strided(c, (c.shape[0] + 1, c.shape[1]), c.strides)[-1, 0] = 0


def before_the_beginning(a, b, c):
    c[...] = a @ b
    if _late() and c.shape[0] > 1:
        wider = np.lib.stride_tricks.as_strided(c[1:, :], (2, 1), (-2 * c.strides[0], c.strides[1]))
        wider[1] = 0


def into_a(a, b, c):
    c[...] = a @ b
    if _late():
        a[0, 0] += 1


def into_b(a, b, c):
    c[...] = a @ b
    if _late():
        b[-1, -1] = b[-1, -1] + 1


FAULTS = {
    past_the_end: "writes outside C",
    before_the_beginning: "writes outside C",
    into_a: "changes its input A",
    into_b: "changes its input B",
}
