# SPDX-License-Identifier: Apache-2.0

"""Tell where each thread of a process ran, and for how long, since the last look."""

import os
from pathlib import Path

import numpy as np

from numad_py.kernel import proc_stat
from numad_py.model import Floats, Ints, ProcessKey, Threads

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class CpuTime:
    """Remembers every thread's CPU time from one look to the next."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._before: dict[ProcessKey, tuple[Ints, Ints]] = {}
        self._now: dict[ProcessKey, tuple[Ints, Ints]] = {}

    def since_last_look(self, key: ProcessKey) -> Threads:
        """Give the threads that ran since; none for a process seen for the first time."""
        tid, cpu, ticks = proc_stat.cpu_times(proc_stat.read_threads(key.pid, self._root))
        self._now[key] = (tid, ticks)
        if key not in self._before:
            return Threads(tid[:0], cpu[:0], np.zeros(0, np.float64))
        cpu_s: Floats = (ticks - _matching(*self._before[key], tid)).astype(np.float64) * TICK_S
        ran = cpu_s > 0
        return Threads(tid[ran], cpu[ran], cpu_s[ran])

    def turn(self) -> None:
        """End a look: forget what was not asked for in it."""
        self._before, self._now = self._now, {}


def _matching(known: Ints, ticks: Ints, tid: Ints) -> Ints:
    """Give each thread's earlier ticks; 0 for threads that are new."""
    if not len(known):
        return np.zeros(len(tid), np.int64)
    order = np.argsort(known)
    place = np.minimum(np.searchsorted(known[order], tid), len(known) - 1)
    row = order[place]
    return np.where(known[row] == tid, ticks[row], 0)
