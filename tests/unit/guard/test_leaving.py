# SPDX-License-Identifier: Apache-2.0

"""The guard gives way where somebody else moves its pages away again, and takes nothing else for that."""

from dataclasses import replace

import pytest

from numad_py.guard import Guard, Limits
from numad_py.guard.leaving import Leaving
from numad_py.guard.phases import Phases
from numad_py.model import Ending, Outcome, Plan, Refusal, Tick, Verdict
from numad_py.roles import Policy
from tests.builders import MIB, job, move, process, snapshot

PARTNER = process(2).key


class Brings(Policy):
    """Wishes everything to node 1."""

    def decide(self, snapshot):
        return Plan(tuple(map(move, snapshot.processes)))


def seen(*looks):
    """Bring a process to node 1 at the first look of pages by node and home, then only look; give the last plan."""
    guard = Guard(Brings(), Limits(1e6, backoff_s=30))
    guard.decide(snapshot(99.0))
    found = []
    for time_s, (pages, home) in enumerate(looks, 100):
        one = process(pages=pages, cpu_s={home: 1.0})
        looked = snapshot(float(time_s), jobs=[job(one)])
        plan = guard.decide(looked)
        if time_s == 100:
            guard.review(Tick(looked, plan, tuple(Outcome(Ending.DONE, MIB) for _ in plan.moves)))
        found += [judged.verdict for judged in plan.judged if judged.verdict is Verdict.GAVE_WAY]
    return found, plan


PLACED = ({1: 100}, 1)


def test_pages_that_leave_again_are_left_to_whoever_moves_them():
    found, plan = seen(({0: 100}, 1), PLACED, ({0: 40, 1: 60}, 1), PLACED)

    assert found == [Verdict.GAVE_WAY]
    assert [held.why for held in plan.held] == [Refusal.NO_HELP]


@pytest.mark.parametrize(
    "after",
    [({0: 10, 1: 90}, 1), ({1: 50}, 1), ({0: 100, 1: 100}, 1), ({0: 100}, 0)],
    ids=["few", "freed", "grown elsewhere", "runs elsewhere"],
)
def test_what_is_none_of_others_doing_is_not_taken_for_it(after):
    found, _ = seen(({0: 100}, 1), PLACED, after)

    assert found == []


@pytest.mark.parametrize(("among", "left"), [((), True), ((process().key, PARTNER), False)])
def test_pages_that_a_job_shares_are_moved_by_all_of_its_processes(among, left):
    leaving, phases = Leaving(), Phases()
    looks = [
        snapshot(time_s, processes=[process(pages=pages, cpu_s={1: 1.0})])
        for time_s, pages in [(100.0, {1: 100}), (101.0, {0: 40, 1: 60})]
    ]
    phases.look(looks[0])
    leaving.learn(move(process(pages={0: 100})), Outcome(Ending.DONE, MIB))
    leaving.look(looks[0], phases)

    leaving.learn(replace(move(process(2, pages={1: 100})), among=among), Outcome(Ending.DONE, MIB))

    assert bool(leaving.look(looks[1], phases)) == left


def test_a_node_that_is_gone_is_forgotten():
    leaving, one = Leaving(), process(pages={0: 100}, cpu_s={0: 1.0})
    leaving.learn(replace(move(one), targets=(7,)), Outcome(Ending.DONE, MIB))

    assert leaving.look(snapshot(processes=[one]), Phases()) == {}


def test_a_process_that_is_gone_is_forgotten():
    guard = Guard(Brings(), Limits(1e6))
    guard.decide(snapshot(99.0))
    looked = snapshot(100.0, processes=[process(pages={0: 100}, cpu_s={1: 1.0})])
    guard.review(Tick(looked, guard.decide(looked), (Outcome(Ending.DONE, MIB),)))

    plan = guard.decide(snapshot(101.0))

    assert plan.judged == ()
