# SPDX-License-Identifier: Apache-2.0

"""Pages are counted where that is quick, else a sample of them is asked after; VMAs are not read again for nothing."""

import mmap
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from numad_py.kernel import Malformed, maps, node_sysfs, proc_stat
from numad_py.model import Mempolicy, PlacementSource, ProcessKey, RegionKind
from numad_py.sense.placement import PTE_WALK_S, QUIET_WALK_S, Reader
from tests.fake_root import FakeRoot

PAGES = 20_000
WALK_S = PAGES * PTE_WALK_S


@pytest.fixture
def us():
    """Give our own process, with one region that is large enough."""
    with mmap.mmap(-1, PAGES * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as region:
        region.madvise(mmap.MADV_NOHUGEPAGE)
        region[:: mmap.PAGESIZE] = b"1" * PAGES
        yield ProcessKey(os.getpid(), proc_stat.read(os.getpid()).start_ticks)


@pytest.fixture
def read_vmas(monkeypatch):
    """Give the PIDs whose maps were read."""
    pids = []
    read = maps.read

    def noted(pid, root):
        pids.append(pid)
        return read(pid, root)

    monkeypatch.setattr(maps, "read", noted)
    return pids


def reader(longest_walk_s, root=Path("/"), mempolicy=Mempolicy.UNKNOWN, first_walk_s=0.0):
    topology = node_sysfs.read_topology(root, page_bytes=mmap.PAGESIZE)
    return Reader(topology, longest_walk_s, first_walk_s, mempolicy, root)


def rss_pages():
    return proc_stat.read(os.getpid()).rss_pages


def test_where_no_walk_can_take_long_every_page_is_counted(us):
    placement = reader(1.0).read(us, rss_pages(), lambda: None, None)

    assert (placement.source, placement.error_share) == (PlacementSource.NUMA_MAPS, 0.0)
    assert placement.cost_s > 0
    assert placement.regions.resident_bytes.sum() >= PAGES * mmap.PAGESIZE


@pytest.mark.parametrize("mempolicy", [Mempolicy.UNKNOWN, Mempolicy.DEFAULT])
def test_where_one_walk_could_take_too_long_pages_are_sampled(us, mempolicy):
    placement = reader(WALK_S / 2, mempolicy=mempolicy).read(us, rss_pages(), lambda: None, None)

    regions = placement.regions
    found = regions.pages.sum()
    assert placement.source is PlacementSource.PAGE_SAMPLE
    assert 0 < placement.error_share < 0.1
    assert found == pytest.approx(rss_pages(), rel=0.2)
    assert set(regions.mempolicy.tolist()) == {mempolicy}
    assert (regions.movable_bytes.sum() > 0) == (mempolicy is Mempolicy.DEFAULT)
    assert not regions.movable[regions.kind == RegionKind.FILE].any()


def test_a_process_that_is_large_and_has_no_large_region_is_counted(us):
    placement = reader(WALK_S * 2).read(us, 100 * PAGES, lambda: None, None)

    assert placement.source is PlacementSource.NUMA_MAPS


def test_what_is_in_huge_pages_takes_no_time_to_walk(us):
    placement = reader(WALK_S / 2).read(us, rss_pages(), lambda: PAGES // 10, None)

    assert placement.source is PlacementSource.NUMA_MAPS


def test_vmas_are_not_read_again_unless_one_is_new(tmp_path, read_vmas):
    fake = FakeRoot(tmp_path)
    fake.process(100)
    key = ProcessKey(100, 7)
    vmas = reader(1.0, tmp_path).read(key, 100, lambda: None, None).vmas
    other = replace(vmas, start=vmas.start + np.uint64(4096))

    again = reader(1.0, tmp_path).read(key, 100, lambda: None, vmas)
    reader(1.0, tmp_path).read(key, 100, lambda: None, other)

    assert again.regions.pages.tolist() == [[100, 0]]
    assert read_vmas == [100, 100]


def test_a_sample_is_asked_among_the_vmas_of_the_last_reading(us, read_vmas):
    vmas = reader(WALK_S / 2).read(us, rss_pages(), lambda: None, None).vmas
    read_vmas.clear()

    again = reader(WALK_S / 2).read(us, rss_pages(), lambda: None, vmas)

    assert (again.source, read_vmas) == (PlacementSource.PAGE_SAMPLE, [])
    assert again.regions.pages.sum() == pytest.approx(rss_pages(), rel=0.2)


def test_where_too_little_is_found_vmas_are_read_again(us, read_vmas):
    vmas = reader(WALK_S / 2).read(us, rss_pages(), lambda: None, None).vmas
    moved = replace(vmas, start=vmas.start + np.uint64(1 << 46), end=vmas.end + np.uint64(1 << 46))
    read_vmas.clear()

    again = reader(WALK_S / 2).read(us, rss_pages(), lambda: None, moved)

    assert (again.source, read_vmas) == (PlacementSource.PAGE_SAMPLE, [us.pid])
    assert again.vmas.start.tolist() != moved.start.tolist()


def test_where_no_vma_was_large_they_are_read_again_before_any_is_walked(us, read_vmas):
    vmas = reader(WALK_S / 2).read(us, rss_pages(), lambda: None, None).vmas
    small = replace(vmas, end=vmas.start + np.uint64(mmap.PAGESIZE))
    read_vmas.clear()

    again = reader(WALK_S / 2).read(us, rss_pages(), lambda: None, small)

    assert (again.source, read_vmas) == (PlacementSource.PAGE_SAMPLE, [us.pid])


def test_what_cannot_be_understood_is_given_and_not_raised(tmp_path):
    fake = FakeRoot(tmp_path)
    (fake.process(100) / "numa_maps").write_text("nonsense\n")

    assert isinstance(reader(1.0, tmp_path).read(ProcessKey(100, 7), 1, lambda: None, None), Malformed)


def test_a_sample_says_what_a_walk_for_its_mempolicies_would_take(us):
    pages = rss_pages()

    sample = reader(WALK_S / 2, first_walk_s=0.1).read(us, pages, lambda: None, None)

    assert (sample.source, sample.untold_share) == (PlacementSource.PAGE_SAMPLE, 1.0)
    assert sample.walk_s == pages * PTE_WALK_S


@pytest.mark.parametrize(
    ("first_walk_s", "resident_pages"),
    [
        (0.0, 1 << 20),  # forbidden
        (WALK_S * 0.9, 1 << 20),  # one VMA would take longer
        (0.1, 10 << 20),  # all of them would
    ],
)
def test_a_walk_is_not_made_where_it_takes_too_long(us, first_walk_s, resident_pages):
    eyes = reader(WALK_S / 2, first_walk_s=first_walk_s)

    placement = eyes.read(us, resident_pages, lambda: None, None, walk=True)

    assert (placement.source, placement.walk_s) == (PlacementSource.PAGE_SAMPLE, 0.0)


def test_a_quiet_process_is_walked_for_longer_but_not_for_any_time(us):
    eyes, pages = reader(WALK_S / 2, first_walk_s=WALK_S * 0.9), rss_pages()
    restless = eyes.read(us, pages, lambda: None, None, walk=True)
    quiet = eyes.read(us, pages, lambda: None, None, walk=True, quiet=True)
    too_large = eyes.read(us, int(QUIET_WALK_S / PTE_WALK_S) + 1, lambda: None, None, walk=True, quiet=True)

    assert (restless.walk_s, restless.quiet_walk_s) == (0.0, pages * PTE_WALK_S)
    assert (quiet.source, too_large.source) == (PlacementSource.NUMA_MAPS, PlacementSource.PAGE_SAMPLE)
    assert (quiet.walk_s, too_large.quiet_walk_s) == (pages * PTE_WALK_S, 0.0)


@pytest.mark.parametrize("first_walk_s", [0.0, WALK_S / 2])
def test_an_operator_may_forbid_the_walk_of_a_quiet_process_too(us, first_walk_s):
    placement = reader(WALK_S / 2, first_walk_s=first_walk_s).read(
        us, rss_pages(), lambda: None, None, walk=True, quiet=True
    )

    assert (placement.source, placement.quiet_walk_s) == (PlacementSource.PAGE_SAMPLE, 0.0)


def test_samples_tell_the_mempolicies_that_a_walk_said(us):
    eyes = reader(WALK_S / 2, first_walk_s=0.1)
    pages = rss_pages()
    walk = eyes.read(us, pages, lambda: None, None, walk=True)

    sample = eyes.read(us, rss_pages(), lambda: None, walk.vmas, learnt=walk.learnt)

    assert (walk.source, sample.source) == (PlacementSource.NUMA_MAPS, PlacementSource.PAGE_SAMPLE)
    assert sample.untold_share < 0.1
    assert sample.regions.movable_bytes.sum() == pytest.approx(walk.regions.movable_bytes.sum(), rel=0.1)
    assert walk.walk_s == pages * PTE_WALK_S


def test_of_a_vma_that_came_after_the_walk_a_sample_knows_no_mempolicy(us):
    eyes = reader(WALK_S / 2, first_walk_s=0.1)
    walk = eyes.read(us, rss_pages(), lambda: None, None, walk=True)
    with mmap.mmap(-1, PAGES * mmap.PAGESIZE, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS) as new:
        new[:: mmap.PAGESIZE] = b"1" * PAGES

        pages = rss_pages()
        sample = eyes.read(us, pages, lambda: None, None, learnt=walk.learnt)

    untold = sample.regions.mempolicy == Mempolicy.UNKNOWN
    assert sample.untold_share == pytest.approx(PAGES / pages, abs=0.1)
    assert sample.regions.pages[untold].sum() == pytest.approx(sample.untold_share * pages, rel=0.01)
    assert sample.regions.movable_bytes.sum() > 0
