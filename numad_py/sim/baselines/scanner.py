# SPDX-License-Identifier: Apache-2.0

"""One process under the scanner of kernel NUMA balancing: what is unmapped next, and what comes of it.

Facts are Linux 6.1's, kernel/sched/fair.c where no other file is named.

Units: pages of the base size; shapes are (pieces, nodes), and (pieces, from node, to node) for what moves.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from numad_py.model import Mempolicy, RegionKind, Regions
from numad_py.sim.baselines import hint_faults, scan_period
from numad_py.sim.baselines.hint_faults import Mover, Result, Scanned
from numad_py.sim.baselines.pieces import Used
from numad_py.sim.baselines.scan_period import SCAN_BYTES, Faults
from numad_py.topology import Bools, Floats, Ints

# One call of task_numa_work() on Linux 5.15, which unmaps at most 65,536 pages of 4 KiB, took 5 ms on average of
# 139 (DeepEP #624): at least so long for a page.
UNMAP_NS: Final = 76
# One hint fault without moving the page. No measurement was found: 0.5 to 2 us are remembered, and a whole minor
# fault of Linux 6.6 took 1.0 us (median; ddumbying.vercel.app/experiments/pagefault-latency).
FAULT_NS: Final = 1_000

EARLY_PASSES: Final = 4  # should_numa_migrate_memory()
PASSED_OVER: Final = 8  # times as much as a window holds is looked at where there is nothing to unmap
_DEFAULT, _FILE = int(Mempolicy.DEFAULT), int(RegionKind.FILE)


@dataclass(eq=False)
class Task:
    """One process as the kernel knows it; its threads are taken to have the same scan period.

    ``position`` is the next piece to be scanned, ``last`` the share of each piece's pages by the node that touched
    them last, ``by_node`` the faults by the node of the memory, halved at each pass.
    """

    used: Used
    due_s: float
    last: Floats
    by_node: Floats
    period_ms: int = 0
    position: int = 0
    passes: int = 0
    faults: Faults = field(default_factory=Faults)
    home: int | None = None
    preferred: int | None = None

    def __post_init__(self) -> None:
        self.period_ms = scan_period.least_ms(self.resident_bytes)

    @property
    def resident_bytes(self) -> float:
        """What the scanner goes through, and what it passes over."""
        return float(self.used.regions.resident_bytes.sum())

    def see(self, used: Used) -> None:
        """Go on with the process as it looks now."""
        self.last = used.pieces.inherit(self.used.pieces, self.last)
        self.position = min(self.position, len(used.pieces.row))
        self.used = used

    def run_from(self, home: int) -> None:
        """Scan at full rate again where the scheduler took it off its preferred node: update_scan_period()."""
        to_or_from_elsewhere = home == self.preferred or self.preferred not in (None, self.home)
        if self.home not in (None, home) and not (self.passes and to_or_from_elsewhere):
            self.period_ms = scan_period.least_ms(self.resident_bytes)
        self.home = home

    def end_pass(self, threads: int) -> None:
        """Choose the node that it prefers and the next period, if there were faults: task_numa_placement()."""
        self.passes, self.position = self.passes + 1, 0
        if self.faults.local + self.faults.remote < 1:
            return
        self.preferred = int(self.by_node.argmax())
        shared_share = self.faults.shared / (self.faults.shared + self.faults.private)
        least = scan_period.least_ms(self.resident_bytes)
        most = scan_period.most_ms(self.resident_bytes, threads, shared_share)
        self.period_ms = scan_period.adapted_ms(self.period_ms, self.faults, least, most)
        self.by_node /= 2
        self.faults = Faults()


@dataclass(frozen=True, eq=False)
class Run:
    """How a process ran since the last look; ``room_pages`` may arrive by node, and shrinks as they do."""

    cores: float
    threads: Floats
    cpu_share: Floats
    room_pages: Floats
    allowed: Bools


def open_rows(regions: Regions, page_bytes: int) -> Bools:
    """By VMA: whether it is scanned at all.

    A mempolicy of its own bars it, even local (vma_policy_mof() in mm/mempolicy.c), and so does a second process
    that maps its pages. A file is open where pages of it were written: it is not mapped for reading only.
    """
    is_open: Bools = (
        (regions.mempolicy == _DEFAULT) & (regions.mapmax <= 1) & (regions.page_bytes == page_bytes)
    )
    is_open &= (regions.kind != _FILE) | (regions.anon_pages > 0)
    return is_open


def scan(task: Task, run: Run, rows: Bools, moved: Floats) -> float:
    """Scan one window of open rows, add to what moved, and give how many pages were unmapped and faulted on."""
    pieces, uses = task.used.pieces, task.used.uses
    is_open = rows[pieces.row]
    ahead = np.flatnonzero(is_open[task.position :]) + task.position
    users = uses[ahead] / np.maximum(uses[ahead].sum(axis=1, keepdims=True), 1e-300)
    mover = Mover(
        run.threads,
        run.cpu_share,
        memory=pieces.pages[is_open & uses.any(axis=1)].sum(axis=0),
        early=task.preferred is None or task.passes <= EARLY_PASSES,
        room_pages=np.where(run.allowed, run.room_pages, 0),
    )
    window = Scanned(pieces.pages[ahead], users, task.last[ahead])
    reach = _reach(window, mover, task.used.regions.page_bytes[pieces.row[ahead]])
    result = hint_faults.of_scan(window.first(reach), mover)
    _take_in(task, ahead[:reach], result)
    moved[ahead[:reach]] += result.moved
    run.room_pages[:] += result.moved.sum(axis=(0, 2)) - result.moved.sum(axis=(0, 1))
    if reach == len(ahead):
        task.end_pass(int(run.threads.sum()))
    return float(result.unmapped.sum())


def _reach(window: Scanned, mover: Mover, page_bytes: Ints) -> int:
    """Say how many pieces a window holds: those of which it holds more than half."""
    held, gone = window.pages.sum(axis=1), hint_faults.unmapped(window, mover).sum(axis=1)
    cost_bytes = np.where(gone > 0, held, held / PASSED_OVER) * page_bytes
    return max(1, int((cost_bytes.cumsum() - cost_bytes / 2 <= SCAN_BYTES).sum()))


def _take_in(task: Task, scanned: Ints, result: Result) -> None:
    arrived, left = result.moved.sum(axis=1), result.moved.sum(axis=2)
    task.used.pieces.pages[scanned] += arrived - left
    task.last[scanned] = result.last
    task.by_node += (result.unmapped + arrived - left).sum(axis=0)
    task.faults += result.faults
    task.position = int(scanned[-1]) + 1 if len(scanned) else task.position
