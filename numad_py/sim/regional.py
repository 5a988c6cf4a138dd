# SPDX-License-Identifier: Apache-2.0

"""How much of the largest regions was remote, over time.

Problem: jobs have thousands of regions, and they come, go, grow and merge.

Primitive: of every tick the largest regions are taken, the same under every policy. A region is known again by the
address that stays when it grows: its start for a heap, which brk(2) raises; its end for a mapping, since the kernel
places new mappings below old ones and merges neighbours.

Application: of each, the share of accesses that another node would serve, by the latest investigation of its process
and where its pages are now; before the first, the share of its bytes that are not at home.

Units: bytes; seconds since the first tick; shares are 0 to 1.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from numad_py.model import Accesses, Process, ProcessKey, RegionKind, Regions, Snapshot
from numad_py.ranges import overlaps
from numad_py.sim.columns import POINTS, fold, ratio
from numad_py.topology import Bools, Floats, Ints, Topology

MOST_REGIONS: Final = 40
_REMEMBERED: Final = 4 * MOST_REGIONS

_Anchor = tuple[ProcessKey, int]


@dataclass(frozen=True, eq=False)
class RegionHistory:
    """One region's remote share by column; NaN where it was not there, not among the largest, or has no home.

    ``accesses_from_s`` says from when on it is a share of accesses; None for never. Before, it is one of bytes.
    """

    path: str
    comm: str
    pid: int
    kind: RegionKind
    start: int
    peak_bytes: int
    remote_share: Floats
    accesses_from_s: float | None


@dataclass(frozen=True, eq=False)
class _Largest:
    """The largest regions of one process, kept for as long as its regions stay the same."""

    of: Regions
    rows: Regions
    size_bytes: Ints
    anchors: list[int]

    @staticmethod
    def among(regions: Regions) -> "_Largest":
        size_bytes = regions.pages.sum(axis=1) * regions.page_bytes
        chosen = np.sort(np.argsort(-size_bytes, kind="stable")[:MOST_REGIONS])
        rows = regions.take(chosen)
        anchors = np.where(rows.kind == int(RegionKind.HEAP), rows.start, rows.end)
        return _Largest(regions, rows, size_bytes[chosen], anchors.tolist())


@dataclass(eq=False)
class _Region:
    process: ProcessKey  # and no more of it: a process holds its regions
    comm: str
    path: str
    kind: int
    start: int
    peak_bytes: int
    sums: Floats
    accesses_from_s: float | None = None


class Regional:
    """Follows the largest regions of a run."""

    def __init__(self) -> None:
        self._largest: dict[ProcessKey, _Largest] = {}
        self._accesses: dict[ProcessKey, Accesses] = {}
        self._regions: dict[_Anchor, _Region] = {}

    def add(self, snapshot: Snapshot, home: Bools, column: int, time_s: float) -> None:
        """Take one look; ``home`` is by process and node."""
        self._look(snapshot)
        sizes = [self._largest[process.key].size_bytes for process in snapshot.processes]
        owner = np.repeat(np.arange(len(sizes)), [len(each) for each in sizes])
        size = np.concatenate([np.zeros(0, np.int64), *sizes])
        chosen = np.sort(np.argsort(-size, kind="stable")[:MOST_REGIONS])
        paths = [job.path for job in snapshot.jobs for _ in job.processes]
        for index in np.unique(owner[chosen]).tolist():
            process, first = snapshot.processes[index], int(np.searchsorted(owner, index))
            rows = chosen[owner[chosen] == index] - first
            if home[index].any():
                parts = self._parts(process, rows, home[index], snapshot.topology)
                self._add(process, paths[index], rows, parts, column, time_s)
        self._forget()

    def fold(self) -> None:
        """Make one column of every two."""
        for region in self._regions.values():
            fold(region.sums)

    def histories(self, used: int) -> tuple[RegionHistory, ...]:
        """Give the largest, by job, process and address; those beside which they are a thousandfold are left out."""
        largest = self._by_size()[:MOST_REGIONS]
        least_bytes = largest[0].peak_bytes / 1000 if largest else 0
        return tuple(
            RegionHistory(
                region.path,
                region.comm,
                region.process.pid,
                RegionKind(region.kind),
                region.start,
                region.peak_bytes,
                ratio(*region.sums[:used].T),
                region.accesses_from_s,
            )
            for region in sorted(largest, key=lambda each: (each.path, each.process, each.start))
            if region.peak_bytes > least_bytes
        )

    def _look(self, snapshot: Snapshot) -> None:
        before, self._largest = self._largest, {}
        told, self._accesses = self._accesses, {}
        for process in snapshot.processes:
            last = before.get(process.key)
            same = last is not None and last.of is process.regions
            self._largest[process.key] = last if last and same else _Largest.among(process.regions)
            accesses = process.accesses or told.get(process.key)
            if accesses is not None:
                self._accesses[process.key] = accesses

    def _parts(self, process: Process, rows: Ints, home: Bools, on: Topology) -> tuple[Floats, Bools]:
        """Give what is remote, and of how much: shape (rows, 2); and which rows go by accesses."""
        regions = self._largest[process.key].rows.take(rows)
        by_node = regions.pages * regions.page_bytes[:, None]
        whole = by_node.sum(axis=1)
        parts = np.stack([whole - by_node @ home, whole], axis=1).astype(np.float64)
        accesses = self._accesses.get(process.key)
        if accesses is None:
            return parts, np.zeros(len(rows), bool)
        seen = _remote_accesses(accesses, regions, by_node / np.maximum(whole, 1)[:, None], on)
        known = seen[:, 1] > 0
        # Accesses weigh as much as the bytes they stand for, so that columns of several ticks are fair means.
        share = seen[:, 0] / np.maximum(seen[:, 1], 1e-9)
        parts[known, 0] = share[known] * parts[known, 1]
        return parts, known

    def _add(
        self, process: Process, path: str, rows: Ints, parts: tuple[Floats, Bools], column: int, time_s: float
    ) -> None:
        largest = self._largest[process.key]
        for row, part, by_accesses in zip(rows.tolist(), *parts, strict=True):
            region = self._region(process, path, largest, row)
            region.sums[column] += part
            region.peak_bytes = max(region.peak_bytes, int(largest.size_bytes[row]))
            if by_accesses and region.accesses_from_s is None:
                region.accesses_from_s = time_s

    def _region(self, process: Process, path: str, largest: _Largest, row: int) -> _Region:
        key = (process.key, largest.anchors[row])
        if key not in self._regions:
            kind, start = int(largest.rows.kind[row]), int(largest.rows.start[row])
            self._regions[key] = _Region(
                process.key, process.comm, path, kind, start, 0, np.zeros((POINTS, 2))
            )
        return self._regions[key]

    def _forget(self) -> None:
        if len(self._regions) > _REMEMBERED:
            kept = {id(region) for region in self._by_size()[:_REMEMBERED]}
            self._regions = {key: region for key, region in self._regions.items() if id(region) in kept}

    def _by_size(self) -> list[_Region]:
        return sorted(self._regions.values(), key=lambda each: (-each.peak_bytes, each.process, each.start))


def _remote_accesses(accesses: Accesses, regions: Regions, page_share: Floats, on: Topology) -> Floats:
    """Give by region the accesses that another node would serve, and all: shape (regions, 2).

    Accesses of a range that covers several regions, or a part of one, are taken to be spread evenly over it.
    """
    seen, row, shared = overlaps(accesses.start, accesses.end, regions.start, regions.end)
    length = np.maximum((accesses.end - accesses.start).astype(np.float64), 1)
    counts = accesses.counts[seen] * (shared / length[seen])[:, None]
    local_share = (page_share @ _memory_used_by(accesses, on).T)[row]
    remote = np.bincount(row, (counts * (1 - local_share)).sum(axis=1), len(regions))
    return np.stack([remote, np.bincount(row, counts.sum(axis=1), len(regions))], axis=1)


def _memory_used_by(accesses: Accesses, on: Topology) -> Floats:
    """Give by group of threads the shares of its time that belong to each node's memory."""
    shares = np.zeros((len(accesses.groups), len(on.nodes)))
    for group, row in zip(accesses.groups, shares, strict=True):
        ran = np.array(group.cpu_s, np.float64)
        if group.node is not None:
            ran = np.array([node == group.node for node in on.node_ids], np.float64)
        np.add.at(row, on.memory_of, ran / max(ran.sum(), 1e-9))
    return shares
