# SPDX-License-Identifier: Apache-2.0

"""Spread memory page by page over all nodes with CPUs, to share their bandwidth."""

from dataclasses import dataclass

import numpy as np

from numad_py.model import MovePages, Plan, Process, ProcessKey, Reason, Snapshot, Topology
from numad_py.roles import Policy


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
        moves = []
        for job in snapshot.jobs:
            for process in job.processes:
                nodes = _nodes(process, snapshot.topology)
                excess_bytes = self._excess_bytes(process, nodes)
                self._looks[process.key] = before.get(process.key, 0) + 1 if excess_bytes else 0
                if self._looks[process.key] >= self.parameters.patience:
                    moves.append(_spread(process, snapshot.topology, nodes))
        return Plan(tuple(sorted(moves, key=lambda move: (-move.limit_bytes, move.process))))

    def _excess_bytes(self, process: Process, nodes: np.ndarray) -> int:
        """Give the movable bytes by which the fullest node exceeds its share; 0 where that is little."""
        regions = process.regions
        by_node = regions.resident_bytes[regions.movable].sum(axis=0)[nodes]
        total = int(by_node.sum())
        if len(nodes) <= 1 or total < self.parameters.least_mb * 2**20:
            return 0
        excess = int(by_node.max()) - total // len(nodes)
        return excess if excess > self.parameters.spread_share_above * total else 0


def _nodes(process: Process, topology: Topology) -> np.ndarray:
    """Give the positions of the nodes to spread over."""
    return np.array(
        [
            index
            for index, node in enumerate(topology.nodes)
            if node.cpus and node.total_bytes and node.id in process.nodes_allowed
        ],
        np.int64,
    )


def _spread(process: Process, topology: Topology, nodes: np.ndarray) -> MovePages:
    regions = process.regions
    rows = regions.movable & (regions.resident_bytes[:, nodes].sum(axis=1) > 0)
    ids = tuple(topology.nodes[index].id for index in nodes)
    total = int(regions.resident_bytes[rows][:, nodes].sum())
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
