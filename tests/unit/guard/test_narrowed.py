# SPDX-License-Identifier: Apache-2.0

"""Threads whose new CPUs slowed their job get back what they had, and are not tried again soon."""

from dataclasses import replace

import pytest

from numad_py.guard import Guard, Limits
from numad_py.model import Ending, MoveTasks, Outcome, Plan, Reason, Refusal, Tick, Verdict
from numad_py.roles import Policy
from tests.builders import job, process, snapshot

BOTH = (0, 1)


class Binds(Policy):
    """Wishes all threads to node 1, always."""

    def decide(self, snapshot):
        return Plan(task_moves=tuple(wish(each) for each in snapshot.processes))


def wish(one):
    return MoveTasks(one.key, (1,), Reason.TASKS_FOLLOW_MEMORY)


def lived(*, slower, looks=90, ending=Ending.DONE):
    """Let a job tell how it gets on while it is bound, or not; give its turns."""
    guard, turns, progress, nodes = Guard(Binds(), Limits(tasks=True)), [], 0.0, BOTH
    for second in range(looks):
        progress += slower if nodes == (1,) else 1.0
        one = process(pages={0: 1, 1: 99}, cpu_s=dict.fromkeys(nodes, 0.4))
        seen = snapshot(100.0 + second, jobs=[replace(job(one), progress=progress)])
        plan = guard.decide(seen)
        outcomes = []
        for move in plan.task_moves:
            back = move.reason is Reason.TAKEN_BACK
            outcomes.append(Outcome(ending if back else Ending.DONE, moved_threads=int(move.nodes != nodes)))
            nodes = move.nodes
        turns.append(Tick(seen, plan, (), tuple(outcomes)))
        guard.review(turns[-1])
    return turns


def wishes(turns):
    return [(move.nodes, move.reason) for turn in turns for move in turn.plan.task_moves]


def test_where_a_job_became_slower_its_threads_get_their_other_cpus_back():
    turns = lived(slower=0.7)

    verdicts = [judged.verdict for turn in turns for judged in turn.plan.judged]
    assert verdicts == [Verdict.TAKEN_BACK]
    assert wishes(turns)[-1] == (BOTH, Reason.TAKEN_BACK)
    assert {held.why for held in turns[-1].plan.held} == {Refusal.NO_HELP}


def test_where_it_became_faster_they_stay():
    assert (BOTH, Reason.TAKEN_BACK) not in wishes(lived(slower=1.4))


@pytest.mark.parametrize(("ending", "tries"), [(Ending.DONE, 1), (Ending.REFUSED, 1), (Ending.DEADLINE, 10)])
def test_it_is_tried_until_it_is_done_or_cannot_be(ending, tries):
    turns = lived(slower=0.7, ending=ending)

    (judged,) = [at for at, turn in enumerate(turns) if turn.plan.judged]
    assert wishes(turns[judged : judged + 10]).count((BOTH, Reason.TAKEN_BACK)) == tries
