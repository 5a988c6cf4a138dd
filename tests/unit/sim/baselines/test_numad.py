# SPDX-License-Identifier: Apache-2.0

"""The model of numad binds large and busy processes, one a cycle, whole, and leaves all others alone."""

from itertools import pairwise

import pytest

from numad_py.model import Ending
from numad_py.sim.baselines.numad import BOUND_FOR_S, MAX_INTERVAL_S, MIN_INTERVAL_S, Numad
from numad_py.sim.baselines.numad_nodes import Nodes, Placed, pick
from tests.builders import MIB
from tests.unit.sim.baselines.runs import ON, live, looks, moved_mb, running

FOUR = Nodes(
    total_mb=(8000,) * 4,
    free_mb=(7000,) * 4,
    total_cpus=(800,) * 4,
    free_cpus=(800,) * 4,
    distances=((10, 12, 32, 32), (12, 10, 32, 32), (32, 32, 10, 12), (32, 32, 12, 10)),
)
EVERYWHERE = frozenset(range(4))


def bound(ticks):
    """Give when which process was bound to which nodes."""
    return [
        (one.snapshot.time_s - 1000, wish.process.pid, wish.nodes)
        for one in ticks
        for wish in one.plan.task_moves
    ]


@pytest.mark.parametrize(
    ("mb", "cpu_s"), [(200, 1.0), (300, 1.0), (400, 0.4)], ids=["small", "at the threshold", "idle"]
)
def test_a_small_or_idle_process_is_left_alone(mb, cpu_s):
    ticks, _, _ = live(looks(lambda _: running({0: mb}, {1: cpu_s}), 60, every_s=1), Numad())

    assert bound(ticks) == []


def test_a_large_process_is_bound_to_where_its_memory_is():
    ticks, score, hold = live(looks(lambda _: running({0: 400}, {1: 1.0}), 60, every_s=1), Numad())

    assert [each[1:] for each in bound(ticks)] == [(1000, (0,))]
    assert score.remote_access_share < 0.1 < hold.remote_access_share == 1.0


def test_one_process_is_bound_a_cycle_the_largest_first():
    sizes = {1: 500, 2: 900, 3: 700}

    ticks, _, _ = live(
        looks(
            lambda _: tuple(running({0: mb}, {1: 1.0}, pid=pid) for pid, mb in sizes.items()), 60, every_s=1
        ),
        Numad(),
    )

    times_s, pids, _ = zip(*bound(ticks), strict=True)
    assert pids[:3] == (2, 3, 1)
    assert [b - a for a, b in pairwise(times_s[:3])] == [MIN_INTERVAL_S] * 2


def test_what_lies_elsewhere_comes_along_whole_and_at_once():
    def at(_):
        return running({0: 100, 1: 3000}, {0: 1.0}), running({0: 6000}, {0: 7.0}, pid=2)

    ticks, _, _ = live(looks(at, 60, every_s=1), Numad())

    calls = [
        (move, outcome) for one in ticks for move, outcome in zip(one.plan.moves, one.outcomes, strict=True)
    ]
    assert [(move.sources, move.targets) for move, _ in calls] == [((0,), (1,))]
    assert calls[0][1].ending is Ending.DONE
    assert sum(moved_mb(ticks)) == 100


def test_who_is_bound_is_left_alone_for_five_minutes():
    def at(time_s):
        return running({0: 400}, {1: 1.0})

    ticks, _, _ = live(looks(at, BOUND_FOR_S - 10, every_s=1), Numad())

    assert len(bound(ticks)) == 1


def test_nobody_is_bound_in_the_first_five_minutes_of_a_machine():
    recorded = looks(lambda _: running({0: 400}, {1: 1.0}), 60, every_s=1)

    ticks, _, _ = live(recorded, Numad(up_s=30))

    assert bound(ticks) == []


def test_it_looks_every_15_s_while_nothing_is_to_be_done():
    ticks, _, _ = live(
        looks(lambda time_s: running({0: 400}, {1: 1.0 if time_s >= 6 else 0.1}), 60, every_s=1), Numad()
    )

    assert bound(ticks)[0][0] == 2 + MAX_INTERVAL_S


def test_a_process_that_fits_nowhere_gets_nodes_near_to_each_other():
    placed = Placed(used_mb=400, used_cpus=1000, mb=(0, 0, 400, 0), nodes=EVERYWHERE)

    assert pick(FOUR, placed, cpus=1170, mb=470, enough_cpus=False) == {2, 3}


def test_a_process_stays_with_its_memory_where_nothing_else_tells_nodes_apart():
    placed = Placed(used_mb=4000, used_cpus=100, mb=(0, 4000, 0, 0), nodes=EVERYWHERE)
    left = Nodes(FOUR.total_mb, (7000, 3000, 7000, 7000), FOUR.total_cpus, FOUR.free_cpus, FOUR.distances)

    assert pick(left, placed, cpus=117, mb=4705, enough_cpus=True) == {1}


def test_what_no_node_holds_is_spread_over_as_many_as_are_needed():
    placed = Placed(used_mb=12_000, used_cpus=100, mb=(12_000, 0, 0, 0), nodes=EVERYWHERE)

    chosen = pick(FOUR, placed, cpus=117, mb=14_117, enough_cpus=True)

    assert len(chosen) >= 2
    assert {0, 1} <= chosen


def test_it_knows_nothing_of_a_daemon():
    ticks, _, _ = live(looks(lambda _: running({1: 5000}, {0: 1.0}, on=ON), 60, every_s=1), Numad())

    assert [move for one in ticks for move in one.plan.held] == []
    assert max(moved_mb(ticks), default=0) * MIB in (0, 5000 * MIB)
