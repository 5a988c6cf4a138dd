# SPDX-License-Identifier: Apache-2.0

"""Read /proc/PID/numa_maps: where a process's pages are, VMA by VMA.

Problem: the kernel writes such a file at 1 µs a line and Python reads it at 10,
so the parser would take the daemon's CPU. Reading plus parsing must stay within
one and a half times reading.

Primitive: tokens. ``show_numa_map()`` in fs/proc/task_mmu.c prints

    START POLICY [file=PATH | heap | stack] [huge] [anon=N dirty=N mapped=N
    mapmax=N swapcache=N active=N writeback=N N<node>=N... kernelpagesize_kB=N]

and escapes blanks and newlines within PATH, so every token follows a blank, and
the eight bytes behind each blank, taken as one word, say which token it is.

Application: one pass over the bytes finds blanks and newlines; everything after
that is a few numpy operations on columns of offsets.

Units: ``pages`` are of ``page_bytes`` each, hugetlb pages too.
"""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from numad_py.kernel import Malformed
from numad_py.kernel.digits import DECIMAL, HEX, Text, begins
from numad_py.model import Mempolicy, RegionKind, Regions
from numad_py.topology import Addresses, Ints

__all__ = ["Malformed", "NumaMaps", "parse", "read", "read_by_vma", "regions"]

_LESS_THAN_A_LINE: Final = 64  # bytes; a line with resident pages has more

_BLANK, _NEWLINE = b" \n"
_END: Final = b" \n"
_MOST_NODE_DIGITS: Final = 6

_MOST_PAGES: Final = 1 << 52  # 64 bits of address space in pages of 4 KiB
_MOST_KIB: Final = 1 << 24  # 16 GiB, the largest page of any architecture
_MOST_BYTES: Final = 1 << 63

# mm/mempolicy.c policy_modes[]. Behind the word mpol_to_str() prints "=" and flags, ":" and nodes, or nothing.
# Since Linux commit b27abaccf8e8 ("mm/mempolicy: add MPOL_PREFERRED_MANY for multiple preferred nodes") (in
# v5.15) there is "prefer (many)", and since commit fa3bea4e1f82 ("mm/mempolicy: introduce
# MPOL_WEIGHTED_INTERLEAVE for weighted interleaving") (in v6.9) "weighted interleave": words with a blank.
_MEMPOLICIES: Final = (
    (b"default", Mempolicy.DEFAULT),
    (b"bind", Mempolicy.BIND),
    (b"local", Mempolicy.LOCAL),
    (b"prefer", Mempolicy.PREFERRED),
    (b"interleave", Mempolicy.INTERLEAVE),
    (b"weighted interleave", Mempolicy.INTERLEAVE),
)
_AFTER_POLICY: Final = b" =:\n"

# Anonymous hugetlb memory is shown as file=/anon_hugepage\040(deleted), System V and shared anonymous memory as
# file=/SYSV... and file=/dev/zero\040(deleted): the kernel backs them by files and charges them as such.
_KINDS: Final = (
    (b"file=", RegionKind.FILE),
    (b"heap ", RegionKind.HEAP),
    (b"heap\n", RegionKind.HEAP),
    (b"stack ", RegionKind.STACK),
    (b"stack\n", RegionKind.STACK),
)


@dataclass(frozen=True, eq=False)
class NumaMaps:
    """The lines of one numa_maps as columns; ``pages`` has the shape (lines, nodes).

    ``mapmax`` is 1 where the kernel leaves it out, and 0 where no page is resident.
    ``mempolicy`` is the VMA's own, else the leading thread's: those of other threads
    do not show. ``unknown_node_pages`` are pages on nodes the caller did not name: one that came
    online meanwhile.
    """

    start: Addresses
    page_bytes: Ints
    kind: Ints
    mempolicy: Ints
    mapmax: Ints
    anon_pages: Ints
    pages: Ints
    unknown_node_pages: int


def read(pid: int, root: Path = Path("/")) -> bytes:
    """Read /proc/PID/numa_maps; empty for kernel threads, and for a process whose memory is gone.

    Needs PTRACE_MODE_READ: CAP_SYS_PTRACE for another user's process.
    """
    # seq_file gives at most a page a read(2), whatever the buffer; CPython's loop over read(2) is in C and
    # within 1 % of every other reader tried.
    return (root / f"proc/{pid}/numa_maps").read_bytes()


