# SPDX-License-Identifier: Apache-2.0

"""Disturb nobody: stay off the CPUs that the operator keeps for others, and out of the kernel's NUMA balancing."""

import os
from contextlib import suppress

import structlog

from numad_py.kernel import cpulist, mempolicy
from numad_py.topology import Topology


def keep(topology: Topology) -> None:
    """Leave isolated and nohz_full CPUs, unless there are no others, and keep our memory where it is.

    Both hold for all threads begun from now on.
    """
    # Where that is not allowed, the kernel may move our pages, which costs something and harms nobody.
    with suppress(OSError, NotImplementedError):
        mempolicy.allocate_locally()
    ours = os.sched_getaffinity(0)
    kept = ours - {*topology.isolated_cpus, *topology.nohz_full_cpus}
    if kept and kept != ours:
        os.sched_setaffinity(0, kept)
        structlog.get_logger().info("housekeeping", cpus=cpulist.render(kept))
