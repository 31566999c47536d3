"""Subjects: what a product costs is timed in the state that its cell names, and nothing wrong passes."""

import json
import os
import subprocess
import sys
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest

import bench
from bench.plans import cold, network
from bench.timing import subjects
from bench.timing.manners import manners
from bench.timing.subjects import DISCARD_NS, Product, Wrong, beside, overhead
from gemm.correctness import reference
from gemm.guards import OUTSIDE, Guards
from gemm.problems import STRIDES, Problem, lay_out
from tests.bench import meddling, straying

SMALL_CACHE = 1 << 16
# Calls after which a product that is opened with little time a sample has long been opened.
LATE = 30_000


@pytest.fixture(autouse=True)
def anew():
    """Thread settings count from the test's beginning: others load PyTorch into this process and set its threads."""
    manners.cache_clear()


@pytest.mark.parametrize("strides", STRIDES)
@pytest.mark.parametrize("op", ["n", "t"])
@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 16)])
def test_copies_lie_apart_on_cache_lines(shape, op, strides):
    """Each equal to the array, laid out like it; what lies around one is neither its own nor a neighbour's."""
    array = lay_out(np.arange(np.prod(shape)).reshape(shape).astype("float32"), op, strides)
    copies = cold.Copies(array, 4)
    for at, copy in enumerate(copies.all):
        np.testing.assert_array_equal(copy, array)
        assert copy.strides == array.strides
        assert np.lib.array_utils.byte_bounds(copy)[0] % cold.LINE == 0
        around = copies.around(at)
        assert np.isnan(around[[0, 15, -16, -1]]).all()
        guards = Guards(copy, copy, copy, around)
        copies.all[(at + 1) % 4] = 9
        copy[...] = array
        assert guards.broken() is None
        copies.all[(at + 1) % 4] = array
        for stray in (0, 15, -16, -1):
            around[stray] = 1
            assert guards.broken() == OUTSIDE
            around[stray] = np.nan


@pytest.fixture
def small_cache(monkeypatch):
    """A last-level cache so small that two of it are a few copies."""
    monkeypatch.setattr(cold, "last_cache", lambda: SMALL_CACHE)


def product(kernel="blas", cache="hot", **problem):
    problem = {"m": 12, "n": 10, "k": 14, "dtype": "float32"} | problem
    return Product(kernel, problem, seed=0, cache=cache)


def opened(*args, sample_s=0.002, **problem):
    subject = product(*args, **problem)
    return subject, subject.open(sample_s)


def sampled(subject, times):
    for _ in range(times):
        subject.sample()


def open_and_sample(subject, times):
    subject.open(0.002)
    subject.loops = 1000  # however slow the machine was a moment ago
    sampled(subject, times)


def misbehaving(module, function, after, folder):
    """The name of a kernel of one of the modules here that behaves for so many calls."""
    file = folder / f"after_{after}.py"
    file.write_text(Path(module.__file__).read_text().replace("calls = 0", f"calls = -{after}"))
    return f"{file}:{function.__name__}"


STACKS = [{}, {"batch": 5}, {"batch": 3, "op_a": "t"}, {"batch": 3, "beta": 0.5, "alpha": -2.0}]


@pytest.mark.parametrize("problem", STACKS, ids=str)
@pytest.mark.parametrize("cache", ["hot", "cold"])
def test_right_kernels_pass_hot_and_cold_single_and_stacked(kernel, cache, problem, small_cache):
    """Opened and sampled, twice."""
    subject, answer = opened(kernel, cache=cache, **problem)
    assert answer["flops"] == 2 * 12 * 10 * 14 * problem.get("batch", 1)
    for _ in range(2):
        sample = subject.sample()
        assert sample["loops"] == answer["loops"]
        assert 0 < sample["seconds"] < 1
        assert 0 <= sample["error_ratio"] <= 1
        assert "waited_s" in sample


@pytest.mark.parametrize("data", ["denormals", "wide", "zeros", "integers", "uniform", "significands"])
def test_every_kind_of_data_can_be_timed(data):
    """None trips the verification."""
    subject, _ = opened(data=data)
    assert subject.sample()["error_ratio"] <= 1


