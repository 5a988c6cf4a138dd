# SPDX-License-Identifier: Apache-2.0

"""Where to measure from and to, with how much memory, and what of it may be doubted."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final

from numad_py.calibrate import CannotCalibrate
from numad_py.kernel import caches, node_sysfs, proc_status
from numad_py.kernel.caches import Cache
from numad_py.topology import Node, Topology

MB: Final = 1 << 20
_LEAST_BYTES: Final = 64 * MB
_CHAIN_BYTES: Final = 512 * MB
_PER_CACHE: Final = 8  # the chain and the stream are as many times as large as the caches before them
_FREE_SHARE: Final = 0.25  # of a node's free memory, for both
_PAGE_BYTES: Final = 2 * MB


@dataclass(frozen=True)
class Cpu:
    """One CPU that is ours, with its caches for data, the nearest first."""

    number: int
    caches: tuple[Cache, ...]


@dataclass(frozen=True)
class Site:
    """``cores`` has, by initiator, one CPU of each of its cores; the sizes are by target; ``doubts`` are sentences."""

    topology: Topology
    cores: Mapping[int, tuple[int, ...]]
    chain_bytes: Mapping[int, int]
    stream_bytes: Mapping[int, int]
    doubts: tuple[str, ...] = ()

    @property
    def initiators(self) -> tuple[int, ...]:
        """Nodes whose CPUs are ours, ascending."""
        return tuple(sorted(self.cores))

    @property
    def targets(self) -> tuple[int, ...]:
        """Nodes whose memory is ours, ascending."""
        return tuple(sorted(self.chain_bytes))

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Every initiator with every target."""
        return tuple(product(self.initiators, self.targets))

    def rounds(self) -> list[dict[int, int]]:
        """Give ways to let all initiators work at once, each on a target of its own where there are enough.

        The first has them all at home; over all rounds, each meets every target once. None for one initiator.
        """
        if not self.initiators[1:]:
            return []
        places = {node: index for index, node in enumerate(self.targets)}
        first = {node: places.get(node, index) for index, node in enumerate(self.initiators)}
        count = len(self.targets)
        return [
            {node: self.targets[(place + turn) % count] for node, place in first.items()}
            for turn in range(count)
        ]


def read(root: Path = Path("/")) -> Site:
    """Look at this machine; raises CannotCalibrate where there is too little to measure with."""
    topology = node_sysfs.read_topology(root)
    allowed = proc_status.read(os.getpid()).nodes_allowed
    cpus = {number: Cpu(number, caches.read(number, root)) for number in os.sched_getaffinity(0)}
    free = {id_: node_sysfs.read_meminfo(id_, root)["MemFree"] for id_ in topology.node_ids if id_ in allowed}
    return plan(topology, cpus, free, gpu=(root / "proc/driver/nvidia/gpus").exists())


def plan(topology: Topology, cpus: Mapping[int, Cpu], free_bytes: Mapping[int, int], *, gpu: bool) -> Site:
    """Choose cores, nodes and sizes from what is ours; ``gpu``: a node without CPUs may be a GPU's memory."""
    ours = {node.id: [cpus[number] for number in node.cpus if number in cpus] for node in topology.nodes}
    cores = {id_: _one_per_core(own) for id_, own in ours.items() if own}
    left_out = {node.id for node in topology.nodes if gpu and not node.cpus}
    targets = [
        node for node in topology.nodes if node.total_bytes and node.id in free_bytes.keys() - left_out
    ]
    chain = max(_CHAIN_BYTES, _PER_CACHE * max(map(_last_level_bytes, cpus.values()), default=0))
    stream = max(_CHAIN_BYTES, *(_PER_CACHE * _all_caches_bytes(own) for own in ours.values()))
    sizes = {node.id: _sizes(chain, stream, int(free_bytes[node.id] * _FREE_SHARE)) for node in targets}
    usable = {id_: size for id_, size in sizes.items() if min(size) >= _LEAST_BYTES}
    if not cores or not usable:
        raise CannotCalibrate(
            f"no node has both allowed to us: CPUs, and {2 * _LEAST_BYTES / _FREE_SHARE / MB:.0f} MB of free memory"
        )
    return Site(
        topology,
        cores,
        {id_: size[0] for id_, size in usable.items()},
        {id_: size[1] for id_, size in usable.items()},
        tuple(_doubts(targets, usable, (chain, stream), left_out)),
    )


def _one_per_core(cpus: list[Cpu]) -> tuple[int, ...]:
    """Give one CPU of each set that shares its nearest cache."""
    cores: dict[tuple[int, ...], int] = {}
    for cpu in cpus:
        cores.setdefault(cpu.caches[0].cpus if cpu.caches else (cpu.number,), cpu.number)
    return tuple(cores.values())


def _last_level_bytes(cpu: Cpu) -> int:
    return cpu.caches[-1].size_bytes if cpu.caches else 0


def _all_caches_bytes(cpus: list[Cpu]) -> int:
    """Give what the last-level caches of a node's CPUs hold together."""
    return sum(cache.size_bytes for cache in {cpu.caches[-1] for cpu in cpus if cpu.caches})


def _sizes(chain: int, stream: int, most: int) -> tuple[int, int]:
    """Scale both down to what may be taken, in whole huge pages."""
    scale = min(1.0, most / (chain + stream))
    return _whole(chain * scale), _whole(stream * scale)


def _whole(size_bytes: float) -> int:
    return int(size_bytes) // _PAGE_BYTES * _PAGE_BYTES


def _doubts(
    targets: Iterable[Node],
    usable: Mapping[int, tuple[int, int]],
    wanted: tuple[int, int],
    left_out: set[int],
) -> Iterable[str]:
    for node in targets:
        if node.id not in usable:
            yield f"node {node.id} has too little free memory and was not measured"
        elif usable[node.id] < tuple(map(_whole, wanted)):
            found = " and ".join(f"{size / MB:.0f}" for size in usable[node.id])
            yield (
                f"node {node.id}: only {found} MB were used, a quarter of what is free, so caches may have answered"
            )
    if left_out:
        yield "nodes without CPUs were left out, since they may be memory of a GPU"
