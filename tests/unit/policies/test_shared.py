# SPDX-License-Identifier: Apache-2.0

"""What processes share goes to whoever uses it, once, for all of them; or stays while nobody can say who does."""

from dataclasses import replace

import numpy as np
import pytest

from numad_py import prices
from numad_py.model import Accesses, AccessSource, Ending, Outcome, Reason, RegionKind, ThreadGroup, Threads
from numad_py.policies import shared
from numad_py.policies.threshold import Threshold, ThresholdParameters
from tests.builders import GIB, HEAP, MIB, job, process, regions, snapshot, threads, tick, topology

MB = 32
PAGES = MB * MIB // 4096
HALF = MB * MIB // 2
ALL = ((0, MB * MIB),)
LOW, HIGH = ((0, HALF),), ((HALF, 2 * HALF),)
FAR = 1 << 40


def worker(
    pid, node, *, reads=None, at=HEAP, pages=None, kind=RegionKind.ANON, source=AccessSource.DAMON, **more
):
    """Give a process that ran on a node, and maps what others map too; ``reads`` is what it was seen to, in ranges."""
    held = regions(pages or {0: PAGES}, start=at, kind=kind, mapmax=2, backing=5)
    one = process(pid, regions=held, cpu_s={} if node is None else {node: 0.9}, **more)
    return one if reads is None else replace(one, accesses=accesses(reads, at, source))


def accesses(reads, at, source, node=None, each=10):
    start, end = np.array(reads, np.int64).reshape(-1, 2).T + at
    counts = np.full((len(start), 1), each)
    group = ThreadGroup(node, np.array([1]), np.array([0.5, 0.5]))
    checks = 10 if source is AccessSource.DAMON else None
    return Accesses(source, (group,), start.astype(np.uint64), end.astype(np.uint64), counts, checks, 10.0)


def halves(**more):
    return worker(1000, 0, reads=LOW, **more), worker(1001, 1, reads=HIGH, **more)


def policy(**rules):
    return Threshold(ThresholdParameters(**{"patience": 1, **rules}))


def ranges(move, at=HEAP):
    return [(start - at, end - at) for start, end in zip(move.start.tolist(), move.end.tolist(), strict=True)]


def wishes(plan):
    """Give who is to move what, where to, and how much of it."""
    return [(move.process.pid, ranges(move), move.targets, move.limit_bytes) for move in plan.moves]


def test_each_half_of_what_is_shared_goes_to_the_node_of_its_reader():
    one, other = halves()

    plan = policy().decide(snapshot(processes=[one, other]))

    assert wishes(plan) == [(1001, list(HIGH), (1,), HALF)]
    (move,) = plan.moves
    assert move.among == (one.key, other.key)
    assert move.sources == (0,)
    cost_ns, saving_ns_per_s = HALF * prices.move_ns_per_byte(4096), 0.3 * (1.6 - 1) * 1e9
    assert move.figures == pytest.approx(
        {
            "access_share": 1.0,
            "remote_mb": HALF / MIB,
            "processes": 2.0,
            "saving_ns_per_s": saving_ns_per_s,
            "cost_ns": cost_ns,
            "payback_s": cost_ns / saving_ns_per_s,
        }
    )


