# SPDX-License-Identifier: Apache-2.0

"""A rhythm is found in steps that take about as long, and in nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numad_py.rhythm import REPORTS, Ended, Rhythm, found

seeds = st.integers(0, 2**32 - 1)
periods = st.floats(0.01, 100.0)


def ends(took_s, slack_s=0.02):
    """Give the ends of steps of these times, the first of them at 100 s."""
    return tuple(Ended(time_s, step, slack_s) for step, time_s in enumerate(100 + np.cumsum(took_s)))


def steady(count=REPORTS):
    return ends(np.full(count, 0.25))


def test_steady_steps_have_the_rhythm_of_their_time_and_their_last_end():
    rhythm = found(steady())

    assert rhythm == Rhythm(pytest.approx(0.25), 0.02, pytest.approx(100 + 0.25 * REPORTS))


def test_a_few_ends_are_no_rhythm_yet():
    assert found(()) is None
    assert found(steady(REPORTS - 1)) is None


def test_a_step_that_took_long_and_words_that_were_lost_change_nothing():
    took_s = np.full(REPORTS + 3, 0.25)
    took_s[5] = 9.0
    told = [end for end in ends(took_s) if end.steps not in (4, 9, 10)]

    rhythm = found(tuple(told))

    assert rhythm.period_s == pytest.approx(0.25)


def test_a_process_that_begins_anew_has_no_rhythm_until_it_has_told_enough():
    again = [end._replace(time_s=end.time_s + 60) for end in steady()]

    found_s = [found((*steady(), *again[:count])) for count in range(1, REPORTS + 1)]

    assert found_s[:-1] == [None] * (REPORTS - 1)
    assert found_s[-1].period_s == pytest.approx(0.25)


def test_slack_is_what_three_of_four_steps_have():
    slacks_s = [0.0, 0.01, 0.01, 0.01, *[0.04] * (REPORTS - 4)]
    told = [end._replace(slack_s=slack_s) for end, slack_s in zip(steady(), slacks_s, strict=True)]

    assert found(tuple(told)).slack_s == 0.04


@given(seeds, periods)
def test_ten_per_cent_of_jitter_hide_no_rhythm(seed, period_s):
    took_s = period_s * np.maximum(1 + 0.1 * np.random.default_rng(seed).normal(size=REPORTS), 0.01)

    rhythm = found(ends(took_s))

    assert rhythm.period_s == pytest.approx(period_s, rel=0.15)


@settings(max_examples=20)
@given(seeds, periods)
def test_ends_that_come_by_chance_seldom_look_like_a_rhythm(seed, mean_s):
    told = ends(np.random.default_rng(seed).exponential(mean_s, 3000))

    rhythms = [found(told[first : first + REPORTS]) for first in range(0, len(told), REPORTS)]

    assert sum(rhythm is not None for rhythm in rhythms) <= 0.05 * len(rhythms)


@pytest.mark.parametrize(
    ("now_s", "call_s", "has"),
    [(10.0, 0.01, True), (10.02, 0.02, True), (10.03, 0.02, False), (9.9, 0.05, True), (11.0, 0.0, False)],
)
def test_slack_is_enough_for_a_call_that_ends_before_the_next_step_begins(now_s, call_s, has):
    rhythm = Rhythm(0.25, 0.04, 10.0)

    assert rhythm.has_slack(now_s, call_s) is has


def test_the_next_step_ends_a_period_after_the_last():
    assert Rhythm(0.25, 0.04, 10.0).next_s == 10.25


@pytest.mark.parametrize(("period_s", "over_s"), [(0.01, 1.0), (1.0, 4.0)])
def test_a_process_that_told_nothing_for_some_steps_is_at_something_else(period_s, over_s):
    rhythm = Rhythm(period_s, 0.0, 10.0)

    assert not rhythm.is_over(9.9 + over_s)
    assert rhythm.is_over(10.1 + over_s)
