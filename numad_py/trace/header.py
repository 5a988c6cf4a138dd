# SPDX-License-Identifier: Apache-2.0

"""What a trace says of itself before its first tick."""

from dataclasses import dataclass
from typing import Literal

import msgspec

from numad_py import __version__
from numad_py.model import Topology
from numad_py.trace import wire
from numad_py.trace.wire import Damage


@dataclass(frozen=True)
class Header:
    """Where, when, and how a trace was recorded.

    ``boot_id`` and ``clock`` say which ticks may follow each other; ``sources``
    names what was read (``numa_maps``, ``memory.numa_stat``, ...);
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

    def follows(self, other: "Header") -> bool:
        """Tell whether ticks under this header may follow those under the other."""
        return (self.boot_id, self.clock, self.topology) == (other.boot_id, other.clock, other.topology)


class _Version(msgspec.Struct, tag_field="type", tag="header"):
    version: int


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
        )
    )


def header_of(line: bytes) -> Header:
    """Give the header that the line holds; raises Damage."""
    _check_version(line)
    read = wire.decoded(line)
    if not isinstance(read, wire.Header):
        raise Damage("the first line is not a header")
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
    )


def _check_version(line: bytes) -> None:
    try:
        version = msgspec.json.decode(line, type=_Version).version
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return  # whatever is wrong with the line, it is not the version
    if version != wire.VERSION:
        raise Damage(f"version {version} is not understood, only version {wire.VERSION} is")


def _topology_to_wire(topology: Topology) -> wire.Topology:
    return msgspec.convert(topology, wire.Topology, from_attributes=True)


def _topology_from_wire(read: wire.Topology) -> Topology:
    ids = [node.id for node in read.nodes]
    if ids != sorted(set(ids)):
        raise Damage(f"node ids do not ascend: {ids}")
    if {len(read.distances), *map(len, read.distances)} != {len(ids)}:
        raise Damage(f"distances are not a square of {len(ids)} nodes")
    return msgspec.convert(read, Topology, from_attributes=True)
