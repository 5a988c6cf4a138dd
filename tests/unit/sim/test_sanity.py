# SPDX-License-Identifier: Apache-2.0

"""Whatever is replayed: nothing is lost, nothing foretold is known before, and more that is remote never costs less."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.guard import Guard, Limits
from numad_py.model import Accesses, AccessSource, MoveTasks, Plan, Reason, ThreadGroup
from numad_py.policies.hold import Hold
from numad_py.policies.threshold import Threshold
from numad_py.roles import Policy
from numad_py.sim import cost
from numad_py.sim.baselines.greedy import Greedy
from numad_py.sim.baselines.kernel_balancing import KernelBalancing
from numad_py.sim.baselines.numad import Numad
from numad_py.sim.replay import replay, scores
from numad_py.sim.shipped import find
from numad_py.sim.sight import Acuity
from tests.builders import TWO_NODES, move
from tests.unit.sim.test_demand import drawn_run

PRICES = cost.default_prices(TWO_NODES)
SEEN = dict.fromkeys(("sensing", "wandering"), Acuity(first_s=(0.0, 1.0)))
MACHINES = [PRICES, cost.read(find("machines", "two-socket-xeon-gold-6240"))]


class Wandering(Policy):
    """Wishes all memory and all threads onto the nodes in turn."""

    def decide(self, snapshot):
        there = int(snapshot.time_s) % 2
        wishes = (move(each, sources=(1 - there,), targets=(there,)) for each in snapshot.processes)
        tasks = (MoveTasks(each.key, (there,), Reason.SPREAD) for each in snapshot.processes)
        return Plan(tuple(wishes), task_moves=tuple(tasks))


def everyone():
    """Make each policy anew."""
    return {
        "hold": Hold(),
        "sensing": Guard(Threshold(), Limits()),
        "wandering": Wandering(),
        "kernel": KernelBalancing(),
        "numad": Numad(),
        "greedy": Greedy(PRICES),
    }


def told(each, random):
    """Give the process with accesses of two groups to all that it has."""
    groups = tuple(ThreadGroup(node, each.threads.tid[node::2], np.zeros(2)) for node in (0, 1))
    start, end = each.regions.start, each.regions.end
    counts = random.integers(0, 9, (len(start), 2))
    return replace(each, accesses=Accesses(AccessSource.DAMON, groups, start, end, counts, 9, 1.0))


@st.composite
def investigated_run(draw):
    """Draw a run in one look of which everyone is investigated."""
    run, random = draw(drawn_run()), np.random.default_rng(draw(st.integers(0, 99)))
    at = draw(st.integers(0, len(run) - 1))
    jobs = tuple(
        replace(job, processes=tuple(told(each, random) for each in job.processes))
        for job in run[at].snapshot.jobs
    )
    run[at] = replace(run[at], snapshot=replace(run[at].snapshot, jobs=jobs))
    return run


def shape(turn):
    """Give all that one turn came to, as plain values."""
    return {
        name: (
            [
                (each.key, each.regions.pages.tolist(), each.threads.cpu.tolist())
                for each in tick.snapshot.processes
            ],
            [(wish.process, wish.start.tolist(), wish.limit_bytes, wish.targets) for wish in tick.plan.moves],
            [(outcome.ending, outcome.moved_bytes) for outcome in tick.outcomes],
        )
        for name, tick in turn.items()
    }


@given(investigated_run())
def test_no_page_is_lost_or_invented(run):
    for recorded, turn in zip(run, replay(run, everyone(), PRICES, acuity=SEEN), strict=True):
        held = [int(each.regions.pages.sum()) for each in recorded.snapshot.processes]
        for tick in turn.values():
            assert [int(each.regions.pages.sum()) for each in tick.snapshot.processes] == held


@given(investigated_run(), st.integers(1, 5))
def test_what_comes_later_changes_nothing_before(run, until):
    whole = [shape(turn) for turn in replay(run, everyone(), PRICES, acuity=SEEN)]
    cut = [shape(turn) for turn in replay(run[:until], everyone(), PRICES, acuity=SEEN)]

    assert cut == whole[:until]


@given(investigated_run())
def test_the_same_seed_gives_the_same_figures(run):
    assert scores(run, everyone(), PRICES, acuity=SEEN) == scores(run, everyone(), PRICES, acuity=SEEN)


@given(investigated_run())
def test_a_policy_that_moves_nothing_comes_to_what_hold_does(run):
    policies = {"hold": Hold(), "sensing": Guard(Hold(), Limits()), "as it is": Guard(Hold(), Limits())}

    found = scores(run, policies, PRICES, acuity=SEEN)

    assert found["sensing"] == found["hold"] == found["as it is"]


@pytest.mark.parametrize("prices", MACHINES, ids=["usual", "gold-6240"])
@given(shares=st.lists(st.floats(0, 1), min_size=4, max_size=4), more=st.floats(0, 1))
def test_more_that_is_remote_never_costs_less_at_equal_load(prices, shares, more):
    idle = replace(prices, machine=None)
    near = np.array([[[shares[0], 1 - shares[0]], [1 - shares[1], shares[1]]]])
    away = near.copy()
    away[0, [0, 1], [0, 1]] *= 1 - more
    away[0, [0, 1], [1, 0]] = 1 - away[0, [0, 1], [0, 1]]
    cpu_s = np.array([shares[2:]])

    assert (idle.slower(cpu_s, away, 1.0) >= idle.slower(cpu_s, near, 1.0) - 1e-12).all()
