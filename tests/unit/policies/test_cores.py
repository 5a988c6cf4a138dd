# SPDX-License-Identifier: Apache-2.0

"""Threads are brought only to cores that nobody wants, and a job of many processes is spread evenly."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numad_py.model import Threads
from numad_py.policies.cores import Crowd, Wanting, limits, placed, runnable
from tests.builders import process, snapshot, topology

FOUR_CORES = topology(cpus=4)
SIBLINGS = replace(
    topology(cpus=8), cores=((0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (10, 11), (12, 13), (14, 15))
)


def put(load, wanting, *, jobs=None, on=FOUR_CORES, fill=1.0):
    """Place processes of that load; those who want give their row, and their nodes, best first."""
    load = np.array(load, np.float64)
    job = np.array(range(len(load)) if jobs is None else jobs, np.int64)
    return placed([Wanting(*each) for each in wanting], Crowd(load.sum(axis=1), load, job), on, fill)


def test_a_thread_that_ran_a_tenth_of_the_time_wants_a_core_and_of_others_what_they_ran_counts():
    threads = Threads(np.arange(3), np.array([0, 1, 4]), np.array([0.9, 0.1, 0.05]))

    load = runnable(
        snapshot(processes=[process(threads=threads, on=FOUR_CORES)], on=FOUR_CORES), np.array([1.0])
    )

    assert load.tolist() == [[2.0, 0.05]]


def test_siblings_are_no_cores():
    assert (limits(SIBLINGS, 1.0).tolist(), limits(FOUR_CORES, 0.5).tolist()) == ([4, 4], [2, 2])


def test_a_process_goes_where_it_saves_most_if_its_threads_have_cores_there():
    assert put([[1, 1], [3, 0]], [(0, (0, 1), 9.0)]) == {0: 1}
    assert put([[1, 1], [2, 0]], [(0, (0, 1), 9.0)]) == {0: 0}


def test_nobody_goes_where_siblings_would_have_to_serve():
    assert put([[3, 2]], [(0, (0, 1), 9.0)], on=SIBLINGS) == {}


def test_two_that_want_each_others_full_node_change_places():
    assert put([[4, 0], [0, 4]], [(0, (1,), 9.0), (1, (0,), 8.0)]) == {0: 1, 1: 0}


def test_where_one_of_two_has_no_cores_both_stay():
    assert put([[4, 0], [0, 3], [0, 1]], [(0, (1,), 9.0), (1, (0,), 8.0)]) == {}


def test_of_those_who_do_not_fit_the_one_that_saves_most_goes():
    assert put([[1, 1], [1, 1], [1, 1]], [(0, (0,), 1.0), (1, (0,), 3.0), (2, (0,), 2.0)]) == {1: 0}


@pytest.mark.parametrize(("jobs", "there"), [([0, 0, 0, 0], [0, 0, 1, 1]), ([0, 1, 2, 3], [0, 0, 0, 0])])
def test_what_one_job_has_beyond_half_of_a_node_is_spread_evenly(jobs, there):
    found = put([[1, 1]] * 4, [(row, (0, 1), 9.0 - row) for row in range(4)], jobs=jobs, on=topology(cpus=8))

    assert [found[row] for row in range(4)] == there


def test_one_process_alone_may_fill_more_than_half_of_a_node():
    assert put([[2, 2]], [(0, (0, 1), 9.0)]) == {0: 0}


loads = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=8)


@given(loads, st.data())
def test_no_node_that_somebody_comes_to_has_more_threads_than_cores(load, data):
    rows = data.draw(st.lists(st.integers(0, len(load) - 1), unique=True))
    nodes = st.permutations([0, 1]).flatmap(lambda order: st.sampled_from([tuple(order), tuple(order[:1])]))
    wants = [(row, data.draw(nodes), data.draw(st.floats(0.1, 9))) for row in rows]
    jobs = data.draw(st.lists(st.integers(0, 2), min_size=len(load), max_size=len(load)))

    found = put(load, wants, jobs=jobs)

    after = np.array(load)
    for row, node in found.items():
        after[row] = np.where(np.arange(2) == node, after[row].sum(), 0)
        assert node in next(among for each, among, _ in wants if each == row)
    assert all(after[:, node].sum() <= 4 for node in found.values())
