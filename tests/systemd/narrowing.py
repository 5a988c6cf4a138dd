# SPDX-License-Identifier: Apache-2.0

"""The installed daemon with one more policy, which tests need and nobody else: it narrows every process to node 1."""

import sys
from dataclasses import dataclass

if __name__ == "__main__":
    sys.path.insert(0, "/usr/lib/numad-py")

from numad_py import policies
from numad_py.cli.main import main
from numad_py.model import MoveTasks, Plan, Reason
from numad_py.roles import Policy


@dataclass(frozen=True)
class NarrowParameters:
    """There is nothing to set."""


class Narrow(Policy):
    """Wants all tasks of every job on node 1."""

    def __init__(self, parameters):
        self.parameters = parameters

    def decide(self, snapshot):
        processes = [process for job in snapshot.jobs for process in job.processes]
        moves = (MoveTasks(process.key, (1,), Reason.TASKS_FOLLOW_MEMORY) for process in processes)
        return Plan(task_moves=tuple(moves))


if __name__ == "__main__":
    policies.PARAMETERS["narrow"] = NarrowParameters
    policies.BUILT_IN["narrow"] = Narrow
    main()
