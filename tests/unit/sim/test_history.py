# SPDX-License-Identifier: Apache-2.0

"""A history tells when memory was where and what each move was for, in a size that does not grow with the run."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.model import Accesses, AccessSource, Ending, Outcome, RegionKind, ThreadGroup
from numad_py.sim.columns import POINTS
from numad_py.sim.cost import default_prices
from numad_py.sim.history import MOST_JOBS, MOST_MOVES, OTHERS, Historian
from numad_py.sim.regional import MOST_REGIONS
from tests.builders import HEAP, MIB, TWO_NODES, drawn_ticks, job, move, process, regions, tick

PAGE = 4096


def history(ticks):
    historian = Historian(default_prices(TWO_NODES))
    for each in ticks:
        historian.add(each)
    return historian.history


def test_a_job_is_told_by_its_bytes_on_every_node_over_time():
    told = history(
        [
            tick(time_s=100, processes=[process(pages={0: 3, 1: 1}, cpu_s={1: 1.0})]),
            tick(time_s=102, processes=[process(pages={1: 4}, cpu_s={1: 1.0})]),
        ]
    )

    (only,) = told.jobs
    assert only.path == "/train.slice/job"
    assert only.bytes_by_node.tolist() == [[3 * PAGE, PAGE], [0, 4 * PAGE]]
    assert told.edges_s.tolist() == [0, 2, 4]
    assert told.local_share.tolist() == [0.25, 1.0]


def test_a_long_run_has_no_more_columns_and_each_is_a_mean():
    ticks = [
        tick(time_s=at, processes=[process(pages={at % 2: 8}, cpu_s={1: 1.0})]) for at in range(4 * POINTS)
    ]

    told = history(ticks)

    assert len(told.local_share) == POINTS
    assert set(told.local_share.tolist()) == {0.5}
    assert told.edges_s[[0, 1, -1]].tolist() == [0, 4, 4 * POINTS]
    assert np.unique(told.jobs[0].bytes_by_node).tolist() == [4 * PAGE]


def test_what_a_historian_holds_does_not_grow_with_a_run_in_which_everything_comes_and_goes():
    historian = Historian(default_prices(TWO_NODES))
    sizes = []

    for at in range(900):
        of = process(pid=at + 1, pages={0: at % 50 + 1}, cpu_s={1: 1.0})
        historian.add(tick(time_s=at, jobs=[job(of, cgroup_id=at, path=f"/{at}")], moves=[move(of)]))
        told = historian.history if at % 300 == 299 else None
        sizes += [(len(told.jobs), len(told.regions), len(told.moves))] if told else []

    assert set(sizes) == {(MOST_JOBS + 1, MOST_REGIONS, MOST_MOVES)}
    assert told.decided == 900


def test_the_largest_jobs_are_kept_and_the_others_are_one_sum():
    jobs = [
        job(process(pid=number, pages={0: number}, cpu_s={0: 1.0}), cgroup_id=number, path=f"/{number}")
        for number in range(1, MOST_JOBS + 4)
    ]

    told = history([tick(time_s=0, jobs=jobs), tick(time_s=1, jobs=jobs)])

    assert {each.path for each in told.jobs} == {f"/{number}" for number in range(4, MOST_JOBS + 4)} | {
        OTHERS
    }
    whole = sum(each.bytes_by_node.sum(axis=1) for each in told.jobs)
    assert whole.tolist() == [PAGE * sum(range(1, MOST_JOBS + 4))] * 2


def test_a_move_tells_why_what_it_took_and_what_it_saves():
    late = process(pages={0: 100}, cpu_s={1: 1.0})
    outcome = Outcome(Ending.DONE, moved_bytes=50 * PAGE, took_s=0.036)

    told = history(
        [
            tick(time_s=0, processes=[late]),
            tick(time_s=2, processes=[late], moves=[move(late)], outcomes=[outcome]),
        ]
    )

    (moved,) = told.moves
    assert (moved.time_s, moved.path, moved.comm, moved.pid) == (2, "/train.slice/job", "python3", 1000)
    assert (moved.sources, moved.targets, moved.reason) == ((0,), (1,), "memory-follows-cpu")
    # Half a core, of which 0.3 wait for memory 1.6 times as long; half the pages come home.
    assert moved.saves_share == pytest.approx(0.5 * 0.3 * 0.6 * 0.5)
    assert moved.paid_back_s == pytest.approx(0.036 / 0.045)


def test_a_move_away_loses_and_is_never_paid_back():
    near = process(pages={1: 100}, cpu_s={1: 1.0})
    outcome = Outcome(Ending.DONE, moved_bytes=100 * PAGE, took_s=0.1)
    away = move(near, sources=(1,), targets=(0,))

    told = history(
        [tick(time_s=0, processes=[near]), tick(time_s=1, processes=[near], moves=[away], outcomes=[outcome])]
    )

    assert told.moves[0].saves_share == pytest.approx(-0.18)
    assert told.moves[0].paid_back_s is None


def test_what_a_move_at_the_first_look_saves_is_not_known():
    late = process(pages={0: 100}, cpu_s={1: 1.0})

    told = history([tick(processes=[late], moves=[move(late)])])

    assert told.moves[0].saves_share is None


def test_the_moves_that_moved_most_are_kept_in_the_order_of_time():
    late = process(pages={0: 100}, cpu_s={1: 1.0})

    told = history(
        [
            tick(
                time_s=at,
                processes=[late],
                moves=[move(late)],
                outcomes=[Outcome(Ending.DONE, moved_bytes=PAGE * (at % 90))],
            )
            for at in range(90)
        ]
    )

    assert [moved.time_s for moved in told.moves] == list(range(90 - MOST_MOVES, 90))


def test_a_region_without_accesses_is_remote_by_its_bytes():
    told = history([tick(processes=[process(pages={0: 3, 1: 1}, cpu_s={1: 1.0})])])

    (region,) = told.regions
    assert region.remote_share.tolist() == [0.75]
    assert (region.start, region.peak_bytes, region.accesses_from_s) == (HEAP, 4 * PAGE, None)


def test_a_region_of_a_process_that_never_ran_is_not_told_to_be_remote():
    assert history([tick(processes=[process(pages={0: 3})])]).regions == ()


def halves(*, seen):
    """Two regions, one on each node; each was used by threads on the other one only."""
    rows = regions({0: 10}, {1: 10})
    groups = tuple(ThreadGroup(node, np.array([node]), np.array([1.0, 1.0])) for node in (0, 1))
    counts = np.array([[0, 8], [8, 0]])
    accesses = Accesses(AccessSource.HINT_FAULTS, groups, rows.start, rows.end, counts, None, 1.0)
    both = process(regions=rows, cpu_s={0: 1.0, 1: 1.0})
    return replace(both, accesses=accesses) if seen else both


def test_accesses_tell_what_bytes_do_not_and_go_on_counting_until_the_next_investigation():
    told = history(
        [tick(time_s=at, processes=[halves(seen=seen)]) for at, seen in enumerate([False, True, False])]
    )

    assert [region.remote_share.tolist() for region in told.regions] == [[0, 1, 1], [0, 1, 1]]
    assert [region.accesses_from_s for region in told.regions] == [1, 1]


def test_accesses_by_threads_that_cannot_be_told_apart_come_from_where_the_process_ran():
    rows = regions({0: 10})
    group = ThreadGroup(None, np.array([1]), np.array([1.0, 3.0]))
    accesses = Accesses(AccessSource.DAMON, (group,), rows.start, rows.end, np.array([[5]]), 20, 1.0)
    seen = replace(process(regions=rows, cpu_s={0: 1.0}), accesses=accesses)

    (region,) = history([tick(processes=[seen])]).regions

    assert region.remote_share.tolist() == [0.75]


def test_a_heap_that_grows_up_and_a_mapping_that_grows_down_stay_the_same_region():
    def grown(number):
        heap = regions({0: number}, kind=RegionKind.HEAP)
        mapping = regions({0: number}, start=HEAP + 64 * MIB - number * PAGE)
        both = [np.concatenate(pair) for pair in zip(columns(heap), columns(mapping), strict=True)]
        return tick(time_s=number, processes=[process(regions=type(heap)(*both), cpu_s={1: 1.0})])

    told = history([grown(4), grown(8)])

    assert [region.peak_bytes for region in told.regions] == [8 * PAGE] * 2
    assert [region.remote_share.tolist() for region in told.regions] == [[1, 1]] * 2


def columns(rows):
    return [getattr(rows, name) for name in rows.__dataclass_fields__]


def test_small_change_beside_the_largest_is_left_out():
    told = history([tick(processes=[process(regions=regions({0: 5000}, {0: 1}), cpu_s={1: 1.0})])])

    assert [region.peak_bytes for region in told.regions] == [5000 * PAGE]


@given(st.lists(drawn_ticks(), max_size=3))
def test_any_run_has_a_history(ticks):
    told = history(ticks)

    assert len(told.edges_s) == len(told.local_share) + 1
    shares = np.concatenate([np.zeros(0), *(region.remote_share for region in told.regions)])
    known = shares[np.isfinite(shares)]
    assert ((known >= 0) & (known <= 1 + 1e-9)).all()
