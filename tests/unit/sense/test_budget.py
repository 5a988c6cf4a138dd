# SPDX-License-Identifier: Apache-2.0

"""Looking costs no more than its share, however much there is to look at."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.sense.budget import FULL_S, LONGEST_LOOK_S, START_S, Budget, Recurring


@given(
    st.lists(st.tuples(st.floats(0.1, 30), st.floats(0, 0.5)), min_size=1, max_size=200),
    st.floats(0.001, 1),
)
def test_no_more_is_spent_than_flowed_in_but_for_what_the_account_held_and_the_last_look(looks, core_share):
    budget = Budget(core_share)
    now_s = spent_s = 0.0
    for step_s, wish_s in looks:
        now_s += step_s
        budget.fill(now_s)
        left_s = budget.left_s(0.0)
        assert left_s > 0
        cost_s = wish_s if wish_s <= left_s else 0.0
        budget.pay(now_s, cost_s)
        spent_s += cost_s

    assert spent_s <= core_share * (now_s + START_S) + 1e-9


def test_after_a_start_no_more_is_saved_than_for_a_minute():
    budget = Budget(0.001)
    budget.fill(0.0)
    budget.pay(0.0, 0.001 * START_S)

    budget.fill(10 * START_S)

    assert budget.left_s(0.0) == pytest.approx(0.001 * FULL_S)


def test_one_look_takes_no_more_than_the_loop_can_wait():
    budget = Budget(1.0)
    budget.fill(0.0)

    assert budget.left_s(0.03) == pytest.approx(LONGEST_LOOK_S - 0.03)


def test_what_was_spent_is_told_of_the_last_minute_alone():
    budget = Budget(0.01)
    for second in range(100):
        budget.fill(float(second))
        budget.pay(float(second), 1.0 if second < 30 else 0.02)

    assert budget.spent_share(99.0) == pytest.approx(0.02, rel=0.05)


def busy(cost_s):
    """Use that much CPU time."""
    until_s = time.process_time() + cost_s
    while time.process_time() < until_s:
        pass
    return cost_s


def test_what_is_dear_comes_less_often_so_that_it_costs_its_part():
    dear, cheap = Recurring(0.002), Recurring(0.002)
    turns = {dear: 0, cheap: 0}
    for second in range(100):
        for each, cost_s in ((dear, 0.02), (cheap, 0.0001)):
            turns[each] += each.act(float(second), lambda cost_s=cost_s: busy(cost_s)) is not None

    assert turns[dear] in {9, 10}  # it takes a little more than it is told to
    assert turns[cheap] == 100
