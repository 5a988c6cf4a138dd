# SPDX-License-Identifier: Apache-2.0

"""The daemon as it is, with one policy and its profile more: it moves the tasks of every process back and forth."""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from numad_py import policies, profiles
from numad_py.cli.main import main
from numad_py.model import MoveTasks, Plan, Reason
from numad_py.roles import Policy

NAME = "back-and-forth"


@dataclass(frozen=True)
class BackAndForthParameters:
    """How long the tasks of a process stay on a node."""

    stay_s: float = 20.0


class BackAndForth(Policy):
    """Sends all threads of every process to the next node with CPUs when it is time."""

    def __init__(self, parameters):
        self._stay_s = parameters.stay_s

    def decide(self, snapshot):
        nodes = [node.id for node in snapshot.topology.nodes if node.cpus]
        target = nodes[int(snapshot.time_s / self._stay_s) % len(nodes)]
        wishes = (
            MoveTasks(process.key, (target,), Reason.TASKS_FOLLOW_MEMORY) for process in snapshot.processes
        )
        return Plan(task_moves=tuple(wishes))


if __name__ == "__main__":
    policies.PARAMETERS[NAME] = BackAndForthParameters
    policies.BUILT_IN[NAME] = BackAndForth
    profiles.PLACES = (*profiles.PLACES, Path(__file__).parent)
    sys.exit(main())
