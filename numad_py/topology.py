# SPDX-License-Identifier: Apache-2.0

"""The machine as the kernel tells it: its nodes, their CPUs and devices; and the columns that values are made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Addresses = NDArray[np.uint64]
Floats = NDArray[np.float64]
CpuGroups = tuple[tuple[int, ...], ...]  # ascending, and apart

HOME_PART: Final = 0.5  # of the CPU time on the busiest node, from which on another is home too


class Columns:
    """What a dataclass of nothing but columns inherits: their rows are chosen, and put together, at once."""

    __dataclass_fields__: ClassVar[Mapping[str, object]]

    def take(self, rows: Bools | Ints) -> Self:
        """Give the chosen rows, in that order."""
        return type(self)(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Put the rows of all parts below each other; of one at least."""
        columns = ([getattr(part, name) for part in parts] for name in cls.__dataclass_fields__)
        return cls(*(np.concatenate(each) for each in columns))


@dataclass(frozen=True)
class Node:
    """One NUMA node; without CPUs it is memory only, without memory CPUs only.

    ``gpu`` says that its memory is a GPU's: never a target. ``tier`` is the kernel's
    memory tier, lower is faster. The two figures are what the firmware's HMAT says
    of reads by the nearest CPUs; MB = 2^20 bytes. None is what the kernel does not tell.
    """

    id: int
    cpus: tuple[int, ...]
    total_bytes: int
    gpu: bool = False
    tier: int | None = None
    read_latency_ns: int | None = None
    read_mb_per_s: int | None = None


class DeviceKind(StrEnum):
    """What a PCI device is."""

    GPU = "gpu"
    NIC = "nic"


@dataclass(frozen=True)
class Device:
    """One PCI device, and the id of the node it hangs on; None where that is not told."""

    address: str
    kind: DeviceKind
    node: int | None


@dataclass(frozen=True)
class Topology:
    """The machine. ``distances`` are SLIT numbers, 10 is local; they are not times.

    ``sockets``, ``llcs`` (last-level caches, on EPYC a CCX) and ``cores`` (SMT siblings) are
    the CPUs that each holds; a CPU of which the kernel tells nothing is in none. ``demotes`` says that the kernel
    sends cold pages to nodes without CPUs.
    """

    nodes: tuple[Node, ...]
    distances: tuple[tuple[int, ...], ...]
    page_bytes: int
    sockets: CpuGroups = ()
    llcs: CpuGroups = ()
    cores: CpuGroups = ()
    isolated_cpus: tuple[int, ...] = ()
    nohz_full_cpus: tuple[int, ...] = ()
    devices: tuple[Device, ...] = ()
    demotes: bool = False

    @cached_property
    def node_ids(self) -> tuple[int, ...]:
        """Ids ascending; they may be sparse."""
        return tuple(node.id for node in self.nodes)

    @cached_property
    def index_of(self) -> Mapping[int, int]:
        """Node id to position on every node axis."""
        return {node.id: index for index, node in enumerate(self.nodes)}

    @cached_property
    def index_of_cpu(self) -> Ints:
        """CPU number to node position; -1 where no node has that CPU."""
        last = max((cpu for node in self.nodes for cpu in node.cpus), default=-1)
        table = np.full(last + 2, -1, np.int64)  # the last slot answers for every CPU beyond
        for index, node in enumerate(self.nodes):
            table[list(node.cpus)] = index
        return table

    def cpu_s_by_node(self, cpu: Ints, cpu_s: Floats) -> Floats:
        """Add up the CPU seconds of threads by the node that each ran on; CPUs of no node are left out."""
        index = self.index_of_cpu[np.minimum(cpu, len(self.index_of_cpu) - 1)]
        known = index >= 0
        return np.bincount(index[known], cpu_s[known], len(self.nodes)).astype(np.float64)

    @cached_property
    def memory_of(self) -> Ints:
        """By node: the position of the nearest node that has memory of its own, itself where it has."""
        having = [index for index, node in enumerate(self.nodes) if node.total_bytes and not node.gpu]
        nearest = [min(having, key=lambda index: (row[index], index)) for row in self.distances]
        return np.array(nearest, np.int64)

    def homes(self, cpu_s: Floats) -> Bools:
        """By row and node: whether the row's memory belongs there, given the CPU seconds it used by node.

        It belongs to the node whose CPUs were used most, and to any whose were used at least half as much.
        """
        busiest_s = cpu_s.max(axis=1, initial=0, keepdims=True)
        rows, nodes = np.nonzero((cpu_s > 0) & (cpu_s >= HOME_PART * busiest_s))
        homes = np.zeros(cpu_s.shape, bool)
        homes[rows, self.memory_of[nodes]] = True
        return homes

    @cached_property
    def gpu_ids(self) -> frozenset[int]:
        """The nodes whose memory is a GPU's."""
        return frozenset(node.id for node in self.nodes if node.gpu)

    @cached_property
    def may_leave(self) -> Bools:
        """By node: whether memory may be brought home from there; a GPU's stays, and so does what the kernel demotes."""
        return np.array([bool(node.cpus) or not (node.gpu or self.demotes) for node in self.nodes], bool)

    @cached_property
    def cpus_by_node(self) -> Ints:
        """By node: how many CPUs it has."""
        return np.array([len(node.cpus) for node in self.nodes], np.int64)

    @cached_property
    def cores_by_node(self) -> Ints:
        """By node: how many cores its CPUs share; a CPU of which the kernel tells nothing is a core of its own."""
        core = {cpu: core for core, cpus in enumerate(self.cores) for cpu in cpus}
        shared = [{core.get(cpu, -1 - cpu) for cpu in node.cpus} for node in self.nodes]
        return np.array([len(cores) for cores in shared], np.int64)

    @cached_property
    def has_cpus(self) -> Bools:
        """By node: whether threads can run there."""
        return np.array([bool(node.cpus) for node in self.nodes], bool)

    def running_on(self, allowed: Sequence[int]) -> tuple[int, ...]:
        """Give those of the allowed nodes that have CPUs and memory of their own."""
        own = (node for node in self.nodes if node.cpus and node.total_bytes and not node.gpu)
        return tuple(node.id for node in own if node.id in allowed)