def test_cold_copies_are_more_than_twice_the_last_cache():
    """Or, where that is beyond the cap, the cap; two at least."""
    for size in (8, 64, 300):
        problem = Problem(size, size, size)
        enough = min(2 * cold.last_cache(), cold.MOST)
        assert (
            cold.copies(problem) == cold.MOST_COPIES
            or cold.copies(problem) * cold.footprint(problem) > enough
        )
        assert (cold.copies(problem) - 2) * cold.footprint(problem) < enough
    assert cold.copies(Problem(20000, 20000, 20000)) == 2


def test_cold_calls_take_the_copies_in_turn_and_samples_whole_turns(small_cache):
    """Also from one sample to the next: no copy is met again before all others were."""
    subject, answer = opened(cache="cold")
    count = len(subject.copies)
    assert count == cold.copies(subject.problem) > 10
    assert answer["loops"] % count == 0
    assert len({copy.c.ctypes.data for copy in subject.copies}) == count
    met = []
    turns = [lambda at=at: met.append(at) for at in range(count)]
    subject.turns = cycle(turns)
    subject.next = 0
    for calls in (3, count, 7):
        subject._spend(calls)
    assert met == [at % count for at in range(count + 10)]
    subject.loops = count - 2
    visited = subject._visited(after=4)
    assert list(visited) == [(14 + at) % count for at in range(count - 2)]


def test_a_sample_shorter_than_a_turn_verifies_only_what_it_came_by(small_cache):
    """The others hold what an earlier sample left there."""
    subject, _ = opened(cache="cold")
    subject.loops = 2
    for _ in range(30):
        assert subject.sample()["error_ratio"] <= 1


def test_a_kernel_that_is_wrong_only_on_one_cold_copy_is_found(small_cache):
    """Sooner or later: each sample looks at a few copies drawn anew."""
    subject, _ = opened(cache="cold")
    victim = subject.copies[7]

    def cheating():
        victim.call()
        victim.c[3, 4] += 1

    calls = [cheating if copy is victim else copy.call for copy in subject.copies]
    subject.turns = cycle(calls)
    subject.call_ns = DISCARD_NS / len(
        calls
    )  # whole turns are discarded: each sample begins with the same copy
    with pytest.raises(Wrong, match="off by more than rounding"):
        sampled(subject, 400)


def test_a_result_that_is_not_computed_anew_is_found_in_a_stack(small_cache):
    """One row of one product changes between samples; a C kept from before is wrong there."""
    for cache in ("hot", "cold"):
        subject, _ = opened(cache=cache, batch=4)
        kept = [copy.c.copy() for copy in subject.copies]
        stale = [lambda copy=copy, c=c: np.copyto(copy.c, c) for copy, c in zip(subject.copies, kept)]
        if cache == "hot":
            copy = subject.copies[0]
            subject.copies = [type(copy)(copy.a, copy.b, copy.c, stale[0])]
        else:
            subject.turns = cycle(stale)
        with pytest.raises(Wrong, match="in a timed result"):
            subject.sample()


def test_what_is_beside_an_index_is_all_the_rest():
    """Each element once."""
    for shape, index in (((5, 3), (2,)), ((4, 5, 3), (3, 0)), ((1, 1), (0,))):
        seen = np.zeros(shape, int)
        for at in beside(index):
            seen[at] += 1
        assert (seen.sum(), seen[index].sum()) == (seen.size - seen[index].size, 0)
        assert seen.max(initial=0) <= 1


@pytest.mark.parametrize("after", [0, LATE], ids=["at once", "later"])
@pytest.mark.parametrize("cache", ["hot", "cold"])
@pytest.mark.parametrize("fault", straying.FAULTS, ids=lambda fault: fault.__name__)
def test_a_kernel_that_strays_is_wrong(fault, cache, after, small_cache, tmp_path):
    """Outside C, into A or into B; with the sentence that `gemmlab check` has for it."""
    subject = product(misbehaving(straying, fault, after, tmp_path), cache=cache)
    with pytest.raises(Wrong, match=straying.FAULTS[fault]):
        open_and_sample(subject, 100)


