"""numba-micro among threads and processes: many callers, forks, exits, interrupts, sleep and memory."""

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

import gemm
from bench.evidence.crowd import crowd
from gemm.micro import hub, product

NAME = "numba-micro"
MIB = 1 << 20
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="Linux's /proc")
FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
START = """
import os, signal, sys, threading, time
import numpy as np
import gemm
NAME = "numba-micro"
gemm.set_threads(2)
a = np.arange(90000, dtype="float32").reshape(300, 300) % 5
expected = a @ a
def right():
    return np.array_equal(gemm.matmul(a, a, np.full_like(a, np.nan), kernel=NAME), expected)
def always():
    while True:
        if not right():
            os._exit(3)
assert right()
"""


def child(program, timeout=60, **options):
    """(exit code, output, errors) of a Python program, after START."""
    text = START + textwrap.dedent(program)
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", text]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout, **options)
    return found.returncode, found.stdout, found.stderr


@pytest.fixture(autouse=True)
def threads():
    """`gemm.set_threads`, undone afterwards."""
    before = gemm.get_threads()
    yield gemm.set_threads
    gemm.set_threads(before)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_eight_callers_at_once(threads, count):
    """Every product right, whoever has the pool; a minute of it: python -m bench.evidence.crowd."""
    threads(count)
    found = crowd(1.5)
    assert not found.wrong
    assert found.products > 100


def test_eight_callers_while_the_threads_change():
    """The pool is taken down and put up again under them, thousands of times."""
    program = """
    from bench.evidence.crowd import crowd
    found = crowd(4, every=0.0005)
    print(found.wrong, found.products > 100, found.changes > 20)
    """
    assert child(program, 15) == (0, "[] True True\n", "")


def test_the_pool_is_taken_down_in_the_middle_of_a_product():
    """Parts that nobody has begun are still done."""
    program = """
    from gemm.micro import product
    x = np.arange(2250000.0).reshape(1500, 1500) % 5
    c = np.full_like(x, np.nan)
    gemm.set_threads(64)
    call = gemm.prepare(x, x, c, kernel=NAME)  # 64 parts, then, for two threads
    gemm.set_threads(2)
    thread = threading.Thread(target=call)
    thread.start()
    time.sleep(0.01)
    gemm.set_threads(1)
    thread.join()
    print(np.array_equal(c, x @ x), len(product.HUB.workers))
    """
    assert child(program, 10) == (0, "True 0\n", "")


@FORKS
@pytest.mark.parametrize("busy", [False, True], ids=["while nothing runs", "while another thread multiplies"])
@pytest.mark.parametrize("ends", ["os._exit(0)", "sys.exit(0)"])
def test_a_forked_child_multiplies_and_ends(busy, ends):
    """It has no workers of the parent's, may have its own, and leaves the parent's alone."""
    program = f"""
    if {busy}:
        threading.Thread(target=always, daemon=True).start()
    for turn in range({4 if "sys" in ends else 30}):
        pid = os.fork()
        if pid == 0:
            signal.alarm(20)
            good = right()
            if turn % 2:
                gemm.set_threads(3)
                good = good and right()
            if not good:
                os._exit(1)
            {ends}
        status = os.waitpid(pid, 0)[1]
        if status:
            print("child", turn, status, flush=True)
            os._exit(1)
    assert right()
    os._exit(0)
    """
    assert child(program) == (0, "", "")


@FORKS
def test_a_child_of_a_child():
    """Forks within forks, each with workers."""
    program = """
    for depth in range(3):
        gemm.set_threads(2 + depth % 2)
        assert right()
        pid = os.fork()
        if pid:
            status = os.waitpid(pid, 0)[1]
            sys.exit(1 if status else 0)
    assert right()
    """
    assert child(program) == (0, "", "")


@pytest.mark.parametrize(
    "state",
    ["", "gemm.set_threads(4)", "time.sleep(0.2)", "gemm.set_threads(1)"],
    ids=["awake", "many", "asleep", "none"],
)
def test_an_interpreter_with_workers_ends_in_silence(state):
    """Nothing printed, exit code 0, no waiting."""
    begin = time.monotonic()
    assert child(state) == (0, "", "")
    assert time.monotonic() - begin < 30


def test_an_interpreter_ends_while_a_thread_of_its_own_multiplies():
    """A daemon thread, as Python has them, in the middle of a product."""
    program = """
    for _ in range(2):
        threading.Thread(target=always, daemon=True).start()
    time.sleep(0.1)
    """
    for _ in range(3):
        assert child(program, 20) == (0, "", "")


