# SPDX-License-Identifier: Apache-2.0

"""Where processes run, as far as their CPU time tells.

Problem: CPU time since the last look is credited to the CPU where a thread is now. Two threads that change places
look like a job that changed nodes.
Primitive: a node's CPUs cannot have given a process more time than has passed; where they seem to, somebody moved.
Application: such a look is no evidence, and no more is one at which the CPU time was not read anew.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from numad_py.model import ProcessKey, Snapshot
from numad_py.topology import Bools, Floats, Ints

NO_EVIDENCE: Final = -1
SEVERAL: Final = -2  # nodes, none of which has most of the CPU time
SAME_S: Final = 0.05  # apart, two readings are one: a trace rounds ages
POSSIBLE_SHARE: Final = 1.2  # of the time of a node's CPUs: clocks of /proc tick a hundred times a second


class Readings:
    """Follows when the CPU time of each process was read, and how long it ran for that."""

    def __init__(self) -> None:
        self._keys: tuple[ProcessKey, ...] = ()
        self._read_s, self._period_s = np.zeros(0), np.zeros(0)

    def look(self, snapshot: Snapshot) -> tuple[Bools, Floats]:
        """Give by process whether it was read anew, and how long it ran for what it used; at first, as if all the time.

        Who is new counts as read, also where its CPU time never was.
        """
        before, now_s = rows_before(self._keys, snapshot.keys), snapshot.cpu_read_s
        last_s, period_s = np.append(self._read_s, -np.inf)[before], np.append(self._period_s, 0.0)[before]
        fresh = (before < 0) | (now_s > last_s + SAME_S)
        at_first_s = np.maximum(snapshot.busiest_s, SAME_S)
        passed_s = np.subtract(now_s, last_s, out=at_first_s, where=np.isfinite(last_s))
        period_s = np.where(fresh, passed_s, period_s)
        self._keys, self._read_s, self._period_s = snapshot.keys, now_s, period_s
        return fresh, period_s


def rows_before(before: Sequence[ProcessKey], now: Sequence[ProcessKey]) -> Ints:
    """Give for each process the row that it had in columns of before; -1, the last, for one that was in none."""
    if before == now:
        return np.arange(len(now))
    row_of = {key: row for row, key in enumerate(before)}
    return np.array([row_of.get(key, -1) for key in now], np.int64)


def homes(
    snapshot: Snapshot, fresh: Bools, period_s: Floats, *, least_cpu_s: float, share_above: float
) -> Ints:
    """Give by process the node to bring memory to, `NO_EVIDENCE` or `SEVERAL`."""
    cpu_s, on = snapshot.cpu_s, snapshot.topology
    used_s, at_home_s = cpu_s.sum(axis=1), cpu_s.max(axis=1, initial=0.0)
    possible = (cpu_s <= POSSIBLE_SHARE * period_s[:, None] * on.cpus_by_node).all(axis=1)
    home = np.where(at_home_s >= share_above * used_s, on.memory_of[cpu_s.argmax(axis=1)], SEVERAL)
    home[~possible] = SEVERAL
    home[~fresh | (used_s < least_cpu_s)] = NO_EVIDENCE
    return home
