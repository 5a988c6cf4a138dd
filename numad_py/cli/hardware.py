# SPDX-License-Identifier: Apache-2.0

"""A topology as text: in the words of ``numactl -H``, and as a picture of what lies within what.

Problem: on one machine a node holds several last-level caches, on another a
last-level cache spans several nodes.
Primitive: sockets, nodes and caches are sets of CPUs, and one lies within
another where its set does.
Application: the widest set is drawn first, each within the narrowest that holds it.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from numad_py.kernel import cpulist
from numad_py.topology import CpuGroups, Device, Ints, Node, Topology

MB = 1 << 20
_INDENT = "  "


@dataclass(eq=False)
class _Box:
    """A part of the machine that holds CPUs, and what lies within it."""

    title: str
    cpus: frozenset[int]
    leaves: tuple[str, ...] = ()
    within: list["_Box"] = field(default_factory=list)


def as_numactl(topology: Topology, free_bytes: Ints) -> Iterator[str]:
    """Give the lines that ``numactl -H`` prints."""
    yield f"available: {len(topology.nodes)} nodes ({cpulist.render(topology.node_ids)})"
    for node, free in zip(topology.nodes, free_bytes.tolist(), strict=True):
        yield " ".join([f"node {node.id} cpus:", *map(str, node.cpus)])
        yield f"node {node.id} size: {node.total_bytes // MB} MB"
        yield f"node {node.id} free: {free // MB} MB"
    yield "node distances:"
    yield "node " + "".join(f" {id_:2} " for id_ in topology.node_ids)
    for id_, row in zip(topology.node_ids, topology.distances, strict=True):
        yield f" {id_:2}: " + "".join(f" {distance:2} " for distance in row)


def picture(topology: Topology) -> Iterator[str]:
    """Draw sockets, nodes, last-level caches, GPUs and adapters, each within what holds it."""
    yield _machine(topology)
    for box in _nested(_boxes(topology)):
        yield from _drawn(box, depth=1)
    for node in topology.nodes:
        if not node.cpus:
            yield f"{_INDENT}node {node.id}: {_memory(node)}, no CPUs, {_nearest(node, topology)}"
            yield from (2 * _INDENT + leaf for leaf in _devices(topology, node.id))
    if adrift := _devices(topology, None):
        yield f"{_INDENT}on no node that is told"
        yield from (2 * _INDENT + leaf for leaf in adrift)
    for name, cpus in (("isolated", topology.isolated_cpus), ("nohz_full", topology.nohz_full_cpus)):
        if cpus:
            yield f"{_INDENT}{name} CPUs: {cpulist.render(cpus)}"


def _machine(topology: Topology) -> str:
    cpus = sum(len(node.cpus) for node in topology.nodes)
    parts = (
        (len(topology.sockets), "socket"),
        (len(topology.nodes), "node"),
        (len(topology.llcs), "last-level cache"),
        (len(topology.cores), "core"),
        (cpus, "CPU"),
    )
    return "machine: " + ", ".join(_counted(count, name) for count, name in parts if count)


def _counted(count: int, name: str) -> str:
    return f"{count} {name}{'' if count == 1 else 's'}"


def _boxes(topology: Topology) -> Iterator[_Box]:
    """Give the parts; where two hold the same CPUs, the one that comes first holds the other."""
    for number, cpus in enumerate(topology.sockets):
        yield _Box(f"socket {number}", frozenset(cpus))
    for node in topology.nodes:
        if node.cpus:
            title = f"node {node.id}: {_memory(node)}, {_cpus(node.cpus, topology.cores)}"
            yield _Box(title, frozenset(node.cpus), _devices(topology, node.id))
    for number, cpus in enumerate(topology.llcs):
        yield _Box(f"last-level cache {number}: {_cpus(cpus, topology.cores)}", frozenset(cpus))


def _nested(boxes: Iterator[_Box]) -> list[_Box]:
    """Put each box within the narrowest that holds it, and give those that are in none."""
    placed: list[_Box] = []
    outermost: list[_Box] = []
    for box in sorted(boxes, key=lambda box: -len(box.cpus)):
        holder = next((other for other in reversed(placed) if box.cpus <= other.cpus), None)
        (outermost if holder is None else holder.within).append(box)
        placed.append(box)
    return sorted(outermost, key=lambda box: min(box.cpus))


def _drawn(box: _Box, depth: int) -> Iterator[str]:
    yield depth * _INDENT + box.title
    for inner in sorted(box.within, key=lambda inner: min(inner.cpus)):
        yield from _drawn(inner, depth + 1)
    yield from ((depth + 1) * _INDENT + leaf for leaf in box.leaves)


def _cpus(cpus: tuple[int, ...], cores: CpuGroups) -> str:
    """Say how many cores of how many threads these CPUs are, and which."""
    known = set(cpus)
    threads = Counter(len(core) for core in cores if known.issuperset(core))
    told = " and ".join(
        _counted(count, "core") + (f" of {size} threads" if size > 1 else "")
        for size, count in sorted(threads.items(), reverse=True)
    )
    return f"{told + ', ' if told else ''}CPUs {cpulist.render(cpus)}"


def _memory(node: Node) -> str:
    told = [f"{node.total_bytes // MB} MB"]
    told += ["a GPU's memory: never a target"] if node.gpu else []
    told += [f"tier {node.tier}"] if node.tier is not None else []
    told += [f"reads in {node.read_latency_ns} ns"] if node.read_latency_ns else []
    told += [f"reads at {node.read_mb_per_s} MB/s"] if node.read_mb_per_s else []
    return ", ".join(told)


def _nearest(node: Node, topology: Topology) -> str:
    """Name the nodes with CPUs that are nearest by distance: from them to the memory."""
    column = topology.index_of[node.id]
    distance_of = {
        other.id: row[column]
        for other, row in zip(topology.nodes, topology.distances, strict=True)
        if other.cpus
    }
    least = min(distance_of.values(), default=0)
    nearest = [id_ for id_, distance in distance_of.items() if distance == least]
    return (
        f"nearest to node{'s' * (len(nearest) > 1)} {cpulist.render(nearest)}"
        if nearest
        else "near to none with CPUs"
    )


def _devices(topology: Topology, id_: int | None) -> tuple[str, ...]:
    return tuple(_named(device) for device in topology.devices if device.node == id_)


def _named(device: Device) -> str:
    return f"{device.kind.upper()} {device.address}"
