"""Names of lines lie neither on each other nor on a line."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reports import labels

PLACES = st.lists(st.floats(min_value=0, max_value=400), max_size=12)


@given(PLACES)
def test_spread_labels_keep_their_distance_and_their_order(wanted: list[float]) -> None:
    places = labels.spread(wanted, 16, 0, 400)
    assert all(b - a >= 16 - 1e-6 for a, b in zip(sorted(places), sorted(places)[1:]))
    assert np.array_equal(np.argsort(wanted, kind="stable"), np.argsort(places, kind="stable"))
    assert all(-1e-6 <= place <= 400 + 1e-6 for place in places)


def test_labels_that_have_room_stay_where_they_belong() -> None:
    assert labels.spread([10, 300, 100], 16, 0, 400) == [10, 300, 100]


def test_labels_that_collide_move_as_little_as_possible() -> None:
    assert labels.spread([100, 100, 300], 16, 0, 400) == [92, 108, 300]


def test_a_label_goes_where_no_line_is() -> None:
    """The line runs on to the right of the point: the label must leave it."""
    line = np.array([(float(x), 50.0) for x in range(0, 300, 3)])
    left, top, right, bottom = labels.place((100, 50), (60, 14), line, [], (0, 0, 300, 100))
    assert bottom < 50 or top > 50
    assert labels.place((100, 50), (60, 14), line, [(left, top, right, bottom)], (0, 0, 300, 100))[1] != top


def test_a_label_stays_inside_the_figure() -> None:
    box = labels.place((295, 50), (60, 14), np.empty((0, 2)), [], (0, 0, 300, 100))
    assert box[2] <= 300
