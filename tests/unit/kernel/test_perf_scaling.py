# SPDX-License-Identifier: Apache-2.0

"""Counts of events that took turns come out as if each had been counted all the time."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from numad_py.kernel.perf_scaling import scaled

times = st.integers(0, 10**10)


def rows(*given):
    return np.array([(2, *row) for row in given], np.int64)


def test_what_was_counted_all_the_time_stands():
    assert scaled(rows((100, 100, 7, 70), (50, 50, 3, 30))).tolist() == [10, 100]


def test_what_was_counted_a_quarter_of_the_time_counts_four_times():
    assert scaled(rows((100, 25, 7, 70))).tolist() == [28, 280]


def test_each_cpu_is_scaled_by_its_own_share():
    assert scaled(rows((100, 50, 10, 0), (100, 100, 10, 0))).tolist() == [30, 0]


def test_a_cpu_that_never_got_a_counter_is_taken_to_be_like_the_others():
    assert scaled(rows((100, 100, 10, 1), (100, 0, 0, 0))).tolist() == [20, 2]


def test_what_ran_and_was_never_counted_is_unknown():
    assert scaled(rows((100, 0, 0, 0), (0, 0, 0, 0))) is None


def test_what_never_ran_did_nothing():
    assert scaled(rows((0, 0, 0, 0))).tolist() == [0, 0]


def test_nobody_did_nothing():
    assert scaled(np.zeros((0, 5), np.int64)).tolist() == [0, 0]


@given(st.lists(st.tuples(times, times, st.integers(0, 10**12)), max_size=5))
def test_scaling_never_takes_away(drawn):
    change = np.array([(1, max(a, b), min(a, b), value) for a, b, value in drawn], np.int64).reshape(-1, 4)

    total = scaled(change)

    if total is not None:
        counted = change[:, 2] > 0
        assert total[0] >= change[counted, 3].sum() * (1 - 1e-9)
