# SPDX-License-Identifier: Apache-2.0

"""Find the pages of an address range that are not where they should be.

Problem: a range names addresses, the kernel moves pages, and a page may be a
base page, a transparent huge page, or a hugetlb page; any address in a huge
page moves all of it, and each further one costs a call's worth of errors.
Primitive: a column of addresses, one per page, all of one size.
Application: PAGEMAP_SCAN tells present and huge pages where the kernel has it;
before 6.7 nothing does, so there whole aligned blocks on one node come as
``suspects``: move the first page, and see whether the second followed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from numad_py.kernel import placement
from numad_py.topology import Addresses


@dataclass(frozen=True, eq=False)
class Pages:
    """Addresses of pages of one size, by target node id; ``suspect`` blocks may be huge pages or not."""

    address: Addresses
    page_bytes: int
    target: int
    suspect: bool = False


@dataclass(frozen=True)
class Sizes:
    """Page sizes of the machine; ``huge_bytes`` is 0 without transparent huge pages."""

    base_bytes: int
    huge_bytes: int


def misplaced(
    pid: int,
    chunk: tuple[int, int, int],
    sizes: Sizes,
    pagemap: int | None,
    sources: tuple[int, ...],
    targets: tuple[int, ...],
) -> Iterator[Pages]:
    """Give the pages of a chunk that are on a source node and not on their target.

    A chunk is start, end, page size. ``pagemap`` is an open /proc/PID/pagemap, or None where it may not be read.
    Raises as ``placement.nodes_of``.
    """
    for address, size in _present(chunk, sizes, pagemap):
        nodes = placement.nodes_of(pid, address)
        on_source = np.logical_or.reduce([nodes == source for source in sources])
        for turn, target in enumerate(targets):
            chosen = on_source & (nodes != target)
            if len(targets) > 1:
                chosen &= address // np.uint64(size) % np.uint64(len(targets)) == turn
            yield from _sized(address[chosen], size, target, sizes, scanned=pagemap is not None)


def _present(
    chunk: tuple[int, int, int], sizes: Sizes, pagemap: int | None
) -> Iterator[tuple[Addresses, int]]:
    """Give addresses that may hold pages, by page size."""
    start, end, page_bytes = chunk
    if page_bytes != sizes.base_bytes or pagemap is None:
        yield np.arange(start, end, page_bytes, dtype=np.int64).astype(np.uint64), page_bytes
        return
    while start < end:
        found, start = placement.scan(pagemap, start, end)
        huge = (found["categories"] & np.uint64(placement.PAGE_IS_HUGE)) != 0
        if (~huge).any():
            yield _every(found["start"][~huge], found["end"][~huge], page_bytes), page_bytes
        if huge.any():
            first, last = (_nearest(found[each][huge], sizes.huge_bytes) for each in ("start", "end"))
            yield _every(first, last, sizes.huge_bytes), sizes.huge_bytes


def _nearest(address: Addresses, size: int) -> Addresses:
    """Round where a range begins or ends within a huge page: it belongs to the range that has most of it."""
    # Since Linux commit e8db67eb0ded ("mm: migrate: move_pages() supports thp migration", in v4.14) it moves whole. At
    # most half of it lies far away then; split it would take 3.3 times as long to move, and cost its user TLB misses.
    return (address + np.uint64(size // 2)) // np.uint64(size) * np.uint64(size)


def _every(start: Addresses, end: Addresses, size: int) -> Addresses:
    """Give every address of a page of that size in the ranges, ascending."""
    count = ((end - start) // np.uint64(size)).astype(np.int64)
    first = np.repeat(np.cumsum(count) - count, count)
    within = (np.arange(count.sum()) - first).astype(np.uint64) * np.uint64(size)
    return np.repeat(start, count) + within


def _sized(address: Addresses, size: int, target: int, sizes: Sizes, *, scanned: bool) -> Iterator[Pages]:
    if not len(address):
        return
    if scanned or size != sizes.base_bytes or not sizes.huge_bytes:
        yield Pages(address, size, target)
        return
    block = address // np.uint64(sizes.huge_bytes)
    first = np.flatnonzero(np.diff(block, prepend=~block[0]))
    count = np.diff(first, append=len(address))
    whole = count == sizes.huge_bytes // size
    if whole.any():
        yield Pages(address[first[whole]], sizes.huge_bytes, target, suspect=True)
    rest = ~np.repeat(whole, count)
    if rest.any():
        yield Pages(address[rest], size, target)
