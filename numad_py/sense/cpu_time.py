# SPDX-License-Identifier: Apache-2.0

"""Tell where each thread of a process ran, and for how long, since it was last asked.

Problem: a thread's times take the kernel 8 µs to print, and a job has thousands of threads.
Primitive: the process's own line of times is the sum of its threads'.
Application: no thread is read while that sum stands still, and only those that ran last
time while they account for nearly all of it.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from numad_py.kernel import proc_stat
from numad_py.model import ProcessKey, Threads
from numad_py.topology import Ints

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
EXPLAINED_SHARE = 0.9

NO_THREADS = Threads(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float64))


@dataclass(frozen=True, eq=False)
class _Known:
    """A process's ticks when its threads were read, theirs, and those that had run before that."""

    process_ticks: int
    tid: Ints
    ticks: Ints
    busy: Ints


class CpuTime:
    """Remembers every thread's CPU time from one reading to the next."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._known: dict[ProcessKey, _Known] = {}

    def ran(self, key: ProcessKey, process_ticks: int) -> bool:
        """Say whether anything ran since the threads were read, given the process's own ticks now."""
        known = self._known.get(key)
        return known is None or known.process_ticks != process_ticks

    def read(self, key: ProcessKey, process_ticks: int) -> Threads:
        """Give the threads that ran since they were read last; none for a process seen for the first time."""
        known = self._known.get(key)
        if known is None:
            tid, _, ticks = self._read(key)
            self._known[key] = _Known(process_ticks, tid, ticks, tid[:0])
            return NO_THREADS
        # A process's ticks and its threads' are each rounded by themselves.
        wanted = EXPLAINED_SHARE * (process_ticks - known.process_ticks) - 1
        tid, cpu, ticks = self._read(key, known.busy)
        used = ticks - _matching(known.tid, known.ticks, tid)
        idle = ~np.isin(known.tid, tid)
        if used.sum() < wanted or not len(tid):
            tid, cpu, ticks = self._read(key)
            used = ticks - _matching(known.tid, known.ticks, tid)
            idle[:] = False
        ran = used > 0
        everyone = np.append(tid, known.tid[idle]), np.append(ticks, known.ticks[idle])
        self._known[key] = _Known(process_ticks, *everyone, tid[ran])
        return Threads(tid[ran], cpu[ran], used[ran].astype(np.float64) * TICK_S)

    def forget(self, key: ProcessKey) -> None:
        """Let it be seen for the first time again."""
        self._known.pop(key, None)

    def keep(self, keys: set[ProcessKey]) -> None:
        """Forget all others."""
        if len(self._known) > len(keys):
            self._known = {key: known for key, known in self._known.items() if key in keys}

    def _read(self, key: ProcessKey, tids: Ints | None = None) -> tuple[Ints, Ints, Ints]:
        wanted = None if tids is None else tids.tolist()
        return proc_stat.cpu_times(proc_stat.read_threads(key.pid, self._root, wanted))


def _matching(known: Ints, ticks: Ints, tid: Ints) -> Ints:
    """Give each thread's earlier ticks; 0 for threads that are new."""
    if not len(known):
        return np.zeros(len(tid), np.int64)
    order = np.argsort(known)
    place = np.minimum(np.searchsorted(known[order], tid), len(known) - 1)
    row = order[place]
    return np.where(known[row] == tid, ticks[row], 0)
