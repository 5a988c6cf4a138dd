# SPDX-License-Identifier: Apache-2.0

"""Memory follows CPU: bring a process's pages to the node whose CPUs use them.

Problem: a process was bound, or moved by the scheduler, after it had touched
its memory, and reaches over the interconnect for it ever since.
Primitive: its *home*, the node that has nearly all of its CPU time, and its
*remote share*, the part of its movable bytes on other nodes with CPUs.
Application: once the remote share was above one threshold for some looks in a
row, move until it is below a lower one. A process that ran on several nodes,
or hardly at all, gives no evidence, and its count stands still. Memory on
nodes without CPUs is a tier, or a GPU's: it is neither counted nor touched.
"""

from dataclasses import dataclass

import numpy as np

from numad_py.model import MovePages, Plan, Process, ProcessKey, Reason, Snapshot
from numad_py.roles import Policy
from numad_py.topology import Floats, Ints, Topology


@dataclass(frozen=True)
class ThresholdParameters:
    """When memory should follow. Shares are 0 to 1; MB = 2^20 bytes."""

    remote_share_above: float = 0.10
    remote_share_below: float = 0.02
    home_cpu_share_above: float = 0.75
    patience: int = 2
    least_remote_mb: float = 4.0
    least_cpu_s: float = 0.05

    def __post_init__(self) -> None:
        for name in ("remote_share_above", "remote_share_below", "home_cpu_share_above"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: a share is between 0 and 1")
        if self.remote_share_below > self.remote_share_above:
            raise ValueError("remote_share_below: must not be over remote_share_above")
        if self.patience < 1:
            raise ValueError("patience: at least one look is needed")


@dataclass(frozen=True)
class _Evidence:
    """What is known of one process so far."""

    looks: int = 0
    acting: bool = False


_UNKNOWN = _Evidence()


class Threshold(Policy):
    """Moves memory home once a process has been mostly remote for a while."""

    def __init__(self, parameters: ThresholdParameters | None = None) -> None:
        self.parameters = parameters or ThresholdParameters()
        self._evidence: dict[ProcessKey, _Evidence] = {}

    def decide(self, snapshot: Snapshot) -> Plan:
        before, self._evidence = self._evidence, {}
        targets = self._targets(snapshot)
        columns = (targets, *_remote(snapshot, targets))
        moves = []
        for process, target, remote_bytes, remote_share in zip(
            snapshot.processes, *(column.tolist() for column in columns), strict=True
        ):
            known = before.get(process.key, _UNKNOWN)
            if target >= 0:
                known = self._weigh(known, remote_bytes, remote_share)
                if known.acting:
                    moves.append(_bring(process, snapshot.topology, target, remote_bytes))
            self._evidence[process.key] = known
        return Plan(tuple(sorted(moves, key=lambda move: (-move.limit_bytes, move.process))))

    def _targets(self, snapshot: Snapshot) -> Ints:
        """By process: the position of the node to bring memory to; -1 without evidence."""
        used_s = snapshot.cpu_s.sum(axis=1)
        at_home_s = snapshot.cpu_s.max(axis=1)
        evident = used_s >= self.parameters.least_cpu_s
        evident &= at_home_s >= self.parameters.home_cpu_share_above * used_s
        return np.where(evident, snapshot.topology.memory_of[snapshot.cpu_s.argmax(axis=1)], -1)

    def _weigh(self, known: _Evidence, remote_bytes: int, remote_share: float) -> _Evidence:
        rules = self.parameters
        if known.acting:
            return _Evidence(known.looks, acting=remote_share > rules.remote_share_below)
        if remote_share <= rules.remote_share_above or remote_bytes < rules.least_remote_mb * 2**20:
            return _UNKNOWN
        looks = known.looks + 1
        return _Evidence(looks, acting=looks >= rules.patience)


def _away(topology: Topology, target: int) -> np.ndarray:
    """By node: whether memory there is remote to the target. Tiers without CPUs are not."""
    away = topology.has_cpus.copy()
    away[target] = False
    return away


def _remote(snapshot: Snapshot, targets: Ints) -> tuple[Ints, Floats]:
    """By process: the movable bytes on other nodes with CPUs, and their share of those on such nodes."""
    at_target = np.arange(len(snapshot.topology.nodes)) == targets[:, None]
    remote_bytes = snapshot.movable_bytes.sum(axis=1, where=snapshot.topology.has_cpus & ~at_target)
    every_byte = remote_bytes + snapshot.movable_bytes.sum(axis=1, where=at_target)
    return remote_bytes, remote_bytes / np.maximum(every_byte, 1)


def _bring(process: Process, topology: Topology, target: int, remote_bytes: int) -> MovePages:
    regions = process.regions
    away = _away(topology, target)
    resident = regions.resident_bytes
    rows = regions.movable & (resident[:, away].sum(axis=1) > 0)
    elsewhere = resident[rows].sum(axis=0) * away
    private = regions.movable & (regions.mapmax <= 1)
    return MovePages(
        process.key,
        regions.start[rows],
        regions.end[rows],
        regions.page_bytes[rows],
        sources=tuple(node.id for node, bytes_ in zip(topology.nodes, elsewhere, strict=True) if bytes_),
        targets=(topology.nodes[target].id,),
        limit_bytes=remote_bytes,
        reason=Reason.MEMORY_FOLLOWS_CPU,
        whole=bool(private[resident[:, away].any(axis=1)].all()),
    )
