# SPDX-License-Identifier: Apache-2.0

"""Read /sys/devices/system/node: the nodes, their CPUs, distances and memory."""

import os
import re
from pathlib import Path
from typing import Final

import numpy as np

from numad_py.kernel import Malformed, cpulist
from numad_py.model import Ints, Node, NodeMemory, Topology

__all__ = ["PAGE_BYTES", "Malformed", "distances", "meminfo", "read_memory", "read_topology", "watermarks"]

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
# In mm/vmstat.c zoneinfo_show_print() a zone's watermark is "        high     63"; "high:" and "high_min:"
# further down are those of each CPU's list of free pages.
_ZONE_OR_HIGH: Final = re.compile(rb"^Node ([0-9]{1,6}), zone +[^ ]+$|^ +high +([0-9]{1,12})$", re.MULTILINE)


def read_topology(root: Path = Path("/"), page_bytes: int = PAGE_BYTES) -> Topology:
    """Read the nodes that are online.

    A kernel built without NUMA is one node 0. A node that goes off line meanwhile
    raises FileNotFoundError, or Malformed where the distances no longer fit.
    """
    if not (root / _NODES).is_dir():
        return _without_numa(root, page_bytes)
    ids = cpulist.parse((root / _NODES / "online").read_text("ascii"))
    nodes = tuple(_node(id_, root) for id_ in ids)
    rows = tuple(distances((_directory(id_, root) / "distance").read_bytes(), len(ids)) for id_ in ids)
    return Topology(nodes, rows, page_bytes)


def read_memory(root: Path, topology: Topology) -> NodeMemory:
    """Read the state of each node's memory. A node gone off line raises FileNotFoundError."""
    nodes = [read_meminfo(node.id, root) for node in topology.nodes]
    high = watermarks((root / "proc/zoneinfo").read_bytes())

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
    if len(row) != nodes or not all(re.fullmatch(rb"[0-9]{1,3}", distance) for distance in row):
        raise Malformed(f"distance: not {nodes} numbers: {text[:80]!r}")
    return tuple(int(distance) for distance in row)


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


def _node(id_: int, root: Path) -> Node:
    cpus = cpulist.parse((_directory(id_, root) / "cpulist").read_text("ascii"))
    return Node(id_, cpus, read_meminfo(id_, root)["MemTotal"])


def read_meminfo(id_: int, root: Path) -> dict[str, int]:
    """Read the bytes that a node's meminfo counts, by the kernel's names."""
    path = _directory(id_, root) / "meminfo" if (root / _NODES).is_dir() else root / "proc/meminfo"
    return meminfo(path.read_bytes())


def _without_numa(root: Path, page_bytes: int) -> Topology:
    cpus = cpulist.parse((root / "sys/devices/system/cpu/online").read_text("ascii"))
    return Topology((Node(0, cpus, read_meminfo(0, root)["MemTotal"]),), ((_LOCAL_DISTANCE,),), page_bytes)
