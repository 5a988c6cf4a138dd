# SPDX-License-Identifier: Apache-2.0

"""The least time that any moves could have led to, from the demand alone: a bound that no policy beats.

Problem: a ratio to doing nothing does not say how much there was to gain.
Primitive: with room and moving time without end each page is a problem of its own: at every look it pays for
where it is, and may then go elsewhere at a price. The least that a page can have paid, by node where it is now,
follows from the same figures one look before (Bellman's recursion, as for any shortest path).
Application: pages of one process that were first touched on one node have the same way before them, so there is
one such row of figures for each process and node, whatever the number of pages. Where pages come to a row
that others have lived in, the row takes the lesser of both figures: the bound holds, and is no longer tight.

What cannot move (bound by a mempolicy, or mapped by several processes) pays where ``hold`` has it. A process of which
an investigation saw who touches what pays as if all of it were near. Latencies are idle ones: load only adds to them.
"""

from collections.abc import Sequence

import numpy as np

from numad_py.model import Regions, Snapshot, Tick
from numad_py.sim.cost import Prices
from numad_py.sim.roll import Roll, by_process, columns
from numad_py.sim.work import shared, sharing
from numad_py.topology import Bools, Floats


class Oracle:
    """Follows the ticks of a replay under ``hold``.

    Arrays are by row of a `Roll`. ``least_s`` has the shape (processes, node of first touch, node): what a byte has paid
    at least if it is there now, above what it has paid at least wherever it is.
    """

    def __init__(self, prices: Prices) -> None:
        nodes = len(prices.latency_ns)
        self._prices = prices
        self._slower = prices.latency_ns / np.diag(prices.latency_ns)[:, None]
        self._touched_s = np.where(np.eye(nodes, dtype=bool), 0.0, np.inf)
        self._roll = Roll()
        self._bytes = np.zeros((1, 2, nodes))  # that may not move, and that may
        self._move_s = np.zeros(1)  # the least price of moving a byte
        self._least_s = self._touched_s[None]
        self._seen = np.zeros(1, bool)  # by an investigation
        self._allowed = _Allowed()
        self._time_s: float | None = None
        self._spent_s = self._spent_anywhere_s = 0.0

    def modelled_s(self, *, tasks: bool) -> float:
        """Give the bound on ``Score.modelled_s`` so far, of policies that move threads or of those that do not."""
        return self._spent_anywhere_s if tasks else self._spent_s

    def add(self, tick: Tick) -> None:
        """Take in one look."""
        snapshot = tick.snapshot
        elapsed_s = 0.0 if self._time_s is None else snapshot.time_s - self._time_s
        self._time_s = snapshot.time_s
        rows, changed = self._roll.call(snapshot.processes)
        if rows is not None:
            self._bytes, self._move_s, self._least_s, self._seen = (
                each[rows] for each in (self._bytes, self._move_s, self._least_s, self._seen)
            )
        if changed:
            self._hold(changed, [snapshot.processes[row].regions for row in changed])
        self._seen[:-1] |= np.array([each.accesses is not None for each in snapshot.processes], bool)
        self._spent_s += self._live(snapshot, elapsed_s)
        self._spent_anywhere_s += _anywhere_s(snapshot, elapsed_s)

    def _hold(self, rows: list[int], regions: Sequence[Regions]) -> None:
        """Take in what these rows hold now, and the pages that are new."""
        had, least_s = self._bytes[rows, 1], self._least_s[rows]
        self._bytes[rows], self._move_s[rows] = _holdings(regions, self._prices)
        grown = self._bytes[rows, 1] > had
        merged_s = np.where((had > 0)[:, :, None], np.minimum(least_s, self._touched_s), self._touched_s)
        self._least_s[rows] = np.where(grown[:, :, None], merged_s, least_s)

    def _live(self, snapshot: Snapshot, elapsed_s: float) -> float:
        """Let every page pay for where it is and go on; give what was spent."""
        share = self._prices.memory_share
        cpu_s = snapshot.cpu_s * sharing(snapshot.cpu_s, elapsed_s, snapshot.topology)
        other, movable = self._bytes[:-1, 0], self._bytes[:-1, 1]
        every = (movable + other).sum(axis=1)
        waited_s = cpu_s @ self._slower
        seen = self._seen[:-1]
        waited_s[seen] = cpu_s[seen].sum(axis=1, keepdims=True)
        self._least_s[:-1][seen] = 0.0
        per_byte_s = share * waited_s / np.maximum(every, 1)[:, None]
        homeless_s = share * cpu_s[every == 0].sum()
        paid = self._least_s[:-1] + per_byte_s[:, None, :]
        ran_s = snapshot.cpu_s.sum(axis=1)
        busy = np.minimum(ran_s / elapsed_s, 1.0) if elapsed_s else ran_s > 0
        moved = paid.min(axis=2, keepdims=True) + (busy * self._move_s[:-1])[:, None, None]
        allowed = self._allowed.by_row(snapshot)
        paid = np.where(allowed[:, None, :], np.minimum(paid, moved), paid)
        lowest = paid.min(axis=2)
        self._least_s[:-1] = paid - lowest[:, :, None]
        in_pages_s = (movable * lowest).sum() + (other * per_byte_s).sum()
        return float((1 - share) * cpu_s.sum() + homeless_s + in_pages_s)


def _anywhere_s(snapshot: Snapshot, elapsed_s: float) -> float:
    """Give the least time where threads may run anywhere: all memory is near, and no core is shared before all are busy.

    Time shared on a node grows faster than what runs there, so that it is least where all nodes are taken for one.
    """
    on, ran_s = snapshot.topology, float(snapshot.cpu_s.sum())
    everywhere = shared(
        ran_s / elapsed_s if elapsed_s else 0.0, on.cores_by_node.sum(), on.cpus_by_node.sum()
    )
    return ran_s * float(everywhere)


class _Allowed:
    """The nodes that processes may use, by row; read again only when they are others."""

    def __init__(self) -> None:
        self._nodes: list[tuple[int, ...]] | None = None
        self._rows: Bools = np.zeros((0, 0), bool)

    def by_row(self, snapshot: Snapshot) -> Bools:
        nodes = [each.nodes_allowed for each in snapshot.processes]
        if nodes != self._nodes:
            ids = snapshot.topology.node_ids
            row_of = {each: np.isin(ids, each) for each in set(nodes)}
            self._nodes, self._rows = nodes, np.array([row_of[each] for each in nodes]).reshape(-1, len(ids))
        return self._rows


def _holdings(held: Sequence[Regions], prices: Prices) -> tuple[Floats, Floats]:
    """Give bytes that may not and that may move, shape (processes, 2, nodes), and the least price of moving one."""
    lengths, pages, page_bytes, unbound, mapmax = columns(held, "pages", "page_bytes", "unbound", "mapmax")
    may_move = unbound & (mapmax <= 1)
    every = by_process(pages * page_bytes[:, None], lengths)
    movable = by_process(pages * (page_bytes * may_move)[:, None], lengths)
    ascending = np.sort(page_bytes)
    sizes = ascending[np.diff(ascending, prepend=0) > 0]  # np.unique takes twenty times as long
    price_s = prices.page_ns(sizes) * 1e-9 / sizes
    of_row = np.where(may_move, price_s[np.searchsorted(sizes, page_bytes)], price_s.max(initial=0.0))
    return np.stack([every - movable, movable], axis=1), by_process(of_row, lengths, np.minimum)
