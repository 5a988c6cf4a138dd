# SPDX-License-Identifier: Apache-2.0

"""The guests: machines with several nodes that QEMU makes and the tests run on."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations, product


@dataclass(frozen=True)
class GuestNode:
    """One node of a guest; without CPUs it is memory only."""

    mib: int
    cpus: tuple[int, ...] = ()


@dataclass(frozen=True)
class Guest:
    """One guest; ``kernel`` is the series it boots, ``distances`` are SLIT numbers.

    With ``hmat`` the firmware tells the latency and bandwidth of each pair of a node with CPUs and
    any node: ten times the distance in ns, and what ``mb_per_s`` says.
    In a ``counted`` one QEMU counts the accesses of user space: see tests/vm/access_counts.py.
    One with ``systemd`` has it as process 1, and a disk of its own: see tests/vm/systemd_guest.py.
    """

    name: str
    kernel: str
    nodes: tuple[GuestNode, ...]
    distances: tuple[tuple[int, ...], ...]
    counted: bool = False
    threads: int = 1  # of a core
    hmat: bool = False
    systemd: bool = False

    @property
    def with_cpus(self) -> list[int]:
        """The nodes that have CPUs."""
        return [id_ for id_, node in enumerate(self.nodes) if node.cpus]

    def latency_ns(self, initiator: int, target: int) -> int:
        """Give what HMAT says of that pair."""
        return 10 * self.distances[initiator][target]

    def mb_per_s(self, initiator: int, target: int) -> int:
        """Give what HMAT says of that pair; MB = 2^20 bytes."""
        return 100_000 // self.distances[initiator][target] * 10

    def nearest(self, target: int) -> int:
        """Give the node with CPUs that is nearest to a node's memory."""
        return min(self.with_cpus, key=lambda initiator: self.distances[initiator][target])

    def hardware(self) -> list[str]:
        """Give the options of vng that make this machine."""
        sockets = len(self.with_cpus)
        cpus = sum(len(node.cpus) for node in self.nodes)
        # One socket for each node with CPUs: a last-level cache that spans two nodes
        # makes the kernel warn in topology_sane() and mistrust the nodes.
        parts = f"sockets={sockets},cores={cpus // sockets // self.threads},threads={self.threads}"
        options = ["--cpus", f"{cpus},{parts}"]
        options += ["--memory", f"{sum(node.mib for node in self.nodes)}M"]
        return [*options, *self._nodes(), *self._distances(), *self._hmat()]

    def _nodes(self) -> Iterator[str]:
        for id_, node in enumerate(self.nodes):
            cpus = f",cpus={node.cpus[0]}-{node.cpus[-1]}" if node.cpus else ""
            yield "--numa"
            yield f"{node.mib}M{cpus}" + (f",initiator={self.nearest(id_)}" if self.hmat else "")

    def _distances(self) -> Iterator[str]:
        for source, target in permutations(range(len(self.nodes)), 2):
            yield "--numa-distance"
            yield f"{source},{target}={self.distances[source][target]}"

    def _hmat(self) -> Iterator[str]:
        if self.hmat:
            pairs = product(self.with_cpus, range(len(self.nodes)))
            words = ["-machine hmat=on", *(word for pair in pairs for word in self._pair(*pair))]
            yield f"--qemu-opts={' '.join(words)}"

    def _pair(self, initiator: int, target: int) -> Iterator[str]:
        pair = f"-numa hmat-lb,initiator={initiator},target={target},hierarchy=memory"
        yield f"{pair},data-type=access-latency,latency={self.latency_ns(initiator, target)}"
        yield f"{pair},data-type=access-bandwidth,bandwidth={self.mb_per_s(initiator, target)}M"


def _far(a: int, b: int) -> int:
    """Give a distance among eight nodes, of which the last four are memory beside one of the first four each."""
    if a == b:
        return 10
    if max(a, b) < 4:
        return 21
    if min(a, b) < 4:
        return 14 if abs(a - b) == 4 else 28
    return 31


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
    # More CPUs than others have: nothing is moved here, the machine is only looked at.
    Guest(
        "eight-nodes",
        kernel="6.12",
        nodes=(
            GuestNode(640, (0, 1)),
            *(GuestNode(192, (cpu, cpu + 1)) for cpu in (2, 4, 6)),
            *(GuestNode(192) for _ in range(4)),
        ),
        distances=tuple(tuple(_far(a, b) for b in range(8)) for a in range(8)),
        threads=2,
        hmat=True,
    ),
    Guest(
        "systemd",
        kernel="6.1",
        nodes=(GuestNode(1024, (0,)), GuestNode(1024, (1,))),
        distances=((10, 21), (21, 10)),
        systemd=True,
    ),
)

# For benches alone, with --guest: what they need of memory would slow down every other boot. The second has DAMON.
LARGE = (
    Guest(
        "two-large-nodes",
        kernel="6.1",
        nodes=(GuestNode(3072, (0,)), GuestNode(3072, (1,))),
        distances=((10, 21), (21, 10)),
    ),
    Guest(
        "two-watched-nodes",
        kernel="6.12",
        nodes=(GuestNode(1536, (0,)), GuestNode(1536, (1,))),
        distances=((10, 21), (21, 10)),
    ),
    # two-nodes-counted with a kernel that has DAMON
    Guest(
        "two-nodes-damon",
        kernel="6.12",
        nodes=(GuestNode(1280, (0,)), GuestNode(768, (1,))),
        distances=((10, 21), (21, 10)),
        counted=True,
    ),
    # For tests/vm/test_unbound_threads.py, with --guest: six CPUs are more than emulation is sure of on two cores.
    Guest(
        "two-wide-nodes",
        kernel="6.12",
        nodes=(GuestNode(640, (0, 1, 2)), GuestNode(640, (3, 4, 5))),
        distances=((10, 21), (21, 10)),
    ),
)

BY_NAME = {guest.name: guest for guest in (*GUESTS, *LARGE)}
