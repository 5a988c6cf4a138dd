# SPDX-License-Identifier: Apache-2.0

"""Read what kind of memory a node has: how fast by HMAT, in which tier, and whether it is a GPU's."""

import re
from pathlib import Path
from typing import Final

from numad_py.kernel import Malformed, cpulist

__all__ = ["Malformed", "demotes", "gpu_ranges", "numa_status", "read_gpu_nodes", "read_speed", "read_tiers"]

_NODES: Final = Path("sys/devices/system/node")
_BLOCK_BYTES: Final = Path("sys/devices/system/memory/block_size_bytes")
_TIERS: Final = Path("sys/devices/virtual/memory_tiering")
_DEMOTES: Final = Path("sys/kernel/mm/numa/demotion_enabled")
_GPUS: Final = Path("proc/driver/nvidia/gpus")

# Documentation/admin-guide/mm/numaperf.rst: access1 is from the nearest node with CPUs, access0 from the nearest
# that starts accesses at all, which a GPU does too.
_CLASSES: Final = ("access1", "access0")
_NUMBER: Final = re.compile(rb"|[0-9]{1,12}")
_TIER: Final = re.compile(r"memory_tier([0-9]{1,9})")
_BLOCK: Final = re.compile(r"/node([0-9]{1,6})/memory([0-9]{1,9})$")
_HEX: Final = re.compile(rb"0*[1-9a-f][0-9a-f]{0,15}")
_NODE: Final = re.compile(rb"^Node:[ \t]+([0-9]{1,6})$", re.MULTILINE)

# mm/memory_hotplug.c add_memory_driver_managed() has drivers name their memory "System RAM ($DRIVER)"; dax, which
# brings CXL memory on line, calls it kmem.
_GPU_RAM: Final = re.compile(rb"^ *([0-9a-f]{1,16})-([0-9a-f]{1,16}) : System RAM \(NVIDIA\)$", re.MULTILINE)


def read_speed(id_: int, root: Path) -> tuple[int | None, int | None]:
    """Give latency in ns and bandwidth in MB/s (2^20) of reads by the nearest CPUs, as HMAT has them.

    None is what this machine or this kernel does not tell.
    """
    for name in _CLASSES:
        initiators = root / _NODES / f"node{id_}" / name / "initiators"
        if initiators.is_dir():
            return _number(initiators / "read_latency"), _number(initiators / "read_bandwidth")
    return None, None


def read_tiers(root: Path) -> dict[int, int]:
    """Give the memory tier by node, lower is faster; nothing before Linux v6.1.

    A tier that goes meanwhile is left out.
    """
    if not (root / _TIERS).is_dir():
        return {}
    found = ((_TIER.fullmatch(path.name), path) for path in (root / _TIERS).iterdir())
    return {node: int(match[1]) for match, path in found if match for node in _nodelist(path)}


def demotes(root: Path) -> bool:
    """Say whether the kernel sends cold pages to nodes without CPUs instead of reclaiming them; not before Linux v5.15."""
    # Documentation/ABI/testing/sysfs-kernel-mm-numa: it can be switched on and off, and is off at first.
    path = root / _DEMOTES
    return path.is_file() and path.read_bytes().strip() in (b"true", b"1")


def read_gpu_nodes(root: Path) -> frozenset[int]:
    """Give the nodes whose memory is a GPU's, such as Grace Hopper's.

    The driver names the node of each GPU. The addresses in /proc/iomem name the others, which
    partitions of a GPU have; they need CAP_SYS_ADMIN, and without it none is found that way.
    """
    named = (numa_status(_readable(path)) for path in (root / _GPUS).glob("*/numa_status"))
    ranges = gpu_ranges(_readable(root / "proc/iomem"))
    return frozenset({node for node in named if node is not None} | _nodes_of(ranges, root))


def numa_status(text: bytes) -> int | None:
    """Give the node in a GPU's numa_status; None where its memory is not a node."""
    found = _NODE.search(text)
    return int(found[1]) if found else None


def gpu_ranges(iomem: bytes) -> list[tuple[int, int]]:
    """Give the first and last byte of each range that the GPU's driver added; none where addresses are hidden."""
    ranges = ((int(first, 16), int(last, 16)) for first, last in _GPU_RAM.findall(iomem))
    return [(first, last) for first, last in ranges if last]


def _nodes_of(ranges: list[tuple[int, int]], root: Path) -> set[int]:
    """Give the nodes that have a memory block in one of the ranges."""
    if not ranges:
        return set()
    size = _block_bytes((root / _BLOCK_BYTES).read_bytes())
    blocks = {block for first, last in ranges for block in range(first // size, last // size + 1)}
    links = (_BLOCK.search(str(path)) for path in (root / _NODES).glob("node[0-9]*/memory[0-9]*"))
    return {int(match[1]) for match in links if match and int(match[2]) in blocks}


def _block_bytes(text: bytes) -> int:
    found = _HEX.fullmatch(text.strip())
    if not found:
        raise Malformed(f"block_size_bytes: not a hexadecimal number: {text[:80]!r}")
    return int(found[0], 16)


def _readable(path: Path) -> bytes:
    """Give what a file holds; nothing where it is gone or may not be read."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, PermissionError):
        return b""


def _nodelist(tier: Path) -> tuple[int, ...]:
    return cpulist.parse(_readable(tier / "nodelist").decode("ascii", "backslashreplace"))


def _number(path: Path) -> int | None:
    """Give a figure; None where there is none, which the kernel shows as 0 too."""
    text = _readable(path).strip()
    if not _NUMBER.fullmatch(text):
        raise Malformed(f"{path}: not a number: {text[:80]!r}")
    return int(text or 0) or None
