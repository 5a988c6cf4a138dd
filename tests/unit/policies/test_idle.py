# SPDX-License-Identifier: Apache-2.0

"""What nobody has used for long makes room for what found none, and for nothing else; it harms nobody who runs."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.model import MovePages, Reason
from numad_py.policies.idle import IdleMemory
from numad_py.policies.threshold import Threshold, ThresholdParameters
from tests.builders import MIB, job, node_memory, process, snapshot, topology

ON = topology(3, cpuless=(2,))
PAGES = 256 * MIB // 4096
BUSY, SLEEPER, DOZER = 1, 2, 3
MARK = 8 * MIB


def seen(time_s, *, free, ran=(), sleeper=None, on=ON, **more):
    """Give a busy process on node 0 with its memory on node 2, and one with memory on node 0 that runs if it ``ran``."""
    processes = (
        process(BUSY, pages={2: PAGES}, cpu_s={0: 0.9}, on=on),
        process(
            SLEEPER,
            pages=sleeper or {0: PAGES},
            cpu_s={0: 0.5} if SLEEPER in ran else {0: 0.0},
            on=on,
            **more,
        ),
        process(DOZER, pages={0: PAGES // 4}, cpu_s={0: 0.5} if DOZER in ran else {0: 0.0}, on=on),
    )
    memory = node_memory(free={node: MARK + mb * MIB for node, mb in free.items()}, on=on)
    return snapshot(time_s, jobs=[job(*processes)], on=on, memory=memory)


def decided(*looks, **parameters):
    """Give the policy after these looks, and its last plan."""
    policy = Threshold(ThresholdParameters(**{"makes_room_after_s": 60.0, "patience": 1} | parameters))
    plans = [policy.decide(look) for look in looks]
    return policy, plans[-1]


def made(plan):
    """Give who makes how much room, from where and for where: MB."""
    moves = (move for move in plan.moves if move.reason is Reason.MAKES_ROOM)
    return [(move.process.pid, move.sources, move.targets, move.limit_bytes // MIB) for move in moves]


NO_ROOM = {0: 0, 1: 900, 2: 900}


def test_who_was_idle_for_long_makes_as_much_room_as_was_missing_on_a_node_without_cpus():
    _, plan = decided(*(seen(time_s, free=NO_ROOM) for time_s in (0.0, 30.0, 60.0)))

    assert made(plan) == [(SLEEPER, (0,), (2,), 256)]


@pytest.mark.parametrize("after_s", [0.0, 61.0])
def test_who_was_not_idle_for_long_enough_stays_and_where_nothing_is_said_everybody_does(after_s):
    _, plan = decided(*(seen(time_s, free=NO_ROOM) for time_s in (0.0, 60.0)), makes_room_after_s=after_s)

    assert made(plan) == []


def test_who_ran_in_between_is_not_idle_and_who_slept_for_longer_leaves_first():
    looks = [seen(0.0, free=NO_ROOM), seen(30.0, free=NO_ROOM, ran=(SLEEPER,)), seen(60.0, free=NO_ROOM)]

    assert made(decided(*looks)[1]) == [(DOZER, (0,), (2,), 64)]
    looks.append(seen(90.0, free=NO_ROOM))
    assert made(decided(*looks)[1]) == [(DOZER, (0,), (2,), 64), (SLEEPER, (0,), (2,), 192)]


@pytest.mark.parametrize(("free_mb", "leaving"), [(900, []), (200, [(SLEEPER, (0,), (2,), 56)])])
def test_only_what_found_no_room_has_some_made(free_mb, leaving):
    looks = (seen(time_s, free=NO_ROOM | {0: free_mb}) for time_s in (0.0, 60.0))

    assert made(decided(*looks)[1]) == leaving


def test_no_more_than_half_of_the_room_elsewhere_is_taken_and_the_rest_goes_on_to_the_next_node():
    looks = (seen(time_s, free={0: 0, 1: 900, 2: 100}) for time_s in (0.0, 60.0))

    assert made(decided(*looks)[1]) == [(SLEEPER, (0,), (2,), 50), (SLEEPER, (0,), (1,), 206)]


def test_what_moving_there_and_back_would_cost_has_to_be_worth_it():
    looks = [seen(time_s, free=NO_ROOM) for time_s in (0.0, 60.0)]
    _, plan = decided(*looks)
    figures = next(held.figures for held in plan.held if held.process.pid == BUSY)

    for times, makes in ((1.5, False), (2.5, True)):
        _, plan = decided(*looks, pays_within_s=times * figures["payback_s"])
        assert bool(made(plan)) is makes


def test_it_goes_nowhere_where_it_may_not_be_and_to_no_gpu_and_not_where_the_kernel_demotes():
    gpu = replace(ON, nodes=(*ON.nodes[:2], replace(ON.nodes[2], gpu=True)))
    allowed = [seen(time_s, free=NO_ROOM, nodes_allowed=(0, 1)) for time_s in (0.0, 60.0)]
    bound = [seen(time_s, free=NO_ROOM, nodes_allowed=(0,)) for time_s in (0.0, 60.0)]

    assert made(decided(*allowed)[1])[0] == (SLEEPER, (0,), (1,), 256)
    assert [each[0] for each in made(decided(*bound)[1])] == [DOZER]
    for on in (gpu, replace(ON, demotes=True)):
        idle = IdleMemory(60.0, 4.0)
        for time_s in (0.0, 60.0):
            look = seen(time_s, free=NO_ROOM, on=on)
            idle.look(look, np.ones(3, bool), look.cpu_s)
        moves = idle.make_room(look, np.array([300 * MIB, 0, 0]), np.array([0, 900, 900]) * MIB)
        assert {move.targets for move in moves} == {(1,)}


def test_it_is_told_of_who_makes_room():
    policy, _ = decided(*(seen(time_s, free=NO_ROOM) for time_s in (0.0, 60.0)))
    keys = {each.pid: each for each in seen(0.0, free=NO_ROOM).keys}

    assert policy.explain(keys[SLEEPER]).notes == (
        "it has been idle for 60 s: its memory makes room for others'",
    )
    assert policy.explain(keys[BUSY]).notes == ()


@given(
    short=st.lists(st.integers(0, 1 << 31), min_size=3, max_size=3),
    room=st.lists(st.integers(0, 1 << 31), min_size=3, max_size=3),
    lies=st.dictionaries(st.sampled_from([0, 1, 2]), st.integers(1, PAGES), min_size=1),
)
def test_never_more_leaves_than_is_short_or_there_or_than_others_have_room_for(short, room, lies):
    idle = IdleMemory(60.0, 4.0)
    for time_s in (0.0, 60.0):
        look = seen(time_s, free={}, sleeper=lies)
        idle.look(look, np.ones(3, bool), look.cpu_s)

    moves: list[MovePages] = list(idle.make_room(look, np.array(short), np.array(room)))

    for node in range(3):
        leaving = [move for move in moves if move.sources == (node,)]
        assert sum(move.limit_bytes for move in leaving) <= short[node]
        assert sum(move.limit_bytes for move in moves if move.targets == (node,)) <= room[node] / 2
        for row, key in enumerate(look.keys):
            mine = sum(move.limit_bytes for move in leaving if move.process == key)
            assert mine <= look.movable_bytes[row, node]
    assert BUSY not in {move.process.pid for move in moves}
