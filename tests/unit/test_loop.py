# SPDX-License-Identifier: Apache-2.0

"""The loop looks, decides, moves and reviews, in that order, until the clock says stop."""

from numad_py.loop import ticks
from numad_py.model import Ending, MoveTasks, Outcome, Plan, Reason
from tests.builders import move, process, snapshot


class Machine:
    """Plays every role, and writes down what it was asked."""

    def __init__(self, turns):
        self.turns = turns
        self.asked = []

    def wait(self, period_s):
        self.asked.append(f"wait {period_s}")
        self.turns -= 1
        return self.turns >= 0

    def look(self):
        self.asked.append("look")
        return snapshot(processes=[process(pages={0: 1})])

    def decide(self, snapshot):
        self.asked.append("decide")
        (one,) = snapshot.processes
        return Plan((move(one),), task_moves=(MoveTasks(one.key, (1,), Reason.SPREAD),))

    def move(self, plan):
        self.asked.append("move")
        return Outcome(Ending.DONE), Outcome(Ending.REFUSED)

    def review(self, tick):
        (outcome,), (task_outcome,) = tick.outcomes, tick.task_outcomes
        self.asked.append(f"review {outcome.ending} {task_outcome.ending}")


def test_every_turn_looks_decides_moves_and_reviews():
    machine = Machine(turns=2)

    seen = list(ticks(machine, machine, machine, machine, period_s=5.0))

    assert len(seen) == 2
    assert machine.asked == [*["wait 5.0", "look", "decide", "move", "review done refused"] * 2, "wait 5.0"]
