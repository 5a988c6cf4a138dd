# SPDX-License-Identifier: Apache-2.0

"""Spread memory page by page over all nodes with CPUs, to share their bandwidth.

But for who would wait longer for it, as far as published prices tell: memory that lies where its only users are stays.
These are the cores that used it when it last ran: who sleeps, or was not read, will use it from there again.
"""

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np

from numad_py.model import (
    Compared,
    Decision,
    Explanation,
    MovePages,
    Plan,
    Process,
    ProcessKey,
    Reason,
    Snapshot,
)
from numad_py.policies import spreading
from numad_py.policies.homes import Readings
from numad_py.roles import Policy
from numad_py.topology import Bools, Floats, Ints, Topology

MB: Final = 1 << 20
_LIMITS: Final = {
    "movable_mb": "least_mb",
    "spread_share": "spread_share_above",
    "wait_ratio": "wait_ratio_up_to",
    "looks": "patience",
}


@dataclass(frozen=True)
class InterleaveParameters:
    """When memory is worth spreading. Shares are 0 to 1; MB = 2^20 bytes."""

    spread_share_above: float = 0.10
    patience: int = 2
    least_mb: float = 64.0
    wait_ratio_up_to: float = 1.01

    def __post_init__(self) -> None:
        if not 0 <= self.spread_share_above <= 1:
            raise ValueError("spread_share_above: a share is between 0 and 1")
        if self.patience < 1:
            raise ValueError("patience: at least one look is needed")


class _Columns(NamedTuple):
    """By process: bytes on the nodes to spread over, the fullest's above its even share, and what spreading makes of waits."""

    total: Ints
    excess: Ints
    wait_ratio: Floats


class Interleave(Policy):
    """Spreads a process once one node has held more than its even share for a while."""

    def __init__(self, parameters: InterleaveParameters | None = None) -> None:
        self.parameters = parameters or InterleaveParameters()
        self._looks: dict[ProcessKey, int] = {}
        self._readings = Readings()
        self._ran: dict[ProcessKey, Floats] = {}  # by node, the cores that it used when it last ran
        self._node_ids: tuple[int, ...] = ()
        self._seen: tuple[Snapshot, Bools, _Columns] | None = None

    def decide(self, snapshot: Snapshot) -> Plan:
        before, self._looks = self._looks, {}
        if not snapshot.processes:
            self._readings, self._ran, self._seen = Readings(), {}, None
            return Plan()
        over = _nodes_to_spread_over(snapshot)
        moves = []
        fresh, period_s = self._readings.look(snapshot)
        cores, held = self._last_ran(snapshot, period_s), snapshot.movable_bytes * over
        columns = _Columns(*_excess(held, over), spreading.wait_ratio(cores, held, over, snapshot.topology))
        self._seen = snapshot, over, columns
        uneven = self._uneven(over, columns)
        rows = zip(snapshot.processes, over, uneven.tolist(), fresh.tolist(), strict=True)
        for row, (process, nodes, is_uneven, read) in enumerate(rows):
            self._looks[process.key] = before.get(process.key, 0) + read if is_uneven else 0
            if self._looks[process.key] >= self.parameters.patience:
                move = _spread(process, snapshot.topology, np.flatnonzero(nodes))
                moves.append(replace(move, figures=self._figures(process.key, row, columns)))
        return Plan(tuple(sorted(moves, key=lambda move: (-move.limit_bytes, move.process))))

    def explain(self, key: ProcessKey) -> Explanation | None:
        if self._seen is None or key not in self._looks:
            return None
        snapshot, over, columns = self._seen
        row, rules = snapshot.row_of[key], self.parameters
        uneven = self._uneven(over, columns)[row]
        figures = self._figures(key, row, columns)
        compared = (
            Compared(name, figures[name], limit, getattr(rules, limit)) for name, limit in _LIMITS.items()
        )
        more_looks = max(rules.patience - self._looks[key], 0) if uneven else 0
        decision = Decision.WAIT if more_looks else Decision.MOVE if uneven else Decision.STAY
        targets = tuple(snapshot.topology.nodes[index].id for index in np.flatnonzero(over[row]))
        return Explanation(decision, tuple(compared), targets, more_looks)

    def _last_ran(self, snapshot: Snapshot, period_s: Floats) -> Floats:
        """Give by process and node the cores that it used when it last ran."""
        if snapshot.topology.node_ids != self._node_ids:  # some came or went, and positions mean others
            self._ran, self._node_ids = {}, snapshot.topology.node_ids
        before, cores = self._ran, snapshot.cpu_s / period_s[:, None]
        ran = cores.sum(axis=1) > 0
        rows = zip(snapshot.keys, cores, ran.tolist(), strict=True)
        self._ran = {key: now if runs else before.get(key, now) for key, now, runs in rows}
        return np.array([self._ran[key] for key in snapshot.keys])

    def _uneven(self, over: Bools, columns: _Columns) -> Bools:
        """By process: whether the fullest of its nodes holds more than its even share by enough to act."""
        total, excess, wait_ratio = columns
        uneven: Bools = (over.sum(axis=1) > 1) & (total >= self.parameters.least_mb * MB)
        uneven &= excess > self.parameters.spread_share_above * total
        uneven &= wait_ratio <= self.parameters.wait_ratio_up_to
        return uneven

    def _figures(self, key: ProcessKey, row: int, columns: _Columns) -> dict[str, float]:
        total, excess, wait_ratio = (column[row].item() for column in columns)
        return {
            "movable_mb": total / MB,
            "spread_share": excess / max(total, 1),
            "wait_ratio": wait_ratio,
            "looks": self._looks[key],
        }


def _nodes_to_spread_over(snapshot: Snapshot) -> Bools:
    """By process and node: whether memory may be spread there."""
    on = snapshot.topology
    fit = np.array([bool(node.cpus and node.total_bytes) for node in on.nodes])
    cpusets = [process.nodes_allowed for process in snapshot.processes]
    row_of = {allowed: fit & np.isin(on.node_ids, allowed) for allowed in dict.fromkeys(cpusets)}
    return np.array([row_of[allowed] for allowed in cpusets], bool).reshape(-1, len(fit))


def _excess(held: Ints, over: Bools) -> tuple[Ints, Ints]:
    """By process: the bytes on the nodes to spread over, and those that the fullest has above its even share."""
    total = held.sum(axis=1)
    return total, held.max(axis=1) - total // np.maximum(over.sum(axis=1), 1)


def _spread(process: Process, topology: Topology, nodes: Ints) -> MovePages:
    regions = process.regions
    held_bytes = regions.movable * regions.resident_bytes[:, nodes].sum(axis=1)
    rows, total = held_bytes > 0, int(held_bytes.sum())
    ids = tuple(topology.nodes[index].id for index in nodes)
    return MovePages(
        process.key,
        regions.start[rows],
        regions.end[rows],
        regions.page_bytes[rows],
        sources=ids,
        targets=ids,
        limit_bytes=total - total // len(ids),
        reason=Reason.SPREAD,
    )
