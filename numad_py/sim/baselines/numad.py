# SPDX-License-Identifier: Apache-2.0

"""A model of numad: every 5 to 15 s one process is bound to nodes that have room for it, memory and all.

Problem: numad is what an operator can install today; what it would have done belongs beside every policy.

Primitive: the largest process that was never bound, or not for five minutes, asks for what it uses at 85 %
utilisation, and gets the nodes with most of that near to each other (`numad_nodes`).

Application: it is bound there, and one blocking call for each node that it leaves moves its memory; then the cycle
ends, and the next one begins after 5 s, or after 15 s without a move.

Facts are from numad.c 20150602 as Debian packages it (0.5+20150602-8), with its default options. CPU time of
processes that no job holds is in no trace: their CPUs count as free. Threads that did not run are not counted.

Units: MB = 2^20 bytes, hundredths of a CPU.
"""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from numad_py.model import MovePages, MoveTasks, Plan, Process, ProcessKey, Reason, Snapshot
from numad_py.sim.baselines.baseline import Baseline
from numad_py.sim.baselines.numad_nodes import TARGET_UTILIZATION, Nodes, Placed, pick
from numad_py.topology import Floats, Topology

MIN_INTERVAL_S: Final = 5
MAX_INTERVAL_S: Final = 15
CPU_THRESHOLD: Final = 50
MEMORY_THRESHOLD_MB: Final = 300
MEMLOCALITY_PERCENT: Final = 90
HTT_PERCENT: Final = 20  # of a core that a further thread of it is worth
BOUND_FOR_S: Final = 300  # MIN_DELAY_FOR_REEVALUATION
BOUND_BEFORE_S: Final = 1800  # what the cpuset holds to a part of the nodes counts as bound so long ago
_MB: Final = 1 << 20


@dataclass(eq=False)
class _Candidate:
    """What numad knows of one process: of its last eight CPU uses the largest counts. ``bound_s`` is 0 for never."""

    nodes: frozenset[int]
    bound_s: float
    used_s: float = 0.0
    read_s: float | None = None
    last_cpus: deque[int] = field(default_factory=lambda: deque([0], maxlen=8))
    cpus: int = 0
    mb: int = 0

    @property
    def is_large(self) -> bool:
        return self.cpus > CPU_THRESHOLD and self.mb > MEMORY_THRESHOLD_MB

    @property
    def magnitude(self) -> int:
        return self.cpus * self.mb

    def read(self, now_s: float, mb: int) -> None:
        """Take in /proc/PID/stat: process_hash_update(). One that holds too little is as good as not there."""
        if self.read_s is not None and mb > MEMORY_THRESHOLD_MB:
            self.last_cpus.append(int(100 * self.used_s / (now_s - self.read_s)))
        self.cpus = max(self.last_cpus) if mb > MEMORY_THRESHOLD_MB else 0
        self.read_s = now_s if mb > MEMORY_THRESHOLD_MB else None
        self.used_s, self.mb = 0.0, mb


