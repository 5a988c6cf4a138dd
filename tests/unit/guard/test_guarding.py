# SPDX-License-Identifier: Apache-2.0

"""The guard trims any policy's wishes to what may move now, and remembers what became of them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.guard import Guard, Limits
from numad_py.model import (
    Decision,
    Ending,
    Explanation,
    Held,
    Mempolicy,
    MoveTasks,
    Outcome,
    Plan,
    Reason,
    Refusal,
    RegionKind,
    Tick,
    Wait,
    Waits,
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


def test_what_is_held_back_for_the_rate_or_for_room_says_how_much_there_was():
    one = process(pages={0: 9000})
    guard = guarded(move(one, limit_bytes=24 * MIB), limits=Limits(16, headroom_mb=2, cache_share=0))
    memory = node_memory(free={1: 100 * MIB}, high_watermark=8 * MIB)

    plan = guard.decide(snapshot(100.0, processes=[one], memory=memory))

    assert [held.figures for held in plan.held] == [{"room_mb": 90, "rate_mb": 16}]


@pytest.mark.parametrize(("pause_s", "granted_mib"), [(3600.0, 20), (-5.0, 0)])
def test_after_a_pause_no_more_moves_at_once_than_in_ten_seconds(pause_s, granted_mib):
    one = process(pages={0: 90_000})
    guard = guarded(move(one, limit_bytes=300 * MIB), limits=Limits(limit_mb_per_s=2))

    plan = guard.decide(snapshot(99.0 + pause_s, processes=[one]))

    assert sum(granted.limit_bytes for granted in plan.moves) == granted_mib * MIB
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


@pytest.mark.parametrize(
    ("pages", "free_mb", "spread_mb"),
    [
        pytest.param({0: 30 * 256}, {0: 0, 1: 5}, 5, id="the fuller one needs none"),
        pytest.param({0: 20 * 256, 1: 10 * 256}, {0: 0, 1: 5}, 5, id="nor where some lies on the other"),
        pytest.param({0: 15 * 256, 1: 15 * 256}, {0: 1024, 1: 5}, 10, id="even"),
    ],
)
def test_spreading_needs_room_on_the_targets_that_get_pages(pages, free_mb, spread_mb):
    one = process(pages=pages)
    guard = guarded(move(one, targets=(0, 1), limit_bytes=30 * MIB), limits=Limits(1e6, headroom_mb=0))
    memory = node_memory(free={node: mb * MIB for node, mb in free_mb.items()}, high_watermark=0)

    plan = guard.decide(snapshot(processes=[one], memory=memory))

    assert plan.moves[0].limit_bytes == spread_mb * MIB


def test_a_target_outside_the_cpuset_is_refused():
    one = process(pages={0: 100}, nodes_allowed=(0,))

    plan = guarded(move(one)).decide(snapshot(processes=[one]))

    assert not plan.moves
    assert whys(plan) == [Refusal.NOT_ALLOWED]


def test_what_is_shared_is_moved_for_all_or_not_at_all():
    """A second row is a stranger's too."""
    held = regions({0: 100}, {0: 100}, kind=RegionKind.FILE, mapmax=2, backing=5)
    held.backing[1] = 0
    one = process(regions=held)

    for_all = guarded(replace(move(one), among=(one.key,))).decide(snapshot(processes=[one]))
    alone = guarded(move(one)).decide(snapshot(processes=[one]))

    assert [granted.start.tolist() for granted in for_all.moves] == [held.start[:1].tolist()]
    assert not alone.moves


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


def test_who_failed_for_months_waits_a_quarter_of_an_hour_yet():
    one = process(pages={0: 100})
    often = Wait(targets=(0,), moved_s=99.0, failures=5000, reversals=5000)
    guard = guarded(move(one))
    guard.recall(Waits(pages=((one.key, often),), jobs=((job(one).cgroup_id, often),)))

    plan = turn(guard, 1100.0, one, Outcome(Ending.REFUSED))

    assert guard.waits().pages == ((one.key, replace(often, failures=5001, quiet_until_s=2000.0)),)
    assert len(plan.moves) == 1


