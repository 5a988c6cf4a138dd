# SPDX-License-Identifier: Apache-2.0

"""Read the whole topology, and of /sys/devices/system/node the nodes, their CPUs, distances and memory."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from numad_py.kernel import Malformed, cpu_sysfs, cpulist, memory_sysfs, pci, small_file
from numad_py.model import NodeMemory
from numad_py.topology import Ints, Node, Topology

__all__ = [
    "PAGE_BYTES",
    "Malformed",
    "distances",
    "meminfo",
    "read_memory",
    "read_topology",
    "read_watermarks",
    "watermarks",
]

PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")

_NODES: Final = Path("sys/devices/system/node")
_LOCAL_DISTANCE: Final = 10  # ACPI SLIT
_MOST_PAGES: Final = 1 << 40  # 64 PiB in pages of 64 KiB; sums of bytes stay within 63 bits

_COUNTED: Final = (
    "MemTotal",
    "MemFree",
    "Active(file)",
    "Inactive(file)",
    "Dirty",
    "Writeback",
    "Mapped",
    "AnonPages",
)
_MEMINFO: Final = re.compile(
    rb"^(?:Node [0-9]+ )?(%s): +([0-9]{1,14}) kB$" % b"|".join(re.escape(name).encode() for name in _COUNTED),
    re.MULTILINE,
)
_DISTANCES: Final = re.compile(
    rb"(?:[0-9]{1,3}(?:\s+|$))+"
)  # drivers/base/node.c node_read_distance(): u8 each
_TOTAL: Final = re.compile(rb"^(?:Node [0-9]+ )?MemTotal: +([0-9]{1,14}) kB$", re.MULTILINE)
# In mm/vmstat.c zoneinfo_show_print() a zone's watermark is "        high     63"; "high:" and "high_min:"
# further down are those of each CPU's list of free pages.
_ZONE_OR_HIGH: Final = re.compile(rb"^Node ([0-9]{1,6}), zone +[^ ]+$|^ +high +([0-9]{1,12})$", re.MULTILINE)


def read_topology(root: Path = Path("/"), page_bytes: int = PAGE_BYTES) -> Topology:
    """Read the nodes that are online.

    A kernel built without NUMA is one node 0. A node that goes off line meanwhile
    raises FileNotFoundError, or Malformed where the distances no longer fit.
    """
    nodes, rows = _nodes(root) if (root / _NODES).is_dir() else _without_numa(root)
    cpus = tuple(sorted(cpu for node in nodes for cpu in node.cpus))
    return Topology(
        nodes,
        rows,
        page_bytes,
        sockets=cpu_sysfs.read_sockets(cpus, root),
        llcs=cpu_sysfs.read_llcs(cpus, root),
        cores=cpu_sysfs.read_cores(cpus, root),
        isolated_cpus=cpu_sysfs.isolated(root),
        nohz_full_cpus=cpu_sysfs.nohz_full(root),
        devices=pci.read_devices(tuple(node.id for node in nodes), root),
        demotes=memory_sysfs.demotes(root),
    )


def read_memory(root: Path, topology: Topology, high: Mapping[int, int] | None = None) -> NodeMemory:
    """Read the state of each node's memory, but for its high watermark where that is known. A node gone off line raises FileNotFoundError."""
    nodes = [read_meminfo(node.id, root) for node in topology.nodes]
    high = read_watermarks(root) if high is None else high

    def column(*names: str) -> Ints:
        return np.array([sum(node[name] for name in names) for node in nodes], np.int64)

    return NodeMemory(
        total_bytes=column("MemTotal"),
        free_bytes=column("MemFree"),
        high_watermark_bytes=np.array([high.get(id_, 0) for id_ in topology.node_ids]) * topology.page_bytes,
        file_bytes=column("Active(file)", "Inactive(file)"),
        inactive_file_bytes=column("Inactive(file)"),
        dirty_bytes=column("Dirty", "Writeback"),
        anon_bytes=column("AnonPages"),
    )


