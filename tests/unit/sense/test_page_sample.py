# SPDX-License-Identifier: Apache-2.0

"""A few pages tell where all of them are, and how far off that may be."""

import numpy as np
import pytest

from numad_py.sense.page_sample import PAGES, Z, estimate

PAGE = 4096
ABSENT = -14


class Process:
    """Regions whose every page is on a node that is known, or absent."""

    def __init__(self, nodes_of_regions):
        self.nodes = np.concatenate(nodes_of_regions)
        self.pages = np.array([len(each) for each in nodes_of_regions])
        self.first = np.cumsum(self.pages) - self.pages
        self.start = ((self.first + np.arange(len(self.pages)) * 7 + 1) * PAGE).astype(np.uint64)
        self.resident = int((self.nodes >= 0).sum())
        self.asked = 0

    def ask(self, addresses):
        self.asked += len(addresses)
        row = np.searchsorted(self.start, addresses, side="right") - 1
        page = (addresses - self.start[row]) // np.uint64(PAGE)
        assert (page < self.pages[row]).all(), "outside the regions"
        return self.nodes[self.first[row] + page.astype(np.int64)]

    def estimate(self, random):
        return estimate(
            self.start,
            self.pages,
            page_bytes=PAGE,
            resident_pages=self.resident,
            node_ids=(0, 3),
            ask=self.ask,
            random=random,
        )


def drawn(random, sizes, densities, far_share):
    """Draw regions of which so much is resident, and of that so much on node 3."""
    regions = []
    for size, density in zip(sizes, densities, strict=True):
        node = np.where(random.random(size) < far_share, 3, 0)
        regions.append(np.where(random.random(size) < density, node, ABSENT).astype(np.int32))
    return Process(regions)


@pytest.mark.parametrize(
    "empty", [[], [(500_000, 0.0)], [(500_000, 0.002)]], ids=["dense", "an empty giant", "a sparse giant"]
)
def test_the_truth_is_in_the_stated_interval_as_often_as_is_stated(empty):
    random = np.random.default_rng(7)
    hits = 0
    for _ in range(100):
        sizes = [*(10 ** random.uniform(0, 4.5, 20)).astype(int), *(size for size, _ in empty)]
        process = drawn(random, sizes, [*random.uniform(0.2, 1, 20), *(each for _, each in empty)], 0.3)

        found = process.estimate(random)

        share = (process.nodes == 3).sum() / process.resident
        hits += abs(found.pages[:, 1].sum() / found.pages.sum() - share) <= found.error_share

    assert hits >= 93


def test_where_every_page_drawn_is_on_one_node_some_may_still_be_elsewhere():
    process = drawn(np.random.default_rng(1), [100_000], [1.0], 0.0)

    found = process.estimate(np.random.default_rng(2))

    assert found.error_share == pytest.approx(Z**2 / PAGES)
    assert found.pages.tolist() == [[100_000, 0]]


@pytest.mark.parametrize("period", [1, 2, 64, 1000], ids="every {} pages".format)
def test_pages_that_change_node_at_a_period_are_told_as_rightly(period):
    random = np.random.default_rng(8)
    hits = 0
    for _ in range(100):
        node = np.where(np.arange(PAGES * 1000) // period % 2, 3, 0).astype(np.int32)
        process = Process([node[:300_000], node[300_000:]])

        found = process.estimate(random)

        share = (process.nodes == 3).sum() / process.resident
        hits += abs(found.pages[:, 1].sum() / found.pages.sum() - share) <= found.error_share

    assert hits >= 93


@pytest.mark.parametrize("share", [0.0, 0.002, 0.01], ids="{:.1%} elsewhere".format)
def test_that_all_or_nearly_all_pages_are_on_one_node_is_told_as_rightly(share):
    random = np.random.default_rng(9)
    process = drawn(random, [300_000, 10_000], [1.0, 0.8], share)
    true_share = (process.nodes == 3).sum() / process.resident

    found = [process.estimate(random) for _ in range(100)]

    told = np.array([each.pages[:, 1].sum() / each.pages.sum() for each in found])
    assert (np.abs(told - true_share) <= [each.error_share for each in found]).sum() >= 93
    assert max(each.error_share for each in found) < 0.03


def test_a_process_that_is_there_is_asked_once_and_one_that_is_hardly_there_twice():
    random = np.random.default_rng(1)
    there, hardly = (
        drawn(random, [2_000_000], [0.7], 0.5),
        drawn(random, [2_000_000, 1000], [0.001, 1.0], 0.5),
    )

    there.estimate(random)
    hardly.estimate(random)

    assert (there.asked, hardly.asked) == (PAGES, 2 * PAGES)


def test_how_much_was_found_is_told_beside_what_is_resident():
    process = drawn(np.random.default_rng(1), [100_000, 20_000], [0.8, 0.6], 0.5)
    resident, process.resident = process.resident, 3 * process.resident

    found = process.estimate(np.random.default_rng(2))

    assert found.found_pages == pytest.approx(resident, rel=0.1)
    assert found.pages.sum() == pytest.approx(process.resident, abs=4)


def test_pages_on_a_node_that_is_not_known_are_left_out():
    process = Process([np.full(30_000, 0), np.full(10_000, 3), np.full(20_000, 1), np.full(20_000, 7)])

    found = process.estimate(np.random.default_rng(3))

    assert (found.pages.sum(axis=1) > 0).tolist() == [True, True, False, False]


def test_regions_are_told_apart():
    process = Process([np.full(30_000, 0), np.full(10_000, 3), np.full(50_000, ABSENT)])

    found = process.estimate(np.random.default_rng(3))

    assert found.pages[:, 0].tolist() == pytest.approx([30_000, 0, 0], rel=0.1)
    assert found.pages[:, 1].tolist() == pytest.approx([0, 10_000, 0], rel=0.1)


def test_where_nothing_was_found_nothing_is_known():
    process = Process([np.full(1000, ABSENT)])

    found = process.estimate(np.random.default_rng(4))

    assert (found.pages.sum(), found.error_share) == (0, 1.0)
