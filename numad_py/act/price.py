# SPDX-License-Identifier: Apache-2.0

"""Measure what moving a page takes on this machine, with a little memory of our own.

Problem: a replay charges for moves that the recorded policy may never have made.
Primitive: 4 MB of this process, or 32 MB of huge pages, are moved from one node to another and back, which needs
no rights over anyone.
Application: the header of a trace, and a machine file. It is the price of pages that nobody is using meanwhile, in
one thread.
"""

import errno
import mmap
import os
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Final

import numpy as np

from numad_py.kernel import hugepages, migration, proc_status, smaps_rollup
from numad_py.topology import Addresses, Topology

PAGE_BYTES: Final = 4096
PAGES: Final = 1024  # enough that the fixed part of a call, some 40 us, is little beside them
HUGE_PAGES: Final = 16
TRIPS: Final = 7


@dataclass(frozen=True)
class Prices:
    """What moving pages takes: ``page_ns`` by page bytes, ``call_ns`` for each call besides."""

    page_ns: Mapping[int, float]
    call_ns: int | None


def prices(topology: Topology) -> Prices | None:
    """Give what moving 4 KiB pages and huge pages takes, where pages can be moved; else as ``move_4k_page_ns``.

    Without transparent huge pages, or where the kernel gives none, there is no price for them.
    """
    page_ns = move_4k_page_ns(topology)
    if page_ns is None:
        return None
    memory = _touched(1)
    one_s = _median_trip_s(_addresses(memory, 1, PAGE_BYTES), _nodes(topology))
    huge_ns = _huge_page_ns(topology)
    by_size = {PAGE_BYTES: page_ns} | ({hugepages.pmd_bytes(): huge_ns} if huge_ns else {})
    return Prices(by_size, None if one_s is None else round(max(0.0, one_s * 1e9 - page_ns)))


def move_4k_page_ns(topology: Topology) -> float | None:
    """Give what moving a 4 KiB page takes; None where it cannot be measured.

    That is with base pages of another size, on fewer than two nodes that have CPUs and memory and are
    allowed to us, and where the kernel refuses.
    """
    nodes = _nodes(topology)
    if topology.page_bytes != PAGE_BYTES or not nodes[1:]:
        return None
    memory = _touched(PAGES)
    trip_s = _median_trip_s(_addresses(memory, PAGES, PAGE_BYTES), nodes)
    return None if trip_s is None else trip_s / PAGES * 1e9


def _huge_page_ns(topology: Topology) -> float | None:
    size = hugepages.pmd_bytes()
    if not size:
        return None
    memory = mmap.mmap(-1, (HUGE_PAGES + 1) * size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    before = smaps_rollup.read_huge_bytes(os.getpid())
    memory[::PAGE_BYTES] = bytes(len(memory) // PAGE_BYTES)
    if smaps_rollup.read_huge_bytes(os.getpid()) - before < HUGE_PAGES * size:
        return None
    trip_s = _median_trip_s(_addresses(memory, HUGE_PAGES, size), _nodes(topology))
    return None if trip_s is None else trip_s / HUGE_PAGES * 1e9


def _nodes(topology: Topology) -> list[int]:
    allowed = proc_status.read(os.getpid()).nodes_allowed
    # A node without CPUs may be a GPU's memory: never a target.
    return [node.id for node in topology.nodes if node.cpus and node.total_bytes and node.id in allowed]


def _touched(pages: int) -> mmap.mmap:
    """Give memory of base pages, all of them there."""
    memory = mmap.mmap(-1, pages * PAGE_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hugepages.pmd_bytes():
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    memory[::PAGE_BYTES] = bytes(pages)
    return memory


def _addresses(memory: mmap.mmap, pages: int, page_bytes: int) -> Addresses:
    """Give the addresses of pages, the first of them aligned to its own size."""
    begin = np.frombuffer(memory, np.uint8).ctypes.data
    first = (begin + page_bytes - 1) // page_bytes * page_bytes
    return first + np.arange(pages, dtype=np.uint64) * np.uint64(page_bytes)


def _median_trip_s(addresses: Addresses, nodes: list[int]) -> float | None:
    """Move pages there and back; None where the kernel refuses or some stay."""
    try:
        trips_s = [_trip_s(addresses, target) for target in islice(cycle(nodes[:2]), TRIPS)]
    except (OSError, NotImplementedError):
        return None
    return statistics.median(trips_s[1:])  # the first brings together what lay anywhere


def _trip_s(addresses: Addresses, target: int) -> float:
    """Move all of it and give the time; raises OSError where some of it stayed."""
    began_s = time.monotonic()
    left, status = migration.move_pages(os.getpid(), addresses, target)
    took_s = time.monotonic() - began_s
    if left or (status != target).any():
        raise OSError(errno.EBUSY, f"pages would not move to node {target}")
    return took_s
