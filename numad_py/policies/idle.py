# SPDX-License-Identifier: Apache-2.0

"""Idle memory makes room: what nobody has used for long leaves a node for what is used hard, and found no room there.

Problem: the memory of a busy process does not fit on its node, much of which belongs to one that sleeps.
Primitive: for how long each process has hardly run.
Application: as many bytes as found no room leave the node, of who has slept for longest first. They go to nodes without
CPUs, else to the nearest, and take no more than half of the room there. Who wakes up is brought home as anybody is.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from numad_py.model import MovePages, Process, ProcessKey, Reason, Snapshot
from numad_py.policies.homes import rows_before
from numad_py.policies.wishes import MB
from numad_py.topology import Bools, Floats, Ints, Topology

IDLE_CORES: Final = 0.01  # no more than this much of a core: who waits still looks at the clock now and then
PART_OF_ROOM: Final = 0.5  # that may be taken where nobody asked for it


class IdleMemory:
    """Follows for how long processes have been idle."""

    def __init__(self, after_s: float, least_mb: float) -> None:
        self._after_s, self._least_bytes = after_s, least_mb * MB
        self._keys: tuple[ProcessKey, ...] = ()
        self._ran_s, self._idle_s = np.zeros(0), np.zeros(0)

    def look(self, snapshot: Snapshot, fresh: Bools, cores: Floats) -> None:
        """See who ran; who is new may have run until now."""
        before, read_s = rows_before(self._keys, snapshot.keys), snapshot.cpu_read_s
        ran_s = np.append(self._ran_s, np.inf)[before]
        ran = (before < 0) | (fresh & (cores.sum(axis=1) > IDLE_CORES))
        self._keys, self._ran_s = snapshot.keys, np.where(ran, read_s, ran_s)
        self._idle_s = read_s - self._ran_s

    def make_room(self, snapshot: Snapshot, short_bytes: Ints, room_bytes: Ints) -> Iterator[MovePages]:
        """Wish for what should leave, by node as many bytes as are short there, as far as others have room."""
        on = snapshot.topology
        room: Ints = (PART_OF_ROOM * room_bytes * on.may_leave).astype(np.int64)
        idle = [row for row in np.argsort(-self._idle_s, kind="stable").tolist() if self._is_idle(row)]
        for source in np.flatnonzero(short_bytes).tolist():
            short = int(short_bytes[source])
            for row in idle:
                process, there = snapshot.processes[row], int(snapshot.movable_bytes[row, source])
                for target in _targets(process, source, on):
                    leaving = min(short, there, int(room[target]) * (short_bytes[target] == 0))
                    if leaving >= self._least_bytes:
                        room[target] -= leaving
                        short, there = short - leaving, there - leaving
                        yield self._move(process, source, target, leaving, float(self._idle_s[row]), on)

    def notes(self, key: ProcessKey) -> tuple[str, ...]:
        """Say so of a process whose memory makes room where others want it."""
        row = self._keys.index(key) if key in self._keys else -1
        if row < 0 or not self._is_idle(row):
            return ()
        return (f"it has been idle for {self._idle_s[row]:.0f} s: its memory makes room for others'",)

    def _is_idle(self, row: int) -> bool:
        return bool(self._idle_s[row] >= self._after_s)

    def _move(
        self, process: Process, source: int, target: int, bytes_: int, idle_s: float, on: Topology
    ) -> MovePages:
        regions = process.regions
        chosen = regions.movable & (regions.pages[:, source] > 0)
        return MovePages(
            process.key,
            regions.start[chosen],
            regions.end[chosen],
            regions.page_bytes[chosen],
            sources=(on.nodes[source].id,),
            targets=(on.nodes[target].id,),
            limit_bytes=bytes_,
            reason=Reason.MAKES_ROOM,
            figures={"idle_s": idle_s},
        )


def _targets(process: Process, source: int, on: Topology) -> list[int]:
    """Give the nodes that it may go to, by preference."""
    fit = [
        at
        for at, node in enumerate(on.nodes)
        if node.total_bytes and node.id in process.nodes_allowed and at != source
    ]
    return sorted(fit, key=lambda at: (bool(on.nodes[at].cpus), on.distances[source][at], at))
