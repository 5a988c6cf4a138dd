# SPDX-License-Identifier: Apache-2.0

"""Threads reach for what an investigation saw them touch; without one, for all pages alike."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from numad_py.model import Accesses, AccessSource, ThreadGroup
from numad_py.policies.hold import Hold
from numad_py.sim.cost import default_prices
from numad_py.sim.reach import Reach, cut
from numad_py.sim.replay import replay, scores
from numad_py.sim.use import Users
from tests.builders import (
    HEAP,
    MIB,
    TWO_NODES,
    drawn_accesses,
    drawn_regions,
    process,
    regions,
    snapshot,
    threads,
    tick,
)
from tests.unit.sim.test_demand import Asks

EVEN = np.array([0.5, 0.5])
BOTH = threads({0: 1.0, 1: 1.0})  # thread 1000 on node 0, thread 1001 on node 1
PAGES = 4 * MIB // 4096


def halves(counts=((10, 0), (0, 10)), tids=((1000,), (1001,)), nodes=(0, 1)):
    """Give what was seen of two halves of 8 MB, by group of threads."""
    groups = tuple(
        ThreadGroup(node, np.array(tid, np.int64), np.zeros(2)) for node, tid in zip(nodes, tids, strict=True)
    )
    start = np.array([HEAP, HEAP + 4 * MIB], np.uint64)
    counted = np.array(counts, np.int64)
    return Accesses(AccessSource.HINT_FAULTS, groups, start, start + np.uint64(4 * MIB), counted, None, 5.0)


def placed(first, second):
    """Give the two halves as regions, each on one node."""
    held = regions({first: PAGES}, {second: PAGES}, gap_bytes=0)
    assert int(held.end[-1] - held.start[0]) == 8 * MIB
    return held


@pytest.mark.parametrize(
    ("first", "second", "reach"),
    [(0, 1, [[1, 0], [0, 1]]), (1, 0, [[0, 1], [1, 0]]), (0, 0, [[1, 0], [1, 0]])],
)
def test_each_thread_reaches_for_its_own_half(first, second, reach):
    found = Reach.of(halves(), placed(first, second)).from_nodes(BOTH, EVEN, TWO_NODES)

    assert found.tolist() == reach


def test_a_thread_that_moved_reaches_for_the_same_half_from_elsewhere():
    crossed = replace(BOTH, cpu=BOTH.cpu[::-1].copy())

    found = Reach.of(halves(), placed(0, 1)).from_nodes(crossed, EVEN, TWO_NODES)

    assert found.tolist() == [[0, 1], [1, 0]]


def test_threads_that_nobody_saw_do_what_all_others_do_together():
    seen = halves(counts=((30, 0), (0, 10)))

    found = Reach.of(seen, placed(0, 1)).from_nodes(threads({0: 1.0}, first_tid=7), EVEN, TWO_NODES)

    assert found[0].tolist() == [0.75, 0.25]


def test_where_nothing_was_touched_or_nobody_ran_pages_are_used_evenly():
    untouched = Reach.of(halves(counts=((0, 0), (0, 0))), placed(0, 1))
    one_node = Reach.of(halves(), placed(0, 1)).from_nodes(threads({0: 1.0}), EVEN, TWO_NODES)

    assert untouched.from_nodes(BOTH, np.array([0.25, 0.75]), TWO_NODES).tolist() == [[0.25, 0.75]] * 2
    assert one_node.tolist() == [[1, 0], [0.5, 0.5]]


def test_accesses_told_once_are_remembered_and_those_of_others_stay_even():
    users, held = Users(2), placed(0, 1)
    told = replace(process(1, regions=held, threads=BOTH), accesses=halves())
    other = process(2, regions=held, threads=BOTH)

    users.look(snapshot(0.0, processes=[told, other]))
    later = users.look(snapshot(1.0, processes=[replace(told, accesses=None), other]))

    assert later.seen.tolist() == [True, False]
    assert later.reach.tolist() == [[[1, 0], [0, 1]], [[0.5, 0.5], [0.5, 0.5]]]


@given(drawn_regions(), drawn_accesses())
def test_cutting_loses_no_page_and_no_address(whole, accesses):
    parts = cut(whole, accesses)

    row = np.searchsorted(whole.start, parts.start, side="right") - 1
    summed = np.zeros(len(whole), np.int64)
    np.add.at(summed, row, parts.pages.sum(axis=1))
    assert summed.tolist() == whole.pages.sum(axis=1).tolist()
    length = np.zeros(len(whole), np.uint64)
    np.add.at(length, row, parts.end - parts.start)
    assert length.tolist() == (whole.end - whole.start).tolist()
    assert (parts.start[1:] >= parts.end[:-1]).all()


def test_a_half_is_moved_by_itself_once_it_is_known_to_be_one():
    whole = regions({0: 2 * PAGES})
    told = replace(process(1, regions=whole, threads=BOTH), accesses=halves())
    ticks = [
        tick(time_s=float(at), processes=[told if at == 1 else replace(told, accesses=None)])
        for at in range(4)
    ]

    class SecondHalf(Asks):
        def decide(self, snapshot):
            plan = super().decide(snapshot)
            wishes = [
                replace(move, start=move.start[1:], end=move.end[1:], page_bytes=move.page_bytes[1:])
                for move in plan.moves
                if len(move.start) == 2
            ]
            return replace(plan, moves=tuple(wishes))

    policies = {"hold": Hold(), "second": SecondHalf()}
    prices = default_prices(TWO_NODES)
    *_, last = replay(ticks, policies, prices)

    assert last["second"].snapshot.processes[0].regions.pages.tolist() == [[PAGES, 0], [0, PAGES]]
    found = scores(ticks, {"hold": Hold(), "second": SecondHalf()}, prices)
    assert found["hold"].remote_access_share == 0.5
    assert found["second"].remote_access_share == pytest.approx(0.5 * 2 / 4)
    assert found["hold"].least_s < found["second"].modelled_s < found["hold"].modelled_s
