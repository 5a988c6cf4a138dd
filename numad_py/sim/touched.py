# SPDX-License-Identifier: Apache-2.0

"""Tell who touches which memory of a scripted process, as an investigation of it would."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from numad_py.model import Accesses, AccessSource, Regions, ThreadGroup, Threads
from numad_py.sim.script import Memory
from numad_py.topology import Addresses, Floats, Ints, Topology

SAMPLES: Final = 20_000  # seen of a process; who touches what is told to about a hundredth of its accesses


def accesses(
    memory: Sequence[Memory], regions: Regions, threads: Threads, on: Topology, period_s: float
) -> Accesses | None:
    """Give what was seen while these threads ran for that long; None if none did.

    Regions are cut into the parts that ``touched_by`` names. A group of threads is seen as often as it uses CPU time.
    """
    node = on.index_of_cpu[threads.cpu]
    running = np.unique(node)
    if not len(running):
        return None
    start, end, touches = _touches(memory, regions, len(on.nodes))
    touches = touches[:, running]
    cpu_s = np.bincount(node, threads.cpu_s, len(on.nodes))[running]
    seen = SAMPLES * cpu_s / cpu_s.sum() * touches / np.maximum(touches.sum(axis=0), 1e-9)
    return Accesses(
        AccessSource.PEBS,
        tuple(_group(int(each), node, threads, on) for each in running),
        start,
        end,
        np.rint(seen).astype(np.int64),
        None,
        period_s,
    )


def _touches(memory: Sequence[Memory], regions: Regions, nodes: int) -> tuple[Addresses, Addresses, Floats]:
    """Give starts and ends of all parts, and how often threads on each node touch each."""
    parts = [np.array(each.touched_by or [[1.0] * nodes]) for each in memory]
    edges = list(_edges(regions, list(map(len, parts))))
    held_bytes = regions.resident_bytes.sum(axis=1)
    touches = [often * held / len(often) for often, held in zip(parts, held_bytes, strict=True)]
    start, end = (np.concatenate([each[side] for each in edges]) for side in (slice(-1), slice(1, None)))
    return start, end, np.concatenate(touches)


def _edges(regions: Regions, counts: Sequence[int]) -> Iterator[Addresses]:
    """Yield by region where its parts, of so many pages each, begin and end."""
    pages = (regions.end - regions.start).astype(np.int64) // regions.page_bytes
    for start, held, page_bytes, count in zip(regions.start, pages, regions.page_bytes, counts, strict=True):
        edges = held * np.arange(count + 1) // count * page_bytes
        yield start + edges.astype(np.uint64)


def _group(index: int, node: Ints, threads: Threads, on: Topology) -> ThreadGroup:
    mine = node == index
    cpu_s = on.cpu_s_by_node(threads.cpu[mine], threads.cpu_s[mine])
    return ThreadGroup(on.nodes[index].id, threads.tid[mine], cpu_s)
