# SPDX-License-Identifier: Apache-2.0

"""The least time that any moves could have led to, from the demand alone: a bound that no policy beats.

Problem: a ratio to doing nothing does not say how much there was to gain.
Primitive: with room and moving time without end each page is a problem of its own: at every look it pays for
where it is, and may then go elsewhere at a price. The least that a page can have paid, by node where it is now,
follows from the same figures one look before (Bellman's recursion, as for any shortest path).
Application: pages of one process that were first touched on one node have the same way before them, so there is
one such row of figures for each process and node, whatever the number of pages. Where pages come to a row
that others have lived in, the row takes the lesser of both figures: the bound holds, and is no longer tight.

What cannot move (bound by a mempolicy, or mapped by several processes) stays where ``hold`` has it, or where it
could be brought while it still could move. A policy may have it moved for all of a job's processes that share it,
and be below the bound, unless an investigation told who touches what. Who leaves is remembered for as long as by the
replay. Where a node could be full under some policy, pages that are new may be first touched on any. A process of
which an investigation saw who touches what pays as if all of it were near. Latencies are idle ones: load only adds.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from numad_py.model import Regions, Snapshot, Tick
from numad_py.ranges import overlaps
from numad_py.sim.cost import Prices
from numad_py.sim.demand import MOST_LEFT
from numad_py.sim.roll import Roll, by_process, columns
from numad_py.sim.work import shared, sharing
from numad_py.topology import Bools, Floats


class Oracle:
    """Follows the ticks of a replay under ``hold``.

    Arrays are by row of a `Roll`. ``least_s`` has the shape (processes, kind, node where ``hold`` has it, node): what
    a byte has paid at least if it is there now, above what it has paid at least wherever it is. Kinds are bytes that
    may not move, and that may.
    """

    def __init__(self, prices: Prices) -> None:
        nodes = len(prices.latency_ns)
        self._prices = prices
        self._slower = prices.latency_ns / np.diag(prices.latency_ns)[:, None]
        self._touched_s = np.where(np.eye(nodes, dtype=bool), 0.0, np.inf)
        self._roll = Roll(remembered=MOST_LEFT)
        self._bytes = np.zeros((1, 2, nodes))
        self._move_s = np.zeros(1)  # the least price of moving a byte
        self._least_s = np.zeros((1, 2, nodes, nodes))
        self._seen = np.zeros(1, bool)  # by an investigation
        self._allowed = _Allowed()
        self._time_s: float | None = None
        self._spent_s = self._spent_anywhere_s = 0.0

    @property
    def modelled_s(self) -> float:
        """The bound on ``Score.modelled_s`` so far."""
        return self._spent_s

    @property
    def anywhere_s(self) -> float:
        """The same, of policies that may move threads, too."""
        return self._spent_anywhere_s

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
            strangers = np.zeros(len(changed), bool) if rows is None else rows[list(changed)] < 0
            self._hold(changed, strangers, snapshot)
        self._seen[: len(snapshot.processes)] |= np.array(
            [each.accesses is not None for each in snapshot.processes], bool
        )
        self._spent_s += self._live(snapshot, elapsed_s)
        self._spent_anywhere_s += _anywhere_s(snapshot, elapsed_s)

    def _hold(self, changed: Mapping[int, Regions], strangers: Bools, snapshot: Snapshot) -> None:
        """Take in what these rows hold now. What came was touched first where it is, or could move until now."""
        rows, then = list(changed), list(changed.values())
        now = [snapshot.processes[row].regions for row in rows]
        had = self._bytes[rows]
        self._bytes[rows], self._move_s[rows] = held, _ = _holdings(now, self._prices)
        certain = strangers | self._ample(had, held, snapshot)
        touched_s = np.where(certain[:, None, None], self._touched_s, 0.0)
        least_s = np.where(had[..., None] > 0, self._least_s[rows], np.inf)
        was, may = had.sum(axis=2) > 0, held.sum(axis=2) > 0
        for index in np.flatnonzero((was & may[:, ::-1]).any(axis=1)).tolist():
            if _converted(then[index], now[index]):
                least_s[index] = least_s[index].min(axis=0)
        new = (_grown(then, now, had.shape[2])[:, None] | (had == 0))[..., None]
        self._least_s[rows] = np.where(new, np.minimum(least_s, touched_s[:, None]), least_s)

    def _ample(self, had: Floats, held: Floats, snapshot: Snapshot) -> bool:
        """Whether pages are first touched on the same nodes wherever others were moved: all would find room on each."""
        memory, shrunk_bytes = snapshot.memory, np.maximum(had - held, 0).sum()
        here_bytes = self._bytes[: len(snapshot.processes)].sum(axis=(0, 1))
        left_bytes = memory.free_bytes - memory.high_watermark_bytes + here_bytes
        return bool((left_bytes >= here_bytes.sum() + shrunk_bytes)[memory.total_bytes > 0].all())

    def _live(self, snapshot: Snapshot, elapsed_s: float) -> float:
        """Let every page pay for where it is and go on; give what was spent."""
        share, present = self._prices.memory_share, slice(len(snapshot.processes))
        cpu_s = snapshot.cpu_s * sharing(snapshot.cpu_s, elapsed_s, snapshot.topology)
        held, used_s, ran_s = self._bytes[present], cpu_s.sum(axis=1), snapshot.cpu_s.sum(axis=1)
        every = held.sum(axis=(1, 2))
        waited_s, seen = cpu_s @ self._slower, self._seen[present]
        waited_s[seen] = used_s[seen, None]
        self._least_s[present][seen] = 0.0
        per_byte_s = share * waited_s / np.maximum(every, 1)[:, None]
        paid = self._least_s[present] + per_byte_s[:, None, None, :]
        busy = np.minimum(ran_s / elapsed_s, 1.0) if elapsed_s else ran_s > 0
        movable = paid[:, 1]
        moved = movable.min(axis=2, keepdims=True) + (busy * self._move_s[present])[:, None, None]
        np.minimum(movable, moved, out=movable, where=self._allowed.by_row(snapshot)[:, None, :])
        lowest = paid.min(axis=3)
        self._least_s[present] = paid - lowest[..., None]
        homeless_s = share * used_s[every == 0].sum()
        return float((1 - share) * used_s.sum() + homeless_s + (held * lowest).sum())


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
            self._rows = np.array([row_of[each] for each in nodes], bool).reshape(-1, len(ids))
            self._nodes = nodes
        return self._rows


def _may_move(regions: Regions) -> Bools:
    return regions.unbound & (regions.mapmax <= 1)


def _grown(then: Sequence[Regions], now: Sequence[Regions], nodes: int) -> Bools:
    """By process and node: whether pages there may be new. A process with other regions than before may have replaced all."""
    grown = np.ones((len(now), nodes), bool)
    alike = [row for row, (had, has) in enumerate(zip(then, now, strict=True)) if len(had) == len(has) > 0]
    if alike:
        names = "start", "page_bytes", "pages"
        lengths, start, page_bytes, pages = columns([now[row] for row in alike], *names)
        _, had_start, had_page_bytes, had_pages = columns([then[row] for row in alike], *names)
        others = (start != had_start) | (page_bytes != had_page_bytes)
        grown[alike] = by_process((pages > had_pages) | others[:, None], lengths, np.logical_or)
    return grown


def _converted(then: Regions, now: Regions) -> bool:
    """Whether pages may move that could not, or may not that could."""
    before, after, _ = overlaps(then.start, then.end, now.start, now.end)
    return bool((_may_move(then)[before] != _may_move(now)[after]).any())


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
