# SPDX-License-Identifier: Apache-2.0

"""Notice that pages which were placed leave again, though their process runs where they were.

Problem: demotion, another daemon or a cpuset that somebody writes may move the same pages, and two movers go on for ever.
Primitive: the most that a process had on the node where it was brought. A fifth of it gone from there, to other nodes
and not freed, is somebody else's doing: what a process touches anew lands where it runs.
Application: the guard gives way. What it moves itself, or frees, or leaves by running elsewhere, is no sign.
"""

from dataclasses import dataclass, replace
from typing import Final

from numad_py.guard.phases import Phases
from numad_py.model import MovePages, Outcome, ProcessKey, Snapshot

LEFT_SHARE: Final = 0.2


@dataclass(frozen=True)
class _Placed:
    """Where a process was brought, what it had there at most, and in all then."""

    node: int
    most_bytes: int = 0
    elsewhere_bytes: int = 0


class Leaving:
    """Follows the processes whose pages were moved."""

    def __init__(self) -> None:
        self._placed: dict[ProcessKey, _Placed] = {}

    def learn(self, move: MovePages, outcome: Outcome) -> None:
        """Take what was moved; what a job shares is in the sight of all of its processes."""
        for key in (move.process, *move.among):
            self._placed.pop(key, None)
        if outcome.moved_bytes and len(move.targets) == 1 and not move.among:
            self._placed[move.process] = _Placed(move.targets[0])

    def look(self, snapshot: Snapshot, phases: Phases) -> dict[ProcessKey, dict[str, float]]:
        """Give whose pages left, and by what figures; each once."""
        before, self._placed, left = self._placed, {}, {}
        for key, placed in before.items():
            node, row = snapshot.topology.index_of.get(placed.node), snapshot.row_of.get(key)
            if node is None or row is None or phases.home(key) != node:
                continue
            here = int(snapshot.movable_bytes[row, node])
            elsewhere = int(snapshot.movable_bytes[row].sum()) - here
            gone, arrived = placed.most_bytes - here, elsewhere - placed.elsewhere_bytes
            if min(gone, arrived) > LEFT_SHARE * placed.most_bytes:
                left[key] = {"left_mb": gone / 2**20, "placed_mb": placed.most_bytes / 2**20}
            elif gone < 0:
                self._placed[key] = replace(placed, most_bytes=here, elsewhere_bytes=elsewhere)
            else:
                self._placed[key] = placed
        return left
