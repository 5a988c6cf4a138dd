# SPDX-License-Identifier: Apache-2.0

"""Interleave spreads what lies on one node over all nodes with CPUs, and stops once it is even."""

import pytest

from numad_py.model import Reason
from numad_py.policies.interleave import Interleave, InterleaveParameters
from tests.builders import process, snapshot, topology

MB = 256  # pages


def plan_of(policy, job, on=None):
    return policy.decide(snapshot(processes=[job], **({"on": on} if on else {})))


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

    plans = [plan_of(policy, job) for _ in range(3)]

    assert [len(plan.moves) for plan in plans] == [0, 1, 1]


def test_a_process_that_may_use_one_node_only_is_left_there():
    policy = Interleave(InterleaveParameters(patience=1))

    plan = plan_of(policy, process(pages={0: 300 * MB}, nodes_allowed=(0,)))

    assert not plan.moves


@pytest.mark.parametrize("wrong", [{"spread_share_above": 2.0}, {"patience": 0}])
def test_parameters_that_make_no_sense_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        InterleaveParameters(**wrong)
