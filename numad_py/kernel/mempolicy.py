# SPDX-License-Identifier: Apache-2.0

"""Choose the nodes of memory of our own."""

from ctypes import c_int, c_uint, c_ulong, c_void_p

import numpy as np
from numpy.typing import NDArray

from numad_py.kernel._call import call
from numad_py.kernel.placement import door

MPOL_BIND, MPOL_LOCAL = 2, 4  # include/uapi/linux/mempolicy.h


def bind(address: int, length: int, node: int) -> None:
    """Let the pages of a range of ours come from one node only.

    ``address`` is a page's. Pages that are there already stay. Where the node runs full the kernel kills
    us, so ask for less than is free. Raises OSError with EINVAL for a node without memory or outside our
    cpuset, ENOSYS on a kernel without NUMA. See mbind(2).
    """
    mask = nodemask((node,))
    # long mbind(void *addr, unsigned long len, int mode, const unsigned long *nodemask,
    #            unsigned long maxnode, unsigned flags);
    call(
        "mbind",
        c_void_p(address),
        c_ulong(length),
        c_int(MPOL_BIND),
        door(mask, np.uint64, len(mask)),
        c_ulong(len(mask) * 64 + 1),  # get_nodes() in mm/mempolicy.c reads maxnode - 1 bits
        c_uint(0),
    )


def allocate_locally() -> None:
    """Let memory of this thread, and of those that it begins, come from where they run, and stay there.

    Without a policy it would come from there, too, and kernel.numa_balancing would take it along whenever the thread is
    run elsewhere: task_numa_work() passes over VMAs whose policy lacks MPOL_F_MOF, which only the kernel's own has.
    Raises OSError with ENOSYS on a kernel without NUMA, EPERM in many containers. See set_mempolicy(2).
    """
    # long set_mempolicy(int mode, const unsigned long *nodemask, unsigned long maxnode);
    call("set_mempolicy", c_int(MPOL_LOCAL), c_void_p(None), c_ulong(0))


def nodemask(nodes: tuple[int, ...], words: int = 0) -> NDArray[np.uint64]:
    """Give the bit mask of nodes in as many words as are asked for, or needed."""
    mask = np.zeros(words or max(nodes) // 64 + 1, np.uint64)
    for node in nodes:
        mask[node // 64] |= np.uint64(1 << node % 64)
    return mask
