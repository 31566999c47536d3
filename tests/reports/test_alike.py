"""Sentences that differ in figures alone are told once."""

from __future__ import annotations

import pytest

from reports import alike


@pytest.mark.parametrize(
    ("sentences", "one"),
    [
        (["it waited 3.1 % of the time"], "it waited 3.1 % of the time"),
        (["it waited 8.2 % of it", "it waited 3.1 % of it", "it waited 4 % of it"], "it waited 3.1–8.2 % of it"),
        (["its 2 threads took 900 µs", "its 2 threads took 1.2 ms"], "its 2 threads took 900 µs–1.2 ms"),
        (["(1,240 bytes)", "(900 bytes)"], "(900–1,240 bytes)"),
        (["5.4 s a call, 2.7 min", "83 ms a call, 2.5 s"], "83 ms–5.4 s a call, 2.5 s–2.7 min"),
        (["nothing", "nothing"], "nothing"),
    ],
)  # fmt: skip
def test_each_figure_is_told_from_its_least_to_its_largest(sentences: list[str], one: str) -> None:
    assert len({alike.template(sentence) for sentence in sentences}) == 1
    assert alike.together(sentences) == one


def test_other_words_are_not_alike() -> None:
    assert alike.template("3 % of the cores") != alike.template("3 % of the time")
