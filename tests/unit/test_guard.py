# SPDX-License-Identifier: Apache-2.0

"""The guard trims any policy's wishes to what may move now, and remembers what became of them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.guard import Guard, Limits
from numad_py.model import (
    Ending,
    Held,
    Mempolicy,
    MoveTasks,
    Outcome,
    Plan,
    Reason,
    Refusal,
    RegionKind,
    Tick,
)
from numad_py.roles import Policy
from tests.builders import (
    GIB,
    HEAP,
    MIB,
    TWO_NODES,
    drawn_outcomes,
    job,
    move,
    node_memory,
    process,
    regions,
    snapshot,
)

PAGE = 4096
ANY_RATE = Limits(limit_mb_per_s=1e6)


class Wishes(Policy):
    """Wishes the same every time."""

    def __init__(self, *moves, task_moves=()):
        self.moves, self.task_moves = moves, task_moves
        self.reviewed = []

    def decide(self, snapshot):
        return Plan(self.moves, task_moves=self.task_moves)

    def review(self, tick):
        self.reviewed.append(tick)


def guarded(*moves, limits=ANY_RATE):
    """Give a guard that has looked once, at second 99, so that a second's rate may be spent at 100."""
    guard = Guard(Wishes(*moves), limits)
    guard.decide(snapshot(99.0))
    return guard


def whys(plan):
    return [held.why for held in plan.held]


def turn(guard, time_s, job, outcome):
    """Go round once; what the plan moves ends as told. Give the plan."""
    seen = snapshot(time_s, processes=[job])
    plan = guard.decide(seen)
    guard.review(Tick(seen, plan, (outcome,) * len(plan.moves)))
    return plan


def test_a_wish_within_all_limits_is_granted_as_it_is():
    wish = move(process(pages={0: 100}), limit_bytes=100 * PAGE, whole=True)

    plan = guarded(wish).decide(snapshot(processes=[process(pages={0: 100})]))

    assert plan.moves[0].limit_bytes == 100 * PAGE
    assert plan.moves[0].whole
    assert not plan.held


def test_memory_of_a_gpu_is_never_a_target():
    on = replace(TWO_NODES, nodes=(TWO_NODES.nodes[0], replace(TWO_NODES.nodes[1], cpus=(), gpu=True)))
    one = process(pages={0: 100})

    plan = guarded(move(one)).decide(snapshot(processes=[one], on=on))

    assert not plan.moves
    assert whys(plan) == [Refusal.GPU_MEMORY]


def test_the_first_look_grants_nothing_since_no_time_has_passed():
    one = process(pages={0: 100})

    plan = Guard(Wishes(move(one)), ANY_RATE).decide(snapshot(processes=[one]))

    assert not plan.moves
    assert whys(plan) == [Refusal.RATE]


def test_no_more_moves_than_the_rate_allows_for_the_time_since_the_last_look():
    one, two = process(1, pages={0: 9000}), process(2, pages={0: 9000})
    guard = guarded(
        move(one, limit_bytes=24 * MIB), move(two, limit_bytes=24 * MIB), limits=Limits(limit_mb_per_s=16)
    )

    plan = guard.decide(snapshot(101.0, processes=[one, two]))

    assert [granted.limit_bytes for granted in plan.moves] == [24 * MIB, 8 * MIB]
    assert not plan.moves[1].whole
    assert whys(plan) == [Refusal.RATE]


