# SPDX-License-Identifier: Apache-2.0

"""Samples become regions and owners without one being lost, made up, or given to somebody else."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.model import Process, ProcessKey, Regions, Threads
from numad_py.sense.investigate.access_regions import (
    ENOUGH,
    LEAST_BYTES,
    MOST_REGIONS,
    Samples,
    counts,
    cut,
    groups,
    within,
)
from numad_py.topology import Node, Topology

TOPOLOGY = Topology((Node(0, (0, 1), 1 << 30), Node(4, (2, 3), 1 << 30)), ((10, 21), (21, 10)), 4096)
MB = 1 << 20


def addresses(values):
    return np.array(values, np.uint64)


def ints(values):
    return np.array(values, np.int64)


def samples_at(address, *, tid=None, cpu=None):
    count = len(address)
    return Samples(addresses(address), ints(tid or [1] * count), ints(cpu or [0] * count))


def vmas(*ranges):
    """Give regions of those ranges, with nothing said about them."""
    start, end = addresses([low for low, _ in ranges]), addresses([high for _, high in ranges])
    none = np.zeros(len(ranges), np.int64)
    return Regions(start, end, none + 4096, *[none] * 6, np.ones((len(ranges), 2), np.int64))


def process(*threads):
    """Give a process of threads (tid, CPU, CPU seconds)."""
    tid, cpu, cpu_s = zip(*threads, strict=True) if threads else ((), (), ())
    columns = Threads(ints(tid), ints(cpu), np.array(cpu_s, np.float64))
    return Process(ProcessKey(1, 1), "job", (0, 4), columns, Regions.empty(2), 0.0)


def test_samples_of_memory_mapped_since_are_left_out():
    samples = samples_at([0x5000, 0x1000, 0x3000, 0x0FFF, 0x2000])

    known = within(samples, vmas((0x1000, 0x2000), (0x3000, 0x4000)))

    assert known.address.tolist() == [0x1000, 0x3000]


def test_where_nothing_is_mapped_no_sample_is_known():
    assert len(within(samples_at([0x1000]), vmas())) == 0


def test_a_vma_with_few_samples_is_one_region():
    start, end = cut(addresses([5 * MB] * 10), addresses([4 * MB]), addresses([64 * MB]))

    assert (start.tolist(), end.tolist()) == ([4 * MB], [64 * MB])


def test_a_vma_without_samples_is_no_region():
    start, end = cut(addresses([9 * MB]), addresses([0, 8 * MB]), addresses([4 * MB, 16 * MB]))

    assert (start.tolist(), end.tolist()) == ([8 * MB], [16 * MB])


def test_regions_are_small_where_samples_are_dense():
    dense = np.linspace(0, 16 * MB - 1, 8 * ENOUGH)
    sparse = np.linspace(64 * MB, 128 * MB - 1, ENOUGH)

    start, end = cut(addresses(np.concatenate([dense, sparse])), addresses([0]), addresses([128 * MB]))

    sizes = (end - start).tolist()
    assert sizes[:7] == [2 * MB] * 7
    assert sizes[-1] >= 64 * MB


def test_no_number_of_samples_makes_more_regions_than_are_wanted():
    many = np.linspace(0, 1 << 40, 100 * MOST_REGIONS).astype(np.uint64)

    start, _ = cut(many, addresses([0]), addresses([(1 << 40) + 1]))

    assert MOST_REGIONS // 2 < len(start) <= MOST_REGIONS


@st.composite
def sampled_vmas(draw):
    """Give VMAs, apart or side by side, and samples within them."""
    edges = sorted(
        draw(st.sets(st.integers(0, 1 << 24).map(lambda page: page * 4096), min_size=2, max_size=12))
    )
    gaps = draw(st.booleans())
    ranges = list(pairwise(edges))[:: 2 if gaps else 1]
    chosen = draw(
        st.lists(st.tuples(st.sampled_from(ranges), st.floats(0, 1, exclude_max=True)), max_size=400)
    )
    found = sorted(low + int((high - low) * place) for (low, high), place in chosen)
    return ranges, addresses(found)


@given(sampled_vmas())
def test_regions_cover_the_vmas_with_samples_and_keep_every_one(case):
    ranges, found = case
    own = vmas(*ranges)

    start, end = cut(found, own.start, own.end)
    counted = counts(found, np.zeros(len(found), np.int64), start, 1)

    touched = np.unique(np.searchsorted(own.start, found, "right") - 1)
    assert (start[1:] >= end[:-1]).all()
    assert (start < end).all()
    assert int((end - start).sum()) == int((own.end[touched] - own.start[touched]).sum())
    assert counted.sum() == len(found)
    assert (counted > 0).all()
    inner = ~np.isin(start, own.start)
    assert (start[inner] % np.uint64(LEAST_BYTES) == 0).all()


def test_a_sample_is_of_the_node_of_its_cpu():
    samples = samples_at([1, 2, 3, 4], tid=[7, 7, 8, 8], cpu=[0, 1, 2, 3])

    made, group = groups(samples, process((7, 3, 0.5), (8, 2, 1.5), (9, 0, 4.0)), TOPOLOGY)

    assert [one.node for one in made] == [0, 4]
    assert [one.tid.tolist() for one in made] == [[7], [8]]
    assert [one.cpu_s.tolist() for one in made] == [[0.0, 0.5], [0.0, 1.5]]
    assert group.tolist() == [0, 0, 1, 1]


def test_a_thread_that_moved_is_listed_where_it_was_seen_most_but_its_samples_are_told_apart():
    samples = samples_at([1, 2, 3], tid=[7, 7, 7], cpu=[2, 0, 3])

    made, group = groups(samples, process(), TOPOLOGY)

    assert [(one.node, one.tid.tolist()) for one in made] == [(0, []), (4, [7])]
    assert group.tolist() == [1, 0, 1]


@pytest.mark.parametrize("cpu", [4, 1000])
def test_a_cpu_of_no_known_node_makes_no_group(cpu):
    made, group = groups(samples_at([1, 2], tid=[7, 8], cpu=[cpu, 0]), process(), TOPOLOGY)

    assert [(one.node, one.tid.tolist()) for one in made] == [(0, [8])]
    assert group.tolist() == [-1, 0]


def test_no_samples_have_no_groups():
    made, group = groups(samples_at([]), process(), TOPOLOGY)

    assert (made, group.tolist()) == ((), [])


def test_counts_are_by_region_and_group():
    counted = counts(addresses([1, 2, 12, 13, 14]), ints([0, 1, 1, 1, 0]), addresses([0, 10]), 2)

    assert counted.tolist() == [[1, 1], [1, 2]]
