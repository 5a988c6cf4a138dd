# SPDX-License-Identifier: Apache-2.0

"""The least time that any moves could have led to, from the demand alone: a bound that no policy beats.

Problem: a ratio to doing nothing does not say how much there was to gain.
Primitive: with room and moving time without end each page is a problem of its own: at every look it pays for
where it is, and may then go elsewhere at a price. The least that a page can have paid, by node where it is now,
follows from the same figures one look before (Bellman's recursion, as for any shortest path).
Application: pages of one process that were first touched on one node have the same way before them, so there is
one such row of figures for each process and node, whatever the number of pages. Where pages come to a row
that others have lived in, the row takes the lesser of both figures: the bound holds, and is no longer tight.

What cannot move (bound by a mempolicy, or mapped by several processes) pays where ``hold`` has it.
Latencies are idle ones: load only adds to them.
"""

from dataclasses import dataclass

import numpy as np

from numad_py.model import Process, ProcessKey, Regions, Snapshot, Tick
from numad_py.sim.cost import Prices
from numad_py.topology import Floats


@dataclass(frozen=True, eq=False)
class _Held:
    """What a process holds by node, and the least price of moving a byte of it."""

    regions: Regions
    movable_bytes: Floats
    other_bytes: Floats
    move_s_per_byte: float

    @staticmethod
    def of(regions: Regions, prices: Prices) -> "_Held":
        may_move = regions.unbound & (regions.mapmax <= 1)
        by_row = regions.resident_bytes
        per_byte_s = prices.page_ns(regions.page_bytes) * 1e-9 / regions.page_bytes
        return _Held(
            regions,
            by_row[may_move].sum(axis=0).astype(np.float64),
            by_row[~may_move].sum(axis=0).astype(np.float64),
            float(per_byte_s[may_move].min()) if may_move.any() else 0.0,
        )


class Oracle:
    """Follows the ticks of a replay under ``hold``.

    ``least_s`` of a process has the shape (node of first touch, node): what a byte has paid at least if it is
    there now, above what it has paid at least wherever it is.
    """

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._slower = prices.latency_ns / np.diag(prices.latency_ns)[:, None]
        self._known: dict[ProcessKey, tuple[_Held, Floats]] = {}
        self._time_s: float | None = None
        self._spent_s = 0.0

    @property
    def modelled_s(self) -> float:
        """The bound on ``Score.modelled_s`` so far."""
        return self._spent_s

    def add(self, tick: Tick) -> None:
        """Take in one look."""
        snapshot = tick.snapshot
        elapsed_s = 0.0 if self._time_s is None else snapshot.time_s - self._time_s
        self._time_s = snapshot.time_s
        before, self._known = self._known, {}
        if not snapshot.processes:
            return
        held, least = zip(
            *(self._held(each, before.get(each.key)) for each in snapshot.processes), strict=True
        )
        self._spent_s += self._live(snapshot, elapsed_s, held, np.stack(least))

    def _held(self, process: Process, known: tuple[_Held, Floats] | None) -> tuple[_Held, Floats]:
        """Give what a process holds now, and the figures of what it held, pages that are new taken in."""
        nodes = len(self._slower)
        touched = np.where(np.eye(nodes, dtype=bool), 0.0, np.inf)
        if known is None:
            return _Held.of(process.regions, self._prices), touched
        before, least = known
        if before.regions is process.regions:
            return before, least
        now = _Held.of(process.regions, self._prices)
        grown = now.movable_bytes > before.movable_bytes
        merged = np.where((before.movable_bytes > 0)[:, None], np.minimum(least, touched), touched)
        return now, np.where(grown[:, None], merged, least)

    def _live(self, snapshot: Snapshot, elapsed_s: float, held: tuple[_Held, ...], least: Floats) -> float:
        """Let every page pay for where it is and go on; give what was spent, and remember the rest."""
        cpu_s, share = snapshot.cpu_s, self._prices.memory_share
        movable, other = (
            np.stack(kind) for kind in zip(*((h.movable_bytes, h.other_bytes) for h in held), strict=True)
        )
        every = (movable + other).sum(axis=1)
        per_byte_s = share * (cpu_s @ self._slower) / np.maximum(every, 1)[:, None]
        homeless_s = share * cpu_s[every == 0].sum()
        paid = least + per_byte_s[:, None, :]
        busy = np.minimum(cpu_s.sum(axis=1) / elapsed_s, 1.0) if elapsed_s else cpu_s.sum(axis=1) > 0
        price_s = busy * np.array([each.move_s_per_byte for each in held])
        moved = paid.min(axis=2, keepdims=True) + price_s[:, None, None]
        allowed = np.array(
            [np.isin(snapshot.topology.node_ids, each.nodes_allowed) for each in snapshot.processes]
        )
        paid = np.where(allowed[:, None, :], np.minimum(paid, moved), paid)
        lowest = paid.min(axis=2)
        for process, mine, left in zip(snapshot.processes, held, paid - lowest[:, :, None], strict=True):
            self._known[process.key] = mine, left
        in_pages_s = (movable * lowest).sum() + (other * per_byte_s).sum()
        return float((1 - share) * cpu_s.sum() + homeless_s + in_pages_s)
