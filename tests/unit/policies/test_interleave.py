# SPDX-License-Identifier: Apache-2.0

"""Interleave spreads what lies on one node over all nodes with CPUs, and stops once it is even."""

from dataclasses import replace

import pytest

from numad_py.model import Decision, Reason
from numad_py.policies.interleave import Interleave, InterleaveParameters
from tests.builders import process, snapshot, threads, topology

MB = 256  # pages


def plan_of(policy, job, on=None, time_s=100.0):
    return policy.decide(snapshot(time_s, processes=[job], **({"on": on} if on else {})))


def test_memory_on_one_node_is_spread_over_all_with_cpus():
    machine = topology(4, cpuless=(3,))
    policy = Interleave(InterleaveParameters(patience=1))

    plan = plan_of(policy, process(pages={0: 300 * MB}, on=machine), machine)

    (move,) = plan.moves
    assert (move.sources, move.targets, move.reason) == ((0, 1, 2), (0, 1, 2), Reason.SPREAD)
    assert move.limit_bytes == 200 << 20


@pytest.mark.parametrize("pages", [{0: 160 * MB, 1: 140 * MB}, {0: 60 * MB}, {}])
def test_what_is_nearly_even_or_small_stays(pages):
    policy = Interleave(InterleaveParameters(patience=1, spread_share_above=0.1, least_mb=64))

    plan = plan_of(policy, process(pages=pages))

    assert not plan.moves


def test_it_waits_for_its_patience():
    policy = Interleave(InterleaveParameters(patience=2))
    job = process(pages={0: 300 * MB})

    plans = [plan_of(policy, job, time_s=time_s) for time_s in (100.0, 101.0, 102.0)]

    assert [len(plan.moves) for plan in plans] == [0, 1, 1]


def test_a_look_that_read_no_cpu_time_does_not_count_for_its_patience():
    policy = Interleave(InterleaveParameters(patience=2))
    job = process(pages={0: 300 * MB}, cpu_s={1: 0.5})
    unread = replace(job, threads=threads({}), cpu_age_s=1.0)

    looks = [(job, 100.0), (unread, 101.0), (job, 102.0), (unread, 103.0)]
    plans = [plan_of(policy, each, time_s=time_s) for each, time_s in looks]

    assert [len(plan.moves) for plan in plans] == [0, 0, 1, 1]


@pytest.mark.parametrize("cpu_age_s", [1.0, 0.0], ids=["not read", "asleep"])
def test_memory_stays_where_its_users_ran_last_at_looks_at_which_they_are_not_seen_to_run(cpu_age_s):
    policy = Interleave(InterleaveParameters(patience=1))
    job = process(pages={0: 300 * MB}, cpu_s={0: 0.5})
    at_rest = replace(job, threads=threads({}), cpu_age_s=cpu_age_s)

    plans = [plan_of(policy, job), plan_of(policy, at_rest, time_s=101.0)]

    assert [plan.moves for plan in plans] == [(), ()]


def test_where_users_ran_is_forgotten_with_them():
    policy, job = Interleave(InterleaveParameters(patience=1)), process(pages={0: 300 * MB}, cpu_s={0: 0.5})
    plan_of(policy, job)

    policy.decide(snapshot(101.0))

    assert policy.explain(job.key) is None
    assert plan_of(policy, replace(job, threads=threads({})), time_s=102.0).moves


def test_where_users_ran_is_forgotten_once_nodes_came_or_went():
    policy, on = Interleave(InterleaveParameters(patience=1)), topology(3)
    plan_of(policy, process(pages={0: 300 * MB}, cpu_s={0: 0.5}))

    plan = plan_of(policy, process(pages={0: 300 * MB}, on=on), on, time_s=101.0)

    assert [move.targets for move in plan.moves] == [(0, 1, 2)]


def test_a_process_that_may_use_one_node_only_is_left_there():
    policy = Interleave(InterleaveParameters(patience=1))

    plan = plan_of(policy, process(pages={0: 300 * MB}, nodes_allowed=(0,)))

    assert not plan.moves


@pytest.mark.parametrize("wrong", [{"spread_share_above": 2.0}, {"patience": 0}])
def test_parameters_that_make_no_sense_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        InterleaveParameters(**wrong)


@pytest.mark.parametrize(
    ("cpu_s", "is_spread"),
    [
        pytest.param({}, True, id="by nobody, as far as was seen"),
        pytest.param({0: 0.5, 1: 0.5}, True, id="from both nodes alike"),
        pytest.param({1: 0.5}, True, id="from the other node"),
        pytest.param({0: 0.5}, False, id="from the node where it lies"),
        pytest.param({0: 0.6, 1: 0.4}, False, id="mostly from there"),
    ],
)
def test_memory_is_spread_but_away_from_those_who_use_it_where_it_lies(cpu_s, is_spread):
    policy = Interleave(InterleaveParameters(patience=1))

    plan = plan_of(policy, process(pages={0: 300 * MB}, cpu_s=cpu_s))

    assert bool(plan.moves) is is_spread


@pytest.mark.parametrize(
    ("pages", "patience", "decision", "more_looks"),
    [
        ({0: 300 * MB}, 1, Decision.MOVE, 0),
        ({0: 300 * MB}, 3, Decision.WAIT, 2),
        ({0: 150 * MB, 1: 150 * MB}, 1, Decision.STAY, 0),
    ],
)
def test_it_says_what_it_decided(pages, patience, decision, more_looks):
    policy = Interleave(InterleaveParameters(patience=patience))
    job = process(pages=pages)

    plan_of(policy, job)

    told = policy.explain(job.key)
    assert (told.decision, told.more_looks, told.targets) == (decision, more_looks, (0, 1))


def test_its_figures_stand_beside_its_limits_and_on_its_moves():
    policy = Interleave(InterleaveParameters(patience=1))
    job = process(pages={0: 300 * MB})

    plan = plan_of(policy, job)

    told = policy.explain(job.key)
    assert plan.moves[0].figures == {
        "movable_mb": 300,
        "spread_share": 0.5,
        "wait_ratio": 1.0,
        "looks": 1,
    }
    assert {each.figure: each.value for each in told.compared} == plan.moves[0].figures
    assert [each.limit for each in told.compared] == [
        "least_mb",
        "spread_share_above",
        "wait_ratio_up_to",
        "patience",
    ]


def test_of_whom_it_has_not_seen_it_says_nothing():
    policy = Interleave()

    before = policy.explain(process().key)
    plan_of(policy, process())

    assert before is policy.explain(process(2).key) is None
