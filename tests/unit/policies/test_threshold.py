# SPDX-License-Identifier: Apache-2.0

"""Threshold brings memory to the CPUs that use it, but never in a hurry and never on a guess."""

import numpy as np
import pytest

from numad_py.model import Mempolicy, RegionKind
from numad_py.policies.threshold import Threshold, ThresholdParameters
from tests.builders import process, regions, snapshot, topology

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
    policy = Threshold(ThresholdParameters(patience=3))

    seen = plans(policy, *[late_bound()] * 4)

    assert [moved(plan) for plan in seen] == [[], [], [((0,), (1,), 9000)], [((0,), (1,), 9000)]]


def test_one_local_look_starts_the_wait_again():
    policy = Threshold(ThresholdParameters(patience=2))

    seen = plans(policy, late_bound(), late_bound(HOME), late_bound())

    assert [moved(plan) for plan in seen] == [[], [], []]


def test_what_was_begun_goes_on_below_the_upper_threshold_until_the_lower():
    policy = Threshold(ThresholdParameters(patience=1, remote_share_above=0.5, remote_share_below=0.1))

    seen = plans(policy, late_bound({0: 6, 1: 4}), late_bound({0: 600, 1: 9400}))
    small = plans(policy, late_bound(), late_bound({0: 2000, 1: 8000}), late_bound({0: 900, 1: 9100}))

    assert moved(seen[1]) == []
    assert [len(plan.moves) for plan in small] == [1, 1, 0]


def test_a_process_that_hardly_ran_gives_no_evidence():
    policy = Threshold(ThresholdParameters(patience=1, least_cpu_s=0.05))

    seen = plans(policy, late_bound(cpu_s=0.04), late_bound(cpu_s=0.05))

    assert [len(plan.moves) for plan in seen] == [0, 1]


def test_a_look_without_evidence_leaves_the_count_as_it_was():
    policy = Threshold(ThresholdParameters(patience=2))

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


def test_memory_on_nodes_without_cpus_is_a_tier_and_stays():
    machine = topology(4, cpuless=(2, 3))
    policy = Threshold(ThresholdParameters(patience=1))
    job = process(pages={0: 2000, 2: 50_000, 1: 2000}, cpu_s={1: 1.0}, on=machine)

    (plan,) = plans(policy, job, on=machine)

    assert moved(plan) == [((0,), (1,), 2000)]


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


def test_the_most_remote_process_comes_first():
    policy = Threshold(ThresholdParameters(patience=1))
    jobs = [
        process(pid, pages={0: pages}, cpu_s={1: 1.0}) for pid, pages in [(1, 2000), (2, 9000), (3, 2000)]
    ]

    plan = policy.decide(snapshot(processes=jobs))

    assert [move.process.pid for move in plan.moves] == [2, 1, 3]


def test_a_process_that_was_gone_for_a_look_begins_anew():
    policy = Threshold(ThresholdParameters(patience=2))

    seen = plans(policy, late_bound(pid=1), late_bound(pid=2), late_bound(pid=1))

    assert [len(plan.moves) for plan in seen] == [0, 0, 0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"remote_share_above": 1.1},
        {"remote_share_below": 0.5, "remote_share_above": 0.1},
        {"home_cpu_share_above": -0.1},
        {"patience": 0},
    ],
)
def test_parameters_that_make_no_sense_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ThresholdParameters(**wrong)
