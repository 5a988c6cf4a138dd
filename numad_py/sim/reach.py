# SPDX-License-Identifier: Apache-2.0

"""Which node's memory the threads of a process reach for.

Problem: threads of one process may each use a part of its memory that no other touches.
Primitive: an investigation tells by group of threads how often each range was touched; the pages of a range are taken
to be used evenly.
Application: from where a group's threads run now, and where those pages lie now, follows what is remote. Without an
investigation all threads are taken to use all resident bytes evenly.
"""

from dataclasses import dataclass, replace

import numpy as np

from numad_py.model import Accesses, Regions, Threads
from numad_py.ranges import overlaps
from numad_py.sim.placement import apportion
from numad_py.topology import Floats, Ints, Topology


@dataclass(frozen=True, eq=False)
class Reach:
    """What an investigation saw, for as long as the regions of the process stay the same.

    ``share`` has the shape (groups and one more, nodes): of what a group touches, the part that lies on each node; the
    last row is for threads that were not seen, who are taken to do what all others do together.
    """

    accesses: Accesses
    regions: Regions
    tid: Ints
    group: Ints
    share: Floats

    @staticmethod
    def of(accesses: Accesses, regions: Regions) -> "Reach":
        """Join what was touched with where it lies."""
        seen, row, shared = overlaps(accesses.start, accesses.end, regions.start, regions.end)
        length = (accesses.end - accesses.start).astype(np.float64)
        counts = accesses.counts[seen] * (shared / np.maximum(length, 1)[seen])[:, None]
        lies = regions.pages[row] / np.maximum(regions.pages.sum(axis=1), 1)[row, None]
        touched = counts.T @ lies
        touched = np.vstack([touched, touched.sum(axis=0)])
        tid = np.concatenate([np.zeros(0, np.int64), *(group.tid for group in accesses.groups)])
        group = np.repeat(np.arange(len(accesses.groups)), [len(each.tid) for each in accesses.groups])
        order = np.argsort(tid, kind="stable")
        share = touched / np.maximum(touched.sum(axis=1, keepdims=True), 1e-9)
        return Reach(accesses, regions, tid[order], group[order], share)

    def from_nodes(self, threads: Threads, page_share: Floats, on: Topology) -> Floats:
        """Give by node that threads run on where what they access lies: shape (nodes, nodes), rows add up to 1."""
        nodes, groups = len(on.nodes), len(self.share)
        node = on.index_of_cpu[np.minimum(threads.cpu, len(on.index_of_cpu) - 1)]
        known = node >= 0
        cell = self._group_of(threads.tid)[known] * nodes + node[known]
        ran_s = np.bincount(cell, threads.cpu_s[known], groups * nodes).reshape(groups, nodes)
        share = np.where(self.share.any(axis=1, keepdims=True), self.share, page_share)
        reached = ran_s.T @ share
        whole = reached.sum(axis=1, keepdims=True)
        from_nodes: Floats = np.where(whole > 0, reached / np.maximum(whole, 1e-12), page_share)
        return from_nodes

    def _group_of(self, tid: Ints) -> Ints:
        if not len(self.tid):
            return np.full(len(tid), len(self.share) - 1)
        at = np.minimum(np.searchsorted(self.tid, tid), len(self.tid) - 1)
        group: Ints = np.where(self.tid[at] == tid, self.group[at], len(self.share) - 1)
        return group


def cut(regions: Regions, accesses: Accesses) -> Regions:
    """Cut regions where the ranges of an investigation begin and end, so that each part can lie elsewhere.

    Pages are spread evenly over the parts.
    """
    edges = np.union1d(accesses.start, accesses.end)
    row = np.searchsorted(regions.start, edges, side="right") - 1
    edges, row = edges[row >= 0], row[row >= 0]
    page_bytes = regions.page_bytes[row].astype(np.uint64)
    edges = edges // page_bytes * page_bytes
    inside = (regions.start[row] < edges) & (edges < regions.end[row])
    if not inside.any():
        return regions
    start = np.union1d(regions.start, edges[inside])
    row = np.searchsorted(regions.start, start, side="right") - 1
    end = np.minimum(np.append(start[1:], regions.end[-1:]), regions.end[row])
    part = (np.stack([start, end]) - regions.start[row]) / (regions.end - regions.start)[row]
    held, anon_pages = (
        np.diff(np.rint(pages[row] * part), axis=0)[0].astype(np.int64)
        for pages in (regions.pages.sum(axis=1), regions.anon_pages)
    )
    begun = np.where(regions.backing[row] > 0, (start - regions.start[row]).astype(np.int64), 0)
    return replace(
        regions.take(row),
        start=start,
        end=end,
        offset=regions.offset[row] + begun,
        anon_pages=np.minimum(anon_pages, held),
        pages=apportion(regions.pages[row], held),
    )