def test_halves_that_lie_crosswise_are_moved_though_as_much_is_on_each_node_as_belongs_there():
    evenly = {0: PAGES // 2, 1: PAGES // 2}

    plan = policy().decide(snapshot(processes=halves(pages=evenly)))

    assert sorted(wishes(plan)) == [(1000, list(LOW), (0,), HALF), (1001, list(HIGH), (1,), HALF)]


def test_who_has_a_file_at_another_address_is_asked_for_what_it_has_there():
    one = worker(1000, 0, reads=ALL, kind=RegionKind.FILE, pages={1: PAGES})
    other = worker(1001, 0, at=FAR, kind=RegionKind.FILE, pages={1: PAGES})
    other = replace(other, accesses=accesses(HIGH, FAR, AccessSource.DAMON, each=20))

    first, second = policy().decide(snapshot(processes=[one, other])).moves

    assert (first.process.pid, ranges(first)) == (1000, list(LOW))
    assert (second.process.pid, ranges(second, FAR)) == (1001, list(HIGH))


def test_what_was_told_once_holds_and_what_was_dealt_with_is_not_asked_for_again_for_a_while():
    threshold, seen = policy(), snapshot(1.0, processes=halves())
    later = [replace(each, accesses=None) for each in seen.processes]

    plan = threshold.decide(seen)
    threshold.review(tick(seen, moves=plan.moves, outcomes=[Outcome(Ending.LIMIT, HALF // 2)]))
    again = threshold.decide(snapshot(2.0, processes=later))
    threshold.review(tick(snapshot(2.0, processes=later), moves=again.moves))
    done = threshold.decide(snapshot(3.0, processes=later))
    late = threshold.decide(snapshot(3.0 + shared.AGAIN_S, processes=later))

    assert wishes(again) == wishes(late) == wishes(plan)
    assert done.moves == ()


def test_a_reader_that_settles_elsewhere_has_its_part_brought_there():
    threshold, (one, other) = policy(patience=2), halves()
    elsewhere = worker(1001, 0, pages={0: PAGES // 2, 1: PAGES // 2})
    for time_s in (1.0, 2.0):
        plan = threshold.decide(snapshot(time_s, processes=[one, other]))

    not_yet = threshold.decide(snapshot(3.0, processes=[one, elsewhere]))
    settled = threshold.decide(snapshot(4.0, processes=[one, elsewhere]))

    assert [move.targets for move in plan.moves] == [(1,)]
    assert not_yet.moves == ()
    assert [(move.process.pid, ranges(move), move.targets) for move in settled.moves] == [
        (1001, list(HIGH), (0,))
    ]


@pytest.mark.parametrize(
    "second",
    [
        worker(1001, 1, reads=ALL),
        worker(1001, 1),
        worker(1001, 1, reads=HIGH, source=AccessSource.IDLE_PAGES),
        process(1001, regions=worker(1001, 1).regions, cpu_s={0: 0.5, 1: 0.5}),
    ],
    ids=["read by both", "nothing told", "nobody named", "on several nodes"],
)
def test_what_cannot_be_said_to_be_used_from_one_node_stays(second):
    first = worker(1000, 0, reads=ALL if second.accesses and second.accesses.checks else None)

    plan = policy().decide(snapshot(processes=[first, second]))

    assert plan.moves == ()


def test_before_anything_is_told_memory_goes_where_all_run_who_map_it_and_one_that_sleeps_does_not_count():
    threshold, asleep, awake = policy(), worker(999, None), [worker(1000, 1), worker(1001, 1)]

    at_once = policy().decide(snapshot(1.0, processes=awake))
    early = threshold.decide(snapshot(1.0, processes=[asleep, *awake]))
    late = threshold.decide(snapshot(1.0 + shared.UNDECIDED_S, processes=[asleep, *awake]))

    assert early.moves == ()
    assert wishes(at_once) == wishes(late) == [(1000, list(ALL), (1,), MB * MIB)]


def test_memory_whose_processes_all_sleep_stays():
    threshold, asleep = policy(), [worker(1000, None), worker(1001, None)]
    threshold.decide(snapshot(1.0, processes=asleep))

    assert threshold.decide(snapshot(1.0 + shared.UNDECIDED_S, processes=asleep)).moves == ()


def test_threads_that_were_told_apart_count_where_they_were_seen():
    one = worker(1000, 0)
    by_threads = accesses(HIGH, HEAP, AccessSource.PEBS, node=1)
    one = replace(one, accesses=by_threads)

    plan = policy().decide(snapshot(processes=[one, worker(1001, 0)]))

    assert wishes(plan) == [(1000, list(HIGH), (1,), HALF)]


def test_threads_that_have_left_the_node_where_they_were_seen_count_where_their_process_is():
    threshold = policy(patience=2)
    seen = accesses(HIGH, HEAP, AccessSource.PEBS, node=1)
    told = [replace(worker(1000, 1), accesses=seen), worker(1001, 1)]
    told[0].accesses.groups[0].tid[:] = told[0].threads.tid
    later = [worker(1000, 0, pages={1: PAGES}), worker(1001, 0, pages={1: PAGES})]
    unread = [replace(each, threads=threads({}), cpu_age_s=1.0) for each in later]

    plans = [
        threshold.decide(snapshot(time_s, processes=looked))
        for time_s, looked in [(1.0, told), (2.0, later), (3.0, later), (4.0, unread)]
    ]

    brought_home = [(1000, list(HIGH), (0,), HALF)]
    assert [wishes(plan) for plan in plans] == [
        [(1000, list(HIGH), (1,), HALF)],
        [],
        brought_home,
        brought_home,
    ]


@pytest.mark.parametrize(("cpu_s", "moves"), [(0.9, False), (0.2, True)], ids=["much", "little"])
def test_what_was_told_holds_while_those_who_came_later_use_little(cpu_s, moves):
    """One told of at little use does not outvote them, nor does it go where only some of them are."""
    threshold = policy()
    one = worker(1000, 0, pages={1: PAGES})
    threshold.decide(snapshot(1.0, processes=[replace(one, accesses=accesses(ALL, HEAP, AccessSource.PEBS))]))
    late = process(1001, regions=one.regions, cpu_s={1: cpu_s})

    for time_s in (2.0, 3.0):  # at first they are taken to have run all the time
        plan = threshold.decide(snapshot(time_s, processes=[one, late]))

    assert [(move.process.pid, move.targets) for move in plan.moves if move.among] == [(1000, (0,))] * moves


def test_who_came_later_and_maps_something_else_does_not_count_against_what_was_told():
    threshold, (one, other) = policy(), halves()
    threshold.decide(snapshot(1.0, processes=[one, other]))
    elsewhere = regions({0: PAGES}, start=FAR, mapmax=2, backing=6)
    others = [process(pid, regions=elsewhere, cpu_s={pid % 2: 9.0}) for pid in (2000, 2001)]

    plan = threshold.decide(
        snapshot(2.0, processes=[replace(one, accesses=None), replace(other, accesses=None), *others])
    )

    assert wishes(plan) == [(1001, list(HIGH), (1,), HALF)]


@pytest.mark.parametrize(("cpu_s", "moves"), [(0.06, False), (0.9, True)])
@pytest.mark.parametrize("reads", [None, ((0, 20 * GIB),)], ids=["untold", "told"])
def test_what_would_not_pay_for_itself_soon_stays(cpu_s, moves, reads):
    held = {0: 20 * GIB // 4096}
    both = [
        replace(worker(pid, 1, reads=reads, pages=held), threads=threads({1: cpu_s})) for pid in (1000, 1001)
    ]

    threshold = policy()
    for time_s in (1.0, 2.0):  # at first they are taken to have run all the time
        plan = threshold.decide(snapshot(time_s, processes=both))

    assert [move.targets for move in plan.moves] == [(1,)] * moves


def test_a_part_pays_by_what_it_is_used_among_all_that_its_user_has():
    """Nearly all of what one was seen to reach for is its own."""
    held = {0: 20 * GIB // 4096}
    both = [worker(pid, 1, pages=held) for pid in (1000, 1001)]
    far, near = ((FAR, FAR + 20 * GIB),), ((0, 20 * GIB),)
    seen = replace(accesses((*near, *far), HEAP, AccessSource.PEBS), counts=np.array([[1], [99]]))

    plan = policy().decide(snapshot(processes=[replace(each, accesses=seen) for each in both]))

    assert plan.moves == ()


def test_what_is_on_its_way_waits_while_its_users_sleep_and_goes_on_once_they_run():
    threshold, awake = policy(), [worker(1000, 1), worker(1001, 1)]
    unread = [replace(each, threads=threads({}), cpu_age_s=1.0) for each in awake]
    asleep = [worker(1000, None), worker(1001, None)]

    plans = [
        threshold.decide(snapshot(float(time_s), processes=looked))
        for time_s, looked in enumerate([awake, unread, asleep, asleep, awake])
    ]

    assert [len(plan.moves) for plan in plans] == [1, 1, 0, 0, 1]


def test_samples_count_as_many_however_large_their_region():
    few = replace(worker(1000, 0), accesses=accesses(ALL, HEAP, AccessSource.PEBS, each=10))
    many = replace(worker(1001, 1), accesses=accesses(HIGH, HEAP, AccessSource.PEBS, each=100))

    plan = policy().decide(snapshot(processes=[few, many]))

    assert wishes(plan) == [(1001, list(HIGH), (1,), HALF)]


def test_too_little_to_be_worth_it_stays():
    for least_mb in (MB, 2 * MB):
        plan = policy(least_remote_mb=least_mb).decide(snapshot(processes=halves()))

        assert plan.moves == ()


def test_what_nobody_decided_on_is_left_to_each_process_after_a_while():
    threshold = policy()
    both = [worker(1000, 0), worker(1001, 1)]

    early = threshold.decide(snapshot(1.0, processes=both))
    late = threshold.decide(snapshot(1.0 + shared.UNDECIDED_S, processes=both))

    assert early.moves == ()
    assert [(move.process.pid, move.among) for move in late.moves] == [(1001, ())]


def test_what_is_decided_on_is_left_out_of_what_a_process_has_moved_for_itself():
    one, other = halves()
    own = regions({0: PAGES}, {0: 2 * PAGES}, backing=5, mapmax=2)
    own.backing[1] = own.offset[1] = 0
    other = replace(other, regions=own)

    plan = policy().decide(snapshot(processes=[one, other]))

    alone = [move for move in plan.moves if not move.among]
    assert [ranges(move) for move in alone] == [[(MB * MIB + MIB, 3 * MB * MIB + MIB)]]


def test_jobs_do_not_mix():
    """The second job maps a file of the same number, and nothing was told of it."""
    others = job(worker(2000, 0), worker(2001, 1), cgroup_id=2)

    plan = policy().decide(snapshot(jobs=[job(*halves()), others]))

    assert [move.process.pid for move in plan.moves] == [1001]


def test_nothing_seen_at_all_of_any_process_moves_nothing():
    one, other = worker(1000, 0, reads=()), worker(1001, 1, reads=())

    assert policy().decide(snapshot(processes=[one, other])).moves == ()


def test_what_several_nodes_use_hard_is_spread_though_not_every_look_reads_who_uses_it():
    on, threshold = topology(cpus=10), policy(patience=2, at_once_within_s=0.0)
    readers = [busy(1000, 0, on), busy(1001, 1, on)]
    unread = [replace(each, threads=threads({}, on), cpu_age_s=1.0) for each in readers]
    news = process(7, pages={0: 1}, cpu_s={0: 0.01}, on=on)  # so that every look is weighed

    plans = []
    for time_s in range(40):
        seen = [*(unread if time_s % 2 else readers), replace(news, cpu_age_s=0.0)]
        plans.append(threshold.decide(snapshot(float(time_s), processes=seen, on=on)))

    late = [[(move.reason, move.among != ()) for move in plan.moves] for plan in plans[-4:]]
    assert late == [[(Reason.SPREAD, True)]] * 4


def busy(pid, node, on):
    """Give one that keeps eight cores of a node busy with memory that others map too."""
    first = on.nodes[node].cpus[0]
    ran = Threads(np.arange(pid, pid + 8), np.arange(first, first + 8), np.full(8, 1.98))  # in two seconds
    return process(pid, regions=regions({0: PAGES}, mapmax=2, backing=5, on=on), threads=ran, on=on)


def test_a_node_that_is_gone_has_no_part_in_it_and_who_ran_there_begins_anew():
    on, threshold = topology(3), policy()
    one = replace(worker(1000, 0), accesses=accesses(HIGH, HEAP, AccessSource.PEBS, node=2))
    large = [
        replace(each, regions=regions({0: PAGES}, mapmax=2, backing=5, on=on), nodes_allowed=(0, 1, 2))
        for each in (one, worker(1001, 0))
    ]
    before = threshold.decide(snapshot(1.0, processes=large, on=on))

    after = threshold.decide(snapshot(2.0, processes=[replace(one, accesses=None), worker(1001, 0)]))

    assert [move.targets for move in before.moves] == [(2,)]
    assert after.moves == ()


@pytest.mark.parametrize(("born_s", "targets"), [(2.0, []), (8.0, [(1,)])], ids=["before", "meanwhile"])
def test_who_came_while_others_were_watched_came_later(born_s, targets):
    """Of workers of a watched parent nothing is told, if they were not there when it began; else that they use nothing."""
    threshold, parent = policy(), process(1000, regions=worker(1000, 0).regions, cpu_s={0: 0.02})
    told = replace(parent, accesses=accesses(ALL, HEAP, AccessSource.PEBS))
    workers = [worker(1001 + index, 1) for index in range(4)]

    for time_s in range(1, 45):
        seen = [told if time_s == 13 else parent, *(workers if time_s >= born_s else ())]
        plan = threshold.decide(snapshot(float(time_s), processes=seen))

    assert [move.targets for move in plan.moves if move.among] == targets
