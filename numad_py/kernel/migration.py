# SPDX-License-Identifier: Apache-2.0

"""Move pages and threads. The only module that changes another process."""

import os
from collections.abc import Iterable
from ctypes import c_int, c_ulong
from typing import Final

import numpy as np

from numad_py.kernel._call import call
from numad_py.kernel.mempolicy import nodemask
from numad_py.kernel.placement import Addresses, Status, door
from numad_py.topology import Bools

MPOL_MF_MOVE: Final = 1 << 1  # include/uapi/linux/mempolicy.h
MPOL_MF_MOVE_ALL: Final = 1 << 2

UNTOUCHED: Final = -0x7FFF_FFFF
"""What a status slot holds before the call: no node, no errno."""


def move_pages(pid: int, addresses: Addresses, target: int, *, for_all: bool = False) -> tuple[int, Status]:
    """Ask for the page at each address to be moved to the target node.

    Give what the call returned and the status array: per address the node the
    page is now on, a negative errno, or ``UNTOUCHED``. Pages that other processes
    map too stay where they are (-EACCES), unless they are to be moved ``for_all``.

    Raises ProcessLookupError (gone), PermissionError (no CAP_SYS_PTRACE, or for all
    no CAP_SYS_NICE; EACCES: the target is outside the process's cpuset), and OSError with
    ENOMEM (no room on the target) or ENODEV (no such node). See move_pages(2).
    """
    # Since Linux commit a49bd4d71637 ("mm, numa: rework do_pages_move") (in v4.17) a call
    # ends at the first group with a page that cannot move and returns how many pages were
    # left, failed and never tried together; their status slots keep what we put in them.
    # So a positive return is no error, and only asking again tells what moved.
    nodes = np.full(len(addresses), target, np.int32)
    status = np.full(len(addresses), UNTOUCHED, np.int32)
    left = call(
        "move_pages",
        c_int(pid),
        c_ulong(len(addresses)),
        door(addresses, np.uint64, len(addresses)),
        door(nodes, np.int32, len(addresses)),
        door(status, np.int32, len(addresses)),
        c_int(MPOL_MF_MOVE_ALL if for_all else MPOL_MF_MOVE),
    )
    return left, status


def tried(left: int, status: Status, arrived: Bools) -> int:
    """Give how many of the addresses, from the first, ``move_pages`` has tried; at least one.

    ``left`` and ``status`` are what it gave, ``arrived`` says which pages are on the target now.
    """
    # A call gathers pages until one has an answer of its own, such as -EACCES, and then sends off
    # what it gathered. Where some of those cannot move it ends: that answer is the last it gave,
    # and everything behind counts as left beside what could not move. See do_pages_move().
    answered = np.flatnonzero(status != UNTOUCHED)
    if not len(answered):
        return len(status)
    behind = int(answered[-1]) + 1
    return behind if left > int((~arrived[behind:]).sum()) else len(status)


def migrate_pages(pid: int, sources: tuple[int, ...], target: int) -> int:
    """Move all pages of a process from some nodes to another; give how many stayed.

    With CAP_SYS_NICE this moves pages that strangers map too: only for a
    process that shares nothing outside its job. Raises as ``move_pages``.
    See migrate_pages(2).
    """
    words = max(*sources, target) // 64 + 1
    old, new = nodemask(sources, words), nodemask((target,), words)  # named, so that they outlive the call
    # long migrate_pages(int pid, unsigned long maxnode,
    #                    const unsigned long *old_nodes, const unsigned long *new_nodes);
    # get_nodes() in mm/mempolicy.c reads maxnode - 1 bits.
    return call(
        "migrate_pages",
        c_int(pid),
        c_ulong(words * 64 + 1),
        door(old, np.uint64, words),
        door(new, np.uint64, words),
    )


def set_affinity(tid: int, cpus: Iterable[int]) -> None:
    """Let a thread, and all that it starts from then on, run on these CPUs, as far as its cpuset allows them.

    Raises ProcessLookupError (gone), PermissionError (no CAP_SYS_NICE), and OSError with
    EINVAL (none of them allowed, or a thread whose affinity is fixed) or EBUSY (a deadline task).
    See sched_setaffinity(2).
    """
    if tid <= 0:  # 0 would be ourselves
        raise ValueError(f"not a thread: {tid}")
    os.sched_setaffinity(tid, cpus)