class Numad(Baseline):
    """Binds one process a cycle to the nodes that suit it.

    ``up_s`` is how long the machine had been up at the first look. It matters in the first five minutes, in which
    numad takes processes that were never bound for bound lately; and in the first half hour, in which those that are
    held to some nodes stay so for good.
    """

    def __init__(self, *, up_s: float = BOUND_BEFORE_S) -> None:
        self._known: dict[ProcessKey, _Candidate] = {}
        self._up_s = up_s
        self._begun_s: float | None = None
        self._read_s = self._due_s = 0.0
        self._busy_s: Floats = np.zeros(0)

    def decide(self, snapshot: Snapshot) -> Plan:
        self._follow(snapshot)
        if self._begun_s is None:  # the first cycle only makes the table of processes
            self._begun_s = snapshot.time_s
            self._read(snapshot)
            self._due_s = snapshot.time_s + MIN_INTERVAL_S // 2
            return Plan()
        if snapshot.time_s < self._due_s:
            return Plan()
        nodes = _nodes(snapshot, self._busy_s / (snapshot.time_s - self._read_s))
        self._read(snapshot)
        plan = self._manage(snapshot, nodes)
        self._due_s = snapshot.time_s + (MIN_INTERVAL_S if plan.task_moves else MAX_INTERVAL_S)
        return plan

    def _follow(self, snapshot: Snapshot) -> None:
        """Add up CPU time until it is read."""
        on = snapshot.topology
        before, self._known = self._known, {}
        for process, used_s in zip(snapshot.processes, snapshot.cpu_s.sum(axis=1).tolist(), strict=True):
            candidate = before.get(process.key) or _met(process, self._now_s(snapshot), on)
            candidate.used_s += used_s
            self._known[process.key] = candidate
        busy_s = snapshot.cpu_s.sum(axis=0)
        self._busy_s = self._busy_s + busy_s if len(self._busy_s) else np.zeros_like(busy_s)

    def _now_s(self, snapshot: Snapshot) -> float:
        """Give CLOCK_MONOTONIC, as numad has it."""
        return self._up_s + snapshot.time_s - (snapshot.time_s if self._begun_s is None else self._begun_s)

    def _read(self, snapshot: Snapshot) -> None:
        self._read_s, self._busy_s = snapshot.time_s, np.zeros_like(self._busy_s)
        for process in snapshot.processes:
            self._known[process.key].read(snapshot.time_s, _resident_mb(process, snapshot.topology))

    def _manage(self, snapshot: Snapshot, nodes: Nodes) -> Plan:
        """Bind the first candidate that is to go elsewhere: manage_loads()."""
        large = [each for each in snapshot.processes if self._known[each.key].is_large]
        enough_cpus = sum(self._known[each.key].cpus for each in large) <= sum(nodes.total_cpus)
        up_s = self._now_s(snapshot)
        for process in _in_turn(large, self._known):
            candidate = self._known[process.key]
            cpus, mb = _request(process, candidate, nodes)
            if candidate.bound_s + BOUND_FOR_S > up_s and not _could_do_better(candidate, cpus, mb, nodes):
                continue
            placed = Placed(candidate.mb, candidate.cpus, _mb_by_node(process), candidate.nodes)
            chosen = pick(nodes, placed, cpus, mb, enough_cpus=enough_cpus)
            stays = candidate.bound_s and chosen == candidate.nodes and _is_local(placed, chosen)
            candidate.nodes, candidate.bound_s = chosen, up_s
            if not stays:
                return _bind(process, chosen, snapshot.topology)
        return Plan()


def _met(process: Process, up_s: float, on: Topology) -> _Candidate:
    """Begin with the nodes that its cpuset allows, as bound half an hour ago: initialize_mem_node_list().

    Before the machine was up so long that time is below 0, which in 64 bits without a sign is never.
    """
    allowed = frozenset(np.flatnonzero(np.isin(on.node_ids, process.nodes_allowed)).tolist())
    if len(allowed) == len(on.nodes):
        return _Candidate(allowed, bound_s=0.0)
    return _Candidate(allowed, bound_s=up_s - BOUND_BEFORE_S if up_s > BOUND_BEFORE_S else math.inf)


def _resident_mb(process: Process, on: Topology) -> int:
    """Give what /proc/PID/stat says, where huge pages of hugetlbfs are missing."""
    regions = process.regions
    return int(regions.resident_bytes[regions.page_bytes == on.page_bytes].sum()) // _MB


