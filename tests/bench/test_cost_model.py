"""The cost model: prices that were planted are found again, and what was never seen is predicted from them."""

import math
import random

import pytest

from bench.verdicts.cost_model import (
    LEVELS,
    ROW,
    STEP,
    CostModel,
    Errors,
    Measured,
    Task,
    cross_validated,
    fit,
    sizes,
    terms,
)

CACHES = {"L1d": 32 << 10, "L2": 1 << 20, "L3": 32 << 20}
PRICES = {
    "nn.call": 3e-7, "nn.flop": 1.0e-11, "nn.a": 3e-11, "nn.c": 4e-11, "nn.b": 1e-11,
    "tn.call": 2e-7, "tn.flop": 0.9e-11, "tn.a": 5e-11, "tn.c": 1e-11, "tn.b": 2e-11,
    "relu.element": 2e-11, "db.call": 1.5e-7, "db.byte": 7e-11, "other.beyond L2": 2e-11,
    "product.beyond L2": 1e-11, STEP: 3e-6, ROW: 2e-7,
}  # fmt: skip


def network(draw, factor=lambda task: 1.0, noise=0.0):
    """The rows and the step of a made-up network, as PRICES have it: Measured, and the step's seconds."""
    planted = CostModel(PRICES, {}, {level: CACHES[level] for level in LEVELS})
    batch, around = round(2 ** draw.uniform(3, 9)), round(2 ** draw.uniform(16, 24))
    tasks = []
    for _ in range(draw.randint(2, 5)):
        d_in, d_out = (round(2 ** draw.uniform(4, 10)) for _ in range(2))
        size = 4 * (batch * d_in + d_in * d_out + batch * d_out)
        relu = ("relu",) if draw.random() < 0.7 else ()
        tasks.append(Task("nn", batch, d_out, d_in, 1, relu, size, around))
        tasks.append(Task("tn", d_in, d_out, batch, 1, (), size, around))
        tasks.append(Task("db", bytes=4 * (batch + 1) * d_out, around=around))
    name = f"network {draw.random()}"
    exact = [planted.seconds(task) * factor(task) for task in tasks]
    seconds = [one * math.exp(draw.gauss(0, noise)) for one in exact]
    rows = [Measured((task,), one + PRICES[ROW], (ROW,), name) for task, one in zip(tasks, seconds)]
    step = (sum(seconds) if noise else sum(exact)) + PRICES[STEP]
    return [*rows, Measured(tuple(tasks), step, (STEP,), name, 2.0)]


def networks(count, seed, **how):
    draw = random.Random(seed)
    return [network(draw, **how) for _ in range(count)]


def flat(several):
    return [one for members in several for one in members]


def test_planted_prices_are_found_again():
    """From exact times, to rounding: every price that a task has."""
    model = fit(flat(networks(40, 0)), CACHES)
    for name, price in PRICES.items():
        assert model.prices[name] == pytest.approx(price, rel=0.02), name


def test_steps_that_were_not_seen_are_predicted():
    """Exactly from exact times, and within noise from noisy ones."""
    exact, noisy = fit(flat(networks(40, 0)), CACHES), fit(flat(networks(40, 1, noise=0.1)), CACHES)
    for *_, step in networks(20, 2):
        assert exact.step(step.tasks) == pytest.approx(step.seconds, rel=1e-3)
        assert noisy.step(step.tasks) == pytest.approx(step.seconds, rel=0.1)


def test_a_few_samples_that_were_disturbed_do_not_move_the_rest():
    """One in twenty takes three times as long."""
    draw, disturbed = random.Random(5), []
    for one in flat(networks(60, 0)):
        slow = 3.0 if draw.random() < 0.05 else 1.0
        disturbed.append(Measured(one.tasks, slow * one.seconds, one.extra, one.source, one.weight))
    model = fit(disturbed, CACHES)
    ratios = [model.step(step.tasks) / step.seconds for *_, step in networks(20, 2)]
    assert all(0.9 < ratio < 1.1 for ratio in ratios), ratios


def slow_when_flat(task):
    """A kernel that does products of few rows at half its speed: no sum of terms says so."""
    return 2.0 if task.is_product and task.m < 64 else 1.0


def test_what_a_sum_cannot_say_is_interpolated_over_shapes():
    """Products of a shape where the kernel is slow come out slow, and others do not."""
    seen = flat(networks(40, 0, factor=slow_when_flat))
    model = fit(seen, CACHES)
    flat_ones = Task("nn", 16, 200, 200, bytes=300_000, around=1 << 20)
    plain = Task("nn", 300, 200, 200, bytes=640_000, around=1 << 20)
    truth = CostModel(PRICES, {}, {level: CACHES[level] for level in LEVELS})
    assert model.seconds(flat_ones) == pytest.approx(2 * truth.seconds(flat_ones), rel=0.15)
    assert model.seconds(plain) == pytest.approx(truth.seconds(plain), rel=0.15)


def slow_in_large_steps(task):
    """A machine that takes 1.5 times as long for everything once a step works on more than 2 MB."""
    return 1.5 if task.around > 2 << 20 else 1.0


def test_what_a_step_works_on_is_interpolated_over_too():
    """The same product costs more in a step that outgrows a cache, though no sum of terms has it so."""
    model = fit(flat(networks(60, 0, factor=slow_in_large_steps)), CACHES)
    truth = CostModel(PRICES, {}, {level: CACHES[level] for level in LEVELS})
    for around, factor in ((1 << 19, 1.0), (6 << 20, 1.5)):
        task = Task("nn", 64, 100, 100, bytes=90_000, around=around)
        assert model.seconds(task) == pytest.approx(factor * truth.seconds(task), rel=0.15)


