# SPDX-License-Identifier: Apache-2.0

"""The batch of each page size finds its way to what fits one short call."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.act.batch_size import FIRST_PAGES, TARGET_S, BatchSize

BASE, HUGE = 4096, 2 << 20


def learned(calls, page_bytes=BASE):
    """Give the batch sizes after calls of so many seconds, each of a full batch."""
    batch = BatchSize(BASE)
    sizes = []
    for cpu_s in calls:
        batch.learn(page_bytes, batch.pages(page_bytes), cpu_s)
        sizes.append(batch.pages(page_bytes))
    return sizes


def test_a_batch_begins_at_64_base_pages_or_one_of_any_other():
    batch = BatchSize(BASE)

    assert (batch.pages(BASE), batch.pages(HUGE), batch.pages(1 << 30)) == (64, 1, 1)


def test_it_grows_by_half_while_calls_are_quick():
    assert learned([0.0001, 0.0001]) == [97, 146]
    assert learned([0.0001] * 3, HUGE) == [2, 4, 7]


def test_it_shrinks_at_once_when_a_call_was_long_and_never_below_the_first():
    assert learned([0.0001] * 6 + [0.04, 10.0])[5:] == [746, 149, 64]
    assert learned([10.0, 10.0], HUGE) == [1, 1]


def test_a_slow_call_is_remembered_beyond_the_quick_ones_that_follow():
    sizes = learned([0.0001] * 6 + [1.0] + [0.0001] * 100)

    assert sizes[6:30] == [64] * 24
    assert sizes[-1] > 746


def test_page_sizes_are_learnt_apart():
    batch = BatchSize(BASE)

    batch.learn(HUGE, 1, 0.0001)

    assert (batch.pages(BASE), batch.pages(HUGE)) == (64, 2)


def test_the_short_rest_of_a_range_teaches_nothing():
    batch = BatchSize(BASE)

    batch.learn(BASE, 31, 10.0)

    assert batch.pages(BASE) == 64
    assert batch.page_s(BASE) == BatchSize(BASE).page_s(BASE)


def test_what_a_page_takes_is_guessed_at_first_by_its_size_and_then_known():
    batch = BatchSize(BASE)
    guess = batch.page_s(BASE)

    batch.learn(BASE, 64, 64 * 3e-6)

    assert batch.page_s(HUGE) == pytest.approx(512 * guess)
    assert batch.page_s(BASE) == pytest.approx(3e-6)


@given(st.floats(1e-7, 1e-3))
def test_it_settles_where_a_call_takes_the_time_aimed_at(page_s):
    batch = BatchSize(BASE)

    for _ in range(40):
        pages = batch.pages(BASE)
        batch.learn(BASE, pages, pages * page_s)

    assert batch.pages(BASE) == pytest.approx(max(TARGET_S / page_s, FIRST_PAGES), abs=1)


@given(st.lists(st.floats(0, 100), max_size=50), st.sampled_from([BASE, HUGE]))
def test_no_call_however_quick_or_long_brings_it_out_of_bounds(calls, page_bytes):
    least = 64 if page_bytes == BASE else 1
    sizes = [least, *learned(calls, page_bytes)]

    for before, after in pairwise(sizes):
        assert least <= after <= before * 1.5 + 2
