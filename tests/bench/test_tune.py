"""Tune: what is better by more than noise is found, kept, and written where gemm reads it; nothing else is."""

import json
import math
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import gemm
from bench import config_files
from bench import tune as tuner
from bench.plans import plan
from bench.timing import candidates
from bench.timing.candidates import Candidates
from bench.timing.subjects import Wrong
from bench.tune import forget, neighbours, tune
from bench.tune_command import outcome, table
from bench.verdicts.descent import LEAST, ROUNDS, descend, race, spread
from gemm import configuration
from gemm.micro import blocking, tuning
from gemm.micro.host import tile
from gemm.problems import DTYPES, Problem


def planted(cost, noise=0.0, shapes=("s", "t"), seed=0):
    """A machine on which a setting takes cost(setting, shape) seconds, and some luck of each sample's and round's."""
    rng = random.Random(seed)

    def sample(settings):
        luck = rng.gauss(0, 5 * noise)  # of the round, which all share
        return [{s: cost(one, s) * math.exp(luck + rng.gauss(0, noise)) for s in shapes} for one in settings]

    return sample


def always():
    return True


# --- what counts as better


def test_the_interval_of_a_median_covers_it():
    """In 95 % of draws or more, whatever the distribution; too few values have none."""
    rng = random.Random(1)
    held = 0
    for _ in range(2000):
        found = spread([rng.expovariate(1) for _ in range(9)])
        held += found.low <= math.exp(math.log(2)) <= found.high
    assert 0.95 <= held / 2000 <= 0.98
    assert math.isnan(spread([0.0] * 5).low)
    assert (spread([0.0] * 6).low, spread([0.0] * 6).high) == (1.0, 1.0)


def test_a_rival_that_is_faster_is_told_by_how_much():
    """2 % on one shape, 4 % on the other, in noise of half a percent that rounds share."""
    costs = {"base": {"s": 1.0, "t": 1.0}, "new": {"s": 1 / 1.02, "t": 1 / 1.04}}
    gains = race(planted(lambda one, shape: costs[one][shape], 0.003), "base", ["new"], 13, always)
    gain = gains["new"]
    assert gain.real
    assert gain.ratio.low < 1.03 < gain.ratio.high
    assert gain.worst == ("s", pytest.approx(1.02, abs=0.01))
    assert gain.floor == pytest.approx(1, abs=0.01)


def test_what_is_the_same_is_not_kept():
    """Of a hundred rivals that differ by luck alone, and by less than LEAST."""
    kept = 0
    for seed in range(100):
        gains = race(planted(lambda *_: 1.0, 0.01, seed=seed), "base", ["new"], 9, always)
        kept += any(gain.real for gain in gains.values())
    assert kept <= 3
    tiny = planted(lambda one, shape: {"base": 1, "new": 1 - LEAST / 2}[one])
    assert not race(tiny, "base", ["new"], 9, always)["new"].real


def test_a_gain_that_a_shape_pays_for_is_not_kept():
    """10 % on one for 5 % on another."""
    cost = {"base": {"s": 1, "t": 1}, "new": {"s": 0.9, "t": 1.05}}
    gain = race(planted(lambda one, shape: cost[one][shape]), "base", ["new"], 9, always)["new"]
    assert gain.ratio.low > 1.02
    assert not gain.real


def test_a_difference_as_large_as_that_of_a_setting_from_itself_is_none():
    """The second of two that are the same is always slower here: so is a rival's gain not its own."""

    def sample(settings):
        return [{"s": 1.0 if at == 0 else 0.97} for at, _ in enumerate(settings)]

    gain = race(sample, "base", ["new"], 9, always)["new"]
    assert gain.ratio.low > 1.02
    assert not gain.real


def test_losers_leave_the_race_early_and_what_changes_nothing_at_once():
    """Their time is for others."""
    rounds = {"worse": 0, "same": 0, "better": 0, "base": 0}

    def sample(settings):
        for one in settings:
            rounds[one] += 1
        cost = {"worse": 1.1, "better": 0.9, "base": 1.0}
        return [{"s": cost[one]} if one in cost else {} for one in settings]

    gains = race(sample, "base", ["worse", "same", "better"], 9, always)
    assert set(gains) == {"better"}
    assert rounds == {"worse": 4, "same": 1, "better": 9, "base": 18}


# --- the descent


def valley(where, shape):
    """Seconds that rise with the distance from (8, 3), 5 % a step."""
    x, y = where
    return 1.05 ** (abs(x - 8) + abs(y - 3))


MOVES = [
    lambda at: [(at[0] - 1, at[1]), (at[0] + 1, at[1])],
    lambda at: [(at[0], at[1] - 1), (at[0], at[1] + 1)],
]