def test_a_call_that_is_late_after_others_moved_pages_is_no_failure_but_one_alone_is():
    one = process(pages={0: 100})
    guard = guarded(move(one), limits=Limits(1e6, backoff_s=10))
    late, stuck = Outcome(Ending.STUCK, moved_bytes=PAGE), Outcome(Ending.STUCK)
    endings = {100: late, 101: late, 102: stuck}

    granted = [
        time_s
        for time_s in range(100, 120)
        if turn(guard, float(time_s), one, endings.get(time_s, late)).moves
    ]

    assert granted == [100, 101, 102, *range(112, 120)]


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


def parts_to(one, *targets):
    """Give a wish for each region of a process, to a node of its own."""
    rows = one.regions
    return tuple(
        replace(
            move(one, sources=(1 - target,), targets=(target,), limit_bytes=MIB),
            start=rows.start[row : row + 1],
            end=rows.end[row : row + 1],
            page_bytes=rows.page_bytes[row : row + 1],
        )
        for row, target in enumerate(targets)
    )


def of_regions(plan, one):
    """Give the rows whose beginnings a plan's moves have, and their targets."""
    rows = one.regions.start.tolist()
    return [(rows.index(each.start[0]), each.targets) for each in plan.moves]


def test_parts_that_belong_to_several_nodes_go_at_once_and_without_cooldown():
    one = process(regions=regions({0: 100}, {1: 100}))
    guard = guarded(*parts_to(one, 1, 0))
    part = Outcome(Ending.LIMIT, moved_bytes=PAGE)

    plans = [turn(guard, time_s, one, part) for time_s in (100.0, 101.0, 102.0)]

    assert [of_regions(plan, one) for plan in plans] == [[(0, (1,)), (1, (0,))]] * 3
    assert guard.waits().pages[0][1].reversals == 0


def test_a_part_that_turns_waits_for_the_cooldown_and_the_others_do_not():
    one = process(regions=regions({0: 100}, {1: 100}, {0: 100}))
    policy = Wishes(*parts_to(one, 1, 0))
    guard = Guard(policy, ANY_RATE)
    guard.decide(snapshot(99.0))
    part = Outcome(Ending.LIMIT, moved_bytes=PAGE)
    turn(guard, 100.0, one, part)
    policy.moves = parts_to(one, 0, 0, 1)

    plan = turn(guard, 101.0, one, part)

    assert of_regions(plan, one) == [(1, (0,)), (2, (1,))]
    assert whys(plan) == [Refusal.COOLDOWN]


def test_what_turned_lies_where_it_went_last():
    one = process(regions=regions({0: 100}, {0: 100}))
    policy = Wishes(*parts_to(one, 1, 1))
    guard = Guard(policy, ANY_RATE)
    guard.decide(snapshot(99.0))
    part = Outcome(Ending.LIMIT, moved_bytes=PAGE)
    turn(guard, 100.0, one, part)
    policy.moves = parts_to(one, 0)
    turn(guard, 110.0, one, part)
    policy.moves = parts_to(one, 0, 1)

    plan = turn(guard, 111.0, one, part)

    assert of_regions(plan, one) == [(0, (0,)), (1, (1,))]


def test_each_part_goes_on_behind_what_its_own_move_reached():
    one = process(regions=regions({0: 100}, {1: 100}))
    guard = guarded(*parts_to(one, 1, 0))
    seen = snapshot(100.0, processes=[one])
    reached = [int(start) + 16 * PAGE for start in one.regions.start]
    ended = tuple(Outcome(Ending.DEADLINE, moved_bytes=PAGE, reached=each) for each in reached)
    guard.review(Tick(seen, guard.decide(seen), ended))

    plan = guard.decide(snapshot(101.0, processes=[one]))

    assert [int(each.start[0]) for each in plan.moves] == reached


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