def test_room_is_what_is_free_above_the_watermark_and_headroom_and_some_clean_cache():
    one = process(pages={0: 90_000})
    guard = guarded(move(one, limit_bytes=300 * MIB), limits=Limits(1e6, headroom_mb=10, cache_share=0.5))
    memory = node_memory(
        free={1: 100 * MIB}, high_watermark=20 * MIB, inactive_file={1: 50 * MIB}, dirty={1: 10 * MIB}
    )

    plan = guard.decide(snapshot(processes=[one], memory=memory))

    assert plan.moves[0].limit_bytes == (100 - 20 - 10 + (50 - 10) // 2) * MIB
    assert whys(plan) == [Refusal.NO_ROOM]


def test_two_moves_share_the_room_of_one_target():
    one, two = process(1, pages={0: 9000}), process(2, pages={0: 9000})
    guard = guarded(
        move(one, limit_bytes=30 * MIB), move(two, limit_bytes=30 * MIB), limits=Limits(1e6, headroom_mb=0)
    )
    memory = node_memory(free={1: 40 * MIB}, high_watermark=0)

    plan = guard.decide(snapshot(processes=[one, two], memory=memory))

    assert [granted.limit_bytes for granted in plan.moves] == [30 * MIB, 10 * MIB]


def test_spreading_needs_room_on_every_target():
    one = process(pages={0: 9000})
    guard = guarded(move(one, sources=(0, 1), targets=(0, 1), limit_bytes=30 * MIB), limits=Limits(1e6, 0))
    memory = node_memory(free={0: GIB, 1: 5 * MIB}, high_watermark=0)

    plan = guard.decide(snapshot(processes=[one], memory=memory))

    assert plan.moves[0].limit_bytes == 10 * MIB


def test_a_target_outside_the_cpuset_is_refused():
    one = process(pages={0: 100}, nodes_allowed=(0,))

    plan = guarded(move(one)).decide(snapshot(processes=[one]))

    assert not plan.moves
    assert whys(plan) == [Refusal.NOT_ALLOWED]


@pytest.mark.parametrize(
    "never",
    [
        {"mempolicy": Mempolicy.BIND},
        {"mempolicy": Mempolicy.INTERLEAVE},
        {"kind": RegionKind.FILE, "mapmax": 2},
    ],
)
def test_regions_that_may_never_move_are_cut_from_any_wish(never):
    one = process(regions=regions({0: 100}, **never))

    plan = guarded(move(one)).decide(snapshot(processes=[one]))

    assert not plan.moves


def test_ranges_that_are_no_region_are_cut_from_any_wish():
    one = process(regions=regions({0: 100}, {0: 100}))
    stray = replace(move(one), start=move(one).start - np.uint64(16 * PAGE), end=move(one).end)
    beyond = replace(move(one), end=move(one).end + np.uint64(PAGE))

    plans = [guarded(wish).decide(snapshot(processes=[one])) for wish in (stray, beyond)]

    assert [len(plan.moves) for plan in plans] == [0, 0]


def test_a_process_without_regions_or_that_is_gone_moves_nothing():
    one = process(pages={0: 100})

    bare = guarded(move(one)).decide(snapshot(processes=[process()]))
    gone = guarded(move(one)).decide(snapshot(processes=[process(2, pages={0: 1})]))

    assert not bare.moves
    assert not gone.moves


def test_what_is_refused_is_left_alone_for_twice_as_long_each_time():
    one = process(pages={0: 100})
    guard = guarded(move(one), limits=Limits(1e6, backoff_s=10))
    no = Outcome(Ending.REFUSED)

    granted = [time_s for time_s in range(100, 180) if turn(guard, float(time_s), one, no).moves]

    assert granted == [100, 110, 130, 170]


def test_the_wait_after_failures_is_never_over_a_quarter_of_an_hour():
    one = process(pages={0: 100})
    guard = guarded(move(one), limits=Limits(1e6, backoff_s=600))
    no = Outcome(Ending.STUCK)

    granted = [minute for minute in range(60) if turn(guard, 100.0 + 60 * minute, one, no).moves]

    assert granted == [0, 10, 25, 40, 55]


def test_success_ends_the_series_of_failures():
    one = process(pages={0: 100})
    guard = guarded(move(one), limits=Limits(1e6, backoff_s=10))
    endings = [Outcome(Ending.REFUSED), Outcome(Ending.DONE, moved_bytes=PAGE), Outcome(Ending.REFUSED)]

    for time_s, outcome in zip((100.0, 110.0, 111.0), endings, strict=True):
        turn(guard, time_s, one, outcome)

    assert not turn(guard, 120.0, one, endings[0]).moves
    assert turn(guard, 121.0, one, endings[0]).moves


def test_moving_elsewhere_waits_for_the_cooldown_which_doubles_with_every_turn():
    one = process(pages={0: 100, 1: 100})
    there = move(one, sources=(0,), targets=(1,))
    back = move(one, sources=(1,), targets=(0,))
    policy = Wishes(there)
    guard = Guard(policy, Limits(1e6, cooldown_s=10))
    done = Outcome(Ending.DONE, moved_bytes=PAGE)
    guard.decide(snapshot(99.0))
    granted = []

    for time_s in range(100, 200):
        if turn(guard, float(time_s), one, done).moves:
            granted.append(time_s)
            policy.moves = (back,) if policy.moves == (there,) else (there,)

    assert granted == [100, 110, 130, 170]


def test_turns_far_apart_are_no_ping_pong():
    one = process(pages={0: 100, 1: 100})
    there, back = move(one, targets=(1,)), move(one, sources=(1,), targets=(0,))
    policy = Wishes(there)
    guard = Guard(policy, Limits(1e6, cooldown_s=10))
    done = Outcome(Ending.DONE, moved_bytes=PAGE)
    guard.decide(snapshot(99.0))

    turn(guard, 100.0, one, done)
    policy.moves = (back,)
    turn(guard, 300.0, one, done)
    policy.moves = (there,)

    assert turn(guard, 311.0, one, done).moves


def test_the_same_direction_needs_no_cooldown():
    one = process(pages={0: 100})
    guard = guarded(move(one))
    part = Outcome(Ending.LIMIT, moved_bytes=PAGE)

    plans = [turn(guard, time_s, one, part) for time_s in (100.0, 101.0, 102.0)]

    assert [len(plan.moves) for plan in plans] == [1, 1, 1]


def test_a_move_goes_on_behind_what_the_last_one_reached():
    one = process(regions=regions({0: 100}, {0: 100}))
    guard = guarded(move(one))
    reached = int(one.regions.start[1]) + 16 * PAGE

    turn(guard, 100.0, one, Outcome(Ending.DEADLINE, moved_bytes=PAGE, reached=reached))
    plan = turn(guard, 101.0, one, Outcome(Ending.DONE, moved_bytes=PAGE, reached=2**40))
    again = turn(guard, 102.0, one, Outcome(Ending.DONE))

    assert plan.moves[0].start.tolist() == [reached]
    assert again.moves[0].start.tolist() == one.regions.start.tolist()


def test_a_move_that_had_reached_the_end_begins_again():
    one = process(pages={0: 100})
    guard = guarded(move(one))

    turn(guard, 100.0, one, Outcome(Ending.LIMIT, moved_bytes=PAGE, reached=int(one.regions.end[0])))
    plan = turn(guard, 101.0, one, Outcome(Ending.DONE))

    assert plan.moves[0].start.tolist() == one.regions.start.tolist()


def test_pages_that_stayed_are_not_asked_for_again_until_the_backoff_is_over():
    one = process(pages={0: 100})
    guard = guarded(move(one), limits=Limits(1e6, backoff_s=30))
    pinned = np.array([HEAP, HEAP + 50 * PAGE], np.uint64)
    stayed = Outcome(Ending.DONE, 98 * PAGE, {"unmovable": 2}, pinned, pinned + np.uint64(PAGE))

    turn(guard, 100.0, one, stayed)
    soon = turn(guard, 101.0, one, Outcome(Ending.DONE))
    later = turn(guard, 131.0, one, Outcome(Ending.DONE))

    assert soon.moves[0].start.tolist() == [HEAP + PAGE, HEAP + 51 * PAGE]
    assert soon.moves[0].end.tolist() == [HEAP + 50 * PAGE, HEAP + 100 * PAGE]
    assert later.moves[0].start.tolist() == [HEAP]


def test_in_a_dry_run_nothing_is_learnt():
    one = process(pages={0: 100})
    guard = guarded(move(one))

    plans = [turn(guard, time_s, one, Outcome(Ending.DRY_RUN)) for time_s in (100.0, 101.0)]

    assert [len(plan.moves) for plan in plans] == [1, 1]


def test_the_policy_reviews_every_tick_and_its_own_refusals_stand():
    policy = Wishes()
    guard = Guard(policy, ANY_RATE)

    turn(guard, 100.0, process(), Outcome(Ending.DONE))

    assert len(policy.reviewed) == 1


@pytest.mark.parametrize(
    "wrong", [{"cache_share": 1.5}, {"limit_mb_per_s": -1.0}, {"headroom_mb": -1.0}, {"cooldown_s": -1.0}]
)
def test_limits_that_make_no_sense_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Limits(**wrong)


@given(st.lists(st.tuples(st.floats(0, 60), st.integers(0, 3000), drawn_outcomes()), max_size=12))
def test_whatever_happens_the_rate_the_room_and_the_movable_ranges_hold(turns):
    limits = Limits(limit_mb_per_s=2, headroom_mb=1)
    table = regions({0: 1500}, {0: 1500}, {0: 1500})
    table.mempolicy[1] = Mempolicy.BIND
    one = process(regions=table)
    policy = Wishes()
    guard = Guard(policy, limits)
    time_s = 100.0

    for since_s, pages, outcome in turns:
        time_s += since_s
        policy.moves = (move(one, limit_bytes=pages * PAGE), move(one, limit_bytes=pages * PAGE))
        memory = node_memory(free={1: 6 * MIB}, high_watermark=MIB)
        seen = snapshot(time_s, jobs=[job(one)], memory=memory)
        plan = guard.decide(seen)
        guard.review(Tick(seen, plan, (outcome,) * len(plan.moves)))

        granted = sum(each.limit_bytes for each in plan.moves)
        assert granted <= 4 * MIB
        assert granted <= 2 * MIB * since_s + 1 or since_s == 0
        for each in plan.moves:
            row = np.searchsorted(table.start, each.start, side="right") - 1
            assert (each.start < each.end).all()
            assert (each.end <= table.end[row]).all()
            assert (row != 1).all()


def test_threads_are_never_moved():
    one = process()
    wish = MoveTasks(one.key, (1,), Reason.TASKS_FOLLOW_MEMORY)

    plan = Guard(Wishes(task_moves=(wish,)), ANY_RATE).decide(snapshot(0.0, processes=[one]))

    assert not plan.task_moves
    assert plan.held == (Held(one.key, 0, Refusal.TASKS),)
