# SPDX-License-Identifier: Apache-2.0

"""Threads that run here and there are bound to one node, and their memory follows: where a profile lets tasks move."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numad_py import profiles
from numad_py.guard import Limits
from numad_py.model import Ending, Mempolicy, Outcome, Reason, Refusal, Threads
from numad_py.policies.threshold import Threshold, ThresholdParameters
from numad_py.profile import Profile
from numad_py.topology import Device, DeviceKind
from tests.builders import GIB, job, node_memory, process, regions, snapshot, tick, topology

ON = topology(cpus=4, node_bytes=64 * GIB)
GPU = "0000:3b:00.0"
ON_WITH_GPU = replace(ON, devices=(Device(GPU, DeviceKind.GPU, 0),))
PAGES = {0: 20_000, 1: 80_000}
DONE = Outcome(Ending.DONE, moved_threads=2)


def running(*cpus, pid=1000, pages=PAGES, share=0.9, **more):
    """Give a process with a thread on each of these CPUs; node 0 has 0 to 3, node 1 has 4 to 7."""
    tids = np.arange(pid, pid + len(cpus), dtype=np.int64)
    threads = Threads(tids, np.array(cpus, np.int64), np.full(len(cpus), share))
    return process(pid, pages=pages, threads=threads, on=ON, **more)


WANDERS = running(0, 4)
NO_THREADS = running().threads


class Machine:
    """A policy, and the looks that it is given, a second apart, each with what comes of its plan."""

    def __init__(self, *, on=ON, memory=None, tasks=True, **rules):
        self.policy = Threshold(ThresholdParameters(**rules), tasks=tasks)
        self.on, self.memory, self.now_s = on, memory or node_memory(on=on), 100.0

    def look(self, *processes, outcome=DONE, jobs=()):
        seen = snapshot(self.now_s, processes=processes, jobs=jobs, on=self.on, memory=self.memory)
        self.now_s += 1.0
        plan = self.policy.decide(seen)
        pages = [Outcome(Ending.DRY_RUN) for _ in plan.moves]
        tasks = [outcome for _ in plan.task_moves]
        self.policy.review(
            tick(seen, moves=plan.moves, outcomes=pages, task_moves=plan.task_moves, task_outcomes=tasks)
        )
        return plan


def bound(plan):
    return [(move.process.pid, move.nodes) for move in plan.task_moves]


def test_threads_that_run_here_and_there_are_bound_to_the_node_of_most_memory_at_the_second_look():
    machine = Machine()

    plans = [machine.look(WANDERS) for _ in range(3)]

    assert [bound(plan) for plan in plans] == [[], [(1000, (1,))], []]
    (move,) = plans[1].task_moves
    assert move.reason is Reason.TASKS_FOLLOW_MEMORY
    assert (move.figures["threads"], move.figures["remote_share"]) == (2.0, pytest.approx(0.5))


def test_their_memory_follows_at_the_next_look():
    machine = Machine()
    for _ in range(2):
        machine.look(WANDERS)

    plan = machine.look(running(4, 5))

    assert [(move.sources, move.targets) for move in plan.moves] == [((0,), (1,))]


def test_of_two_nodes_that_save_nearly_the_same_it_is_the_one_to_which_less_has_to_come():
    own_and_bound = regions({0: 40_000}, {1: 2_000}, on=ON)
    policies = np.array([Mempolicy.DEFAULT, Mempolicy.BIND])
    wanders = replace(WANDERS, regions=replace(own_and_bound, mempolicy=policies))
    machine = Machine()

    plans = [machine.look(wanders) for _ in range(2)]

    assert bound(plans[1]) == [(1000, (0,))]


def test_where_tasks_may_not_move_none_is_wished_for():
    machine = Machine(tasks=False)

    assert [bound(machine.look(WANDERS)) for _ in range(4)] == [[]] * 4


@pytest.mark.parametrize("tasks", [False, True])
def test_it_is_the_guard_of_a_profile_that_lets_tasks_move(tasks):
    policy = profiles.build(Profile("mine", "threshold", ThresholdParameters(), Limits(tasks=tasks)))

    plans = [policy.decide(snapshot(100.0 + second, processes=[WANDERS], on=ON)) for second in range(3)]

    assert [bool(plan.task_moves) for plan in plans] == [False, tasks, tasks]
    assert [held.why for plan in plans for held in plan.held] == []


def test_a_process_that_uses_a_gpu_is_bound_to_its_node():
    machine = Machine(on=ON_WITH_GPU)
    rank = replace(WANDERS, gpus=(GPU,))

    machine.look(rank)

    assert bound(machine.look(rank)) == [(1000, (0,))]


def test_a_gpu_on_a_node_that_the_cpuset_forbids_does_not_count():
    on = topology(nodes=3, cpus=4, node_bytes=64 * GIB)
    machine = Machine(on=replace(on, devices=(Device(GPU, DeviceKind.GPU, 2),)))
    threads = Threads(np.arange(2), np.array([0, 4]), np.array([0.9, 0.9]))
    rank = replace(process(pages=PAGES, threads=threads, nodes_allowed=(0, 1), on=on), gpus=(GPU,))

    machine.look(rank)

    assert bound(machine.look(rank)) == [(1000, (1,))]


def test_one_that_settles_after_a_look_elsewhere_is_followed_by_its_memory_and_not_bound():
    machine = Machine()
    plans = [machine.look(WANDERS), *(machine.look(running(0, 1)) for _ in range(5))]

    assert [bound(plan) for plan in plans] == [[]] * 6
    assert [move.targets for move in plans[-1].moves] == [(0,)]


def test_one_that_changes_its_node_every_other_look_wanders_though_each_look_has_a_home():
    machine = Machine(at_once_within_s=0.0)
    here, there = running(0, 1), running(4, 5)

    plans = [machine.look(each) for each in (here, here, there, there) * 3]

    assert [found for plan in plans for found in bound(plan)] == [(1000, (1,))]


def test_where_memory_that_settled_elsewhere_finds_no_room_its_threads_come_to_it():
    full = node_memory(free={0: 0, 1: 32 * GIB}, on=ON)
    machine, roomy = Machine(memory=full), Machine()

    plans = [[each.look(running(0, 1)) for _ in range(3)] for each in (machine, roomy)]

    assert [[found for plan in seen for found in bound(plan)] for seen in plans] == [[(1000, (1,))], []]


def test_two_that_lie_on_each_others_full_nodes_change_places_at_once():
    full = node_memory(free={0: 0, 1: 0}, on=ON)
    for tenth in range(1, 10):
        machine = Machine(memory=full)
        for look in range(2):
            share = (tenth + look / 7) / 11  # of which sums are not exact
            one = running(0, 1, pages={1: 90_000}, share=share)
            plan = machine.look(one, running(4, 5, pid=2000, pages={0: 90_000}, share=share))
        assert sorted(bound(plan)) == [(1000, (1,)), (2000, (0,))]


def test_threads_that_would_need_siblings_stay_and_it_is_told_why():
    machine = Machine()
    other = running(4, 5, 6, pid=2000, pages={1: 50_000})
    machine.look(other, running(0, 4))

    plan = machine.look(other, replace(running(0, 4), nodes_allowed=(1, 0)))

    assert bound(plan) == [(1000, (0,))]  # node 1 has one core free, node 0 three
    crowded = Machine()
    everywhere = running(0, 1, 4, 5, 6, pid=3000, pages={1: 50_000})
    crowded.look(everywhere)
    (held,) = crowded.look(everywhere).held
    assert (held.process.pid, held.why, held.figures["threads"]) == (3000, Refusal.NO_ROOM, 5.0)


def test_the_most_threads_it_ran_lately_count():
    machine = Machine()
    many, few = running(0, 1, 4, 5, 6), running(0, 4)
    machine.look(many)

    assert [bound(machine.look(few)) for _ in range(3)] == [[]] * 3


def test_workers_of_one_job_are_spread_over_the_nodes():
    machine, on_node = Machine(), {}

    for look in range(8):
        nodes = [on_node.get(1000 + 10 * index, look % 2) for index in range(4)]
        workers = [
            running(4 * node + index, pid=1000 + 10 * index, pages={0: 50_000})
            for index, node in enumerate(nodes)
        ]
        on_node |= {pid: nodes[0] for pid, nodes in bound(machine.look(*workers))}

    assert sorted(on_node.values()) == [0, 0, 1, 1]


def epyc():
    """Give two packages of two nodes with eight cores each, and distances as an EPYC has them."""
    near, far = (10, 12, 32, 32), (12, 10, 32, 32)
    mirrored = tuple((*row[2:], *row[:2]) for row in (near, far))
    return replace(topology(nodes=4, cpus=8, node_bytes=64 * GIB), distances=(near, far, *mirrored))


def wide(*by_node, pid=1000, pages=None, nodes_allowed=(0, 1, 2, 3)):
    """Give a process on an EPYC with so many threads on each node."""
    cpus = np.array(
        [8 * node + index for node, many in enumerate(by_node) for index in range(many)], np.int64
    )
    threads = Threads(np.arange(pid, pid + len(cpus)), cpus, np.full(len(cpus), 0.9))
    pages = pages or {0: 90_000, 2: 10_000}
    return process(pid, pages=pages, threads=threads, on=epyc(), nodes_allowed=nodes_allowed)


def test_one_with_more_threads_than_a_node_has_cores_is_bound_to_the_package_of_most_memory():
    machine = Machine(on=epyc())

    plans = [machine.look(wide(3, 3, 2, 2)) for _ in range(3)]

    assert [bound(plan) for plan in plans] == [[], [(1000, (0, 1))], []]
    assert machine.policy.explain(wide().key).notes == ("its threads were bound to nodes 0, 1",)


def test_what_it_uses_hard_is_spread_over_its_package_alone():
    machine = Machine(on=epyc())
    plans = [machine.look(wide(3, 3, 3, 3, pages={0: 90_000})) for _ in range(2)]

    after = [machine.look(wide(6, 6, pages={0: 90_000})) for _ in range(3)]

    assert [bound(plan) for plan in plans] == [[], [(1000, (0, 1))]]
    assert [plan.moves for plan in plans] == [(), ()]
    assert {move.targets for plan in after for move in plan.moves} == {(0, 1)}


def test_what_no_package_has_cores_for_is_spread_over_all_of_them():
    machine = Machine(on=epyc())

    plans = [machine.look(wide(5, 5, 5, 5, pages={0: 90_000})) for _ in range(4)]

    assert [bound(plan) for plan in plans] == [[]] * 4
    assert {move.targets for plan in plans for move in plan.moves} == {(0, 1, 2, 3)}


def test_memory_that_is_as_far_from_either_package_binds_nobody():
    machine = Machine(on=epyc())

    plans = [machine.look(wide(3, 3, 3, 3, pages={0: 45_000, 2: 45_000})) for _ in range(4)]

    assert [bound(plan) for plan in plans] == [[]] * 4


def test_a_package_whose_cores_others_use_takes_nobody_and_it_is_told_why():
    machine = Machine(on=epyc())
    other = wide(4, 4, pid=2000, pages={0: 1000})
    machine.look(other, wide(3, 3, 2, 2))

    plan = machine.look(other, wide(3, 3, 2, 2))

    assert bound(plan) == []
    assert [(held.process.pid, held.why, held.figures["threads"]) for held in plan.held] == [
        (1000, Refusal.NO_ROOM, 10.0)
    ]
    assert machine.policy.explain(wide().key).notes == (
        "its threads should run on one node or package alone, and none has enough cores free",
    )


def test_children_that_crowd_a_package_get_other_cpus_too():
    machine = Machine(on=epyc())
    for _ in range(2):
        machine.look(wide(3, 3, 2, 2))
    children = [wide(4, pid=2000 + 10 * index, pages={0: 1000}) for index in range(3)]

    plans = [machine.look(wide(5, 5), *children) for _ in range(4)]

    assert [bound(plan) for plan in plans] == [[], [], [(1000, (0, 1, 2, 3))], []]
    assert plans[2].task_moves[0].figures == {"threads": 10.0, "cores": 16.0}


def test_beside_one_that_is_bound_to_a_node_of_its_package_it_stays_bound():
    machine = Machine(on=epyc())
    small, settled = wide(3, 3, pid=2000, pages={0: 90_000}), wide(6, pid=2000, pages={0: 90_000})
    for _ in range(2):
        machine.look(small)
    first, second = (bound(machine.look(settled, wide(2, 2, 2, 2))) for _ in range(2))

    plans = [machine.look(settled, wide(2, 6)) for _ in range(5)]

    assert (first, second) == ([], [(1000, (0, 1))])
    assert [bound(plan) for plan in plans] == [[]] * 5


def test_a_child_that_runs_all_over_the_package_of_its_parent_counts_there():
    machine = Machine(on=epyc())
    for _ in range(2):
        machine.look(wide(3, 3, 2, 2))
    child, grown = wide(2, pid=2000, pages={0: 1000}), wide(4, 4, pid=2000, pages={0: 1000})
    machine.look(wide(5, 5), child)

    plans = [machine.look(wide(5, 5), grown) for _ in range(4)]

    assert [bound(plan) for plan in plans] == [[], [], [(1000, (0, 1, 2, 3))], []]


def test_with_a_gpu_it_is_bound_to_the_package_of_that():
    machine = Machine(on=replace(epyc(), devices=(Device(GPU, DeviceKind.GPU, 3),)))
    rank = replace(wide(3, 3, 2, 2, pages={0: 30_000, 3: 70_000}), gpus=(GPU,))

    machine.look(rank)

    assert bound(machine.look(rank)) == [(1000, (2, 3))]


def test_within_one_package_it_stays_as_it_is():
    machine = Machine(on=epyc())
    held = wide(5, 5, nodes_allowed=(0, 1))

    assert [bound(machine.look(held)) for _ in range(3)] == [[]] * 3


def test_children_of_one_that_is_bound_get_other_cpus_too_where_they_crowd_its_node():
    machine = Machine()
    for _ in range(2):
        machine.look(WANDERS)
    children = [running(4 + index, pid=2000 + 10 * index) for index in range(4)]

    plans = [machine.look(running(4, 5), *children) for _ in range(4)]

    assert [bound(plan) for plan in plans] == [[], [], [(1000, (0, 1))], []]
    assert plans[2].task_moves[0].reason is Reason.SPREAD
    more = [running(4 + index % 4, pid=3000 + 10 * index) for index in range(4)]
    plans = [machine.look(*children, *more) for _ in range(4)]
    assert [len(bound(plan)) for plan in plans] == [0, 0, 0, 0]  # nobody is bound any more who had these


def test_what_nobody_may_bind_gets_its_memory_as_if_nothing_had_been_tried():
    machine = Machine(memory=node_memory(free={0: 16 * GIB // 100, 1: 32 * GIB}, on=ON))
    refused = Outcome(Ending.REFUSED, detail="no thread of it may be moved")
    settled = running(0, 1)

    plans = [machine.look(settled, outcome=refused) for _ in range(4)]

    assert [len(plan.moves) for plan in plans] == [0, 0, 1, 1]


def test_more_threads_than_the_node_has_cores_get_their_other_cpus_back():
    machine = Machine()
    for _ in range(2):
        machine.look(WANDERS)
    many = running(4, 5, 6, 7, 4, 5)

    plans = [machine.look(many) for _ in range(4)]

    assert [bound(plan) for plan in plans] == [[], [], [(1000, (0, 1))], []]
    (back,) = plans[2].task_moves
    assert (back.reason, back.figures) == (Reason.SPREAD, {"threads": 6.0, "cores": 4.0})


def test_threads_are_too_many_for_three_readings_whatever_is_not_read_in_between():
    machine = Machine()
    for _ in range(2):
        machine.look(WANDERS)
    many, beside = running(4, 5, 6, 7, 4, 5), running(0, pid=2000)

    plans = []
    for age_s in (0.0, 1.0, 0.0, 1.0, 0.0, 1.0):
        unread = replace(many, cpu_age_s=age_s, threads=many.threads if not age_s else NO_THREADS)
        plans.append(machine.look(unread, beside))

    assert [bound(plan) for plan in plans] == [[], [], [], [], [(1000, (0, 1))], []]


def test_a_child_that_runs_elsewhere_has_not_inherited_what_its_parent_was_bound_to():
    machine = Machine()
    for _ in range(2):
        machine.look(WANDERS)
    here = [running(4 + index, pid=2000 + 10 * index) for index in range(4)]
    elsewhere = [*here[:2], *(running(index, pid=2000 + 10 * index) for index in (2, 3))]

    plans = [machine.look(running(4, 5), *children) for children in (here, elsewhere, here, here, here)]

    assert [bound(plan) for plan in plans] == [[]] * 5


def test_who_was_bound_and_ended_is_forgotten():
    machine = Machine()
    for _ in range(2):
        machine.look(WANDERS)
    machine.look(running(0, pid=2000))
    many = [running(4 + index % 4, pid=3000 + 10 * index) for index in range(8)]

    plans = [machine.look(*many) for _ in range(4)]

    assert [bound(plan) for plan in plans] == [[]] * 4


def test_who_may_run_on_one_node_only_is_not_bound():
    machine = Machine()
    held = replace(WANDERS, nodes_allowed=(1,))

    assert [bound(machine.look(held)) for _ in range(3)] == [[]] * 3


def test_explain_tells_what_is_to_become_of_the_threads():
    machine, notes = Machine(), []
    for seen in (WANDERS, WANDERS, running(4, 5)):
        machine.look(seen)
        notes += machine.policy.explain(seen.key).notes

    assert notes == [
        "its threads should run on node 1 alone, if that goes on",
        "its threads should run on node 1 alone",
        "its threads were bound to node 1",
    ]


def test_a_share_of_cores_is_between_nothing_and_all():
    with pytest.raises(ValueError, match="fill_cores_share: a share is between 0 and 1"):
        ThresholdParameters(fill_cores_share=1.1)


cpus = st.lists(st.integers(0, 7), max_size=6)


@settings(max_examples=60)
@given(st.lists(st.lists(cpus, min_size=3, max_size=3), min_size=2, max_size=6), st.data())
def test_nobody_is_bound_outside_its_cpuset_nor_where_threads_outnumber_cores(looks, data):
    allowed = [data.draw(st.sampled_from([(0, 1), (0,), (1,)])) for _ in range(3)]
    whose = data.draw(st.sampled_from([(1, 1, 1), (1, 2, 2)]))
    machine, on_node = Machine(), {}
    for look in looks:
        processes = [
            running(
                *(4 * on_node[index] + cpu % 4 if index in on_node else cpu for cpu in each),
                pid=1000 + 10 * index,
                nodes_allowed=allowed[index],
            )
            for index, each in enumerate(look)
        ]
        jobs = [
            job(
                *(one for one, owner in zip(processes, whose, strict=True) if owner == number),
                cgroup_id=number,
            )
            for number in sorted(set(whose))
        ]
        plan = machine.look(jobs=jobs)
        after = [[cpu // 4 for cpu in one.threads.cpu.tolist()] for one in processes]
        for move in plan.task_moves:
            index = (move.process.pid - 1000) // 10
            assert set(move.nodes) <= set(allowed[index])
            if move.reason is Reason.TASKS_FOLLOW_MEMORY:
                on_node[index] = move.nodes[0]
                after[index] = [move.nodes[0]] * len(after[index])
            else:
                on_node.pop(index)
        threads = [node for nodes in after for node in nodes]
        came = {move.nodes[0] for move in plan.task_moves if move.reason is Reason.TASKS_FOLLOW_MEMORY}
        assert all(threads.count(node) <= 4 for node in came)


@pytest.mark.parametrize(
    ("ids", "told"), [((1, 2), True), ((0, 1, 2), True), ((2, 3), False)], ids=["left", "came", "gone"]
)
def test_who_is_bound_is_known_by_its_node_where_others_come_or_go(ids, told):
    machine = Machine()
    for _ in range(2):
        machine.look(WANDERS)
    machine.on = topology(ids=ids, cpus=4, node_bytes=64 * GIB)
    machine.memory = node_memory(on=machine.on)
    one = process(threads=running(0, 1).threads, pages={ids[0]: 100_000}, on=machine.on)

    machine.look(one)

    explained = machine.policy.explain(one.key)
    assert ("its threads were bound to node 1" in explained.notes) == told