def test_a_cold_cell_of_a_sweep_is_opened_cold(tmp_path):
    """By its worker: the kernel is handed one C after the other."""
    file = tmp_path / "counting.py"
    file.write_text(
        "seen = set()\n"
        "def multiply(a, b, c):\n"
        "    c[...] = a @ b\n"
        "    seen.add(c.ctypes.data)\n"
        "    if len(seen) > 50: raise ArithmeticError('many copies')\n"
    )
    run = bench.sweep(
        [f"{file}:multiply"], sizes=[32], cache=["hot", "cold"], launches=1, rounds=1, out=tmp_path / "run"
    )
    reasons = {line["cache"]: line["reason"] for line in run.cells}
    assert reasons == {"hot": None, "cold": "ArithmeticError: many copies"}


def test_the_overhead_is_that_of_a_call_with_next_to_no_arithmetic():
    """Seconds, well below those of a product of some size."""
    _, answer = opened(m=100, n=100, k=100)
    assert answer["overhead_s"] == overhead("blas", "float32")
    assert 0 < answer["overhead_s"] < answer["seconds"]


WORKER = """
import json, sys
from bench.timing.worker import Host, Pipe, _failure
kernel = sys.argv[1]
problem = {"m": 8, "n": 8, "k": 8, "dtype": "float32"}
host = Host(Pipe(sys.stdin, sys.stdout))
try:
    host.answer({"do": "hello", "ceiling": False})
    host.answer({"do": "pilot", "kernel": kernel, "problem": problem})
    host.answer({"do": "open", "what": "problem", "kernel": kernel, "problem": problem, "seed": 0, "sample_s": 0.001})
    host.subjects[""].loops = 1000
    for _ in range(int(sys.argv[2])):
        host.answer({"do": "sample"})
    print(json.dumps("nothing found"))
except Exception as error:
    print(json.dumps(_failure(error)))
"""


@pytest.mark.parametrize("after", [0, LATE], ids=["at once", "later"])
@pytest.mark.parametrize("fault", meddling.FAULTS, ids=lambda fault: fault.__name__)
def test_a_kernel_that_changes_thread_settings_fails_with_a_sentence(fault, after, tmp_path):
    """As a worker answers, in a process of its own: when opened, where its pilot did it already, else by a sample."""
    kernel = misbehaving(meddling, fault, after, tmp_path)
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", WORKER, kernel, "100" if after else "0"],
        capture_output=True,
        text=True,
        env=os.environ | one_thread,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"status": "failed", "reason": meddling.FAULTS[fault]}


def test_what_a_kernel_loads_for_the_first_time_is_no_change():
    """A process in which SciPy's own OpenBLAS appears, on other threads than the first one's."""
    code = (
        "import os; from bench.timing.manners import manners; import numpy\n"
        "manners().check()\n"
        "os.environ['OPENBLAS_NUM_THREADS'], before = '2', os.environ['OPENBLAS_NUM_THREADS']\n"
        "import scipy.linalg\n"
        "os.environ['OPENBLAS_NUM_THREADS'] = before\n"
        "manners().check(); manners().check(libraries=True); manners().check()\n"
        "print(sum('threads' in name for name, path in manners().before if path))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 2


def test_what_is_verified_between_samples_is_verified_on_one_thread(monkeypatch):
    """OpenBLAS's threads look for work for a while after a product: on the cores of what is timed next."""
    from threadpoolctl import threadpool_info

    def counts():
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    seen = []
    monkeypatch.setattr(
        subjects, "reference", lambda *given, **how: seen.append(counts()) or reference(*given, **how)
    )
    model = network.DEFAULTS | {"arch": [6, 5, 4], "batch": 3}
    step = subjects.TrainingStep("numpy-dot", model, seed=0)
    step.open(0.001)
    before = counts()
    seen.clear()
    step.sample()
    assert seen == [{1}] * 5  # Z and dW of two layers, dX of one
    assert counts() == before
