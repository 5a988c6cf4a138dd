# SPDX-License-Identifier: Apache-2.0

"""Who used memory from where: the processes of one look as arrays of shape (processes, nodes).

A process is at home on the nodes where it used its CPU time: the busiest one, and any with at least half as much.
While it sleeps it keeps the home it had. Home is where the memory is that belongs to those CPUs.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from numad_py.model import ProcessKey, Regions, Snapshot
from numad_py.sim.load import from_everywhere
from numad_py.sim.reach import Reach
from numad_py.topology import Floats, Topology

HOME_PART: Final = 0.5


@dataclass(frozen=True, eq=False)
class Use:
    """CPU seconds, shares of resident bytes, unbound anonymous bytes, and homes.

    ``reach`` has the shape (processes, nodes, nodes): of what a process accesses from one node, the share that lies on
    another; a process that holds nothing reaches nowhere.
    """

    cpu_s: Floats
    page_share: Floats
    anon_bytes: Floats
    home: NDArray[np.bool_]
    reach: Floats

    @property
    def local_bytes(self) -> Floats:
        """By process: unbound anonymous bytes at home."""
        local: Floats = (self.anon_bytes * self.home).sum(axis=1)
        return local

    @property
    def known_bytes(self) -> Floats:
        """By process: unbound anonymous bytes of which is known whether they are at home."""
        known: Floats = self.anon_bytes.sum(axis=1) * self.home.any(axis=1)
        return known


@dataclass(frozen=True, eq=False)
class _Resident:
    """What one process holds by node, summed once for as long as its regions stay the same."""

    regions: Regions
    page_share: Floats
    anon_bytes: Floats

    @staticmethod
    def of(regions: Regions) -> "_Resident":
        pages = regions.pages.astype(np.float64)  # exact below 2^53, and multiplied much faster than integers
        every, anon = np.empty((2, len(regions)))
        every[:] = regions.page_bytes
        anon[:] = every * regions.unbound * regions.anon_pages / np.maximum(pages.sum(axis=1), 1)
        by_node = every @ pages
        return _Resident(regions, by_node / max(by_node.sum(), 1), anon @ pages)


class Users:
    """Follows the processes of a run from look to look."""

    def __init__(self) -> None:
        self._known: dict[ProcessKey, tuple[_Resident, NDArray[np.bool_]]] = {}
        self._reach: dict[ProcessKey, Reach] = {}

    def look(self, snapshot: Snapshot) -> Use:
        """Give what all processes did since the last look, in the order of the jobs."""
        processes, cpu_s = snapshot.processes, snapshot.cpu_s
        home = _homes(cpu_s, snapshot.topology)
        asleep = (cpu_s.sum(axis=1) == 0).tolist()
        resident = []
        for row, process in enumerate(processes):
            held, last_home = self._known.get(process.key, _UNKNOWN)
            resident.append(held if held.regions is process.regions else _Resident.of(process.regions))
            if asleep[row] and len(last_home):
                home[row] = last_home
        self._known = {
            each.key: (held, where) for each, held, where in zip(processes, resident, home, strict=True)
        }
        page_share = np.array([held.page_share for held in resident], np.float64).reshape(cpu_s.shape)
        anon_bytes = np.array([held.anon_bytes for held in resident], np.float64).reshape(cpu_s.shape)
        return Use(cpu_s, page_share, anon_bytes, home, self._reached(snapshot, page_share))

    def _reached(self, snapshot: Snapshot, page_share: Floats) -> Floats:
        """Give ``Use.reach``: even over the pages, but of processes that were investigated."""
        even = from_everywhere(page_share)
        before, self._reach = self._reach, {}
        rows, seen = [], []
        for row, process in enumerate(snapshot.processes):
            known = before.get(process.key)
            accesses = process.accesses or (known.accesses if known else None)
            if accesses is None:
                continue
            if known is None or known.accesses is not accesses or known.regions is not process.regions:
                known = Reach.of(accesses, process.regions)
            self._reach[process.key] = known
            rows.append(row)
            seen.append(known.from_nodes(process.threads, page_share[row], snapshot.topology))
        if not rows:
            return even
        reach = even.copy()
        reach[rows] = seen
        return reach


_UNKNOWN: Final = (_Resident.of(Regions.empty(0)), np.zeros(0, bool))


def _homes(cpu_s: Floats, on: Topology) -> NDArray[np.bool_]:
    busiest_s = cpu_s.max(axis=1, initial=0, keepdims=True)
    rows, nodes = np.nonzero((cpu_s > 0) & (cpu_s >= HOME_PART * busiest_s))
    home = np.zeros(cpu_s.shape, bool)
    home[rows, on.memory_of[nodes]] = True
    return home
