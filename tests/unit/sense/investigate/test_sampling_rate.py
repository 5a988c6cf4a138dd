# SPDX-License-Identifier: Apache-2.0

"""The rate follows what the job does, within what was agreed; it gives up where records go on being lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.sense.investigate.sampling_rate import GRANTED, LEAST_WINDOW_S, Rate, Window, pause_s, window_s

RATE = Rate(period=64, least=1, most=4096)


def window(samples=50, *, lost=False, seen_share=1.0):
    return Window(samples, lost, LEAST_WINDOW_S, seen_share)


def after(*windows, rate=RATE):
    for one in windows:
        rate = rate.after(one)
    return rate


@pytest.mark.parametrize(
    ("seen", "period"),
    [
        (window(50), 64),
        (window(64), 64),
        (window(65), 128),
        (window(GRANTED), 128),
        (window(GRANTED + 3, seen_share=0.5), 512),
        (window(GRANTED, seen_share=0.01), 2048),
        (window(GRANTED, seen_share=0.0), 2048),
        (window(10), 16),
        (window(0), 1),
        (window(5, lost=True), 1024),
    ],
)
def test_the_period_would_have_used_half_of_what_was_granted(seen, period):
    assert after(seen).period == period


def test_three_windows_that_ran_out_are_enough_for_any_process():
    assert after(*[window(GRANTED, seen_share=0.01)] * 3, rate=Rate(1, 1, 4096)).period == 4096


def test_a_burst_is_remembered_for_some_windows_and_forgotten_in_two_seconds():
    burst = after(window(GRANTED, seen_share=0.1))

    assert after(*[window(0)] * 3, rate=burst).period == burst.period // 2
    assert after(*[window(0)] * 40, rate=burst).period == 1


@given(st.lists(st.builds(window, st.integers(0, 200), lost=st.booleans(), seen_share=st.floats(0, 1))))
def test_the_period_stays_within_its_bounds(windows):
    rate = RATE

    for one in windows:
        rate = after(one, rate=rate)
        assert rate.least <= rate.period <= rate.most


def test_records_lost_again_and_again_end_it():
    assert not after(*[window(lost=True)] * 4).hopeless
    assert after(*[window(lost=True)] * 5).hopeless


def test_records_lost_now_and_then_do_not():
    assert not after(*[window(lost=True), window()] * 20).hopeless


@given(rate_per_s=st.floats(0, 1e7))
def test_any_steady_rate_of_events_ends_in_windows_that_are_not_used_up(rate_per_s):
    rate = Rate(1, 1, 1 << 20)

    used = []
    for _ in range(60):
        wanted = int(rate_per_s * LEAST_WINDOW_S / rate.period)
        used.append(window(min(wanted, GRANTED), seen_share=min(GRANTED / max(wanted, 1), 1.0)))
        rate = after(used[-1], rate=rate)

    assert not any(one.samples >= GRANTED for one in used[30:])
    assert rate_per_s * LEAST_WINDOW_S < 200 or sum(one.samples for one in used[30:]) >= 30 * 30


@given(cost_s=st.floats(0, 10), passed_s=st.floats(0, 1000), job_share=st.floats(0.001, 0.5))
def test_after_the_pause_the_job_has_lost_no_more_than_its_share(cost_s, passed_s, job_share):
    paused_s = pause_s(cost_s, passed_s, job_share=job_share)

    assert paused_s >= 0
    assert cost_s <= job_share * (passed_s + paused_s) * (1 + 1e-9)


def test_a_job_that_lost_little_needs_no_pause():
    assert pause_s(0.001, 1.0, job_share=0.01) == 0


@given(spent_s=st.floats(0, 10), budget_share=st.floats(0.001, 1))
def test_reading_a_window_takes_no_more_than_the_budget(spent_s, budget_share):
    length_s = window_s(spent_s, budget_share=budget_share)

    assert length_s >= LEAST_WINDOW_S
    assert spent_s <= budget_share * length_s * (1 + 1e-9)
