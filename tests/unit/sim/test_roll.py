# SPDX-License-Identifier: Apache-2.0

"""Processes keep what is known of them by row, whoever comes and goes; what they hold is added up for all at once."""

import numpy as np

from numad_py.sim.roll import Roll, by_process, columns
from tests.builders import process, regions

OLD, NEW = process(1, pages={0: 1}), process(1, pages={0: 2})
OTHER = process(2, pages={1: 3})


def test_everyone_is_a_stranger_at_first():
    rows, changed = Roll().call([OLD, OTHER])

    assert rows.tolist() == [-1, -1, -1]
    assert list(changed) == [0, 1]


def test_where_nobody_comes_or_goes_only_those_with_other_regions_are_named():
    roll = Roll()
    roll.call([OLD, OTHER])

    assert roll.call([NEW, OTHER]) == (None, {0: OLD.regions})
    assert roll.call([NEW, OTHER]) == (None, {})


def test_arrays_by_row_follow_their_processes():
    roll, by_row = Roll(), np.array([0.0])
    for present in ([OLD], [OTHER, OLD], [OLD, OTHER]):
        rows, _ = roll.call(present)
        by_row = by_row[rows]
        by_row[:-1] += [each.key.pid for each in present]

    assert by_row.tolist() == [3.0, 4.0, 0.0]


def test_who_was_away_is_a_stranger_again():
    roll = Roll()
    for present in ([OLD, OTHER], [OTHER]):
        roll.call(present)

    rows, changed = roll.call([OLD, OTHER])

    assert rows.tolist() == [-1, 0, -1]
    assert list(changed) == [0]


def test_rows_are_reduced_by_process_also_where_one_has_none():
    none = regions()
    held = [none, regions({0: 3}, {1: 4}), none, regions({0: 5}), none]

    lengths, pages, page_bytes = columns(held, "pages", "page_bytes")

    assert by_process(pages, lengths).tolist() == [[0, 0], [3, 4], [0, 0], [5, 0], [0, 0]]
    assert by_process(pages[:, 0], lengths, np.minimum).tolist() == [0, 0, 0, 5, 0]
    assert page_bytes.tolist() == [4096] * 3


def test_nobody_has_nothing():
    lengths, pages = columns([regions()], "pages")

    assert by_process(pages, lengths).tolist() == [[0, 0]]
