# SPDX-License-Identifier: Apache-2.0

"""What distance, load and moving cost, in nanoseconds.

Problem: a replay must say what remote memory and moved pages would have cost on a machine that nobody may
have measured.

Primitive: an idle latency for each pair of nodes, and a price for moving one page by its size. A machine file that
knows bandwidths adds what load does to latency (`load`); without one memory is taken to be idle, since limits
differ too much between machines to be carried to an unmeasured one.

Application: the simulated actuator pays prices, the score multiplies accesses by latencies.

Figures without a machine file are those of `numad_py/prices.py`, which says who measured them.

What nobody knows of a machine or a job has a range, and whatever follows from it is told for both of its ends. Without a
machine file ratios are as among the machines in sim/machines/: another node of the package 1.07 to 1.29 times (Platinum
8468), another package 1.38 to 1.95 times (E5-2680 v3, Gold 6240), and CXL memory 140 to 410 ns (what emulated and
real devices span, as the authors of SupMario and Melody count).
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from numad_py import machines
from numad_py.machines import MachineFile, middle
from numad_py.prices import LOCAL_NS, MEMORY_SHARE, MOVE_NS, ratios
from numad_py.profile import ProfileError
from numad_py.sim import load
from numad_py.topology import Floats, Ints, Topology
from numad_py.trace import Header

SAME_PACKAGE_RATIOS: Final = (1.07, 1.29)
OTHER_PACKAGE_RATIOS: Final = (1.38, 1.95)
MEMORY_ONLY_RATIOS: Final = (140 / LOCAL_NS, 410 / LOCAL_NS)

# Since Linux commit 7e12beb8ca2a ("migrate_pages: batch flushing TLB", in v6.3) one flush serves many pages; before, each
# page of whatever size had its own. Pages a second grew by 291.7 % on a two-socket Intel server (by 78 % on an Arm
# server of 128 cores): the flush took 2.917 times what else a page of 4 KiB takes.
BATCHED_FLUSH: Final = (6, 3)
UNBATCHED_FLUSH_NS: Final = 3_617

CALL_NS: Final = (
    42_000  # one moving call without pages, which drains the LRU lists of every CPU: 34 to 49 us measured
)

# A guess, as is MEMORY_SHARE.
MEMORY_SHARES: Final = (0.1, 0.5)

FEWEST_LOADS: Final = 4  # of a sweep that is to make a curve of three parameters


@dataclass(frozen=True, eq=False)
class Prices:
    """One machine's costs.

    ``latency_ns`` has the shape (initiator nodes, target nodes); ``move_ns`` maps page bytes to nanoseconds;
    ``call_ns`` is the fixed part of one move; ``memory_share`` is the part of local CPU time that waits for memory,
    with ``parallel_accesses`` at once. ``machine`` has the limits, if they are known. ``ends`` are the same costs where
    what nobody knows is at the ends of its range, where memory matters least and most; without any all is known.
    """

    latency_ns: Floats
    move_ns: tuple[tuple[int, float], ...] = tuple(MOVE_NS.items())
    call_ns: int = CALL_NS
    memory_share: float = MEMORY_SHARE
    parallel_accesses: float = 1.0
    machine: load.Machine | None = None
    ends: "tuple[Prices, ...]" = ()

    def loaded_ns(self, cpu_s: Floats, reach: Floats, elapsed_s: float) -> Floats:
        """Give latencies while processes run for that long from each node, and reach for those; idle ones without limits.

        All accesses are taken for reads: no trace tells them from writes.
        """
        if self.machine is None or not elapsed_s:
            return self.latency_ns
        gb_per_s = cpu_s / elapsed_s * self.accesses_per_cpu_s * load.LINE_BYTES / 1e9
        demand = load.Demand(gb_per_s, reach, self.memory_share)
        return load.solve(self.machine, demand).latency_ns

    def slower(self, cpu_s: Floats, reach: Floats, elapsed_s: float) -> Floats:
        """Say how many times as long as with all memory near and idle work takes, by process and node.

        Who holds nothing reaches for nothing, and waits for nothing remote.
        """
        ratio = self.loaded_ns(cpu_s, reach, elapsed_s) / np.diag(self.latency_ns)[:, None]
        waited = np.where(reach.any(axis=2), np.einsum("pij,ij->pi", reach, ratio), 1.0)
        slower: Floats = 1 + self.memory_share * (waited - 1)
        return slower

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
        return self.moving_for(tuple((size, price * factor) for size, price in self.move_ns))

    def moving_for(self, move_ns: tuple[tuple[int, float], ...]) -> "Prices":
        """Give these prices with others for moving pages."""
        return replace(self, move_ns=move_ns, ends=tuple(each.moving_for(move_ns) for each in self.ends))

    def for_work(self, memory_share: float | None, parallel_accesses: float | None) -> "Prices":
        """Give these prices for jobs of which that much is known; None leaves what the machine file, or a guess, says."""
        if memory_share is None and parallel_accesses is None:
            return self
        return replace(
            self,
            memory_share=self.memory_share if memory_share is None else memory_share,
            parallel_accesses=self.parallel_accesses if parallel_accesses is None else parallel_accesses,
            ends=tuple(each.for_work(memory_share, parallel_accesses) for each in self.ends),
        )

    @property
    def accesses_per_cpu_s(self) -> float:
        """Accesses of memory in one CPU second with all memory local and idle: time waited / latency, for each at once."""
        return self.parallel_accesses * self.memory_share / (float(np.diag(self.latency_ns).min()) * 1e-9)


def prices_for(header: Header, machine: Path | None = None, kernel: str = "") -> Prices:
    """Give the prices of a machine file, or else published ones scaled to what the recording machine measured.

    Where the machine file has no prices of moving, they are those of ``kernel``, or of the trace's. Another kernel
    than the trace's is not scaled to what was measured under that. Raises ProfileError, which says what is wrong with
    the machine file and where.
    """
    if machine is None:
        prices = default_prices(header.topology).moving_for(move_prices(kernel or header.kernel))
        measured_ns = None if kernel else header.move_4k_page_ns
        return prices.scaled_to(4096, measured_ns) if measured_ns else prices
    prices, nodes = read(machine, kernel or header.kernel), len(header.topology.nodes)
    if len(prices.latency_ns) != nodes:
        raise ProfileError(
            f"{machine}: latency_ns: found {len(prices.latency_ns)} nodes, the trace has {nodes}"
        )
    return prices


def default_prices(on: Topology) -> Prices:
    """Give published figures for a machine nobody measured."""
    ranges = zip(SAME_PACKAGE_RATIOS, OTHER_PACKAGE_RATIOS, MEMORY_ONLY_RATIOS, strict=True)
    ends = (
        Prices(LOCAL_NS * ratios(on, *end), memory_share=share)
        for end, share in zip(ranges, MEMORY_SHARES, strict=True)
    )
    return Prices(LOCAL_NS * ratios(on), ends=tuple(ends))


def move_prices(kernel: str) -> tuple[tuple[int, float], ...]:
    """Give published prices by page bytes for a kernel version as uname tells it; of an unknown one the newest."""
    version = version_of(kernel)
    flush_ns = UNBATCHED_FLUSH_NS if version and version < BATCHED_FLUSH else 0
    return tuple((size, float(price + flush_ns)) for size, price in MOVE_NS.items())


def version_of(kernel: str) -> tuple[int, int] | None:
    """Give the first two numbers of what uname calls the release."""
    found = re.match(r"([0-9]{1,9})\.([0-9]{1,9})", kernel)
    return (int(found[1]), int(found[2])) if found else None


def read(path: Path, kernel: str = "") -> Prices:
    """Read the prices of a machine file, with published ones for those that it leaves out.

    Raises ProfileError, which says what is wrong and where.
    """
    machine = machines.read(path)
    ends = (_of(machine.at(end), kernel, share) for end, share in zip((0, 1), MEMORY_SHARES, strict=True))
    return replace(_of(machine, kernel, MEMORY_SHARE), ends=tuple(ends))


def _of(machine: MachineFile, kernel: str, memory_share: float) -> Prices:
    move_ns = tuple(sorted((int(size), price) for size, price in machine.move_ns.items()))
    return Prices(
        np.array(machine.idle_ns, np.float64).reshape(len(machine.idle_ns), -1),
        move_ns or move_prices(kernel),
        CALL_NS if machine.call_ns is None else machine.call_ns,
        memory_share if machine.memory_share is None else machine.memory_share,
        middle(machine.parallel_accesses or 1.0),
        limits(machine),
    )


def limits(machine: MachineFile) -> load.Machine | None:
    """Give what a machine file knows of limits; None where it knows no bandwidth."""
    nodes = len(machine.latency_ns)
    if not machine.bandwidth.read_gb_per_s and not machine.controller_gb_per_s:
        return None
    wires = np.array(machine.bandwidth.read_gb_per_s or np.full((nodes, nodes), np.nan), np.float64)
    wires[np.isnan(wires)] = np.inf  # None became not a number
    controllers = np.max(wires, axis=0, initial=0.0, where=np.isfinite(wires))
    if machine.controller_gb_per_s:
        controllers = np.array(list(map(middle, machine.controller_gb_per_s)))
    package = np.arange(nodes)
    for number, members in enumerate(machine.packages):
        package[list(members)] = number
    return load.Machine(
        np.array(machine.idle_ns, np.float64),
        np.where(controllers > 0, controllers, np.inf),
        wires,
        package,
        np.inf if machine.link_gb_per_s is None else middle(machine.link_gb_per_s),
        _curve(machine),
        _mix(machine),
    )


def _curve(machine: MachineFile) -> load.Curve:
    """Fit the sweeps of nodes that read their own memory."""
    at_home = [
        (each.gb_per_s, each.latency_ns)
        for each in machine.loaded_latency
        if each.initiator == each.target and len({*each.gb_per_s}) >= FEWEST_LOADS
    ]
    return load.fit(at_home) if at_home else load.POOLED


def _mix(machine: MachineFile) -> tuple[tuple[float, float], ...]:
    """Give by the share of bytes that are written what is left of the bandwidth of reads, upwards."""
    mix = {float(share): gb for share, gb in machine.mix_gb_per_s.items()}
    return tuple((share, mix[share] / mix[0.0]) for share in sorted(mix))
