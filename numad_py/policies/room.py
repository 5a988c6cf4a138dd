# SPDX-License-Identifier: Apache-2.0

"""The room on every node that jobs will not need soon, as they grow now."""

from typing import NamedTuple

import numpy as np

from numad_py.model import ProcessKey, Snapshot
from numad_py.topology import Ints


class _Grown(NamedTuple):
    """What a process held when it was read last, and how fast it grew until then."""

    read_s: float
    bytes_: int
    per_s: float = 0.0


class Room:
    """Follows how jobs grow."""

    def __init__(self) -> None:
        self._grown: dict[ProcessKey, _Grown] = {}

    def look(self, snapshot: Snapshot, horizon_s: float) -> Ints:
        """Give free memory and clean page cache above the high watermark, less what jobs will touch where they run."""
        before, self._grown = self._grown, {}
        for process, held in zip(
            snapshot.processes, snapshot.movable_bytes.sum(axis=1).tolist(), strict=True
        ):
            now = _Grown(snapshot.time_s - process.placement_age_s, held)
            self._grown[process.key] = _grown(before.get(process.key, now), now)
        per_s = np.array([each.per_s for each in self._grown.values()], np.float64)
        runs = snapshot.cpu_s / np.maximum(snapshot.cpu_s.sum(axis=1, keepdims=True), 1e-9)
        memory = snapshot.memory
        unused_bytes = memory.free_bytes - memory.high_watermark_bytes + memory.clean_bytes
        room_bytes: Ints = np.maximum(unused_bytes - (horizon_s * per_s @ runs).astype(np.int64), 0)
        return room_bytes


def _grown(then: _Grown, now: _Grown) -> _Grown:
    """Go on from what was known, half of which is forgotten at every reading."""
    if now.read_s <= then.read_s:
        return then
    per_s = max(now.bytes_ - then.bytes_, 0) / (now.read_s - then.read_s)
    return now._replace(per_s=(then.per_s + per_s) / 2)
