# SPDX-License-Identifier: Apache-2.0

"""Know how long processes stay on a node, and whether a move there would pay for itself.

Problem: memory that follows a job which changes its node every other second always arrives too late.
Primitive: a process's turns, at which another node began to have nearly all of its CPU time. The last phases say how
long the present one will be; one that is already twice as long will go on for as long again.
Application: a move to where a process runs is worth its time only if what is left of the phase saves more.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from numad_py import prices
from numad_py.model import MovePages, Outcome, ProcessKey, Snapshot

HOME_CPU_SHARE: Final = 0.75
TURNS: Final = 3  # that tell two phases
# Of the time, at most, where all of its memory was on another package.
SAVED_SHARE: Final = prices.MEMORY_SHARE * (prices.OTHER_PACKAGE_RATIO - 1)
S_PER_BYTE: Final = float(prices.move_ns_per_byte(4096)) * 1e-9  # of moving, until it is known


@dataclass(frozen=True)
class _Stay:
    """The node where a process runs, and when it came to it and to those before."""

    home: int
    turns_s: tuple[float, ...] = ()

    def after(self, home: int, now_s: float) -> "_Stay":
        if home == self.home:
            return self
        return _Stay(home, (*self.turns_s, now_s)[-TURNS:])

    def left_s(self, now_s: float) -> float | None:
        """Say how long it will stay; None where too little is known."""
        if len(self.turns_s) < TURNS:
            return None
        phase_s = (self.turns_s[-1] - self.turns_s[0]) / (TURNS - 1)
        since_s = now_s - self.turns_s[-1]
        return phase_s - since_s if since_s < 2 * phase_s else since_s


class Phases:
    """Follows where processes run."""

    def __init__(self) -> None:
        self._stays: dict[ProcessKey, _Stay] = {}
        self._s_per_byte: dict[ProcessKey, float] = {}

    def look(self, snapshot: Snapshot) -> None:
        """See who turned."""
        if not snapshot.processes:
            self._stays, self._s_per_byte = {}, {}
            return
        stays = {key: stay for key, stay in self._stays.items() if key in snapshot.row_of}
        used_s, most_s = snapshot.cpu_s.sum(axis=1), snapshot.cpu_s.max(axis=1, initial=0.0)
        sure = (used_s > 0) & (most_s >= HOME_CPU_SHARE * used_s)
        homes = snapshot.cpu_s.argmax(axis=1)
        for row in np.flatnonzero(sure).tolist():
            key, home = snapshot.keys[row], int(homes[row])
            stays[key] = stays.get(key, _Stay(home)).after(home, snapshot.time_s)
        self._stays = stays
        self._s_per_byte = {key: cost for key, cost in self._s_per_byte.items() if key in stays}

    def home(self, key: ProcessKey) -> int:
        """Give the position of the node where a process runs; -1 where none stands out."""
        stay = self._stays.get(key)
        return stay.home if stay else -1

    def learn(self, move: MovePages, outcome: Outcome) -> None:
        """Take what a move took."""
        if outcome.moved_bytes:
            self._s_per_byte[move.process] = outcome.took_s / outcome.moved_bytes

    def bound(self, key: ProcessKey) -> None:
        """Forget the turns of a process that was bound: its phases are over."""
        self._stays.pop(key, None)

    def too_short(self, move: MovePages, snapshot: Snapshot) -> dict[str, float] | None:
        """Say by what figures a move to where its process runs does not pay for itself; None where it does."""
        stay = self._stays.get(move.process)
        if stay is None or move.targets != (snapshot.topology.nodes[stay.home].id,):
            return None
        left_s = stay.left_s(snapshot.time_s)
        pays_s = move.limit_bytes * self._s_per_byte.get(move.process, S_PER_BYTE) / SAVED_SHARE
        if left_s is None or left_s >= pays_s:
            return None
        return {"phase_left_s": left_s, "pays_after_s": pays_s}
