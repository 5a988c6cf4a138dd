# SPDX-License-Identifier: Apache-2.0

"""What distance and moving cost on a machine that nobody measured, in nanoseconds: published figures.

All were measured by others on real hardware:
- local 90 ns, another package 1.6 times that: Intel MLC on two-socket Xeon Gold 6140, Gold 6240 and Platinum 8360Y
  (github.com/gjbex/Code-optimization, info/, CC BY 4.0: 90.2/144.3, 87.6/140.4, 88.9/143.2 ns);
- another node of the same package 1.2 times: Xeon Platinum 8468 in SNC4 mode, same source (102 to 123 beside 96 ns);
- a node without CPUs 2.45 times: CXL memory beside a two-socket Xeon (242.7 beside 99.1 ns);
- moving a page: `move_pages` of 1 GB between two Zen 3 sockets on Linux 7.1-rc1, one thread
  (cover letter of the page migration offload series, linux-mm).

SLIT distances are never read as times: firmware says 21 where 1.5 times is measured. They only tell a node of the same
package from another's.
"""

from typing import Final

import numpy as np

from numad_py.topology import Floats, Ints, Topology

LOCAL_NS: Final = 90.0
SAME_PACKAGE_RATIO: Final = 1.2
OTHER_PACKAGE_RATIO: Final = 1.6
MEMORY_ONLY_RATIO: Final = 2.45
OTHER_PACKAGE_DISTANCE: Final = 20  # firmware writes 11 to 16 within a package, 20 and more beyond it

# A node's memory gives what its own cores can ask for together, 4.9 to 6.2 GB/s for each core, and never less than
# seven ask for: Intel MLC on nodes of 7 to 36 cores of seven generations of Xeon, same source (36.4 GB/s and 7 cores
# on an E5-2680 v4 in cluster-on-die mode, 176.2 GB/s and 36 cores on a Platinum 8360Y).
FEWEST_STREAMS: Final = 7

# From Linux 6.3 on, whose batches share a flush of the TLB.
MOVE_NS: Final = {
    4 << 10: 1_240,
    16 << 10: 2_920,
    64 << 10: 9_840,
    256 << 10: 37_400,
    1 << 20: 147_000,
    2 << 20: 190_000,
}

# The part of a CPU second that waits for memory when all of it is local. No trace measures it, so one figure stands for
# every job: it scales modelled time, and never the order of two policies' remote shares.
MEMORY_SHARE: Final = 0.3


def ratios(
    on: Topology,
    same_package: float = SAME_PACKAGE_RATIO,
    other_package: float = OTHER_PACKAGE_RATIO,
    memory_only: float = MEMORY_ONLY_RATIO,
) -> Floats:
    """Give latencies as multiples of the local one, shape (initiator nodes, target nodes)."""
    ratio = np.where(np.array(on.distances) < OTHER_PACKAGE_DISTANCE, same_package, other_package)
    ratio = np.where(on.has_cpus, ratio, memory_only)
    np.fill_diagonal(ratio, 1.0)
    return ratio


def packages(on: Topology) -> tuple[tuple[int, ...], ...]:
    """Give the positions of the nodes with CPUs of each package, as distances tell it."""
    near = (np.array(on.distances) < OTHER_PACKAGE_DISTANCE) & on.has_cpus
    return tuple(dict.fromkeys(tuple(np.flatnonzero(row).tolist()) for row in near[on.has_cpus]))


def streams(on: Topology) -> Ints:
    """Give by node how many cores its memory serves at once, if all of them stream."""
    served: Ints = np.maximum(on.cores_by_node, FEWEST_STREAMS)
    return served


def move_ns_per_byte(page_bytes: Ints | int) -> Floats:
    """Give the price of moving a byte in pages of each size, or of the next smaller one that has a price."""
    sizes, ns = np.array(list(MOVE_NS.items())).T
    known = np.searchsorted(sizes, page_bytes, side="right") - 1
    price: Floats = ns[known] / sizes[known]
    return price
