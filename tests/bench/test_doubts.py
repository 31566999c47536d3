"""Doubts: each disturbance is found from the samples' own records, and a quiet cell has none."""

import random

import pytest

from bench.verdicts.doubts import doubts, humps

QUIET = {"waited_s": 0.0, "cpu_s": 0.02, "switches": 0, "other_s": 0.0, "steal_s": 0.0, "throttled_s": 0.0}


def samples(seconds=lambda launch, number: 1e-3, launches=6, rounds=5, **figures):
    """`loops` of 20 calls of about a millisecond each: 20 ms a sample."""
    return [
        {"launch": launch, "round": number, "loops": 20, "seconds": seconds(launch, number)} | QUIET | figures
        for launch in range(launches)
        for number in range(rounds)
    ]


def kinds(found):
    return [doubt["kind"] for doubt in found]


def noisy(seed=0, width=0.01):
    draw = random.Random(seed)
    return lambda launch, number: 1e-3 * (1 + draw.gauss(0, width))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_quiet_cell_gives_no_doubt(threads):
    """Ordinary noise of a percent, on any number of threads."""
    for seed in range(200):
        assert doubts(threads, 2, samples(noisy(seed)), dict.fromkeys(range(6), 1e11)) == []


def test_a_wait_on_one_thread_is_something_else_on_its_core():
    """A tenth of the time: the sentence says how much, and that it does not count."""
    (found,) = doubts(1, 2, samples(waited_s=0.002))
    assert found["kind"] == "foreign-load"
    assert "it waited 10 % of the time (not counted)" in found["sentence"]


def test_threads_that_wait_are_oversubscribed():
    """NumPy at 128 on two busy cores: 50 us, and one sample of 16 ms."""

    def seconds(launch, number):
        return 16e-3 if (launch, number) == (2, 2) else 50e-6

    taken = samples(seconds)
    found = doubts(2, 2, [line | {"waited_s": 0.2 * (line["seconds"] > 1e-3)} for line in taken])
    assert kinds(found)[0] == "oversubscribed"
    assert "one that waits holds up the others" in found[0]["sentence"]
    assert "the slowest sample took 320.0 times the median" in found[0]["sentence"]


def test_work_of_others_is_told_although_nobody_waited():
    """A second core kept busy takes cache and clock, if not the core."""
    found = doubts(1, 2, samples(other_s=0.019, launches=12))
    assert kinds(found) == ["foreign-load"]
    assert "kept 0.9 of 2 cores busy" in found[0]["sentence"]
    assert doubts(1, 2, samples(other_s=0.019, launches=1)) == []  # ticks of 10 ms tell nothing of 100 ms


@pytest.mark.parametrize(
    ("figure", "kind", "words"),
    [
        ("steal_s", "steal", "hypervisor gave 5.0 %"),
        ("throttled_s", "throttled", "quota held it back for 10 %"),
    ],
)
def test_steal_and_throttling_are_told(figure, kind, words):
    """Two milliseconds of every twenty."""
    (found,) = doubts(2, 2, samples(**{figure: 0.002}, launches=6))
    assert found["kind"] == kind
    assert words in found["sentence"]


def test_two_humps_are_told_apart_from_one():
    """Samples at 50 us and at 80 us with nothing between; one hump of 10 % width is one hump."""
    draw = random.Random(1)
    two = [draw.choice([50e-6, 80e-6]) * (1 + draw.gauss(0, 0.02)) for _ in range(30)]
    found = humps(two)
    assert found.fast == pytest.approx(50e-6, rel=0.05)
    assert found.slow == pytest.approx(80e-6, rel=0.05)
    alarms = sum(humps([50e-6 * (1 + draw.gauss(0, 0.1)) for _ in range(30)]) is not None for _ in range(300))
    assert alarms <= 3
    assert humps(two[:5]) is None  # too few to say


def test_two_humped_samples_are_a_doubt():
    """The sentence names both and the share."""

    def seconds(launch, number):
        return (3e-3 if number == 4 else 1e-3) * (1 + 0.001 * launch)

    found = [doubt for doubt in doubts(1, 2, samples(seconds)) if doubt["kind"] == "two-humped"]
    assert "20 % of its samples took 3.01 ms a call, the others 1 ms" in found[0]["sentence"]


def test_a_machine_that_changes_speed_is_told_from_one_whose_memory_does():
    """The peak says which: it moved with the launches, or it did not."""

    def seconds(launch, number):
        return 1.3e-3 if launch > 2 else 1e-3

    slower = {launch: 1e11 if launch > 2 else 1.3e11 for launch in range(6)}
    found = doubts(1, 2, samples(seconds), slower)
    assert "drift" in kinds(found)
    assert "from 100 to 130 GFLOP/s" in next(d["sentence"] for d in found if d["kind"] == "drift")
    found = doubts(1, 2, samples(seconds), dict.fromkeys(range(6), 1e11))
    assert "launches" in kinds(found)
    assert "differ by 1.3 times" in next(d["sentence"] for d in found if d["kind"] == "launches")


def test_a_core_with_a_neighbour_is_told_from_a_cache_with_one():
    """A loop beside the samples that count says how much; launches that differ are laid to it then."""

    def seconds(launch, number):
        return 1.3e-3 if launch > 2 else 1e-3

    taken = [line | {"pace_s": 1.25e-4 if line["launch"] > 1 else 1e-4} for line in samples(seconds)]
    found = {doubt["kind"]: doubt["sentence"] for doubt in doubts(1, 2, taken, least=1e-4)}
    assert "usually 1.25, at most 1.25 times as long as at best" in found["crowded"]
    assert found["launches"].endswith("its core was not its own")
    few = [line | {"pace_s": 1.25e-4 if line["round"] > 2 else 1e-4} for line in samples()]
    assert doubts(1, 2, few, least=1e-4) == []  # they do not count
    assert doubts(1, 2, samples(pace_s=1e-4)) == []  # and nobody knows what is best


def test_waits_taken_off_leave_no_hump_behind():
    """On one thread humps are looked for in what is left."""

    def seconds(launch, number):
        return 2e-3 if number == 0 else 1e-3

    found = doubts(1, 2, [s | {"waited_s": 0.02 * (s["round"] == 0)} for s in samples(seconds)])
    assert kinds(found) == ["foreign-load"]


def test_a_kernel_that_prints_is_told():
    """Writing takes time."""
    assert kinds(doubts(1, 2, samples(), printed=12_345)) == ["prints"]
    assert "12,345 bytes" in doubts(1, 2, samples(), printed=12_345)[0]["sentence"]
