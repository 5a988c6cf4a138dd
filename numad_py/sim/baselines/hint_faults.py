# SPDX-License-Identifier: Apache-2.0

"""What the hint faults of one scan of kernel NUMA balancing come to.

Problem: the kernel decides page by page, as threads happen to touch them; a simulator only has counts.

Primitive: of each piece of memory is known which share of its users is on which node, and which share of its pages
was last touched from which. So the expected number of pages that any two nodes fault on, and move, is a product.

Application: `of_scan`, once for each scan of each process.

Facts are Linux 6.1's: change_pte_range() in mm/mprotect.c, do_numa_page() in mm/memory.c,
should_numa_migrate_memory() and task_numa_fault() in kernel/sched/fair.c.

Units: pages; shapes are (pieces, nodes), and (pieces, from node, to node) for what moves.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from numad_py.sim.baselines.scan_period import Faults
from numad_py.topology import Bools, Floats

ACTIVE_NODE_FRACTION: Final = 3


@dataclass(frozen=True, eq=False)
class Scanned:
    """Pieces in one scan's window: pages, shares of users by node (or none), shares of pages last touched from each."""

    pages: Floats
    users: Floats
    last: Floats

    def first(self, pieces: int) -> "Scanned":
        """Give the first so many."""
        return Scanned(self.pages[:pieces], self.users[:pieces], self.last[:pieces])


@dataclass(frozen=True, eq=False)
class Mover:
    """Whose faults they are: threads and shares of CPU time by node, and where the memory is that they use.

    ``early`` is in the first four passes over its memory; ``room_pages`` may arrive by node, none where it is
    not allowed.
    """

    threads: Floats
    cpu_share: Floats
    memory: Floats
    early: bool
    room_pages: Floats

    @property
    def alone(self) -> bool:
        """Whether it is a single thread."""
        return bool(self.threads.sum() <= 1)

    @property
    def may_spread(self) -> Bools:
        """From node, to node: whether pages that threads share may go there."""
        cpu, memory = self.cpu_share, self.memory
        much_busier = cpu[None, :] > ACTIVE_NODE_FRACTION * cpu[:, None]
        by_use = 3 * cpu[None, :] * memory[:, None] > 4 * cpu[:, None] * memory[None, :]
        may: Bools = much_busier | by_use
        return may


@dataclass(frozen=True, eq=False)
class Result:
    """What moves, which share of pages was last touched from where afterwards, and what was counted."""

    moved: Floats
    last: Floats
    unmapped: Floats
    faults: Faults


def unmapped(scanned: Scanned, mover: Mover) -> Floats:
    """Give the pages that are unmapped and touched: of a single thread only those that are elsewhere."""
    touched: Floats = scanned.pages * scanned.users.any(axis=1, keepdims=True)
    if mover.alone:
        touched = touched * (1 - scanned.users)
    return touched


def of_scan(scanned: Scanned, mover: Mover) -> Result:
    """Let every unmapped page be touched by its users, and move those that pass."""
    gone = unmapped(scanned, mover)
    by_pair = gone[:, :, None] * scanned.users[:, None, :]
    unset = 1 - scanned.last.sum(axis=1, keepdims=True)
    same = _same_thread(scanned, mover)
    wished = by_pair * _passes(scanned, mover, unset, same)
    wished[:, np.arange(len(mover.threads)), np.arange(len(mover.threads))] = 0
    moved = wished * _part_with_room(wished, mover)
    again = gone.sum(axis=1, keepdims=True) / np.maximum(scanned.pages.sum(axis=1, keepdims=True), 1e-300)
    last = scanned.last * (1 - again) + scanned.users * again
    failed = float(wished.sum() - moved.sum())
    return Result(moved, last, gone, _counted(by_pair, unset + same, mover, failed))


def _same_thread(scanned: Scanned, mover: Mover) -> Floats:
    """By piece and node: the share of its pages that the thread which faults there touched last, too.

    Which thread of a node uses what is not known: all of them are taken to use the same.
    """
    same: Floats = scanned.last / np.maximum(mover.threads, 1)
    if mover.alone:
        same = np.broadcast_to(scanned.last.sum(axis=1, keepdims=True), scanned.last.shape)
    return same


def _passes(scanned: Scanned, mover: Mover, unset: Floats, same: Floats) -> Floats:
    """By piece and both nodes: the share of faults that may move their page.

    Two faults in a row must have come from the same node; of one thread, or of a group whose CPUs and memory are not
    already spread alike. Early in a life first faults and those of the same thread are enough.
    """
    may = mover.may_spread[None] | mover.alone
    twice = scanned.last[:, None, :]
    private = np.minimum(same[:, None, :], twice)
    at_once = unset[:, None, :] if mover.early else unset[:, None, :] * may
    passes = at_once + private + (twice - private) * may
    if mover.early:
        passes = np.maximum(passes, unset[:, None, :] + same[:, None, :])
    share: Floats = np.minimum(passes, 1.0)
    return share


def _part_with_room(wished: Floats, mover: Mover) -> Floats:
    """By node: the part of its pages that finds room. Nothing is reclaimed for them (migrate_balanced_pgdat)."""
    arriving = wished.sum(axis=(0, 1))
    part: Floats = np.minimum(np.maximum(mover.room_pages, 0) / np.maximum(arriving, 1e-300), 1.0)
    return part


def _counted(by_pair: Floats, private_share: Floats, mover: Mover, failed: float) -> Faults:
    """Count as the kernel does: shared faults among the nodes that a group is active on are local."""
    every = by_pair.sum()
    private = by_pair * np.minimum(private_share, 1.0)[:, None, :]
    local = np.trace(by_pair.sum(axis=0))
    active = mover.cpu_share * ACTIVE_NODE_FRACTION > mover.cpu_share.max()
    if not mover.alone and active.sum() > 1:
        between = (by_pair - private).sum(axis=0) * np.outer(active, active)
        local += between.sum() - np.trace(between)
    return Faults(
        float(local), float(every - local), float(every - private.sum()), float(private.sum()), failed
    )
