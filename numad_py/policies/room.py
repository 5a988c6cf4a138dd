# SPDX-License-Identifier: Apache-2.0

"""The room on every node that jobs will not need soon, as they grow now."""

import numpy as np

from numad_py.model import ProcessKey, Snapshot
from numad_py.policies.homes import rows_before
from numad_py.topology import Floats, Ints


class Room:
    """Follows how jobs grow: by process, what it held when it was read last, how fast it grew until then, and where it ran.

    Who was not read, or sleeps, is taken to go on where it ran last.
    """

    def __init__(self) -> None:
        self._keys: tuple[ProcessKey, ...] = ()
        self._read_s, self._bytes, self._per_s = np.zeros(0), np.zeros(0, np.int64), np.zeros(0)
        self._node_ids: tuple[int, ...] = ()
        self._runs = np.zeros((0, 0))  # by node, as shares

    def look(self, snapshot: Snapshot, horizon_s: float) -> Ints:
        """Give free memory and clean page cache above the high watermark, less what jobs will touch where they run."""
        before = rows_before(self._keys, snapshot.keys)
        self._follow(snapshot, before)
        self._runs = self._ran(snapshot, before)
        memory = snapshot.memory
        unused_bytes = memory.free_bytes - memory.high_watermark_bytes + memory.clean_bytes
        growing_bytes = (horizon_s * self._per_s @ self._runs).astype(np.int64)
        room_bytes: Ints = np.maximum(unused_bytes - growing_bytes, 0)
        return room_bytes

    def _ran(self, snapshot: Snapshot, before: Ints) -> Floats:
        """Give by process and node the share of its CPU time when it last ran."""
        on, used_s = snapshot.topology, snapshot.cpu_s.sum(axis=1, keepdims=True)
        if on.node_ids != self._node_ids:  # some came or went, and positions mean others
            self._runs, self._node_ids = np.zeros((len(self._runs), len(on.nodes))), on.node_ids
        last = np.vstack([self._runs, np.zeros(len(on.nodes))])[before]
        runs: Floats = np.where(used_s > 0, snapshot.cpu_s / np.maximum(used_s, 1e-9), last)
        return runs

    def _follow(self, snapshot: Snapshot, before: Ints) -> None:
        """Go on from what was known, half of which is forgotten at every reading."""
        read_s, held = snapshot.placed_s, snapshot.movable_bytes.sum(axis=1)
        then_s, had = np.append(self._read_s, np.inf)[before], np.append(self._bytes, 0)[before]
        per_s, anew = np.append(self._per_s, 0.0)[before], read_s > then_s
        passed_s = np.subtract(read_s, then_s, out=np.ones(len(anew)), where=anew)
        self._per_s = np.where(anew, (per_s + np.maximum(held - had, 0) / passed_s) / 2, per_s)
        known = (before >= 0) & ~anew
        self._read_s, self._bytes = np.where(known, then_s, read_s), np.where(known, had, held)
        self._keys = snapshot.keys
