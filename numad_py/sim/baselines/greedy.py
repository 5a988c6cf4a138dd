# SPDX-License-Identifier: Apache-2.0

"""What the cost model alone would do: move what is predicted to pay for itself, the best first.

Problem: a policy that learns has to be better than the prices that it is scored by.

Primitive: of each VMA and node the accesses of the last look say how long they would wait less in every second, were
its pages on another node. They move if, over a horizon, that is more than what moving them takes.

Application: at each look what saves most for each byte comes first, until the bytes of one look are used up, or the
room on the target. Nothing is remembered but who accesses what. Latencies are those of memory that is idle.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from numad_py.model import MovePages, Plan, Process, ProcessKey, Reason, Snapshot
from numad_py.sim.baselines.baseline import Baseline
from numad_py.sim.baselines.pieces import Used, look
from numad_py.sim.cost import Prices
from numad_py.topology import Columns, Floats, Ints, Topology

HORIZON_S: Final = 10.0
BUDGET_BYTES: Final = 1 << 30  # of one look


@dataclass(frozen=True, eq=False)
class _Offers(Columns):
    """Pages that would pay for moving, as columns: whose, of which VMA, from and to which node.

    ``gain_ns`` is for each byte what is saved over the horizon, less what moving takes.
    """

    process: Ints
    row: Ints
    source: Ints
    target: Ints
    page_bytes: Ints
    bytes_: Ints
    gain_ns: Floats


class Greedy(Baseline):
    """Moves what the cost model says is worth it within a horizon."""

    def __init__(
        self, prices: Prices, *, horizon_s: float = HORIZON_S, budget_bytes: int = BUDGET_BYTES
    ) -> None:
        self._prices = prices
        self._horizon_s = horizon_s
        self._budget_bytes = budget_bytes
        self._used: dict[ProcessKey, Used] = {}
        self._time_s: float | None = None

    def decide(self, snapshot: Snapshot) -> Plan:
        elapsed_s = 0.0 if self._time_s is None else snapshot.time_s - self._time_s
        self._time_s = snapshot.time_s
        before, self._used = self._used, {}
        for process in snapshot.processes:
            self._used[process.key] = look(process, before.get(process.key), snapshot.topology)
        if not elapsed_s or not snapshot.processes:
            return Plan()
        offers = self._offers(snapshot, elapsed_s)
        offers = offers.take(np.argsort(-offers.gain_ns, kind="stable"))
        return self._plan(offers, _affordable(offers, snapshot, self._budget_bytes), snapshot)

    def _offers(self, snapshot: Snapshot, elapsed_s: float) -> _Offers:
        waits = self._prices.accesses_per_cpu_s / self._prices.parallel_accesses  # one after the other
        per_s = snapshot.cpu_s.sum(axis=1) / elapsed_s * waits
        each = [
            self._of_process(index, process, float(per_s[index]), snapshot.topology)
            for index, process in enumerate(snapshot.processes)
        ]
        return _Offers.joined(each)

    def _of_process(self, index: int, process: Process, accesses_per_s: float, on: Topology) -> _Offers:
        regions, uses = process.regions, self._used[process.key].uses
        pages = np.maximum(regions.pages.sum(axis=1, keepdims=True), 1)
        waited_ns = (
            uses * accesses_per_s / pages @ self._prices.latency_ns
        )  # a page of the row, there, in a second
        target = np.where(_may_hold(process, on), waited_ns, np.inf).argmin(axis=1)
        saved_ns = waited_ns - np.take_along_axis(waited_ns, target[:, None], axis=1)
        gain_ns = saved_ns * self._horizon_s - self._prices.page_ns(regions.page_bytes)[:, None]
        movable = regions.movable & (regions.mapmax <= 1)
        row, source = np.nonzero((gain_ns > 0) & (regions.pages > 0) & movable[:, None])
        return _Offers(
            np.full(len(row), index),
            row,
            source,
            target[row],
            regions.page_bytes[row],
            regions.resident_bytes[row, source],
            gain_ns[row, source] / regions.page_bytes[row],
        )

    def _plan(self, offers: _Offers, bytes_: Ints, snapshot: Snapshot) -> Plan:
        """Wish for what is affordable, in one move from each node to each other, if that pays for its call, too."""
        nodes = len(snapshot.topology.nodes)
        way = (offers.process * nodes + offers.source) * nodes + offers.target
        moves = []
        for one in dict.fromkeys(way[bytes_ > 0].tolist()):
            rows = np.flatnonzero((way == one) & (bytes_ > 0))
            if offers.gain_ns[rows] @ bytes_[rows] > self._prices.call_ns:
                moves.append(_move(offers.take(rows), int(bytes_[rows].sum()), snapshot))
        return Plan(tuple(moves))


def _may_hold(process: Process, on: Topology) -> np.ndarray:
    fit = [bool(node.total_bytes) and not node.gpu for node in on.nodes]
    return np.isin(on.node_ids, process.nodes_allowed) & fit


def _affordable(offers: _Offers, snapshot: Snapshot, budget_bytes: int) -> Ints:
    """Give the bytes of each offer that find room, and are within the budget, in whole pages."""
    memory = snapshot.memory
    room_bytes = np.maximum(memory.free_bytes - memory.high_watermark_bytes + memory.clean_bytes, 0)
    wanted = offers.bytes_.copy()
    for node, room in enumerate(room_bytes.tolist()):
        there = offers.target == node
        wanted[there] = _within(wanted[there], room)
    return _within(wanted, budget_bytes) // offers.page_bytes * offers.page_bytes


def _within(bytes_: Ints, most: int) -> Ints:
    before = bytes_.cumsum() - bytes_
    within: Ints = np.clip(most - before, 0, bytes_)
    return within


def _move(offers: _Offers, limit_bytes: int, snapshot: Snapshot) -> MovePages:
    process, on = snapshot.processes[offers.process[0]], snapshot.topology
    rows = np.sort(offers.row)
    return MovePages(
        process.key,
        process.regions.start[rows],
        process.regions.end[rows],
        process.regions.page_bytes[rows],
        sources=(on.nodes[offers.source[0]].id,),
        targets=(on.nodes[offers.target[0]].id,),
        limit_bytes=limit_bytes,
        reason=Reason.MEMORY_FOLLOWS_CPU,
    )
