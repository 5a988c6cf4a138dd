# SPDX-License-Identifier: Apache-2.0

"""The daemon as it is shipped, with one profile more, ``tasks``, that lets threads follow their memory.

``python -m tests.moving_tasks daemon --config FILE``, with ``profiles: [tasks]`` in the file.
"""

import tempfile
from pathlib import Path

from numad_py import policies, profiles
from numad_py.cli.main import main
from numad_py.model import MoveTasks, Plan, Reason
from numad_py.policies.hold import HoldParameters
from numad_py.roles import Policy

PROFILE = "policy: tasks-follow-memory\nguard:\n  tasks: true\n"


class TasksFollowMemory(Policy):
    """Lets each process run on the node that has most of its memory, and on no other."""

    def __init__(self, _parameters):
        pass

    def decide(self, snapshot):
        nodes = snapshot.topology.node_ids
        most = snapshot.movable_bytes.argmax(axis=1)
        moves = (
            MoveTasks(process.key, (nodes[index],), Reason.TASKS_FOLLOW_MEMORY)
            for process, index in zip(snapshot.processes, most.tolist(), strict=True)
            if process.regions.movable_bytes.any()
        )
        return Plan(task_moves=tuple(moves))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "tasks.yaml").write_text(PROFILE)
        profiles.PLACES = (Path(folder), *profiles.PLACES)
        policies.PARAMETERS["tasks-follow-memory"] = HoldParameters
        policies.BUILT_IN["tasks-follow-memory"] = TasksFollowMemory
        main()
