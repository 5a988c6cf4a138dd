# SPDX-License-Identifier: Apache-2.0

"""What a trace says of itself before its first tick."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import msgspec

from numad_py import __version__
from numad_py.topology import Topology
from numad_py.trace import wire
from numad_py.trace.wire import Damage, Kind


@dataclass(frozen=True)
class Header:
    """Where, when, and how a trace was recorded.

    ``boot_id`` and ``clock`` say which ticks may follow each other; ``sources``
    names what was read (``numa_maps``, ``memory.numa_stat``, ...); ``ignored``
    are columns of a later minor version, which this one passes over;
    ``move_4k_page_ns`` is what moving one 4 KiB page took on this machine, if
    that was measured.
    """

    topology: Topology
    kernel: str
    boot_id: str
    started_unix_s: float
    sources: tuple[str, ...] = ()
    clock: Literal["CLOCK_MONOTONIC", "simulated"] = "CLOCK_MONOTONIC"
    keyframe_every: int = 60
    anonymised: bool = False
    move_4k_page_ns: float | None = None
    tool_version: str = __version__
    ignored: tuple[str, ...] = ()

    def follows(self, other: "Header") -> bool:
        """Tell whether ticks under this header may follow those under the other."""
        return (self.boot_id, self.clock, self.topology) == (other.boot_id, other.clock, other.topology)


class _Version(msgspec.Struct, tag_field="type", tag="header"):
    version: int
    tool_version: str = "that"
    minor: int = 0
    columns_added: list[str] = []


def line_of(header: Header) -> bytes:
    """Give the header's line."""
    return wire.encoded(
        wire.Header(
            version=wire.VERSION,
            tool_version=header.tool_version,
            topology=_topology_to_wire(header.topology),
            kernel=header.kernel,
            boot_id=header.boot_id,
            clock=header.clock,
            started_unix_s=header.started_unix_s,
            sources=list(header.sources),
            keyframe_every=header.keyframe_every,
            anonymised=header.anonymised,
            move_4k_page_ns=header.move_4k_page_ns,
            minor=wire.MINOR,
            columns_added=list(wire.COLUMNS_ADDED),
        )
    )


def header_of(line: bytes) -> Header:
    """Give the header that the line holds; raises Damage."""
    ignored = _columns_ignored(line)
    read = wire.decoded(line, ignored)
    if not isinstance(read, wire.Header):
        raise Damage("the first line is not a header", Kind.HEADER)
    return Header(
        topology=_topology_from_wire(read.topology),
        kernel=read.kernel,
        boot_id=read.boot_id,
        started_unix_s=read.started_unix_s,
        sources=tuple(read.sources),
        clock=read.clock,
        keyframe_every=read.keyframe_every,
        anonymised=read.anonymised,
        move_4k_page_ns=read.move_4k_page_ns,
        tool_version=read.tool_version,
        ignored=tuple(sorted(ignored)),
    )


def _columns_ignored(line: bytes) -> frozenset[str]:
    """Give the columns of a later minor version; raises Damage for another version."""
    try:
        told = msgspec.json.decode(line, type=_Version)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return frozenset()  # whatever is wrong with the line, it is not the version
    if told.version not in wire.READABLE:
        raise Damage(
            f"version {told.version} is not understood, only versions {min(wire.READABLE)} to {wire.VERSION} are",
            Kind.HEADER,
            f"read it with the numad-py that wrote it ({told.tool_version})",
        )
    return wire.unknown(told.columns_added) if told.minor > wire.MINOR else frozenset()


def _topology_to_wire(topology: Topology) -> wire.Topology:
    return msgspec.convert(topology, wire.Topology, from_attributes=True)


def _topology_from_wire(read: wire.Topology) -> Topology:
    ids = [node.id for node in read.nodes]
    if not any(node.total_bytes and not node.gpu for node in read.nodes):
        raise Damage("no node has memory", Kind.HEADER)
    if len(ids) != len(set(ids)):
        raise Damage(f"a node is there twice: {ids}", Kind.HEADER)
    if ids != sorted(ids):
        raise Damage(f"node ids do not ascend: {ids}", Kind.HEADER)
    if {len(read.distances), *map(len, read.distances)} != {len(ids)}:
        raise Damage(f"distances are not a square of {len(ids)} nodes", Kind.HEADER)
    cpus = Counter(cpu for node in read.nodes for cpu in node.cpus)
    twice = [cpu for cpu, times in cpus.items() if times > 1]
    if twice:
        raise Damage(f"CPU {min(twice)} is there twice", Kind.HEADER)
    return msgspec.convert(read, Topology, from_attributes=True)
