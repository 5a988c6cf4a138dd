# SPDX-License-Identifier: Apache-2.0

"""Who uses which part of a process's memory, and where that part lies, as far as a look can tell.

Problem: placement is counted by VMA, of which only a window is scanned at a time; accesses are told once, and
threads wander.

Primitive: a large VMA is cut into pieces, and the pages that it has on a node are split over them as they were
before, and at first by size. (Where an investigation saw a range begin or end, the replay has cut it already.)

Application: `look` carries one process from look to look for the policies that need to know.

Units: pages of a row's own size; arrays have the shape (pieces, nodes).
"""

from dataclasses import dataclass, replace

import numpy as np

from numad_py.model import Accesses, MovePages, Process, Reason, Regions, ThreadGroup
from numad_py.ranges import overlaps
from numad_py.topology import Addresses, Floats, Ints, Topology


@dataclass(frozen=True, eq=False)
class Pieces:
    """Parts of VMAs, ascending by address; ``row`` is the VMA, ``pages`` an estimate where one was cut."""

    row: Ints
    start: Addresses
    end: Addresses
    pages: Floats

    def inherit(self, old: "Pieces", values: Floats) -> Floats:
        """Give each piece what was said of the old one that holds its start; 0 where none does."""
        if np.array_equal(self.start, old.start):
            return values
        index = np.searchsorted(old.start, self.start, side="right") - 1
        padded = np.concatenate([values, np.zeros((1, values.shape[1]))])  # index -1 is of the last row
        ends = np.append(old.end, np.uint64(0))
        return np.where((self.start < ends[index])[:, None], padded[index], 0.0)


@dataclass(frozen=True, eq=False)
class Used:
    """One process at one look.

    ``uses`` has the share of the process's accesses by piece and by the node that they came from; its sum is 1, or 0
    for a process that did not run. ``accesses`` are the last that were told.
    """

    regions: Regions
    accesses: Accesses | None
    pieces: Pieces
    uses: Floats

    def move(
        self, process: Process, chosen: Ints, leaving_pages: Floats, target: int, on: Topology, reason: Reason
    ) -> MovePages:
        """Wish for so many pages of chosen pieces, by piece and the node that they leave, to be on the target."""
        page_bytes = self.regions.page_bytes[self.pieces.row[chosen]]
        sources = np.flatnonzero(leaving_pages.any(axis=0)).tolist()
        return MovePages(
            process.key,
            self.pieces.start[chosen],
            self.pieces.end[chosen],
            page_bytes,
            sources=tuple(on.nodes[index].id for index in sources),
            targets=(on.nodes[target].id,),
            limit_bytes=int(np.rint(leaving_pages.sum(axis=1)) @ page_bytes),
            reason=reason,
        )


def look(process: Process, before: Used | None, on: Topology, most_bytes: int | None = None) -> Used:
    """Cut a process's regions and say who uses the pieces; none holds more than ``most_bytes``, if it is given."""
    regions = process.regions
    accesses = process.accesses or (before.accesses if before else None)
    pieces = _cut(regions, most_bytes)
    pieces = replace(pieces, pages=_carried(regions, pieces, before))
    return Used(regions, accesses, pieces, _uses(process, accesses, pieces, on))


def _cut(regions: Regions, most_bytes: int | None) -> Pieces:
    """Give parts of the same span of VMAs that hold more, and all others whole; pages are by size."""
    held_bytes = regions.resident_bytes.sum(axis=1)
    parts = np.ones_like(held_bytes) if most_bytes is None else np.maximum(-(-held_bytes // most_bytes), 1)
    row = np.repeat(np.arange(len(regions)), parts)
    number = np.arange(len(row)) - np.repeat(parts.cumsum() - parts, parts)
    span = (regions.end - regions.start).astype(np.int64) // regions.page_bytes
    bounds = [span[row] * at // parts[row] * regions.page_bytes[row] for at in (number, number + 1)]
    start, end = (regions.start[row] + each.astype(np.uint64) for each in bounds)
    return Pieces(row, start, end, regions.pages[row] / parts[row, None])


def _carried(regions: Regions, pieces: Pieces, before: Used | None) -> Floats:
    """Split every VMA's pages of each node over its pieces."""
    if before is None or not len(regions):
        return pieces.pages
    weight = _inherited(pieces, before.pieces)
    first = np.searchsorted(pieces.row, np.arange(len(regions)))
    weight = np.where(np.add.reduceat(weight, first)[pieces.row] > 0, weight, 1.0)
    pages: Floats = weight / np.add.reduceat(weight, first)[pieces.row] * regions.pages[pieces.row]
    return pages


def _inherited(new: Pieces, old: Pieces) -> Floats:
    if np.array_equal(new.start, old.start) and np.array_equal(new.end, old.end):
        return old.pages
    mine, its, shared = overlaps(new.start, new.end, old.start, old.end)
    weight = np.zeros_like(new.pages)
    part = shared / (old.end - old.start)[its].astype(np.float64)
    np.add.at(weight, mine, old.pages[its] * part[:, None])
    return weight


def _uses(process: Process, accesses: Accesses | None, pieces: Pieces, on: Topology) -> Floats:
    threads = process.threads
    cpu_s = on.cpu_s_by_node(threads.cpu, threads.cpu_s)
    if not cpu_s.any():
        return np.zeros_like(pieces.pages)
    if accesses is None:
        uses = pieces.pages.sum(axis=1)[:, None] * cpu_s
    else:
        by_group = np.array([_runs_on(group, process, cpu_s, on) for group in accesses.groups])
        uses = _seen(accesses, pieces) @ by_group.reshape(len(accesses.groups), len(on.nodes))
    share: Floats = uses / max(uses.sum(), 1e-300)
    return share


def _seen(accesses: Accesses, pieces: Pieces) -> Floats:
    """By piece and thread group: what was seen of the region that the piece is a part of; nothing outside of them."""
    mine, its, shared = overlaps(pieces.start, pieces.end, accesses.start, accesses.end)
    part = shared / (accesses.end - accesses.start)[its].astype(np.float64)
    seen = np.zeros((len(pieces.row), len(accesses.groups)))
    np.add.at(seen, mine, accesses.counts[its] * part[:, None])
    return seen


def _runs_on(group: ThreadGroup, process: Process, cpu_s: Floats, on: Topology) -> Floats:
    """Give by node where a group's threads ran since the last look, or else where they ran when it was watched."""
    threads = process.threads
    mine = np.isin(threads.tid, group.tid)
    now_s = on.cpu_s_by_node(threads.cpu[mine], threads.cpu_s[mine])
    if not now_s.any():
        now_s = group.cpu_s if group.node is not None else cpu_s
    return now_s / max(float(now_s.sum()), 1e-300)
