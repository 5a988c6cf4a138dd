# SPDX-License-Identifier: Apache-2.0

"""Calls wait for the slack of a process that tells its steps; what does not fit there is spread thinly."""

import pytest

from numad_py.act.batch_size import TARGET_S
from numad_py.act.pace import LOOK_S, PATIENCE_PERIODS, SPREAD_SHARE, Pace
from numad_py.rhythm import Rhythm

CALL_S = TARGET_S
RHYTHM = Rhythm(period_s=0.25, slack_s=0.05, ended_s=100.0)


def pace(rhythm, since_s=100.0):
    return Pace(float("inf"), lambda: rhythm, since_s)


def played(slack_s, *, seconds, since_s=100.0):
    """Give when calls were made beside a process that makes steps, by somebody who asks as often as he may."""
    now_s, rhythm, made_s = 100.0, RHYTHM, []
    pace = Pace(float("inf"), lambda: rhythm, since_s)
    while now_s < 100 + seconds:
        ended_s = 100 + (now_s - 100) // RHYTHM.period_s * RHYTHM.period_s
        rhythm = Rhythm(RHYTHM.period_s, slack_s, ended_s)
        rest_s = pace.rest_s(now_s, CALL_S)
        if not rest_s:
            made_s.append(now_s)
        now_s += min(rest_s, LOOK_S) or CALL_S
    return made_s, pace


def test_without_a_rhythm_nothing_waits():
    pace = Pace(float("inf"))

    assert [pace.rest_s(100 + turn * 0.001, CALL_S) for turn in range(9)] == [0.0] * 9
    assert pace.told == ""


def test_a_process_that_makes_no_steps_any_more_is_not_waited_for():
    assert pace(RHYTHM).rest_s(103.0, CALL_S) == 0.0


@pytest.mark.parametrize(("now_s", "rest_s"), [(100.0, 0), (100.04, 0), (100.05, 0.2), (100.4, LOOK_S)])
def test_calls_are_made_in_slack_and_wait_for_the_next_elsewhere(now_s, rest_s):
    assert pace(RHYTHM).rest_s(now_s, CALL_S) == pytest.approx(rest_s)


def test_all_calls_fall_between_steps_while_slack_is_enough():
    made_s, pace = played(0.05, seconds=3.0)

    assert len(made_s) >= 3 * 12
    assert all((now_s - 100) % 0.25 + CALL_S <= 0.05 + 1e-6 for now_s in made_s)
    assert pace.told == f"{len(made_s)} of {len(made_s)} batches between steps"


@pytest.mark.parametrize("slack_s", [0.0, CALL_S / 2], ids=["none", "too short for a call"])
def test_without_slack_calls_take_a_tenth_of_the_time(slack_s):
    made_s, pace = played(slack_s, seconds=10.0)

    assert len(made_s) * CALL_S == pytest.approx(10 * SPREAD_SHARE, rel=0.1)
    assert pace.told == f"0 of {len(made_s)} batches between steps"


def test_what_has_not_fitted_into_the_slack_of_some_steps_is_spread_too():
    patient_s = PATIENCE_PERIODS * RHYTHM.period_s

    made_s, _ = played(0.05, seconds=2.0, since_s=100 - patient_s)

    in_steps = [now_s for now_s in made_s if (now_s - 100) % 0.25 >= 0.05]
    assert len(made_s) - len(in_steps) >= 2 * 12
    assert 0.5 < len(in_steps) * CALL_S / (2 * SPREAD_SHARE) <= 1.1


def test_who_waited_in_vain_says_so():
    waiting = pace(RHYTHM)

    waiting.rest_s(100.1, CALL_S)

    assert waiting.told == "no step ended in time"