def read_by_vma(pid: int, root: Path = Path("/")) -> bytes:
    """Read it so that the mmap lock is let go of after each VMA that has pages; takes 1 µs a line more."""
    # One read(2) is one hold of the lock, from m_start() to m_stop() in fs/proc/task_mmu.c, and seq_read_iter() in
    # fs/seq_file.c (v5.10 to v6.18) shows lines until it has what was asked for: of 4 KiB, some forty VMAs.
    numa_maps = os.open(f"{root}/proc/{pid}/numa_maps", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return b"".join(iter(partial(os.read, numa_maps, _LESS_THAN_A_LINE), b""))
    finally:
        os.close(numa_maps)


def parse(text: bytes, node_ids: tuple[int, ...], page_bytes: int) -> NumaMaps:
    """Give the columns of a numa_maps; ``page_bytes`` is the base page, for lines without pages.

    A last line without its newline is one that a read cut short, and is dropped.
    Tokens that this version does not know are passed over. Raises Malformed for a
    line that does not begin with an address and a blank, and for numbers that are
    none or make no sense.
    """
    lines = _Lines(Text(text[: text.rfind(b"\n") + 1]))
    line, node, count = lines.pages_by_node()
    index = _index_of(node, node_ids)
    known = index >= 0
    pages = np.zeros((len(lines.start), len(node_ids)), np.int64)
    pages[line[known], index[known]] = count[known]
    kib = lines.column(b"kernelpagesize_kB=", most=_MOST_KIB)
    size = np.where(kib > 0, kib << 10, page_bytes)
    _refuse_nonsense(count, size[line])
    mapmax = lines.column(b"mapmax=", most=_MOST_PAGES)
    present = np.zeros(len(lines.start), np.int64)
    present[line[count > 0]] = 1
    return NumaMaps(
        start=lines.start,
        page_bytes=size,
        kind=lines.kind(),
        mempolicy=lines.mempolicy(),
        mapmax=np.maximum(mapmax, 1) * present,
        anon_pages=lines.column(b"anon=", most=_MOST_PAGES),
        pages=pages,
        unknown_node_pages=int(count[~known].sum()),
    )


def regions(numa_maps: NumaMaps, vma_start: Addresses, vma_end: Addresses) -> Regions:
    """Join with start and end of a process's VMAs, as maps has them, for lines with resident pages.

    VMAs come, go, grow and merge between the two reads and within each: rows that
    only one file has, and rows that overlap an earlier one, are dropped.
    """
    resident = np.flatnonzero(numa_maps.pages.any(axis=1))
    start, mine, theirs = np.intersect1d(numa_maps.start[resident], vma_start, return_indices=True)
    end = vma_end[theirs]
    apart = start[1:] >= np.maximum.accumulate(end)[:-1]
    keep = np.append(np.ones(min(len(start), 1), bool), apart)
    rows = resident[mine[keep]]
    return Regions(
        start=numa_maps.start[rows],
        end=end[keep],
        page_bytes=numa_maps.page_bytes[rows],
        kind=numa_maps.kind[rows],
        mempolicy=numa_maps.mempolicy[rows],
        mapmax=numa_maps.mapmax[rows],
        backing=np.zeros(len(rows), np.int64),
        offset=np.zeros(len(rows), np.int64),
        anon_pages=numa_maps.anon_pages[rows],
        pages=numa_maps.pages[rows],
    )


class _Lines:
    """The tokens of all lines: where each begins, its first eight bytes, and the line it is in."""

    def __init__(self, text: Text) -> None:
        low = np.flatnonzero(
            text.bytes[: text.length] <= _BLANK
        )  # one pass; paths may hold control characters
        found = text.bytes[low]
        blank, new = found == _BLANK, found == _NEWLINE
        ends = low[new]
        self.start, after = text.number(np.append(0, ends + 1)[:-1], HEX, ends=b" ")
        self._text = text
        self._policy = after + 1
        self._tokens = low[blank] + 1
        self._line = np.cumsum(new)[blank]
        self._words = text.words[self._tokens]

    def column(self, key: bytes, *, most: int) -> Ints:
        """Give the number behind ``key`` in each line, 0 where the line has no such token."""
        rows = self._find(key)
        values, _ = self._text.number(self._tokens[rows] + len(key), DECIMAL, ends=_END, most=most)
        column = np.zeros(len(self.start), np.int64)
        column[self._line[rows]] = values
        return column

    def pages_by_node(self) -> tuple[Ints, Ints, Ints]:
        """Give line, node id and number of pages of every N<node>=N."""
        rows = self._find(b"N")
        at = self._tokens[rows] + 1
        node, digits = self._text.digits(at, DECIMAL)
        at += digits
        numbered = (digits > 0) & (digits <= _MOST_NODE_DIGITS) & self._text.is_one_of(at, b"=")
        count, _ = self._text.number(at[numbered] + 1, DECIMAL, ends=_END, most=_MOST_PAGES)
        return self._line[rows[numbered]], node[numbered].astype(np.int64), count.astype(np.int64)

    def kind(self) -> Ints:
        kinds = np.full(len(self.start), RegionKind.ANON, np.int64)
        for token, kind in _KINDS:
            kinds[self._line[self._find(token)]] = kind
        return kinds

    def mempolicy(self) -> Ints:
        mempolicies = np.full(len(self.start), Mempolicy.OTHER, np.int64)
        left = np.arange(len(self.start))
        for word, mempolicy in _MEMPOLICIES:
            at = self._policy[left]
            hit = self._text.stands(at, word) & self._text.is_one_of(at + len(word), _AFTER_POLICY)
            mempolicies[left[hit]] = mempolicy
            left = left[~hit]
        return mempolicies

    def _find(self, key: bytes) -> Ints:
        """Give the tokens that begin with ``key``."""
        rows = np.flatnonzero(begins(self._words, key[:8]))
        return rows[self._text.stands(self._tokens[rows] + 8, key[8:])] if key[8:] else rows


def _index_of(node: Ints, node_ids: tuple[int, ...]) -> Ints:
    """Give each node's position on the node axis; -1 where the caller did not name it."""
    table = np.full(max(node_ids, default=-1) + 2, -1, np.int64)
    table[list(node_ids)] = np.arange(len(node_ids))
    return table[np.minimum(node, len(table) - 1)]


def _refuse_nonsense(count: Ints, page_bytes: Ints) -> None:
    """Raise Malformed where sums of bytes would overflow."""
    if (count.astype(np.float64) * page_bytes).sum() >= _MOST_BYTES:
        raise Malformed("numa_maps: more bytes resident than 63 bits count")
