# SPDX-License-Identifier: Apache-2.0

"""Read /proc/PID/maps: where each VMA ends, and what it maps.

``show_map_vma()`` in fs/proc/task_mmu.c prints, without a change in twenty years,

    START-END rwxp OFFSET MAJOR:MINOR INODE [blanks PATH]

with every number of its own width, the inode's alone in decimal. The path may hold
anything but a newline, and is not read here.

Problem: a sample of a giant's pages is asked in a millisecond; its maps may not take longer.
Primitive: the bytes that end a field are found in one pass over the text, and the sixteen bytes
before any of them are one row of a matrix, in which every address of the file is read at once.
Application: each line's fields are those between its first bytes that end one.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from numad_py.kernel import Malformed, small_file
from numad_py.topology import Addresses, Ints

__all__ = ["Malformed", "Maps", "parse", "read", "read_thread"]

_ENDS_A_FIELD: Final = bytes(byte in b"-: \n" for byte in range(256))
_ENDS: Final = np.frombuffer(b"-   : ", np.uint8)[
    :, None
]  # of start, end, mode, offset, major and minor number
_MODES: Final = np.frombuffer(b"rwxp---s", np.uint8).reshape(2, 4, 1)
_FOUR: Final = np.arange(4)[:, None]
_DIGITS: Final = 16  # of the longest address
_PLACES: Final = np.arange(_DIGITS, 0, -1)
_VALUES: Final = bytes(int(chr(byte), 16) if byte in b"0123456789abcdef" else 255 for byte in range(256))
_FOREIGN: Final = np.uint64(0xF0F0_F0F0_F0F0_F0F0)
_MINOR_BITS: Final = np.uint64(20)  # MINORBITS in include/linux/kdev_t.h
_SPREADING: Final = np.uint64(0x9E37_79B9_7F4A_7C15)  # 2^64 over the golden ratio, as in Fibonacci hashing
_PADDING: Final = b"\n" * _DIGITS  # the first line is looked at from before it, the last line beyond it


@dataclass(frozen=True, eq=False)
class Maps:
    """The lines of one maps file as columns; ``file`` says which map one.

    ``name`` is made of its device and inode, which no two files are likely to share, and ``offset`` where in it
    the VMA begins; both are 0 where there is none.
    """

    start: Addresses
    end: Addresses
    readable: NDArray[np.bool_]
    executable: NDArray[np.bool_]
    file: NDArray[np.bool_]
    name: Addresses
    offset: Addresses


def read(pid: int, root: Path = Path("/")) -> bytes:
    """Read /proc/PID/maps; empty for kernel threads. Rights as for numa_maps."""
    return small_file.read(f"{root}/proc/{pid}/maps")


def read_thread(pid: int, tid: int, root: Path = Path("/")) -> bytes:
    """Read the same from one thread of a process; empty for one that has ended and was not waited for."""
    return small_file.read(f"{root}/proc/{pid}/task/{tid}/maps")


def parse(text: bytes) -> Maps:
    """Give the columns of a maps file.

    A last line without its newline is one that a read cut short, and is dropped.
    Raises Malformed for a line of any other form than the kernel's.
    """
    padded = _PADDING + text[: text.rfind(b"\n") + 1] + _PADDING
    letters = np.frombuffer(padded, np.uint8)
    ends = np.flatnonzero(np.frombuffer(padded.translate(_ENDS_A_FIELD), np.bool_))
    newline = np.flatnonzero(letters[ends] == ord("\n"))[_DIGITS - 1 : -_DIGITS - 1]  # before each line
    begin, first = ends[newline] + 1, newline + 1
    mode = ends[first + 1] + 1 + _FOUR
    behind = ends.searchsorted(mode[3] + 1)
    *field, inode_end = ends[np.concatenate((first + _FOUR[:2], behind + _FOUR, [behind + len(_FOUR)]))]
    flags, inode_digit = letters[mode], letters[field[5] + 1]
    good = (letters[field] == _ENDS).all(axis=0) & (flags == _MODES).any(axis=0).all(axis=0)
    good &= (field[2] == mode[3] + 1) & (inode_digit >= ord("0")) & (inode_digit <= ord("9"))
    (start, end), are_hex = _hex(padded, np.array((begin, field[0] + 1)), np.array(field[:2]))
    file = inode_digit > ord("0")
    name, offset, are_numbers = _mapped(padded, np.array((*field[2:], inode_end))[:, file])
    good &= are_hex.all(axis=0) & (start < end)
    good[file] &= are_numbers
    if not good.all():
        at = int(begin[~good][0])
        raise Malformed(f"maps: no VMA in the line {padded[at : at + 80]!r}")
    return Maps(
        start,
        end,
        readable=flags[0] == ord("r"),
        executable=flags[2] == ord("x"),
        file=file,
        name=_spread(name, file),
        offset=_spread(offset, file),
    )


def _mapped(text: bytes, ends: Ints) -> tuple[Addresses, Addresses, NDArray[np.bool_]]:
    """Read name and offset, from where the mode and each field behind it ends; say where all are numbers."""
    begin = ends[:-1] + 1
    begin[3] = np.maximum(begin[3], ends[4] - _DIGITS)  # the inode's last digits, as if they were of base 16
    (offset, major, minor, inode), are_hex = _hex(text, begin, ends[1:])
    return (major << _MINOR_BITS | minor) * _SPREADING ^ inode, offset, np.logical_and.reduce(are_hex)


def _spread(values: Addresses, rows: NDArray[np.bool_]) -> Addresses:
    """Give the values at these rows, and 0 elsewhere."""
    column = np.zeros(len(rows), np.uint64)
    column[rows] = values
    return column


def _hex(text: bytes, begin: Ints, end: Ints) -> tuple[Addresses, NDArray[np.bool_]]:
    """Read what stands between these places, and say where that is a number."""
    rows = np.ndarray((len(text) - _DIGITS + 1,), f"V{_DIGITS}", text, strides=(1,))[end - _DIGITS]
    values = np.frombuffer(rows.tobytes().translate(_VALUES), np.uint8).reshape(*end.shape, _DIGITS)
    length = end - begin
    digits = np.where(length[..., None] >= _PLACES, values, np.uint8(0))
    words = digits.view(np.uint64)
    good = (length > 0) & (length <= _DIGITS) & ((words[..., 0] | words[..., 1]) & _FOREIGN == 0)
    pairs = digits[..., ::2] << 4 | digits[..., 1::2]
    return pairs.view(">u8")[..., 0].astype(np.uint64), good