def stays(pages, **failed):
    """Give what becomes of a move of 100 pages of which these stay."""
    start = np.array([HEAP + page * PAGE for page in pages], np.uint64)
    return Outcome(Ending.DONE, PAGE, failed or {"unmovable": len(pages)}, start, start + np.uint64(PAGE))


def test_pages_that_stayed_twice_are_pinned_and_left_alone_while_their_region_lives():
    one = process(pages={0: 100})
    guard = guarded(move(one), limits=Limits(1e6, backoff_s=30))

    turn(guard, 100.0, one, stays([0, 50]))
    turn(guard, 131.0, one, stays([0]))
    later = turn(guard, 3000.0, one, Outcome(Ending.DONE))
    turn(guard, 3001.0, process(regions=regions({0: 100}, start=HEAP + GIB)), Outcome(Ending.DONE))
    anew = turn(guard, 3002.0, one, Outcome(Ending.DONE))

    assert later.moves[0].start.tolist() == [HEAP + PAGE]
    assert anew.moves[0].start.tolist() == [HEAP]


def test_pages_that_will_not_move_take_neither_rate_nor_room_from_others():
    pinned, other = process(1, pages={0: 8000}), process(2, pages={0: 8000})
    policy = Wishes(move(pinned))
    guard = Guard(policy, Limits(16, backoff_s=1))
    stayed = np.array([HEAP], np.uint64), np.array([HEAP + 7999 * PAGE], np.uint64)
    for time_s in (100.0, 101.0, 102.0):
        turn(guard, time_s, pinned, Outcome(Ending.DONE, PAGE, {"unmovable": 7999}, *stayed))
    policy.moves = (move(pinned, limit_bytes=8000 * PAGE), move(other, limit_bytes=8000 * PAGE))

    plan = guard.decide(snapshot(103.0, processes=[pinned, other]))

    assert [granted.limit_bytes for granted in plan.moves] == [PAGE, 16 * MIB - PAGE]


def test_where_all_that_is_away_would_not_move_nothing_is_looked_for():
    one = process(pages={0: 2, 1: 98})
    guard = guarded(move(one), limits=Limits(1e6, backoff_s=30))

    turn(guard, 100.0, one, stays([0, 50], EACCES=2))
    soon = turn(guard, 101.0, one, Outcome(Ending.DONE))
    later = turn(guard, 131.0, one, Outcome(Ending.DONE))

    assert (len(soon.moves), len(later.moves)) == (0, 1)


def test_pages_that_would_not_move_leave_the_rest_of_a_small_allowance():
    one = process(pages={0: 60, 1: 40})
    guard = guarded(move(one, limit_bytes=10 * PAGE), limits=Limits(1e6, backoff_s=30))

    turn(guard, 100.0, one, stays(range(30), EACCES=30))
    plan = turn(guard, 101.0, one, Outcome(Ending.DONE))

    assert plan.moves[0].limit_bytes == 10 * PAGE


def test_pages_that_others_map_are_tried_again_but_less_often_each_time():
    one = process(pages={0: 100})
    guard = guarded(move(one), limits=Limits(1e6, backoff_s=30))

    refused, done = stays([0], EACCES=1), Outcome(Ending.DONE)
    starts = [
        turn(guard, time_s, one, outcome).moves[0].start.tolist()
        for time_s, outcome in (
            (100.0, refused),
            (131.0, refused),
            (430.0, done),
            (431.0, refused),
            (730.0, done),
        )
    ]

    assert starts == [[HEAP], [HEAP], [HEAP + PAGE], [HEAP], [HEAP + PAGE]]


