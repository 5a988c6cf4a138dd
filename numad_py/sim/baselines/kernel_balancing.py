# SPDX-License-Identifier: Apache-2.0

"""A model of the kernel's own NUMA balancing, kernel.numa_balancing=1: pages follow hint faults.

Problem: what a policy adds is only known beside what the kernel would have done by itself.

Primitive: a scan unmaps a window of 256 MB (`scanner`); who touches a page of it next faults, and may take it along
(`hint_faults`). After each pass over all memory the time between two scans is set anew (`scan_period`).

Application: between two looks every process lives through the scans that were due.

It is blind to pages that several processes map, to memory with a mempolicy, to huge pages of hugetlbfs, and to
files without pages of their own. What it costs is the job's own time: for moves as their outcomes say, and besides
for unmapping and faulting (``stalled_s``).

Left out: the kernel also moves threads to where their faults are, and no trace tells which of them are free to go.
All of memory that is used at all is taken to be touched between two scans. Which page of a piece lies where is not
known: the expected number of pages moves.
"""

from collections.abc import Iterator
from typing import ClassVar, Final

import numpy as np

from numad_py.model import MovePages, Plan, Process, ProcessKey, Reason, Snapshot
from numad_py.sim.baselines.baseline import Baseline
from numad_py.sim.baselines.pieces import look
from numad_py.sim.baselines.scan_period import SCAN_BYTES, SCAN_DELAY_MS
from numad_py.sim.baselines.scanner import FAULT_NS, UNMAP_NS, Run, Task, open_rows, scan
from numad_py.topology import Bools, Floats, Ints, Topology

BUSY_PART: Final = 32  # a task runs at least so many times as long as it scans: task_numa_work()
_PIECE_BYTES: Final = SCAN_BYTES // 4
_HALF: Final = 0.5  # of a page: expected numbers are rounded


class KernelBalancing(Baseline):
    """Lets pages follow the faults of those who touch them."""

    call_ns: ClassVar[int | None] = 0  # a fault moves its page by itself

    def __init__(self) -> None:
        self._tasks: dict[ProcessKey, Task] = {}
        self.stalled_s: dict[ProcessKey, float] = {}
        self._time_s: float | None = None

    def decide(self, snapshot: Snapshot) -> Plan:
        elapsed_s = 0.0 if self._time_s is None else snapshot.time_s - self._time_s
        self._time_s = snapshot.time_s
        before, self._tasks, self.stalled_s = self._tasks, {}, {}
        room_pages = _room_pages(snapshot)
        moves: list[MovePages] = []
        for process, cpu_s in zip(snapshot.processes, snapshot.cpu_s, strict=True):
            task = _met(before.get(process.key), process, snapshot)
            self._tasks[process.key] = task
            if elapsed_s and cpu_s.any():
                run = _ran(process, cpu_s, elapsed_s, room_pages, snapshot.topology)
                moves += self._live(task, process, run, snapshot)
        return Plan(tuple(moves))

    def _live(self, task: Task, process: Process, run: Run, snapshot: Snapshot) -> Iterator[MovePages]:
        """Let a process live through the scans that are due by now, and bring along what they move."""
        on, rows = snapshot.topology, open_rows(process.regions, snapshot.topology.page_bytes)
        moved = np.zeros((*task.used.uses.shape, len(on.nodes)))
        task.run_from(int(run.cpu_share.argmax()))
        stalled_s = 0.0
        while task.due_s <= snapshot.time_s and rows.any():
            faults = scan(task, run, rows, moved)
            stalled_s += faults * (UNMAP_NS + FAULT_NS) * 1e-9
            task.due_s += _wait_s(task.period_ms, faults * UNMAP_NS * 1e-9, run.cores)
        task.due_s = max(task.due_s, snapshot.time_s)
        self.stalled_s[process.key] = stalled_s
        for target in np.flatnonzero(moved.any(axis=(0, 1))).tolist():
            leaving = moved[:, :, target]
            for chosen in _together(task.used.pieces.pages, leaving, target):
                yield task.used.move(process, chosen, leaving[chosen], target, on, Reason.MEMORY_FOLLOWS_CPU)


def _together(left_pages: Floats, leaving: Floats, target: int) -> Iterator[Ints]:
    """Give the pieces that one wish can be for: all those that leave nothing behind, and each other by itself.

    A wish that ends at its limit goes by address, so that several pieces in it would not share alike.
    """
    leave = leaving.sum(axis=1) >= _HALF
    empty = left_pages.sum(axis=1) - left_pages[:, target] < _HALF
    if (leave & empty).any():
        yield np.flatnonzero(leave & empty)
    yield from np.flatnonzero(leave & ~empty)[:, None]


def _wait_s(period_ms: int, took_s: float, cores: float) -> float:
    """Say when the next scan is due; task_tick_numa() counts time on a CPU, of any thread of the process."""
    return max(period_ms * 1e-3 / min(1.0, cores), BUSY_PART * took_s / cores)


def _met(task: Task | None, process: Process, snapshot: Snapshot) -> Task:
    """Take in how a process looks now; the first scan of a new one is due after a delay."""
    used = look(process, task.used if task else None, snapshot.topology, _PIECE_BYTES)
    if task is None:
        none = np.zeros_like(used.uses)
        by_node = np.zeros(len(snapshot.topology.nodes))
        return Task(used, snapshot.time_s + SCAN_DELAY_MS * 1e-3, none, by_node)
    task.see(used)
    return task


def _room_pages(snapshot: Snapshot) -> Floats:
    """Give by node what may arrive; page cache does not make way for it."""
    memory, on = snapshot.memory, snapshot.topology
    has_memory: Bools = np.array([bool(node.total_bytes) for node in on.nodes])
    room_bytes = np.maximum(memory.free_bytes - memory.high_watermark_bytes, 0) * has_memory
    pages: Floats = room_bytes / on.page_bytes
    return pages


def _ran(process: Process, cpu_s: Floats, elapsed_s: float, room_pages: Floats, on: Topology) -> Run:
    ran = (process.threads.cpu_s > 0).astype(np.float64)
    return Run(
        cores=float(cpu_s.sum()) / elapsed_s,
        threads=on.cpu_s_by_node(process.threads.cpu, ran),
        cpu_share=cpu_s / cpu_s.sum(),
        room_pages=room_pages,
        allowed=np.isin(on.node_ids, process.nodes_allowed),
    )
