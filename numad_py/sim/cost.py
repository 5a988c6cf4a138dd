# SPDX-License-Identifier: Apache-2.0

"""What distance and moving cost, in nanoseconds.

Problem: a replay must say what remote memory and moved pages would have cost on a machine that nobody may
have measured.

Primitive: an idle latency for each pair of nodes, and a price for moving one page by its size. Contention is left
out: published loaded-latency curves differ too much between machines to be carried to an unmeasured one.

Application: the simulated actuator pays prices, the score multiplies accesses by latencies.

Figures without a machine file, all measured by others on real hardware:
- local 90 ns, another package 1.6 times that: Intel MLC on two-socket Xeon Gold 6140, Gold 6240 and Platinum 8360Y
  (github.com/gjbex/Code-optimization, info/, CC BY 4.0: 90.2/144.3, 87.6/140.4, 88.9/143.2 ns);
- another node of the same package 1.2 times: Xeon Platinum 8468 in SNC4 mode, same source (102 to 123 beside 96 ns);
- a node without CPUs 2.45 times: CXL memory beside a two-socket Xeon (242.7 beside 99.1 ns);
- moving a page: `move_pages` of 1 GB between two Zen 3 sockets on Linux 7.1-rc1, one thread
  (cover letter of the page migration offload series, linux-mm).

SLIT distances are never read as times: firmware says 21 where 1.5 times is measured. They only tell a node of the same
package from another's.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from numad_py import machines
from numad_py.model import Floats, Ints, Topology
from numad_py.profile import ProfileError
from numad_py.trace import Header

LOCAL_NS: Final = 90.0
SAME_PACKAGE_RATIO: Final = 1.2
OTHER_PACKAGE_RATIO: Final = 1.6
MEMORY_ONLY_RATIO: Final = 2.45
OTHER_PACKAGE_DISTANCE: Final = 20  # firmware writes 11 to 16 within a package, 20 and more beyond it

MOVE_NS: Final = {
    4 << 10: 1_240,
    16 << 10: 2_920,
    64 << 10: 9_840,
    256 << 10: 37_400,
    1 << 20: 147_000,
    2 << 20: 190_000,
}
CALL_NS: Final = (
    42_000  # one moving call without pages, which drains the LRU lists of every CPU: 34 to 49 us measured
)

# The part of a CPU second that waits for memory when all of it is local. No trace of this version measures it, so one
# figure stands for every job: it scales modelled time, and never the order of two policies' remote shares.
MEMORY_SHARE: Final = 0.3


@dataclass(frozen=True, eq=False)
class Prices:
    """One machine's costs.

    ``latency_ns`` has the shape (initiator nodes, target nodes); ``move_ns`` maps page bytes to nanoseconds;
    ``call_ns`` is the fixed part of one move; ``memory_share`` is the part of local CPU time that waits for memory.
    """

    latency_ns: Floats
    move_ns: tuple[tuple[int, float], ...] = tuple(MOVE_NS.items())
    call_ns: int = CALL_NS
    memory_share: float = MEMORY_SHARE

    def page_ns(self, page_bytes: Ints) -> Ints:
        """Give the price of moving one page of each size; between known sizes on a straight line of logarithms.

        Beyond the largest known size each byte costs what it costs there; below the smallest, a page is a page.
        """
        sizes, prices = np.array(self.move_ns, np.float64).T
        known = np.exp(np.interp(np.log(page_bytes), np.log(sizes), np.log(prices)))
        price_ns: Ints = np.rint(known * np.maximum(page_bytes / sizes[-1], 1)).astype(np.int64)
        return price_ns

    def scaled_to(self, base_page_bytes: int, move_ns: float) -> "Prices":
        """Give these prices for a machine on which moving a base page was measured to take ``move_ns``."""
        factor = move_ns / float(self.page_ns(np.array([base_page_bytes]))[0])
        return replace(self, move_ns=tuple((size, price * factor) for size, price in self.move_ns))

    @property
    def accesses_per_cpu_s(self) -> float:
        """Accesses of memory in one CPU second with all memory local, one after another: time waited / latency."""
        return self.memory_share / (float(np.diag(self.latency_ns).min()) * 1e-9)


def prices_for(header: Header, machine: Path | None = None) -> Prices:
    """Give the prices of a machine file, or else published ones scaled to what the recording machine measured.

    Raises ProfileError, which says what is wrong with the machine file and where.
    """
    if machine is None:
        prices = default_prices(header.topology)
        return prices.scaled_to(4096, header.move_4k_page_ns) if header.move_4k_page_ns else prices
    prices, nodes = read(machine), len(header.topology.nodes)
    if len(prices.latency_ns) != nodes:
        raise ProfileError(
            f"{machine}: latency_ns: found {len(prices.latency_ns)} nodes, the trace has {nodes}"
        )
    return prices


def default_prices(on: Topology) -> Prices:
    """Give published figures for a machine nobody measured."""
    distances = np.array(on.distances)
    ratio = np.where(distances < OTHER_PACKAGE_DISTANCE, SAME_PACKAGE_RATIO, OTHER_PACKAGE_RATIO)
    ratio = np.where(on.has_cpus, ratio, MEMORY_ONLY_RATIO)
    np.fill_diagonal(ratio, 1.0)
    return Prices(LOCAL_NS * ratio)


def read(path: Path) -> Prices:
    """Read the prices of a machine file, with published ones for those that it leaves out.

    Raises ProfileError, which says what is wrong and where.
    """
    machine = machines.read(path)
    move_ns = {int(size): price for size, price in machine.move_ns.items()} or MOVE_NS
    return Prices(
        np.array(machine.latency_ns, np.float64).reshape(len(machine.latency_ns), -1),
        tuple(sorted(move_ns.items())),
        CALL_NS if machine.call_ns is None else machine.call_ns,
        MEMORY_SHARE if machine.memory_share is None else machine.memory_share,
    )