def test_pages_that_may_not_move_for_one_process_alone_may_for_all_who_map_them():
    one = process(regions=regions({0: 100}, mapmax=2, backing=7))
    alone = move(one)
    for_all = replace(alone, among=(one.key, process(2).key))
    policy = Wishes(alone)
    guard = Guard(policy, Limits(1e6, backoff_s=30))
    guard.decide(snapshot(99.0))

    turn(guard, 100.0, one, stays([0], EACCES=1))
    still_alone = turn(guard, 101.0, one, Outcome(Ending.DONE))
    policy.moves = (for_all,)
    for_all_of_them = turn(guard, 102.0, one, stays([0]))
    stayed_once = turn(guard, 133.0, one, Outcome(Ending.DONE))

    assert still_alone.moves[0].start.tolist() == [HEAP + PAGE]
    assert for_all_of_them.moves[0].start.tolist() == stayed_once.moves[0].start.tolist() == [HEAP]


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


def tasks_of(one, node=1):
    return MoveTasks(one.key, (node,), Reason.TASKS_FOLLOW_MEMORY)


def guarded_tasks(*wishes, **limits):
    return Guard(Wishes(task_moves=wishes), Limits(tasks=True, **limits))


def task_turn(guard, time_s, one, outcome):
    """Go round once; the moves of tasks end as told. Give the plan."""
    seen = snapshot(time_s, processes=[one])
    plan = guard.decide(seen)
    guard.review(Tick(seen, plan, (), (outcome,) * len(plan.task_moves)))
    return plan


def test_threads_are_moved_only_where_the_profile_says_so():
    one = process()
    wish = tasks_of(one)

    plans = [
        Guard(Wishes(task_moves=(wish,)), Limits(tasks=tasks)).decide(snapshot(0.0, processes=[one]))
        for tasks in (False, True)
    ]

    assert [plan.task_moves for plan in plans] == [(), (wish,)]
    assert plans[0].held == (Held(one.key, 0, Refusal.TASKS),)


def test_threads_are_moved_only_to_nodes_that_the_process_may_use():
    one, gone = process(nodes_allowed=(0,)), process(2)

    plan = guarded_tasks(tasks_of(one), tasks_of(gone)).decide(snapshot(processes=[one]))

    assert not plan.task_moves
    assert plan.held == (Held(one.key, 0, Refusal.NOT_ALLOWED),)


def test_threads_that_may_not_be_moved_are_left_alone_for_twice_as_long_each_time():
    one = process()
    guard = guarded_tasks(tasks_of(one), backoff_s=10)
    no = Outcome(Ending.REFUSED)

    granted = [time_s for time_s in range(100, 180) if task_turn(guard, float(time_s), one, no).task_moves]

    assert granted == [100, 110, 130, 170]


def test_threads_are_moved_elsewhere_only_after_the_cooldown():
    one = process()
    guard = guarded_tasks(tasks_of(one), cooldown_s=10)
    task_turn(guard, 100.0, one, Outcome(Ending.DONE, moved_threads=4))
    guard._policy.task_moves = (tasks_of(one, 0),)  # noqa: SLF001 - our own Wishes

    plans = [task_turn(guard, time_s, one, Outcome(Ending.DONE)) for time_s in (109.0, 110.0)]

    assert [whys(plan) for plan in plans] == [[Refusal.COOLDOWN], []]
    assert plans[0].held[0].figures == {"wait_s": 1, "reversals": 0}


def test_it_adds_to_what_the_policy_explains_what_it_held_back_and_for_how_long():
    one, other = process(1, pages={0: 100}), process(2, pages={0: 100})
    policy = Wishes(move(one, limit_bytes=MIB), move(other, limit_bytes=MIB))
    policy.explain = {one.key: Explanation(Decision.MOVE)}.get
    guard = Guard(policy, Limits(1e6, backoff_s=30))
    guard.decide(snapshot(99.0))
    seen = snapshot(100.0, processes=[one, other])
    guard.review(Tick(seen, guard.decide(seen), (Outcome(Ending.REFUSED),) * 2))

    guard.decide(snapshot(105.0, processes=[one, other]))

    held = Held(one.key, MIB, Refusal.BACKOFF, {"wait_s": 25, "failures": 1})
    assert guard.explain(one.key) == Explanation(Decision.MOVE, held=(held,))
    assert guard.explain(other.key).decision is Decision.UNTOLD