def test_the_descent_ends_at_the_bottom():
    """In noise of a percent, and tries nothing twice."""
    rounds = Counter()
    sample = planted(valley, 0.005)

    def spied(settings):
        rounds.update(settings[2:])
        return sample(settings)

    assert descend(spied, (5, 5), MOVES, always) == ((8, 3), True)
    assert len(rounds) >= 10
    assert max(rounds.values()) == ROUNDS


def test_what_is_known_is_tried_first_even_without_time():
    """An earlier tuning's result is not thrown away because the budget is small."""
    assert descend(planted(valley), (0, 0), MOVES, lambda: False, [(8, 3)]) == ((8, 3), False)
    assert descend(planted(valley), (0, 0), MOVES, lambda: False) == ((0, 0), False)


# --- candidates: numba-micro itself


def test_candidates_are_timed_where_they_differ_and_nowhere_else():
    """What a block larger than the product would do is what the product does anyway."""
    model = blocking.model(tile("float32"))
    shallow = model._replace(depth=16)
    wider = model._replace(near=2 * model.near, columns=2 * model.columns, in_place=2 * model.in_place)
    kept = gemm.get_threads()
    try:
        timed = Candidates([Problem(40, 40, 80), Problem(40, 40, 8)], 1)
        base, twin, first, second = timed.sample([model, model, shallow, wider])
    finally:
        gemm.set_threads(kept)
    assert set(first) == {"40x40x80 float32"} == set(base) == set(twin), (base, first)
    assert second == {}
    assert all(seconds > 0 for seconds in (*base.values(), *twin.values(), *first.values()))


@pytest.mark.parametrize("when", ["from the start", "later"])
def test_a_candidate_that_computes_something_wrong_gets_no_time(monkeypatch, when):
    """Before it is timed, and in the sample itself."""
    calls = 0
    right = gemm.prepare

    def prepare(a, b, c, **settings):
        call = right(a, b, c, **settings)

        def wrong():
            nonlocal calls
            calls += 1
            call()
            if when == "from the start" or calls > 40:
                c[3, 4] += 1

        return wrong

    monkeypatch.setattr(candidates.gemm, "prepare", prepare)
    monkeypatch.setattr(candidates, "SAMPLE_S", 1e-6)
    model = blocking.model(tile("float64"))
    kept = gemm.get_threads()
    try:
        timed = Candidates([Problem(20, 20, 20, "float64")], 1)
        rivals = [model._replace(depth=8)]
        with pytest.raises(Wrong, match="error ratio" if when == "from the start" else "another C"):
            race(timed.sample, model, rivals, 50, always)
    finally:
        gemm.set_threads(kept)


def test_a_fingerprint_sees_one_bit():
    """Also of an element that is a transposed view's."""
    c = np.random.default_rng(0).standard_normal((5, 7)).T
    before = candidates.fingerprint(c)
    c[3, 2] = np.nextafter(c[3, 2], 9)
    assert candidates.fingerprint(c) != before


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", blocking.Blocks._fields)
def test_neighbours_are_block_sizes_next_to_the_models(dtype, name):
    """Larger and smaller ones, none refused, whole tiles."""
    model, shape = blocking.model(tile(dtype)), tile(dtype)
    found = neighbours(dtype, name, model)
    assert any(getattr(one, name) < getattr(model, name) for one in found)
    assert any(getattr(one, name) > getattr(model, name) for one in found)
    for one in found:
        assert blocking.refused(one._asdict(), dtype) is None
        assert (one.columns % shape.columns, one.depth % 8) == (0, 0)
    smallest = blocking.Blocks(1, shape.columns, 8, 1, 1, 1)
    assert smallest not in neighbours(dtype, name, smallest)


