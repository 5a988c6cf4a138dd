# SPDX-License-Identifier: Apache-2.0

"""Parts of memory belong to the node whose threads were seen to use them, where samples make that sure."""

from dataclasses import replace

import numpy as np
import pytest

from numad_py.model import Accesses, AccessSource, ThreadGroup
from numad_py.policies import shards
from tests.builders import TWO_NODES, process, regions

ONE = process(regions=regions({0: 100}, {0: 40, 1: 60}), cpu_s={0: 1.0, 1: 1.0})
START = int(ONE.regions.start[0])


def told(*ranges, nodes=(0, 1)):
    """Give accesses to ``(first page, pages, counts by node)`` of the first region on."""
    groups = tuple(
        ThreadGroup(node, np.array([1000 + number]), np.zeros(2)) for number, node in enumerate(nodes)
    )
    start = np.array([START + 4096 * first for first, _, _ in ranges], np.uint64)
    pages = np.array([pages for _, pages, _ in ranges], np.uint64)
    counts = np.array([counts for _, _, counts in ranges])
    return Accesses(AccessSource.PEBS, groups, start, start + pages * 4096, counts, None, 5.0)


def parts(accesses, one=ONE):
    return shards.parts(one, accesses, TWO_NODES, home_share_above=0.75)


def test_a_region_is_cut_where_its_accesses_change():
    found = parts(told((0, 30, [50, 0]), (30, 70, [0, 50])))

    assert found.home.tolist() == [0, 1]
    assert found.row.tolist() == [0, 0]
    assert (found.bytes_ // 4096).tolist() == [[30, 0], [70, 0]]
    assert found.share.tolist() == [0.5, 0.5]


@pytest.mark.parametrize(("counts", "home"), [([4, 0], -1), ([60, 40], -1), ([90, 10], 0), ([0, 0], -1)])
def test_a_part_has_a_home_only_where_the_samples_make_that_sure(counts, home):
    found = parts(told((0, 100, counts)))

    assert found.home.tolist() == [home]


def test_a_range_over_several_regions_is_cut_at_their_ends():
    found = parts(told((0, 1000, [0, 100])))

    assert found.row.tolist() == [0, 1]
    assert found.start.tolist() == ONE.regions.start.tolist()
    assert found.end.tolist() == ONE.regions.end.tolist()


@pytest.mark.parametrize("nodes", [(None, 1), (0, 7)])
def test_threads_that_were_not_told_apart_by_node_say_nothing(nodes):
    assert parts(told((0, 100, [0, 100]), nodes=nodes)) is None


def test_what_many_parts_come_to_is_one_candidate_for_each_node():
    found = parts(told((0, 30, [60, 0]), (30, 30, [0, 20]), (60, 40, [0, 20])))

    offer = shards.offer(7, found, np.array([1.0, 3.0]), TWO_NODES)

    assert offer.process.tolist() == [7, 7]
    assert offer.target.tolist() == [0, 1]
    assert (offer.leaving // 4096).tolist() == [[0, 0], [70, 0]]
    assert (offer.part_bytes // 4096).tolist() == [30, 70]
    assert offer.remote_share.tolist() == pytest.approx([0.0, 0.4])
    assert offer.cores.tolist() == [pytest.approx([2.4, 0.0]), pytest.approx([0.0, 1.6])]


def test_what_is_bound_is_no_part_to_be_moved():
    bound = replace(ONE, regions=regions({0: 100}, mempolicy=2))

    offer = shards.offer(0, parts(told((0, 100, [0, 90])), bound), np.array([1.0, 1.0]), TWO_NODES)

    assert len(offer.process) == 0
