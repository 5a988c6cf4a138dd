# SPDX-License-Identifier: Apache-2.0

"""Make regions and owners of single samples.

Problem: which threads use which part of a process's memory; too small a part has too few samples to
tell, too large a part has several owners.
Primitive: some dozens of samples tell whose a region is: 43 tell 65 % from 50 %.
Application: each VMA is cut at every so manieth sample, so that regions are small where samples are
dense, and large, or the whole VMA, where they are rare; who made a sample is told by the CPU it came from.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from numad_py.model import Process, Regions, ThreadGroup
from numad_py.topology import Addresses, Floats, Ints, Topology

ENOUGH: Final = 43  # samples; see above
MOST_REGIONS: Final = 1024
LEAST_BYTES: Final = 2 << 20  # a huge page of most machines: nothing smaller is worth a decision


@dataclass(frozen=True, eq=False)
class Samples:
    """Accesses of one process, as columns."""

    address: Addresses
    tid: Ints
    cpu: Ints

    def __len__(self) -> int:
        return len(self.address)

    def take(self, rows: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> "Samples":
        """Give the chosen rows."""
        return Samples(self.address[rows], self.tid[rows], self.cpu[rows])


def within(samples: Samples, regions: Regions) -> Samples:
    """Give the samples in known VMAs, ascending by address; the others are of memory mapped since."""
    if not len(regions):
        return samples.take(np.zeros(0, np.int64))
    ordered = samples.take(np.argsort(samples.address, kind="stable"))
    vma = np.searchsorted(regions.start, ordered.address, "right") - 1
    return ordered.take((vma >= 0) & (ordered.address < regions.end[vma]))


def cut(address: Addresses, start: Addresses, end: Addresses) -> tuple[Addresses, Addresses]:
    """Cut the VMAs that have samples into regions of about ``ENOUGH`` samples.

    ``address`` is ascending and within the VMAs. Regions begin at multiples of ``LEAST_BYTES`` or where
    their VMA does, cover it, and have a sample each at least.
    """
    enough = max(ENOUGH, -(-len(address) // MOST_REGIONS))
    vma = np.searchsorted(start, address, "right") - 1
    _, first, row, count = np.unique(vma, return_index=True, return_inverse=True, return_counts=True)
    rank = np.arange(len(address)) - first[row]
    chosen = (rank % enough == 0) & (count[row] - rank >= enough) & (rank > 0)
    aligned = address[chosen] // np.uint64(LEAST_BYTES) * np.uint64(LEAST_BYTES)
    edges = np.unique(np.concatenate([start[vma[first]], np.maximum(aligned, start[vma[chosen]])]))
    of = np.searchsorted(start, edges, "right") - 1
    following = np.append(edges[1:], np.iinfo(np.uint64).max)[: len(edges)]
    return edges, np.minimum(following, end[of])


def groups(samples: Samples, process: Process, topology: Topology) -> tuple[tuple[ThreadGroup, ...], Ints]:
    """Give the thread groups, by node, and the group of each sample; -1 where its CPU has no node.

    A sample is of the node whose CPU it came from. A thread that was seen on several nodes is listed
    with the one where it was seen most.
    """
    node = _node_of(samples.cpu, topology)
    nodes, group = np.unique(node, return_inverse=True)
    tids, thread = np.unique(samples.tid, return_inverse=True)
    seen = np.zeros((len(tids), len(nodes)), np.int64)
    np.add.at(seen, (thread, group), 1)
    home = nodes[seen.argmax(axis=1)] if len(tids) else nodes
    unknown = int(np.count_nonzero(nodes < 0))  # at most one, the first
    made = tuple(
        ThreadGroup(
            topology.node_ids[index], tids[home == index], _cpu_s(process, tids[home == index], topology)
        )
        for index in nodes[unknown:].tolist()
    )
    return made, group - unknown


def counts(address: Addresses, group: Ints, start: Addresses, groups: int) -> Ints:
    """Count samples by region and group; ``address`` is within the regions."""
    region = np.searchsorted(start, address, "right") - 1
    return np.bincount(region * groups + group, minlength=len(start) * groups).reshape(-1, groups)


def _node_of(cpu: Ints, topology: Topology) -> Ints:
    table = topology.index_of_cpu
    return table[np.minimum(cpu, len(table) - 1)]


def _cpu_s(process: Process, tids: Ints, topology: Topology) -> Floats:
    """Give the CPU time of some threads by node, as the snapshot has it."""
    threads = process.threads
    node = _node_of(threads.cpu, topology)
    rows = np.isin(threads.tid, tids) & (node >= 0)
    return np.bincount(node[rows], threads.cpu_s[rows], len(topology.nodes)).astype(np.float64)
