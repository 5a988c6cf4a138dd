# SPDX-License-Identifier: Apache-2.0

"""A run of any length is drawn in a bounded number of points."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.sim.timeline import Timeline, halved, sparkline


def drawn(shares, most_points=4):
    timeline = Timeline(most_points)
    for share in shares:
        timeline.add(share)
    return timeline.shares


def test_a_short_run_has_a_point_per_tick():
    assert drawn([0.0, 0.5, 1.0]) == (0.0, 0.5, 1.0)


def test_a_long_run_has_means_of_equally_many_ticks():
    assert drawn([0.0, 1.0, 0.0, 0.0, 1.0, 0.5]) == (0.5, 0.0, 0.75)


def test_ticks_without_a_share_do_not_count():
    assert drawn([None, 1.0, None, None, 0.5, 0.5]) == (1.0, None, 0.5)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=300), st.sampled_from([2, 4, 16]))
def test_the_points_are_bounded_and_none_is_lost(shares, most_points):
    points = drawn(shares, most_points)

    assert 1 <= len(points) <= most_points
    assert min(shares) - 1e-9 <= min(points) <= max(points) <= max(shares) + 1e-9


@pytest.mark.parametrize(("shares", "bars"), [((0.0, 0.5, 1.0), "▁▅█"), ((None, 0.999, 0.001), " █▁")])
def test_a_share_is_drawn_by_its_height(shares, bars):
    assert sparkline(shares) == bars


def test_half_as_many_points_are_means_of_what_is_known():
    assert halved((0.0, 1.0, None, 0.5, None, None, 1.0)) == (0.5, 0.5, None, 1.0)
