# SPDX-License-Identifier: Apache-2.0

"""Spread memory page by page over all nodes with CPUs, to share their bandwidth."""

from dataclasses import dataclass

import numpy as np

from numad_py.model import MovePages, Plan, Process, ProcessKey, Reason, Snapshot
from numad_py.roles import Policy
from numad_py.topology import Bools, Ints, Topology


@dataclass(frozen=True)
class InterleaveParameters:
    """When memory is worth spreading. Shares are 0 to 1; MB = 2^20 bytes."""

    spread_share_above: float = 0.10
    patience: int = 2
    least_mb: float = 64.0

    def __post_init__(self) -> None:
        if not 0 <= self.spread_share_above <= 1:
            raise ValueError("spread_share_above: a share is between 0 and 1")
        if self.patience < 1:
            raise ValueError("patience: at least one look is needed")


class Interleave(Policy):
    """Spreads a process once one node has held more than its even share for a while."""

    def __init__(self, parameters: InterleaveParameters | None = None) -> None:
        self.parameters = parameters or InterleaveParameters()
        self._looks: dict[ProcessKey, int] = {}

    def decide(self, snapshot: Snapshot) -> Plan:
        before, self._looks = self._looks, {}
        over = _nodes_to_spread_over(snapshot)
        moves = []
        for process, nodes, uneven in zip(
            snapshot.processes, over, self._uneven(snapshot, over).tolist(), strict=True
        ):
            self._looks[process.key] = before.get(process.key, 0) + 1 if uneven else 0
            if self._looks[process.key] >= self.parameters.patience:
                moves.append(_spread(process, snapshot.topology, np.flatnonzero(nodes)))
        return Plan(tuple(sorted(moves, key=lambda move: (-move.limit_bytes, move.process))))

    def _uneven(self, snapshot: Snapshot, over: Bools) -> Bools:
        """By process: whether the fullest of its nodes holds more than its even share by enough to act."""
        by_node = snapshot.movable_bytes * over
        total, nodes = by_node.sum(axis=1), over.sum(axis=1)
        excess = by_node.max(axis=1) - total // np.maximum(nodes, 1)
        uneven: Bools = (nodes > 1) & (total >= self.parameters.least_mb * 2**20)
        uneven &= excess > self.parameters.spread_share_above * total
        return uneven


def _nodes_to_spread_over(snapshot: Snapshot) -> Bools:
    """By process and node: whether memory may be spread there."""
    on = snapshot.topology
    fit = np.array([bool(node.cpus and node.total_bytes) for node in on.nodes])
    cpusets = [process.nodes_allowed for process in snapshot.processes]
    row_of = {allowed: fit & np.isin(on.node_ids, allowed) for allowed in dict.fromkeys(cpusets)}
    return np.array([row_of[allowed] for allowed in cpusets], bool).reshape(-1, len(fit))


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
