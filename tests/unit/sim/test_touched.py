# SPDX-License-Identifier: Apache-2.0

"""What is told of a scripted process is what a replay then takes its threads to touch."""

from dataclasses import replace

import numpy as np

from numad_py.sim.reach import Reach, cut
from numad_py.sim.script import Memory
from numad_py.sim.touched import SAMPLES, accesses
from tests.builders import HEAP, MIB, TWO_NODES, regions, threads

BOTH = threads({0: 1.0, 1: 1.0})
HALVES = Memory((8.0, 0.0), touched_by=((1.0, 0.0), (0.0, 1.0)))
EVEN = Memory((8.0, 0.0))
PAGES = 8 * MIB // 4096


def held(pages=PAGES):
    return regions({0: pages})


def told(memory, where, running=BOTH):
    return accesses(memory, where, running, TWO_NODES, 1.0)


def test_parts_are_of_the_same_length_and_cover_the_region():
    where = held()

    seen = told([HALVES], where)

    assert seen.start.tolist() == [HEAP, HEAP + 4 * MIB]
    assert seen.end.tolist() == [HEAP + 4 * MIB, HEAP + 8 * MIB]
    assert seen.counts.tolist() == [[SAMPLES // 2, 0], [0, SAMPLES // 2]]


def test_parts_begin_with_a_page():
    odd = held(pages=7)

    seen = told([Memory((1.0, 0.0), touched_by=((1.0, 0.0),) * 3)], odd)

    assert ((seen.start - np.uint64(HEAP)) % np.uint64(4096) == 0).all()
    assert seen.end[-1] == odd.end[0]
    assert (seen.start[1:] == seen.end[:-1]).all()


def test_a_replay_reaches_as_told_from_where_threads_run():
    where = held()
    seen = told([HALVES], where)
    parts = cut(where, seen)

    reached = Reach.of(seen, replace(parts, pages=np.array([[1024, 0], [0, 1024]])))

    assert len(parts) == 2
    assert reached.from_nodes(BOTH, np.array([0.5, 0.5]), TWO_NODES).tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_memory_of_which_nothing_is_said_is_touched_evenly_by_the_bytes_that_it_holds():
    both = regions({0: 3072}, {0: 1024})

    seen = told([EVEN, EVEN], both)

    assert (seen.counts[0] == 3 * seen.counts[1]).all()


def test_who_runs_more_is_seen_more_and_who_does_not_run_is_not_seen():
    more = told([EVEN], held(), threads({0: 0.25, 1: 0.75}))
    alone = told([EVEN], held(), threads({1: 1.0}))

    assert more.counts.tolist() == [[SAMPLES // 4, 3 * SAMPLES // 4]]
    assert [group.node for group in alone.groups] == [1]
    assert told([EVEN], held(), threads({})) is None


def test_each_thread_is_in_the_group_of_its_node_with_its_cpu_time():
    seen = told([EVEN], held())

    assert [group.tid.tolist() for group in seen.groups] == [[1000], [1001]]
    assert [group.cpu_s.tolist() for group in seen.groups] == [[1.0, 0.0], [0.0, 1.0]]
