# SPDX-License-Identifier: Apache-2.0

"""Measure what moving a page takes on this machine, with a little memory of our own.

Problem: a replay charges for moves that the recorded policy may never have made.
Primitive: 4 MB of this process are moved from one node to another and back, which needs no rights over anyone.
Application: the header of a trace. It is the price of pages that nobody is using meanwhile, in one thread.
"""

import errno
import mmap
import os
import statistics
import time
from itertools import cycle, islice
from typing import Final

import numpy as np

from numad_py.kernel import hugepages, migration, proc_status
from numad_py.model import Addresses, Topology

PAGE_BYTES: Final = 4096
PAGES: Final = 1024  # enough that the fixed part of a call, some 40 us, is little beside them
TRIPS: Final = 7


def move_4k_page_ns(topology: Topology) -> float | None:
    """Give what moving a 4 KiB page takes; None where it cannot be measured.

    That is with base pages of another size, on fewer than two nodes that have CPUs and memory and are
    allowed to us, and where the kernel refuses.
    """
    allowed = proc_status.read(os.getpid()).nodes_allowed
    # A node without CPUs may be a GPU's memory: never a target.
    nodes = [node.id for node in topology.nodes if node.cpus and node.total_bytes and node.id in allowed]
    if topology.page_bytes != PAGE_BYTES or not nodes[1:]:
        return None
    memory = np.frombuffer(_touched(), np.uint8)
    addresses = memory.ctypes.data + np.arange(0, memory.size, PAGE_BYTES, dtype=np.uint64)
    try:
        trips_s = [_trip_s(addresses, target) for target in islice(cycle(nodes[:2]), TRIPS)]
    except (OSError, NotImplementedError):
        return None
    return statistics.median(trips_s[1:]) / PAGES * 1e9  # the first brings together what lay anywhere


def _touched() -> mmap.mmap:
    """Give memory of base pages, all of them there."""
    memory = mmap.mmap(-1, PAGES * PAGE_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hugepages.pmd_bytes():
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    memory[::PAGE_BYTES] = bytes(PAGES)
    return memory


def _trip_s(addresses: Addresses, target: int) -> float:
    """Move all of it and give the time; raises OSError where some of it stayed."""
    began_s = time.monotonic()
    left, status = migration.move_pages(os.getpid(), addresses, target)
    took_s = time.monotonic() - began_s
    if left or (status != target).any():
        raise OSError(errno.EBUSY, f"pages would not move to node {target}")
    return took_s