def _mb_by_node(process: Process) -> tuple[int, ...]:
    return tuple((process.regions.resident_bytes.sum(axis=0) // _MB).tolist())


def _nodes(snapshot: Snapshot, busy_cores: Floats) -> Nodes:
    """Tell what nodes have: update_nodes(). Inactive page cache counts as free; further threads of a core count little."""
    on, memory = snapshot.topology, snapshot.memory
    siblings = next((len(core) for core in on.cores if 0 in core), 1)
    cpus = [len(node.cpus) for node in on.nodes]
    total = [100 * (n // siblings) + n // siblings * (siblings - 1) * HTT_PERCENT for n in cpus]
    discount = [(n - n // siblings) * (100 - HTT_PERCENT) for n in cpus]
    idle = [100 * n - int(100 * busy) for n, busy in zip(cpus, busy_cores.tolist(), strict=True)]
    free = [min(max(i - d, 0), t) for i, d, t in zip(idle, discount, total, strict=True)]
    return Nodes(
        tuple((memory.total_bytes // _MB).tolist()),
        tuple(((memory.free_bytes + memory.inactive_file_bytes) // _MB).tolist()),
        tuple(total),
        tuple(free),
        on.distances,
    )


def _in_turn(large: list[Process], known: dict[ProcessKey, _Candidate]) -> Iterator[Process]:
    """Give processes that were never bound first, the largest before others.

    Of those that were bound the larger is before the smaller, too, and of two that differ by less than a fifth the
    one bound longer ago. That is no order among three, so they are chosen as numad does.
    """
    waiting = sorted(large, key=lambda each: (known[each.key].bound_s > 0, -known[each.key].magnitude))
    while waiting:
        best = waiting[0]
        for other in waiting[1:]:
            if _is_before(known[other.key], known[best.key]):
                best = other
        waiting.remove(best)
        yield best


def _is_before(other: _Candidate, best: _Candidate) -> bool:
    if not best.bound_s:
        return False
    more = best.magnitude - other.magnitude
    if more < 0:
        return True
    return 5 * more <= other.magnitude and other.bound_s <= best.bound_s


def _request(process: Process, candidate: _Candidate, nodes: Nodes) -> tuple[int, int]:
    """Give the CPUs and MB that it asks for; all of its address space, where that is what would fill a node."""
    size_mb = int((process.regions.end - process.regions.start).sum()) // _MB
    total_mb = nodes.total_mb[0]
    grows = size_mb > total_mb and candidate.mb * 5 // 4 > total_mb
    mb = (size_mb if grows else candidate.mb) * 100 // TARGET_UTILIZATION
    return min(candidate.cpus * 100 // TARGET_UTILIZATION, 100 * len(process.threads.tid)), mb


def _could_do_better(candidate: _Candidate, cpus: int, mb: int, nodes: Nodes) -> bool:
    """Say whether a process that was bound lately is on the fullest node, and the emptiest would even that out."""
    pairs = ((nodes.free_cpus, candidate.cpus, CPU_THRESHOLD), (nodes.free_mb, candidate.mb, 0))
    on_fullest = any(free.index(min(free)) in candidate.nodes for free, _, _ in pairs)
    fits = cpus < nodes.total_cpus[0] and mb < nodes.total_mb[0]
    return on_fullest and fits and all(_evens_out(*pair) for pair in pairs)


def _evens_out(free: tuple[int, ...], used: int, slop: int) -> bool:
    mean = sum(free) // len(free)
    return abs(min(free) + used - mean) + abs(max(free) - used - mean) < max(free) - min(free) - slop


def _is_local(placed: Placed, nodes: frozenset[int]) -> bool:
    elsewhere = sum(mb for node, mb in enumerate(placed.mb) if node not in nodes)
    return 100 * elsewhere // placed.used_mb <= 100 - MEMLOCALITY_PERCENT


def _bind(process: Process, nodes: frozenset[int], on: Topology) -> Plan:
    """Bind its threads, then move the most that lies elsewhere to where it has least, node by node."""
    ids = tuple(on.nodes[node].id for node in sorted(nodes))
    return Plan(
        tuple(_migrate_pages(process, *pair, on) for pair in _pairs(list(_mb_by_node(process)), nodes)),
        task_moves=(MoveTasks(process.key, ids, Reason.TASKS_FOLLOW_MEMORY),),
    )


def _pairs(mb: list[int], nodes: frozenset[int]) -> Iterator[tuple[int, int]]:
    """Give from and to of each call, as bind_process_and_migrate_memory() goes on with the sums."""
    outside = [node for node in range(len(mb)) if node not in nodes]
    for source in sorted(outside, key=lambda node: (-mb[node], node)):
        if mb[source]:
            target = min(nodes, key=lambda node: (mb[node], -node))
            mb[target] += mb[source]
            yield source, target


def _migrate_pages(process: Process, source: int, target: int, on: Topology) -> MovePages:
    regions = process.regions
    rows = regions.pages[:, source] > 0
    return MovePages(
        process.key,
        regions.start[rows],
        regions.end[rows],
        regions.page_bytes[rows],
        sources=(on.nodes[source].id,),
        targets=(on.nodes[target].id,),
        limit_bytes=int(regions.resident_bytes[rows, source].sum()),
        reason=Reason.MEMORY_FOLLOWS_CPU,
    )
