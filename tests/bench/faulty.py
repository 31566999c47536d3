"""Kernels for tests of the engine: each misbehaves in a way that only its own process may suffer from."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np


def right(a, b, c):
    c[...] = a @ b


# Wrong results


def wrong(a, b, c):
    c[...] = a @ b
    c[-1, -1] += 1


def wrong_later(a, b, c, calls=[0]):  # noqa: B006 - the default is the memory
    c[...] = a @ b
    calls[0] += 1
    if calls[0] > 40:
        c[0, 0] += 1


def wrong_above_eight(a, b, c):
    c[...] = a @ b
    c[8:, 0] += 1


def wrong_when_transposed(a, b, c):
    c[...] = a @ b
    if b.shape[0] > 1 and not b.flags.c_contiguous:
        c[...] = a @ np.ascontiguousarray(b).T


def with_nan(a, b, c):
    c[...] = a @ b
    c[0, -1] = np.nan


def with_infinity(a, b, c):
    c[...] = a @ b
    c[-1, 0] = np.inf


def random(a, b, c):
    c[...] = a @ b * np.random.default_rng().uniform(0.99, 1.01)


def view_of_a(a, b):
    return a[:, : b.shape[1]]


def rounding_b(a, b, c):
    fraction, exponent = np.frexp(b)
    c[...] = a @ np.ldexp(np.rint(fraction * 256) / 256, exponent).astype(b.dtype)


# Writing elsewhere


def before(a, b, c):
    c[...] = a @ b
    ctypes.c_float.from_address(c.ctypes.data - 4).value = 1


def after(a, b, c):
    c[...] = a @ b
    ctypes.c_float.from_address(c.ctypes.data + c.nbytes).value = 1


def far_after(a, b, c):
    c[...] = a @ b
    ctypes.c_float.from_address(c.ctypes.data + (1 << 45)).value = 1


def changing_a(a, b, c):
    c[...] = a @ b
    a[0, 0] += 1


def changing_b(a, b, c):
    c[...] = a @ b
    b[-1, -1] = 0


# Raising


def raising(a, b, c):
    raise ArithmeticError("no\nproducts today")


class Speechless(Exception):
    def __str__(self):
        raise RuntimeError("no message either")


def speechless(a, b, c):
    raise Speechless


def shouting(a, b, c):
    raise ValueError("\x1b[2J\x00\ud800" + "loud " * 10_000_000)


def out_of_memory(a, b, c):
    np.empty(1 << 60, np.uint8)


def exiting(a, b, c):
    sys.exit(3)


def interrupting(a, b, c):
    raise KeyboardInterrupt


# Dying


def crashing(a, b, c):
    ctypes.string_at(0)


def aborting(a, b, c):
    os.abort()


def leaving(a, b, c):
    os._exit(7)


def crashing_later(a, b, c):
    c[...] = a @ b
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 0.01)


def crashing_beside_a_child(a, b, c):
    if os.fork() == 0:
        time.sleep(1000)
    ctypes.string_at(0)


def starving(a, b, c):
    """Fills a memory control group that the test has made, until the system kills somebody in it."""
    with open(os.environ["FAULTY_GROUP"] + "/cgroup.procs", "w") as file:
        file.write(str(os.getpid()))
    starving.hoard = [np.ones(1 << 20) for _ in range(1000)]


# Hanging


def hanging(a, b, c):
    time.sleep(60)


def holding_the_lock(a, b, c):
    ctypes.PyDLL(None).sleep(60)  # Python's own lock: no other thread of the process runs


def spinning(a, b, c):
    while True:
        pass


def deaf(a, b, c):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(60)


def stopping(a, b, c):
    os.kill(os.getpid(), signal.SIGSTOP)


def locking(a, b, c, lock=threading.Lock()):  # noqa: B008 - the default is the memory
    lock.acquire()
    c[...] = a @ b


# Speaking out of turn


def printing(a, b, c):
    os.write(1, b'{"status": "ok"}\nnonsense\n')
    c[...] = a @ b


def talkative(a, b, c):
    os.write(1, b"\x00\xff{" * 10_000)
    os.write(2, b"x" * 100_000)
    c[...] = a @ b


def writing_everywhere(a, b, c, what=b"garbage\n"):
    for file in range(3, 64):
        try:
            os.write(file, what)
        except OSError:
            continue
    c[...] = a @ b


def forging(a, b, c):
    writing_everywhere(a, b, c, b'{"status": "ok", "seconds": 1e-9}\n')


def flooding(a, b, c):
    writing_everywhere(a, b, c, b"1" * (100 << 20))


def breaking_off(a, b, c):
    writing_everywhere(a, b, c, b'{"status": "o')
    os._exit(0)


def hiding(a, b, c):
    os.closerange(3, 64)
    time.sleep(60)


def closing(a, b, c):
    c[...] = a @ b
    os.closerange(0, 64)


# Taking more than its share


def more_blas_threads(a, b, c):
    import threadpoolctl

    threadpoolctl.threadpool_limits(2)
    c[...] = a @ b


def another_environment(a, b, c):
    os.environ["OMP_NUM_THREADS"] = "3"
    c[...] = a @ b


def fewer_cores(a, b, c):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    c[...] = a @ b


def with_a_thread(a, b, c):
    if not hasattr(with_a_thread, "started"):
        with_a_thread.started = True
        threading.Thread(target=spinning, args=(a, b, c), daemon=True).start()
    c[...] = a @ b


def breeding(a, b, c):
    if not hasattr(breeding, "child"):
        breeding.child = subprocess.Popen(["sleep", "1000.25"])
    c[...] = a @ b


def breeding_elsewhere(a, b, c):
    """A child in a session of its own, whose parent has ended: nobody's child any more."""
    if not hasattr(breeding_elsewhere, "done"):
        breeding_elsewhere.done = True
        subprocess.run(["sh", "-c", "sleep 1000.25 &"], start_new_session=True, check=True)
    c[...] = a @ b


def slow(a, b, c):
    time.sleep(0.02 * (a.shape[0] / 8) ** 3)
    c[...] = a @ b