def test_a_deeper_block_of_b_may_be_a_narrower_one():
    """Of as many elements; and it may be as wide as it was."""
    model = blocking.model(tile("float32"))
    half = [one for one in neighbours("float32", "depth", model) if one.depth == model.depth // 2]
    assert [one.columns for one in half] == [model.columns, 2 * model.columns]
    assert {one._replace(depth=model.depth, columns=model.columns) for one in half} == {model}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stage", tuner.STAGES, ids=("blocks", "threads"))
def test_thresholds_are_searched_where_they_decide(dtype, stage):
    """With an L2 of 1 MiB there is a shape between each and any of its neighbours, so that all of these are timed."""
    start = blocking.Blocks(1 << 19, 32 * tile(dtype).columns, 512, 1 << 20, 56, 10**6)
    kept, before = gemm.get_threads(), blocking.used().get(dtype)
    try:
        gemm.set_threads(1 + stage.every_core)
        operands = [problem.operands() for problem in tuner._problems(stage.shapes, dtype)]

        def jobs(blocks):
            blocking.use(dtype, blocks)
            return [gemm.prepare(*arrays, kernel="numba-micro").words.tolist() for arrays in operands]

        expected = jobs(start)
        for name in {"in_place", "few_rows", "worth_a_thread"} & set(stage.fields):
            for one in neighbours(dtype, name, start):
                assert jobs(one) != expected, tuner.changes(start, one)
    finally:
        gemm.set_threads(kept)
        blocking.use(dtype, before or blocking.chosen(dtype))


# --- the whole


class Machine:
    """In place of `Candidates`: a machine whose best depth is planted, and a clock that its samples turn."""

    now = 0.0
    best_depth = 0
    made = 0
    waiting = 0  # of ten samples
    unlike = ""  # the shape on which the smaller depth is the better one

    def __init__(self, problems, threads):
        self.names = [str(problem) for problem in problems]
        Machine.made += 1
        self.taken = self.disturbed = 0
        self.rng = random.Random(Machine.made)

    def sample(self, settings):
        Machine.now += 0.1 * len(settings)
        self.taken += 10
        self.disturbed += Machine.waiting
        times = []
        for one in settings:
            off = abs(math.log2(one.depth / Machine.best_depth)) if Machine.best_depth else 0.0
            power = {name: -off if name == Machine.unlike else off for name in self.names}
            times.append(
                {name: 1.05**off * math.exp(self.rng.gauss(0, 0.004)) for name, off in power.items()}
            )
        return times


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A planted machine, and a tuning file of this test's own."""
    monkeypatch.setattr(tuner, "Candidates", Machine)
    monkeypatch.setenv(tuning.FILE.variable, str(tmp_path / "tuning.json"))
    tuning.tuned.cache_clear()
    Machine.now, Machine.made, Machine.unlike, Machine.waiting = 0.0, 0, "", 0
    Machine.best_depth = blocking.model(tile("float32")).depth
    before = blocking.used()
    yield tmp_path / "tuning.json"
    tuning.tuned.cache_clear()
    for dtype in DTYPES:
        blocking.use(dtype, before.get(dtype) or blocking.model(tile(dtype)))


def run(budget=120.0, dtypes=("float32",), **options):
    return tune(dtypes, budget, clock=lambda: Machine.now, **options)


def test_what_beats_the_model_is_written_and_read(machine):
    """With its gain, for this processor; records of it bear another name than the model's."""
    Machine.best_depth *= 2
    found = run()
    (blocks,) = found.better.values()
    assert blocks.depth == Machine.best_depth
    assert found.written == machine
    assert plan.tuning("numba-micro", "float32") == blocking.origin("float32") != "model"
    assert blocking.chosen("float32") == blocks
    gain = found.stages["float32"][0].gain
    assert gain.ratio.low < 1.05 < gain.ratio.high
    assert {str(Problem(2048, 2048, 2048)), str(Problem(192, 192, 192))} <= set(gain.shapes)
    assert outcome(found, None, False) == f"block sizes for float32 that beat the model's: {machine}"
    assert not list(machine.parent.glob("*.part"))
    again = run()
    assert again.written is None
    assert "the file has them already" in outcome(again, None, False)


def test_where_nothing_beats_the_model_nothing_is_written(machine):
    """And it says so."""
    found = run()
    assert found.better == {}
    assert found.written is None
    assert not machine.exists()
    assert outcome(found, None, False) == (
        "nothing beats the model's block sizes beyond noise; nothing was written"
    )
    assert "nothing better was found" in "\n".join(table(found))


def test_what_does_worse_on_shapes_that_the_search_has_not_seen_is_not_kept(machine):
    """It is told all the same."""
    Machine.best_depth, Machine.unlike = 2 * Machine.best_depth, str(Problem(2048, 2048, 2048))
    found = run()
    assert (found.better, found.written) == ({}, None)
    assert found.stages["float32"][0].gain.worst[0] == Machine.unlike
    assert "on 2048x2048x2048 float32: not kept" in "\n".join(table(found))


def test_what_a_busy_machine_says_is_not_kept(machine):
    """A second thread that has no core of its own is worth nothing, which says nothing of the kernel."""
    Machine.best_depth, Machine.waiting = 2 * Machine.best_depth, 3
    found = run()
    assert found.stages["float32"][0].gain.real
    assert (found.better, found.written) == ({}, None)
    assert "something else had the cores in 30% of the samples" in "\n".join(table(found))
    assert outcome(found, None, False).endswith("was busy with something else; nothing was written")
    Machine.waiting = 1
    assert run().better
    before = machine.read_text()
    Machine.waiting, Machine.best_depth = 3, Machine.best_depth // 2
    assert run().written is None
    assert machine.read_text() == before


def test_samples_that_wait_for_a_core_are_taken_again_and_counted(monkeypatch):
    """The least disturbed of three counts."""

    waits = [0.5, 0.2, 0.4]

    class Waiting:
        def __enter__(self):
            self.figures = {"waited_s": waits.pop(0)}
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(candidates, "Witness", Waiting)
    monkeypatch.setattr(candidates, "clock", lambda call, times: [call() for _ in range(times)] and 10**9)
    product = candidates.Product(Problem(8, 8, 8))
    monkeypatch.setattr(candidates, "loops_for", lambda spend, seconds: (1, 1.0))
    bound = product.bound(blocking.model(tile("float32")), 0)
    assert product.sample(bound) == (1.0, 0.2)
    assert waits == []


def test_an_earlier_tuning_is_tried_first_and_goes_when_it_is_no_better(machine):
    """Even with no time to search; entries of other machines and dtypes stay."""
    model = blocking.model(tile("float32"))
    other = {"cpu": {"model": "other"}, "blocks": {}}
    for best, stays in ((2 * model.depth, True), (model.depth, False)):
        sizes = model._replace(depth=2 * model.depth)._asdict()
        mine = {"cpu": tuning.cpu(), "blocks": {"float32": sizes, "float64": sizes}}
        machine.write_text(json.dumps({"gemmlab": "tuning", "schema": 1, "entries": [mine, other]}))
        Machine.best_depth = best
        found = run(budget=0.01)
        assert bool(found.better) == stays
        kept, entry = config_files.entries(tuning.FILE, machine, tuning.cpu())
        assert kept == [other]
        assert set(entry["blocks"]) == ({"float32", "float64"} if stays else {"float64"})
    assert "an earlier entry for them was removed" in outcome(found, None, False)


def test_the_budget_ends_the_search(machine):
    """About; and that it did is said."""
    Machine.best_depth *= 4
    found = run(budget=20, dtypes=DTYPES)
    assert Machine.now < 30
    assert not all(stage.finished for stages in found.stages.values() for stage in stages)
    assert "the budget ended the search" in "\n".join(table(found))


def test_a_dry_run_writes_nothing(machine):
    """Nor does it need a file that could be written."""
    Machine.best_depth *= 2
    found = run(dry_run=True)
    assert found.better
    assert not machine.exists()
    assert "nothing was written (--dry-run)" in outcome(found, None, True)


def test_forget_removes_this_processors_entry_alone(machine):
    """And the file with the last one."""
    Machine.best_depth *= 2
    assert not forget()
    run()
    assert forget()
    assert not machine.exists()
    other = {"cpu": {"model": "other"}, "blocks": {}}
    machine.write_text(json.dumps({"gemmlab": "tuning", "schema": 1, "entries": [other]}))
    run()
    assert forget()
    assert tuning.FILE.entries(machine) == [other]


def test_a_tuning_that_is_interrupted_keeps_nothing(machine, monkeypatch):
    """The file is as it was, threads are as they were."""
    threads = gemm.get_threads()

    def stop(self, settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(Machine, "sample", stop)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert list(machine.parent.iterdir()) == []
    assert gemm.get_threads() == threads


def test_a_file_that_is_something_else_is_not_written_over(machine):
    """Found out before anything is measured."""
    for text in ("{", '{"schema": 1}', '{"gemmlab": "tuning", "schema": 99, "entries": []}'):
        machine.write_text(text)
        with pytest.raises(ValueError, match="remove it or give another with --out"):
            run()
        with pytest.raises(ValueError, match="remove it or give another with --out"):
            forget()
    assert Machine.made == 0


def test_the_records_say_what_is_tuned(machine):
    """JSON has everything of the table; a mapping of kernels names all their tunings."""
    Machine.best_depth *= 2
    found = run()
    record = json.loads(json.dumps(found.record()))
    assert record["dtypes"]["float32"]["tuned"]["depth"] == Machine.best_depth
    assert Path(record["written"]) == machine
    assert record["dtypes"]["float32"]["stages"][0]["gain"]["ratio"]["n"] >= 6
    assert plan.tuning("blas", "float32") is None
    assert plan.tuning("blas,1=numba-micro", "float64") == "model"


def test_numba_micro_itself_is_tuned(monkeypatch, tmp_path):
    """Truly, with next to no time and small shapes: the result is a table of valid block sizes."""
    monkeypatch.setenv(tuning.FILE.variable, configuration.OFF)
    small = [
        tuner.Stage(stage.fields, stage.every_core, ((48, 48, 48, "nn"),), ((40, 24, 56, "tn"),), stage.share)
        for stage in tuner.STAGES
    ]
    monkeypatch.setattr(tuner, "STAGES", small)
    found = tune(["float64"], 1.0, tmp_path / "tuning.json")
    sizes = found.blocks["float64"]._asdict()
    assert blocking.refused(sizes, "float64") is None
    assert found.written in (None, tmp_path / "tuning.json")
    assert "float64" in table(found)[0]
