# SPDX-License-Identifier: Apache-2.0

"""Pages that are not where they should be are found, each once, at the size that the kernel moves."""

import mmap
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.act import pages
from numad_py.act.pages import Sizes, misplaced
from numad_py.kernel import hugepages, node_sysfs, proc_stat
from numad_py.kernel.identity import OpenProcess
from numad_py.model import ProcessKey

BASE = mmap.PAGESIZE
SMALL = Sizes(4096, 4 * 4096)  # huge pages of four
NODE = node_sysfs.read_topology().node_ids[0]
ELSEWHERE = NODE + 1  # no such node, or at least not where our pages are


def addresses(*numbers, size=4096):
    return np.array(numbers, np.uint64) * np.uint64(size)


def every(found):
    """Give every address of pages found, as base pages of SMALL."""
    return sorted(
        address + offset
        for each in found
        for address in each.address.tolist()
        for offset in range(0, each.page_bytes, SMALL.base_bytes)
    )


@pytest.fixture
def memory():
    """Give 16 pages of our own: their first address, all but the fifth touched."""
    with mmap.mmap(-1, 16 * BASE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as mapped:
        mapped.madvise(mmap.MADV_NOHUGEPAGE)
        for page in set(range(16)) - {4}:
            mapped[page * BASE] = 1
        view = np.frombuffer(mapped, np.uint8)
        yield view.ctypes.data
        del view


@pytest.fixture(params=["asked page by page", "scanned"])
def pagemap(request):
    """Give None, and our pagemap where this kernel has PAGEMAP_SCAN."""
    if request.param != "scanned":
        yield None
        return
    with OpenProcess(ProcessKey(os.getpid(), proc_stat.read(os.getpid()).start_ticks)) as us:
        if us.pagemap is None:
            pytest.skip("no PAGEMAP_SCAN here")
        yield us.pagemap


def found_in(memory, pagemap, sources, targets, page_count=16):
    chunk = (memory, memory + page_count * BASE, BASE)
    return list(misplaced(os.getpid(), chunk, Sizes(BASE, 0), pagemap, sources, targets))


def test_nothing_is_misplaced_that_is_on_its_target(memory, pagemap):
    assert found_in(memory, pagemap, (NODE,), (NODE,)) == []


def test_nothing_is_misplaced_that_is_on_none_of_the_sources(memory, pagemap):
    assert found_in(memory, pagemap, (ELSEWHERE,), (ELSEWHERE + 1,)) == []


def test_what_is_on_a_source_is_misplaced_and_what_was_never_touched_is_not(memory, pagemap):
    (found,) = found_in(memory, pagemap, (NODE,), (ELSEWHERE,))

    expected = [memory + page * BASE for page in range(16) if page != 4]
    assert (found.address.tolist(), found.page_bytes, found.target) == (expected, BASE, ELSEWHERE)
    assert not found.suspect


def test_several_targets_take_turns_by_address_and_those_in_place_stay(memory, pagemap):
    (found,) = found_in(memory, pagemap, (NODE,), (NODE, ELSEWHERE))

    assert found.target == ELSEWHERE
    assert (found.address // BASE % 2 == 1).all()
    assert len(found.address) in {7, 8}


def test_a_process_that_is_gone_is_told():
    with pytest.raises(ProcessLookupError):
        list(misplaced(1 << 22, (0, BASE, BASE), Sizes(BASE, 0), None, (0,), (1,)))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), max_size=6))
def test_ranges_are_unrolled_to_every_page_ascending(gaps_and_lengths):
    edges = np.cumsum([number for pair in gaps_and_lengths for number in pair], dtype=np.uint64)
    start, end = addresses(*edges[0::2]), addresses(*edges[1::2])

    unrolled = pages._every(start, end, 4096)  # noqa: SLF001 - pure, and only here is every case of it had

    expected = [
        page for low, high in zip(start, end, strict=True) for page in range(int(low), int(high), 4096)
    ]
    assert unrolled.tolist() == expected


@given(st.lists(st.integers(0, 40), min_size=3, unique=True).map(sorted))
def test_a_huge_page_in_which_ranges_meet_belongs_to_the_one_that_has_most_of_it(borders):
    edges = addresses(*borders)

    ends = pages._nearest(edges, SMALL.huge_bytes)  # noqa: SLF001 - by hand, since a kernel gives no such pages at will

    assert (ends % SMALL.huge_bytes == 0).all()
    assert (np.maximum(ends, edges) - np.minimum(ends, edges) <= SMALL.huge_bytes // 2).all()
    assert (np.diff(ends.astype(np.int64)) >= 0).all()


def test_each_huge_page_of_ours_is_in_one_of_two_ranges_that_meet_within_one():
    huge_bytes = hugepages.pmd_bytes()
    if not huge_bytes:
        pytest.skip("a kernel without huge pages")
    with (
        mmap.mmap(-1, 6 * huge_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as mapped,
        OpenProcess(ProcessKey(os.getpid(), proc_stat.read(os.getpid()).start_ticks)) as us,
    ):
        mapped.madvise(mmap.MADV_HUGEPAGE)
        view = np.frombuffer(mapped, np.uint8)
        first = (view.ctypes.data // huge_bytes + 1) * huge_bytes
        mapped[::BASE] = bytes(6 * huge_bytes // BASE)
        border, end = first + 5 * huge_bytes // 4, first + 4 * huge_bytes
        sizes = Sizes(BASE, huge_bytes)

        found = [
            [each for each in pages._present((*ends, BASE), sizes, us.pagemap) if each[1] > BASE]  # noqa: SLF001
            for ends in ((first, border), (border, end))
        ]
        del view

    if us.pagemap is None or not found[0]:
        pytest.skip("no PAGEMAP_SCAN, or no huge pages here")
    heads = [[(address.tolist(), size) for address, size in each] for each in found]
    assert heads == [
        [([first], huge_bytes)],
        [([first + huge_bytes * each for each in (1, 2, 3)], huge_bytes)],
    ]


@given(st.sets(st.integers(0, 40)))
def test_whole_aligned_blocks_are_suspected_of_being_huge_and_every_page_is_given_once(numbers):
    address = addresses(*sorted(numbers))

    found = list(pages._sized(address, 4096, 1, SMALL, scanned=False))  # noqa: SLF001 - as above

    assert every(found) == address.tolist()
    assert all(each.suspect == (each.page_bytes == SMALL.huge_bytes) for each in found)
    assert all((each.address % each.page_bytes == 0).all() for each in found)
    rest = {number for each in found if not each.suspect for number in (each.address // 4096).tolist()}
    assert not any({4 * block + page for page in range(4)} <= rest for block in range(11))


@pytest.mark.parametrize(
    ("size", "sizes", "scanned"),
    [(4096, SMALL, True), (4096, Sizes(4096, 0), False), (4 * 4096, SMALL, False)],
)
def test_nothing_is_suspected_where_the_size_is_known(size, sizes, scanned):
    (found,) = pages._sized(addresses(*range(8), size=size), size, 1, sizes, scanned=scanned)  # noqa: SLF001 - as above

    assert (len(found.address), found.page_bytes, found.suspect) == (8, size, False)
