# SPDX-License-Identifier: Apache-2.0

"""Bring pages back to where they were, by region.

Problem: nobody keeps where each page was.
Primitive: how many pages of a region each node had, before and now. What a node lost is cut out of the region's range,
in proportion, from what others have too much of.
Application: a wish for each node that lost something; ranges that are gone or that were mapped anew are left alone.
"""

from dataclasses import dataclass, replace

import numpy as np

from numad_py.guard.ranges import overlap
from numad_py.model import MovePages, Process, ProcessKey, Reason, Regions, Whence
from numad_py.topology import Addresses, Ints, Topology


@dataclass(frozen=True, eq=False)
class Origin:
    """Where a process had the pages of regions before any of these was moved; the regions are ascending."""

    start: Addresses
    pages: Ints
    among: tuple[ProcessKey, ...] = ()

    def with_move(self, move: MovePages, process: Process) -> "Origin":
        """Add what a move concerns, as it is before that."""
        regions = process.regions
        meets = overlap(regions.start, regions.end, move.start, move.end)
        new = meets & ~np.isin(regions.start, self.start)
        start, pages = (
            np.append(self.start, regions.start[new]),
            np.append(self.pages, regions.pages[new], axis=0),
        )
        order = np.argsort(start)
        return Origin(start[order], pages[order], move.among or self.among)

    def kept(self, key: ProcessKey) -> Whence:
        """Give it as it outlives a restart."""
        return Whence(key, tuple(self.start.tolist()), tuple(map(tuple, self.pages.tolist())), self.among)


def origin(nodes: int) -> Origin:
    """Begin with nothing moved."""
    return Origin(np.zeros(0, np.uint64), np.zeros((0, nodes), np.int64))


def recalled(whence: Whence) -> Origin:
    """Take what was kept."""
    return Origin(np.array(whence.start, np.uint64), np.array(whence.pages, np.int64), whence.among)


def wishes(before: Origin, process: Process, on: Topology) -> list[MovePages]:
    """Wish every concerned page back to where it was: its own, and those that its job shares."""
    now = process.regions
    if not len(now) or before.pages.shape[1:] != (len(on.nodes),):  # of no nodes, or others than now
        return []
    row = np.minimum(np.searchsorted(now.start, before.start), len(now) - 1)
    same = now.start[row] == before.start
    old, new = before.pages[same], now.take(row[same])
    for_all = new.shared & bool(before.among)
    own, shared = (
        _wishes(process.key, old, np.where(rows[:, None], new.pages, old), new, on)
        for rows in (new.movable & ~for_all, for_all)
    )
    return [*own, *(replace(wish, among=before.among) for wish in shared)]


def _wishes(key: ProcessKey, old: Ints, pages: Ints, now: Regions, on: Topology) -> list[MovePages]:
    """Wish for each node what it lost; ``pages`` are those of now, in rows that do not concern us as they were."""
    lost, surplus = np.maximum(old - pages, 0), np.maximum(pages - old, 0)
    held = np.where(surplus > 0, pages, 0)
    sources = tuple(on.nodes[index].id for index in np.flatnonzero(held.any(axis=0)))
    wished = []
    for index in np.flatnonzero(lost.any(axis=0)):
        cut = _cut(now, lost, held.sum(axis=1), int(index))
        targets, limit_bytes = (on.nodes[index].id,), int(lost[:, index] @ now.page_bytes)
        wished.append(MovePages(key, *cut, sources, targets, limit_bytes, Reason.TAKEN_BACK))
    return [wish for wish in wished if len(wish.start)]


def _cut(now: Regions, lost: Ints, held: Ints, index: int) -> tuple[Addresses, Addresses, Ints]:
    """Cut out of each range the part that holds what a node lost, behind what nodes before it lost."""
    whole = np.maximum(held, 1)
    pages = (now.end - now.start).astype(np.int64) // now.page_bytes
    first = np.minimum(pages * lost[:, :index].sum(axis=1) // whole, pages)
    last = np.minimum(-(-pages * lost[:, : index + 1].sum(axis=1) // whole), pages)
    some = (lost[:, index] > 0) & (last > first)
    start = now.start + (first * now.page_bytes).astype(np.uint64)
    end = now.start + (last * now.page_bytes).astype(np.uint64)
    return start[some], end[some], now.page_bytes[some]
