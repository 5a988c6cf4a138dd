# SPDX-License-Identifier: Apache-2.0

"""Notice that pages which were placed leave again, though their process runs where they were.

Problem: demotion, another daemon or a cpuset that somebody writes may move the same pages, and two movers go on for ever.
Primitive: what went between two readings from the node where a process was brought to others, our own moves counted out:
fewer bytes there, and as many more elsewhere. What comes back of itself is taken off again, and it is forgotten slowly.
A fifth of the most that it had there is somebody else's doing: what a process touches anew lands where it runs.
Application: the guard gives way. What it moves itself, or frees, or leaves by running elsewhere, is no sign.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from numad_py.guard.phases import Phases
from numad_py.model import MovePages, Outcome, ProcessKey, Snapshot

LEFT_SHARE: Final = 0.2
HALVED_S: Final = (
    600.0  # after which half of it is forgotten: who moves as slowly as that costs next to nothing
)
# Of samples, what seems to have left by chance is at most from the least reading to the greatest, six standard deviations:
# three times the half width of the interval.
CHANCE: Final = 3.0
SAME_S: Final = 0.05  # apart, two readings are one: a trace rounds ages


@dataclass(frozen=True)
class _Placed:
    """Where a process was brought, what it had there at most, at the last reading and elsewhere then, and what left.

    ``moved_bytes`` are what we brought there since; ``unsure_bytes`` may have seemed to leave where readings are samples.
    """

    node: int
    most_bytes: int = 0
    here_bytes: int = 0
    elsewhere_bytes: int = 0
    read_s: float = -np.inf
    moved_bytes: int = 0
    left_bytes: float = 0.0
    unsure_bytes: float = 0.0

    @property
    def others_do(self) -> bool:
        return self.left_bytes > LEFT_SHARE * self.most_bytes + self.unsure_bytes

    def after(self, here_bytes: int, elsewhere_bytes: int, read_s: float, *, error_share: float) -> "_Placed":
        """Add a reading, if it is a new one; the first tells of nothing that left."""
        if read_s <= self.read_s + SAME_S:
            return self
        came = min(self.moved_bytes, self.elsewhere_bytes)
        gone = self.here_bytes + came - here_bytes
        arrived = elsewhere_bytes - (self.elsewhere_bytes - came)
        went = max(min(gone, arrived), 0) + min(max(gone, arrived), 0)
        left_bytes = self.left_bytes * 2 ** ((self.read_s - read_s) / HALVED_S) + went
        return replace(
            self,
            most_bytes=max(self.most_bytes, here_bytes),
            here_bytes=here_bytes,
            elsewhere_bytes=elsewhere_bytes,
            read_s=read_s,
            moved_bytes=0,
            left_bytes=max(left_bytes, 0.0),
            unsure_bytes=max(self.unsure_bytes, CHANCE * error_share * (here_bytes + elsewhere_bytes)),
        )


class Leaving:
    """Follows the processes whose pages were moved."""

    def __init__(self) -> None:
        self._placed: dict[ProcessKey, _Placed] = {}

    def learn(self, move: MovePages, outcome: Outcome) -> None:
        """Take what was moved; what a job shares is in the sight of all of its processes."""
        if not outcome.moved_bytes:
            return
        before = self._placed.get(move.process)
        for key in (move.process, *move.among):
            self._placed.pop(key, None)
        if len(move.targets) == 1 and not move.among:
            same = before if before and before.node == move.targets[0] else _Placed(move.targets[0])
            moved_bytes = same.moved_bytes + outcome.moved_bytes
            self._placed[move.process] = replace(same, moved_bytes=moved_bytes)

    def look(self, snapshot: Snapshot, phases: Phases) -> dict[ProcessKey, dict[str, float]]:
        """Give whose pages left, and by what figures; each once."""
        before, self._placed, left = self._placed, {}, {}
        for key, placed in before.items():
            node, row = snapshot.topology.index_of.get(placed.node), snapshot.row_of.get(key)
            if node is None or row is None or phases.home(key) != node:
                continue
            here, read_s = int(snapshot.movable_bytes[row, node]), float(snapshot.placed_s[row])
            error_share = snapshot.processes[row].placement_error_share
            elsewhere = int(snapshot.movable_bytes[row].sum()) - here
            now = placed.after(here, elsewhere, read_s, error_share=error_share)
            if now.others_do:
                left[key] = {"left_mb": now.left_bytes / 2**20, "placed_mb": now.most_bytes / 2**20}
            else:
                self._placed[key] = now
        return left