def meminfo(text: bytes) -> dict[str, int]:
    """Give the bytes that a node's meminfo, or /proc/meminfo, counts; Malformed if a counter is missing."""
    found = {name.decode(): int(kib) << 10 for name, kib in _MEMINFO.findall(text)}
    if missing := [name for name in _COUNTED if name not in found]:
        raise Malformed(f"meminfo: no {missing[0]} in {text[:80]!r}")
    return found


def distances(text: bytes, nodes: int) -> tuple[int, ...]:
    """Give one node's distances to the online nodes, ascending by id; Malformed unless there are as many."""
    row = text.split()
    if len(row) != nodes or not _DISTANCES.fullmatch(text):
        raise Malformed(f"distance: not {nodes} numbers: {text[:80]!r}")
    return tuple(map(int, row))


def read_watermarks(root: Path) -> dict[int, int]:
    """Read every node's from /proc/zoneinfo, which tells of each CPU too, and is long where there are many."""
    return watermarks(small_file.read(f"{root}/proc/zoneinfo"))


def watermarks(text: bytes) -> dict[int, int]:
    """Give, by node, the sum of its zones' high watermarks in pages, from /proc/zoneinfo.

    Below it kswapd is at work on that node. Malformed for a watermark of no zone, and
    for sums that no machine has.
    """
    pages: dict[int, int] = {}
    node = -1
    for zone_of, high in _ZONE_OR_HIGH.findall(text):
        node = int(zone_of) if zone_of else node
        pages[node] = pages.get(node, 0) + int(high or 0)
    if -1 in pages or any(sum_ > _MOST_PAGES for sum_ in pages.values()):
        raise Malformed(f"zoneinfo: {text[:80]!r}")
    return pages


def _directory(id_: int, root: Path) -> Path:
    return root / _NODES / f"node{id_}"


def _nodes(root: Path) -> tuple[tuple[Node, ...], tuple[tuple[int, ...], ...]]:
    ids = cpulist.parse((root / _NODES / "online").read_text("ascii"))
    tiers, gpus = memory_sysfs.read_tiers(root), memory_sysfs.read_gpu_nodes(root)
    nodes = tuple(_node(id_, root, gpu=id_ in gpus, tier=tiers.get(id_)) for id_ in ids)
    return nodes, tuple(distances((_directory(id_, root) / "distance").read_bytes(), len(ids)) for id_ in ids)


def read_cpus(id_: int, root: Path) -> tuple[int, ...]:
    """Read which CPUs of a node are on line."""
    return cpulist.parse((_directory(id_, root) / "cpulist").read_text("ascii"))


def _node(id_: int, root: Path, *, gpu: bool, tier: int | None) -> Node:
    total_bytes = _total_bytes((_directory(id_, root) / "meminfo").read_bytes())
    return Node(id_, read_cpus(id_, root), total_bytes, gpu, tier, *memory_sysfs.read_speed(id_, root))


def _total_bytes(text: bytes) -> int:
    if not (found := _TOTAL.search(text)):
        raise Malformed(f"meminfo: no MemTotal in {text[:80]!r}")
    return int(found[1]) << 10


def read_meminfo(id_: int, root: Path) -> dict[str, int]:
    """Read the bytes that a node's meminfo counts, by the kernel's names."""
    try:
        text = small_file.read(f"{root}/{_NODES}/node{id_}/meminfo")
    except FileNotFoundError:
        if (root / _NODES).is_dir():
            raise
        text = small_file.read(f"{root}/proc/meminfo")
    return meminfo(text)


def _without_numa(root: Path) -> tuple[tuple[Node, ...], tuple[tuple[int, ...], ...]]:
    total_bytes = _total_bytes((root / "proc/meminfo").read_bytes())
    return (Node(0, cpu_sysfs.online(root), total_bytes),), ((_LOCAL_DISTANCE,),)
