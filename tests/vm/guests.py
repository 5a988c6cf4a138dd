# SPDX-License-Identifier: Apache-2.0

"""The guests: machines with several nodes that QEMU makes and the tests run on."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations


@dataclass(frozen=True)
class GuestNode:
    """One node of a guest; without CPUs it is memory only."""

    mib: int
    cpus: tuple[int, ...] = ()


@dataclass(frozen=True)
class Guest:
    """One guest; ``kernel`` is the series it boots, ``distances`` are SLIT numbers.

    In a ``counted`` one QEMU counts the accesses of user space: see tests/vm/access_counts.py.
    """

    name: str
    kernel: str
    nodes: tuple[GuestNode, ...]
    distances: tuple[tuple[int, ...], ...]
    counted: bool = False

    def hardware(self) -> list[str]:
        """Give the options of vng that make this machine."""
        with_cpus = [node for node in self.nodes if node.cpus]
        cpus = sum(len(node.cpus) for node in with_cpus)
        # One socket for each node with CPUs: a last-level cache that spans two nodes
        # makes the kernel warn in topology_sane() and mistrust the nodes.
        options = ["--cpus", f"{cpus},sockets={len(with_cpus)},cores={cpus // len(with_cpus)}"]
        options += ["--memory", f"{sum(node.mib for node in self.nodes)}M"]
        return [*options, *self._nodes(), *self._distances()]

    def _nodes(self) -> Iterator[str]:
        for node in self.nodes:
            yield "--numa"
            yield f"{node.mib}M" + (f",cpus={node.cpus[0]}-{node.cpus[-1]}" if node.cpus else "")

    def _distances(self) -> Iterator[str]:
        for source, target in permutations(range(len(self.nodes)), 2):
            yield "--numa-distance"
            yield f"{source},{target}={self.distances[source][target]}"


# Two CPUs, as few as the hosts that run the tests have: a guest with more busy CPUs than its host has spends
# milliseconds on every page it moves, since the CPU whose TLB is to be flushed may not be running just then.
GUESTS = (
    Guest(
        "two-nodes",
        kernel="6.1",
        nodes=(GuestNode(1024, (0,)), GuestNode(1024, (1,))),
        distances=((10, 21), (21, 10)),
    ),
    Guest(
        "two-nodes-counted",
        kernel="6.1",
        nodes=(GuestNode(1280, (0,)), GuestNode(768, (1,))),
        distances=((10, 21), (21, 10)),
        counted=True,
    ),
    Guest(
        "four-nodes",
        kernel="6.12",
        nodes=(GuestNode(768, (0,)), GuestNode(768, (1,)), GuestNode(512), GuestNode(512)),
        distances=((10, 21, 17, 28), (31, 10, 28, 17), (14, 28, 10, 40), (28, 17, 40, 10)),
        counted=True,
    ),
)

BY_NAME = {guest.name: guest for guest in GUESTS}
