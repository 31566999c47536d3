"""Machine: every ceiling of this one, and the table in which a person finds it."""

import math

import pytest

from bench import machine
from bench.host.environment import caches
from bench.isolation.processes import Gone
from bench.timing.ceilings import names
from gemm.problems import DTYPES
from gemm.threads import available_cores


def row(ceiling, threads, rate, dtype=None):
    """As `ceilings` gives it."""
    return {"ceiling": ceiling, "dtype": dtype, "threads": threads, "rate": rate, "unit": "B/s"}


def test_the_table_has_a_row_for_each_level_and_columns_for_each_thread_count():
    """What was not measured is a dash."""
    rows = [
        row("fma", 1, 118.4e9, "float32"),
        row("fma", 8, 940e9, "float32"),
        row("l1-read", 1, 236.3e9),
        row("l1-write", 1, 118.1e9),
        row("dram-copy", 8, 61e9),
    ]
    assert [line.split() for line in machine.table(rows)] == [
        ["1", "thread", "8", "threads"],
        ["GFLOP/s"],
        ["float32", "118.4", "940.0"],
        ["GB/s", "read", "write", "copy", "read", "write", "copy"],
        ["L1", "236.3", "118.1", "-", "-", "-", "-"],
        ["DRAM", "-", "-", "-", "-", "-", "61.0"],
    ]
    assert len({len(line) for line in machine.table(rows)[2:]}) == 1  # columns stand below each other


def test_every_ceiling_is_measured_on_one_thread_and_on_all():
    """Once for each dtype, or once where the dtype does not matter."""
    rows = machine.ceilings()
    wanted = {("fma", dtype) for dtype in DTYPES} | {
        (name, None) for name in names(caches()) if name != "fma"
    }
    for threads in {1, available_cores()}:
        assert {(row["ceiling"], row["dtype"]) for row in rows if row["threads"] == threads} == wanted
    assert all(math.isfinite(row["rate"]) and row["rate"] > 1e8 for row in rows)


def test_a_worker_that_dies_is_one_sentence(monkeypatch):
    """And is not left behind."""
    killed = []

    class Dead:
        def __init__(self, threads):
            pass

        def ask(self, timeout, **request):
            raise Gone("crashed", "its process was killed by SIGILL")

        def kill(self):
            killed.append(self)

    monkeypatch.setattr(machine, "Worker", Dead)
    with pytest.raises(ValueError, match="ceilings could not be measured: its process was killed by SIGILL"):
        machine.ceilings()
    assert killed
