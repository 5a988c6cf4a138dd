# SPDX-License-Identifier: Apache-2.0

"""Read /sys/devices/system/cpu/cpuN/cache: how large a CPU's caches are, and who shares them."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from numad_py.kernel import Malformed, cpulist

__all__ = ["Cache", "Malformed", "parse_bytes", "read"]

_KIB: Final = re.compile(rb"([0-9]{1,9})K\n?")  # drivers/base/cacheinfo.c size_show()


@dataclass(frozen=True, order=True)
class Cache:
    """One cache for data, level 1 being the nearest; ``cpus`` share it."""

    level: int
    cpus: tuple[int, ...]
    size_bytes: int


def read(cpu: int, root: Path = Path("/")) -> tuple[Cache, ...]:
    """Read a CPU's caches for data, the nearest first; none where the kernel knows of none."""
    folders = (root / f"sys/devices/system/cpu/cpu{cpu}/cache").glob("index[0-9]*")
    # cacheinfo.c hides the files of what firmware did not tell, such as the size on some Arm machines.
    known = [folder for folder in folders if (folder / "size").exists()]
    return tuple(sorted(_cache(folder) for folder in known if _holds_data(folder)))


def parse_bytes(text: bytes) -> int:
    """Give the bytes that a cache's size tells; Malformed for anything but kibibytes."""
    found = _KIB.fullmatch(text)
    if not found:
        raise Malformed(f"cache size: not as 32768K: {text[:80]!r}")
    return int(found[1]) << 10


def _holds_data(folder: Path) -> bool:
    return (folder / "type").read_text("ascii").strip() != "Instruction"


def _cache(folder: Path) -> Cache:
    level = (folder / "level").read_text("ascii").strip()
    if not re.fullmatch("[1-9]", level):
        raise Malformed(f"cache level: {level[:80]!r}")
    return Cache(
        int(level),
        cpulist.parse((folder / "shared_cpu_list").read_text("ascii")),
        parse_bytes((folder / "size").read_bytes()),
    )