def multiplied(count):
    gemm.set_threads(count)
    a = np.arange(62500, dtype="float32").reshape(250, 250) % 5
    return np.array_equal(gemm.matmul(a, a, kernel=NAME), a @ a)


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_processes_of_multiprocessing(method, threads):
    """Each with a pool of its own, however it was started."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    threads(2)
    assert multiplied(2)
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(multiplied, [2, 3]) == [True, True]
        pool.close()
        pool.join()


@pytest.mark.skipif(os.name != "posix", reason="POSIX's signals")
def test_ctrl_c_during_a_long_product_leaves_a_process_that_goes_on():
    """KeyboardInterrupt when the product is done; then everything works, threads and all."""
    program = """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    x = np.ones((1500, 1500))
    call = gemm.prepare(x, x, np.empty_like(x), kernel=NAME)
    print("begun", flush=True)
    try:
        while True:
            call()
    except KeyboardInterrupt:
        print("interrupted", right(), flush=True)
    gemm.set_threads(3)
    print("went on", right())
    """
    command = [sys.executable, "-c", START + textwrap.dedent(program)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "begun\n"
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            rest, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, rest, errors) == (0, "interrupted True\nwent on True\n", "")


def test_workers_without_work_use_no_time(threads):
    """CPU time of the whole process over half a second in which nothing is multiplied."""
    threads(4)
    assert multiplied(4)
    assert len(product.HUB.workers) == 3
    time.sleep(0.1)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.05


def capacity():
    """Bytes of each workspace of this process."""
    words, first = product.HUB.words, product.HUB.first + hub.SLOTS + hub.CAPACITY
    return [int(words[first + hub.LINE * slot]) for slot in range(hub.MOST_SLOTS)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_workspace_stays_as_large_as_its_blocks(threads, dtype):
    """Beyond the block sizes it grows neither with m, n or k nor with calls: a few MiB a thread."""
    threads(2)

    def after(m, n, k):
        a, b = np.ones((m, k), dtype), np.ones((k, n), dtype)
        for x, y in ((a, b), (a.T.copy().T, b.T.copy().T)):
            gemm.matmul(x, y, kernel=NAME)
        return capacity()

    once = [after(*shape) for shape in ((5000, 300, 1100), (300, 5000, 1100), (300, 300, 20000))][-1]
    for shape in ((15000, 300, 1100), (300, 15000, 1100), (300, 300, 50000), (300, 300, 300)):
        assert after(*shape) == once
    assert max(once) <= 2 * 10 * MIB


def test_each_caller_has_one_workspace(threads):
    """Eight callers at once take at most eight, and the next ones take the same."""
    program = """
    from bench.evidence.crowd import crowd
    from tests.gemm.test_micro_threads import capacity
    crowd(1)
    first = capacity()
    crowd(1)
    print(sum(map(bool, first)) <= 8, sum(map(bool, capacity())) <= 8)
    """
    assert child(program) == (0, "True True\n", "")


def test_more_callers_than_workspaces(threads):
    """Who finds none has one for the while: right all the same, and given back."""
    threads(2)
    assert multiplied(2)
    pool, before = product.HUB, capacity()
    slots = range(hub.SLOTS + hub.BUSY, hub.HUB_WORDS, hub.LINE)
    for slot in slots:
        pool[slot] = 1
    try:
        assert multiplied(2)
        resident = peak()
        for _ in range(50):
            assert multiplied(2)
    finally:
        for slot in slots:
            pool[slot] = 0
    assert capacity() == before
    assert peak() - resident < 50 * MIB


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@LINUX
@pytest.mark.parametrize(
    "how", ["gemm.matmul(x, x, c, kernel=NAME)", "gemm.matmul(x, x, c, kernel=NAME, alpha=2.0)"]
)
def test_no_memory_for_a_workspace_is_an_error(how):
    """And never a C that was not written."""
    program = f"""
    import resource
    gemm.set_threads(1)
    x, c = np.ones((2000, 2000)), np.zeros((2000, 2000))
    gemm.matmul(x[:2, :2], x[:2, :2], kernel=NAME)
    pages = int(open("/proc/self/statm").read().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 18), limits[1]))
    rest = []
    try:
        while True:  # what had been given back and could be used again
            rest.append(bytearray(1 << 20))
    except MemoryError:
        pass
    try:
        {how}
    except MemoryError:
        sys.stdout.write("no memory\\n")
    rest.clear()
    resource.setrlimit(resource.RLIMIT_AS, limits)
    print(right())
    """
    assert child(program) == (0, "no memory\nTrue\n", "")


def test_threads_that_come_and_go(threads):
    """A hundred callers one after another leave nothing behind."""
    threads(2)
    before = capacity()
    found = []
    for _ in range(100):
        thread = threading.Thread(target=lambda: found.append(multiplied(2)))
        thread.start()
        thread.join()
    assert found == [True] * 100
    assert sum(map(bool, capacity())) <= max(1, sum(map(bool, before)))