def test_refused_threads_do_not_keep_pages_from_moving():
    one = process(pages={0: 100})
    guard = Guard(Wishes(move(one), task_moves=(tasks_of(one),)), Limits(1e6, tasks=True))
    guard.decide(snapshot(99.0))
    seen = snapshot(100.0, processes=[one])
    guard.review(Tick(seen, guard.decide(seen), (Outcome(Ending.DONE),), (Outcome(Ending.REFUSED),)))

    plan = guard.decide(snapshot(101.0, processes=[one]))

    assert len(plan.moves) == 1
    assert not plan.task_moves


def test_in_a_dry_run_nothing_is_learnt_of_threads():
    one = process()
    guard = guarded_tasks(tasks_of(one))

    plans = [task_turn(guard, time_s, one, Outcome(Ending.DRY_RUN)) for time_s in (100.0, 101.0)]

    assert [len(plan.task_moves) for plan in plans] == [1, 1]


def after_a_restart(guard, *wishes, task_moves=()):
    """Give a guard that knows what the other one keeps over a restart, and has not looked yet."""
    fresh = Guard(Wishes(*wishes, task_moves=task_moves), Limits(1e6, backoff_s=30, tasks=True))
    fresh.recall(guard.waits())
    return fresh


def test_a_refused_move_is_not_repeated_after_a_restart():
    one = process(pages={0: 100})
    guard = guarded(move(one), limits=Limits(1e6, backoff_s=30))
    turn(guard, 100.0, one, Outcome(Ending.REFUSED))

    fresh = after_a_restart(guard, move(one))
    granted = [t for t in range(105, 195) if turn(fresh, float(t), one, Outcome(Ending.REFUSED)).moves]

    assert granted == [130, 190]


def test_refused_threads_are_not_tried_again_after_a_restart():
    one = process()
    guard = guarded_tasks(tasks_of(one), backoff_s=30)
    task_turn(guard, 100.0, one, Outcome(Ending.REFUSED))

    fresh = after_a_restart(guard, task_moves=(tasks_of(one),))
    plans = [task_turn(fresh, time_s, one, Outcome(Ending.DONE)) for time_s in (129.0, 130.0)]

    assert [whys(plan) for plan in plans] == [[Refusal.BACKOFF], []]


def test_what_was_moved_cools_down_over_a_restart_even_if_it_is_not_seen_at_once():
    one = process(pages={0: 100, 1: 100})
    guard = guarded(move(one), limits=Limits(1e6, cooldown_s=10))
    turn(guard, 100.0, one, Outcome(Ending.DONE, moved_bytes=PAGE))

    fresh = after_a_restart(guard, move(one, sources=(1,), targets=(0,)))
    fresh.decide(snapshot(101.0))
    plans = [turn(fresh, time_s, one, Outcome(Ending.DONE)) for time_s in (109.0, 110.0)]

    assert [len(plan.moves) for plan in plans] == [0, 1]


def test_only_those_that_have_to_wait_are_kept_over_a_restart():
    one = process(pages={0: 100})
    guard = guarded(move(one), limits=Limits(1e6, backoff_s=30))
    turn(guard, 100.0, one, Outcome(Ending.REFUSED))
    waiting = guard.waits()

    turn(guard, 131.0, one, Outcome(Ending.DONE))

    assert waiting == Waits(pages=((one.key, Wait(failures=1, quiet_until_s=130.0)),))
    assert guard.waits() == Waits()


def test_a_process_that_is_gone_is_forgotten_once_it_need_not_wait():
    one = process(pages={0: 100})
    guard = guarded(move(one), limits=Limits(1e6, backoff_s=30))
    turn(guard, 100.0, one, Outcome(Ending.REFUSED))

    guard.decide(snapshot(131.0))

    assert turn(guard, 132.0, one, Outcome(Ending.REFUSED)).moves
    assert guard.waits().pages[0][1].failures == 1
