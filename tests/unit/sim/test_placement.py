# SPDX-License-Identifier: Apache-2.0

"""Pages are split whole, sums are exact, and rows of two looks belong together where their addresses overlap."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.model import Mempolicy
from numad_py.ranges import overlaps
from numad_py.sim.placement import PARTS, apportion, growth_weights, inherit, kinship, spill
from tests.builders import HEAP, MIB, regions

PAGE = 4096
few = st.integers(0, 50)


def rows(*values):
    return np.array(values, np.int64)


def at(*bounds, pages):
    """Give one region per ``(first page, last page)`` counted from the heap, with these page counts by node."""
    start, end = (HEAP + np.array(bounds, np.uint64).reshape(-1, 2) * PAGE).T
    return replace(regions(*({0: 1} for _ in bounds)), start=start, end=end, pages=rows(*pages))


@given(st.lists(st.tuples(few, few, few, few), min_size=1, max_size=5))
def test_parts_sum_exactly_and_follow_their_weights(drawn):
    weights, totals = rows(*[row[:3] for row in drawn]), rows(*[row[3] for row in drawn])

    parts = apportion(weights, totals)

    whole = weights.sum(axis=1)
    assert parts.sum(axis=1).tolist() == np.where(whole > 0, totals, 0).tolist()
    exact = weights * totals[:, None] / np.maximum(whole, 1)[:, None]
    assert (np.abs(parts - exact) < 1).all()
    assert (parts[weights == 0] == 0).all()


@given(st.tuples(few, few, few), st.integers(0, 150))
def test_what_is_taken_of_a_row_was_there(weights, total):
    row = rows(weights)

    parts = apportion(row, np.minimum(rows(total), row.sum(axis=1)))

    assert (parts <= row).all()


def test_every_pair_of_overlapping_ranges_is_found_with_the_bytes_shared():
    a_start, a_end = np.array([[0, 10], [20, 30]], np.uint64).T
    b_start, b_end = np.array([[5, 8], [9, 22], [30, 40]], np.uint64).T

    a, b, shared = overlaps(a_start, a_end, b_start, b_end)

    assert list(zip(a, b, shared, strict=True)) == [(0, 0, 3), (0, 1, 1), (1, 1, 2)]


@pytest.mark.parametrize(
    ("old", "new", "inherited"),
    [
        (at((0, 10), pages=[(6, 4)]), at((0, 20), pages=[(10, 0)]), [[6, 4]]),  # the heap grew
        (at((10, 20), pages=[(6, 4)]), at((0, 20), pages=[(20, 0)]), [[6, 4]]),  # the stack grew
        (at((0, 10), (10, 20), pages=[(6, 4), (0, 2)]), at((0, 20), pages=[(12, 0)]), [[6, 6]]),  # merged
        (
            at((0, 20), pages=[(12, 0)]),
            at((0, 10), (10, 20), pages=[(9, 0), (0, 3)]),
            [[9, 0], [3, 0]],
        ),  # split
        (at((0, 20), pages=[(12, 8)]), at((0, 10), pages=[(10, 0)]), [[12, 8]]),  # half unmapped
        (at((0, 10), pages=[(6, 4)]), at((10, 20), pages=[(10, 0)]), [[0, 0]]),  # strangers
    ],
)
def test_pages_stay_with_the_addresses_they_had(old, new, inherited):
    assert inherit(old.pages, kinship(old, new)).tolist() == inherited


def test_a_row_of_another_page_size_inherits_nothing():
    old = at((0, 512), pages=[(512, 0)])
    new = replace(old, page_bytes=rows(2 * MIB), pages=rows((1, 0)))

    assert inherit(old.pages, kinship(old, new)).tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("mempolicy", "present", "weights"),
    [
        (Mempolicy.DEFAULT, (5, 0), (0, PARTS)),
        (Mempolicy.LOCAL, (5, 0), (0, PARTS)),
        (Mempolicy.BIND, (5, 0), (5, 0)),
        (Mempolicy.PREFERRED, (0, 0), (0, PARTS)),
        (Mempolicy.INTERLEAVE, (0, 0), (1, 1)),
        (Mempolicy.INTERLEAVE, (3, 1), (3, 1)),
    ],
)
def test_growth_goes_where_the_process_runs_unless_a_mempolicy_says_otherwise(mempolicy, present, weights):
    given_weights = growth_weights(rows(present), rows(mempolicy), rows(0, PARTS), np.array([True, True]))

    assert given_weights.tolist() == [list(weights)]


def test_what_does_not_fit_goes_to_the_nearest_node_with_room():
    distances = [[10, 30, 20], [30, 10, 20], [20, 20, 10]]

    placed = spill(rows((8, 0, 0), (4, 0, 0)), rows(PAGE, PAGE), rows(10, 1, 1) * PAGE, distances)

    assert placed.tolist() == [[8, 0, 0], [2, 1, 1]]


def test_what_fits_nowhere_stays_where_it_was_wanted():
    placed = spill(rows((8, 0)), rows(PAGE), rows(2, 3) * PAGE, [[10, 21], [21, 10]])

    assert placed.tolist() == [[5, 3]]


def test_a_huge_page_that_does_not_fit_is_not_cut():
    placed = spill(rows((3, 0)), rows(2 * MIB), rows(5 * MIB, 64 * MIB), [[10, 21], [21, 10]])

    assert placed.tolist() == [[2, 1]]
