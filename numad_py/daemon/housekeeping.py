# SPDX-License-Identifier: Apache-2.0

"""Stay off the CPUs that the operator keeps for others."""

import os

import structlog

from numad_py.kernel import cpulist
from numad_py.topology import Topology


def keep(topology: Topology) -> None:
    """Leave isolated and nohz_full CPUs, with all threads begun from now on, unless there are no others."""
    ours = os.sched_getaffinity(0)
    kept = ours - {*topology.isolated_cpus, *topology.nohz_full_cpus}
    if kept and kept != ours:
        os.sched_setaffinity(0, kept)
        structlog.get_logger().info("housekeeping", cpus=cpulist.render(kept))
