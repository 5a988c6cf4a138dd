# SPDX-License-Identifier: Apache-2.0

"""Threshold brings memory to the CPUs that use it, but never in a hurry and never on a guess."""

from dataclasses import replace

import numpy as np
import pytest

from numad_py.model import (
    Accesses,
    AccessSource,
    Decision,
    Ending,
    Held,
    Mempolicy,
    Outcome,
    Refusal,
    RegionKind,
    ThreadGroup,
    Tick,
)
from numad_py.policies.threshold import Threshold, ThresholdParameters
from tests.builders import MIB, node_memory, process, regions, snapshot, threads, tick, topology

REMOTE = {0: 9000, 1: 1000}
HOME = {0: 0, 1: 10000}


def late_bound(pages=REMOTE, cpu_s=0.9, **more):
    return process(pages=pages, cpu_s={1: cpu_s}, **more)


def plans(policy, *processes, on=None):
    """Show the policy one process a look; give its plans."""
    return [
        policy.decide(snapshot(float(time_s), processes=[one], **({"on": on} if on else {})))
        for time_s, one in enumerate(processes)
    ]


def moved(plan):
    return [(move.sources, move.targets, move.limit_bytes // 4096) for move in plan.moves]


def test_memory_follows_the_cpus_after_some_looks_in_a_row():
    policy = Threshold(ThresholdParameters(patience=3, at_once_within_s=0.0))

    seen = plans(policy, *[late_bound()] * 4)

    assert [moved(plan) for plan in seen] == [[], [], [((0,), (1,), 9000)], [((0,), (1,), 9000)]]


def test_one_local_look_starts_the_wait_again():
    policy = Threshold(ThresholdParameters(patience=2, at_once_within_s=0.0))

    seen = plans(policy, late_bound(), late_bound(HOME), late_bound())

    assert [moved(plan) for plan in seen] == [[], [], []]


def test_what_was_begun_goes_on_below_the_upper_threshold_until_the_lower():
    rules = ThresholdParameters(patience=1, remote_share_above=0.5, remote_share_below=0.1)

    seen = plans(Threshold(rules), late_bound({0: 6, 1: 4}), late_bound({0: 600, 1: 9400}))
    small = plans(
        Threshold(rules), late_bound(), late_bound({0: 2000, 1: 8000}), late_bound({0: 900, 1: 9100})
    )

    assert moved(seen[1]) == []
    assert [len(plan.moves) for plan in small] == [1, 1, 0]


def test_a_process_that_hardly_ran_gives_no_evidence():
    policy = Threshold(ThresholdParameters(patience=1, least_cpu_s=0.05))

    seen = plans(policy, late_bound(cpu_s=0.04), late_bound(cpu_s=0.05))

    assert [len(plan.moves) for plan in seen] == [0, 1]


def test_a_look_without_evidence_leaves_the_count_as_it_was():
    policy = Threshold(ThresholdParameters(patience=2, at_once_within_s=0.0))

    seen = plans(policy, late_bound(), late_bound(cpu_s=0.0), late_bound())

    assert [len(plan.moves) for plan in seen] == [0, 0, 1]


def test_a_process_on_several_nodes_has_no_home():
    policy = Threshold(ThresholdParameters(patience=1, home_cpu_share_above=0.75))

    seen = plans(policy, process(pages=REMOTE, cpu_s={0: 0.3, 1: 0.6}))

    assert not seen[0].moves


def test_little_remote_memory_is_left_alone():
    policy = Threshold(ThresholdParameters(patience=1, least_remote_mb=4))

    seen = plans(policy, late_bound({0: 1023}), late_bound({0: 1024}))

    assert [len(plan.moves) for plan in seen] == [0, 1]


@pytest.mark.parametrize(
    "mempolicy", [Mempolicy.BIND, Mempolicy.PREFERRED, Mempolicy.INTERLEAVE, Mempolicy.OTHER]
)
def test_memory_that_somebody_bound_is_neither_counted_nor_asked_for(mempolicy):
    policy = Threshold(ThresholdParameters(patience=1))
    bound = process(regions=regions(REMOTE, mempolicy=mempolicy), cpu_s={1: 1.0})

    seen = plans(policy, bound)

    assert not seen[0].moves


def test_files_that_others_map_too_stay_where_they_are():
    policy = Threshold(ThresholdParameters(patience=1))
    library = process(regions=regions(REMOTE, kind=RegionKind.FILE, mapmax=7), cpu_s={1: 1.0})
    own_file = process(regions=regions(REMOTE, kind=RegionKind.FILE, mapmax=1), cpu_s={1: 1.0})

    seen = plans(policy, library, own_file)

    assert [len(plan.moves) for plan in seen] == [0, 1]


def with_tier(*, gpu=False, demotes=False):
    """Give a machine whose last two nodes have no CPUs."""
    machine = topology(4, cpuless=(2, 3))
    nodes = tuple(replace(node, gpu=gpu and not node.cpus) for node in machine.nodes)
    return replace(machine, nodes=nodes, demotes=demotes)


@pytest.mark.parametrize(
    ("machine", "sources", "pages"),
    [
        (with_tier(), (0, 2), 7000),
        (with_tier(demotes=True), (0,), 2000),  # what is there, the kernel may have found cold
        (with_tier(gpu=True), (0,), 2000),
    ],
)
def test_memory_on_nodes_without_cpus_comes_home_but_for_a_gpus_and_what_the_kernel_demotes(
    machine, sources, pages
):
    policy = Threshold(ThresholdParameters(patience=1))
    job = process(pages={0: 2000, 2: 5000, 1: 2000}, cpu_s={1: 1.0}, on=machine)

    (plan,) = plans(policy, job, on=machine)

    assert moved(plan) == [(sources, (1,), pages)]


def test_a_node_without_memory_sends_its_processes_to_the_nearest_that_has_some():
    machine = topology(3, remote=21)
    nodes = (machine.nodes[0], machine.nodes[1].__class__(1, machine.nodes[1].cpus, 0), machine.nodes[2])
    machine = machine.__class__(nodes, ((10, 31, 31), (31, 10, 14), (31, 14, 10)), 4096)
    policy = Threshold(ThresholdParameters(patience=1))
    job = process(pages={0: 2000}, cpu_s={1: 1.0}, on=machine)

    (plan,) = plans(policy, job, on=machine)

    assert moved(plan) == [((0,), (2,), 2000)]


def test_only_regions_with_remote_pages_are_named():
    policy = Threshold(ThresholdParameters(patience=1))
    job = process(regions=regions({0: 2000}, {1: 5000}, {0: 1, 1: 1}), cpu_s={1: 1.0})

    (plan,) = plans(policy, job)

    np.testing.assert_array_equal(plan.moves[0].start, job.regions.start[[0, 2]])


def test_the_whole_process_may_go_at_once_only_if_nobody_shares_what_is_remote():
    policy = Threshold(ThresholdParameters(patience=1))
    alone = process(regions=regions({0: 2000}, {1: 5000}), cpu_s={1: 1.0})
    shared = process(regions=regions({0: 2000}, {0: 10}, mapmax=1).take(np.array([0, 1])), cpu_s={1: 1.0})
    shared.regions.mapmax[1] = 2

    seen = plans(policy, alone, shared)

    assert [plan.moves[0].whole for plan in seen] == [True, False]


def test_what_saves_most_for_each_byte_comes_first():
    policy = Threshold(ThresholdParameters(patience=1))
    jobs = [
        process(pid, pages={0: pages}, cpu_s={1: 1.0}) for pid, pages in [(1, 9000), (2, 2000), (3, 2000)]
    ]

    plan = policy.decide(snapshot(processes=jobs))

    assert [move.process.pid for move in plan.moves] == [2, 3, 1]


def test_cpu_time_that_was_not_read_anew_is_no_second_look():
    policy = Threshold(ThresholdParameters(patience=2, at_once_within_s=0.0))
    old = replace(late_bound(), cpu_age_s=1.0)

    seen = plans(policy, late_bound(), old, late_bound())

    assert [len(plan.moves) for plan in seen] == [0, 0, 1]


def test_threads_that_change_places_are_no_job_that_changed_nodes():
    policy = Threshold(ThresholdParameters(patience=1))
    both_credited_to_one = late_bound(cpu_s=2.5)  # of a node with two CPUs, in a second

    seen = plans(policy, late_bound(HOME), both_credited_to_one)

    assert [len(plan.moves) for plan in seen] == [0, 0]
    compared = {each.figure: each for each in policy.explain(late_bound().key).compared}
    assert compared["node_cpu_share"].value > compared["node_cpu_share"].limit_value


def test_who_ran_here_and_there_has_to_be_steady_for_longer():
    policy = Threshold(ThresholdParameters(patience=2, at_once_within_s=0.0))
    on_both = process(pages=REMOTE, cpu_s={0: 0.5, 1: 0.5})

    seen = plans(policy, *[on_both] * 5, *[late_bound()] * 4)

    assert [len(plan.moves) for plan in seen[5:]] == [0, 0, 1, 1]


def test_what_pays_sooner_than_another_look_would_come_is_not_waited_for():
    rules = ThresholdParameters(patience=3, at_once_within_s=1.0)
    dear = late_bound({0: 900_000})

    seen = [plans(Threshold(rules), one, one) for one in (late_bound(), dear)]

    assert [[len(plan.moves) for plan in each] for each in seen] == [[1, 1], [0, 0]]


def test_patience_is_with_who_was_seen_elsewhere_however_soon_it_pays():
    policy = Threshold(ThresholdParameters(patience=2, at_once_within_s=1.0))
    elsewhere = process(pages=HOME, cpu_s={0: 0.9})

    seen = plans(policy, late_bound(HOME), elsewhere, elsewhere)

    assert [len(plan.moves) for plan in seen] == [0, 0, 1]


def test_a_process_that_goes_to_another_node_is_waited_for_again():
    policy = Threshold(ThresholdParameters(patience=2, at_once_within_s=0.0))
    elsewhere = process(pages={1: 10000}, cpu_s={0: 0.9})

    seen = plans(policy, late_bound(), late_bound(), elsewhere, elsewhere, elsewhere)

    assert [len(plan.moves) for plan in seen] == [0, 1, 0, 1, 1]


def test_what_does_not_pay_for_itself_soon_stays():
    policy = Threshold(ThresholdParameters(patience=1, pays_within_s=1.0, least_cpu_s=0.001))

    seen = plans(policy, late_bound(HOME), late_bound(cpu_s=0.01), late_bound(cpu_s=0.9))

    assert [len(plan.moves) for plan in seen] == [0, 0, 1]


def test_what_finds_no_room_is_held_back_and_told():
    policy = Threshold(ThresholdParameters(patience=1))
    full = node_memory(free={0: 0, 1: 8 * MIB + 4096 * 500})

    plan = policy.decide(snapshot(processes=[late_bound()], memory=full))

    assert [move.limit_bytes // 4096 for move in plan.moves] == [500]
    assert not plan.moves[0].whole
    assert [(held.bytes // 4096, held.why) for held in plan.held] == [(8500, Refusal.NO_ROOM)]


def test_two_jobs_on_full_nodes_change_places():
    policy = Threshold(ThresholdParameters(patience=1))
    crossed = [process(1, pages={0: 9000}, cpu_s={1: 0.9}), process(2, pages={1: 8000}, cpu_s={0: 0.9})]

    plan = policy.decide(snapshot(processes=crossed, memory=node_memory(free={0: 0, 1: 0})))

    assert [(move.process.pid, move.limit_bytes // 4096) for move in plan.moves] == [(2, 8000), (1, 8000)]


HALVES = {0: 8000}


def halves(*, told=True, cpu_s=None, pages=HALVES):
    """Give a process whose thread on node 1 uses the upper half of its memory; ``told`` by an investigation."""
    one = process(pages=pages, cpu_s=cpu_s or {0: 0.9, 1: 0.9})
    middle = one.regions.start + (one.regions.end - one.regions.start) // 2
    seen = Accesses(
        AccessSource.DAMON,
        tuple(ThreadGroup(node, np.array([1000 + node]), np.array([0.0, 0.0])) for node in (0, 1)),
        np.concatenate([one.regions.start, middle]),
        np.concatenate([middle, one.regions.end]),
        np.array([[100, 0], [0, 100]]),
        None,
        10.0,
    )
    return replace(one, accesses=seen if told else None)


def test_each_part_goes_to_the_node_whose_threads_were_seen_to_use_it():
    policy = Threshold(ThresholdParameters(patience=2, at_once_within_s=0.0))

    *_, plan = plans(policy, halves(), halves(told=False))

    (move,) = plan.moves
    assert (move.sources, move.targets, move.limit_bytes // 4096, move.whole) == ((0,), (1,), 4000, False)
    assert (int(move.start[0]) - int(halves().regions.start[0])) // 4096 == 4000
    assert move.figures["remote_share"] == 0.5
    told = policy.explain(halves().key)
    assert (told.decision, told.targets) == (Decision.MOVE, (0, 1))
    assert "home_cpu_share" not in {each.figure for each in told.compared}


def test_what_was_told_is_forgotten_once_all_of_it_is_where_it_belongs():
    policy = Threshold(ThresholdParameters(patience=1))
    first = snapshot(0.0, processes=[halves()])
    second = snapshot(1.0, processes=[halves(told=False, pages={0: 4000, 1: 4000})])
    third = snapshot(2.0, processes=[halves(told=False, pages={0: 4000, 1: 4000})])

    policy.review(Tick(first, policy.decide(first), (Outcome(Ending.DEADLINE),)))
    asked_again = policy.decide(second)
    policy.review(Tick(second, asked_again, (Outcome(Ending.DONE),) * len(asked_again.moves)))

    assert [move.targets for move in asked_again.moves] == [
        (0,),
        (1,),
    ]  # counts do not tell which half lies where
    assert not policy.decide(third).moves


def test_threads_that_all_run_on_one_node_have_one_home_whatever_was_told():
    policy = Threshold(ThresholdParameters(patience=1))

    (plan,) = plans(policy, halves(cpu_s={1: 0.9}))

    assert [(move.targets, move.limit_bytes // 4096) for move in plan.moves] == [((1,), 8000)]


def test_what_was_told_of_threads_that_left_their_node_is_not_acted_on():
    policy = Threshold(ThresholdParameters(patience=1))
    changed_places = threads({1: 0.9, 0: 0.9})

    seen = plans(policy, replace(halves(), threads=changed_places))

    assert not seen[0].moves


def test_a_process_that_was_gone_for_a_look_begins_anew():
    policy = Threshold(ThresholdParameters(patience=2, at_once_within_s=0.0))

    seen = plans(policy, late_bound(pid=1), late_bound(pid=2), late_bound(pid=1))

    assert [len(plan.moves) for plan in seen] == [0, 0, 0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"remote_share_above": 1.1},
        {"remote_share_below": 0.5, "remote_share_above": 0.1},
        {"home_cpu_share_above": -0.1},
        {"patience": 0},
        {"at_once_within_s": -1.0},
        {"pays_within_s": -1.0},
        {"room_for_s": -1.0},
    ],
)
def test_parameters_that_make_no_sense_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ThresholdParameters(**wrong)


def explained(policy, *processes):
    """Show the policy one process a look; give what it says of it in the end, and its figures beside their limits."""
    plans(policy, *processes)
    told = policy.explain(processes[-1].key)
    return told, {each.figure: (round(each.value, 3), each.limit, each.limit_value) for each in told.compared}


def test_every_move_carries_the_figures_that_decided_it():
    policy = Threshold(ThresholdParameters(patience=2, at_once_within_s=0.0))

    *_, plan = plans(policy, *[late_bound()] * 2)

    assert plan.moves[0].figures == {
        "cpu_s": 0.9,
        "home_cpu_share": 1.0,
        "remote_share": 0.9,
        "remote_mb": 9000 / 256,
        "node_cpu_share": 0.45,
        "saving_ns_per_s": pytest.approx(0.9 * 0.9 * 0.3 * 0.6 * 1e9),
        "cost_ns": 9000 * 1240,
        "confidence": 1.0,
        "payback_s": pytest.approx(9000 * 1240 / (0.81 * 0.18e9)),
        "looks": 2,
    }


def test_it_says_for_how_many_looks_it_waits_yet_and_why():
    told, compared = explained(Threshold(ThresholdParameters(patience=3, at_once_within_s=0.0)), late_bound())

    assert (told.decision, told.targets, told.more_looks) == (Decision.WAIT, (1,), 2)
    assert compared == {
        "cpu_s": (0.9, "least_cpu_s", 0.05),
        "home_cpu_share": (1.0, "home_cpu_share_above", 0.75),
        "remote_share": (0.9, "remote_share_above", 0.1),
        "remote_mb": (35.156, "least_remote_mb", 4.0),
        "payback_s": (0.069, "pays_within_s", 60.0),
        "looks": (1, "patience", 3),
    }


def test_it_says_that_a_process_should_move():
    told, _ = explained(Threshold(ThresholdParameters(patience=1)), late_bound())

    assert (told.decision, told.more_looks) == (Decision.MOVE, 0)


def test_it_says_that_a_move_goes_on_until_the_lower_limit():
    told, compared = explained(Threshold(), *[late_bound()] * 2, late_bound({0: 500, 1: 9500}))

    assert told.decision is Decision.MOVE
    assert compared["remote_share"] == (0.05, "remote_share_below", 0.02)


@pytest.mark.parametrize("pages", [HOME, {0: 900, 1: 100}])
def test_it_says_that_a_process_is_well_where_it_is(pages):
    told, _ = explained(Threshold(), late_bound(pages))

    assert (told.decision, told.more_looks) == (Decision.STAY, 0)


@pytest.mark.parametrize("cpu_s", [{}, {1: 0.01}, {0: 0.5, 1: 0.5}])
def test_without_evidence_it_says_what_of_the_use_is_missing(cpu_s):
    told, compared = explained(Threshold(), process(pages=REMOTE, cpu_s=cpu_s))

    assert (told.decision, told.targets) == (Decision.NO_EVIDENCE, ())
    assert set(compared) == {"cpu_s", "home_cpu_share"}


def test_of_whom_it_has_not_seen_it_says_nothing():
    policy = Threshold()

    before = policy.explain(late_bound().key)
    plans(policy, late_bound())

    assert before is policy.explain(process(2).key) is None


@pytest.mark.parametrize("cpu_s", [0.9, 0.0])
def test_it_says_what_of_a_process_is_not_in_its_figures_since_its_job_shares_it(cpu_s):
    rows = regions({0: 2048}, {0: 1024}, backing=5, mapmax=2)
    rows.backing[1] = rows.offset[1] = 0
    told, _ = explained(Threshold(), process(regions=rows, cpu_s={1: cpu_s}))

    assert told.notes == (
        "8.0 MB that its job shares are not in these figures: they are decided part by part",
    )


def test_what_its_cpuset_forbids_takes_no_room_from_others():
    policy = Threshold(ThresholdParameters(patience=1))
    forbidden, other = late_bound(pid=1, nodes_allowed=(0,)), late_bound(pid=2)
    tight = node_memory(free={0: 0, 1: 8 * MIB + 4096 * 9000})

    plan = policy.decide(snapshot(processes=[forbidden, other], memory=tight))

    assert {move.process.pid: move.limit_bytes // 4096 for move in plan.moves} == {1: 9000, 2: 9000}
    assert plan.held == ()


def test_a_process_of_which_no_cpu_time_was_ever_read_moves_nothing():
    unread = replace(late_bound(), threads=threads({}), cpu_age_s=np.inf)

    seen = plans(Threshold(ThresholdParameters(patience=1)), unread, unread, late_bound())

    assert [len(plan.moves) for plan in seen] == [0, 0, 1]


def after_two(first, outcomes, held=()):
    """Show two that want the same room, of which the second finds none; let the first end so, and give the next plan."""
    policy = Threshold(ThresholdParameters(patience=1))
    both = [late_bound(pid=1), late_bound(pid=2, cpu_s=0.5)]
    seen = snapshot(1.0, processes=both, memory=node_memory(free={0: 0, 1: 8 * MIB + 4096 * 9000}))
    plan = policy.decide(seen)
    assert [(move.process.pid, move.limit_bytes // 4096) for move in plan.moves] == [(1, 9000)]
    policy.review(tick(seen, moves=plan.moves[:first], outcomes=outcomes, held=(*plan.held, *held)))
    return policy.decide(replace(seen, time_s=2.0))


@pytest.mark.parametrize(
    ("first", "outcomes"),
    [(1, [Outcome(Ending.DONE, 0, {"unmovable": 9000})]), (0, [])],
    ids=["nothing of it would move", "the guard refused it"],
)
def test_what_is_asked_for_in_vain_takes_no_room_from_others(first, outcomes):
    plan = after_two(first, outcomes)

    assert {move.process.pid: move.limit_bytes // 4096 for move in plan.moves} == {1: 9000, 2: 9000}


@pytest.mark.parametrize(
    ("first", "outcomes", "whys"),
    [
        (1, [Outcome(Ending.DEADLINE, 4096)], []),
        (1, [Outcome(Ending.DRY_RUN)], []),
        (0, [], [Refusal.RATE]),
        (0, [], [Refusal.NO_ROOM]),
    ],
    ids=["some of it moved", "nothing is moved", "it waits for its turn", "it waits for room"],
)
def test_what_moves_soon_keeps_its_room(first, outcomes, whys):
    held = [Held(late_bound(pid=1).key, 4096, why, {}) for why in whys]

    plan = after_two(first, outcomes, held)

    assert [move.process.pid for move in plan.moves] == [1]


def test_what_was_asked_for_in_vain_is_asked_for_again_only_as_far_as_there_is_room():
    policy = Threshold(ThresholdParameters(patience=1))
    one, tight = late_bound(), node_memory(free={0: 0, 1: 8 * MIB + 4096 * 500})
    seen = snapshot(1.0, processes=[one], memory=tight)
    plan = policy.decide(seen)
    policy.review(tick(seen, moves=(), held=plan.held))

    again = policy.decide(snapshot(2.0, processes=[one], memory=tight))

    assert [move.limit_bytes // 4096 for move in again.moves] == [500]
    assert [(held.bytes // 4096, held.why) for held in again.held] == [(8500, Refusal.NO_ROOM)]
