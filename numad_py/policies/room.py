# SPDX-License-Identifier: Apache-2.0

"""The room on every node that jobs will not need soon, as they grow now."""

import numpy as np

from numad_py.model import ProcessKey, Snapshot
from numad_py.policies.homes import rows_before
from numad_py.topology import Ints


class Room:
    """Follows how jobs grow: by process, what it held when it was read last, and how fast it grew until then."""

    def __init__(self) -> None:
        self._keys: tuple[ProcessKey, ...] = ()
        self._read_s, self._bytes, self._per_s = np.zeros(0), np.zeros(0, np.int64), np.zeros(0)

    def look(self, snapshot: Snapshot, horizon_s: float) -> Ints:
        """Give free memory and clean page cache above the high watermark, less what jobs will touch where they run."""
        self._follow(snapshot)
        runs = snapshot.cpu_s / np.maximum(snapshot.cpu_s.sum(axis=1, keepdims=True), 1e-9)
        memory = snapshot.memory
        unused_bytes = memory.free_bytes - memory.high_watermark_bytes + memory.clean_bytes
        growing_bytes = (horizon_s * self._per_s @ runs).astype(np.int64)
        room_bytes: Ints = np.maximum(unused_bytes - growing_bytes, 0)
        return room_bytes

    def _follow(self, snapshot: Snapshot) -> None:
        """Go on from what was known, half of which is forgotten at every reading."""
        before = rows_before(self._keys, snapshot.keys)
        read_s, held = snapshot.placed_s, snapshot.movable_bytes.sum(axis=1)
        then_s, had = np.append(self._read_s, np.inf)[before], np.append(self._bytes, 0)[before]
        per_s, anew = np.append(self._per_s, 0.0)[before], read_s > then_s
        passed_s = np.subtract(read_s, then_s, out=np.ones(len(anew)), where=anew)
        self._per_s = np.where(anew, (per_s + np.maximum(held - had, 0) / passed_s) / 2, per_s)
        known = (before >= 0) & ~anew
        self._read_s, self._bytes = np.where(known, then_s, read_s), np.where(known, had, held)
        self._keys = snapshot.keys
