# SPDX-License-Identifier: Apache-2.0

"""Who used memory from where: the processes of one look as arrays of shape (processes, nodes).

A process is at home where its memory belongs by the CPU time it used; while it sleeps it keeps the home it had.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from numad_py.model import ProcessKey, Regions, Snapshot
from numad_py.sim.load import from_everywhere
from numad_py.sim.reach import Reach
from numad_py.sim.roll import Roll, by_process, columns
from numad_py.topology import Floats


@dataclass(frozen=True, eq=False)
class Use:
    """CPU seconds, shares of resident bytes, unbound anonymous bytes, and homes.

    ``reach`` has the shape (processes, nodes, nodes): of what a process accesses from one node, the share that lies on
    another; a process that holds nothing reaches nowhere. Of who is ``seen`` it was investigated, not inferred.
    """

    cpu_s: Floats
    page_share: Floats
    anon_bytes: Floats
    home: NDArray[np.bool_]
    reach: Floats
    seen: NDArray[np.bool_]

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


class Users:
    """Follows the processes of a run from look to look."""

    def __init__(self, nodes: int) -> None:
        self._roll = Roll()
        self._page_share = self._anon_bytes = np.zeros((1, nodes))
        self._home = np.zeros((1, nodes), bool)
        self._reach: dict[ProcessKey, Reach] = {}

    def look(self, snapshot: Snapshot) -> Use:
        """Give what all processes did since the last look, in the order of the jobs."""
        rows, changed = self._roll.call(snapshot.processes)
        if rows is not None:
            self._page_share, self._anon_bytes, self._home = (
                each[rows] for each in (self._page_share, self._anon_bytes, self._home)
            )
        if changed:
            # In copies: what was given at the last look stays as it is.
            self._page_share, self._anon_bytes = self._page_share.copy(), self._anon_bytes.copy()
            regions = [snapshot.processes[row].regions for row in changed]
            at = list(changed)
            self._page_share[at], self._anon_bytes[at] = _resident(regions)
        cpu_s = snapshot.cpu_s
        asleep = cpu_s.sum(axis=1, keepdims=True) == 0
        home = np.where(asleep, self._home[:-1], snapshot.topology.homes(cpu_s))
        self._home = np.concatenate([home, self._home[-1:]])
        page_share = self._page_share[:-1]
        return Use(cpu_s, page_share, self._anon_bytes[:-1], home, *self._reached(snapshot, page_share))

    def _reached(self, snapshot: Snapshot, page_share: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """Give ``Use.reach``, even over the pages but of processes that were investigated, and ``Use.seen``."""
        reach, seen = from_everywhere(page_share), np.zeros(len(page_share), bool)
        before, self._reach = self._reach, {}
        for row, process in enumerate(snapshot.processes):
            known = before.get(process.key) if before else None
            accesses = process.accesses or (known.accesses if known else None)
            if accesses is None:
                continue
            if known is None or known.accesses is not accesses or known.regions is not process.regions:
                known = Reach.of(accesses, process.regions)
            self._reach[process.key] = known
            seen[row] = True
            reach = reach if reach.flags.writeable else reach.copy()
            reach[row] = known.from_nodes(process.threads, page_share[row], snapshot.topology)
        return reach, seen


def _resident(held: Sequence[Regions]) -> tuple[Floats, Floats]:
    """Give the shares of resident bytes, and unbound anonymous bytes, by process and node."""
    lengths, pages, page_bytes, unbound, anon_pages = columns(
        held, "pages", "page_bytes", "unbound", "anon_pages"
    )
    by_node = by_process(pages * page_bytes[:, None], lengths)
    anon_share = unbound * anon_pages / np.maximum(pages.sum(axis=1), 1)
    anon_bytes = by_process(pages * (page_bytes * anon_share)[:, None], lengths)
    return by_node / np.maximum(by_node.sum(axis=1, keepdims=True), 1), anon_bytes
