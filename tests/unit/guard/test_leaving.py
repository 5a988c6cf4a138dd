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
PAGE = 4096


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


def followed(*looks, moved=(), error_share=0.0):
    """Give at which looks pages of a process are said to have left node 1, by pages on both nodes and when these were read.

    All of it was brought there at first, and at each look so many pages are ``moved`` afterwards.
    """
    leaving, phases, found = Leaving(), Phases(), []
    brought = move(process(pages={0: 100}))
    leaving.learn(brought, Outcome(Ending.DONE, 100 * PAGE))
    for number, (away, here, read_s) in enumerate(looks):
        time_s = max(read_s, float(number))
        one = process(pages={0: away, 1: here}, cpu_s={1: 1.0}, placement_age_s=time_s - read_s)
        looked = snapshot(time_s, processes=[replace(one, placement_error_share=error_share)])
        phases.look(looked)
        if leaving.look(looked, phases):
            found.append(number)
        leaving.learn(brought, Outcome(Ending.LIMIT, dict(moved).get(number, 0) * PAGE))
    return found


def test_pages_that_leave_little_by_little_are_counted_together_though_they_are_brought_back_each_time():
    looks = [(0, 100, 0.0), (10, 90, 1.0), (10, 90, 2.0), (10, 90, 3.0), (10, 90, 4.0)]

    assert followed(*looks, moved=[(number, 10) for number in range(5)]) == [3]


def test_pages_that_leave_slower_than_they_are_forgotten_are_let_go():
    looks = [(10 * (number > 0), 100 - 10 * (number > 0), 1200.0 * number) for number in range(20)]

    assert followed(*looks, moved=[(number, 10) for number in range(20)]) == []


@pytest.mark.parametrize(
    "looks",
    [
        [(10 * (number % 2), 100 - 10 * (number % 2), float(number)) for number in range(20)],
        [
            (30 - 30 * (number // 2 % 2), 100 - 30 * ((number + 1) // 2 % 2), float(number))
            for number in range(20)
        ],
    ],
    ids=["come back of themselves", "freed here, then grown there"],
)
def test_what_a_job_does_over_and_over_adds_up_to_nothing(looks):
    assert followed(*looks) == []


def test_samples_of_pages_tell_of_no_more_that_left_than_chance_may_say():
    """Three times a twentieth of all could be chance, beside the fifth."""
    few, many = ([(0, 100, 0.0), (away, 100 - away, 1.0)] for away in (30, 40))

    assert followed(*few) == followed(*many) == followed(*many, error_share=0.05) == [1]
    assert followed(*few, error_share=0.05) == []


def test_what_was_moved_since_pages_were_read_is_not_missed_at_looks_that_read_none():
    looks = [(0, 100, 0.0), (10, 90, 1.0), (10, 90, 1.0), (10, 90, 1.0 + 1e-9), (0, 100, 4.0)]

    assert followed(*looks, moved=[(1, 10), (2, 10), (3, 10)]) == []


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
