# SPDX-License-Identifier: Apache-2.0

"""One wish ends as it would on a machine: at its limit, at the deadline, for want of room, or done."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.model import Ending
from numad_py.sim.cost import CALL_NS, MOVE_NS, default_prices
from numad_py.sim.moving import carry_out
from tests.builders import GIB, MIB, TWO_NODES, move, process, regions, topology

PAGE = 4096
PRICES = default_prices(TWO_NODES)
SECOND = 10**9
few = st.integers(0, 300)


def carried(wish, of, *, room=(GIB, GIB), left_ns=SECOND, on=TWO_NODES):
    """Carry out a wish on a process, and give the outcome and the pages by row and node afterwards."""
    outcome, flow = carry_out(wish, of.regions, on.index_of, np.array(room), left_ns, PRICES)
    return outcome, (of.regions.pages - flow.leaving + flow.arriving).tolist()


def test_everything_on_the_sources_arrives():
    job = process(regions=regions({0: 100, 1: 5}, {0: 50}))

    outcome, pages = carried(move(job), job)

    assert pages == [[0, 105], [0, 50]]
    assert outcome.ending is Ending.DONE
    assert outcome.moved_bytes == 150 * PAGE
    assert outcome.took_s == pytest.approx((150 * MOVE_NS[4096] + CALL_NS) * 1e-9)
    assert outcome.reached == int(job.regions.end[-1])


def test_moving_stops_at_the_limit_and_says_how_far_it_got():
    job = process(regions=regions({0: 100}, {0: 50}))

    outcome, pages = carried(move(job, limit_bytes=120 * PAGE), job)

    assert pages == [[0, 100], [30, 20]]
    assert outcome.ending is Ending.LIMIT
    assert outcome.reached == int(job.regions.start[1]) + 20 * PAGE


def test_moving_stops_at_the_deadline():
    job = process(pages={0: 1000})

    outcome, pages = carried(move(job), job, left_ns=CALL_NS + 300 * MOVE_NS[4096] + 7)

    assert pages == [[700, 300]]
    assert outcome.ending is Ending.DEADLINE


def test_without_time_left_nothing_is_tried():
    job = process(pages={0: 1000})

    outcome, pages = carried(move(job), job, left_ns=CALL_NS)

    assert pages == [[1000, 0]]
    assert (outcome.ending, outcome.moved_bytes, outcome.took_s) == (Ending.DEADLINE, 0, 0.0)


def test_moving_stops_where_the_target_is_full():
    job = process(regions=regions({0: 100}, {0: 100}))

    outcome, pages = carried(move(job), job, room=(0, 130 * PAGE))

    assert pages == [[0, 100], [70, 30]]
    assert outcome.ending is Ending.NO_ROOM


def test_going_on_where_the_last_move_got_to_finds_the_rest():
    job = process(pages={0: 1000})
    wish = move(job, limit_bytes=400 * PAGE)
    first, pages = carried(wish, job)
    half = replace(job, regions=replace(job.regions, pages=np.array(pages)))

    rest, pages = carried(replace(move(half), start=np.array([first.reached], np.uint64)), half)

    assert pages == [[0, 1000]]
    assert rest.ending is Ending.DONE


def test_a_range_that_covers_a_part_of_a_region_moves_that_part():
    job = process(pages={0: 1000})
    wish = replace(move(job), end=job.regions.start + np.uint64(250 * PAGE))

    _, pages = carried(wish, job)

    assert pages == [[750, 250]]


def test_pages_that_other_processes_map_answer_eacces_and_are_named():
    job = process(regions=replace(regions({0: 100}, {0: 50}), mapmax=np.array([1, 2])))

    outcome, pages = carried(move(job), job)

    assert pages == [[0, 100], [50, 0]]
    assert outcome.ending is Ending.DONE
    assert outcome.failed == {"EACCES": 50}
    assert (outcome.stayed_start, outcome.stayed_end) == (job.regions.start[1:], job.regions.end[1:])


def test_pages_behind_the_point_where_time_was_up_are_not_said_to_have_failed():
    job = process(regions=replace(regions({0: 100}, {0: 50}), mapmax=np.array([1, 2])))

    outcome, _ = carried(move(job, limit_bytes=40 * PAGE), job)

    assert (outcome.ending, outcome.failed, len(outcome.stayed_start)) == (Ending.LIMIT, {}, 0)


def test_huge_pages_move_whole():
    job = process(regions=regions({0: 10}, page_bytes=2 * MIB))

    outcome, pages = carried(move(job, limit_bytes=7 * MIB), job)

    assert pages == [[7, 3]]
    assert outcome.took_s == pytest.approx((3 * MOVE_NS[2 * MIB] + CALL_NS) * 1e-9)


def test_spreading_gives_equal_shares_and_spreading_again_moves_nothing():
    on = topology(nodes=3)
    job = process(regions=regions({0: 100, 2: 20}, on=on), on=on)
    wish = move(job, sources=(0, 1, 2), targets=(0, 1, 2))
    spread, pages = carried(wish, job, room=(GIB,) * 3, on=on)
    again = replace(job, regions=replace(job.regions, pages=np.array(pages)))

    second, pages_after = carried(wish, again, room=(GIB,) * 3, on=on)

    assert pages == [[40, 40, 40]]
    assert spread.moved_bytes == 60 * PAGE
    assert (pages_after, second.moved_bytes) == (pages, 0)


def test_a_wish_for_what_is_not_there_is_done_at_no_cost():
    job = process(pages={1: 100})

    outcome, pages = carried(move(job), job)

    assert pages == [[0, 100]]
    assert (outcome.ending, outcome.took_s) == (Ending.DONE, 0.0)


@given(
    st.lists(st.tuples(few, few, st.integers(1, 2)), max_size=4),
    st.sampled_from([(0,), (1,), (0, 1)]),
    st.sampled_from([(0,), (1,), (0, 1)]),
    st.integers(0, 4 * MIB),
    st.tuples(st.integers(0, 2 * MIB), st.integers(0, 2 * MIB)),
    st.integers(0, 10**6),
)
def test_no_page_is_lost_and_no_bound_is_broken(drawn, sources, targets, limit_bytes, room, left_ns):
    held = regions(*({0: here, 1: there} for here, there, _ in drawn))
    job = process(regions=replace(held, mapmax=np.array([mapmax for *_, mapmax in drawn], np.int64)))
    before = job.regions.pages

    outcome, pages = carried(
        move(job, sources=sources, targets=targets, limit_bytes=limit_bytes), job, room=room, left_ns=left_ns
    )

    after = np.array(pages).reshape(before.shape)
    gained = ((after - before) * PAGE).sum(axis=0)
    assert (after >= 0).all()
    assert (after.sum(axis=1) == before.sum(axis=1)).all()
    assert (after == before)[job.regions.mapmax > 1].all()
    assert (gained <= room).all()
    assert outcome.moved_bytes == np.maximum(after - before, 0).sum() * PAGE
    assert outcome.moved_bytes <= limit_bytes
    assert outcome.took_s * 1e9 <= left_ns + 1
