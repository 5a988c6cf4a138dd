# SPDX-License-Identifier: Apache-2.0

"""Who may run on some nodes only, since we moved threads; and gets all CPUs back where that made its job slower."""

from collections.abc import Iterable, Iterator

from numad_py.guard.limits import GIVING_UP
from numad_py.model import Ending, Judged, MoveTasks, Outcome, ProcessKey, Reason, Snapshot, Verdict

_TAKES_BACK = (Verdict.TAKEN_BACK, Verdict.PING_PONG)


class Narrowed:
    """Follows the processes of one guard."""

    def __init__(self) -> None:
        self._narrowed: set[ProcessKey] = set()
        self._owed: set[ProcessKey] = set()

    def look(self, snapshot: Snapshot, judged: Iterable[Judged]) -> Iterator[MoveTasks]:
        """Give what is to be taken back now, of jobs that are found slower, until it is done or cannot be."""
        self._narrowed &= snapshot.row_of.keys()
        self._owed &= snapshot.row_of.keys()
        slower = {each.cgroup_id for each in judged if each.verdict in _TAKES_BACK}
        for job in snapshot.jobs:
            members = {process.key for process in job.processes}
            if job.cgroup_id in slower and members & self._narrowed:
                self._owed |= members  # children have inherited it
        for key in sorted(self._owed):
            process = snapshot.processes[snapshot.row_of[key]]
            yield MoveTasks(key, snapshot.topology.running_on(process.nodes_allowed), Reason.TAKEN_BACK)

    def learn(self, move: MoveTasks, outcome: Outcome, snapshot: Snapshot) -> None:
        """Take what became of a move of threads."""
        process = snapshot.processes[snapshot.row_of[move.process]]
        if not set(move.nodes) >= set(snapshot.topology.running_on(process.nodes_allowed)):
            self._narrowed |= {move.process} if outcome.moved_threads else set()
        elif outcome.ending in (Ending.DONE, *GIVING_UP):
            self._narrowed.discard(move.process)
            self._owed.discard(move.process)