def test_far_from_what_was_measured_the_sum_stands_alone():
    """The interpolation says nothing of a shape a thousand times as large."""
    model = fit(flat(networks(40, 1, noise=0.2)), CACHES)
    assert model.shapes["nn"].factor(Task("nn", 1 << 40, 1 << 40, 1 << 40)) == pytest.approx(1.0)


def test_the_error_is_that_of_networks_left_out():
    """With noise it is larger than without, and it covers what comes of new ones."""
    exact, noisy = (
        cross_validated(flat(networks(20, 1, noise=noise, factor=slow_when_flat)), CACHES)
        for noise in (0.0, 0.2)
    )
    assert (exact.of, len(exact.ratios), len(noisy.ratios)) == ("networks", 20, 20)
    assert exact.within(0.5) < noisy.within(0.5) < noisy.within(0.9) < 0.5


def test_errors_are_quantiles():
    """Of the factor by which predictions are off, up or down alike."""
    errors = Errors((1.0, 1.1, 1 / 1.2, 1.05, 1.3), "networks")
    assert errors.within(0.2) == pytest.approx(0.0)
    assert errors.within(0.8) == pytest.approx(0.2)
    assert errors.within(1.0) == pytest.approx(0.3)
    assert math.isnan(Errors((), "networks").within(0.5))


def test_products_alone_are_validated_one_by_one():
    """Where no step was measured, the error is that of products."""
    alone = [one for one in flat(networks(30, 0)) if STEP not in one.extra and one.tasks[0].is_product]
    products = [Measured(one.tasks, one.seconds, (), str(at)) for at, one in enumerate(alone)]
    errors = cross_validated(products, CACHES)
    assert (errors.of, len(errors.ratios)) == ("products", len(products))


def test_bytes_count_as_far_once_a_step_outgrows_the_cache():
    """Of a step of half the L2 none, of one twice as large half of them."""
    near, far = (Task("db", bytes=1000, around=around) for around in (1 << 19, 1 << 21))
    assert terms(near, CACHES)["other.beyond L2"] == 0
    assert terms(far, CACHES)["other.beyond L2"] == 500


def test_how_much_of_the_last_cache_is_at_hand_is_fitted():
    """Others leave a quarter of it: bytes that pass by beyond that cost more; with none beyond, it is all there."""
    own, price = CACHES | {"L3": CACHES["L3"] // 4}, {"other.beyond L3": 2e-10, "product.beyond L3": 1e-10}
    truth = CostModel(PRICES | price, {}, {level: own[level] for level in LEVELS})
    several = []
    for rows in networks(60, 3):
        tasks = [one.tasks[0] for one in rows[:-1]]
        seconds = [truth.seconds(task) for task in tasks]
        several += [
            Measured((task,), one + PRICES[ROW], (ROW,), rows[0].source) for task, one in zip(tasks, seconds)
        ]
    model = fit(several, CACHES)
    assert model.caches["L3"] == own["L3"]
    assert model.prices["other.beyond L3"] == pytest.approx(2e-10, rel=0.05)
    assert fit(flat(networks(40, 0)), CACHES).caches["L3"] == CACHES["L3"]


def test_beyond_what_was_measured_the_interpolation_goes_no_further():
    """Slower and slower with the bytes, up to twice: a hundred times as many are at most that."""
    rows = [
        Measured(
            (Task("db", bytes=1 << at, around=1 << 20),),
            (1 + (at - 10) / 10) * 7e-11 * (1 << at),
            (),
            str(at),
        )
        for at in range(10, 21)
    ]
    model = fit(rows, CACHES)
    low, high = model.shapes["db"].low, model.shapes["db"].high
    for at in (1, 8, 12, 18, 24, 30):
        assert (
            math.exp(low)
            <= model.shapes["db"].factor(Task("db", bytes=1 << at, around=1 << 20))
            <= math.exp(high) * 1.0001
        )


def test_times_count_calls_and_flops():
    """A row that stands for three equal products costs three."""
    one, three = (terms(Task("nn", 8, 8, 8, times), CACHES) for times in (1, 3))
    assert {name: 3 * amount for name, amount in one.items()} == three


def test_what_was_never_measured_moves_its_bytes():
    """At the mean bandwidth of what is no product; and the model says that it does not know it."""
    model = fit(flat(networks(20, 0)), CACHES)
    unknown = Task("im2col", bytes=1 << 20)
    assert not model.knows(unknown)
    assert model.seconds(unknown) == pytest.approx((1 << 20) / model.bandwidth)
    assert model.knows(Task("nn", 8, 8, 8, 1, ("relu",)))
    assert not model.knows(Task("nn", 8, 8, 8, 1, ("tanh",)))


def test_an_order_that_was_never_measured_costs_what_another_does():
    """Not nothing."""
    model = fit(flat(networks(20, 0)), CACHES)
    turned = Task("nt", 64, 64, 64, bytes=49152)
    assert not model.knows(turned)
    assert model.seconds(turned) == model.seconds(Task("nn", 64, 64, 64, bytes=49152))


def test_sizes_are_octaves():
    """m, n, k of a product, of another its bytes; and what passes by, within what caches tell apart."""
    assert sizes(Task("nn", 8, 16, 32, around=1 << 20)) == [3, 4, 5, 20]
    assert sizes(Task("db", bytes=1024, around=1 << 60)) == [10, 26]
    assert sizes(Task("db", bytes=1024)) == [10, 17]


def test_nothing_cannot_be_fitted():
    """Said in a sentence."""
    with pytest.raises(ValueError, match="nothing to fit"):
        fit([], CACHES)
