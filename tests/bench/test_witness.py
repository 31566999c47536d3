"""The witness: what disturbed a sample is seen, and by how much."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.host.witness import FIGURES, Witness


def spin(seconds):
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def test_every_figure_is_there_and_none_is_negative():
    """Also for nothing at all."""
    with Witness() as seen:
        pass
    assert set(seen.figures) == set(FIGURES)
    assert all(value is None or value >= 0 for value in seen.figures.values())


def test_the_time_of_this_process_is_its_own():
    """A tenth of a second of spinning is a tenth of a second of CPU time."""
    with Witness() as seen:
        spin(0.1)
    assert 0.03 < seen.figures["cpu_s"] < 0.13


def test_the_pace_is_that_of_a_loop_and_not_of_what_was_watched():
    """Some hundred microseconds, however long what is in between."""
    with Witness() as seen:
        spin(0.1)
    assert 1e-5 < seen.figures["pace_s"] < 0.05


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="this kernel keeps no schedstat")
def test_a_neighbour_on_the_same_core_shows_as_waiting():
    """Wall time is CPU time plus waiting, to within a few percent: what is taken off is what was lost."""
    allowed = os.sched_getaffinity(0)
    core = {min(allowed)}
    hog = subprocess.Popen(
        [sys.executable, "-c", f"import os\nos.sched_setaffinity(0, {core})\nwhile True: pass"]
    )
    try:
        os.sched_setaffinity(0, core)
        time.sleep(0.3)
        with Witness() as seen:
            began = time.perf_counter()
            spin(0.3)
            wall = time.perf_counter() - began
    finally:
        os.sched_setaffinity(0, allowed)
        hog.kill()
        hog.wait()
    figures = seen.figures
    assert figures["waited_s"] > 0.05
    assert figures["waited_s"] + figures["cpu_s"] == pytest.approx(wall, rel=0.1)
    assert figures["switches"] > 3
    assert figures["other_s"] > 0.03
