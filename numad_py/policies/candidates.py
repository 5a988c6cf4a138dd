# SPDX-License-Identifier: Apache-2.0

"""What could be moved, and what each move would save and cost, as columns: one row for a process and a target.

Problem: room and moving time are short, so that moves have to be chosen between before any is made.
Primitive: a process waits for memory from where it runs for where its bytes lie. On another node they would be waited
for less, by what distance costs (`prices`), and moving them takes a while, once.
Application: the most saving for each byte comes first, as far as there is room; what leaves a node makes room there.
Then those that want each other's place, in pairs or in rings, change places as far as all of them go.

Units: bytes, nanoseconds; nodes are positions on the node axis.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from numad_py import prices
from numad_py.model import Regions, Snapshot
from numad_py.topology import Bools, Columns, Floats, Ints, Topology

_PASSES: Final = 4  # over what found no room before others had left
_MOST_CHANGING: Final = 256  # candidates that change places at once: more than move in a turn, and soon done


@dataclass(frozen=True, eq=False)
class Candidates(Columns):
    """Columns by candidate; ``process`` is the row of its process.

    ``leaving`` has the shape (candidates, nodes), and so has ``cores``: how many use the part of memory that is
    concerned, which is ``part_bytes`` in all, wherever they lie. ``remote_share`` is the part of the process's memory
    that would come nearer, or of its accesses where these are known; ``confidence`` is 0 to 1. Moving takes
    ``ns_per_byte``. ``times`` says how many times the saving that prices predict is expected, or is not a number where
    nobody has learned that.
    """

    process: Ints
    target: Ints
    leaving: Ints
    cores: Floats
    part_bytes: Ints
    remote_share: Floats
    confidence: Floats
    ns_per_byte: Floats
    times: Floats

    @property
    def bytes_(self) -> Ints:
        """All that would move."""
        moved: Ints = self.leaving.sum(axis=1)
        return moved

    def saving_ns_per_s(self, on: Topology) -> Floats:
        """Give how much less would be waited in every second."""
        waited = self.cores @ prices.ratios(on)
        there = np.take_along_axis(waited, self.target[:, None], axis=1)
        used_share = self.leaving / np.maximum(self.part_bytes, 1)[:, None]
        saving: Floats = np.einsum("ij,ij->i", used_share, waited - there) * (1e9 * prices.MEMORY_SHARE)
        return saving * np.where(self.learned, self.times, 1.0)

    @property
    def learned(self) -> Bools:
        """Say of which somebody has learned what to expect."""
        return np.isfinite(self.times)

    @property
    def cost_ns(self) -> Floats:
        """Give how long moving would take."""
        return self.bytes_ * self.ns_per_byte


def whole(snapshot: Snapshot, home: Ints, cores: Floats) -> Candidates:
    """Give for every process that has a home all of its movable memory on other nodes."""
    row, on = np.flatnonzero(home >= 0), snapshot.topology
    target, movable = home[row], snapshot.movable_bytes[row]
    leaving = movable * (on.may_leave & (np.arange(len(on.nodes)) != target[:, None]))
    remote = leaving.sum(axis=1)
    at_home = np.take_along_axis(movable, target[:, None], axis=1)[:, 0]
    processes = [snapshot.processes[each] for each in row.tolist()]
    error_share = np.array([each.placement_error_share for each in processes], np.float64)
    at_home_s = cores[row].max(axis=1, initial=0.0) / np.maximum(cores[row].sum(axis=1), 1e-9)
    return Candidates(
        row,
        target,
        leaving,
        cores[row],
        np.array(
            [
                each.regions.resident_bytes.sum() if much else 0
                for each, much in zip(processes, remote, strict=True)
            ],
            np.int64,
        ),
        remote / np.maximum(remote + at_home, 1),
        np.clip(at_home_s - error_share, 0.0, 1.0),
        np.array(
            [
                moving_ns_per_byte(each.regions, each.regions.movable) if much else 0.0
                for each, much in zip(processes, remote, strict=True)
            ],
            np.float64,
        ),
        np.full(len(row), np.nan),
    )


def moving_ns_per_byte(regions: Regions, rows: Bools) -> float:
    """Give the price of moving a byte of these rows, by the sizes of their pages. Which are huge ones, only hugetlb tells."""
    held = regions.resident_bytes.sum(axis=1) * rows
    return float(held @ prices.move_ns_per_byte(regions.page_bytes)) / max(int(held.sum()), 1)


def chosen(leaving: Ints, target: Ints, worth: Floats, room_bytes: Ints) -> Ints:
    """Give the bytes of each candidate that should move, of which ``worth`` says what one is worth."""
    order = np.argsort(-worth, kind="stable")
    left, room = leaving.copy(), room_bytes.copy()
    for _ in range(_PASSES):
        if not _take(left, target, order, room):
            break
    _change_places(left, target, order[:_MOST_CHANGING].tolist())
    moved: Ints = (leaving - left).sum(axis=1)
    return moved


def _take(left: Ints, target: Ints, order: Ints, room: Ints) -> bool:
    """Move what there is room for, from each node of a candidate in their order; say whether that was anything."""
    wanted, given = left.sum(axis=1), np.zeros(len(left), np.int64)
    for node, free in enumerate(room.tolist()):
        mine = order[target[order] == node]
        before = wanted[mine].cumsum() - wanted[mine]
        given[mine] = np.clip(free - before, 0, wanted[mine])
    taken: Ints = np.clip(given[:, None] - (left.cumsum(axis=1) - left), 0, left)
    left -= taken
    arriving: Ints = np.bincount(target, given, len(room)).astype(np.int64)
    room += taken.sum(axis=0) - arriving
    return bool(given.any())


def _change_places(left: Ints, target: Ints, order: Sequence[int]) -> None:
    """Let candidates change places that want each other's, two or more in a ring, without any room."""
    waiting: dict[int, dict[int, deque[int]]] = {}  # by the node where they are, and the node that they want
    for row in order:
        for source in np.flatnonzero(left[row]).tolist():
            waiting.setdefault(source, {}).setdefault(int(target[row]), deque()).append(row)
    for row in order:
        for source in np.flatnonzero(left[row]).tolist():
            while left[row, source] and (way := _way(waiting, int(target[row]), source)):
                ring = [waiting[here][there] for here, there in pairwise((source, *way))]
                rows, nodes = [rows[0] for rows in ring], (source, *way[:-1])
                left[rows, nodes] -= left[rows, nodes].min()
                for rows_left, gone in zip(ring, (left[rows, nodes] == 0).tolist(), strict=True):
                    if gone:
                        rows_left.popleft()


def _way(waiting: Mapping[int, Mapping[int, deque[int]]], first: int, last: int) -> tuple[int, ...]:
    """Give the shortest way between nodes along which others wait to go; none is empty."""
    known: set[int] = {first}
    ways: list[tuple[int, ...]] = [(first,)]
    for way in ways:
        if way[-1] == last:
            return way
        onward = {node for node, rows in waiting.get(way[-1], {}).items() if rows} - known
        known |= onward
        ways += [(*way, node) for node in sorted(onward)]
    return ()
