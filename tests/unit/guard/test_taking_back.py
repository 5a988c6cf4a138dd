# SPDX-License-Identifier: Apache-2.0

"""Pages go back to where they were, region by region, and nothing else is touched."""

from dataclasses import replace

import numpy as np

from numad_py.guard import taking_back
from numad_py.model import Reason
from tests.builders import HEAP, TWO_NODES, move, plain, process, regions, topology

PAGE = 4096
THREE_NODES = topology(ids=[0, 1, 2])


def back(then, now, *, on=TWO_NODES, concerned=None, among=()):
    """Wish back what was moved, of all regions or of those that a move concerns."""
    before = taking_back.origin(len(on.nodes))
    moved = replace(concerned or move(process(regions=then)), among=among)
    return taking_back.wishes(before.with_move(moved, process(regions=then)), process(regions=now), on)


def test_a_region_goes_back_whole():
    (wish,) = back(regions({0: 100}), regions({1: 100}))

    assert (wish.start.tolist(), wish.end.tolist()) == ([HEAP], [HEAP + 100 * PAGE])
    assert (wish.sources, wish.targets, wish.limit_bytes) == ((1,), (0,), 100 * PAGE)
    assert wish.reason is Reason.TAKEN_BACK


def test_of_a_region_that_lay_in_halves_a_half_goes_back():
    (wish,) = back(regions({0: 50, 1: 50}), regions({1: 100}))

    assert (wish.start.tolist(), wish.end.tolist()) == ([HEAP], [HEAP + 50 * PAGE])
    assert wish.limit_bytes == 50 * PAGE


def test_what_two_nodes_lost_is_cut_apart():
    wishes = back(regions({0: 60, 1: 40}, on=THREE_NODES), regions({2: 100}, on=THREE_NODES), on=THREE_NODES)

    cuts = [
        (wish.targets, int(wish.start[0] - HEAP) // PAGE, int(wish.end[0] - HEAP) // PAGE) for wish in wishes
    ]
    assert cuts == [((0,), 0, 60), ((1,), 60, 100)]


def test_what_has_not_moved_or_is_no_concern_stays():
    then, now = regions({0: 100}, {0: 100}, {0: 100}), regions({1: 100}, {0: 100}, {1: 100})
    two = replace(move(process(regions=then)), start=then.start[:2], end=then.end[:2])

    (wish,) = back(then, now, concerned=two)

    assert wish.start.tolist() == then.start[:1].tolist()


def test_regions_that_are_gone_or_that_grew_elsewhere_are_left_alone():
    then = regions({0: 100}, {0: 100})
    gone = back(then, then.take(np.array([False, False])))
    one = back(then, regions({1: 100}))
    grown = back(regions({0: 100}), regions({0: 100, 1: 50}))

    assert gone == grown == []
    assert [wish.start.tolist() for wish in one] == [[HEAP]]


def test_nothing_was_moved_where_a_move_had_no_ranges():
    empty = replace(move(process(pages={0: 1})), start=np.zeros(0, np.uint64), end=np.zeros(0, np.uint64))

    assert back(regions({0: 100}), regions({1: 100}), concerned=empty) == []


def test_what_a_job_shares_goes_back_for_all_who_map_it():
    among = (process(1).key, process(2).key)
    then, now = (regions({node: 100}, mapmax=2, backing=7) for node in (0, 1))

    (wish,) = back(then, now, among=among)

    assert (wish.among, wish.targets) == (among, (0,))


def test_a_second_move_adds_to_the_first_what_that_did_not_concern():
    then, later = regions({0: 100}, {0: 100}), regions({1: 100}, {0: 100})
    every = move(process(regions=then))
    second = replace(every, start=then.start[1:], end=then.end[1:])

    before = taking_back.origin(2).with_move(second, process(regions=then))
    both = before.with_move(every, process(regions=later))

    assert before.start.tolist() == then.start[1:].tolist()
    assert both.start.tolist() == then.start.tolist()
    assert both.pages.tolist() == later.pages.tolist()


def test_where_pages_were_is_kept_and_recalled_as_it_was():
    among = (process(1).key,)
    then = process(regions=regions({0: 60, 1: 40}))
    before = taking_back.origin(2).with_move(replace(move(then), among=among), then)

    again = taking_back.recalled(before.kept(then.key))

    assert plain(again) == plain(before)


def test_nothing_goes_back_on_a_machine_that_has_other_nodes_now():
    then = process(regions=regions({0: 100}))
    before = taking_back.origin(2).with_move(move(then), then)

    assert taking_back.wishes(before, process(regions=regions({1: 100}, on=THREE_NODES)), THREE_NODES) == []
