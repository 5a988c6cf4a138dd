# SPDX-License-Identifier: Apache-2.0

"""Of a VMA is told what the walk said of its addresses, or of those it grew from; of any other, nothing."""

from itertools import pairwise

import numpy as np
import pytest

from numad_py.kernel import maps, numa_maps
from numad_py.model import Mempolicy, RegionKind, Regions
from numad_py.sense.learnt import learn

PAGE = 4096
NOW = [
    # VMA, what is told of it: one that was walked, parts of one, one that grew at its end, one at its begin
    ((10, 20), Mempolicy.DEFAULT),
    ((12, 15), Mempolicy.DEFAULT),
    ((10, 25), Mempolicy.DEFAULT),
    ((35, 50), Mempolicy.BIND),
    ((40, 50), Mempolicy.BIND),
    # merged with another of the same mempolicy, and what cannot have been merged
    ((60, 90), Mempolicy.DEFAULT),
    ((60, 100), None),
    ((40, 70), None),
    # new, between others, over another, over a part of one and beyond, before all and behind all
    ((20, 30), None),
    ((5, 25), None),
    ((15, 25), None),
    ((1, 5), None),
    ((200, 300), None),
]


def vmas(*ranges, file=()):
    """Give VMAs of these pages; those whose number is in ``file`` map one."""
    lines = (
        f"{start * PAGE:x}-{end * PAGE:x} rw-p 00000000 00:00 {int(number in file)} \n"
        for number, (start, end) in enumerate(ranges)
    )
    return maps.parse("".join(lines).encode())


def walked(*lines, file=()):
    """Learn from lines of numa_maps, each with its VMA: ``(range, "default anon=1 N0=1")``."""
    text = "".join(f"{start * PAGE:x} {said}\n" for (start, _), said in lines)
    placed = numa_maps.parse(text.encode(), (0, 1), PAGE)
    return learn(placed, vmas(*(each for each, _ in lines), file=file), PAGE)


def sampled(*ranges, kind=RegionKind.ANON, pages=None):
    """Give regions as a sample has them."""
    count = len(ranges)
    edges = np.array(ranges, np.uint64).reshape(-1, 2) * np.uint64(PAGE)
    each = np.ones(count, np.int64)
    return Regions(
        edges[:, 0],
        edges[:, 1],
        each * PAGE,
        each * kind,
        each * Mempolicy.UNKNOWN,
        each * (2 if kind == RegionKind.FILE else 1),
        each * 0,
        each * 0,
        each,
        np.array([[number, 0] for number in pages or each.tolist()]).reshape(-1, 2),
    )


WALK = (
    ((10, 20), "default anon=1 N0=1"),
    ((40, 50), "bind:0 anon=1 N0=1"),
    ((60, 70), "default anon=1 N0=1"),
    ((80, 90), "default anon=1 N0=1"),
    ((95, 100), "interleave:0-1 anon=1 N0=1"),
)


@pytest.mark.parametrize(("vma", "mempolicy"), NOW)
def test_a_vma_has_the_mempolicy_of_where_it_lies_or_grew_from(vma, mempolicy):
    regions, untold_share = walked(*WALK).tell(sampled(vma))

    assert regions.mempolicy.tolist() == [Mempolicy.UNKNOWN if mempolicy is None else mempolicy]
    assert untold_share == (mempolicy is None)


@pytest.mark.parametrize("seed", range(20))
def test_no_vma_has_a_mempolicy_that_the_walk_did_not_say_of_one_of_its_pages(seed):
    random = np.random.default_rng(seed)
    said = {}
    words = {Mempolicy.DEFAULT: "default", Mempolicy.BIND: "bind:0", Mempolicy.INTERLEAVE: "interleave:0-1"}
    lines = []
    edges = np.unique(random.integers(1, 200, 24)).tolist()
    for begin, end in pairwise(edges):
        mempolicy = random.choice([*words, Mempolicy.UNKNOWN])
        if mempolicy in words:
            lines.append(((begin, end), words[mempolicy]))
            said |= dict.fromkeys(range(begin, end), mempolicy)
    begins = random.integers(1, 190, 400)
    now = [(begin, begin + size) for begin, size in zip(begins, random.integers(1, 30, 400), strict=True)]
    learnt = walked(*lines)

    told = [learnt.tell(sampled(vma))[0].mempolicy[0] for vma in now]

    for (begin, end), mempolicy in zip(now, told, strict=True):
        here = {said.get(page, Mempolicy.UNKNOWN) for page in range(begin, end)} - {Mempolicy.UNKNOWN}
        assert mempolicy == Mempolicy.UNKNOWN or here == {mempolicy}
    assert len(set(told)) > 2


def test_what_maps_a_file_now_is_not_what_was_anonymous():
    regions, untold_share = walked(*WALK).tell(sampled((10, 20), kind=RegionKind.FILE))

    assert regions.mempolicy.tolist() == [Mempolicy.UNKNOWN]
    assert untold_share == 1


@pytest.mark.parametrize(
    ("said", "mapmax", "movable"),
    [("mapped=1 N0=1", 1, True), ("mapped=1 mapmax=9 N0=1", 9, False), ("", 2, False)],
)
def test_a_file_is_shared_as_the_walk_said_where_something_was_resident(said, mapmax, movable):
    learnt = walked(((10, 20), f"default file=/data {said}"), file=(0,))

    regions, _ = learnt.tell(sampled((10, 20), kind=RegionKind.FILE))

    assert regions.mapmax.tolist() == [mapmax]
    assert regions.movable.tolist() == [movable]


def test_the_heap_is_known_as_such():
    regions, _ = walked(((10, 20), "default heap anon=1 N0=1")).tell(sampled((10, 25)))

    assert regions.kind.tolist() == [RegionKind.HEAP]


def test_hugetlb_pages_which_a_sample_takes_for_small_ones_are_left_alone():
    line = "default file=/anon_hugepage\\040(deleted) huge anon=1 N0=1 kernelpagesize_kB=2048"
    regions, untold_share = walked(((512, 1024), line), file=(0,)).tell(
        sampled((512, 1024), kind=RegionKind.FILE)
    )

    assert not regions.movable.any()
    assert untold_share == 0  # another walk would say the same


def test_the_share_of_which_nothing_is_told_is_of_the_resident_pages():
    _, untold_share = walked(*WALK).tell(sampled((10, 20), (120, 130), pages=[30, 10]))

    assert untold_share == 0.25


def test_of_a_vma_that_is_gone_nothing_is_remembered():
    learnt = walked(*WALK).among(vmas((10, 20), (62, 70), (120, 130)))

    regions, _ = learnt.tell(sampled((10, 20), (40, 50), (60, 62), (65, 70), (120, 130)))

    assert regions.mempolicy.tolist() == [
        Mempolicy.DEFAULT,
        Mempolicy.UNKNOWN,
        Mempolicy.UNKNOWN,
        Mempolicy.DEFAULT,
        Mempolicy.UNKNOWN,
    ]


def test_where_nothing_is_remembered_nothing_is_told():
    learnt = walked(*WALK).among(vmas((300, 400)))

    regions, untold_share = learnt.among(vmas((10, 20))).tell(sampled((10, 20)))

    assert regions.mempolicy.tolist() == [Mempolicy.UNKNOWN]
    assert untold_share == 1
