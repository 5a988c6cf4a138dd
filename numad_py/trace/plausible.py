# SPDX-License-Identifier: Apache-2.0

"""Figures that no machine can have had: a trace with one of them is damaged, however well it reads.

The limits are wide on purpose. What is refused could not have been recorded; what is merely odd passes.
"""

import numpy as np

from numad_py.model import REGION_COLUMNS, ProcessKey
from numad_py.topology import Ints, Topology
from numad_py.trace import wire
from numad_py.trace.wire import Damage, Kind

_LATE_S = 600.0  # a process may be known to the daemon that long before its first tick that can be read
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
    """Remembers since when each process was looked at, the longest that a thread of it can have run.

    It may be told late, and all at once: threads that use little of their process's time are not read at every look.
    """

    def __init__(self) -> None:
        self._since_s: dict[ProcessKey, float] | None = None

    def check(self, line: wire.Tick) -> None:
        """Raise Damage where a thread used more than the time that went by."""
        processes = [process for job in line.jobs for process in job.processes]
        if self._since_s is None:
            # A daemon tells of no thread at its first look. Where one is told of, these are later ones, as in a
            # ring, and all that is known is that the clock began with the machine.
            later = any(process.threads.tid for process in processes)
            first_s, known = 0.0 if later else line.time_s, {}
        else:
            first_s, known = line.time_s, self._since_s
        since_s = {}
        for process in processes:
            key = ProcessKey(process.key.pid, process.key.start_ticks)
            since_s[key] = known.get(key, first_s)
            used_s, most_s = max(process.threads.cpu_s, default=0.0), line.time_s - since_s[key] + _LATE_S
            if used_s > most_s:
                raise Damage(
                    f"a thread of process {key.pid} used {used_s:g} s of CPU in {most_s:g} s at most"
                )
        self._since_s = since_s


def check_clock(time_s: float, before_s: float) -> None:
    """Raise Damage unless the time went on."""
    if time_s < before_s:
        raise Damage(f"time goes back from {before_s} s to {time_s} s", Kind.CLOCK)
    if time_s == before_s:
        raise Damage(f"time stands still at {time_s} s", Kind.CLOCK)
