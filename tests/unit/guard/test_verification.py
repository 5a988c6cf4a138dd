# SPDX-License-Identifier: Apache-2.0

"""A job is found slower where it is, and hardly ever where it only varies as it always does."""

from dataclasses import replace

import numpy as np
import pytest

from numad_py.guard.verification import LOOKS_AFTER, LOOKS_BEFORE, Speedometer, compare
from numad_py.model import JobCounters, Verdict
from tests.builders import job

TRIALS = 200
UNDONE = 2  # looks while pages move
COUNTERS = JobCounters(1.0, {}, stall_share=0.4, verified=True)


def steady(random, looks):
    return 1 + random.normal(0, 0.02, looks)


def loud(random, looks):
    return 1 + random.normal(0, 0.3, looks)


def bursty(random, looks):
    return np.where(random.random(looks) < 0.15, random.uniform(0, 0.3, looks), 1) + random.normal(
        0, 0.02, looks
    )


def autocorrelated(random, looks):
    noise = random.normal(0, 0.05, looks)
    for look in range(1, looks):
        noise[look] += 0.9 * noise[look - 1]
    return 1 + noise


def trend(random, looks):
    return 1 - np.arange(looks) * random.uniform(0.001, 0.01) + random.normal(0, 0.02, looks)


def periodic(random, looks):
    turns = np.arange(looks) / random.integers(4, 40) + random.random()
    return 1 + random.uniform(0.1, 0.5) * np.sin(2 * np.pi * turns) + random.normal(0, 0.02, looks)


NOISES = [steady, loud, bursty, autocorrelated, trend, periodic]


def verdicts(noise, times=1.0, looks_before=LOOKS_BEFORE):
    """Judge as many trials, in each of which a job became that many times as fast."""
    random, found = np.random.default_rng(7), []
    for _ in range(TRIALS):
        speeds = noise(random, looks_before + UNDONE + LOOKS_AFTER)
        after = speeds[looks_before + UNDONE :] * times
        found.append(compare(speeds[:looks_before].tolist(), after.tolist())[0])
    return found


@pytest.mark.parametrize("looks_before", [LOOKS_BEFORE, 40])
@pytest.mark.parametrize("noise", NOISES)
def test_with_empty_moves_it_fires_in_at_most_a_twentieth_of_the_trials(noise, looks_before):
    found = verdicts(noise, looks_before=looks_before)

    assert found.count(Verdict.TAKEN_BACK) <= TRIALS / 20


@pytest.mark.parametrize(("noise", "least"), [(steady, 0.99), (trend, 0.95), (bursty, 0.7)])
def test_a_job_that_a_move_slowed_by_a_sixth_is_found(noise, least):
    found = verdicts(noise, times=5 / 6)

    assert found.count(Verdict.TAKEN_BACK) >= least * TRIALS
    assert Verdict.HELPED not in found


def test_a_job_that_a_move_made_faster_is_found():
    assert verdicts(steady, times=1.1).count(Verdict.HELPED) >= 0.95 * TRIALS


def test_what_is_less_than_the_least_share_is_no_difference():
    found = compare([1.0] * LOOKS_BEFORE, [0.98] * LOOKS_AFTER)

    assert found[0] is Verdict.NO_DIFFERENCE
    assert found[1]["speed_change_share"] == pytest.approx(-0.02)


@pytest.mark.parametrize(
    ("before", "after"), [(LOOKS_BEFORE - 1, LOOKS_AFTER), (LOOKS_BEFORE, LOOKS_AFTER - 1)]
)
def test_too_few_looks_verify_nothing(before, after):
    assert compare([1.0] * before, [0.1] * after)[0] is Verdict.UNVERIFIED


def test_progress_makes_a_speed_since_it_was_heard_of_last_however_late_it_is_told():
    meter, one = Speedometer(), job()
    told = [(10.0, 5.0, 0.0), (11.0, 5.0, 1.0), (12.0, 5.0, 2.0), (13.0, 14.0, 0.0), (14.0, 17.0, 0.5)]

    speeds = [
        meter.read(replace(one, progress=progress, progress_age_s=age_s), now_s)
        for now_s, progress, age_s in told
    ]

    assert speeds == [None, None, None, (3.0, 10.0), (6.0, 13.0)]
    assert meter.source == "progress"


def test_progress_that_begins_anew_makes_no_speed():
    meter = Speedometer()

    speeds = [
        meter.read(replace(job(), progress=progress), time_s)
        for time_s, progress in [(1.0, 50.0), (2.0, 1.0), (3.0, 3.0)]
    ]

    assert speeds == [None, None, (2.0, 2.0)]


def test_without_progress_verified_counters_tell_the_share_of_cycles_that_did_not_wait():
    meter, counted = Speedometer(), replace(job(), counters=COUNTERS)

    speeds = [meter.read(counted, 10.0), meter.read(job(), 11.0), meter.read(counted, 12.0)]

    assert speeds == [(pytest.approx(0.6), 9.0), None, (pytest.approx(0.6), 11.0)]
    assert meter.source == "counters"


def test_a_job_that_is_counted_now_and_then_has_counters_until_they_stay_away():
    meter = Speedometer()
    meter.read(replace(job(), counters=COUNTERS), 10.0)

    sources = []
    for time_s in (11.0, 69.0, 70.0):
        meter.read(job(), time_s)
        sources.append(meter.source)

    assert sources == ["counters", "counters", ""]


def test_a_job_that_waited_all_the_time_is_judged_too():
    verdict, figures = compare([0.0] * LOOKS_BEFORE, [0.5] * LOOKS_AFTER)

    assert verdict is Verdict.HELPED
    assert figures["own_variation_share"] == 0


@pytest.mark.parametrize("wrong", [{"verified": False}, {"stall_share": None}])
def test_other_counters_tell_nothing(wrong):
    meter = Speedometer()

    speed = meter.read(replace(job(), counters=replace(COUNTERS, **wrong)), 10.0)

    assert (speed, meter.source) == (None, "")
