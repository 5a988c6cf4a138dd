# SPDX-License-Identifier: Apache-2.0

"""Read /proc/PID/maps: where each VMA ends, and what it maps.

``show_map_vma()`` in fs/proc/task_mmu.c prints, without a change in twenty years,

    START-END rwxp OFFSET MAJOR:MINOR INODE [blanks PATH]

with every number of its own width. The path may hold anything but a newline, and
is not read here. Numbers are read column by column, each from where the one
before it ended.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from numad_py.kernel import Malformed
from numad_py.kernel.digits import DECIMAL, HEX, Text
from numad_py.model import Addresses, Ints

__all__ = ["Malformed", "Maps", "parse", "read"]

_NEWLINE: Final = ord("\n")
_MODES: Final = (b"r-", b"w-", b"x-", b"ps")
_MINOR_BITS: Final = 20  # include/linux/kdev_t.h MINORBITS; 12 are left for the major number


@dataclass(frozen=True, eq=False)
class Maps:
    """The lines of one maps file as columns; ``device`` is the kernel's dev_t, major << 20 | minor.

    Where several processes map one file, they have ``device`` and ``inode`` in common;
    both are 0 for memory without a file.
    """

    start: Addresses
    end: Addresses
    readable: NDArray[np.bool_]
    writable: NDArray[np.bool_]
    shared: NDArray[np.bool_]
    offset: Addresses
    device: Addresses
    inode: Addresses


def read(pid: int, root: Path = Path("/")) -> bytes:
    """Read /proc/PID/maps; empty for kernel threads. Rights as for numa_maps."""
    return (root / "proc" / str(pid) / "maps").read_bytes()


def parse(text: bytes) -> Maps:
    """Give the columns of a maps file.

    A last line without its newline is one that a read cut short, and is dropped.
    Raises Malformed for a line of any other form than the kernel's.
    """
    lines = Text(text[: text.rfind(b"\n") + 1])
    ends = np.flatnonzero(lines.bytes == _NEWLINE)
    begin = np.append(0, ends + 1)[:-1]
    start, at = lines.number(begin, HEX, ends=b"-")
    end, at = lines.number(at + 1, HEX, ends=b" ")
    if (empty := end <= start).any():
        lines.refuse(begin[empty], "maps: a VMA that ends before it begins")
    mode = at + 1
    offset, at = lines.number(_past_mode(lines, mode), HEX, ends=b" ")
    major, at = lines.number(at + 1, HEX, ends=b":", most=(1 << 12) - 1)
    minor, at = lines.number(at + 1, HEX, ends=b" ", most=(1 << _MINOR_BITS) - 1)
    inode, at = lines.number(at + 1, DECIMAL, ends=b" \n")
    return Maps(
        start=start,
        end=end,
        readable=lines.is_one_of(mode, b"r"),
        writable=lines.is_one_of(mode + 1, b"w"),
        shared=lines.is_one_of(mode + 3, b"s"),
        offset=offset,
        device=major << np.uint64(_MINOR_BITS) | minor,
        inode=inode,
    )


def _past_mode(lines: Text, mode: Ints) -> Ints:
    for column, letters in enumerate(_MODES):
        if not (good := lines.is_one_of(mode + column, letters)).all():
            lines.refuse(mode[~good], "maps: not a mode such as rw-p")
    if not (good := lines.is_one_of(mode + len(_MODES), b" ")).all():
        lines.refuse(mode[~good], "maps: no blank behind the mode")
    return mode + len(_MODES) + 1
