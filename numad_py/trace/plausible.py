# SPDX-License-Identifier: Apache-2.0

"""Figures that no machine can have had: a trace with one of them is damaged, however well it reads.

The limits are wide on purpose. What is refused could not have been recorded; what is merely odd passes.
"""

import numpy as np

from numad_py.model import REGION_COLUMNS, Ints, ProcessKey, Topology
from numad_py.trace import wire
from numad_py.trace.wire import Damage, Kind

# A process is read at least once a minute while the daemon keeps its budget; a ring begins in the midst of things.
_BEFORE_THE_TRACE_S = 600.0
_LATE_S = 10.0  # ticks of 10 ms are rounded, and a look takes a while
_PAGE_BYTES = REGION_COLUMNS.index("page_bytes")
_PAGES = REGION_COLUMNS.index("pages")


def machine_bytes(on: Topology, memory: wire.NodeMemory) -> int:
    """Give the machine's memory, then or now: memory may come to a node, or go."""
    return max(sum(node.total_bytes for node in on.nodes), sum(memory.total_bytes))


def check_memory(memory: wire.NodeMemory, most_bytes: int) -> None:
    """Raise Damage where a node has more of anything than the machine has memory."""
    for name in memory.__struct_fields__:
        found = max(getattr(memory, name), default=0)
        if found > most_bytes:
            raise Damage(f"{name} of {found} on a machine of {most_bytes} bytes")


def check_pages(table: Ints, most_bytes: int) -> None:
    """Raise Damage where one region has more memory than the machine; processes together may, for they share."""
    held = table[_PAGES:].sum(axis=0, dtype=np.float64) * table[_PAGE_BYTES]
    if held.size and held.max() > most_bytes:
        raise Damage(f"a region of {held.max():.0f} resident bytes on a machine of {most_bytes} bytes")


class CpuTime:
    """Remembers when each process's threads were read, since when they can have used that much."""

    def __init__(self) -> None:
        self._began_s: float | None = None
        self._read_s: dict[ProcessKey, float] = {}

    def check(self, line: wire.Tick) -> None:
        """Raise Damage where a thread used more than twice the time that went by."""
        if self._began_s is None:
            self._began_s = line.time_s - _BEFORE_THE_TRACE_S
        read_s = {}
        for job in line.jobs:
            for process in job.processes:
                key = ProcessKey(process.key.pid, process.key.start_ticks)
                since_s = self._read_s.get(key, self._began_s)
                used_s = max(process.threads.cpu_s, default=0.0)
                if used_s > 2 * (line.time_s - since_s) + _LATE_S:
                    raise Damage(
                        f"a thread of process {key.pid} used {used_s:g} s of CPU in {line.time_s - since_s:g} s"
                    )
                read_s[key] = line.time_s if used_s else since_s
        self._read_s = read_s if line.keyframe else self._read_s | read_s


def check_clock(time_s: float, before_s: float) -> None:
    """Raise Damage unless the time went on."""
    if time_s < before_s:
        raise Damage(f"time goes back from {before_s} s to {time_s} s", Kind.CLOCK)
    if time_s == before_s:
        raise Damage(f"time stands still at {time_s} s", Kind.CLOCK)
